//! Files that go in and out: text, WAV, .npy, JSON on stdout. Every error names the file.

use crate::bad;
use qwentts::engine::TextWriter;
use qwentts::error::{Error, Result};
use qwentts::frame::{Frame, GROUPS, SAMPLE_RATE, Sample};
use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// `-` as a path: standard input or output.
pub fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn named<T>(path: &Path, result: io::Result<T>) -> Result<T> {
    result.map_err(|source| Error::file(path, source))
}

pub fn read(path: &Path) -> Result<Vec<u8>> {
    named(path, std::fs::read(path))
}

/// A text file, or standard input for `-`, without the line end that tools put behind the last line.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = match is_standard(path) {
        false => read(path)?,
        true => {
            let mut bytes = Vec::new();
            named(Path::new("<stdin>"), io::stdin().lock().read_to_end(&mut bytes))?;
            bytes
        }
    };
    let mut text = String::from_utf8(bytes).map_err(|e| bad("text", format!("is not UTF-8: {e}")))?;
    text.truncate(text.len() - line_end(text.as_bytes()));
    Ok(text)
}

/// How long the line end is that the text stops with.
fn line_end(text: &[u8]) -> usize {
    match text {
        [.., b'\r', b'\n'] => 2,
        [.., b'\n'] => 1,
        _ => 0,
    }
}

/// Standard input into a stream's text as it comes, to its end; without the last line end, as `read_text`. What is typed
/// on a terminal is spoken line by line.
pub fn feed_stdin(mut text: TextWriter) -> Result<()> {
    let mut input = io::stdin().lock();
    let typed = io::stdin().is_terminal();
    // What may be the last line end waits here; '\r' does, too, for the '\n' that may follow.
    let mut kept: Vec<u8> = Vec::new();
    loop {
        let came = named(Path::new("<stdin>"), input.fill_buf())?;
        let length = came.len();
        if length == 0 {
            break;
        }
        kept.extend_from_slice(came);
        input.consume(length);
        let end = if kept.ends_with(b"\r") { 1 } else { line_end(&kept) };
        let rest = kept.split_off(kept.len() - end);
        text.push(&kept)?;
        if typed && end > 0 {
            text.flush()?;
        }
        kept = rest;
    }
    if kept == b"\r" {
        text.push(&kept)?;
    }
    text.end()
}

/// A line on stderr; a closed stderr is no reason to fail.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Text on stdout.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    named(Path::new("<stdout>"), out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// A value on stdout as one line of JSON.
pub fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let json = serde_json::to_string(value).map_err(|e| bad("json", e.to_string()))?;
    print(&(json + "\n"))
}

/// How samples are stored.
#[derive(Clone, Copy, PartialEq)]
pub enum Samples {
    /// 16-bit PCM, for players.
    S16,
    /// 32-bit float, exact.
    F32,
}

/// A mono WAV file that is whole after every chunk: what was written so far can be played when the rest never
/// comes. On a pipe the sizes say "until the end".
pub struct WavWriter {
    path: PathBuf,
    out: Out,
    format: Samples,
    rate_hz: u32,
    data_bytes: u32,
}

enum Out {
    File(File),
    /// What cannot go back to its header: standard output, a FIFO.
    Pipe(Box<dyn Write>),
}

impl WavWriter {
    pub fn create(path: &Path, format: Samples, rate_hz: u32) -> Result<WavWriter> {
        let (path, out) = match is_standard(path) {
            true => (PathBuf::from("<stdout>"), Out::Pipe(Box::new(io::stdout()))),
            false => {
                let mut file = named(path, File::create(path))?;
                let out = if file.stream_position().is_ok() { Out::File(file) } else { Out::Pipe(Box::new(file)) };
                (path.to_owned(), out)
            }
        };
        let mut wav = WavWriter { path, out, format, rate_hz, data_bytes: 0 };
        let header = wav.header(if matches!(wav.out, Out::Pipe(_)) { u32::MAX } else { 0 });
        wav.put(&header)?;
        Ok(wav)
    }

    fn header(&self, data_bytes: u32) -> [u8; 44] {
        let (tag, width) = if self.format == Samples::S16 { (1u16, 2u16) } else { (3, 4) };
        let mut h = [0; 44];
        h[0..4].copy_from_slice(b"RIFF");
        h[4..8].copy_from_slice(&data_bytes.saturating_add(36).to_le_bytes());
        h[8..16].copy_from_slice(b"WAVEfmt ");
        h[16..20].copy_from_slice(&16u32.to_le_bytes());
        h[20..22].copy_from_slice(&tag.to_le_bytes());
        h[22..24].copy_from_slice(&1u16.to_le_bytes()); // channels
        h[24..28].copy_from_slice(&self.rate_hz.to_le_bytes());
        h[28..32].copy_from_slice(&(self.rate_hz * u32::from(width)).to_le_bytes());
        h[32..34].copy_from_slice(&width.to_le_bytes());
        h[34..36].copy_from_slice(&(8 * width).to_le_bytes());
        h[36..40].copy_from_slice(b"data");
        h[40..44].copy_from_slice(&data_bytes.to_le_bytes());
        h
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let result = match &mut self.out {
            Out::File(file) => file.write_all(bytes),
            Out::Pipe(out) => out.write_all(bytes).and_then(|()| out.flush()),
        };
        named(&self.path, result)
    }

