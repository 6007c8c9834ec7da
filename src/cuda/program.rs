//! A list of operations that runs as one launch (cuda/program.cu): a frame's talker, or its predictor. What an operation is made
//! of is checked as for the launch of its name. Where it has its numbers from the list finds out itself: what an earlier
//! operation of it made is in the exchange, what the one before left in every block is staged, all else is in memory.

use super::args;
use super::kernels::{
    Attention, Finish, Kernels, Norm, QkNorm, SpeakerMemory, Store, append_args, attention_args, embed_args,
    linear_args, rms_norm_args, sample_args,
};
use super::upload::Matrix;
use crate::device::KvNumbers;
use crate::driver::{Buffer, Context, Number, Span, Stream};
use crate::error::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// Looks at a number before a block gives up: some ten seconds.
const PATIENCE: u32 = 20_000_000;

// SAFETY, of each: addresses and numbers; what is copied to the device is what lies in memory, padding too, and nobody reads it
// back.
#[allow(unsafe_code)] // a promise about plain structs
unsafe impl Number for args::Op {}
#[allow(unsafe_code)] // as above
unsafe impl Number for args::Ahead {}

/// What a program does, as it is written.
pub(crate) struct List {
    /// That a launch has.
    blocks: u32,
    ops: Vec<args::Op>,
    ahead: Vec<args::Ahead>,
    stored: u32,
    kv: KvNumbers,
    /// Numbers of the exchange.
    len: u32,
    /// The newest of what was made, by where the launch of the same name would have put it: its place in the exchange, or none
    /// where each block has made its own.
    made: Vec<(Range<usize>, Option<u32>)>,
    /// What the operations before left in every block, row by row.
    staged: Vec<Range<usize>>,
    /// Of heads that a block attends for together.
    groups: u32,
    problem: Option<String>,
}

/// Addresses.
fn range(span: &Span<f32>) -> Range<usize> {
    let start = span.ptr() as usize;
    start..start + span.len() * size_of::<f32>()
}

impl List {
    /// `stored`: how all its weights are; `kv`: all its keys and values.
    pub fn new(context: &Context, stored: u32, kv: KvNumbers) -> List {
        List::of_blocks(context.gpu.multiprocessors, stored, kv)
    }

    /// As a GPU of so many multiprocessors has it.
    pub fn of_blocks(blocks: u32, stored: u32, kv: KvNumbers) -> List {
        List {
            blocks,
            ops: Vec::new(),
            ahead: Vec::new(),
            stored,
            kv,
            len: 0,
            made: Vec::new(),
            staged: Vec::new(),
            groups: 1,
            problem: None,
        }
    }

    fn takes(&mut self, well: bool, what: impl FnOnce() -> String) {
        if !well && self.problem.is_none() {
            self.problem = Some(what());
        }
    }

    fn at_most(&mut self, found: u32, most: u32, what: &str) {
        self.takes(found <= most, || format!("{found} {what}; the kernels take up to {most}"));
    }

    fn multiple_of(&mut self, found: u32, of: u32, what: &str) {
        self.takes(found.is_multiple_of(of), || format!("{found} {what}; the kernels take multiples of {of}"));
    }

    /// Where numbers are that lie at `x` for a launch: one of FROM_*, and the place in the exchange.
    fn find(&self, x: &Span<f32>) -> (u32, u32) {
        let x = range(x);
        if self.staged.first().is_some_and(|first| first.start == x.start)
            && self.staged.last().is_some_and(|last| last.end == x.end)
        {
            return (args::FROM_STAGED, 0);
        }
        match self.made.iter().find(|(made, _)| made.start < x.end && x.start < made.end) {
            Some((made, Some(at))) if made.start <= x.start && x.end <= made.end => {
                (args::FROM_OTHERS, at + ((x.start - made.start) / size_of::<f32>()) as u32)
            }
            // In memory it may be late.
            Some(_) => panic!("what a list makes is read from one place"),
            None => (args::FROM_MEMORY, 0),
        }
    }

    /// Room in the exchange.
    fn room(&mut self, numbers: u32) -> u32 {
        let at = self.len;
        self.len += numbers.next_multiple_of(4);
        at
    }

    /// From here on y is what lies there; or nowhere that all blocks know.
    fn now(&mut self, y: &Span<f32>, at: Option<u32>) {
        let y = range(y);
        self.made.retain(|(made, _)| made.end <= y.start || y.end <= made.start);
        self.made.push((y, at));
    }

    /// What every block has of so many, and how many blocks have one more.
    fn share(&self, units: u32) -> (u32, u32) {
        (units / self.blocks, units % self.blocks)
    }

