//! Every launch: sizes checked, laid over the device, given to a stream. The names and the order of arguments are those of the
//! reference's functions, where there is one.
//!
//! SAFETY, of each launch below: the argument is the kernel's own struct, made of the header that it was compiled with; spans
//! are checked to be as long as the kernel takes them for; a block is freed only behind the work that was begun before
//! (`driver::buffer`), and a recording keeps its blocks (`Graph::record`). Work in one stream is in order; across streams
//! the callers' events order it. Codes and positions in device memory are in range: a kernel or a checked request made them.
#![allow(unsafe_code)] // the launches

use super::args;
use super::upload::{Conv, Matrix};
use crate::driver::{Context, Function, Module, Number, Shape, Span, Stream};
use crate::error::{Error, Result};
use std::ffi::CStr;
use std::sync::Arc;

/// Shape of an attention over keys and values that stay on the device.
#[derive(Clone, Copy)]
pub(crate) struct Attention {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Positions that a query sees, itself included; `None` sees all.
    pub window: Option<usize>,
    /// Positions that keys and values have room for; a later one takes the place of the one so much earlier.
    pub capacity: usize,
    /// Positions that one block sees.
    pub span: usize,
}

impl Attention {
    /// The most that a query can see.
    fn seen(&self) -> usize {
        self.window.unwrap_or(self.capacity).min(self.capacity)
    }

    fn spans(&self) -> usize {
        self.seen().div_ceil(self.span)
    }