    pub fn write(&mut self, samples: &[f32]) -> Result<()> {
        let bytes: Vec<u8> = match self.format {
            Samples::F32 => samples.iter().flat_map(|s| s.to_le_bytes()).collect(),
            Samples::S16 => samples.iter().flat_map(|s| i16::of(*s).to_le_bytes()).collect(),
        };
        self.put(&bytes)?;
        self.data_bytes = self.data_bytes.saturating_add(bytes.len() as u32);
        let header = self.header(self.data_bytes);
        if let Out::File(file) = &mut self.out {
            let rewrite = |file: &mut File| {
                file.seek(SeekFrom::Start(0))?;
                file.write_all(&header)?;
                file.seek(SeekFrom::End(0))
            };
            named(&self.path, rewrite(file))?;
        }
        Ok(())
    }
}

/// The samples of a 24 kHz mono WAV, 16-bit or f32, in -1..1.
pub fn read_wav(path: &Path) -> Result<Vec<f32>> {
    let refuse = |what: String| Error::Checkpoint { file: path.display().to_string(), what };
    let mut bytes = read(path)?;
    end_with_the_file(&mut bytes);
    let mut wav = hound::WavReader::new(&bytes[..]).map_err(|e| refuse(format!("not a WAV file: {e}")))?;
    let hound::WavSpec { channels, sample_rate, bits_per_sample, sample_format } = wav.spec();
    if (channels, sample_rate) != (1, SAMPLE_RATE) {
        return Err(refuse(format!("has {channels} channels at {sample_rate} Hz; expected 1 at {SAMPLE_RATE} Hz")));
    }
    let samples: hound::Result<Vec<f32>> = match (sample_format, bits_per_sample) {
        (hound::SampleFormat::Float, 32) => wav.samples::<f32>().collect(),
        // The writer's scale, so that what was at the end of the scale comes back there.
        (hound::SampleFormat::Int, 16) => wav.samples::<i16>().map(|s| Ok(f32::from(s?) / 32767.0)).collect(),
        (format, bits) => {
            return Err(refuse(format!("holds {bits}-bit {format:?}; expected 16-bit Int or 32-bit Float")));
        }
    };
    samples.map_err(|e| refuse(e.to_string()))
}

/// A WAV that came through a pipe says "until the end" for its sizes, as ours does; the reader wants a number.
fn end_with_the_file(wav: &mut [u8]) {
    if wav.len() >= 44 && wav[36..40] == *b"data" && wav[40..44] == u32::MAX.to_le_bytes() {
        let data_bytes = (wav.len() - 44) as u32;
        wav[40..44].copy_from_slice(&data_bytes.to_le_bytes());
    }
}

/// Writes f32 numbers of this shape as .npy.
pub fn write_npy(path: &Path, shape: &[usize], data: &[f32]) -> Result<()> {
    use npyz::WriterBuilder;
    let shape: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
    let write = || -> io::Result<()> {
        let out = io::BufWriter::new(File::create(path)?);
        let mut writer = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(out).begin_nd()?;
        writer.extend(data.iter().copied())?;
        writer.finish()
    };
    named(path, write())
}

/// Samples to a .npy or .wav file, f32, by the file's ending.
pub fn write_samples(path: &Path, samples: &[f32]) -> Result<()> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("npy") => write_npy(path, &[samples.len()], samples),
        Some("wav") => WavWriter::create(path, Samples::F32, SAMPLE_RATE)?.write(samples),
        _ => Err(bad("output", format!("{} must end in .wav or .npy", path.display()))),
    }
}

/// A path that `write_samples` can take: refused before the work, not after it.
pub fn parse_samples_path(path: &str) -> std::result::Result<PathBuf, String> {
    match path.ends_with(".npy") || path.ends_with(".wav") {
        true => Ok(path.into()),
        false => Err("expected a name that ends in .wav or .npy".to_owned()),
    }
}

/// Frames to a .npy of u2 [F, 16] or JSON [[16]...], by the file's ending: what `read_codes` reads.
pub fn write_codes(path: &Path, frames: &[Frame]) -> Result<()> {
    if path.extension().and_then(|e| e.to_str()) == Some("json") {
        let json = serde_json::to_vec(frames).map_err(|e| bad("output", e.to_string()))?;
        return named(path, std::fs::write(path, json));
    }
    use npyz::WriterBuilder;
    let write = || -> io::Result<()> {
        let out = io::BufWriter::new(File::create(path)?);
        let shape = [frames.len() as u64, GROUPS as u64];
        let mut writer = npyz::WriteOptions::<u16>::new().default_dtype().shape(&shape).writer(out).begin_nd()?;
        writer.extend(frames.as_flattened().iter().copied())?;
        writer.finish()
    };
    named(path, write())
}

