//! What the server is told: a TOML file, then flags, then environment variables, each of which overrides what came before
//! it. Owns every option's name, default and words; knows no HTTP.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Seconds that a wait may have: a year.
const LONGEST_S: u64 = 365 * 24 * 60 * 60;

/// A value as a flag or a variable has it.
trait Word: Sized {
    const EXPECTED: &str;
    fn parse(word: &str) -> Option<Self>;
}

macro_rules! words {
    ($($type:ty: $expected:literal),*) => {$(
        impl Word for $type {
            const EXPECTED: &str = $expected;
            fn parse(word: &str) -> Option<Self> {
                word.parse().ok()
            }
        }
    )*};
}
words!(String: "text", PathBuf: "a path", u16: "a number up to 65535", usize: "a whole number", u64: "a whole number");

impl<T: Word> Word for Option<T> {
    const EXPECTED: &str = T::EXPECTED;
    fn parse(word: &str) -> Option<Self> {
        match word {
            "" => Some(None),
            word => T::parse(word).map(Some),
        }
    }
}

impl Word for Vec<String> {
    const EXPECTED: &str = "words with commas between them";
    fn parse(word: &str) -> Option<Self> {
        Some(word.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect())
    }
}

/// One list of options: of it come the file's fields, the flags (`--open-sockets`) and the variables
/// (`QWENTTS_OPEN_SOCKETS`).
macro_rules! options {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr;)*) => {
        /// Every option.
        #[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Config {
            $($(#[doc = $doc])+ pub $name: $type,)*
            /// More models beside `model`, by the names that requests call them. In the file alone.
            pub models: BTreeMap<String, ModelConfig>,
            /// Other names of voices, such as OpenAI's, and the voice that each stands for. In the file alone. OpenAI's names
            /// that are not here stand for the model's presets, in order.
            pub voice_aliases: BTreeMap<String, String>,
        }

        impl Default for Config {
            fn default() -> Self {
                Config { $($name: $default,)* models: BTreeMap::new(), voice_aliases: BTreeMap::new() }
            }
        }

        /// Name and words of each option that is a flag and a variable too.
        const OPTIONS: &[(&str, &str)] = &[$((stringify!($name), concat!($($doc),+))),*];

        impl Config {
            /// Overrides one option with a word; `said` is how the caller names it.
            fn set(&mut self, name: &str, word: &str, said: &str) -> Result<(), String> {
                match name {
                    $(stringify!($name) => match <$type as Word>::parse(word) {
                        Some(value) => self.$name = value,
                        None => return Err(format!("{said}: is {word:?}; expected {}", <$type as Word>::EXPECTED)),
                    })*
                    _ => return Err(format!("{said}: is no option")),
                }
                Ok(())
            }

            /// As TOML; `None` where the option is not set.
            fn value(&self, name: &str) -> Option<toml::Value> {
                match name {
                    $(stringify!($name) => toml::Value::try_from(&self.$name).ok(),)*
                    _ => None,
                }
            }
        }
    };
}

options! {
    /// Address to listen on; 0.0.0.0 for every network of this machine.
    host: String = "127.0.0.1".into();
    /// Port to listen on; 0 takes any that is free.
    port: u16 = 8080;
    /// Model: demo (the embedded one), a folder in the published layout, or a hub id, owner/name or owner/name@revision.
    model: String = "demo".into();
    /// Where it computes, cpu or cuda:N; where not set, the first GPU that this build has kernels for, else the CPU.
    device: Option<String> = None;
    /// How a GPU stores keys and values, f32 or bf16.
    kv: String = "f32".into();
    /// Threads of the CPU; one per core where not set.
    threads: Option<usize> = None;
    /// Utterances of a model that speak at the same time.
    slots: usize = 16;
    /// Utterances of a model that may wait for a slot; beyond it the answer is 429.
    queue: usize = 64;
    /// Folder of voices made of recordings; where not set, none can be made or named.
    voices_dir: Option<PathBuf> = None;
    /// Voices that the folder may hold.
    voices_most: usize = 1000;
    /// Keys, one of which a client must give; none: everybody is served. Letters, digits and - _ . ~ alone.
    api_keys: Vec<String> = Vec::new();
    /// Other origins whose pages may call this server, such as `https://example.org`; `*` for all.
    cors_origins: Vec<String> = Vec::new();
    /// Largest body of a request, in bytes.
    body_bytes: usize = 16 << 20;
    /// Longest text of an utterance, in bytes.
    text_bytes: usize = 20_000;
    /// Sockets that may be open at a time; one more is answered 503.
    open_sockets: usize = 512;
    /// Seconds after which a connection ends on which nothing is asked, sent or read.
    idle_s: u64 = 60;
    /// Seconds that speech under way has to end in once the server is told to stop.
    drain_s: u64 = 30;
}

/// A model beside the first one.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// As `model`.
    pub source: String,
    /// As `device`.
    pub device: Option<String>,
}

