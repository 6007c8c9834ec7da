//! Would catch a model fetched by hub id that is not the hub's, byte for byte: a part taken for the whole, a cache
//! that the official clients would not know, a token told to strangers, a request where none is needed.
#![cfg(all(feature = "hub", unix))] // the layout's symbolic links; limits through a shell

#[path = "support/run.rs"]
mod run;
#[path = "support/server.rs"]
mod server;

use qwentts::hub::{HubId, HubOptions, Progress, fetch};
use run::{Ran, command, demo, run};
use server::{Answer, Asked, Server};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

const ID: &str = "demo/model";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const WEIGHTS: &str = "model.safetensors";
const TOKEN: &str = "hf_secret";

// ---- a hub on loopback ---------------------------------------------------------------------------------------

type Files = BTreeMap<String, Vec<u8>>;

/// A model's files as far as `fetch` looks at them.
fn small() -> Files {
    let weights = |seed: usize| (0..700_000).map(|i| (i * i / 7 + i / 251 + seed) as u8).collect::<Vec<_>>();
    [
        ("config.json", b"{}".to_vec()),
        ("generation_config.json", b"{\"top_k\": 5}".to_vec()),
        ("vocab.json", b"{\"a\": 0}".to_vec()),
        ("merges.txt", b"#version\n".to_vec()),
        ("tokenizer_config.json", b"{\"b\": 1}".to_vec()),
        ("speech_tokenizer/config.json", b"{\"c\": 2}".to_vec()),
        (WEIGHTS, weights(0)),
        ("speech_tokenizer/model.safetensors", weights(1)),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}

fn demo_files() -> Files {
    small().into_keys().map(|name| (name.clone(), fs::read(demo().join(name)).unwrap())).collect()
}

fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors")
}

/// The blob of a file: large ones by SHA-256, small ones by 40 digits, as Git has them.
fn etag(name: &str, bytes: &[u8]) -> String {
    let hash = sha256(bytes);
    if is_large(name) { hash } else { hash[..40].to_owned() }
}

/// The hub and, at another address, its store of large files.
struct Hub {
    hub: Server,
    store: Server,
    files: Files,
    home: TempDir,
}

fn never(_: &Asked) -> Option<Answer> {
    None
}

impl Hub {
    fn new(files: Files) -> Hub {
        Hub::with(files, never, never)
    }

    fn with(
        files: Files,
        before: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
        before_store: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
    ) -> Hub {
        let stored: BTreeMap<String, Vec<u8>> = files.values().map(|bytes| (sha256(bytes), bytes.clone())).collect();
        let store = Server::new(move |asked| {
            before_store(asked).unwrap_or_else(|| match stored.get(asked.path.trim_start_matches("/store/")) {
                Some(bytes) => Answer::file(asked, bytes),
                None => Answer::new(404),
            })
        });
        let (served, stored_at) = (files.clone(), store.address());
        let hub = Server::new(move |asked| before(asked).unwrap_or_else(|| answer(asked, &served, &stored_at)));
        Hub { hub, store, files, home: TempDir::new().unwrap() }
    }

    fn options(&self) -> HubOptions {
        HubOptions {
            cache: self.home.path().join("hub"),
            endpoint: self.hub.address(),
            token: None,
            offline: false,
            proxy: None,
            certificates: None,
        }
    }

    fn model(&self) -> PathBuf {
        self.options().cache.join("models--demo--model")
    }

    fn blob(&self, name: &str) -> PathBuf {
        self.model().join("blobs").join(etag(name, &self.files[name]))
    }

    fn part(&self, name: &str) -> PathBuf {
        self.blob(name).with_added_extension("incomplete")
    }

    fn fetch(&self) -> qwentts::Result<PathBuf> {
        fetch(&HubId::parse(ID).unwrap(), &self.options(), &mut |_| {})
    }

    #[track_caller]
    fn refused(&self, options: &HubOptions) -> String {
        let error = fetch(&HubId::parse(ID).unwrap(), options, &mut |_| {}).unwrap_err().to_string();
        assert!(!error.contains(TOKEN), "{error}");
        error
    }

    /// All files are in `folder` as the hub has them, and nothing is unfinished.
    #[track_caller]
    fn holds(&self, folder: &Path) {
        for (name, bytes) in &self.files {
            assert!(fs::read(folder.join(name)).unwrap() == *bytes, "{name}");
        }
        for blob in fs::read_dir(self.model().join("blobs")).unwrap() {
            let name = blob.unwrap().file_name();
            assert!(!name.to_str().unwrap().contains("incomplete"), "{name:?}");
        }
    }

