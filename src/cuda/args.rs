//! What each kernel is given, made by bindgen from cuda/args.h, which says what it means: `make bindings UPDATE=1`.
#![allow(missing_docs, non_camel_case_types, non_upper_case_globals, dead_code)]
#![allow(clippy::all)]

pub const ROW_GROUPS: _bindgen_ty_1 = 16;
pub const LINEAR_WARPS: _bindgen_ty_1 = 4;
pub const LINEAR_ROWS: _bindgen_ty_1 = 8;
pub const ATTENTION_THREADS: _bindgen_ty_1 = 256;
pub const ATTENTION_SPAN_MAX: _bindgen_ty_1 = 2048;
pub const ATTENTION_SPAN_MIN: _bindgen_ty_1 = 64;
pub const HEAD_DIM_MAX: _bindgen_ty_1 = 256;
pub const SAMPLE_THREADS: _bindgen_ty_1 = 256;
pub const SAMPLE_SCORES_MAX: _bindgen_ty_1 = 4096;
pub const NO_CODE: _bindgen_ty_1 = 2147483647;
pub const FAULT_STUCK: _bindgen_ty_1 = 2147483647;
pub const PROGRAM_THREADS: _bindgen_ty_1 = 256;
pub const PROGRAM_LOADERS: _bindgen_ty_1 = 64;
pub const PROGRAM_ROWS: _bindgen_ty_1 = 2;
pub const PROGRAM_X: _bindgen_ty_1 = 9344;
pub const PROGRAM_MERGE: _bindgen_ty_1 = 2112;
pub const PROGRAM_SUMS: _bindgen_ty_1 = 3072;
pub const PROGRAM_HEAD_DIM_MAX: _bindgen_ty_1 = 128;
pub const PROGRAM_SPANS: _bindgen_ty_1 = 16;
pub const PROGRAM_SPAN_MIN: _bindgen_ty_1 = 16;
pub const KV_PAGES_MAX: _bindgen_ty_1 = 512;
pub const PAGE_POSITIONS: _bindgen_ty_1 = 64;
pub const CONV_PAST_MAX: _bindgen_ty_1 = 54;
pub const CONV_TAPS: _bindgen_ty_1 = 7;
pub const LAST_CHANNELS_MAX: _bindgen_ty_1 = 128;
pub const LAST_ROWS: _bindgen_ty_1 = 64;
pub const LAST_THREADS: _bindgen_ty_1 = 4;
pub const KEEP_TAILS_MAX: _bindgen_ty_1 = 40;
pub const KEEP_WIDTH: _bindgen_ty_1 = 64;
pub const POOL_CHANNELS: _bindgen_ty_1 = 32;
pub const NEAREST_THREADS: _bindgen_ty_1 = 512;
pub const NEAREST_WIDTH_MAX: _bindgen_ty_1 = 256;
pub type _bindgen_ty_1 = ::std::os::raw::c_uint;
pub const STORED_BF16: _bindgen_ty_2 = 0;
pub const STORED_F16: _bindgen_ty_2 = 1;
pub const STORED_F32: _bindgen_ty_2 = 2;
pub type _bindgen_ty_2 = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(Copy, Clone)]
pub struct RmsNorm {
    pub x: *const f32,
    pub weight: *const f32,
    pub y: *mut f32,
    pub eps: f32,
    pub width: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of RmsNorm"][::std::mem::size_of::<RmsNorm>() - 32usize];
    ["Alignment of RmsNorm"][::std::mem::align_of::<RmsNorm>() - 8usize];
    ["Offset of field: RmsNorm::x"][::std::mem::offset_of!(RmsNorm, x) - 0usize];
    ["Offset of field: RmsNorm::weight"][::std::mem::offset_of!(RmsNorm, weight) - 8usize];
    ["Offset of field: RmsNorm::y"][::std::mem::offset_of!(RmsNorm, y) - 16usize];
    ["Offset of field: RmsNorm::eps"][::std::mem::offset_of!(RmsNorm, eps) - 24usize];
    ["Offset of field: RmsNorm::width"][::std::mem::offset_of!(RmsNorm, width) - 28usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct LayerNorm {
    pub x: *const f32,
    pub weight: *const f32,
    pub bias: *const f32,
    pub y: *mut f32,
    pub eps: f32,
    pub width: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of LayerNorm"][::std::mem::size_of::<LayerNorm>() - 40usize];
    ["Alignment of LayerNorm"][::std::mem::align_of::<LayerNorm>() - 8usize];
    ["Offset of field: LayerNorm::x"][::std::mem::offset_of!(LayerNorm, x) - 0usize];
    ["Offset of field: LayerNorm::weight"][::std::mem::offset_of!(LayerNorm, weight) - 8usize];
    ["Offset of field: LayerNorm::bias"][::std::mem::offset_of!(LayerNorm, bias) - 16usize];
    ["Offset of field: LayerNorm::y"][::std::mem::offset_of!(LayerNorm, y) - 24usize];
    ["Offset of field: LayerNorm::eps"][::std::mem::offset_of!(LayerNorm, eps) - 32usize];
    ["Offset of field: LayerNorm::width"][::std::mem::offset_of!(LayerNorm, width) - 36usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Add {
    pub x: *mut f32,
    pub scale: *const f32,
    pub y: *const f32,
    pub count: u32,
    pub width: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Add"][::std::mem::size_of::<Add>() - 32usize];
    ["Alignment of Add"][::std::mem::align_of::<Add>() - 8usize];
    ["Offset of field: Add::x"][::std::mem::offset_of!(Add, x) - 0usize];
    ["Offset of field: Add::scale"][::std::mem::offset_of!(Add, scale) - 8usize];
    ["Offset of field: Add::y"][::std::mem::offset_of!(Add, y) - 16usize];
    ["Offset of field: Add::count"][::std::mem::offset_of!(Add, count) - 24usize];
    ["Offset of field: Add::width"][::std::mem::offset_of!(Add, width) - 28usize];
};
pub const FINISH_STORE: _bindgen_ty_3 = 0;
pub const FINISH_ADD: _bindgen_ty_3 = 1;
pub const FINISH_GATE: _bindgen_ty_3 = 2;
pub const FINISH_SILU: _bindgen_ty_3 = 3;
pub const FINISH_GELU: _bindgen_ty_3 = 4;
pub const FINISH_RELU: _bindgen_ty_3 = 5;
pub const FINISH_TANH: _bindgen_ty_3 = 6;
pub type _bindgen_ty_3 = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Snake {
    pub alpha: *const f32,
    pub inv_beta: *const f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Snake"][::std::mem::size_of::<Snake>() - 16usize];
    ["Alignment of Snake"][::std::mem::align_of::<Snake>() - 8usize];
    ["Offset of field: Snake::alpha"][::std::mem::offset_of!(Snake, alpha) - 0usize];
    ["Offset of field: Snake::inv_beta"][::std::mem::offset_of!(Snake, inv_beta) - 8usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Linear {
    pub weight: *const ::std::os::raw::c_void,
    pub bias: *const f32,
    pub scale: *const f32,
    pub x: *const f32,
    pub base: *const f32,
    pub y: *mut f32,
    pub snake: Snake,
    pub activated: *mut f32,
    pub inputs: u32,
    pub outputs: u32,
    pub rows: u32,
    pub finish: u32,
    pub norm: *const f32,
    pub eps: f32,
    pub channels: u32,
    pub dilation: u32,
    pub past: u32,
    pub tail: *const f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Linear"][::std::mem::size_of::<Linear>() - 120usize];
    ["Alignment of Linear"][::std::mem::align_of::<Linear>() - 8usize];
    ["Offset of field: Linear::weight"][::std::mem::offset_of!(Linear, weight) - 0usize];
    ["Offset of field: Linear::bias"][::std::mem::offset_of!(Linear, bias) - 8usize];
    ["Offset of field: Linear::scale"][::std::mem::offset_of!(Linear, scale) - 16usize];
    ["Offset of field: Linear::x"][::std::mem::offset_of!(Linear, x) - 24usize];
    ["Offset of field: Linear::base"][::std::mem::offset_of!(Linear, base) - 32usize];
    ["Offset of field: Linear::y"][::std::mem::offset_of!(Linear, y) - 40usize];
    ["Offset of field: Linear::snake"][::std::mem::offset_of!(Linear, snake) - 48usize];
    ["Offset of field: Linear::activated"][::std::mem::offset_of!(Linear, activated) - 64usize];
    ["Offset of field: Linear::inputs"][::std::mem::offset_of!(Linear, inputs) - 72usize];
    ["Offset of field: Linear::outputs"][::std::mem::offset_of!(Linear, outputs) - 76usize];
    ["Offset of field: Linear::rows"][::std::mem::offset_of!(Linear, rows) - 80usize];
    ["Offset of field: Linear::finish"][::std::mem::offset_of!(Linear, finish) - 84usize];
    ["Offset of field: Linear::norm"][::std::mem::offset_of!(Linear, norm) - 88usize];
    ["Offset of field: Linear::eps"][::std::mem::offset_of!(Linear, eps) - 96usize];
    ["Offset of field: Linear::channels"][::std::mem::offset_of!(Linear, channels) - 100usize];
    ["Offset of field: Linear::dilation"][::std::mem::offset_of!(Linear, dilation) - 104usize];
    ["Offset of field: Linear::past"][::std::mem::offset_of!(Linear, past) - 108usize];
    ["Offset of field: Linear::tail"][::std::mem::offset_of!(Linear, tail) - 112usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Store {
    pub keys: *mut ::std::os::raw::c_void,
    pub values: *mut ::std::os::raw::c_void,
    pub pages: *const u64,
    pub keys_at: u64,
    pub values_at: u64,
    pub capacity: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Store"][::std::mem::size_of::<Store>() - 48usize];
    ["Alignment of Store"][::std::mem::align_of::<Store>() - 8usize];
    ["Offset of field: Store::keys"][::std::mem::offset_of!(Store, keys) - 0usize];
    ["Offset of field: Store::values"][::std::mem::offset_of!(Store, values) - 8usize];
    ["Offset of field: Store::pages"][::std::mem::offset_of!(Store, pages) - 16usize];
    ["Offset of field: Store::keys_at"][::std::mem::offset_of!(Store, keys_at) - 24usize];
    ["Offset of field: Store::values_at"][::std::mem::offset_of!(Store, values_at) - 32usize];
    ["Offset of field: Store::capacity"][::std::mem::offset_of!(Store, capacity) - 40usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Append {
    pub qkv: *mut f32,
    pub q_norm: *const f32,
    pub k_norm: *const f32,
    pub turns: *const f32,
    pub position: *const u32,
    pub store: Store,
    pub eps: f32,
    pub rows: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Append"][::std::mem::size_of::<Append>() - 112usize];
    ["Alignment of Append"][::std::mem::align_of::<Append>() - 8usize];
    ["Offset of field: Append::qkv"][::std::mem::offset_of!(Append, qkv) - 0usize];
    ["Offset of field: Append::q_norm"][::std::mem::offset_of!(Append, q_norm) - 8usize];
    ["Offset of field: Append::k_norm"][::std::mem::offset_of!(Append, k_norm) - 16usize];
    ["Offset of field: Append::turns"][::std::mem::offset_of!(Append, turns) - 24usize];
    ["Offset of field: Append::position"][::std::mem::offset_of!(Append, position) - 32usize];
    ["Offset of field: Append::store"][::std::mem::offset_of!(Append, store) - 40usize];
    ["Offset of field: Append::eps"][::std::mem::offset_of!(Append, eps) - 88usize];
    ["Offset of field: Append::rows"][::std::mem::offset_of!(Append, rows) - 92usize];
    ["Offset of field: Append::heads"][::std::mem::offset_of!(Append, heads) - 96usize];
    ["Offset of field: Append::kv_heads"][::std::mem::offset_of!(Append, kv_heads) - 100usize];
    ["Offset of field: Append::head_dim"][::std::mem::offset_of!(Append, head_dim) - 104usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Attention {
    pub qkv: *const f32,
    pub position: *const u32,
    pub store: Store,
    pub y: *mut f32,
    pub parts: *mut f32,
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    pub window: u32,
    pub spans: u32,
    pub behind: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Attention"][::std::mem::size_of::<Attention>() - 104usize];
    ["Alignment of Attention"][::std::mem::align_of::<Attention>() - 8usize];
    ["Offset of field: Attention::qkv"][::std::mem::offset_of!(Attention, qkv) - 0usize];
    ["Offset of field: Attention::position"][::std::mem::offset_of!(Attention, position) - 8usize];
    ["Offset of field: Attention::store"][::std::mem::offset_of!(Attention, store) - 16usize];
    ["Offset of field: Attention::y"][::std::mem::offset_of!(Attention, y) - 64usize];
    ["Offset of field: Attention::parts"][::std::mem::offset_of!(Attention, parts) - 72usize];
    ["Offset of field: Attention::heads"][::std::mem::offset_of!(Attention, heads) - 80usize];
    ["Offset of field: Attention::kv_heads"][::std::mem::offset_of!(Attention, kv_heads) - 84usize];
    ["Offset of field: Attention::head_dim"][::std::mem::offset_of!(Attention, head_dim) - 88usize];
    ["Offset of field: Attention::window"][::std::mem::offset_of!(Attention, window) - 92usize];
    ["Offset of field: Attention::spans"][::std::mem::offset_of!(Attention, spans) - 96usize];
    ["Offset of field: Attention::behind"][::std::mem::offset_of!(Attention, behind) - 100usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Embed {
    pub tables: [*const ::std::os::raw::c_void; 16usize],
    pub stored: [u32; 16usize],
    pub codes: *const u32,
    pub vector: *const f32,
    pub y: *mut f32,
    pub groups: u32,
    pub width: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Embed"][::std::mem::size_of::<Embed>() - 224usize];
    ["Alignment of Embed"][::std::mem::align_of::<Embed>() - 8usize];
    ["Offset of field: Embed::tables"][::std::mem::offset_of!(Embed, tables) - 0usize];
    ["Offset of field: Embed::stored"][::std::mem::offset_of!(Embed, stored) - 128usize];
    ["Offset of field: Embed::codes"][::std::mem::offset_of!(Embed, codes) - 192usize];
    ["Offset of field: Embed::vector"][::std::mem::offset_of!(Embed, vector) - 200usize];
    ["Offset of field: Embed::y"][::std::mem::offset_of!(Embed, y) - 208usize];
    ["Offset of field: Embed::groups"][::std::mem::offset_of!(Embed, groups) - 216usize];
    ["Offset of field: Embed::width"][::std::mem::offset_of!(Embed, width) - 220usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Choosing {
    pub do_sample: u32,
    pub top_k: u32,
    pub temperature: f32,
    pub top_p: f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Choosing"][::std::mem::size_of::<Choosing>() - 16usize];
    ["Alignment of Choosing"][::std::mem::align_of::<Choosing>() - 4usize];
    ["Offset of field: Choosing::do_sample"][::std::mem::offset_of!(Choosing, do_sample) - 0usize];
    ["Offset of field: Choosing::top_k"][::std::mem::offset_of!(Choosing, top_k) - 4usize];
    ["Offset of field: Choosing::temperature"][::std::mem::offset_of!(Choosing, temperature) - 8usize];
    ["Offset of field: Choosing::top_p"][::std::mem::offset_of!(Choosing, top_p) - 12usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Speaker {
    pub pages: [u64; 512usize],
    pub seed: u64,
    pub uniforms: u64,
    pub position: u32,
    pub frame: u32,
    pub may_end: u32,
    pub fault: u32,
    pub draws: u32,
    pub chosen: [u32; 16usize],
    pub codes: [u32; 16usize],
    pub forced: [u32; 16usize],
    pub talker: Choosing,
    pub predictor: Choosing,
    pub repetition_penalty: f32,
    pub seen: [u8; 4096usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Speaker"][::std::mem::size_of::<Speaker>() - 8456usize];
    ["Alignment of Speaker"][::std::mem::align_of::<Speaker>() - 8usize];
    ["Offset of field: Speaker::pages"][::std::mem::offset_of!(Speaker, pages) - 0usize];
    ["Offset of field: Speaker::seed"][::std::mem::offset_of!(Speaker, seed) - 4096usize];
    ["Offset of field: Speaker::uniforms"][::std::mem::offset_of!(Speaker, uniforms) - 4104usize];
    ["Offset of field: Speaker::position"][::std::mem::offset_of!(Speaker, position) - 4112usize];
    ["Offset of field: Speaker::frame"][::std::mem::offset_of!(Speaker, frame) - 4116usize];
    ["Offset of field: Speaker::may_end"][::std::mem::offset_of!(Speaker, may_end) - 4120usize];
    ["Offset of field: Speaker::fault"][::std::mem::offset_of!(Speaker, fault) - 4124usize];
    ["Offset of field: Speaker::draws"][::std::mem::offset_of!(Speaker, draws) - 4128usize];
    ["Offset of field: Speaker::chosen"][::std::mem::offset_of!(Speaker, chosen) - 4132usize];
    ["Offset of field: Speaker::codes"][::std::mem::offset_of!(Speaker, codes) - 4196usize];
    ["Offset of field: Speaker::forced"][::std::mem::offset_of!(Speaker, forced) - 4260usize];
    ["Offset of field: Speaker::talker"][::std::mem::offset_of!(Speaker, talker) - 4324usize];
    ["Offset of field: Speaker::predictor"][::std::mem::offset_of!(Speaker, predictor) - 4340usize];
    ["Offset of field: Speaker::repetition_penalty"][::std::mem::offset_of!(Speaker, repetition_penalty) - 4356usize];
    ["Offset of field: Speaker::seen"][::std::mem::offset_of!(Speaker, seen) - 4360usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Enter {
    pub speaker: *mut Speaker,
    pub text_from: *const f32,
    pub text_to: *mut f32,
    pub width: u32,
    pub may_end: u32,
    pub set_codes: u32,
    pub codes: [u32; 16usize],
    pub forced: [u32; 16usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Enter"][::std::mem::size_of::<Enter>() - 168usize];
    ["Alignment of Enter"][::std::mem::align_of::<Enter>() - 8usize];
    ["Offset of field: Enter::speaker"][::std::mem::offset_of!(Enter, speaker) - 0usize];
    ["Offset of field: Enter::text_from"][::std::mem::offset_of!(Enter, text_from) - 8usize];
    ["Offset of field: Enter::text_to"][::std::mem::offset_of!(Enter, text_to) - 16usize];
    ["Offset of field: Enter::width"][::std::mem::offset_of!(Enter, width) - 24usize];
    ["Offset of field: Enter::may_end"][::std::mem::offset_of!(Enter, may_end) - 28usize];
    ["Offset of field: Enter::set_codes"][::std::mem::offset_of!(Enter, set_codes) - 32usize];
    ["Offset of field: Enter::codes"][::std::mem::offset_of!(Enter, codes) - 36usize];
    ["Offset of field: Enter::forced"][::std::mem::offset_of!(Enter, forced) - 100usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Leave {
    pub speaker: *mut Speaker,
    pub report: *mut u32,
    pub positions: u32,
    pub frames: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Leave"][::std::mem::size_of::<Leave>() - 24usize];
    ["Alignment of Leave"][::std::mem::align_of::<Leave>() - 8usize];
    ["Offset of field: Leave::speaker"][::std::mem::offset_of!(Leave, speaker) - 0usize];
    ["Offset of field: Leave::report"][::std::mem::offset_of!(Leave, report) - 8usize];
    ["Offset of field: Leave::positions"][::std::mem::offset_of!(Leave, positions) - 16usize];
    ["Offset of field: Leave::frames"][::std::mem::offset_of!(Leave, frames) - 20usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct PutPage {
    pub speaker: *mut Speaker,
    pub page: u64,
    pub index: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of PutPage"][::std::mem::size_of::<PutPage>() - 24usize];
    ["Alignment of PutPage"][::std::mem::align_of::<PutPage>() - 8usize];
    ["Offset of field: PutPage::speaker"][::std::mem::offset_of!(PutPage, speaker) - 0usize];
    ["Offset of field: PutPage::page"][::std::mem::offset_of!(PutPage, page) - 8usize];
    ["Offset of field: PutPage::index"][::std::mem::offset_of!(PutPage, index) - 16usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Sample {
    pub scores: *const f32,
    pub speaker: *mut Speaker,
    pub count: u32,
    pub group: u32,
    pub suppressed_from: u32,
    pub eos: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Sample"][::std::mem::size_of::<Sample>() - 32usize];
    ["Alignment of Sample"][::std::mem::align_of::<Sample>() - 8usize];
    ["Offset of field: Sample::scores"][::std::mem::offset_of!(Sample, scores) - 0usize];
    ["Offset of field: Sample::speaker"][::std::mem::offset_of!(Sample, speaker) - 8usize];
    ["Offset of field: Sample::count"][::std::mem::offset_of!(Sample, count) - 16usize];
    ["Offset of field: Sample::group"][::std::mem::offset_of!(Sample, group) - 20usize];
    ["Offset of field: Sample::suppressed_from"][::std::mem::offset_of!(Sample, suppressed_from) - 24usize];
    ["Offset of field: Sample::eos"][::std::mem::offset_of!(Sample, eos) - 28usize];
};
pub const OP_LINEAR: _bindgen_ty_4 = 0;
pub const OP_ATTEND: _bindgen_ty_4 = 1;
pub const OP_JOIN: _bindgen_ty_4 = 2;
pub const OP_EMBED: _bindgen_ty_4 = 3;
pub const OP_NORM: _bindgen_ty_4 = 4;
pub const OP_SAMPLE: _bindgen_ty_4 = 5;
pub type _bindgen_ty_4 = ::std::os::raw::c_uint;
pub const FROM_MEMORY: _bindgen_ty_5 = 0;
pub const FROM_OTHERS: _bindgen_ty_5 = 1;
pub const FROM_STAGED: _bindgen_ty_5 = 2;
pub type _bindgen_ty_5 = ::std::os::raw::c_uint;
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Attend {
    pub append: Append,
    pub attention: Attention,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Attend"][::std::mem::size_of::<Attend>() - 216usize];
    ["Alignment of Attend"][::std::mem::align_of::<Attend>() - 8usize];
    ["Offset of field: Attend::append"][::std::mem::offset_of!(Attend, append) - 0usize];
    ["Offset of field: Attend::attention"][::std::mem::offset_of!(Attend, attention) - 112usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Op {
    pub kind: u32,
    pub from: u32,
    pub in_: u32,
    pub out: u32,
    pub each: u32,
    pub more: u32,
    pub row: u32,
    pub unused: u32,
    pub as_: Op__bindgen_ty_1,
}
#[repr(C)]
#[derive(Copy, Clone)]
pub union Op__bindgen_ty_1 {
    pub linear: Linear,
    pub attend: Attend,
    pub join: Attention,
    pub embed: Embed,
    pub norm: RmsNorm,
    pub sample: Sample,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Op__bindgen_ty_1"][::std::mem::size_of::<Op__bindgen_ty_1>() - 224usize];
    ["Alignment of Op__bindgen_ty_1"][::std::mem::align_of::<Op__bindgen_ty_1>() - 8usize];
    ["Offset of field: Op__bindgen_ty_1::linear"][::std::mem::offset_of!(Op__bindgen_ty_1, linear) - 0usize];
    ["Offset of field: Op__bindgen_ty_1::attend"][::std::mem::offset_of!(Op__bindgen_ty_1, attend) - 0usize];
    ["Offset of field: Op__bindgen_ty_1::join"][::std::mem::offset_of!(Op__bindgen_ty_1, join) - 0usize];
    ["Offset of field: Op__bindgen_ty_1::embed"][::std::mem::offset_of!(Op__bindgen_ty_1, embed) - 0usize];
    ["Offset of field: Op__bindgen_ty_1::norm"][::std::mem::offset_of!(Op__bindgen_ty_1, norm) - 0usize];
    ["Offset of field: Op__bindgen_ty_1::sample"][::std::mem::offset_of!(Op__bindgen_ty_1, sample) - 0usize];
};
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Op"][::std::mem::size_of::<Op>() - 256usize];
    ["Alignment of Op"][::std::mem::align_of::<Op>() - 8usize];
    ["Offset of field: Op::kind"][::std::mem::offset_of!(Op, kind) - 0usize];
    ["Offset of field: Op::from"][::std::mem::offset_of!(Op, from) - 4usize];
    ["Offset of field: Op::in_"][::std::mem::offset_of!(Op, in_) - 8usize];
    ["Offset of field: Op::out"][::std::mem::offset_of!(Op, out) - 12usize];
    ["Offset of field: Op::each"][::std::mem::offset_of!(Op, each) - 16usize];
    ["Offset of field: Op::more"][::std::mem::offset_of!(Op, more) - 20usize];
    ["Offset of field: Op::row"][::std::mem::offset_of!(Op, row) - 24usize];
    ["Offset of field: Op::unused"][::std::mem::offset_of!(Op, unused) - 28usize];
    ["Offset of field: Op::as_"][::std::mem::offset_of!(Op, as_) - 32usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Ahead {
    pub weight: *const ::std::os::raw::c_void,
    pub inputs: u32,
    pub in_pairs: u32,
    pub each: u32,
    pub more: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Ahead"][::std::mem::size_of::<Ahead>() - 24usize];
    ["Alignment of Ahead"][::std::mem::align_of::<Ahead>() - 8usize];
    ["Offset of field: Ahead::weight"][::std::mem::offset_of!(Ahead, weight) - 0usize];
    ["Offset of field: Ahead::inputs"][::std::mem::offset_of!(Ahead, inputs) - 8usize];
    ["Offset of field: Ahead::in_pairs"][::std::mem::offset_of!(Ahead, in_pairs) - 12usize];
    ["Offset of field: Ahead::each"][::std::mem::offset_of!(Ahead, each) - 16usize];
    ["Offset of field: Ahead::more"][::std::mem::offset_of!(Ahead, more) - 20usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Turn {
    pub launches: u32,
    pub left: u32,
    pub stuck: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Turn"][::std::mem::size_of::<Turn>() - 12usize];
    ["Alignment of Turn"][::std::mem::align_of::<Turn>() - 4usize];
    ["Offset of field: Turn::launches"][::std::mem::offset_of!(Turn, launches) - 0usize];
    ["Offset of field: Turn::left"][::std::mem::offset_of!(Turn, left) - 4usize];
    ["Offset of field: Turn::stuck"][::std::mem::offset_of!(Turn, stuck) - 8usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Program {
    pub ops: *const Op,
    pub ahead: *const Ahead,
    pub turn: *mut Turn,
    pub exchange: *mut f32,
    pub speaker: *mut Speaker,
    pub op_count: u32,
    pub ahead_count: u32,
    pub groups: u32,
    pub exchange_len: u32,
    pub patience: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Program"][::std::mem::size_of::<Program>() - 64usize];
    ["Alignment of Program"][::std::mem::align_of::<Program>() - 8usize];
    ["Offset of field: Program::ops"][::std::mem::offset_of!(Program, ops) - 0usize];
    ["Offset of field: Program::ahead"][::std::mem::offset_of!(Program, ahead) - 8usize];
    ["Offset of field: Program::turn"][::std::mem::offset_of!(Program, turn) - 16usize];
    ["Offset of field: Program::exchange"][::std::mem::offset_of!(Program, exchange) - 24usize];
    ["Offset of field: Program::speaker"][::std::mem::offset_of!(Program, speaker) - 32usize];
    ["Offset of field: Program::op_count"][::std::mem::offset_of!(Program, op_count) - 40usize];
    ["Offset of field: Program::ahead_count"][::std::mem::offset_of!(Program, ahead_count) - 44usize];
    ["Offset of field: Program::groups"][::std::mem::offset_of!(Program, groups) - 48usize];
    ["Offset of field: Program::exchange_len"][::std::mem::offset_of!(Program, exchange_len) - 52usize];
    ["Offset of field: Program::patience"][::std::mem::offset_of!(Program, patience) - 56usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Rvq {
    pub sums: [*const ::std::os::raw::c_void; 16usize],
    pub usages: [*const f32; 16usize],
    pub stored: [u32; 16usize],
    pub codes: *const u32,
    pub y: *mut f32,
    pub width: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Rvq"][::std::mem::size_of::<Rvq>() - 344usize];
    ["Alignment of Rvq"][::std::mem::align_of::<Rvq>() - 8usize];
    ["Offset of field: Rvq::sums"][::std::mem::offset_of!(Rvq, sums) - 0usize];
    ["Offset of field: Rvq::usages"][::std::mem::offset_of!(Rvq, usages) - 128usize];
    ["Offset of field: Rvq::stored"][::std::mem::offset_of!(Rvq, stored) - 256usize];
    ["Offset of field: Rvq::codes"][::std::mem::offset_of!(Rvq, codes) - 320usize];
    ["Offset of field: Rvq::y"][::std::mem::offset_of!(Rvq, y) - 328usize];
    ["Offset of field: Rvq::width"][::std::mem::offset_of!(Rvq, width) - 336usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Depthwise {
    pub weight: *const f32,
    pub bias: *const f32,
    pub norm: *const f32,
    pub norm_bias: *const f32,
    pub tail: *const f32,
    pub x: *const f32,
    pub y: *mut f32,
    pub eps: f32,
    pub channels: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Depthwise"][::std::mem::size_of::<Depthwise>() - 64usize];
    ["Alignment of Depthwise"][::std::mem::align_of::<Depthwise>() - 8usize];
    ["Offset of field: Depthwise::weight"][::std::mem::offset_of!(Depthwise, weight) - 0usize];
    ["Offset of field: Depthwise::bias"][::std::mem::offset_of!(Depthwise, bias) - 8usize];
    ["Offset of field: Depthwise::norm"][::std::mem::offset_of!(Depthwise, norm) - 16usize];
    ["Offset of field: Depthwise::norm_bias"][::std::mem::offset_of!(Depthwise, norm_bias) - 24usize];
    ["Offset of field: Depthwise::tail"][::std::mem::offset_of!(Depthwise, tail) - 32usize];
    ["Offset of field: Depthwise::x"][::std::mem::offset_of!(Depthwise, x) - 40usize];
    ["Offset of field: Depthwise::y"][::std::mem::offset_of!(Depthwise, y) - 48usize];
    ["Offset of field: Depthwise::eps"][::std::mem::offset_of!(Depthwise, eps) - 56usize];
    ["Offset of field: Depthwise::channels"][::std::mem::offset_of!(Depthwise, channels) - 60usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Last {
    pub weight: *const f32,
    pub bias: *const f32,
    pub tail: *const f32,
    pub x: *const f32,
    pub y: *mut f32,
    pub rows: u32,
    pub channels: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Last"][::std::mem::size_of::<Last>() - 48usize];
    ["Alignment of Last"][::std::mem::align_of::<Last>() - 8usize];
    ["Offset of field: Last::weight"][::std::mem::offset_of!(Last, weight) - 0usize];
    ["Offset of field: Last::bias"][::std::mem::offset_of!(Last, bias) - 8usize];
    ["Offset of field: Last::tail"][::std::mem::offset_of!(Last, tail) - 16usize];
    ["Offset of field: Last::x"][::std::mem::offset_of!(Last, x) - 24usize];
    ["Offset of field: Last::y"][::std::mem::offset_of!(Last, y) - 32usize];
    ["Offset of field: Last::rows"][::std::mem::offset_of!(Last, rows) - 40usize];
    ["Offset of field: Last::channels"][::std::mem::offset_of!(Last, channels) - 44usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Tail {
    pub tail: *mut f32,
    pub x: *const f32,
    pub past: u32,
    pub rows: u32,
    pub channels: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Tail"][::std::mem::size_of::<Tail>() - 32usize];
    ["Alignment of Tail"][::std::mem::align_of::<Tail>() - 8usize];
    ["Offset of field: Tail::tail"][::std::mem::offset_of!(Tail, tail) - 0usize];
    ["Offset of field: Tail::x"][::std::mem::offset_of!(Tail, x) - 8usize];
    ["Offset of field: Tail::past"][::std::mem::offset_of!(Tail, past) - 16usize];
    ["Offset of field: Tail::rows"][::std::mem::offset_of!(Tail, rows) - 20usize];
    ["Offset of field: Tail::channels"][::std::mem::offset_of!(Tail, channels) - 24usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Keep {
    pub tails: [Tail; 40usize],
    pub position: *mut u32,
    pub frames: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Keep"][::std::mem::size_of::<Keep>() - 1296usize];
    ["Alignment of Keep"][::std::mem::align_of::<Keep>() - 8usize];
    ["Offset of field: Keep::tails"][::std::mem::offset_of!(Keep, tails) - 0usize];
    ["Offset of field: Keep::position"][::std::mem::offset_of!(Keep, position) - 1280usize];
    ["Offset of field: Keep::frames"][::std::mem::offset_of!(Keep, frames) - 1288usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Mirror {
    pub x: *const f32,
    pub add: *const f32,
    pub y: *mut f32,
    pub rows: u32,
    pub edge: u32,
    pub width: u32,
    pub x_stride: u32,
    pub y_stride: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Mirror"][::std::mem::size_of::<Mirror>() - 48usize];
    ["Alignment of Mirror"][::std::mem::align_of::<Mirror>() - 8usize];
    ["Offset of field: Mirror::x"][::std::mem::offset_of!(Mirror, x) - 0usize];
    ["Offset of field: Mirror::add"][::std::mem::offset_of!(Mirror, add) - 8usize];
    ["Offset of field: Mirror::y"][::std::mem::offset_of!(Mirror, y) - 16usize];
    ["Offset of field: Mirror::rows"][::std::mem::offset_of!(Mirror, rows) - 24usize];
    ["Offset of field: Mirror::edge"][::std::mem::offset_of!(Mirror, edge) - 28usize];
    ["Offset of field: Mirror::width"][::std::mem::offset_of!(Mirror, width) - 32usize];
    ["Offset of field: Mirror::x_stride"][::std::mem::offset_of!(Mirror, x_stride) - 36usize];
    ["Offset of field: Mirror::y_stride"][::std::mem::offset_of!(Mirror, y_stride) - 40usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Pool {
    pub x: *const f32,
    pub scores: *const f32,
    pub y: *mut f32,
    pub rows: u32,
    pub channels: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Pool"][::std::mem::size_of::<Pool>() - 32usize];
    ["Alignment of Pool"][::std::mem::align_of::<Pool>() - 8usize];
    ["Offset of field: Pool::x"][::std::mem::offset_of!(Pool, x) - 0usize];
    ["Offset of field: Pool::scores"][::std::mem::offset_of!(Pool, scores) - 8usize];
    ["Offset of field: Pool::y"][::std::mem::offset_of!(Pool, y) - 16usize];
    ["Offset of field: Pool::rows"][::std::mem::offset_of!(Pool, rows) - 24usize];
    ["Offset of field: Pool::channels"][::std::mem::offset_of!(Pool, channels) - 28usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Gate {
    pub x: *const f32,
    pub gate: *const f32,
    pub base: *const f32,
    pub y: *mut f32,
    pub count: u32,
    pub width: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Gate"][::std::mem::size_of::<Gate>() - 40usize];
    ["Alignment of Gate"][::std::mem::align_of::<Gate>() - 8usize];
    ["Offset of field: Gate::x"][::std::mem::offset_of!(Gate, x) - 0usize];
    ["Offset of field: Gate::gate"][::std::mem::offset_of!(Gate, gate) - 8usize];
    ["Offset of field: Gate::base"][::std::mem::offset_of!(Gate, base) - 16usize];
    ["Offset of field: Gate::y"][::std::mem::offset_of!(Gate, y) - 24usize];
    ["Offset of field: Gate::count"][::std::mem::offset_of!(Gate, count) - 32usize];
    ["Offset of field: Gate::width"][::std::mem::offset_of!(Gate, width) - 36usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct Nearest {
    pub x: *const f32,
    pub tables: *const f32,
    pub codes: *mut u32,
    pub rows: u32,
    pub width: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Nearest"][::std::mem::size_of::<Nearest>() - 32usize];
    ["Alignment of Nearest"][::std::mem::align_of::<Nearest>() - 8usize];
    ["Offset of field: Nearest::x"][::std::mem::offset_of!(Nearest, x) - 0usize];
    ["Offset of field: Nearest::tables"][::std::mem::offset_of!(Nearest, tables) - 8usize];
    ["Offset of field: Nearest::codes"][::std::mem::offset_of!(Nearest, codes) - 16usize];
    ["Offset of field: Nearest::rows"][::std::mem::offset_of!(Nearest, rows) - 24usize];
    ["Offset of field: Nearest::width"][::std::mem::offset_of!(Nearest, width) - 28usize];
};
