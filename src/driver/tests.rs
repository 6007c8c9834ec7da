//! Would catch: a copy out of place, a recording that is not replayed, work out of order, a launch whose extras get lost, an
//! error that does not name its call. The kernel is a line of PTX of its own, so that a build without nvcc tests the same.

use super::*;
use crate::error::Error;
use std::sync::Arc;

/// to[block] += value.
const MARK: &[u8] = b".version 7.8
.target sm_80
.address_size 64
.visible .entry mark(.param .align 8 .b8 argument[16]) {
    .reg .b32 %r<4>;
    .reg .b64 %d<4>;
    ld.param.u64 %d1, [argument];
    ld.param.u32 %r1, [argument+8];
    mov.u32 %r2, %ctaid.x;
    cvta.to.global.u64 %d2, %d1;
    mad.wide.u32 %d3, %r2, 4, %d2;
    ld.global.u32 %r3, [%d3];
    add.u32 %r3, %r3, %r1;
    st.global.u32 [%d3], %r3;
    ret;
}
\0";

#[repr(C)]
#[derive(Clone, Copy)]
struct Mark {
    to: *mut u32,
    value: u32,
}

fn open() -> (Arc<Context>, Stream) {
    let context = Context::open(0).expect("an NVIDIA GPU");
    let stream = Stream::new(&context).unwrap();
    (context, stream)
}

fn mark(context: &Arc<Context>) -> Function {
    // SAFETY: PTX that ends with a zero.
    unsafe { Module::load(context, "mark", MARK) }.unwrap().function(c"mark").unwrap()
}

/// Adds `value` to each of `to`, a block each.
fn launch(function: &Function, stream: &Stream, shape: Shape, to: &Span<u32>, value: u32) -> crate::error::Result<()> {
    assert!(shape.grid[0] as usize <= to.len());
    // SAFETY: the kernel's two arguments; it writes a number for each block, and the callers wait before they drop it.
    unsafe { function.launch(stream, shape, &Mark { to: to.ptr_mut(), value }) }
}

fn across(blocks: u32) -> Shape {
    Shape::new([blocks, 1, 1], 1)
}

#[track_caller]
fn says<T>(result: crate::error::Result<T>, call: &str, words: &[&str]) {
    let Err(Error::Compute { call: named, what }) = result else { panic!("no error of {call}") };
    assert_eq!(named, call, "{what}");
    assert!(words.iter().all(|word| what.contains(word)), "{what}");
}