    /// What was asked of hub and store, as "GET path".
    fn asked(&self) -> Vec<String> {
        let asked = [self.hub.asked(), self.store.asked()].concat();
        asked.iter().map(|a| format!("{} {}", a.method, a.path)).collect()
    }

    /// How often the bytes of `name` were asked for.
    fn gets(&self, name: &str) -> usize {
        let path = format!("/resolve/{COMMIT}/{name}");
        self.hub.asked().iter().filter(|a| a.method == "GET" && a.path.ends_with(&path)).count()
    }

    /// The command line in an environment that names this hub and nothing of the tester's.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = command(args);
        for (name, _) in std::env::vars_os() {
            let name = name.to_str().unwrap_or_default();
            if name.starts_with("HF_") || name.to_lowercase().ends_with("_proxy") {
                command.env_remove(name);
            }
        }
        command.env("HF_HOME", self.home.path()).env("HF_ENDPOINT", self.hub.address());
        command
    }

    fn run(&self, args: &[&str], more: &[(&str, &str)]) -> Ran {
        let mut command = self.command(args);
        command.envs(more.iter().copied());
        run(command, b"")
    }
}

/// As the hub answers for `demo/model`: small files itself, one of them behind a redirect, large ones from the store.
fn answer(asked: &Asked, files: &Files, store: &str) -> Answer {
    let Some(path) = asked.path.strip_prefix("/demo/model/resolve/") else {
        return Answer::new(404).with("x-error-code", "RepoNotFound");
    };
    let (revision, name) = path.split_once('/').unwrap();
    if ![COMMIT, "main", "refs%2Fpr%2F1"].contains(&revision) {
        return Answer::new(404).with("x-error-code", "RevisionNotFound");
    }
    let (name, moved) = name.strip_suffix("?moved").map_or((name, false), |name| (name, true));
    let Some(bytes) = files.get(name) else { return Answer::new(404).with("x-error-code", "EntryNotFound") };
    let tag = format!("\"{}\"", etag(name, bytes));
    if is_large(name) {
        let redirect = Answer::new(302).with("location", &format!("{store}/store/{}", sha256(bytes)));
        return redirect
            .with("x-repo-commit", COMMIT)
            .with("x-linked-etag", &tag)
            .with("x-linked-size", &bytes.len().to_string());
    }
    match name == "merges.txt" && !moved {
        true => Answer::new(307).with("location", &format!("{}?moved", asked.path)),
        false => Answer::file(asked, bytes).with("x-repo-commit", COMMIT).with("etag", &format!("W/{tag}")),
    }
}

// ---- the way that should be usual ----------------------------------------------------------------------------

#[test]
fn a_model_by_its_id() {
    let hub = Hub::new(demo_files());
    let ran = hub.run(&["voices", "-m", ID], &[]);
    assert_eq!((ran.status, &*ran.out), (Some(0), &b"rms\nslt\n"[..]), "{}", ran.err);
    let note = format!("downloading demo/model to {}\n", hub.options().cache.display());
    assert_eq!(ran.err, format!("{note}languages: auto, english\n"), "no bar where there is no terminal");
    assert_eq!(fs::read_to_string(hub.model().join("refs/main")).unwrap(), COMMIT);
    let snapshot = hub.model().join("snapshots").join(COMMIT);
    hub.holds(&snapshot);
    for (name, up) in [(WEIGHTS, "../.."), ("speech_tokenizer/config.json", "../../..")] {
        let link = fs::read_link(snapshot.join(name)).unwrap();
        assert_eq!(link, Path::new(up).join("blobs").join(etag(name, &hub.files[name])));
    }
    assert!(hub.files.keys().all(|name| hub.gets(name) == 1));

    // Again: from the cache, whatever the network does.
    let before = hub.asked().len();
    for more in [&[][..], &[("HF_HUB_OFFLINE", "1")], &[("HF_ENDPOINT", "http://127.0.0.1:1")]] {
        let ran = hub.run(&["voices", "-m", ID], more);
        assert_eq!((ran.status, &*ran.err), (Some(0), "languages: auto, english\n"));
    }
    let ran = hub.run(&["inspect", &format!("{ID}@{COMMIT}")], &[]);
    assert_eq!(ran.status, Some(0), "{}", ran.err);
    assert_eq!(hub.asked().len(), before, "{:?}", hub.asked());
}

