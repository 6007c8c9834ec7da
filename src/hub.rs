//! Models by hub id: finds a model in the hub's cache on disk, and downloads what the cache lacks. Owns the
//! cache's layout and the few requests of the hub that this takes; knows which files a checkpoint needs, not what
//! they hold. The layout is that of the official clients, so that either finds what the other has fetched:
//!
//! ```text
//! models--owner--name/refs/main                     the commit that `main` was, when it was last asked for
//!                     blobs/<etag>                  a whole file; `<etag>.incomplete` while it comes
//!                     snapshots/<commit>/<file>     a link to its blob
//!                     .no_exist/<commit>/<file>     the model has no such file
//! .locks/models--owner--name/<etag>.lock            held by the process that fetches this blob
//! ```
//!
//! What is missing is read from the disk each time, one file after the other, until nothing is: an interrupted
//! download goes on where it was. A blob gets its name only when it is whole, a ref only when its snapshot is.

use crate::error::{Error, Result};
use crate::source::ModelSource;
use crate::weights::{Index, Weights};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use ureq::http::{HeaderMap, Response, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Proxy};

/// Files that every checkpoint has, besides its weights.
const REQUIRED: [&str; 5] =
    ["config.json", "vocab.json", "merges.txt", "tokenizer_config.json", "speech_tokenizer/config.json"];
/// Files that it may have.
const OPTIONAL: [&str; 1] = ["generation_config.json"];

const CONNECT: Duration = Duration::from_secs(10);
/// A server that is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);
const REDIRECTS: usize = 10;

/// A model on the hub: `owner/name` or `owner/name@revision`, where a revision is a branch, tag or commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubId {
    name: String,
    revision: String,
}

impl HubId {
    /// Reads an id; `None` where `text` cannot be one.
    pub fn parse(text: &str) -> Option<HubId> {
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (owner, model) = name.split_once('/')?;
        // Each becomes a part of paths and addresses, so nothing that could lead out of them.
        let word = |w: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !w.is_empty()
                && w.chars().all(known)
                && !w.contains("..")
                && !w.starts_with(['.', '-'])
                && !w.ends_with('.')
        };
        let named = word(owner) && word(model) && !name.contains("--");
        (named && revision.split('/').all(word)).then(|| HubId { name: name.to_owned(), revision: revision.to_owned() })
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &*self.revision {
            "main" => write!(f, "{}", self.name),
            revision => write!(f, "{}@{revision}", self.name),
        }
    }
}

/// Where the cache and the hub are, and what may be done there.
#[derive(Clone)] // no Debug: it would show the token
pub struct HubOptions {
    /// The folder that holds `models--owner--name`; made where it is missing.
    pub cache: PathBuf,
    /// The hub's address: scheme and host, maybe a path.
    pub endpoint: String,
    /// Who asks. Sent to the endpoint's host alone.
    pub token: Option<String>,
    /// Use what the cache holds and make no request.
    pub offline: bool,
    /// An HTTP proxy's address.
    pub proxy: Option<String>,
    /// Certificates (PEM) to trust in place of the public ones: behind a proxy that opens TLS, or a hub of one's own.
    pub certificates: Option<PathBuf>,
}

impl HubOptions {
    /// The public hub's address.
    pub const ENDPOINT: &str = "https://huggingface.co";

