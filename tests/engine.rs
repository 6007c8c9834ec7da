//! Would catch: an engine that says other than the bare loop, that lets one stream hear of another, that loses or repeats
//! sound, or that speaks on when it was told to stop.

use qwentts::engine::{Engine, EngineOptions, Read, Wait};
use qwentts::frame::{End, Frame, SAMPLES_PER_FRAME};
use qwentts::model::Model;
use qwentts::request::{Layout, Output, Request, Voice};
use qwentts::source::ModelSource;
use qwentts::speech::{Speech, Text};
use qwentts::{Randomness, Reference};
use std::sync::Arc;

fn model() -> Arc<Model> {
    Model::open(&ModelSource::Folder(concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo").into())).unwrap()
}

fn request(seed: u64) -> Request {
    let mut request = Request { voice: Voice::Preset("slt".into()), ..Default::default() };
    request.sampling.draws(true);
    request.randomness = Randomness::Seed(seed);
    request
}

/// What the bare loop says.
fn bare(model: &Arc<Model>, text: &str, request: &Request) -> (Vec<Frame>, Vec<f32>, End) {
    let reference = Arc::new(Reference::new(model.clone(), Some(1)).unwrap());
    let mut speech = Speech::new(reference, Text::Whole(text.into()), request).unwrap();
    let (mut frames, mut samples) = (Vec::new(), Vec::new());
    while let Some(chosen) = speech.next_frame().unwrap() {
        samples.extend(speech.decode(&[chosen.frame]).unwrap());
        frames.push(chosen.frame);
    }
    (frames, samples, speech.end().unwrap())
}

#[test]
fn the_engine_says_what_the_bare_loop_says() {
    let model = model();
    let engine = Engine::with_model(model.clone(), &EngineOptions::default()).unwrap();
    for layout in [None, Some(Layout::Streaming)] {
        let mut request = Request { layout, ..request(3) };
        request.delivery.output = Output::Both;
        let text = "The engine says what the loop says.";
        let (frames, samples, end) = bare(&model, text, &request);
        let mut stream = engine.speak(text, &request).unwrap();
        let mut said = Vec::new();
        for chunk in stream.chunks() {
            let chunk = chunk.unwrap();
            assert_eq!(chunk.first_frame * SAMPLES_PER_FRAME, said.len());
            said.extend(chunk.samples);
        }
        assert_eq!(said, samples);
        let mut chosen = vec![[0; 16]; frames.len() + 1];
        assert_eq!(stream.read_frames(&mut chosen, Wait::Forever).unwrap(), Read::Got(frames.len()));
        assert_eq!(chosen[..frames.len()], frames);
        let Read::Ended(ended) = stream.read(&mut [0.0f32; 4], Wait::Forever).unwrap() else { panic!() };
        assert_eq!((ended.end, ended.frame), (end, frames.len()));
        println!("{:#?}", stream.stats());
    }
}