#[test]
fn a_path_that_exists_wins() {
    let hub = Hub::new(small());
    fs::create_dir(hub.home.path().join("demo")).unwrap();
    symlink(demo(), hub.home.path().join(ID)).unwrap();
    let mut command = hub.command(&["voices", "-m", ID]);
    command.current_dir(hub.home.path());
    assert_eq!(run(command, b"").out, b"rms\nslt\n");
    assert_eq!(hub.asked(), [""; 0]);
}

#[test]
fn the_environment_is_that_of_the_official_clients() {
    let cache = TempDir::new().unwrap();
    let (hub, at) = (Hub::new(demo_files()), cache.path().to_str().unwrap());
    fs::write(hub.home.path().join("token"), format!("{TOKEN}\n")).unwrap();
    let ran = hub.run(&["voices", "-m", ID], &[("HF_HUB_CACHE", at), ("HF_TOKEN", "")]);
    assert_eq!(ran.status, Some(0), "{}", ran.err);
    assert!(cache.path().join("models--demo--model/refs/main").exists());
    assert!(hub.hub.asked().iter().all(|a| a.headers["authorization"] == format!("Bearer {TOKEN}")));
    // The variable is before the file, and another's home is another cache.
    let before = hub.hub.asked().len();
    let ran = hub.run(&["voices", "-m", ID], &[("HF_HOME", at), ("HF_TOKEN", "mine")]);
    assert_eq!(ran.status, Some(0), "{}", ran.err);
    assert!(hub.hub.asked()[before..].iter().all(|a| a.headers["authorization"] == "Bearer mine"));
    // A proxy is asked for the hub's name, unless that is spared.
    let proxy = hub.store.address();
    let at = [("HF_HUB_CACHE", "/nowhere/cache"), ("HF_ENDPOINT", "http://hub.invalid"), ("HTTP_PROXY", &*proxy)];
    let before = hub.store.asked().len();
    assert_eq!(hub.run(&["voices", "-m", ID], &at).status, Some(2));
    let through = hub.store.asked()[before..].to_vec();
    assert!(through.iter().any(|a| a.path.contains("hub.invalid")), "{through:?}");
    let ran = hub.run(&["voices", "-m", ID], &[&at[..], &[("NO_PROXY", "x, .invalid")]].concat());
    assert_eq!(ran.status, Some(2));
    assert_eq!(hub.store.asked().len(), before + through.len());
}

#[test]
fn a_cache_of_the_official_client_is_taken_as_it_is() {
    let hub = Hub::new(small());
    let snapshot = hub.model().join("snapshots").join(COMMIT);
    fs::create_dir_all(snapshot.join("speech_tokenizer")).unwrap();
    fs::create_dir_all(hub.model().join("blobs")).unwrap();
    fs::create_dir_all(hub.model().join("refs")).unwrap();
    fs::write(hub.model().join("refs/main"), COMMIT).unwrap();
    for (name, bytes) in &hub.files {
        fs::write(hub.blob(name), bytes).unwrap();
        let up = if name.contains('/') { "../../.." } else { "../.." };
        symlink(Path::new(up).join("blobs").join(etag(name, bytes)), snapshot.join(name)).unwrap();
    }
    assert_eq!(hub.fetch().unwrap(), snapshot);
    assert_eq!(hub.asked(), [""; 0]);
    // A lost link is laid again, a lost blob fetched again, and nothing else.
    fs::remove_file(snapshot.join(WEIGHTS)).unwrap();
    fs::remove_file(hub.blob("vocab.json")).unwrap();
    hub.holds(&hub.fetch().unwrap());
    let gets: Vec<_> = hub.asked().into_iter().filter(|a| a.starts_with("GET")).collect();
    assert_eq!(gets, [format!("GET /demo/model/resolve/{COMMIT}/vocab.json")]);
    // What it may lack is asked for once, and offline not at all.
    fs::remove_file(snapshot.join("generation_config.json")).unwrap();
    let offline = HubOptions { offline: true, ..hub.options() };
    assert_eq!(fetch(&HubId::parse(ID).unwrap(), &offline, &mut |_| {}).unwrap(), snapshot);
}