    /// As the official clients have them: of the variables HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN (or the token that
    /// their login saved) and HF_HUB_OFFLINE, of the proxies' and the certificates' that most programs share, and of the
    /// user's home folder. `variable` looks one up, such as `std::env::var_os`; an empty one counts as none.
    pub fn of_variables(variable: impl Fn(&str) -> Option<OsString>, user: Option<PathBuf>) -> Result<HubOptions> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let word =
            |name: &str| set(name).and_then(|value| value.into_string().ok()).map(|value| value.trim().to_owned());
        let home = set("HF_HOME").map(PathBuf::from).or_else(|| {
            let caches = set("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(user?.join(".cache")));
            Some(caches?.join("huggingface"))
        });
        let at_home = |name| home.as_ref().map(|home| home.join(name));
        let Some(cache) = set("HF_HUB_CACHE").map(PathBuf::from).or_else(|| at_home("hub")) else {
            let what = "is not set and there is no home folder; set it to where models can be kept";
            return Err(Error::request("HF_HOME", what));
        };
        // As `hf auth login` leaves it.
        let token_file = set("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| at_home("token"));
        let saved = || Some(fs::read_to_string(token_file?).ok()?.trim().to_owned());
        let endpoint = word("HF_ENDPOINT").unwrap_or_else(|| HubOptions::ENDPOINT.to_owned());
        let yes = |value: String| ["1", "ON", "YES", "TRUE"].contains(&&*value.to_uppercase());
        Ok(HubOptions {
            token: word("HF_TOKEN").or_else(saved).filter(|token| !token.is_empty()),
            offline: word("HF_HUB_OFFLINE").is_some_and(yes),
            proxy: proxy_of(&endpoint, word),
            certificates: set("SSL_CERT_FILE").or_else(|| set("REQUESTS_CA_BUNDLE")).map(PathBuf::from),
            cache,
            endpoint,
        })
    }
}

/// The proxy for `endpoint`, by the variables that most programs share.
fn proxy_of(endpoint: &str, word: impl Fn(&str) -> Option<String>) -> Option<String> {
    let either = |name: &str| word(name).or_else(|| word(&name.to_lowercase()));
    let (scheme, rest) = endpoint.split_once("://")?;
    let host = rest.split(['/', ':']).next()?;
    let spared = either("NO_PROXY").unwrap_or_default();
    let spares = |entry: &str| {
        let entry = entry.trim().trim_start_matches('.');
        entry == "*" || entry == host || (!entry.is_empty() && host.ends_with(&format!(".{entry}")))
    };
    if spared.split(',').any(spares) {
        return None;
    }
    either(if scheme == "http" { "HTTP_PROXY" } else { "HTTPS_PROXY" }).or_else(|| either("ALL_PROXY"))
}

/// What a fetch is doing.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// Bytes of `file` have come.
    Came {
        /// The file's name in the model.
        file: &'a str,
        /// So many of it are here, those of an earlier run among them.
        bytes: u64,
        /// Its size.
        total_bytes: u64,
    },
    /// Another process is fetching `file`; this one waits for it.
    Waits {
        /// The file's name in the model.
        file: &'a str,
    },
}

/// The folder of `id` with every file that speaking needs, for [`ModelSource::Folder`]. A complete one in the cache
/// is taken as it is, without a request; otherwise the revision is looked up and what is missing downloaded.
pub fn fetch(id: &HubId, options: &HubOptions, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf> {
    let cache = Cache::new(id, options);
    let commit = cache.commit();
    let missing = match &commit {
        Some(commit) => cache.missing(commit, options.offline)?,
        None => Some(REQUIRED[0].to_owned()),
    };
    match (commit, missing) {
        (Some(commit), None) => return Ok(cache.snapshot(&commit)),
        (_, Some(file)) if options.offline => {
            let what =
                format!("is not in the cache {}, and being offline it is not downloaded", options.cache.display());
            return Err(cache.error(&file, what));
        }
        _ => {}
    }
    let hub = Hub::new(id, options)?;
    // All files are of the commit that the revision is now, whatever is pushed meanwhile.
    let first = hub.describe(REQUIRED[0], &id.revision)?.ok_or_else(|| hub.not_found(REQUIRED[0]))?;
    let commit = first.commit;
    while let Some(file) = cache.missing(&commit, false)? {
        match hub.describe(&file, &commit)? {
            Some(about) => cache.add(&file, &commit, &about, &hub, progress)?,
            None if REQUIRED.contains(&&*file) => return Err(hub.not_found(&file)),
            None => cache.write(&cache.absence(&file, &commit), b"")?,
        }
    }
    if id.revision != commit {
        cache.write(&cache.model.join("refs").join(&id.revision), commit.as_bytes())?;
    }
    Ok(cache.snapshot(&commit))
}

/// A revision of a model that the cache holds, whole or in part.
#[derive(Clone, Debug)]
pub struct Held {
    /// By what to name it: the revision is a ref that points to it, `main` first, or else its commit.
    pub id: HubId,
    /// Why it cannot be used as it is: the first file that is missing, or what is wrong. `None` where it is whole.
    pub lacks: Option<String>,
}

/// The models in the cache, of whatever kind, by name. No cache holds none.
pub fn held(options: &HubOptions) -> Result<Vec<Held>> {
    let mut held = Vec::new();
    for folder in names_in(&options.cache)? {
        let Some(id) = folder.strip_prefix("models--").and_then(|name| HubId::parse(&name.replacen("--", "/", 1)))
        else {
            continue;
        };
        let cache = Cache::new(&id, options);
        let refs = cache.refs();
        let mut commits = names_in(&cache.model.join("snapshots"))?;
        commits.retain(|commit| is_plain(commit));
        if commits.is_empty() {
            held.push(Held { id: id.clone(), lacks: Some(REQUIRED[0].to_owned()) });
        }
        for commit in commits {
            let lacks = cache.missing(&commit, true).unwrap_or_else(|e| Some(e.to_string()));
            let of_commit = || refs.iter().filter(|(_, points_to)| *points_to == commit).map(|(name, _)| name);
            let revision = of_commit().find(|name| *name == "main").or_else(|| of_commit().next());
            held.push(Held { id: HubId { revision: revision.unwrap_or(&commit).clone(), ..id.clone() }, lacks });
        }
    }
    Ok(held)
}

/// What a folder holds, in order; nothing where there is no such folder.
fn names_in(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|e| Error::file(folder, e))?,
    };
    let names =
        entries.map(|entry| entry.map(|e| e.file_name().into_string().ok()).map_err(|e| Error::file(folder, e)));
    let mut names: Vec<String> = names.filter_map(std::result::Result::transpose).collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

