//! Runs the built command line and says what came of it.
#![allow(dead_code)] // each test file uses its own part

#[path = "device.rs"]
pub mod device;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

pub struct Ran {
    /// `None`: ended by a signal.
    pub status: Option<i32>,
    pub out: Vec<u8>,
    pub err: String,
}

/// The embedded model's folder in the tree.
pub fn demo() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/demo")
}

/// The command line with these arguments; what computes does so where tests choose, if the arguments do not say where.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qwentts"));
    let (verb, rest) = match args {
        ["say" | "bench" | "trace", _, ..] => args.split_at(1),
        ["codec", "decode" | "encode", ..] | ["voice", "create" | "play", ..] => args.split_at(2),
        _ => (args, &[][..]),
    };
    command.args(verb);
    if !rest.is_empty() && !rest.contains(&"--device") {
        command.args(["--device", &device::device().to_string(), "--kv", &device::kv().to_string()]);
    }
    command.args(rest).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs `command` to its end, with `input` on its standard input.
pub fn run(mut command: Command, input: &[u8]) -> Ran {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // Small enough for the pipe, so that it cannot block. A command that does not read it may be gone: no matter.
    assert!(input.len() < 1 << 16);
    let _ = child.stdin.take().unwrap().write_all(input);
    let done = child.wait_with_output().unwrap();
    let err = String::from_utf8(done.stderr).unwrap();
    assert!(!err.contains("panicked"), "{err}");
    Ran { status: done.status.code(), out: done.stdout, err }
}

/// Runs and expects exit status 0; its output.
pub fn done(args: &[&str]) -> Ran {
    let ran = run(command(args), b"");
    assert_eq!(ran.status, Some(0), "{args:?}: {}", ran.err);
    ran
}

/// Runs and expects a refusal: exit status 2, nothing on standard output, one line on standard error. The line
/// without the program's name.
pub fn refused(args: &[&str]) -> String {
    let ran = run(command(args), b"");
    assert_eq!(ran.status, Some(2), "{args:?}: {}", ran.err);
    assert!(ran.out.is_empty(), "{args:?}: {:?}", String::from_utf8_lossy(&ran.out));
    let line = ran.err.strip_prefix("qwentts: ").and_then(|line| line.strip_suffix('\n'));
    let line = line.unwrap_or_else(|| panic!("{args:?}: {}", ran.err));
    assert!(!line.contains('\n'), "{line}");
    line.to_owned()
}