/// What the command line came to.
pub enum Said {
    /// Serve.
    Serve(Box<Config>),
    /// Print this.
    Print(String),
}

/// Reads file, flags and variables. An error names the option as it was said, what was found and what was expected.
pub fn read(
    arguments: impl IntoIterator<Item = std::ffi::OsString>,
    variable: impl Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<Said, String> {
    let mut command = clap::Command::new("qwentts-server")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Speech over HTTP and WebSocket, in OpenAI's shape. The page is at /")
        .after_help(
            "A flag overrides the file, an environment variable overrides both: --open-sockets is \
             open_sockets in the file and QWENTTS_OPEN_SOCKETS in the environment.",
        )
        .max_term_width(100)
        .arg(clap::arg!(-c --config <FILE> "Options in TOML; --print-config shows all of them"))
        .arg(clap::arg!(--"print-config" "Print the options in force as TOML, without keys, and stop"));
    for (name, words) in OPTIONS {
        let flag: &'static str = name.replace('_', "-").leak(); // clap keeps it; once in a process
        command =
            command.arg(clap::Arg::new(*name).long(flag).value_name("VALUE").help(words.trim_end_matches('.').trim()));
    }
    let flags = match command.try_get_matches_from(arguments) {
        Ok(flags) => flags,
        Err(e) if !e.use_stderr() => return Ok(Said::Print(e.to_string())),
        Err(e) => return Err(e.to_string()),
    };
    let file = flags.get_one::<String>("config").map(PathBuf::from);
    let mut config = match file.or_else(|| variable("QWENTTS_CONFIG").map(PathBuf::from)) {
        Some(path) => from_file(&path)?,
        None => Config::default(),
    };
    for (name, _) in OPTIONS {
        if let Some(word) = flags.get_one::<String>(name) {
            config.set(name, word, &format!("--{}", name.replace('_', "-")))?;
        }
    }
    for (name, _) in OPTIONS {
        let said = format!("QWENTTS_{}", name.to_uppercase());
        if let Some(word) = variable(&said) {
            let word = word.into_string().map_err(|_| format!("{said}: is not UTF-8"))?;
            config.set(name, &word, &said)?;
        }
    }
    config.check()?;
    Ok(match flags.get_flag("print-config") {
        true => Said::Print(config.printed()),
        false => Said::Serve(Box::new(config)),
    })
}

fn from_file(path: &Path) -> Result<Config, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}

impl Config {
    fn check(&mut self) -> Result<(), String> {
        let key =
            |key: &String| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b));
        if let Some(at) = self.api_keys.iter().position(|k| !key(k)) {
            return Err(format!("api_keys: number {} holds other than letters, digits and - _ . ~", at + 1));
        }
        let most = u64::MAX;
        for (name, value, least, most) in [
            ("body_bytes", self.body_bytes as u64, 1024, most),
            ("text_bytes", self.text_bytes as u64, 1, most),
            ("open_sockets", self.open_sockets as u64, 1, most),
            // A clock has no more to add to.
            ("idle_s", self.idle_s, 1, LONGEST_S),
            ("drain_s", self.drain_s, 0, LONGEST_S),
        ] {
            if value < least {
                return Err(format!("{name}: is {value}; expected at least {least}"));
            }
            if value > most {
                return Err(format!("{name}: is {value}; expected at most {most}"));
            }
        }
        let origin = |said: &str| {
            let at = said.split_once("://").map(|(_, at)| at).unwrap_or_default();
            said == "*" || !at.is_empty() && !at.contains(['/', '?', '#'])
        };
        if let Some(wrong) = self.cors_origins.iter().find(|said| !origin(said)) {
            let expected = "expected * or scheme://host, such as https://example.org, with nothing behind the port";
            return Err(format!("cors_origins: {wrong:?}; {expected}"));
        }
        // Voices are asked for in any case.
        let aliases = std::mem::take(&mut self.voice_aliases);
        self.voice_aliases = aliases.into_iter().map(|(alias, voice)| (alias.to_lowercase(), voice)).collect();
        match self.models.keys().find(|name| **name == model_name(&self.model)) {
            Some(name) => Err(format!("models: {name:?} is the name of the first model too")),
            None => Ok(()),
        }
    }

    /// The first model, then the others, each with its name.
    pub fn all_models(&self) -> Vec<(String, ModelConfig)> {
        let first = ModelConfig { source: self.model.clone(), device: self.device.clone() };
        let others = self.models.iter().map(|(name, model)| (name.clone(), model.clone()));
        std::iter::once((model_name(&self.model), first)).chain(others).collect()
    }

    /// As a file that would say the same; keys are counted, not shown.
    fn printed(&self) -> String {
        let mut text = String::new();
        for (name, words) in OPTIONS {
            text += &format!("# {}\n", words.trim());
            text += &match self.value(name) {
                _ if *name == "api_keys" && !self.api_keys.is_empty() => {
                    format!("# {name}: {}, not shown\n\n", self.api_keys.len())
                }
                Some(value) => format!("{name} = {value}\n\n"),
                None => format!("# {name} is not set\n\n"),
            };
        }
        #[derive(Serialize)]
        struct Tables<'a> {
            models: &'a BTreeMap<String, ModelConfig>,
            voice_aliases: &'a BTreeMap<String, String>,
        }
        let tables = Tables { models: &self.models, voice_aliases: &self.voice_aliases };
        text + &toml::to_string(&tables).unwrap_or_default()
    }
}