// ---- the cache -----------------------------------------------------------------------------------------------

struct Cache<'a> {
    id: &'a HubId,
    /// models--owner--name
    model: PathBuf,
    locks: PathBuf,
}

/// A file of the hub before it is fetched.
struct About {
    commit: String,
    /// The blob's name; for large files the SHA-256 of its bytes.
    etag: String,
    bytes: u64,
}

impl<'a> Cache<'a> {
    fn new(id: &'a HubId, options: &HubOptions) -> Cache<'a> {
        let folder = format!("models--{}", id.name.replace('/', "--"));
        Cache { id, model: options.cache.join(&folder), locks: options.cache.join(".locks").join(folder) }
    }

    fn error(&self, file: &str, what: impl Into<String>) -> Error {
        Error::Hub { file: format!("{}: {file}", self.id), what: what.into() }
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.model.join("snapshots").join(commit)
    }

    /// Where it is noted that the model has no `file`.
    fn absence(&self, file: &str, commit: &str) -> PathBuf {
        self.model.join(".no_exist").join(commit).join(file)
    }

    /// The commit that the revision is, as far as the cache knows.
    fn commit(&self) -> Option<String> {
        let commit = match fs::read_to_string(self.model.join("refs").join(&self.id.revision)) {
            Ok(commit) => commit.trim().to_owned(),
            Err(_) => self.id.revision.clone(), // a commit itself, if there is a snapshot of that name
        };
        (is_plain(&commit) && self.snapshot(&commit).is_dir()).then_some(commit)
    }

    /// Each plain ref with the commit that it names; `main` and the like, not those in folders.
    fn refs(&self) -> Vec<(String, String)> {
        let folder = self.model.join("refs");
        let read = |name: String| {
            let commit = fs::read_to_string(folder.join(&name)).ok()?;
            Some((name, commit.trim().to_owned()))
        };
        names_in(&folder).unwrap_or_default().into_iter().filter_map(read).collect()
    }

    /// The first file that the snapshot lacks. Offline, what a checkpoint may have counts as absent.
    fn missing(&self, commit: &str, offline: bool) -> Result<Option<String>> {
        let folder = self.snapshot(commit);
        let there = |file: &str| folder.join(file).exists(); // through the link
        let absent = |file: &str| self.absence(file, commit).exists();
        if let Some(file) = REQUIRED.into_iter().find(|file| !there(file)) {
            return Ok(Some(file.to_owned()));
        }
        if let Some(file) = OPTIONAL.into_iter().find(|file| !(there(file) || offline || absent(file))) {
            return Ok(Some(file.to_owned()));
        }
        let source = ModelSource::Folder(folder.clone());
        for stem in Weights::STEMS {
            let (single, index) = (format!("{stem}.safetensors"), Index::name(stem));
            let missing = match Index::open(&source, stem)? {
                Some(index) => index.shards(stem).into_iter().find(|shard| !there(shard)),
                None if there(&single) => None,
                None if absent(&single) && absent(&index) => {
                    return Err(self.error(&single, "the model has neither this file nor shards with an index"));
                }
                None if absent(&single) => Some(index),
                None => Some(single),
            };
            if let Some(file) = missing {
                if absent(&file) {
                    return Err(self.error(&file, "the index names this shard, but the model does not have it"));
                }
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// Brings `file` into the snapshot: its blob, fetched where it is missing, and the link.
    fn add(
        &self,
        file: &str,
        commit: &str,
        about: &About,
        hub: &Hub,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let blob = self.model.join("blobs").join(&about.etag);
        let whole = || fs::metadata(&blob).is_ok_and(|m| m.len() == about.bytes);
        if !whole() {
            let lock = self.lock(file, about, progress)?;
            if !whole() {
                self.download(file, about, &blob, hub, progress)?;
            }
            drop(lock);
        }
        self.link(&blob, &self.snapshot(commit).join(file), &about.etag, file)
    }

    /// Waits until no other process fetches this blob; until the lock is dropped, none does.
    fn lock(&self, file: &str, about: &About, progress: &mut dyn FnMut(Progress)) -> Result<File> {
        let path = self.locks.join(format!("{}.lock", about.etag));
        self.make_parent(&path)?;
        let lock = File::create(&path).map_err(|e| Error::file(&path, e))?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => {
                progress(Progress::Waits { file });
                lock.lock().map_err(|e| Error::file(&path, e))?;
            }
            Err(TryLockError::Error(e)) => return Err(Error::file(&path, e)),
            Ok(()) => {}
        }
        Ok(lock)
    }

    fn download(
        &self,
        file: &str,
        about: &About,
        blob: &Path,
        hub: &Hub,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let path = blob.with_file_name(format!("{}.incomplete", about.etag));
        self.make_parent(&path)?;
        let name = |e| Error::file(&path, e);
        let mut part = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(name)?;
        let mut kept = part.metadata().map_err(name)?.len();
        // Only what has a hash can be another's beginning; the rest is small.
        if kept > about.bytes || !is_sha256(&about.etag) {
            part.set_len(0).map_err(name)?;
            kept = 0;
        }
        let resumed = kept > 0;
        while let Some(why) = hub.pour(file, about, &mut part, &path, progress)? {
            let came = part.metadata().map_err(name)?.len();
            // A connection that broke is tried again as long as it brings something.
            if came <= kept {
                let what = format!("{why}; {came} of {} bytes came and are kept: run it again to go on", about.bytes);
                return Err(self.error(file, what));
            }
            kept = came;
        }
        if let Some(found) = wrong_hash(&path, &about.etag).map_err(name)? {
            part.set_len(0).map_err(name)?;
            if resumed {
                // The first part may be of another program's making: once more, from the beginning.
                drop(part);
                return self.download(file, about, blob, hub, progress);
            }
            let what = format!("has SHA-256 {found}, expected {}; what came is thrown away: run it again", about.etag);
            return Err(self.error(file, what));
        }
        part.sync_all().map_err(name)?; // on the disk before it has its name
        fs::rename(&path, blob).map_err(|e| Error::file(blob, e))
    }

    /// Links `at` to `blob`, as a relative path, so that the cache can be moved.
    fn link(&self, blob: &Path, at: &Path, etag: &str, file: &str) -> Result<()> {
        self.make_parent(at)?;
        let up = "../".repeat(2 + file.matches('/').count());
        let link = || place_link(Path::new(&format!("{up}blobs/{etag}")), blob, at);
        let linked = match link() {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && at.exists() => Ok(()), // another process was faster
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(at).and_then(|()| link()),
            other => other,
        };
        linked.map_err(|e| Error::file(at, e))
    }

    /// A small file, whole or not at all.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.make_parent(path)?;
        static COUNT: AtomicU64 = AtomicU64::new(0); // other threads may write the same
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Relaxed));
        let unfinished = path.with_added_extension(format!("{process}-{count}.incomplete"));
        fs::write(&unfinished, bytes).map_err(|e| Error::file(&unfinished, e))?;
        fs::rename(&unfinished, path).map_err(|e| Error::file(path, e))
    }

