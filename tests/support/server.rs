//! A small HTTP server on loopback that says and does what a test wants, and remembers what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request: method, path with query, headers by their names in small letters.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
}

/// What is sent back, its length always announced.
#[derive(Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// How much of the body is sent before the connection ends.
    sent: usize,
}

impl Answer {
    pub fn new(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), body: Vec::new(), sent: usize::MAX }
    }

    pub fn with(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// All of a file.
    pub fn whole(bytes: &[u8]) -> Answer {
        Answer { body: bytes.to_vec(), ..Answer::new(200) }
    }

    /// A file from where it is asked for.
    pub fn file(asked: &Asked, bytes: &[u8]) -> Answer {
        let Some(range) = asked.headers.get("range") else { return Answer::whole(bytes) };
        let from: usize = range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
        let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
        Answer { body: bytes[from..].to_vec(), ..Answer::new(206) }.with("content-range", &range)
    }

    /// The connection ends after so many bytes of the body.
    pub fn cut(self, sent: usize) -> Answer {
        Answer { sent, ..self }
    }
}

pub struct Server {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Listens for as long as the test's process lives.
    pub fn new(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || serve(connection, &log, &*answer));
            }
        });
        Server { address, asked }
    }

    /// Scheme, host and port.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// One request, one answer, and the end. A client that has gone meanwhile is no failure here.
fn serve(connection: TcpStream, log: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Answer) -> Option<()> {
    let mut lines = BufReader::new(connection.try_clone().ok()?).lines();
    let first = lines.next()?.ok()?;
    let (method, rest) = first.split_once(' ')?;
    let (path, _) = rest.rsplit_once(' ')?;
    let headers = lines.map_while(|line| line.ok().filter(|line| !line.is_empty()));
    let headers = headers.filter_map(|l| l.split_once(": ").map(|(n, v)| (n.to_lowercase(), v.to_owned()))).collect();
    let asked = Asked { method: method.to_owned(), path: path.to_owned(), headers };
    log.lock().unwrap().push(asked.clone());
    let answer = answer(&asked);
    let mut head = format!("HTTP/1.1 {} Word\r\nconnection: close\r\n", answer.status);
    head += &format!("content-length: {}\r\n", answer.body.len());
    head.extend(answer.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")));
    let mut out = &connection;
    out.write_all((head + "\r\n").as_bytes()).ok()?;
    if method != "HEAD" {
        out.write_all(&answer.body[..answer.sent.min(answer.body.len())]).ok()?;
    }
    Some(())
}
