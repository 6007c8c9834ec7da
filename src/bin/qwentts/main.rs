<<<<<<< HEAD
use qwentts::*;
use std::sync::Arc;
fn main() {
    let model = model::Model::open(&source::ModelSource::Demo).unwrap();
    let t = std::env::args().nth(2).and_then(|s| s.parse().ok());
    let r = Arc::new(cpu::Reference::new(model, t).unwrap());
    let req = request::Request { voice: request::Voice::Preset("slt".into()), ..Default::default() };
    let mut s = speech::Speech::new(r, speech::Text::Whole(std::env::args().nth(1).unwrap()), &req).unwrap();
    let start = std::time::Instant::now();
    let mut frames = vec![];
    while let Some(c) = s.next_frame().unwrap() { frames.push(c.frame); }
    let a = start.elapsed();
    let w = s.decode(&frames).unwrap();
    println!("{:?} {} frames in {a:?}, codec {:?} sum {}", s.end(), frames.len(), start.elapsed()-a, w.iter().map(|x| x.abs()).sum::<f32>());
    println!("{:?}", &frames[..3]);
}
=======
fn main() {}
>>>>>>> tokenizer