    fn make_parent(&self, path: &Path) -> Result<()> {
        let Some(folder) = path.parent() else { return Ok(()) };
        fs::create_dir_all(folder).map_err(|e| Error::file(folder, e))
    }
}

#[cfg(unix)]
fn place_link(target: &Path, _blob: &Path, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, at)
}
#[cfg(not(unix))] // where symbolic links are a privilege
fn place_link(_target: &Path, blob: &Path, at: &Path) -> io::Result<()> {
    fs::hard_link(blob, at)
}

fn is_sha256(etag: &str) -> bool {
    etag.len() == 64 && etag.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The hash of a file that is not what its etag says; `None` where it is, or where the etag is no SHA-256.
fn wrong_hash(path: &Path, etag: &str) -> io::Result<Option<String>> {
    if !is_sha256(etag) {
        return Ok(None);
    }
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    let found = format!("{:x}", hash.finalize());
    Ok((found != etag.to_ascii_lowercase()).then_some(found))
}

/// Whether a word from a server can be a file name.
fn is_plain(word: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    !word.is_empty() && word.len() < 200 && !word.starts_with('.') && word.bytes().all(known)
}

// ---- the hub -------------------------------------------------------------------------------------------------

struct Hub<'a> {
    id: &'a HubId,
    options: &'a HubOptions,
    agent: Agent,
}