    /// Floats that the blocks leave for one another, for so many rows; none where one block sees all.
    pub fn parts_len(&self, rows: usize) -> usize {
        match self.spans() {
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

/// How a code is chosen: the reference's `Sampler` and `TalkerRules` in one.
#[derive(Clone, Copy)]
pub(crate) struct Choosing {
    pub do_sample: bool,
    pub temperature: f32,
    pub top_k: usize,
    pub top_p: f32,
    pub repetition_penalty: f32,
    /// The talker's controls: scores from `.0` on are out, but for `.1` (eos) from the third frame on.
    pub suppressed: Option<(usize, usize)>,
}

/// Where the draw comes from.
pub(crate) enum Uniform<'a> {
    Seed { seed: u64, group: usize },
    Given(&'a Span<f64>),
}

/// Every kernel, found when the device is opened.
pub(crate) struct Kernels {
    rms_norm: Function,
    layer_norm: Function,
    add: Function,
    /// By storage, then by rows of x: 1, 2, 4, 8.
    linear: [[Function; 4]; 3],
    silu: Function,
    silu_mul: Function,
    gelu: Function,
    append: Function,
    attention: Function,
    attention_join: Function,
    embed: Function,
    sample: Function,
    rvq: Function,
    conv_wide: Function,
    conv_narrow: Function,
    conv_join: Function,
    conv_depthwise: Function,
    keep: Function,
    transpose: Function,
    snake: Function,
    clamp: Function,
}

/// An address for a kernel that takes null for none.
fn address<T: Number>(span: Option<&Span<T>>) -> *const T {
    span.map_or(std::ptr::null(), Span::ptr)
}

/// Blocks of 256 for `count` threads.
fn over(count: usize) -> Shape {
    Shape::new([count.div_ceil(256) as u32, 1, 1], 256)
}

/// Threads for a row of a norm: some numbers each, as many as keep a block busy.
fn norm_threads(width: usize) -> u32 {
    (width.div_ceil(4).next_multiple_of(32) as u32).clamp(32, 512)
}

impl Kernels {
    /// Loads every kernel. A build without them says so.
    pub fn load(context: &Arc<Context>) -> Result<Kernels> {
        let module = |name: &'static str| {
            let Some((name, image)) = super::IMAGES.iter().find(|(known, _)| *known == name) else {
                let what = "this build has none: no CUDA compiler was found when it was built";
                return Err(Error::compute("kernels", what));
            };
            // SAFETY: a fatbin as the compiler wrote it.
            unsafe { Module::load(context, name, image) }
        };
        let [norm, linear, attention] = [module("norm")?, module("linear")?, module("attention")?];
        let [conv, snake] = [module("conv")?, module("snake")?];
        let linears = |names: [&'static CStr; 4]| -> Result<[Function; 4]> {
            let [one, two, four, eight] = names;
            Ok([linear.function(one)?, linear.function(two)?, linear.function(four)?, linear.function(eight)?])
        };
        Ok(Kernels {
            rms_norm: norm.function(c"rms_norm")?,
            layer_norm: norm.function(c"layer_norm")?,
            add: norm.function(c"add")?,
            linear: [
                linears([c"linear_bf16_1", c"linear_bf16_2", c"linear_bf16_4", c"linear_bf16_8"])?,
                linears([c"linear_f16_1", c"linear_f16_2", c"linear_f16_4", c"linear_f16_8"])?,
                linears([c"linear_f32_1", c"linear_f32_2", c"linear_f32_4", c"linear_f32_8"])?,
            ],
            silu: linear.function(c"silu")?,
            silu_mul: linear.function(c"silu_mul")?,
            gelu: linear.function(c"gelu")?,
            append: attention.function(c"append")?,
            attention: attention.function(c"attention")?,
            attention_join: attention.function(c"attention_join")?,
            embed: module("embed")?.function(c"embed")?,
            sample: module("sample")?.function(c"sample")?,
            rvq: module("rvq")?.function(c"rvq")?,
            conv_wide: conv.function(c"conv_wide")?,
            conv_narrow: conv.function(c"conv_narrow")?,
            conv_join: conv.function(c"conv_join")?,
            conv_depthwise: conv.function(c"conv_depthwise")?,
            keep: conv.function(c"keep")?,
            transpose: conv.function(c"transpose")?,
            snake: snake.function(c"snake")?,
            clamp: snake.function(c"clamp")?,
        })
    }

    // ---- norm.cu ---------------------------------------------------------------------------------------------

    /// Each row of x over the root of its mean square, times weight; y may be x.
    pub fn rms_norm(&self, stream: &Stream, x: &Span<f32>, weight: &Span<f32>, eps: f32, y: &Span<f32>) -> Result<()> {
        let (width, rows) = (weight.len(), x.len() / weight.len());
        assert_eq!((x.len(), y.len()), (rows * width, rows * width));
        let a = args::RmsNorm { x: x.ptr(), weight: weight.ptr(), y: y.ptr_mut(), eps, width: width as u32 };
        // SAFETY: as the head of this file says.
        unsafe { self.rms_norm.launch(stream, Shape::new([rows as u32, 1, 1], norm_threads(width)), &a) }
    }

    /// Each row of x to mean 0 and variance 1, times weight, plus bias; in place.
    pub fn layer_norm(
        &self,
        stream: &Stream,
        x: &Span<f32>,
        weight: &Span<f32>,
        bias: &Span<f32>,
        eps: f32,
    ) -> Result<()> {
        let (width, rows) = (weight.len(), x.len() / weight.len());
        assert_eq!((x.len(), bias.len()), (rows * width, width));
        let a = args::LayerNorm { x: x.ptr_mut(), weight: weight.ptr(), bias: bias.ptr(), eps, width: width as u32 };
        // SAFETY: as the head of this file says.
        unsafe { self.layer_norm.launch(stream, Shape::new([rows as u32, 1, 1], norm_threads(width)), &a) }
    }

    /// x += scale * y, scale per column; without scale, x += y.
    pub fn add(&self, stream: &Stream, x: &Span<f32>, scale: Option<&Span<f32>>, y: &Span<f32>) -> Result<()> {
        let width = scale.map_or(1, Span::len);
        assert_eq!(x.len(), y.len());
        assert!(x.len().is_multiple_of(width));
        let a =
            args::Add { x: x.ptr_mut(), scale: address(scale), y: y.ptr(), count: x.len() as u32, width: width as u32 };
        // SAFETY: as the head of this file says.
        unsafe { self.add.launch(stream, over(x.len()), &a) }
    }

    // ---- linear.cu -------------------------------------------------------------------------------------------

    /// y[t] = weight x[t] (+ bias), for any number of rows: eight at a time read the weight once.
    pub fn linear(
        &self,
        stream: &Stream,
        weight: &Matrix,
        bias: Option<&Span<f32>>,
        x: &Span<f32>,
        y: &Span<f32>,
    ) -> Result<()> {
        let (outputs, inputs) = (weight.rows, weight.width);
        let rows = x.len() / inputs;
        assert_eq!((x.len(), y.len()), (rows * inputs, rows * outputs));
        assert!(bias.is_none_or(|bias| bias.len() == outputs));
        assert!([weight.numbers.ptr() as usize, x.ptr() as usize].iter().all(|at| at % 16 == 0));
        // Rows of a pass and outputs of a warp, as the kernel's name has them.
        let (which, together, each) = match rows {
            0 | 1 => (0, 1, 1),
            2 => (1, 2, 1),
            3 | 4 => (2, 4, 2),
            _ => (3, args::LINEAR_ROWS as usize, 2),
        };
        let warps = args::LINEAR_WARPS as usize;
        let grid = [outputs.div_ceil(warps * each) as u32, rows.div_ceil(together) as u32, 1];
        let a = args::Linear {
            weight: weight.numbers.ptr().cast(),
            bias: address(bias),
            x: x.ptr(),
            y: y.ptr_mut(),
            inputs: inputs as u32,
            outputs: outputs as u32,
            rows: rows as u32,
        };
        let function = &self.linear[weight.stored() as usize][which];
        // SAFETY: as the head of this file says.
        unsafe { function.launch(stream, Shape::new(grid, 32 * warps as u32), &a) }
    }

    /// gate = silu(gate) * up.
    pub fn silu_mul(&self, stream: &Stream, gate: &Span<f32>, up: &Span<f32>) -> Result<()> {
        assert_eq!(gate.len(), up.len());
        self.activate(&self.silu_mul, stream, gate, Some(up))
    }

    /// x = silu(x).
    pub fn silu(&self, stream: &Stream, x: &Span<f32>) -> Result<()> {
        self.activate(&self.silu, stream, x, None)
    }

    /// x = GELU(x), exact (erf).
    pub fn gelu(&self, stream: &Stream, x: &Span<f32>) -> Result<()> {
        self.activate(&self.gelu, stream, x, None)
    }

    fn activate(&self, function: &Function, stream: &Stream, x: &Span<f32>, y: Option<&Span<f32>>) -> Result<()> {
        let a = args::Activate { x: x.ptr_mut(), y: address(y), count: x.len() as u32 };
        // SAFETY: as the head of this file says.
        unsafe { function.launch(stream, over(x.len()), &a) }
    }

    // ---- attention.cu ----------------------------------------------------------------------------------------

    /// Norms the heads of q (in place) and k, turns them by their positions (`turns` of the reference, a row a position), and
    /// puts k and v behind what keys and values hold. The first row stands at `position`.
    #[allow(clippy::too_many_arguments)] // one launch, one struct; a Rust struct for it would be written twice
    pub fn append(
        &self,
        stream: &Stream,
        shape: &Attention,
        norm: Option<QkNorm>,
        turns: &Span<f32>,
        position: &Span<u32>,
        q: &Span<f32>,
        (k, v): (&Span<f32>, &Span<f32>),
        (keys, values): (&Span<f32>, &Span<f32>),
    ) -> Result<()> {
        let (q_width, kv_width) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        let rows = q.len() / q_width;
        assert_eq!([q.len(), k.len(), v.len()], [rows * q_width, rows * kv_width, rows * kv_width]);
        assert_eq!([keys.len(), values.len()], [shape.capacity * kv_width; 2]);
        assert!(rows <= shape.capacity, "two rows of one launch would lie at the same place");
        assert!(shape.head_dim.is_multiple_of(2) && turns.len().is_multiple_of(shape.head_dim) && position.len() == 1);
        assert!(norm.as_ref().is_none_or(|n| [n.q.len(), n.k.len()] == [shape.head_dim; 2]));
        let a = args::Append {
            q: q.ptr_mut(),
            k: k.ptr(),
            v: v.ptr(),
            q_norm: address(norm.as_ref().map(|n| n.q)),
            k_norm: address(norm.as_ref().map(|n| n.k)),
            turns: turns.ptr(),
            position: position.ptr(),
            keys: keys.ptr_mut(),
            values: values.ptr_mut(),
            eps: norm.as_ref().map_or(0.0, |n| n.eps),
            rows: rows as u32,
            heads: shape.heads as u32,
            kv_heads: shape.kv_heads as u32,
            head_dim: shape.head_dim as u32,
            capacity: shape.capacity as u32,
        };
        let warps = rows * (shape.heads + 2 * shape.kv_heads);
        // SAFETY: as the head of this file says.
        unsafe { self.append.launch(stream, Shape::new([warps.div_ceil(4) as u32, 1, 1], 128), &a) }
    }

    /// Causal attention of the newest rows, the first of which stands at `position` and is in keys and values already.
    /// `parts` is scratch, as `Attention::parts_len` says.
    #[allow(clippy::too_many_arguments)] // as `append`
    pub fn attention(
        &self,
        stream: &Stream,
        shape: &Attention,
        position: &Span<u32>,
        q: &Span<f32>,
        (keys, values): (&Span<f32>, &Span<f32>),
        parts: &Span<f32>,
        y: &Span<f32>,
    ) -> Result<()> {
        let (q_width, kv_width) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        let rows = q.len() / q_width;
        assert_eq!([q.len(), y.len()], [rows * q_width; 2]);
        assert_eq!([keys.len(), values.len()], [shape.capacity * kv_width; 2]);
        assert!(shape.heads.is_multiple_of(shape.kv_heads) && position.len() == 1);
        assert!(shape.span <= args::ATTENTION_SPAN_MAX as usize && shape.head_dim <= args::HEAD_DIM_MAX as usize);
        assert!(
            shape.window.is_none_or(|window| shape.capacity >= window + rows - 1),
            "what the first row sees is there"
        );
        assert!(parts.len() >= shape.parts_len(rows));
        let (spans, heads) = (shape.spans(), shape.heads as u32);
        let a = args::Attention {
            q: q.ptr(),
            keys: keys.ptr(),
            values: values.ptr(),
            position: position.ptr(),
            y: y.ptr_mut(),
            parts: if spans > 1 { parts.ptr_mut() } else { std::ptr::null_mut() },
            heads,
            kv_heads: shape.kv_heads as u32,
            head_dim: shape.head_dim as u32,
            window: shape.window.unwrap_or(0) as u32,
            capacity: shape.capacity as u32,
            span: shape.span as u32,
            spans: spans as u32,
        };
        let grid = Shape::new([heads, rows as u32, spans as u32], args::ATTENTION_THREADS);
        // SAFETY: as the head of this file says.
        unsafe { self.attention.launch(stream, grid, &a) }?;
        if spans == 1 {
            return Ok(());
        }
        let grid = Shape::new([heads, rows as u32, 1], shape.head_dim.next_multiple_of(32) as u32);
        // SAFETY: as the head of this file says.
        unsafe { self.attention_join.launch(stream, grid, &a) }
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
        let (width, frames) = (tables[0].width, codes.len() / tables.len());
        assert!(tables.len() <= args::ROW_GROUPS as usize && tables.iter().all(|table| table.width == width));
        assert_eq!((codes.len(), y.len()), (frames * tables.len(), frames * width));
        assert!(vector.is_none_or(|vector| vector.len() == y.len()));
        let mut a = args::Embed {
            tables: [std::ptr::null(); args::ROW_GROUPS as usize],
            stored: [0; args::ROW_GROUPS as usize],
            codes: codes.ptr(),
            vector: address(vector),
            y: y.ptr_mut(),
            groups: tables.len() as u32,
            width: width as u32,
        };
        for (i, table) in tables.iter().enumerate() {
            (a.tables[i], a.stored[i]) = (table.numbers.ptr().cast(), table.stored());
        }
        let shape = Shape { grid: [width.div_ceil(256) as u32, frames as u32, 1], ..over(width) };
        // SAFETY: as the head of this file says.
        unsafe { self.embed.launch(stream, shape, &a) }
    }

    // ---- sample.cu -------------------------------------------------------------------------------------------

    /// Chooses a code from scores. `seen` marks what the penalty is for, and the choice is marked in it; `frame` is how many
    /// were chosen before in group 0.
    #[allow(clippy::too_many_arguments)] // as `append`
    pub fn sample(
        &self,
        stream: &Stream,
        choosing: &Choosing,
        uniform: &Uniform,
        frame: &Span<u32>,
        scores: &Span<f32>,
        seen: Option<&Span<u8>>,
        chosen: &Span<u32>,
    ) -> Result<()> {
        let count = scores.len();
        assert!(count <= args::SAMPLE_SCORES_MAX as usize && frame.len() == 1 && chosen.len() == 1);
        assert!(seen.is_none_or(|seen| seen.len() == count));
        let (uniform, seed, group) = match uniform {
            Uniform::Seed { seed, group } => (std::ptr::null(), *seed, *group as u32),
            Uniform::Given(u) => (u.ptr(), 0, 0),
        };
        let (suppressed_from, eos) = choosing.suppressed.unwrap_or((count, 0));
        let a = args::Sample {
            scores: scores.ptr(),
            seen: seen.map_or(std::ptr::null_mut(), Span::ptr_mut),
            frame: frame.ptr(),
            uniform,
            chosen: chosen.ptr_mut(),
            seed,
            repetition_penalty: choosing.repetition_penalty,
            temperature: choosing.temperature,
            top_p: choosing.top_p,
            top_k: choosing.top_k as u32,
            do_sample: choosing.do_sample.into(),
            count: count as u32,
            group,
            suppressed_from: suppressed_from as u32,
            eos: eos as u32,
        };
        // SAFETY: as the head of this file says.
        unsafe { self.sample.launch(stream, Shape::new([1, 1, 1], args::SAMPLE_THREADS), &a) }
    }

    // ---- rvq.cu ----------------------------------------------------------------------------------------------

    /// For each frame its codebook rows over their usage: group 0's into `first`, the sum of the others' into `rest`. A book is
    /// its embedding sums and its cluster usage; codes [frames][16].
    pub fn rvq(
        &self,
        stream: &Stream,
        books: &[(Matrix, Span<f32>)],
        codes: &Span<u32>,
        first: &Span<f32>,
        rest: &Span<f32>,
    ) -> Result<()> {
        const GROUPS: usize = args::ROW_GROUPS as usize;
        let (width, frames) = (books[0].0.width, codes.len() / GROUPS);
        assert_eq!((books.len(), codes.len()), (GROUPS, frames * GROUPS));
        assert_eq!([first.len(), rest.len()], [frames * width; 2]);
        assert!(books.iter().all(|(sums, usage)| sums.width == width && usage.len() == sums.rows));
        let mut a = args::Rvq {
            sums: [std::ptr::null(); GROUPS],
            usages: [std::ptr::null(); GROUPS],
            stored: [0; GROUPS],
            codes: codes.ptr(),
            first: first.ptr_mut(),
            rest: rest.ptr_mut(),
            width: width as u32,
        };
        for (i, (sums, usage)) in books.iter().enumerate() {
            (a.sums[i], a.usages[i], a.stored[i]) = (sums.numbers.ptr().cast(), usage.ptr(), sums.stored());
        }
        let shape = Shape { grid: [width.div_ceil(256) as u32, frames as u32, 1], ..over(width) };
        // SAFETY: as the head of this file says.
        unsafe { self.rvq.launch(stream, shape, &a) }
    }

    // ---- conv.cu ---------------------------------------------------------------------------------------------

    /// Causal convolution of x [inputs][len] behind its tail, plain or transposed, as the weight was uploaded:
    /// y [outputs][len * rate]. `parts` is scratch, as `Conv::parts_len` says.
    #[allow(clippy::too_many_arguments)] // as `append`
    pub fn conv(
        &self,
        stream: &Stream,
        conv: &Conv,
        dilation: usize,
        (tail, x): (&Span<f32>, &Span<f32>),
        parts: &Span<f32>,
        y: &Span<f32>,
    ) -> Result<()> {
        let (len, past) = (x.len() / conv.inputs, (conv.taps - 1) * dilation);
        assert_eq!([x.len(), tail.len(), y.len()], [conv.inputs * len, conv.inputs * past, conv.outputs * len]);
        assert!(conv.taps <= args::CONV_TAPS_MAX as usize && past <= args::CONV_PAST_MAX as usize);
        assert!(parts.len() >= conv.parts_len(len));
        let (chain, chains) = (conv.chain(), conv.chains());
        let a = args::Conv {
            weight: conv.weight.ptr(),
            bias: conv.bias.ptr(),
            tail: tail.ptr(),
            x: x.ptr(),
            y: y.ptr_mut(),
            parts: if chains > 1 { parts.ptr_mut() } else { std::ptr::null_mut() },
            inputs: conv.inputs as u32,
            outputs: conv.outputs as u32,
            taps: conv.taps as u32,
            dilation: dilation as u32,
            rate: conv.rate as u32,
            past: past as u32,
            len: len as u32,
            chain: chain as u32,
            chains: chains as u32,
        };
        // Few columns would leave a wide block's threads idle.
        let (function, columns, outputs) = match len > 2 * args::CONV_NARROW_COLUMNS as usize {
            true => (&self.conv_wide, args::CONV_WIDE_COLUMNS, args::CONV_WIDE_OUTPUTS),
            false => (&self.conv_narrow, args::CONV_NARROW_COLUMNS, args::CONV_NARROW_OUTPUTS),
        };
        let grid = [a.len.div_ceil(columns), a.outputs.div_ceil(outputs), a.chains];
        // SAFETY: as the head of this file says.
        unsafe { function.launch(stream, Shape::new(grid, 128), &a) }?;
        if chains == 1 {
            return Ok(());
        }
        // SAFETY: as the head of this file says.
        unsafe { self.conv_join.launch(stream, over(conv.outputs * len), &a) }
    }

    /// Causal convolution of each channel with its own taps: weight [channels, taps].
    pub fn conv_depthwise(
        &self,
        stream: &Stream,
        weight: &Span<f32>,
        bias: &Span<f32>,
        (tail, x): (&Span<f32>, &Span<f32>),
        y: &Span<f32>,
    ) -> Result<()> {
        let channels = bias.len();
        let (taps, len) = (weight.len() / channels, x.len() / channels);
        assert_eq!([weight.len(), tail.len()], [channels * taps, channels * (taps - 1)]);
        assert_eq!([x.len(), y.len()], [channels * len; 2]);
        let a = args::Conv {
            weight: weight.ptr(),
            bias: bias.ptr(),
            tail: tail.ptr(),
            x: x.ptr(),
            y: y.ptr_mut(),
            parts: std::ptr::null_mut(),
            inputs: channels as u32,
            outputs: channels as u32,
            taps: taps as u32,
            dilation: 1,
            rate: 1,
            past: taps as u32 - 1,
            len: len as u32,
            chain: 1,
            chains: 1,
        };
        // SAFETY: as the head of this file says.
        unsafe { self.conv_depthwise.launch(stream, over(channels * len), &a) }
    }

    /// Keeps the newest columns of what the tail [channels][past] and x hold for the next call.
    pub fn keep(&self, stream: &Stream, channels: usize, tail: &Span<f32>, x: &Span<f32>) -> Result<()> {
        let (past, len) = (tail.len() / channels, x.len() / channels);
        assert_eq!([tail.len(), x.len()], [channels * past, channels * len]);
        assert!(past <= args::KEEP_COLUMNS_MAX as usize);
        let a = args::Keep { tail: tail.ptr_mut(), x: x.ptr(), past: past as u32, len: len as u32 };
        // SAFETY: as the head of this file says.
        unsafe { self.keep.launch(stream, Shape::new([channels as u32, 1, 1], args::KEEP_COLUMNS_MAX), &a) }
    }

    /// x [rows][columns] to y [columns][rows].
    pub fn transpose(&self, stream: &Stream, x: &Span<f32>, columns: usize, y: &Span<f32>) -> Result<()> {
        let rows = x.len() / columns;
        assert_eq!([x.len(), y.len()], [rows * columns; 2]);
        let a = args::Transpose { x: x.ptr(), y: y.ptr_mut(), rows: rows as u32, columns: columns as u32 };
        let grid = [columns.div_ceil(32) as u32, rows.div_ceil(32) as u32, 1];
        // SAFETY: as the head of this file says.
        unsafe { self.transpose.launch(stream, Shape::new(grid, 256), &a) }
    }

    // ---- snake.cu --------------------------------------------------------------------------------------------

    /// y = x + inv_beta * sin(alpha x)^2, [channel][len]; y may be x.
    pub fn snake(
        &self,
        stream: &Stream,
        (alpha, inv_beta): (&Span<f32>, &Span<f32>),
        x: &Span<f32>,
        y: &Span<f32>,
    ) -> Result<()> {
        let (channels, len) = (alpha.len(), x.len() / alpha.len());
        assert_eq!([inv_beta.len(), x.len(), y.len()], [channels, channels * len, channels * len]);
        let a = args::Snake {
            x: x.ptr(),
            alpha: alpha.ptr(),
            inv_beta: inv_beta.ptr(),
            y: y.ptr_mut(),
            count: x.len() as u32,
            len: len as u32,
        };
        // SAFETY: as the head of this file says.
        unsafe { self.snake.launch(stream, over(x.len()), &a) }
    }

    /// x into -1 .. 1; NaN stays NaN, so that it is found.
    pub fn clamp(&self, stream: &Stream, x: &Span<f32>) -> Result<()> {
        self.activate(&self.clamp, stream, x, None)
    }
}
