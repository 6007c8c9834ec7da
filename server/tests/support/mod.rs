//! A server process of this build, and clients that can do what real ones do at their worst. Each test file uses its own part.
#![allow(dead_code, unused_imports)]

#[path = "../../../tests/support/checkpoint.rs"]
mod checkpoint;

pub use checkpoint::checkpoint;

use qwentts::frame::Sample;
use qwentts::{Device, Engine, EngineOptions, ModelSource, Request, Voice};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// How long anything may take before it counts as hanging.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn goldens() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

/// Where models are served on the CPU: what the process was asked for, beside what a test adds.
pub struct Server {
    process: Child,
    pub address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Ready to speak.
    pub fn start(flags: &[&str]) -> Server {
        let server = Server::start_with(flags, &[]);
        server.until("ready", || server.get("/ready").status == 200);
        server
    }

    /// Listening.
    pub fn start_with(flags: &[&str], variables: &[(&str, &str)]) -> Server {
        let mut process = Command::new(env!("CARGO_BIN_EXE_qwentts-server"))
            .args(["--port", "0", "--device", "cpu"])
            .args(flags)
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut log = String::new();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("ended before it listened: {log}")).unwrap();
            log += &(line.clone() + "\n");
            if let Some(at) = line.split("http://").nth(1) {
                break at.trim_end_matches('/').parse().unwrap();
            }
        };
        let log = Arc::new(Mutex::new(log));
        let more = log.clone();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| *more.lock().unwrap() += &(line + "\n"))
        });
        Server { process, address, log }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Coming {
        let mut stream = self.connect();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.address);
        head.extend(headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")));
        if !body.is_empty() {
            head += &format!("content-length: {}\r\n", body.len());
        }
        stream.write_all((head + "\r\n").as_bytes()).unwrap();
        // A server that refuses may have closed before it has read all.
        let _ = stream.write_all(body);
        Coming::new(stream)
    }

    pub fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send(method, path, headers, body).whole()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], b"")
    }

    pub fn ask(&self, body: serde_json::Value) -> Coming {
        let json = [("content-type", "application/json")];
        self.send("POST", "/v1/audio/speech", &json, body.to_string().as_bytes())
    }

    pub fn speak(&self, body: serde_json::Value) -> Answer {
        self.ask(body).whole()
    }

    /// A number that /metrics has, 0 where it has none yet. `name` with its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits for something that must come.
    pub fn until(&self, what: &str, happened: impl Fn() -> bool) {
        let began = Instant::now();
        while !happened() {
            assert!(began.elapsed() < PATIENCE, "not {what}: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn speaking(&self) -> f64 {
        self.metric("qwentts_streams_speaking{model=\"demo\"}")
    }

    pub fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// How the process ended.
    pub fn wait(&mut self) -> i32 {
        let began = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(began.elapsed() < PATIENCE, "does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Open descriptors of the process.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    /// What it holds of memory, in kB.
    pub fn resident_kb(&self) -> usize {
        self.memory_kb("VmRSS:")
    }

    /// The most that it has held.
    pub fn peak_kb(&self) -> usize {
        self.memory_kb("VmHWM:")
    }

    fn memory_kb(&self, what: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let log = self.log();
        if !std::thread::panicking() {
            assert!(!log.contains("panicked"), "{log}");
        }
    }
}

/// An answer that is coming.
pub struct Coming {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    stream: BufReader<TcpStream>,
}

impl Coming {
    pub fn new(stream: TcpStream) -> Coming {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no status: {line:?}")).parse().unwrap();
        let mut headers = BTreeMap::new();
        loop {
            line.clear();
            stream.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        Coming { status, headers, stream }
    }

    /// The next piece as it was sent; `None` at the end, an error where the answer breaks off.
    pub fn next_piece(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut piece = vec![0; length + 2];
        self.stream.read_exact(&mut piece)?;
        piece.truncate(length);
        Ok((length > 0).then_some(piece))
    }

    pub fn whole(self) -> Answer {
        let answer = self.try_whole();
        assert!(!answer.broken, "the answer breaks off after {} bytes", answer.body.len());
        answer
    }

    pub fn try_whole(mut self) -> Answer {
        let (mut body, mut pieces, mut broken) = (Vec::new(), Vec::new(), false);
        match self.headers.get("content-length").map(|length| length.parse::<usize>().unwrap()) {
            Some(length) => {
                body.resize(length, 0);
                broken = self.stream.read_exact(&mut body).is_err();
            }
            None if self.headers.contains_key("transfer-encoding") => loop {
                match self.next_piece() {
                    Ok(Some(piece)) => {
                        pieces.push(piece.len());
                        body.extend(piece);
                    }
                    Ok(None) => break,
                    Err(_) => {
                        broken = true;
                        break;
                    }
                }
            },
            None => {}
        }
        Answer { status: self.status, headers: self.headers, body, pieces, broken }
    }
}

pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// Lengths of what came together.
    pub pieces: Vec<usize>,
    pub broken: bool,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Checks that it is an error in OpenAI's shape; its field and its words.
    pub fn error(&self, status: u16) -> (Option<String>, String) {
        assert_eq!(self.status, status, "{}", self.text());
        let error = &self.json()["error"];
        assert!(error["type"].is_string() && error["code"].is_string(), "{error}");
        (error["param"].as_str().map(str::to_owned), error["message"].as_str().unwrap().to_owned())
    }
}

/// The embedded model in this process, for what it should have said.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let options = EngineOptions { device: Some(Device::Cpu), ..Default::default() };
        Engine::open(&ModelSource::Demo, &options).unwrap()
    })
}

pub fn request(voice: &str) -> Request {
    Request { voice: Voice::Preset(voice.to_owned()), ..Request::default() }
}

/// What the embedded model says, as pcm has it.
pub fn said(text: &str, request: &Request) -> Vec<u8> {
    let mut stream = engine().speak(text, request).unwrap();
    let samples = stream.chunks().flat_map(|chunk| chunk.unwrap().samples);
    samples.flat_map(|sample| i16::of(sample).to_le_bytes()).collect()
}