#[derive(Clone, Copy, PartialEq)]
enum Ask {
    Head,
    /// The bytes from here on.
    Get(u64),
}

impl<'a> Hub<'a> {
    fn new(id: &'a HubId, options: &'a HubOptions) -> Result<Hub<'a>> {
        let refuse = |what| Error::Hub { file: id.to_string(), what };
        if !options.endpoint.starts_with("https://") && !options.endpoint.starts_with("http://") {
            return Err(refuse(format!(
                "the hub's address {:?} begins with neither https:// nor http://",
                options.endpoint
            )));
        }
        let proxy = options.proxy.as_deref().map(Proxy::new).transpose();
        let proxy = proxy.map_err(|e| refuse(format!("the proxy's address cannot be used: {e}")))?;
        let tls = match &options.certificates {
            None => TlsConfig::default(),
            Some(path) => {
                let pem = fs::read(path).map_err(|e| Error::file(path, e))?;
                let trusted: std::result::Result<Vec<_>, _> = parse_pem(&pem)
                    .filter_map(|item| match item {
                        Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
                        Ok(_) => None,
                        Err(e) => Some(Err(e)),
                    })
                    .collect();
                match trusted {
                    Ok(trusted) if !trusted.is_empty() => {
                        TlsConfig::builder().root_certs(RootCerts::new_with_certs(&trusted)).build()
                    }
                    Ok(_) => return Err(Error::checkpoint(path.display().to_string(), "holds no certificate in PEM")),
                    Err(e) => return Err(Error::checkpoint(path.display().to_string(), e.to_string())),
                }
            }
        };
        let config = Agent::config_builder()
            .tls_config(tls)
            .proxy(proxy) // in place of the client's own look at the environment
            .user_agent(concat!("qwentts/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity") // sizes and ranges are those of the file
            .http_status_as_error(false)
            .max_redirects(0) // followed here: the token must not go along
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .build();
        Ok(Hub { id, options, agent: config.into() })
    }

    fn error(&self, file: &str, what: impl Into<String>) -> Error {
        Error::Hub { file: format!("{}: {file}", self.id), what: what.into() }
    }

    fn endpoint(&self) -> &str {
        self.options.endpoint.trim_end_matches('/')
    }

