//! A list of operations that runs as one launch (cuda/program.cu): a frame's talker, or its predictor. What an operation is made
//! of is checked as for the launch of its name.

use super::args;
use super::kernels::{
    Attention, Finish, Kernels, Norm, QkNorm, SpeakerMemory, Store, append_args, attention_args, embed_args,
    linear_args, rms_norm_args, sample_args,
};
use super::upload::Matrix;
use crate::device::KvNumbers;
use crate::driver::{Buffer, Context, Number, Span, Stream};
use crate::error::{Error, Result};
use std::sync::Arc;

/// Looks at the meeting before a block gives up: some ten seconds.
const PATIENCE: u32 = 20_000_000;

// SAFETY, of each: addresses and numbers; what is copied to the device is what lies in memory, padding too, and nobody reads it
// back.
#[allow(unsafe_code)] // a promise about plain structs
unsafe impl Number for args::Op {}
#[allow(unsafe_code)] // as above
unsafe impl Number for args::Ahead {}

/// Where an operation has its rows from.
#[derive(Clone, Copy)]
pub(crate) enum From {
    /// From x.
    Rows,
    /// The operations before it left them in every block; they lie at x as well.
    Staged,
    /// From the newest attention, whose parts it joins; x is where they would lie.
    Parts,
}

/// What a program does, as it is written.
pub(crate) struct List {
    /// That a launch has.
    blocks: u32,
    ops: Vec<args::Op>,
    ahead: Vec<args::Ahead>,
    stored: u32,
    kv: KvNumbers,
    waits: bool,
    parts: args::Attention,
    problem: Option<String>,
}

impl List {
    /// `stored`: how all its weights are; `kv`: all its keys and values.
    pub fn new(context: &Context, stored: u32, kv: KvNumbers) -> List {
        let blocks = context.gpu.multiprocessors;
        // SAFETY: addresses and numbers, of which all zeros are a value.
        #[allow(unsafe_code)] // a null struct
        let parts = unsafe { std::mem::zeroed() };
        List { blocks, ops: Vec::new(), ahead: Vec::new(), stored, kv, waits: false, parts, problem: None }
    }

    /// What comes next needs what all blocks have made so far.
    pub fn wait(&mut self) {
        self.waits = true;
    }

    fn push(&mut self, kind: u32, op: args::Op__bindgen_ty_1) {
        self.ops.push(args::Op { kind, waits: std::mem::take(&mut self.waits).into(), unused: [0; 2], as_: op });
    }

    fn needs(&mut self, floats: usize, what: &str) {
        if floats > args::PROGRAM_WORK as usize {
            self.problem = Some(format!("{what} of {floats} numbers; the kernels take up to {}", args::PROGRAM_WORK));
        }
    }

    /// As `Kernels::linear`, of one row or two.
    #[allow(clippy::too_many_arguments)] // as that
    pub fn linear(
        &mut self,
        weight: &Matrix,
        bias: Option<&Span<f32>>,
        norm: Option<Norm>,
        finish: Finish,
        from: From,
        x: &Span<f32>,
        y: &Span<f32>,
    ) {
        let linear = linear_args(weight, bias, norm, finish, x, y);
        assert!((1..=args::PROGRAM_ROWS).contains(&linear.rows));
        if weight.stored() != self.stored {
            self.problem = Some("weights that are not all stored alike".to_owned());
        }
        let in_pairs = linear.finish == args::FINISH_GATE;
        let units = if in_pairs { linear.outputs / 2 } else { linear.outputs };
        let (each, more) = (units / self.blocks, units % self.blocks);
        // Rows that do not begin at 16 bytes are not loaded ahead.
        let ahead = linear.inputs.is_multiple_of(8);
        if ahead {
            let (weight, inputs) = (linear.weight, linear.inputs);
            self.ahead.push(args::Ahead { weight, inputs, in_pairs: in_pairs.into(), each, more, unused: 0 });
        }
        let chain = if self.stored == args::STORED_F32 { 512 } else { 1024 };
        let chunks = if ahead { linear.inputs.div_ceil(chain) } else { 1 };
        let rows = (each + 1) << u32::from(in_pairs);
        let sums = linear.rows * rows * chunks * 32;
        self.needs(x.len() * if norm.is_some() { 2 } else { 1 } + sums as usize, "rows and sums");
        assert!(!matches!(from, From::Parts) || linear.rows == 1 && self.parts.spans <= 32);
        let from = match from {
            From::Rows => args::FROM_ROWS,
            From::Staged => args::FROM_STAGED,
            From::Parts => args::FROM_PARTS,
        };
        let linear = args::Linked { linear, parts: self.parts, from, each, more };
        self.push(args::OP_LINEAR, args::Op__bindgen_ty_1 { linear });
    }