#[test]
fn a_revision() {
    let hub = Hub::new(small());
    let id = HubId::parse("demo/model@refs/pr/1").unwrap();
    hub.holds(&fetch(&id, &hub.options(), &mut |_| {}).unwrap());
    assert_eq!(hub.asked()[0], "HEAD /demo/model/resolve/refs%2Fpr%2F1/config.json");
    assert!(hub.hub.asked()[1..].iter().all(|a| a.path.contains(COMMIT)));
    assert_eq!(fs::read_to_string(hub.model().join("refs/refs/pr/1")).unwrap(), COMMIT);
    // `main` is the same commit: asked for once, nothing downloaded.
    let before = hub.hub.asked().len();
    hub.fetch().unwrap();
    let after: Vec<String> = hub.hub.asked()[before..].iter().map(|a| format!("{} {}", a.method, a.path)).collect();
    assert_eq!(after, ["HEAD /demo/model/resolve/main/config.json"]);
}

#[test]
fn shards_and_what_a_model_may_lack() {
    let mut files = small();
    files.remove("generation_config.json");
    let whole = files.remove(WEIGHTS).unwrap();
    files.insert("model-1.safetensors".into(), whole[..300_000].to_vec());
    files.insert("model 2.safetensors".into(), whole[300_000..].to_vec());
    let index =
        br#"{"weight_map": {"a": "model-1.safetensors", "b": "model 2.safetensors", "c": "model-1.safetensors"}}"#;
    files.insert("model.safetensors.index.json".into(), index.to_vec());
    // Addresses have %20 for the blank.
    let spaced = files["model 2.safetensors"].clone();
    files.insert("model%202.safetensors".into(), spaced);
    let mut hub = Hub::new(files);
    hub.files.remove("model%202.safetensors");
    hub.holds(&hub.fetch().unwrap());
    let before = hub.asked().len();
    hub.fetch().unwrap();
    let commit = HubId::parse(&format!("{ID}@{COMMIT}")).unwrap();
    fetch(&commit, &hub.options(), &mut |_| {}).unwrap();
    assert_eq!(hub.asked().len(), before, "what is absent is known: {:?}", hub.asked());
    // The same by its commit, from nothing.
    fs::remove_dir_all(hub.model()).unwrap();
    hub.holds(&fetch(&commit, &hub.options(), &mut |_| {}).unwrap());
}

// ---- connections that break ----------------------------------------------------------------------------------

/// A store whose first answer for a file ends after `cut` bytes, and whose next `silent` answers bring nothing.
fn cut_once(cut: usize, silent: usize) -> Hub {
    let weights = small()[WEIGHTS].clone();
    let path = format!("/store/{}", sha256(&weights));
    let count = AtomicUsize::new(0);
    Hub::with(small(), never, move |asked| {
        (asked.path == path).then(|| count.fetch_add(1, SeqCst)).and_then(|n| match n {
            0 => Some(Answer::file(asked, &weights).cut(cut)),
            n if n <= silent => Some(Answer::file(asked, &weights).cut(0)),
            _ => None,
        })
    })
}

#[test]
fn an_interrupted_download_goes_on_in_the_next_run() {
    let hub = cut_once(400_001, 1);
    let error = hub.refused(&hub.options());
    assert!(error.starts_with("demo/model: model.safetensors: the connection "), "{error}");
    assert!(error.ends_with("; 400001 of 700000 bytes came and are kept: run it again to go on"), "{error}");
    assert_eq!(fs::read(hub.part(WEIGHTS)).unwrap(), hub.files[WEIGHTS][..400_001]);
    assert!(!hub.blob(WEIGHTS).exists() && !hub.model().join("snapshots").join(COMMIT).join(WEIGHTS).exists());
    assert!(!hub.model().join("refs/main").exists(), "a ref to a part of a model");
    let offline = HubOptions { offline: true, ..hub.options() };
    assert!(hub.refused(&offline).contains("is not in the cache"));

    let small_gets = hub.gets("config.json");
    let mut bytes_seen = Vec::new();
    let folder = fetch(&HubId::parse(ID).unwrap(), &hub.options(), &mut |progress| {
        if let Progress::Came { file: WEIGHTS, bytes, total_bytes } = progress {
            assert_eq!(total_bytes, 700_000);
            bytes_seen.push(bytes);
        }
    });
    hub.holds(&folder.unwrap());
    assert_eq!((bytes_seen[0], bytes_seen[bytes_seen.len() - 1]), (400_001, 700_000));
    assert!(bytes_seen.is_sorted());
    let store = hub.store.asked();
    let ranges: Vec<_> = store.iter().filter(|a| a.path.ends_with(&sha256(&hub.files[WEIGHTS]))).collect();
    assert_eq!(ranges[2].headers["range"], "bytes=400001-");
    assert_eq!(hub.gets("config.json"), small_gets, "what was whole is not asked for again");
}