    /// What the hub says of `file`; `None` where the model does not have it.
    fn describe(&self, file: &str, revision: &str) -> Result<Option<About>> {
        let (status, headers) = match self.ask(Ask::Head, file, revision) {
            Ok((response, headers)) => (response.status().as_u16(), headers),
            Err(why) => {
                return Err(
                    self.error(file, format!("{why}; offline, only a model that the cache holds whole can be used"))
                );
            }
        };
        // The first file asked for is one that every model has: without further words, the model itself is missing.
        let absent = match text(&headers, "x-error-code") {
            None => file != REQUIRED[0],
            Some(code) => code == "EntryNotFound",
        };
        if status == 404 && absent {
            return Ok(None);
        }
        // A redirect is the way to the bytes, told with what is asked here.
        if !(200..400).contains(&status) {
            return Err(self.refusal(file, status, &headers));
        }
        let unclear =
            |name| self.error(file, format!("{} answers without a usable {name}; is it a hub?", self.endpoint()));
        let commit = text(&headers, "x-repo-commit").filter(|c| is_plain(c)).ok_or_else(|| unclear("x-repo-commit"))?;
        let etag = text(&headers, "x-linked-etag").or(text(&headers, "etag"));
        let etag = etag.map(|e| e.trim_start_matches("W/").trim_matches('"')).filter(|e| is_plain(e));
        let size = text(&headers, "x-linked-size").or(text(&headers, "content-length").filter(|_| status == 200));
        Ok(Some(About {
            commit: commit.to_owned(),
            etag: etag.ok_or_else(|| unclear("etag"))?.to_owned(),
            bytes: size.and_then(|s| s.parse().ok()).ok_or_else(|| unclear("size"))?,
        }))
    }

    /// Adds the rest of a file to `part`. `Some` says why not all of it came, where trying again may help.
    fn pour(
        &self,
        file: &str,
        about: &About,
        part: &mut File,
        path: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<String>> {
        let on_disk = |have: u64, e: io::Error| {
            let what = format!(
                "{e}; {have} of {} bytes are there and kept: make room, or move the cache, and run it again",
                about.bytes
            );
            Error::file(path, io::Error::new(e.kind(), what))
        };
        let mut have = part.metadata().map_err(|e| on_disk(0, e))?.len();
        if have == about.bytes {
            return Ok(None);
        }
        let (response, headers) = match self.ask(Ask::Get(have), file, &about.commit) {
            Ok(answer) => answer,
            Err(why) => return Ok(Some(why)),
        };
        match response.status().as_u16() {
            206 => {
                let range = text(&headers, "content-range").unwrap_or_default();
                if !range.starts_with(&format!("bytes {have}-")) {
                    return Ok(Some(format!("asked for the bytes from {have} on, the server sent {range:?}")));
                }
            }
            200 => {
                // The whole file, whatever was asked for.
                if have > 0 {
                    part.set_len(0).map_err(|e| on_disk(have, e))?;
                    have = 0;
                }
            }
            status => return Err(self.refusal(file, status, &headers)),
        }
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 18];
        loop {
            progress(Progress::Came { file, bytes: have, total_bytes: about.bytes });
            let came = match body.read(&mut buffer) {
                Ok(0) if have == about.bytes => return Ok(None),
                Ok(0) => return Ok(Some("the connection ended early".to_owned())),
                Ok(came) => came,
                Err(e) => return Ok(Some(format!("the connection broke: {e}"))),
            };
            if have + came as u64 > about.bytes {
                part.set_len(0).map_err(|e| on_disk(have, e))?;
                return Err(self.error(file, format!("more than the {} bytes that were announced came", about.bytes)));
            }
            part.write_all(&buffer[..came]).map_err(|e| on_disk(part.metadata().map_or(have, |m| m.len()), e))?;
            have += came as u64;
        }
    }

