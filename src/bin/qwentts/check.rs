//! `qwentts check`: is a WAV fit to be heard?

use crate::{Outcome, files};
use clap::Args;
use qwentts::check::{Measure, Report, check};
use qwentts::error::Result;
use std::path::PathBuf;

/// Measure WAV files of speech: loudness, clipping, dead air, noise, clicks, repeats, ending, length
///
/// A line for each measure of each file: what was found, the bound, ok or FAILS, and where it has a place the time.
/// The last line of a file is the verdict. `cargo doc` says of each bound why it stands there.
///
/// Exit status: 0 every file passes, 1 a file fails, 2 a file cannot be read.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Check {
    /// WAV files: 24 kHz mono, 16-bit or f32
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What each file should say: its length must fit
    #[arg(long, conflicts_with = "text_file")]
    text: Option<String>,
    /// Take the text from this file; - reads standard input
    #[arg(long, value_name = "F")]
    text_file: Option<PathBuf>,
    /// Frames that were decoded at once, in order, the last repeating; every frame's border is tried where not given
    #[arg(long, value_parser = files::parse_chunks, value_name = "N,N,…")]
    chunks: Option<files::Widths>,
    /// Print a line of JSON for each file
    #[arg(long)]
    json: bool,
}

impl Check {
    pub fn run(self) -> Result<Outcome> {
        let text = match self.text_file {
            Some(path) => Some(files::read_text(&path)?),
            None => self.text,
        };
        let mut all_pass = true;
        for path in &self.files {
            let samples = files::read_wav(path)?;
            let report = check(&samples, text.as_deref(), self.chunks.as_deref().unwrap_or(&[]));
            all_pass &= report.passes();
            let file = path.display().to_string();
            match self.json {
                true => files::print_json(&Line { file, passes: report.passes(), report })?,
                false => files::print(&table(&file, &report))?,
            }
        }
        Ok(if all_pass { Outcome::Done } else { Outcome::Fails })
    }
}

#[derive(serde::Serialize)]
struct Line {
    file: String,
    passes: bool,
    #[serde(flatten)]
    report: Report,
}

fn table(file: &str, report: &Report) -> String {
    let row = |m: &Measure| {
        let bound = match (m.least, m.most) {
            (Some(least), Some(most)) => format!("{least} to {most}"),
            (Some(least), None) => format!("at least {least}"),
            (None, Some(most)) => format!("at most {most}"),
            (None, None) => String::new(),
        };
        let at = m.at_s.map_or(String::new(), |at| format!("  at {at:.2} s"));
        let verdict = if m.passes { "ok" } else { "FAILS" };
        let row = format!("{file}  {:8}  {:8.2} {:12}  {bound:13}  {verdict:5}{at}", m.name, m.figure, m.unit);
        row.trim_end().to_owned() + "\n"
    };
    let failed: Vec<&str> = report.failed().map(|m| m.name).collect();
    let verdict = if failed.is_empty() { "passes".to_owned() } else { format!("FAILS: {}", failed.join(", ")) };
    report.measures.iter().map(row).collect::<String>() + &format!("{file}  {:.2} s  {verdict}\n", report.sound_s)
}