/// A path that `write_codes` can take: refused before the work, not after it.
pub fn parse_codes_path(path: &str) -> std::result::Result<PathBuf, String> {
    match path.ends_with(".npy") || path.ends_with(".json") {
        true => Ok(path.into()),
        false => Err("expected a name that ends in .npy or .json".to_owned()),
    }
}

/// Frames from a .npy of integers [F, 16] or JSON [[16]...].
pub fn read_codes(path: &Path) -> Result<Vec<Frame>> {
    let refuse = |what: String| Error::Checkpoint { file: path.display().to_string(), what };
    let bytes = read(path)?;
    if path.extension().and_then(|e| e.to_str()) == Some("json") {
        return serde_json::from_slice(&bytes).map_err(|e| refuse(format!("expected [[16 codes]...]: {e}")));
    }
    if let Some(shape) = overlong_shape(&bytes) {
        return Err(refuse(format!("has shape ({shape}), which no file can hold")));
    }
    let mut data = &bytes[..];
    let header = npyz::NpyHeader::from_reader(&mut data).map_err(|e| refuse(format!("not a .npy file: {e}")))?;
    let shape = header.shape().to_vec();
    if shape.len() != 2 || shape[1] != GROUPS as u64 {
        return Err(refuse(format!("has shape {shape:?}; expected [frames, {GROUPS}]")));
    }
    if header.order() != npyz::Order::C {
        return Err(refuse("stands columns first; expected rows first".to_owned()));
    }
    let descr = header.dtype().descr();
    let dtype = descr.trim_start_matches(['<', '|', '\'']).trim_end_matches('\'');
    let width = match dtype {
        "i8" => 8,
        "i4" => 4,
        "i2" | "u2" => 2,
        other => return Err(refuse(format!("holds {other}; expected i8, i4, i2 or u2, little-endian"))),
    };
    // Before reading, since the reader believes a shape and allocates for it.
    if (shape[0] as u128) * (GROUPS * width) as u128 != data.len() as u128 {
        return Err(refuse(format!(
            "has {} bytes behind its header; shape {shape:?} of {dtype} says otherwise",
            data.len()
        )));
    }
    let npy = npyz::NpyFile::with_header(header, data);
    let numbers: io::Result<Vec<i64>> = match dtype {
        "i8" => npy.into_vec::<i64>(),
        "i4" => npy.into_vec::<i32>().map(|v| v.into_iter().map(i64::from).collect()),
        "i2" => npy.into_vec::<i16>().map(|v| v.into_iter().map(i64::from).collect()),
        _ => npy.into_vec::<u16>().map(|v| v.into_iter().map(i64::from).collect()),
    };
    let numbers = numbers.map_err(|e| refuse(e.to_string()))?;
    let code = |n: &i64| u16::try_from(*n).map_err(|_| refuse(format!("holds code {n}")));
    let codes = numbers.iter().map(code).collect::<Result<Vec<u16>>>()?;
    Ok(codes.as_chunks::<GROUPS>().0.to_vec())
}

/// A shape whose numbers are too many to count: `npyz` multiplies it without a look, which can be a panic.
fn overlong_shape(npy: &[u8]) -> Option<String> {
    // The header's length stands in bytes 8 and 9, in later versions up to 11; more than the header does no harm.
    let length = npy.get(8..12).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
    let header = String::from_utf8_lossy(&npy[..npy.len().min(length.saturating_add(12))]);
    let (shape, _) = header.split_once("shape")?.1.split_once('(')?.1.split_once(')')?;
    let lengths = shape.split(',').filter_map(|n| n.trim().parse::<u64>().ok());
    let fits = lengths.map(Some).reduce(|a, b| a?.checked_mul(b?)).is_none_or(|count| count.is_some());
    (!fits).then(|| shape.to_owned())
}

/// Under a name of its own: clap would take a plain Vec for an option that may be repeated.
pub type Widths = Vec<usize>;

/// Chunk widths: frames decoded at once, in order; the last repeats.
pub fn parse_chunks(list: &str) -> std::result::Result<Widths, String> {
    let widths: std::result::Result<Vec<usize>, _> = list.split(',').map(|w| w.trim().parse()).collect();
    match widths {
        Ok(widths) if widths.iter().all(|&w| w > 0) => Ok(widths),
        _ => Err(format!("{list:?}: expected widths in frames, such as 1,2,4,8")),
    }
}

/// Cuts `frames` by `widths`; without widths, one piece.
pub fn cut<'a>(frames: &'a [Frame], widths: &'a [usize]) -> impl Iterator<Item = &'a [Frame]> {
    let mut rest = frames;
    let mut widths = widths.iter().chain(widths.last().into_iter().cycle());
    std::iter::from_fn(move || {
        let width = widths.next().copied().unwrap_or(rest.len()).min(rest.len());
        let (piece, after) = rest.split_at(width);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}