    /// One request and the redirects behind it: the last answer and its headers. Without an answer, why.
    fn ask(&self, what: Ask, file: &str, revision: &str) -> std::result::Result<(Response<Body>, HeaderMap), String> {
        let home = origin(self.endpoint());
        let (revision, path) = (encoded(revision, ""), encoded(file, "/"));
        let mut url = format!("{}/{}/resolve/{revision}/{path}", self.endpoint(), self.id.name);
        for _ in 0..REDIRECTS {
            let mut request = if what == Ask::Head { self.agent.head(&url) } else { self.agent.get(&url) };
            if let Ask::Get(from @ 1..) = what {
                request = request.header(header::RANGE, format!("bytes={from}-"));
            }
            if let Some(token) = self.options.token.as_deref().filter(|_| origin(&url) == home) {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let response = request.call().map_err(|e| format!("{} cannot be asked: {e}", origin(&url)))?;
            let headers = response.headers().clone();
            let next = text(&headers, "location").filter(|_| response.status().is_redirection());
            let Some(next) = next.map(|next| joined(&url, next)) else { return Ok((response, headers)) };
            // The store of large files, behind this redirect, knows neither commit nor etag: they are told here.
            if what == Ask::Head && headers.contains_key("x-linked-etag") && origin(&next) != origin(&url) {
                return Ok((response, headers));
            }
            if url.starts_with("https://") && !next.starts_with("https://") {
                return Err(format!("{} leads to {}, which is not encrypted", origin(&url), origin(&next)));
            }
            url = next;
        }
        Err(format!("{} redirects without end", self.endpoint()))
    }

    /// An answer that is no file, in words.
    fn refusal(&self, file: &str, status: u16, headers: &HeaderMap) -> Error {
        let hub = self.endpoint();
        let with_token = self.options.token.is_some();
        let what = match (status, text(headers, "x-error-code")) {
            (401 | 403, Some("GatedRepo")) if with_token => {
                format!("the model is gated, and the token's owner has no access; ask for it on {hub}/{}", self.id.name)
            }
            (401 | 403, Some("GatedRepo")) => {
                format!("the model is gated; ask for access on {hub}/{} and give a token (HF_TOKEN)", self.id.name)
            }
            (401 | 403, _) if with_token => format!(
                "{hub} refuses the token ({status}): it is wrong or expired, or may not read this model; or there is no such model"
            ),
            (401 | 403, _) => format!(
                "{hub} wants a token ({status}): there is no such model, or it is private; check the name or give a token (HF_TOKEN)"
            ),
            (404, Some("RevisionNotFound")) => {
                format!("the model has no revision {:?} on {hub}; check what stands behind the @", self.id.revision)
            }
            (404, Some("EntryNotFound")) => return self.not_found(file),
            (404, _) => format!(
                "{hub} has no such model, or not this file (404); check the name, or the path if a folder was meant"
            ),
            (429, _) => format!("{hub} wants fewer requests (429); try again later, or give a token (HF_TOKEN)"),
            _ => {
                let said = text(headers, "x-error-message").map_or(String::new(), |said| format!(": {said}"));
                format!("{hub} answers {status}{said}; try again later")
            }
        };
        self.error(file, what)
    }

    fn not_found(&self, file: &str) -> Error {
        self.error(file, format!("the model on {} has no such file; is it a Qwen3-TTS checkpoint?", self.endpoint()))
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> String {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |at| host + at);
    url[..end].to_ascii_lowercase()
}

/// Where a redirect from `url` to `location` leads.
fn joined(url: &str, location: &str) -> String {
    let at = origin(url);
    let scheme = at.split("//").next().unwrap_or_default();
    match location {
        l if l.contains("://") && !l.starts_with(['/', '?']) => l.to_owned(),
        l if l.starts_with("//") => format!("{scheme}{l}"),
        l if l.starts_with('/') => format!("{at}{l}"),
        l => {
            let path = url.split(['?', '#']).next().unwrap_or(url);
            let folder = path.rfind('/').filter(|&slash| slash > at.len()).map_or(&*at, |slash| &path[..slash]);
            format!("{folder}/{l}")
        }
    }
}

/// `text` for an address: what could mean something there is escaped, but for `kept`.
fn encoded(text: &str, kept: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b) || kept.as_bytes().contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        for text in ["Qwen/Qwen3-TTS-12Hz-0.6B-CustomVoice", "a/b_c.d@refs/pr/1", "a/b@v1.0"] {
            assert_eq!(HubId::parse(text).map(|id| id.to_string()).as_deref(), Some(text));
        }
        for text in
            ["name", "a/b/c", "../b", "a/..", "/a/b", "a/", "./a", "a/b@", "a/b@../x", "a b/c", "a--b/c", "a/b@x//y"]
        {
            assert_eq!(HubId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn redirects() {
        let from = "https://Hub.example:8443/a/b?c=d/e";
        for (location, to) in [
            ("https://else.where/x", "https://else.where/x"),
            ("//else.where/x", "https://else.where/x"),
            ("/x?y=https://z", "https://hub.example:8443/x?y=https://z"),
            ("x", "https://Hub.example:8443/a/x"),
        ] {
            assert_eq!(joined(from, location), to);
        }
        assert_eq!(origin(from), "https://hub.example:8443");
        assert_ne!(origin("https://hub.example@else.where/a"), origin("https://hub.example"));
        assert_eq!(encoded("refs/pr/1", ""), "refs%2Fpr%2F1");
        assert_eq!(encoded("a b/?.json", "/"), "a%20b/%3F.json");
    }
}