#[test]
fn a_broken_connection_is_taken_up_again() {
    let hub = cut_once(123_456, 0);
    hub.holds(&hub.fetch().unwrap());
    assert_eq!(hub.store.asked()[1].headers["range"], "bytes=123456-");
}

#[test]
fn a_store_without_ranges_sends_all_of_it() {
    let weights = small()[WEIGHTS].clone();
    let path = format!("/store/{}", sha256(&weights));
    let count = AtomicUsize::new(0);
    let hub = Hub::with(small(), never, move |asked| {
        (asked.path == path).then(|| {
            let whole = Answer::whole(&weights);
            if count.fetch_add(1, SeqCst) == 0 { whole.cut(500_000) } else { whole }
        })
    });
    hub.holds(&hub.fetch().unwrap());
    assert_eq!(hub.gets(WEIGHTS), 2);
}

#[test]
fn wrong_bytes_are_never_taken() {
    // As long as announced, and another file.
    let swapped = Arc::new(Mutex::new(true));
    let (other, still) = (small()["speech_tokenizer/model.safetensors"].clone(), swapped.clone());
    let path = format!("/store/{}", sha256(&small()[WEIGHTS]));
    let hub = Hub::with(small(), never, move |asked| {
        (asked.path == path && *still.lock().unwrap()).then(|| Answer::file(asked, &other))
    });
    let (right, wrong) = (sha256(&hub.files[WEIGHTS]), sha256(&hub.files["speech_tokenizer/model.safetensors"]));
    let error = hub.refused(&hub.options());
    let words = format!("has SHA-256 {wrong}, expected {right}; what came is thrown away: run it again");
    assert_eq!(error, format!("demo/model: model.safetensors: {words}"));
    assert_eq!(fs::metadata(hub.part(WEIGHTS)).unwrap().len(), 0);
    assert!(!hub.blob(WEIGHTS).exists());
    // A beginning that someone else left, and that is wrong: all of it again, without a word.
    *swapped.lock().unwrap() = false;
    fs::write(hub.part(WEIGHTS), [7; 1000]).unwrap();
    hub.holds(&hub.fetch().unwrap());
    let hub = Hub::new(small());
    fs::create_dir_all(hub.model().join("blobs")).unwrap();
    fs::write(hub.part(WEIGHTS), [7; 800_000]).unwrap(); // longer than the file
    fs::write(hub.part("merges.txt"), b"?").unwrap(); // of a file without a hash
    fs::write(hub.blob("vocab.json"), b"").unwrap(); // a blob that someone emptied
    hub.holds(&hub.fetch().unwrap());
}

#[test]
fn a_full_disk() {
    let hub = Hub::new(demo_files());
    let said = |ran: Ran, why: &str, came: u64| {
        assert_eq!((ran.status, &*ran.out), (Some(2), &b""[..]), "{}", ran.err);
        let part = hub.part(WEIGHTS);
        let size = hub.files[WEIGHTS].len();
        let kept = "bytes are there and kept: make room, or move the cache, and run it again";
        let line = format!("qwentts: {}: {why}; {came} of {size} {kept}\n", part.display());
        assert!(ran.err.ends_with(&line), "{}", ran.err);
        assert!(!hub.blob(WEIGHTS).exists() && !hub.model().join("refs/main").exists());
    };
    // The limit of a file's size stands for the disk's: 4096 blocks of 512 or of 1024 bytes, as the shell counts.
    let qwentts = env!("CARGO_BIN_EXE_qwentts");
    let mut limited = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f 4096; exec {qwentts} voices -m {ID}");
    limited.args(["-c", &script]).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    limited.env("HF_HOME", hub.home.path()).env("HF_ENDPOINT", hub.hub.address());
    let ran = run(limited, b"");
    let came = fs::metadata(hub.part(WEIGHTS)).unwrap().len();
    assert!(came == 4096 * 512 || came == 4096 * 1024, "{came}");
    said(ran, "File too large (os error 27)", came);
    if cfg!(target_os = "linux") {
        // The system's own word for a full disk.
        let kept = hub.part(WEIGHTS).with_extension("kept");
        fs::rename(hub.part(WEIGHTS), &kept).unwrap();
        symlink("/dev/full", hub.part(WEIGHTS)).unwrap();
        said(hub.run(&["voices", "-m", ID], &[]), "No space left on device (os error 28)", 0);
        fs::rename(&kept, hub.part(WEIGHTS)).unwrap();
    }
    // With room again it goes on from there.
    let before = hub.store.asked().len();
    let ran = hub.run(&["voices", "-m", ID], &[]);
    assert_eq!(ran.status, Some(0), "{}", ran.err);
    assert_eq!(hub.store.asked()[before].headers["range"], format!("bytes={came}-"));
    hub.holds(&hub.model().join("snapshots").join(COMMIT));
}