    /// `units` are shared out over the blocks.
    fn push(&mut self, kind: u32, (from, r#in): (u32, u32), out: u32, units: u32, op: args::Op__bindgen_ty_1) {
        let (each, more) = self.share(units);
        self.ops.push(args::Op { kind, from, in_: r#in, out, each, more, row: 0, unused: 0, as_: op });
        if kind != args::OP_EMBED {
            self.staged.clear();
        }
    }

    /// As `Kernels::linear`, of one row or two.
    pub fn linear(
        &mut self,
        weight: &Matrix,
        bias: Option<&Span<f32>>,
        norm: Option<Norm>,
        finish: Finish,
        x: &Span<f32>,
        y: &Span<f32>,
    ) {
        let linear = linear_args(weight, bias, norm, finish, x, y);
        assert!((1..=args::PROGRAM_ROWS).contains(&linear.rows));
        self.takes(weight.stored() == self.stored, || "weights that are not all stored alike".to_owned());
        self.multiple_of(linear.inputs, 8, "inputs of a weight");
        let in_pairs = linear.finish == args::FINISH_GATE;
        let units = if in_pairs { linear.outputs / 2 } else { linear.outputs };
        self.multiple_of(units, 4, "outputs of a weight");
        let most = units.div_ceil(self.blocks);
        self.at_most(most, args::PROGRAM_THREADS, "outputs of a block");
        // As `Rows` of program.cu lays them.
        let bytes = match self.stored {
            args::STORED_BF16 => 6 * linear.inputs.next_multiple_of(128) + 128,
            args::STORED_F16 => 4 * linear.inputs.next_multiple_of(128),
            _ => 4 * linear.inputs.next_multiple_of(64),
        };
        self.at_most(linear.rows * bytes, 4 * args::PROGRAM_X, "bytes of a weight's inputs");
        let (from, out) = (self.find(x), self.room(linear.rows * units));
        let (each, more) = self.share(units);
        let in_pairs = in_pairs.into();
        self.ahead.push(args::Ahead { weight: linear.weight, inputs: linear.inputs, in_pairs, each, more });
        self.push(args::OP_LINEAR, from, out, units, args::Op__bindgen_ty_1 { linear });
        self.now(y, Some(out));
    }

    /// As `Kernels::append`, then `Kernels::attention`. The keys and values lie at their places; the rest of qkv stays as it is.
    #[allow(clippy::too_many_arguments)] // as those
    pub fn attend(
        &mut self,
        shape: &Attention,
        norm: Option<QkNorm>,
        turns: &Span<f32>,
        position: &Span<u32>,
        qkv: &Span<f32>,
        store: &Store,
        parts: &Span<f32>,
        y: &Span<f32>,
    ) {
        assert!(store.numbers == self.kv && shape.window.is_none());
        let append = append_args(shape, norm, turns, position, qkv, store);
        let attention = attention_args(shape, position, 0, qkv, store, parts, y);
        let (heads, dim, rows, spans) = (attention.heads, attention.head_dim, append.rows, attention.spans);
        assert!(rows <= args::PROGRAM_ROWS && (spans == 1 || spans == args::PROGRAM_SPANS && rows == 1));
        self.multiple_of(dim, 8, "numbers of a head");
        self.at_most(dim, args::PROGRAM_HEAD_DIM_MAX, "numbers of a head");
        // Where there are many spans, two heads of a key and value head share a block, else each has its own.
        let two = spans > 1 && (heads / attention.kv_heads).is_multiple_of(2);
        let groups = if two { heads / 2 } else { heads };
        assert!(self.groups == 1 || self.groups == groups, "all attentions of a list are alike");
        self.groups = groups;
        let from = self.find(qkv);
        assert!(from.0 == args::FROM_OTHERS, "an operation made them");
        let (whole, each) = (rows * heads * dim, heads * spans * (dim + 2));
        let out = self.room(if spans == 1 { whole } else { each });
        self.push(args::OP_ATTEND, from, out, 0, args::Op__bindgen_ty_1 { attend: args::Attend { append, attention } });
        if spans == 1 {
            return self.now(y, Some(out));
        }
        let joined = self.room(whole);
        let from = (args::FROM_OTHERS, out);
        self.push(args::OP_JOIN, from, joined, whole, args::Op__bindgen_ty_1 { join: attention });
        self.now(y, Some(joined));
    }

    /// A row that stays in every block, as row `row` there, until the operation after the next rows.
    fn stage(&mut self, y: &Span<f32>, row: u32) {
        assert_eq!(row as usize, self.staged.len());
        assert!(self.staged.last().is_none_or(|last| last.end == range(y).start));
        self.multiple_of(y.len() as u32, 4, "numbers of a row");
        self.at_most((row + 1) * y.len() as u32, args::PROGRAM_MERGE, "numbers of rows");
        self.now(y, None);
        self.staged.push(range(y));
    }

    /// As `Kernels::embed`, of one row, which stays in every block as row `row`. Without codes it is the newest choice's.
    pub fn embed(
        &mut self,
        tables: &[&Matrix],
        codes: Option<&Span<u32>>,
        vector: Option<&Span<f32>>,
        y: &Span<f32>,
        row: u32,
    ) {
        let (embed, rows) = embed_args(tables, codes, vector, y);
        assert!(rows == 1 && row < args::PROGRAM_ROWS);
        let from = vector.map_or((args::FROM_MEMORY, 0), |vector| self.find(vector));
        assert!(from.0 != args::FROM_STAGED);
        self.push(args::OP_EMBED, from, 0, y.len() as u32, args::Op__bindgen_ty_1 { embed });
        if let Some(op) = self.ops.last_mut() {
            op.row = row;
        }
        self.stage(y, row);
    }

    /// As `Kernels::rms_norm`, of one row, which stays in every block.
    pub fn norm(&mut self, x: &Span<f32>, weight: &Span<f32>, eps: f32, y: &Span<f32>) {
        let (norm, rows) = rms_norm_args(x, weight, eps, y);
        assert_eq!(rows, 1);
        let from = self.find(x);
        self.push(args::OP_NORM, from, 0, y.len() as u32, args::Op__bindgen_ty_1 { norm });
        self.stage(y, 0);
    }

    /// As `Kernels::sample`. That group 0's code was seen is noted behind group 1's choice.
    pub fn sample(
        &mut self,
        speaker: &SpeakerMemory,
        group: usize,
        suppressed: Option<(usize, usize)>,
        scores: &Span<f32>,
    ) {
        let sample = sample_args(speaker, group, suppressed, scores);
        let from = self.find(scores);
        self.push(args::OP_SAMPLE, from, 0, 0, args::Op__bindgen_ty_1 { sample });
    }
}

/// A list on the device.
pub(crate) struct Program {
    args: args::Program,
    blocks: u32,
    stored: u32,
    kv: KvNumbers,
    turn: Span<u32>,
    exchange: Span<f32>, // [2][exchange_len]
    _lists: (Span<args::Op>, Span<args::Ahead>),
    /// What the operations touch, so that it outlives this.
    _touched: Vec<Buffer>,
}

// SAFETY: addresses of the device, whose memory is held beside them.
#[allow(unsafe_code)] // a promise about addresses
unsafe impl Send for Program {}

impl Program {
    /// `touched` are the blocks that it reads and writes.
    pub fn new(stream: &Stream, list: List, speaker: &SpeakerMemory, touched: Vec<Buffer>) -> Result<Program> {
        if let Some(problem) = list.problem {
            return Err(Error::compute("cuda", format!("this model has {problem}")));
        }
        let context: &Arc<Context> = stream.context();
        let (op_count, ahead_count) = (list.ops.len() as u32, list.ahead.len() as u32);
        let (ops, ahead) = (Span::from(stream, &list.ops)?, Span::from(stream, &list.ahead)?);
        let turn: Span<u32> = Span::new(context, size_of::<args::Turn>() / size_of::<u32>())?;
        let exchange: Span<f32> = Span::new(context, 2 * list.len as usize)?;
        let args = args::Program {
            ops: ops.ptr(),
            ahead: ahead.ptr(),
            turn: turn.ptr_mut().cast(),
            exchange: exchange.ptr_mut(),
            speaker: speaker.whole().ptr_mut(),
            op_count,
            ahead_count,
            groups: list.groups,
            exchange_len: list.len,
            patience: PATIENCE,
        };
        let touched = [touched, vec![speaker.buffer().clone()]].concat();
        let (blocks, stored, kv) = (list.blocks, list.stored, list.kv);
        let program = Program { args, blocks, stored, kv, turn, exchange, _lists: (ops, ahead), _touched: touched };
        program.clear(stream, 0)?;
        Ok(program)
    }

    /// As if it had been launched so often and never been stuck.
    pub fn clear(&self, stream: &Stream, launches: u32) -> Result<()> {
        self.exchange.fill(stream, 0xff)?;
        self.turn.write(stream, &[launches, 0, 0])
    }

    /// Looks at a number before a block gives up.
    #[cfg(test)]
    pub fn give_up_after(&mut self, looks: u32) {
        self.args.patience = looks;
    }

    pub fn launch(&self, kernels: &Kernels, stream: &Stream) -> Result<()> {
        kernels.program(stream, self.blocks, self.stored, self.kv, &self.args)
    }
}
