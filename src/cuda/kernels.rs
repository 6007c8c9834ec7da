//! Every launch: sizes checked, laid over the device, given to a stream. The names and the order of arguments are those of the
//! reference's functions, where there is one.
//!
//! SAFETY, of each launch below: the argument is the kernel's own struct, made of the header that it was compiled with; spans
//! are checked to be as long as the kernel takes them for; a block is freed only behind the work that was begun before
//! (`driver::buffer`), and a recording keeps its blocks (`Graph::record`). Work in one stream is in order; across streams
//! the callers' events order it. Codes and positions in device memory are in range: a kernel or a checked request made them.
#![allow(unsafe_code)] // the launches

use super::args;
use super::codec::{Depthwise, Tail};
use super::upload::{Conv, Matrix, Snake};
use crate::device::KvNumbers;
use crate::driver::{Buffer, Context, Function, Module, Number, Shape, Span, Stream};
use crate::error::{Error, Result};
use crate::frame::Frame;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Where the keys and values of one layer lie, `[positions][kv_heads * head_dim]`.
pub(crate) struct Store {
    pub numbers: KvNumbers,
    /// Positions of a page, or of the run.
    pub capacity: usize,
    pub place: Place,
}

pub(crate) enum Place {
    /// One run each; a later position takes the place of the one `capacity` earlier.
    Run { keys: Span<u8>, values: Span<u8> },
    /// In pages, whose addresses stand in a list on the device, behind so many bytes of other layers.
    Pages { list: Span<u64>, keys_at: u64, values_at: u64 },
}

impl Store {
    fn args(&self) -> args::Store {
        let capacity = self.capacity as u32;
        match &self.place {
            Place::Run { keys, values } => args::Store {
                keys: keys.ptr_mut().cast(),
                values: values.ptr_mut().cast(),
                pages: std::ptr::null(),
                keys_at: 0,
                values_at: 0,
                capacity,
            },
            Place::Pages { list, keys_at, values_at } => args::Store {
                keys: std::ptr::null_mut(),
                values: std::ptr::null_mut(),
                pages: list.ptr(),
                keys_at: *keys_at,
                values_at: *values_at,
                capacity,
            },
        }
    }

    /// Panics where the rows of a launch do not fit.
    fn check(&self, shape: &Attention, rows: usize) {
        if let Place::Run { keys, values } = &self.place {
            let bytes = self.capacity * shape.kv_heads * shape.head_dim * self.numbers.bytes();
            assert_eq!([keys.len(), values.len()], [bytes; 2]);
            assert!(rows <= self.capacity, "two rows of one launch would lie at the same place");
            assert!(
                shape.window.is_none_or(|window| self.capacity >= window + rows - 1),
                "what the first row sees is there"
            );
        }
    }
}

/// Shape of an attention over keys and values that stay on the device.
#[derive(Clone, Copy)]
pub(crate) struct Attention {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Positions that a query sees, itself included; `None` sees all.
    pub window: Option<usize>,
    /// Blocks that share what a query sees. One sees up to `ATTENTION_SPAN_MAX` positions.
    pub spans: usize,
}

impl Attention {
    /// Numbers of a row of q, k and v.
    pub fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Floats that the blocks leave for one another, for so many rows; none where one block sees all.
    pub fn parts_len(&self, rows: usize) -> usize {
        match self.spans {
            1 => 0,
            spans => rows * self.heads * spans * (self.head_dim + 2),
        }
    }
}

/// What `append` norms q and k with; the codec's attention has none.
pub(crate) struct QkNorm<'a> {
    pub q: &'a Span<f32>,
    pub k: &'a Span<f32>,
    pub eps: f32,
}

/// What becomes of a row's sums.
pub(crate) enum Finish<'a> {
    Store,
    /// y += them, times a scale per output where there is one.
    Add(Option<&'a Span<f32>>),
    /// y = base plus them, times a scale per output.
    Onto {
        base: &'a Span<f32>,
        scale: &'a Span<f32>,
    },
    /// Outputs in pairs: y = silu(gate) * up, half as wide.
    Gate,
    Silu,
    Gelu,
    /// tanh(max(s, 0)).
    Tanh,
}

/// Where the rows of a convolution go.
#[derive(Clone, Copy, Default)]
pub(crate) struct Put<'a> {
    /// Added to them first; may be `y`.
    pub base: Option<&'a Span<f32>>,
    pub y: Option<&'a Span<f32>>,
    /// Through a snake, there.
    pub activated: Option<(&'a Snake, &'a Span<f32>)>,
    /// Or through ELU, there.
    pub elu: Option<&'a Span<f32>>,
    /// max(them, 0) instead of them; without a base.
    pub rectified: bool,
}

impl<'a> Put<'a> {
    pub fn rows(y: &'a Span<f32>) -> Put<'a> {
        Put { y: Some(y), ..Put::default() }
    }

    pub fn activated(snake: &'a Snake, to: &'a Span<f32>) -> Put<'a> {
        Put { activated: Some((snake, to)), ..Put::default() }
    }

    pub fn elu(to: &'a Span<f32>) -> Put<'a> {
        Put { elu: Some(to), ..Put::default() }
    }

    pub fn rectified(y: &'a Span<f32>) -> Put<'a> {
        Put { rectified: true, ..Put::rows(y) }
    }
}

/// RMS norm in front of a matrix: its weight and epsilon.
pub(crate) type Norm<'a> = (&'a Span<f32>, f32);

/// One utterance's memory on the device; kernels and the host know its parts by name.
pub(crate) struct SpeakerMemory(Buffer);

impl SpeakerMemory {
    pub fn new(context: &Arc<Context>) -> Result<SpeakerMemory> {
        Ok(SpeakerMemory(Buffer::new(context, size_of::<args::Speaker>())?))
    }

    pub fn whole(&self) -> Span<args::Speaker> {
        self.0.span(0, 1)
    }