#[test]
fn several_at_once_fetch_each_file_once() {
    let slow = Hub::with(small(), never, |_| {
        std::thread::sleep(std::time::Duration::from_millis(300));
        None
    });
    let waits = AtomicUsize::new(0);
    let one = || {
        fetch(&HubId::parse(ID).unwrap(), &slow.options(), &mut |progress| {
            waits.fetch_add(usize::from(matches!(progress, Progress::Waits { .. })), SeqCst);
        })
    };
    std::thread::scope(|scope| {
        let all = [scope.spawn(one), scope.spawn(one), scope.spawn(one)];
        for fetched in all {
            slow.holds(&fetched.join().unwrap().unwrap());
        }
    });
    assert_eq!((slow.gets(WEIGHTS), slow.store.asked().len()), (1, 2));
    assert!(waits.into_inner() > 0, "who waits is told");
}

// ---- refusals ------------------------------------------------------------------------------------------------

#[test]
fn a_token_reaches_the_hub_and_no_one_else() {
    let guard = |asked: &Asked| {
        let known = asked.headers.get("authorization").is_some_and(|a| a == &format!("Bearer {TOKEN}"));
        (!known).then(|| Answer::new(401).with("x-error-code", "RepoNotFound"))
    };
    let hub = Hub::with(small(), guard, never);
    let at = hub.hub.address();
    let error = hub.refused(&hub.options());
    let words = "there is no such model, or it is private; check the name or give a token (HF_TOKEN)";
    assert_eq!(error, format!("demo/model: config.json: {at} wants a token (401): {words}"));
    let with = |token: &str| HubOptions { token: Some(token.to_owned()), ..hub.options() };
    let error = hub.refused(&with("hf_wrong"));
    let words = "it is wrong or expired, or may not read this model; or there is no such model";
    assert_eq!(error, format!("demo/model: config.json: {at} refuses the token (401): {words}"));

    hub.holds(&fetch(&HubId::parse(ID).unwrap(), &with(TOKEN), &mut |_| {}).unwrap());
    assert!(hub.asked().iter().any(|a| a.ends_with("?moved")), "a redirect at home has the token");
    let store = hub.store.asked();
    assert!(store.len() == 2 && store.iter().all(|a| !a.headers.contains_key("authorization")), "{store:?}");
}

#[test]
fn a_gated_model() {
    let hub = Hub::with(small(), |_| Some(Answer::new(403).with("x-error-code", "GatedRepo")), never);
    let page = format!("{}/demo/model", hub.hub.address());
    let error = hub.refused(&hub.options());
    assert!(error.ends_with(&format!("is gated; ask for access on {page} and give a token (HF_TOKEN)")), "{error}");
    let error = hub.refused(&HubOptions { token: Some(TOKEN.into()), ..hub.options() });
    assert!(
        error.ends_with(&format!("is gated, and the token's owner has no access; ask for it on {page}")),
        "{error}"
    );
}