#[test]
fn a_gpu_that_is_not_there_is_an_error() {
    match Driver::open() {
        Err(_) => says(Context::open(0), LIBRARY, &[]),
        Ok(_) => says(Context::open(4096), "device", &["cuda:4096"]),
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn memory_comes_back_as_it_went() {
    let (context, stream) = open();
    let numbers: Vec<u32> = (0..1000).map(|i| i * 7 + 1).collect();
    let span = Span::from(&stream, &numbers).unwrap();
    let (mut back, mut some) = (vec![0; 1000], vec![0; 30]);
    span.read(&stream, &mut back).unwrap();
    assert_eq!(back, numbers);
    let part = span.part(10..40);
    part.read(&stream, &mut some).unwrap();
    assert_eq!(some, numbers[10..40]);
    // Within a block, at an offset, over a copy on the device, and behind the span that it came from.
    let buffer = Buffer::new(&context, 4 * 100).unwrap();
    let there = buffer.span::<u32>(4 * 70, 30);
    there.copy_from(&stream, &part).unwrap();
    drop((span, part, buffer));
    there.part(1..30).fill(&stream, 0xff).unwrap();
    there.read(&stream, &mut some).unwrap();
    assert_eq!((some[0], &some[1..]), (numbers[10], &[u32::MAX; 29][..]));
    assert!(std::panic::catch_unwind(|| there.part(0..31)).is_err());
    assert!(std::panic::catch_unwind(|| there.buffer().span::<u32>(4 * 71, 30)).is_err());

    let free = context.free_bytes().unwrap();
    let large = Span::<u8>::new(&context, 1 << 30).unwrap();
    assert!(context.free_bytes().unwrap() + (1 << 30) <= free + (64 << 20)); // other tests allocate a little meanwhile
    drop(large);
    assert!(context.free_bytes().unwrap() + (64 << 20) >= free);
    says(Span::<u8>::new(&context, 1 << 45), "cuMemAlloc_v2", &["35184372088832 bytes asked for", "free on"]);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn kernels_write_into_pinned_memory() {
    let (context, stream) = open();
    let function = mark(&context);
    let pinned = Pinned::<u32>::new(&context, 33).unwrap();
    let event = Event::new(&context).unwrap();
    launch(&function, &stream, across(32), &pinned.span(), 5).unwrap();
    stream.record(&event).unwrap();
    event.synchronize().unwrap();
    assert!(event.is_done().unwrap());
    let mut back = [0; 33];
    pinned.read(0, &mut back);
    assert_eq!((&back[..32], back[32]), (&[5; 32][..], 0));
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn events_say_when_work_is_done() {
    let (context, stream) = open();
    let function = mark(&context);
    let [start, end] = [Event::new(&context).unwrap(), Event::new(&context).unwrap()];
    let large = Span::<u8>::new(&context, 1 << 28).unwrap();
    let numbers = Span::from(&stream, &[0_u32; 4]).unwrap();
    stream.record(&start).unwrap();
    for _ in 0..20 {
        large.fill(&stream, 1).unwrap(); // 5 GB written: a while
    }
    launch(&function, &stream, across(4), &numbers, 3).unwrap();
    stream.record(&end).unwrap();
    assert!(!end.is_done().unwrap());
    end.synchronize().unwrap();
    // Another stream sees what was done before.
    let other = Stream::new(&context).unwrap();
    launch(&function, &other, across(4), &numbers, 4).unwrap();
    let mut back = [0; 4];
    numbers.read(&other, &mut back).unwrap();
    assert_eq!(back, [7; 4]);
    let ms = end.ms_since(&start).unwrap();
    assert!(ms > 0.5 && ms < 1000.0, "{ms}");
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_recording_runs_when_it_is_launched() {
    let (context, stream) = open();
    let function = mark(&context);
    let numbers = Span::from(&stream, &[0_u32; 8]).unwrap();
    let graph = Graph::record(&stream, vec![numbers.buffer().clone()], || {
        launch(&function, &stream, across(8), &numbers, 1)?;
        launch(&function, &stream, across(4), &numbers, 2)
    })
    .unwrap();
    let read = || {
        let mut back = [0; 8];
        numbers.read(&stream, &mut back).unwrap();
        back
    };
    assert_eq!(read(), [0; 8], "recorded, not run");
    for _ in 0..100 {
        graph.launch(&stream).unwrap();
    }
    assert_eq!(read(), [300, 300, 300, 300, 100, 100, 100, 100]);
    // What goes wrong inside is said, and the stream is as it was.
    let failed = Graph::record(&stream, Vec::new(), || Err(Error::compute("work", "is not to be had")));
    says(failed, "work", &[]);
    let waits = Graph::record(&stream, Vec::new(), || stream.synchronize());
    says(waits, "cuStreamSynchronize", &["CUDA_ERROR_STREAM_CAPTURE"]);
    launch(&function, &stream, across(8), &numbers, 1).unwrap();
    assert_eq!(read()[7], 101);
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn launches_carry_their_extras_and_errors_their_names() {
    let (context, stream) = open();
    let function = mark(&context);
    assert_eq!((function.compiled_for().unwrap(), function.most_threads().unwrap()), (80, 1024));
    let numbers = Span::from(&stream, &[0_u32; 8]).unwrap();
    let run = |shape| launch(&function, &stream, shape, &numbers, 1).and_then(|()| stream.synchronize());
    if context.gpu.compute_capability >= (9, 0) {
        run(Shape { cluster: Some(4), ..across(8) }).unwrap();
        says(run(Shape { cluster: Some(4), ..across(6) }), "cuLaunchKernelEx", &["mark"]);
    }
    says(run(Shape::new([8, 1, 1], 1 << 20)), "cuLaunchKernelEx", &["mark"]);

    // SAFETY: PTX that ends with a zero, as far as it is any.
    let load = |image| unsafe { Module::load(&context, "broken", image) };
    says(load(b".version 7.8\n.target sm_80\nnonsense\0"), "cuModuleLoadDataEx", &["broken", "nonsense"]);
    let module = load(MARK).unwrap();
    says(module.function(c"other"), "cuModuleGetFunction", &["other in broken"]);
}
