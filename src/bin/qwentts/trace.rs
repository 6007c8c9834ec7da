//! `qwentts trace`: the conformance verb.

use crate::{DeviceArgs, Outcome, bad, files};
use clap::Args;
use qwentts::error::{Error, Result};
use qwentts::trace::{Comparison, Run, Trace, TraceRequest, compare, run};
use std::path::{Path, PathBuf};

/// Run one request and print everything it chose, as JSON
///
/// stdout carries one JSON object: the ids of the templated strings, the prompt's sums, the frames that were
/// chosen with the margin of each choice, how the utterance ended, the number of samples, and where it was computed
/// ("cpu", or "cuda:0" with the GPU's name).
///
/// The request is JSON with these fields: text, or pieces (the same text arriving live, streaming layout only), or
/// text_ids (body ids without the template); language; layout ("streaming" or "whole"); speaker; instruct;
/// speaker_vector, and ref_codes with ref_text for an in-context clone, or in place of both ref_audio (a sound file),
/// with xvec_only for its speaker vector alone, and append_silence for half a second behind it; do_sample, temperature, top_k, top_p,
/// repetition_penalty, subtalker_dosample, subtalker_temperature, subtalker_top_k, subtalker_top_p (defaults from
/// the checkpoint's generation_config.json); greedy; seed, or uniforms (the draws' u in order); max_new_tokens (N
/// tokens, so at most N - 1 frames); forced_frames (fed back whatever was chosen); regex ("qwen" or "mistral");
/// special_tokens (whether control strings in text are controls).
///
/// Exit status: 0 done, 1 --compare found a difference, 2 bad request or model.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct TraceArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// The request
    #[arg(long, value_name = "R.json")]
    request: PathBuf,
    /// Write the samples, f32
    #[arg(long, value_parser = files::parse_samples_path, value_name = "OUT.npy|OUT.wav")]
    wav: Option<PathBuf>,
    /// Frames decoded at once, in order, the last repeating; one pass where not given
    #[arg(long, value_parser = files::parse_chunks, value_name = "N,N,…")]
    chunks: Option<files::Widths>,
    /// Write prefill_embeds, talker_hidden, talker_logits, predictor_logits and wav as .npy
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
    /// Compare with an earlier output or a golden: a table on stderr, exit status 1 where it differs
    #[arg(long, value_name = "REF.json")]
    compare: Option<PathBuf>,
}

impl TraceArgs {
    pub fn run(self) -> Result<Outcome> {
        let request = TraceRequest::parse(&files::read(&self.request)?)?;
        let onto = self.compare.as_deref().map(read_trace).transpose()?;
        let bare = self.device.bare(self.device.model()?)?;
        let mut run = run(&bare, &request, onto.as_ref())?;
        if self.wav.is_some() || self.dump.is_some() {
            let mut samples = Vec::new();
            for piece in files::cut(&run.fed, self.chunks.as_deref().unwrap_or(&[])) {
                samples.extend(run.speech.decode(piece)?);
            }
            if let Some(path) = &self.wav {
                files::write_samples(path, &samples)?;
            }
            if let Some(folder) = &self.dump {
                dump(folder, &run, &samples, &bare.model().config)?;
            }
        }
        files::print_json(&run.trace)?;
        match onto {
            Some(onto) => Ok(report(&compare(&onto, &run.trace))),
            None => Ok(Outcome::Done),
        }
    }
}

fn read_trace(path: &Path) -> Result<Trace> {
    let refuse = |e: serde_json::Error| Error::Checkpoint { file: path.display().to_string(), what: e.to_string() };
    serde_json::from_slice(&files::read(path)?).map_err(refuse)
}

fn dump(folder: &Path, run: &Run, samples: &[f32], config: &qwentts::config::Config) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|source| Error::file(folder, source))?;
    let Some(kept) = run.speech.recording() else { return Err(bad("--dump", "nothing was recorded")) };
    let (hidden, vocab) = (config.talker.hidden, config.talker_vocab);
    let steps = kept.talker_hidden.len() / hidden;
    let frames = kept.predictor_logits.len() / (15 * config.codes);
    for (name, shape, data) in [
        ("prefill_embeds", &[run.trace.prefill.positions, hidden][..], &kept.prefill_embeds[..]),
        ("talker_hidden", &[steps, hidden], &kept.talker_hidden),
        ("talker_logits", &[steps, vocab], &kept.talker_logits),
        ("predictor_logits", &[frames, 15, config.codes], &kept.predictor_logits),
        ("wav", &[samples.len()], samples),
    ] {
        files::write_npy(&folder.join(format!("{name}.npy")), shape, data)?;
    }
    Ok(())
}

/// The table and the last line, on stderr.
fn report(found: &Comparison) -> Outcome {
    for line in &found.other {
        files::note(&format!("DIFFERS  {line}"));
    }
    if !found.differences.is_empty() {
        files::note("frame  group  reference  ours      margin  verdict");
    }
    for d in &found.differences {
        let verdict = if d.forgiven { "near-tie, forgiven" } else { "DIFFERS" };
        files::note(&format!(
            "{:5}  {:5}  {:9}  {:4}  {:10.3e}  {verdict}",
            d.frame, d.group, d.reference, d.ours, d.margin
        ));
    }
    let verdict = if found.agrees() { "agrees" } else { "DIFFERS" };
    let equal = found.choices - found.differences.len();
    files::note(&format!("{verdict}: {equal} of {} choices equal, {} forgiven", found.choices, found.forgiven()));
    if found.agrees() { Outcome::Done } else { Outcome::Differs }
}
