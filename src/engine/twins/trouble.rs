//! What goes wrong on a device: memory that is not there, a context that is spoilt. The engine says so and goes on where it can.

use super::Gpu;
use crate::device::Device;
use crate::driver::{Buffer, Span};
use crate::engine::{Engine, EngineOptions, Read, Stream, Wait};
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::model::Model;
use crate::request::{Layout, Output, Request, Voice};
use std::sync::Arc;
use std::time::Duration;

/// Only a failing test waits for it.
const PATIENCE: Wait = Wait::AtMost(Duration::from_secs(60));

fn open(model: &Arc<Model>) -> Result<Engine> {
    let device = Some(Device::Cuda(0));
    Engine::with_model(model.clone(), &EngineOptions { device, slots: 2, ..Default::default() })
}

fn request(frames: usize) -> Request {
    let mut request =
        Request { voice: Voice::Preset("slt".into()), layout: Some(Layout::Streaming), ..Default::default() };
    request.delivery.output = Output::Frames;
    request.sampling.max_new_tokens = Some(frames + 1);
    request
}

fn read(stream: &mut Stream) -> Result<Vec<Frame>> {
    let (mut frames, mut some) = (Vec::new(), [[0; 16]; 16]);
    loop {
        match stream.read_frames(&mut some, PATIENCE)? {
            Read::Got(n) => frames.extend_from_slice(&some[..n]),
            Read::NotYet => panic!("neither frames nor an error come"),
            Read::Ended(_) => return Ok(frames),
        }
    }
}

fn say(engine: &Engine, text: &str, frames: usize) -> Result<Vec<Frame>> {
    read(&mut engine.speak(text, &request(frames))?)
}

#[track_caller]
fn says<T>(result: Result<T>, words: &[&str]) {
    let Err(error @ Error::Compute { .. }) = result else { panic!("no error of the device") };
    let said = error.to_string();
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
    println!("{said}");
}

/// Takes all memory of the device but so much.
fn fill(gpu: &Gpu, leave_bytes: usize) -> Vec<Span<u8>> {
    let (mut held, mut bytes) = (Vec::new(), 1_usize << 30);
    while bytes >= 1 << 12 {
        match Span::new(&gpu.context, bytes) {
            Ok(block) => held.push(block),
            Err(_) => bytes /= 2,
        }
    }
    let mut left = 0;
    while left < leave_bytes {
        left += held.pop().expect("more memory than is asked for").len();
    }
    held
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_full_device_says_how_much_was_needed() {
    const TEXT: &str = "The river was quiet in the morning, and a thin mist lay over the fields.";
    let (gpu, model) = (Gpu::open(), Model::demo());
    let engine = open(&model).unwrap();
    let short = say(&engine, TEXT, 20).unwrap();
    let words = ["bytes asked for", "free on"];

    // A stream that needs a further page; what fits in the pages that are there still speaks.
    let held = fill(&gpu, 0);
    says(say(&engine, &TEXT.repeat(8), 200), &words);
    assert_eq!(say(&engine, TEXT, 20).unwrap(), short);
    drop(held);
    assert!(say(&engine, &TEXT.repeat(8), 200).unwrap().len() > 64);

    // An engine: its kernels find room, its weights do not.
    let held = fill(&gpu, 12 << 20);
    says(open(&model), &words);
    drop(held);
    assert_eq!(say(&open(&model).unwrap(), TEXT, 20).unwrap(), short);
    assert_eq!(say(&engine, TEXT, 20).unwrap(), short);
}

/// In a process of its own, in which nothing can compute afterwards.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_spoilt_context_is_an_error() {
    const CHILD: &str = "QWENTTS_TEST_SPOILS";
    if std::env::var_os(CHILD).is_none() {
        let name = "engine::twins::trouble::a_spoilt_context_is_an_error";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let done = child.args(["--ignored", "--exact", "--nocapture", name]).env(CHILD, "1").output().unwrap();
        let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        println!("{said}");
        assert!(done.status.success() && said.contains("1 passed"), "{}", done.status);
        return;
    }
    let (gpu, model) = (Gpu::open(), Model::demo());
    let engine = open(&model).unwrap();
    assert!(!say(&engine, "Yes.", 10).unwrap().is_empty());
    let mut begun = engine.stream(&request(50)).unwrap();
    begun.push("The quick brown fox").unwrap();
    assert!(matches!(begun.read_frames(&mut [[0; 16]], PATIENCE).unwrap(), Read::Got(1)));

    // A kernel that writes where there is nothing.
    let nowhere: Span<f32> = Buffer::pretend(&gpu.context).span(0, 256);
    gpu.kernels.add(&gpu.stream, &nowhere, None, &nowhere).unwrap();
    says(gpu.stream.synchronize(), &["CUDA_ERROR_ILLEGAL_ADDRESS"]);

    // Text may be refused by now; that the stream does not speak on is what counts.
    let _ = begun.push(" jumps over the lazy dog.");
    let _ = begun.end();
    says(read(&mut begun), &["CUDA_ERROR_ILLEGAL_ADDRESS"]);
    assert!(say(&engine, "Yes.", 10).is_err(), "it speaks");
    says(open(&model), &["CUDA_ERROR_ILLEGAL_ADDRESS"]);
    engine.close();
}
