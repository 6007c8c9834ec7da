//! `qwentts voices`: who can speak, in which languages.

use crate::{ModelArgs, Outcome, files};
use clap::Args;
use qwentts::error::Result;

#[derive(Args)]
pub struct Voices {
    #[command(flatten)]
    model: ModelArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Voices {
    pub fn run(self) -> Result<Outcome> {
        let model = self.model.open()?;
        let languages: Vec<&str> = model.config.language_names().collect();
        if self.json {
            let voices: Vec<_> = model
                .config
                .speakers
                .iter()
                .map(|(name, s)| serde_json::json!({"name": name, "dialect": s.dialect}))
                .collect();
            files::print_json(&serde_json::json!({"voices": voices, "languages": languages}))?;
            return Ok(Outcome::Done);
        }
        let mut text = String::new();
        for (name, speaker) in &model.config.speakers {
            let dialect = speaker.dialect.as_ref().map_or(String::new(), |d| format!("  ({d})"));
            text += &format!("{name}{dialect}\n");
        }
        if model.config.speakers.is_empty() {
            files::note("this model has no preset voices");
        }
        files::note(&format!("languages: auto, {}", languages.join(", ")));
        files::print(&text)?;
        Ok(Outcome::Done)
    }
}