/// What requests call a model that has no name of its own: its hub id, as vLLM-Omni's clients do, or its folder's name.
fn model_name(source: &str) -> String {
    #[cfg(feature = "hub")]
    if let Some(id) = crate::models::hub_id(source) {
        return id.to_string();
    }
    let name = Path::new(source).file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| source.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Said, String> {
        let arguments = std::iter::once("qwentts-server").chain(arguments.iter().copied()).map(Into::into);
        read(arguments, |name| variables.iter().find(|(known, _)| *known == name).map(|(_, word)| word.into()))
    }

    fn config(arguments: &[&str], variables: &[(&str, &str)]) -> Config {
        match said(arguments, variables) {
            Ok(Said::Serve(config)) => *config,
            Ok(Said::Print(text)) => panic!("{text}"),
            Err(e) => panic!("{e}"),
        }
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        file
    }

    #[test]
    fn a_flag_overrides_the_file_and_a_variable_both() {
        let file = file("slots = 2\nqueue = 3\nport = 4\n[models.other]\nsource = \"x\"\n");
        let file = file.path().to_str().unwrap();
        let config = config(&["-c", file, "--queue", "5", "--port", "6"], &[("QWENTTS_PORT", "7")]);
        assert_eq!((config.slots, config.queue, config.port), (2, 5, 7));
        assert_eq!(config.all_models().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["demo", "other"]);
    }

    #[test]
    fn a_model_goes_by_its_hub_id_or_its_folders_name() {
        let name = |model: &str| config(&["--model", model], &[]).all_models()[0].0.clone();
        assert_eq!(name("demo"), "demo");
        assert_eq!(name("/models/Qwen3-TTS-12Hz-0.6B-Base"), "Qwen3-TTS-12Hz-0.6B-Base");
        #[cfg(feature = "hub")]
        assert_eq!(name("Qwen/Qwen3-TTS-12Hz-0.6B-Base"), "Qwen/Qwen3-TTS-12Hz-0.6B-Base");
        // A path that exists wins.
        assert_eq!(name("src/config.rs"), "config.rs");
    }

    #[test]
    fn what_is_printed_says_the_same_again() {
        let first = file("voices_dir = \"v\"\ncors_origins = [\"https://a.b\"]\n[voice_aliases]\nalloy = \"rms\"\n");
        let path = first.path().to_str().unwrap();
        let printed = |path: &str| match said(&["-c", path, "--print-config"], &[]) {
            Ok(Said::Print(text)) => text,
            _ => panic!("nothing printed"),
        };
        let once = printed(path);
        let again = file(&once);
        assert_eq!(printed(again.path().to_str().unwrap()), once);
        assert_eq!(config(&["-c", path], &[]), config(&["-c", again.path().to_str().unwrap()], &[]));
    }

    #[test]
    fn keys_are_not_printed() {
        let Ok(Said::Print(text)) = said(&["--print-config"], &[("QWENTTS_API_KEYS", "s3cret,other")]) else {
            panic!("nothing printed")
        };
        assert!(!text.contains("s3cret") && text.contains("api_keys: 2, not shown"), "{text}");
    }

    #[test]
    fn an_error_names_the_option_as_it_was_said() {
        let refused = |arguments: &[&str], variables: &[(&str, &str)]| said(arguments, variables).err().unwrap();
        assert_eq!(refused(&["--slots", "x"], &[]), "--slots: is \"x\"; expected a whole number");
        assert_eq!(
            refused(&[], &[("QWENTTS_PORT", "70000")]),
            "QWENTTS_PORT: is \"70000\"; expected a number up to 65535"
        );
        assert!(refused(&["-c", file("slotz = 1").path().to_str().unwrap()], &[]).contains("slotz"));
        assert!(refused(&["-c", "/nowhere.toml"], &[]).starts_with("/nowhere.toml: "));
        assert!(refused(&[], &[("QWENTTS_API_KEYS", "a b")]).starts_with("api_keys: number 1"));
        assert_eq!(refused(&["--idle-s", "0"], &[]), "idle_s: is 0; expected at least 1");
        let endless = u64::MAX.to_string();
        assert_eq!(refused(&["--drain-s", &endless], &[]), format!("drain_s: is {endless}; expected at most 31536000"));
        for wrong in ["https://a.b/", "a.b", "https://"] {
            assert!(refused(&["--cors-origins", wrong], &[]).starts_with("cors_origins: \""), "{wrong}");
        }
    }
}