    /// Of the talker's next input.
    pub fn position(&self) -> Span<u32> {
        self.0.span(std::mem::offset_of!(args::Speaker, position), 1)
    }

    /// The newest frame's, as far as they are chosen.
    pub fn codes(&self) -> Span<u32> {
        self.0.span(std::mem::offset_of!(args::Speaker, codes), args::ROW_GROUPS as usize)
    }

    /// Addresses of its keys' and values' pages.
    pub fn pages(&self) -> Span<u64> {
        self.0.span(std::mem::offset_of!(args::Speaker, pages), args::KV_PAGES_MAX as usize)
    }

    pub fn buffer(&self) -> &Buffer {
        &self.0
    }
}

// SAFETY: plain numbers without padding (asserted below), and any bits are a value of each.
unsafe impl Number for args::Speaker {}
const _: () = {
    let numbers = 8 * args::KV_PAGES_MAX as usize + 8 + 8 + 4 * 5 + 3 * 4 * args::ROW_GROUPS as usize + 2 * 16 + 4;
    assert!(size_of::<args::Speaker>() == numbers + args::SAMPLE_SCORES_MAX as usize);
};
/// A kernel of gemm.cu, and its tile, which its name says.
struct Gemm {
    function: Function,
    rows: u32,
    outputs: u32,
    threads: u32,
}

/// Every kernel.
pub(crate) struct Kernels {
    /// Kernels begin while the one before them ends, and blocks come in clusters: where the code that was loaded knows of it.
    early: bool,
    rms_norm: Function,
    layer_norm: Function,
    add: Function,
    /// By storage, then by rows of x and outputs of a warp: 1 and 1, 1 and 2, 2, 4 and 8 and 2.
    linear: [[Function; 5]; 3],
    /// By what keys and values are stored in.
    append: [Function; 2],
    attention: [Function; 2],
    attention_join: Function,
    embed: Function,
    enter: Function,
    leave: Function,
    put_page: Function,
    #[cfg(test)]
    sample: Function,
    rvq: Function,
    depthwise: Function,
    last: Function,
    keep: Function,
    mirror: Function,
    pool: Function,
    gate: Function,
    nearest: Function,
    /// By storage; the tile with the fewest rows first.
    gemm: [Vec<Gemm>; 3],
    /// By storage, and by what keys and values are stored in.
    program: [[Function; 2]; 3],
    /// Of shared memory, that a program's block has.
    program_bytes: u32,
}

/// An address for a kernel that takes null for none.
fn address<T: Number>(span: Option<&Span<T>>) -> *const T {
    span.map_or(std::ptr::null(), Span::ptr)
}

/// Blocks of 256 for `count` threads.
fn over(count: usize) -> Shape {
    Shape::new([count.div_ceil(256) as u32, 1, 1], 256)
}

/// The sizes of a matrix times rows, checked.
pub(crate) fn linear_args(
    weight: &Matrix,
    bias: Option<&Span<f32>>,
    norm: Option<Norm>,
    finish: Finish,
    x: &Span<f32>,
    y: &Span<f32>,
) -> args::Linear {
    let (outputs, inputs) = (weight.rows, weight.width);
    let rows = x.len() / inputs;
    let (finish, base, scale, width) = match finish {
        Finish::Store => (args::FINISH_STORE, None, None, outputs),
        Finish::Add(scale) => (args::FINISH_ADD, Some(y), scale, outputs),
        Finish::Onto { base, scale } => (args::FINISH_ADD, Some(base), Some(scale), outputs),
        Finish::Gate => (args::FINISH_GATE, None, None, outputs / 2),
        Finish::Silu => (args::FINISH_SILU, None, None, outputs),
        Finish::Gelu => (args::FINISH_GELU, None, None, outputs),
        Finish::Tanh => (args::FINISH_TANH, None, None, outputs),
    };
    assert_eq!((x.len(), y.len()), (rows * inputs, rows * width));
    assert!(base.is_none_or(|base| base.len() == y.len()));
    assert!([bias, scale].into_iter().flatten().all(|by_output| by_output.len() == outputs));
    assert!(norm.is_none_or(|(weight, _)| weight.len() == inputs));
    assert!([weight.numbers.ptr() as usize, x.ptr() as usize].iter().all(|at| at % 16 == 0));
    args::Linear {
        weight: weight.numbers.ptr().cast(),
        bias: address(bias),
        scale: address(scale),
        x: x.ptr(),
        base: address(base),
        y: y.ptr_mut(),
        snake: args::Snake { alpha: std::ptr::null(), inv_beta: std::ptr::null() },
        activated: std::ptr::null_mut(),
        inputs: inputs as u32,
        outputs: outputs as u32,
        rows: rows as u32,
        finish,
        norm: address(norm.map(|(weight, _)| weight)),
        eps: norm.map_or(0.0, |(_, eps)| eps),
        channels: inputs as u32,
        dilation: 0,
        past: 0,
        tail: std::ptr::null(),
    }
}

/// The size of a norm over rows, checked; and the rows.
pub(crate) fn rms_norm_args(x: &Span<f32>, weight: &Span<f32>, eps: f32, y: &Span<f32>) -> (args::RmsNorm, u32) {
    let (width, rows) = (weight.len(), x.len() / weight.len());
    assert_eq!((x.len(), y.len()), (rows * width, rows * width));
    (args::RmsNorm { x: x.ptr(), weight: weight.ptr(), y: y.ptr_mut(), eps, width: width as u32 }, rows as u32)
}

/// The sizes of what attention leaves behind, checked.
pub(crate) fn append_args(
    shape: &Attention,
    norm: Option<QkNorm>,
    turns: &Span<f32>,
    position: &Span<u32>,
    qkv: &Span<f32>,
    store: &Store,
) -> args::Append {
    let rows = qkv.len() / shape.qkv_width();
    assert_eq!(qkv.len(), rows * shape.qkv_width());
    store.check(shape, rows);
    assert!(shape.head_dim.is_multiple_of(2) && turns.len().is_multiple_of(shape.head_dim) && position.len() == 1);
    assert!(norm.as_ref().is_none_or(|n| [n.q.len(), n.k.len()] == [shape.head_dim; 2]));
    args::Append {
        qkv: qkv.ptr_mut(),
        q_norm: address(norm.as_ref().map(|n| n.q)),
        k_norm: address(norm.as_ref().map(|n| n.k)),
        turns: turns.ptr(),
        position: position.ptr(),
        store: store.args(),
        eps: norm.as_ref().map_or(0.0, |n| n.eps),
        rows: rows as u32,
        heads: shape.heads as u32,
        kv_heads: shape.kv_heads as u32,
        head_dim: shape.head_dim as u32,
    }
}

/// The sizes of an attention, checked.
pub(crate) fn attention_args(
    shape: &Attention,
    position: &Span<u32>,
    behind: usize,
    qkv: &Span<f32>,
    store: &Store,
    parts: &Span<f32>,
    y: &Span<f32>,
) -> args::Attention {
    let rows = qkv.len() / shape.qkv_width();
    assert_eq!([qkv.len(), y.len()], [rows * shape.qkv_width(), rows * shape.heads * shape.head_dim]);
    store.check(shape, rows);
    assert!(shape.heads.is_multiple_of(shape.kv_heads) && position.len() == 1);
    assert!(shape.head_dim <= args::HEAD_DIM_MAX as usize && parts.len() >= shape.parts_len(rows));
    args::Attention {
        qkv: qkv.ptr(),
        position: position.ptr(),
        store: store.args(),
        y: y.ptr_mut(),
        parts: parts.ptr_mut(),
        heads: shape.heads as u32,
        kv_heads: shape.kv_heads as u32,
        head_dim: shape.head_dim as u32,
        window: shape.window.unwrap_or(0) as u32,
        spans: shape.spans as u32,
        behind: behind as u32,
    }
}

/// The sizes of a sum of rows, checked; and the sums. Without codes it is of one row, whichever that is.
pub(crate) fn embed_args(
    tables: &[&Matrix],
    codes: Option<&Span<u32>>,
    vector: Option<&Span<f32>>,
    y: &Span<f32>,
) -> (args::Embed, u32) {
    let width = tables.first().map_or(y.len(), |table| table.width);
    let frames = y.len() / width;
    assert!(tables.len() <= args::ROW_GROUPS as usize && tables.iter().all(|table| table.width == width));
    assert_eq!((codes.map_or(frames * tables.len(), Span::len), y.len()), (frames * tables.len(), frames * width));
    assert!(codes.is_some() || frames == 1 && tables.len() <= 1);
    assert!(vector.is_none_or(|vector| vector.len() == y.len()));
    let mut a = args::Embed {
        tables: [std::ptr::null(); args::ROW_GROUPS as usize],
        stored: [0; args::ROW_GROUPS as usize],
        codes: address(codes),
        vector: address(vector),
        y: y.ptr_mut(),
        groups: tables.len() as u32,
        width: width as u32,
    };
    for (i, table) in tables.iter().enumerate() {
        (a.tables[i], a.stored[i]) = (table.numbers.ptr().cast(), table.stored());
    }
    (a, frames as u32)
}

/// The sizes of a choice, checked.
pub(crate) fn sample_args(
    speaker: &SpeakerMemory,
    group: usize,
    suppressed: Option<(usize, usize)>,
    scores: &Span<f32>,
) -> args::Sample {
    let count = scores.len();
    assert!(count <= args::SAMPLE_SCORES_MAX as usize && group < args::ROW_GROUPS as usize);
    let (suppressed_from, eos) = suppressed.unwrap_or((count, 0));
    args::Sample {
        scores: scores.ptr(),
        speaker: speaker.whole().ptr_mut(),
        count: count as u32,
        group: group as u32,
        suppressed_from: suppressed_from as u32,
        eos: eos as u32,
    }
}

/// Threads for a row of channels: some each, as many as keep a block busy.
fn norm_threads(width: usize) -> u32 {
    (width.div_ceil(4).next_multiple_of(32) as u32).clamp(32, 512)
}

impl Kernels {
    /// The kernels on the device of this number, loaded once for all that use them at a time: for a GPU that has none of its own
    /// in this build the driver compiles for seconds. A build without kernels says so.
    pub fn of(context: &Arc<Context>, index: usize) -> Result<Arc<Kernels>> {
        static IN_USE: Mutex<BTreeMap<usize, Weak<Kernels>>> = Mutex::new(BTreeMap::new());
        let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernels) = in_use.get(&index).and_then(Weak::upgrade) {
            return Ok(kernels);
        }
        let kernels = Arc::new(Kernels::load(context)?);
        in_use.insert(index, Arc::downgrade(&kernels));
        Ok(kernels)
    }