    /// As `Kernels::append`, then `Kernels::attention` without the join where there is more than one span.
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
        assert!(store.numbers == self.kv);
        let append = append_args(shape, norm, turns, position, qkv, store);
        let attention = attention_args(shape, position, 0, qkv, store, parts, y);
        assert!(append.rows <= args::PROGRAM_ROWS);
        self.parts = attention;
        let attend = args::Attend { append, attention };
        self.push(args::OP_ATTEND, args::Op__bindgen_ty_1 { attend });
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
        self.needs((row as usize + 1) * y.len(), "rows");
        self.push(args::OP_EMBED, args::Op__bindgen_ty_1 { embed: args::Row { embed, row } });
    }

    /// As `Kernels::rms_norm`, of one row, which stays in every block.
    pub fn norm(&mut self, x: &Span<f32>, weight: &Span<f32>, eps: f32, y: &Span<f32>) {
        let (norm, rows) = rms_norm_args(x, weight, eps, y);
        assert_eq!(rows, 1);
        self.needs(y.len(), "rows");
        self.push(args::OP_NORM, args::Op__bindgen_ty_1 { norm });
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
        self.push(args::OP_SAMPLE, args::Op__bindgen_ty_1 { sample });
    }
}

/// What the blocks of programs meet at, one after another in one stream.
pub(crate) struct Meeting(Span<u32>);

impl Meeting {
    pub fn new(context: &Arc<Context>) -> Result<Meeting> {
        Ok(Meeting(Span::new(context, size_of::<args::Meeting>() / size_of::<u32>())?))
    }

    /// Begins anew, counting from here; also behind a launch that got stuck.
    pub fn clear(&self, stream: &Stream, count: u32) -> Result<()> {
        self.0.write(stream, &[count, count, 0])
    }
}

/// A list on the device.
pub(crate) struct Program {
    args: args::Program,
    stored: u32,
    kv: KvNumbers,
    _lists: (Span<args::Op>, Span<args::Ahead>),
    /// What the operations touch, so that it outlives this.
    _touched: Vec<Buffer>,
}

// SAFETY: addresses of the device, whose memory is held beside them.
#[allow(unsafe_code)] // a promise about addresses
unsafe impl Send for Program {}

impl Program {
    /// `touched` are the blocks that it reads and writes.
    pub fn new(
        stream: &Stream,
        list: List,
        speaker: &SpeakerMemory,
        meeting: &Meeting,
        touched: Vec<Buffer>,
    ) -> Result<Program> {
        if let Some(problem) = list.problem {
            return Err(Error::compute("cuda", format!("this model has {problem}")));
        }
        let (op_count, ahead_count) = (list.ops.len() as u32, list.ahead.len() as u32);
        let (ops, ahead) = (Span::from(stream, &list.ops)?, Span::from(stream, &list.ahead)?);
        let args = args::Program {
            ops: ops.ptr(),
            ahead: ahead.ptr(),
            meeting: meeting.0.ptr_mut().cast(),
            speaker: speaker.whole().ptr_mut(),
            op_count,
            ahead_count,
            patience: PATIENCE,
        };
        let touched = [touched, vec![meeting.0.buffer().clone(), speaker.buffer().clone()]].concat();
        Ok(Program { args, stored: list.stored, kv: list.kv, _lists: (ops, ahead), _touched: touched })
    }

    /// Looks at the meeting before a block gives up.
    #[cfg(test)]
    pub fn give_up_after(&mut self, looks: u32) {
        self.args.patience = looks;
    }

    pub fn launch(&self, kernels: &Kernels, stream: &Stream) -> Result<()> {
        kernels.program(stream, self.stored, self.kv, &self.args)
    }
}