#[test]
fn what_is_not_there() {
    let mut files = small();
    files.remove("merges.txt");
    let hub = Hub::new(files);
    let at = hub.hub.address();
    let line = |id: &str| {
        let ran = hub.run(&["voices", "-m", id], &[]);
        assert_eq!((ran.status, &*ran.out), (Some(2), &b""[..]));
        ran.err.lines().last().unwrap().strip_prefix("qwentts: ").unwrap().to_owned()
    };
    let words = "has no such model, or not this file (404); check the name, or the path if a folder was meant";
    assert_eq!(line("demo/modle"), format!("demo/modle: config.json: {at} {words}"));
    let words = format!("the model has no revision \"v9\" on {at}; check what stands behind the @");
    assert_eq!(line("demo/model@v9"), format!("demo/model@v9: config.json: {words}"));
    let words = format!("the model on {at} has no such file; is it a Qwen3-TTS checkpoint?");
    assert_eq!(line(ID), format!("demo/model: merges.txt: {words}"));
    // No weights at all; and an index of shards that are not there.
    let mut files = small();
    files.remove(WEIGHTS);
    let hub = Hub::new(files.clone());
    let error = hub.refused(&hub.options());
    assert_eq!(error, "demo/model: model.safetensors: the model has neither this file nor shards with an index");
    files.insert("model.safetensors.index.json".into(), br#"{"weight_map": {"a": "model-1.safetensors"}}"#.to_vec());
    let hub = Hub::new(files);
    let error = hub.refused(&hub.options());
    assert_eq!(error, "demo/model: model-1.safetensors: the index names this shard, but the model does not have it");
}

#[test]
fn offline_and_not_in_the_cache() {
    let hub = Hub::new(small());
    for yes in ["1", "true", "YES", "on"] {
        let ran = hub.run(&["voices", "-m", ID], &[("HF_HUB_OFFLINE", yes)]);
        let cache = hub.options().cache;
        let words = format!("is not in the cache {}, and being offline it is not downloaded", cache.display());
        assert_eq!((ran.status, ran.err), (Some(2), format!("qwentts: demo/model: config.json: {words}\n")));
    }
    assert_eq!(hub.asked(), [""; 0]);
    let error = hub.refused(&HubOptions { endpoint: "http://127.0.0.1:1".into(), ..hub.options() });
    assert!(error.starts_with("demo/model: config.json: http://127.0.0.1:1 cannot be asked: "), "{error}");
    let error = hub.refused(&HubOptions { endpoint: "hub.example".into(), ..hub.options() });
    assert_eq!(error, "demo/model: the hub's address \"hub.example\" begins with neither https:// nor http://");
    // The hub goes away half way.
    hub.fetch().unwrap();
    fs::remove_file(hub.blob("merges.txt")).unwrap();
    let error = hub.refused(&HubOptions { offline: true, ..hub.options() });
    assert!(error.starts_with("demo/model: merges.txt: is not in the cache "), "{error}");
}

#[test]
fn answers_that_are_no_hub_s() {
    let no_size = Answer::new(302).with("location", "http://127.0.0.1:1/").with("x-linked-etag", "e");
    let only_cache = "; offline, only a model that the cache holds whole can be used";
    for (answer, words) in [
        (Answer::whole(b"hello"), " answers without a usable x-repo-commit; is it a hub?".to_owned()),
        (
            Answer::whole(b"{}").with("x-repo-commit", "../x"),
            " without a usable x-repo-commit; is it a hub?".to_owned(),
        ),
        (
            Answer::whole(b"{}").with("x-repo-commit", "c").with("etag", "\"../a\""),
            " answers without a usable etag; is it a hub?".to_owned(),
        ),
        (no_size.with("x-repo-commit", "c"), " answers without a usable size; is it a hub?".to_owned()),
        (Answer::new(302).with("location", "?again"), format!(" redirects without end{only_cache}")),
        (Answer::new(500).with("x-error-message", "Oh."), " answers 500: Oh.; try again later".to_owned()),
        (Answer::new(429), " wants fewer requests (429); try again later, or give a token (HF_TOKEN)".to_owned()),
    ] {
        let hub = Hub::with(small(), move |_| Some(answer.clone()), never);
        let error = hub.refused(&hub.options());
        assert!(error.ends_with(&words), "{error}");
        assert!(!hub.model().exists());
    }
    // A shard's name that leads out of the folder.
    let mut files = small();
    files.remove(WEIGHTS);
    files.insert("model.safetensors.index.json".into(), br#"{"weight_map": {"a": "../../x"}}"#.to_vec());
    let hub = Hub::new(files);
    assert!(hub.refused(&hub.options()).ends_with("shard name \"../../x\" leaves the folder"));
}