    fn load(context: &Arc<Context>) -> Result<Kernels> {
        // Where there is room for more chunks under way than the fewest.
        Kernels::with(context, context.gpu.shared_bytes >= 160 << 10)
    }

    /// `roomy`: programs take the shared memory of the larger GPUs.
    pub fn with(context: &Arc<Context>, roomy: bool) -> Result<Kernels> {
        let module = |name: &'static str| {
            let Some((name, image)) = super::IMAGES.iter().find(|(known, _)| *known == name) else {
                let what = "this build has none: no CUDA compiler was found when it was built";
                return Err(Error::compute("kernels", what));
            };
            // SAFETY: a fatbin as the compiler wrote it.
            unsafe { Module::load(context, name, image) }
        };
        let [norm, linear, attention] = [module("norm")?, module("linear")?, module("attention")?];
        let (conv, encoder) = (module("conv")?, module("encoder")?);
        let linears = |names: [&'static CStr; 5]| -> Result<[Function; 5]> {
            let [a, b, c, d, e] = names.map(|name| linear.function(name));
            Ok([a?, b?, c?, d?, e?])
        };
        let speaker = module("speaker")?;
        let gemm = module("gemm")?;
        let tile = |name: &'static CStr, threads| -> Result<Gemm> {
            let function = gemm.function(name)?;
            let size = name.to_str().ok().and_then(|name| name.rsplit_once('_')?.1.split_once('x'));
            let Some((Ok(rows), Ok(outputs))) = size.map(|(rows, outputs)| (rows.parse(), outputs.parse())) else {
                return Err(Error::compute("kernels", format!("{name:?} does not say its tile")));
            };
            let bound = function.most_threads()?;
            if bound < threads {
                return Err(Error::compute("kernels", format!("{name:?} takes {bound} threads, not {threads}")));
            }
            Ok(Gemm { function, rows, outputs, threads })
        };
        let rms_norm = norm.function(c"rms_norm")?;
        let programs = module("program")?;
        // Chunks of 2 KiB that each of a program's warps has under way.
        let program_bytes =
            |chunks: u32| chunks * args::PROGRAM_THREADS / 32 * 2048 + 4 * (args::PROGRAM_X + args::PROGRAM_MERGE);
        let chunks = if roomy { 6 } else { 2 };
        let program = |few: &'static CStr, more: &'static CStr| -> Result<Function> {
            let function = programs.function(if roomy { more } else { few })?;
            function.allow_shared(program_bytes(chunks))?;
            Ok(function)
        };
        Ok(Kernels {
            early: rms_norm.compiled_for()? >= 90,
            program: [
                [
                    program(c"program_bf16_f32_2", c"program_bf16_f32_6")?,
                    program(c"program_bf16_bf16_2", c"program_bf16_bf16_6")?,
                ],
                [
                    program(c"program_f16_f32_2", c"program_f16_f32_6")?,
                    program(c"program_f16_bf16_2", c"program_f16_bf16_6")?,
                ],
                [
                    program(c"program_f32_f32_2", c"program_f32_f32_6")?,
                    program(c"program_f32_bf16_2", c"program_f32_bf16_6")?,
                ],
            ],
            program_bytes: program_bytes(chunks),
            rms_norm,
            layer_norm: norm.function(c"layer_norm")?,
            add: norm.function(c"add")?,
            linear: [
                linears([
                    c"linear_bf16_1_1",
                    c"linear_bf16_1_2",
                    c"linear_bf16_2_2",
                    c"linear_bf16_4_2",
                    c"linear_bf16_8_2",
                ])?,
                linears([
                    c"linear_f16_1_1",
                    c"linear_f16_1_2",
                    c"linear_f16_2_2",
                    c"linear_f16_4_2",
                    c"linear_f16_8_2",
                ])?,
                linears([
                    c"linear_f32_1_1",
                    c"linear_f32_1_2",
                    c"linear_f32_2_2",
                    c"linear_f32_4_2",
                    c"linear_f32_8_2",
                ])?,
            ],
            append: [attention.function(c"append_f32")?, attention.function(c"append_bf16")?],
            attention: [attention.function(c"attention_f32")?, attention.function(c"attention_bf16")?],
            attention_join: attention.function(c"attention_join")?,
            embed: module("embed")?.function(c"embed")?,
            enter: speaker.function(c"enter")?,
            leave: speaker.function(c"leave")?,
            put_page: speaker.function(c"put_page")?,
            #[cfg(test)]
            sample: module("sample")?.function(c"sample_code")?,
            rvq: module("rvq")?.function(c"rvq")?,
            depthwise: conv.function(c"depthwise")?,
            last: conv.function(c"last")?,
            keep: conv.function(c"keep")?,
            mirror: encoder.function(c"mirror")?,
            pool: encoder.function(c"pool")?,
            gate: encoder.function(c"gate")?,
            nearest: encoder.function(c"nearest")?,
            gemm: [
                vec![
                    tile(c"gemm_bf16_16x64", 128)?,
                    tile(c"gemm_bf16_32x64", 128)?,
                    tile(c"gemm_bf16_64x64", 128)?,
                    tile(c"gemm_bf16_64x128", 256)?,
                ],
                vec![tile(c"gemm_f16_32x64", 128)?],
                vec![tile(c"gemm_f32_16x64", 128)?, tile(c"gemm_f32_32x64", 128)?, tile(c"gemm_f32_64x64", 128)?],
            ],
        })
    }

    /// # Safety
    /// As `Function::launch`.
    unsafe fn launch<A: Copy>(&self, function: &Function, stream: &Stream, shape: Shape, a: &A) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { function.launch(stream, Shape { early: self.early, ..shape }, a) }
    }

    // ---- norm.cu ---------------------------------------------------------------------------------------------

    /// Each row of x over the root of its mean square, times weight; y may be x.
    pub fn rms_norm(&self, stream: &Stream, x: &Span<f32>, weight: &Span<f32>, eps: f32, y: &Span<f32>) -> Result<()> {
        let (a, rows) = rms_norm_args(x, weight, eps, y);
        // SAFETY: as the head of this file says.
        unsafe { self.launch(&self.rms_norm, stream, Shape::new([rows, 1, 1], norm_threads(a.width as usize)), &a) }
    }

    /// Each row of x to mean 0 and variance 1, times weight, plus bias; y may be x.
    pub fn layer_norm(
        &self,
        stream: &Stream,
        x: &Span<f32>,
        [weight, bias]: [&Span<f32>; 2],
        eps: f32,
        y: &Span<f32>,
    ) -> Result<()> {
        let (width, rows) = (weight.len(), x.len() / weight.len());
        assert_eq!((x.len(), y.len(), bias.len()), (rows * width, rows * width, width));
        let (weight, bias, width_of) = (weight.ptr(), bias.ptr(), width as u32);
        let a = args::LayerNorm { x: x.ptr(), weight, bias, y: y.ptr_mut(), eps, width: width_of };
        // SAFETY: as the head of this file says.
        unsafe { self.launch(&self.layer_norm, stream, Shape::new([rows as u32, 1, 1], norm_threads(width)), &a) }
    }

    /// x += scale * y, scale per column; without scale, x += y.
    pub fn add(&self, stream: &Stream, x: &Span<f32>, scale: Option<&Span<f32>>, y: &Span<f32>) -> Result<()> {
        let width = scale.map_or(1, Span::len);
        assert_eq!(x.len(), y.len());
        assert!(x.len().is_multiple_of(width));
        let a =
            args::Add { x: x.ptr_mut(), scale: address(scale), y: y.ptr(), count: x.len() as u32, width: width as u32 };
        // SAFETY: as the head of this file says.
        unsafe { self.launch(&self.add, stream, over(x.len()), &a) }
    }

    // ---- linear.cu -------------------------------------------------------------------------------------------

    /// y[t] = finish(weight norm(x[t]) (+ bias)), for any number of rows: eight at a time read the weight once.
    #[allow(clippy::too_many_arguments)] // one launch, one struct; a Rust struct for it would be written twice
    pub fn linear(
        &self,
        stream: &Stream,
        weight: &Matrix,
        bias: Option<&Span<f32>>,
        norm: Option<Norm>,
        finish: Finish,
        x: &Span<f32>,
        y: &Span<f32>,
    ) -> Result<()> {
        let gate = matches!(finish, Finish::Gate);
        let a = linear_args(weight, bias, norm, finish, x, y);
        // Rows of a pass and outputs of a warp, as the kernel's name has them.
        let (which, together, each) = match a.rows {
            1 if !gate => (0, 1, 1),
            1 => (1, 1, 2),
            2 => (2, 2, 2),
            3 | 4 => (3, 4, 2),
            _ => (4, args::LINEAR_ROWS, 2),
        };
        let grid = [a.outputs.div_ceil(args::LINEAR_WARPS * each), a.rows.div_ceil(together), 1];
        let function = &self.linear[weight.stored() as usize][which];
        // SAFETY: as the head of this file says.
        unsafe { self.launch(function, stream, Shape::new(grid, 32 * args::LINEAR_WARPS), &a) }
    }

    // ---- attention.cu ----------------------------------------------------------------------------------------

    /// Norms the heads of q and k in qkv [rows][q, k, v], turns them by their positions (`turns` of the reference, a row a
    /// position), leaves q, and puts k and v behind what the store holds. The first row stands at `position`.
    #[allow(clippy::too_many_arguments)] // as `linear`
    pub fn append(
        &self,
        stream: &Stream,
        shape: &Attention,
        norm: Option<QkNorm>,
        turns: &Span<f32>,
        position: &Span<u32>,
        qkv: &Span<f32>,
        store: &Store,
    ) -> Result<()> {
        let a = append_args(shape, norm, turns, position, qkv, store);
        let warps = a.rows * (a.heads + 2 * a.kv_heads);
        let function = &self.append[store.numbers as usize];
        // SAFETY: as the head of this file says.
        unsafe { self.launch(function, stream, Shape::new([warps.div_ceil(4), 1, 1], 128), &a) }
    }

    /// Causal attention of rows that `append` has left in qkv and put in the store; the first stands `behind` positions after
    /// `position`. `parts` is scratch, as `Attention::parts_len` says. y [rows][heads * head_dim].
    #[allow(clippy::too_many_arguments)] // as `linear`
    pub fn attention(
        &self,
        stream: &Stream,
        shape: &Attention,
        position: &Span<u32>,
        behind: usize,
        qkv: &Span<f32>,
        store: &Store,
        parts: &Span<f32>,
        y: &Span<f32>,
    ) -> Result<()> {
        let a = attention_args(shape, position, behind, qkv, store, parts, y);
        let rows = (qkv.len() / shape.qkv_width()) as u32;
        let grid = [a.heads, rows, a.spans];
        let function = &self.attention[store.numbers as usize];
        // SAFETY: as the head of this file says.
        unsafe { self.launch(function, stream, Shape::new(grid, args::ATTENTION_THREADS), &a) }?;
        if shape.spans == 1 {
            return Ok(());
        }
        let shape = Shape::new([a.heads, rows, 1], shape.head_dim.next_multiple_of(32) as u32);
        // SAFETY: as the head of this file says.
        unsafe { self.launch(&self.attention_join, stream, shape, &a) }
    }

    // ---- embed.cu --------------------------------------------------------------------------------------------

    /// For each frame the sum of a row of each table, in order, then of its vector. codes [frames][tables].
    pub fn embed(
        &self,
        stream: &Stream,
        tables: &[&Matrix],
        codes: &Span<u32>,
        vector: Option<&Span<f32>>,
        y: &Span<f32>,
    ) -> Result<()> {
        let (a, frames) = embed_args(tables, Some(codes), vector, y);
        let shape = Shape { grid: [a.width.div_ceil(256), frames, 1], ..Shape::new([1, 1, 1], 256) };
        // SAFETY: as the head of this file says.
        unsafe { self.launch(&self.embed, stream, shape, &a) }
    }

    // ---- speaker.cu ------------------------------------------------------------------------------------------

    /// Tells the speaker what the host knows of its next step or choice. `text`: numbers of the host's pinned memory and where
    /// they go; `codes` take the place of the last frame's; `forced` are seen by later groups in place of the chosen.
    pub fn enter(
        &self,
        stream: &Stream,
        speaker: &SpeakerMemory,
        text: Option<(&Span<f32>, &Span<f32>)>,
        may_end: bool,
        codes: Option<&Frame>,
        forced: Option<&Frame>,
    ) -> Result<()> {
        assert!(text.is_none_or(|(from, to)| from.len() == to.len()));
        let a = args::Enter {
            speaker: speaker.whole().ptr_mut(),
            text_from: address(text.map(|(from, _)| from)),
            text_to: text.map_or(std::ptr::null_mut(), |(_, to)| to.ptr_mut()),
            width: text.map_or(0, |(from, _)| from.len()) as u32,
            may_end: may_end.into(),
            set_codes: codes.is_some().into(),
            codes: codes.copied().unwrap_or_default().map(u32::from),
            forced: forced.map_or([args::NO_CODE; args::ROW_GROUPS as usize], |frame| frame.map(u32::from)),
        };
        // SAFETY: as the head of this file says.
        unsafe { self.launch(&self.enter, stream, Shape::new([1, 1, 1], 512), &a) }
    }

    /// Counts positions and frames; with a `report`, `args::ROW_GROUPS` codes as chosen and the fault land there.
    pub fn leave(
        &self,
        stream: &Stream,
        speaker: &SpeakerMemory,
        positions: usize,
        frames: usize,
        report: Option<&Span<u32>>,
    ) -> Result<()> {
        assert!(report.is_none_or(|report| report.len() > args::ROW_GROUPS as usize));
        let a = args::Leave {
            speaker: speaker.whole().ptr_mut(),
            report: report.map_or(std::ptr::null_mut(), Span::ptr_mut),
            positions: positions as u32,
            frames: frames as u32,
        };
        // SAFETY: as the head of this file says.
        unsafe { self.launch(&self.leave, stream, Shape::new([1, 1, 1], 32), &a) }
    }

    /// Puts a page into the speaker's list.
    pub fn put_page(&self, stream: &Stream, speaker: &SpeakerMemory, index: usize, page: &Span<u8>) -> Result<()> {
        assert!(index < args::KV_PAGES_MAX as usize);
        let a = args::PutPage { speaker: speaker.whole().ptr_mut(), page: page.ptr() as u64, index: index as u32 };
        // SAFETY: as the head of this file says.
        unsafe { self.launch(&self.put_page, stream, Shape::new([1, 1, 1], 1), &a) }
    }

    // ---- sample.cu -------------------------------------------------------------------------------------------

    /// Chooses the code of a group from scores, as the speaker's memory says, and notes it there. `suppressed`: the talker's
    /// controls, scores from `.0` on are out, but for `.1` (eos) where the speech may end.
    #[cfg(test)] // a program chooses; this shows that it chooses right
    pub fn sample(
        &self,
        stream: &Stream,
        speaker: &SpeakerMemory,
        group: usize,
        suppressed: Option<(usize, usize)>,
        scores: &Span<f32>,
    ) -> Result<()> {
        let a = sample_args(speaker, group, suppressed, scores);
        // SAFETY: as the head of this file says.
        unsafe { self.launch(&self.sample, stream, Shape::new([1, 1, 1], args::SAMPLE_THREADS), &a) }
    }

    // ---- rvq.cu ----------------------------------------------------------------------------------------------

    /// For each frame its codebook rows over their usage: the first group's, then the sum of the others', y [frames][2][width].
    /// A book is its embedding sums and its cluster usage; codes [frames][16].
    pub fn rvq(&self, stream: &Stream, books: &[(Matrix, Span<f32>)], codes: &Span<u32>, y: &Span<f32>) -> Result<()> {
        const GROUPS: usize = args::ROW_GROUPS as usize;
        let (width, frames) = (books[0].0.width, codes.len() / GROUPS);
        assert_eq!((books.len(), codes.len(), y.len()), (GROUPS, frames * GROUPS, frames * 2 * width));
        assert!(books.iter().all(|(sums, usage)| sums.width == width && usage.len() == sums.rows));
        let mut a = args::Rvq {
            sums: [std::ptr::null(); GROUPS],
            usages: [std::ptr::null(); GROUPS],
            stored: [0; GROUPS],
            codes: codes.ptr(),
            y: y.ptr_mut(),
            width: width as u32,
        };
        for (i, (sums, usage)) in books.iter().enumerate() {
            (a.sums[i], a.usages[i], a.stored[i]) = (sums.numbers.ptr().cast(), usage.ptr(), sums.stored());
        }
        let shape = Shape { grid: [width.div_ceil(256) as u32, frames as u32, 1], ..over(width) };
        // SAFETY: as the head of this file says.
        unsafe { self.launch(&self.rvq, stream, shape, &a) }
    }

    // ---- conv.cu ---------------------------------------------------------------------------------------------

    /// Causal convolution of each channel with its own taps, behind its tail [taps - 1][channels], and a layer norm of each row
    /// of them. x and y [rows][channels].
    pub fn depthwise(
        &self,
        stream: &Stream,
        conv: &Depthwise,
        tail: &Span<f32>,
        x: &Span<f32>,
        eps: f32,
        y: &Span<f32>,
    ) -> Result<()> {
        let (channels, taps) = (conv.bias.len(), args::CONV_TAPS as usize);
        let rows = x.len() / channels;
        assert_eq!([conv.weight.len(), tail.len()], [taps * channels, (taps - 1) * channels]);
        assert_eq!([conv.norm.len(), conv.norm_bias.len()], [channels; 2]);
        assert_eq!([x.len(), y.len()], [rows * channels; 2]);
        let a = args::Depthwise {
            weight: conv.weight.ptr(),
            bias: conv.bias.ptr(),
            norm: conv.norm.ptr(),
            norm_bias: conv.norm_bias.ptr(),
            tail: tail.ptr(),
            x: x.ptr(),
            y: y.ptr_mut(),
            eps,
            channels: channels as u32,
        };
        // SAFETY: as the head of this file says.
        unsafe { self.launch(&self.depthwise, stream, Shape::new([rows as u32, 1, 1], norm_threads(channels)), &a) }
    }

    /// The last convolution, weight [taps][channels] behind its tail [taps - 1][channels]: a sample in -1 .. 1 for each row of x
    /// [rows][channels]. NaN stays NaN, so that it is found.
    pub fn last(
        &self,
        stream: &Stream,
        weight: &Span<f32>,
        bias: &Span<f32>,
        tail: &Span<f32>,
        x: &Span<f32>,
        y: &Span<f32>,
    ) -> Result<()> {
        let (taps, rows) = (args::CONV_TAPS as usize, y.len());
        let channels = weight.len() / taps;
        assert_eq!([weight.len(), tail.len()], [taps * channels, (taps - 1) * channels]);
        assert_eq!((bias.len(), x.len()), (1, rows * channels));
        assert!(channels <= args::LAST_CHANNELS_MAX as usize);
        let a = args::Last {
            weight: weight.ptr(),
            bias: bias.ptr(),
            tail: tail.ptr(),
            x: x.ptr(),
            y: y.ptr_mut(),
            rows: rows as u32,
            channels: channels as u32,
        };
        let shape = Shape::new([a.rows.div_ceil(args::LAST_ROWS), 1, 1], args::LAST_THREADS * args::LAST_ROWS);
        // SAFETY: as the head of this file says.
        unsafe { self.launch(&self.last, stream, shape, &a) }
    }

    /// Keeps the newest rows of what each tail and the signal behind it hold for the next call, and counts the frames.
    pub fn keep(&self, stream: &Stream, tails: &[Tail], position: &Span<u32>, frames: usize) -> Result<()> {
        const NONE: args::Tail =
            args::Tail { tail: std::ptr::null_mut(), x: std::ptr::null(), past: 0, rows: 0, channels: 0 };
        assert!(tails.len() <= args::KEEP_TAILS_MAX as usize && position.len() == 1);
        let tails_max = [NONE; args::KEEP_TAILS_MAX as usize];
        let mut a = args::Keep { tails: tails_max, position: position.ptr_mut(), frames: frames as u32 };
        for (to, (tail, x, channels)) in a.tails.iter_mut().zip(tails) {
            let (past, rows) = (tail.len() / channels, x.len() / channels);
            assert_eq!([tail.len(), x.len()], [past * channels, rows * channels]);
            assert!(past <= args::CONV_PAST_MAX as usize);
            let [past, rows, channels] = [past, rows, *channels].map(|n| n as u32);
            *to = args::Tail { tail: tail.ptr_mut(), x: x.ptr(), past, rows, channels };
        }
        let widest = tails.iter().map(|tail| tail.2).max().unwrap_or(1);
        let grid = [(widest as u32).div_ceil(args::KEEP_WIDTH), tails.len().max(1) as u32, 1];
        // SAFETY: as the head of this file says.
        unsafe { self.launch(&self.keep, stream, Shape::new(grid, args::KEEP_WIDTH), &a) }
    }

    // ---- encoder.cu ------------------------------------------------------------------------------------------

    /// Columns of x [rows][..] from `columns.start` on, plus those of `add` [rows][width], to columns of y
    /// [edge + rows + edge][..] from `at` on; the edges mirror the rows without repeating the first and the last.
    #[allow(clippy::too_many_arguments)] // as `linear`
    pub fn mirror(
        &self,
        stream: &Stream,
        rows: usize,
        edge: usize,
        x: &Span<f32>,
        columns: Range<usize>,
        add: Option<&Span<f32>>,
        y: &Span<f32>,
        at: usize,
    ) -> Result<()> {
        let (width, all) = (columns.len(), rows + 2 * edge);
        let (x_stride, y_stride) = (x.len() / rows, y.len() / all);
        assert_eq!([x.len(), y.len()], [rows * x_stride, all * y_stride]);
        assert!(edge < rows && columns.end <= x_stride && at + width <= y_stride);
        assert!(add.is_none_or(|add| add.len() == rows * width));
        let [x, y] = [x.part(columns.start..x.len()), y.part(at..y.len())];
        let a = args::Mirror {
            x: x.ptr(),
            add: address(add),
            y: y.ptr_mut(),
            rows: rows as u32,
            edge: edge as u32,
            width: width as u32,
            x_stride: x_stride as u32,
            y_stride: y_stride as u32,
        };
        // SAFETY: as the head of this file says.
        unsafe { self.launch(&self.mirror, stream, over(all * width), &a) }
    }

    /// Of each channel of x [rows][channels] the mean and the deviation over the rows, y [2][channels]; weighted by the softmax
    /// of its `scores` [rows][channels] over the rows where there are some.
    pub fn pool(&self, stream: &Stream, x: &Span<f32>, scores: Option<&Span<f32>>, y: &Span<f32>) -> Result<()> {
        let channels = y.len() / 2;
        let rows = x.len() / channels;
        assert_eq!([x.len(), y.len()], [rows * channels, 2 * channels]);
        assert!(scores.is_none_or(|scores| scores.len() == x.len()));
        let (rows, channels) = (rows as u32, channels as u32);
        let a = args::Pool { x: x.ptr(), scores: address(scores), y: y.ptr_mut(), rows, channels };
        let shape = Shape::new([channels.div_ceil(args::POOL_CHANNELS), 1, 1], 32 * args::POOL_CHANNELS);
        // SAFETY: as the head of this file says.
        unsafe { self.launch(&self.pool, stream, shape, &a) }
    }

    /// y = base + x / (1 + exp(-gate)), a gate for each column; y may be base or x.
    pub fn gate(
        &self,
        stream: &Stream,
        x: &Span<f32>,
        gate: &Span<f32>,
        base: &Span<f32>,
        y: &Span<f32>,
    ) -> Result<()> {
        assert_eq!([base.len(), y.len()], [x.len(); 2]);
        assert!(x.len().is_multiple_of(gate.len()));
        let (count, width) = (x.len() as u32, gate.len() as u32);
        let a = args::Gate { x: x.ptr(), gate: gate.ptr(), base: base.ptr(), y: y.ptr_mut(), count, width };
        // SAFETY: as the head of this file says.
        unsafe { self.launch(&self.gate, stream, over(x.len()), &a) }
    }

    /// For each frame of x [frames][2][width] the nearest rows of `tables` [16][rows][width], the first of equals: of the first
    /// to its first vector, of each other to what the rows before have left of its second. codes [frames][16]; `NO_CODE` from
    /// where that is not finite.
    pub fn nearest(
        &self,
        stream: &Stream,
        x: &Span<f32>,
        tables: &Span<f32>,
        width: usize,
        codes: &Span<u32>,
    ) -> Result<()> {
        const GROUPS: usize = args::ROW_GROUPS as usize;
        let (frames, rows) = (codes.len() / GROUPS, tables.len() / (GROUPS * width));
        assert_eq!((x.len(), codes.len()), (frames * 2 * width, frames * GROUPS));
        assert_eq!(tables.len(), GROUPS * rows * width);
        assert!(width <= args::NEAREST_WIDTH_MAX as usize);
        let (rows, width) = (rows as u32, width as u32);
        let a = args::Nearest { x: x.ptr(), tables: tables.ptr(), codes: codes.ptr_mut(), rows, width };
        // SAFETY: as the head of this file says.
        unsafe { self.launch(&self.nearest, stream, Shape::new([frames as u32, 1, 1], args::NEAREST_THREADS), &a) }
    }

    // ---- gemm.cu ---------------------------------------------------------------------------------------------

    /// As `linear` without a norm, and made for many rows. A row's bits are the same with any number of them, but others than
    /// `linear`'s own.
    pub fn gemm(
        &self,
        stream: &Stream,
        weight: &Matrix,
        bias: Option<&Span<f32>>,
        finish: Finish,
        x: &Span<f32>,
        y: &Span<f32>,
    ) -> Result<()> {
        let a = linear_args(weight, bias, None, finish, x, y);
        assert!(a.finish != args::FINISH_GATE || a.outputs.is_multiple_of(2));
        self.many_rows(stream, weight, &a)
    }

    fn many_rows(&self, stream: &Stream, weight: &Matrix, a: &args::Linear) -> Result<()> {
        let tiles = &self.gemm[weight.stored() as usize];
        let tile = tiles.iter().find(|tile| a.rows <= tile.rows).unwrap_or(&tiles[tiles.len() - 1]);
        let slices = weight.slices();
        let grid = [a.outputs.div_ceil(tile.outputs) * slices, a.rows.div_ceil(tile.rows), 1];
        let clusters = self.early;
        let shape = Shape { cluster: clusters.then_some(slices), ..Shape::new(grid, tile.threads) };
        // SAFETY: as the head of this file says.
        unsafe { self.launch(&tile.function, stream, shape, a) }
    }

    /// Causal convolution of x [rows][inputs] behind its tail [past][inputs], plain or transposed, as the weight was uploaded:
    /// [rows * rate][outputs / rate].
    pub fn conv(
        &self,
        stream: &Stream,
        conv: &Conv,
        dilation: usize,
        tail: Option<&Span<f32>>,
        x: &Span<f32>,
        put: &Put,
    ) -> Result<()> {
        let (outputs, rows) = (conv.weight.rows, x.len() / conv.inputs);
        let (past, count) = (conv.past(dilation), rows * outputs);
        assert_eq!((x.len(), tail.map_or(0, Span::len)), (rows * conv.inputs, past * conv.inputs));
        assert_eq!(conv.bias.len(), outputs);
        assert!(put.activated.is_none() || put.elu.is_none());
        assert!(!put.rectified || put.base.is_none());
        let activated = put.activated.map(|(_, to)| to).or(put.elu);
        assert!([put.base, put.y, activated].into_iter().flatten().all(|rows| rows.len() == count));
        let snake = put.activated.map(|(snake, _)| snake);
        assert!(snake.is_none_or(|s| [s.alpha.len(), s.inv_beta.len()] == [outputs; 2]));
        assert!([x.ptr() as usize, address(tail) as usize].iter().all(|at| at % 16 == 0));
        let a = args::Linear {
            weight: conv.weight.numbers.ptr().cast(),
            bias: conv.bias.ptr(),
            scale: std::ptr::null(),
            x: x.ptr(),
            base: address(put.base),
            y: put.y.map_or(std::ptr::null_mut(), Span::ptr_mut),
            snake: args::Snake {
                alpha: address(snake.map(|s| &s.alpha)),
                inv_beta: address(snake.map(|s| &s.inv_beta)),
            },
            activated: activated.map_or(std::ptr::null_mut(), Span::ptr_mut),
            inputs: conv.weight.width as u32,
            outputs: outputs as u32,
            rows: rows as u32,
            finish: match (put.base, put.rectified) {
                (Some(_), _) => args::FINISH_ADD,
                (None, true) => args::FINISH_RELU,
                (None, false) => args::FINISH_STORE,
            },
            norm: std::ptr::null(),
            eps: 0.0,
            channels: conv.inputs as u32,
            dilation: dilation as u32,
            past: past as u32,
            tail: address(tail),
        };
        self.many_rows(stream, &conv.weight, &a)
    }

    // ---- program.cu ------------------------------------------------------------------------------------------

    /// A program of operations on weights stored as `stored`. All its blocks run at once, each on a multiprocessor of its own.
    pub fn program(&self, stream: &Stream, blocks: u32, stored: u32, kv: KvNumbers, a: &args::Program) -> Result<()> {
        let grid = [blocks, 1, 1];
        let (cooperative, shared_bytes) = (true, self.program_bytes);
        let threads = args::PROGRAM_THREADS + args::PROGRAM_LOADERS;
        let shape = Shape { cooperative, shared_bytes, ..Shape::new(grid, threads) };
        // SAFETY: as the head of this file says.
        unsafe { self.program[stored as usize][kv as usize].launch(stream, shape, a) }
    }
}
