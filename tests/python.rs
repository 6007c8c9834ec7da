//! Would catch a Python package that does not fit the library: runs its own tests (ffi_examples/python/tests, whose head says
//! what each would catch) with the library and the command line of this build. Needs python3 (3.9 or later, with venv).
#![cfg(all(target_os = "linux", feature = "demo"))] // libqwentts.so by its name; the embedded voices

mod support;

use std::env;
use std::path::Path;
use std::process::Command;

#[test]
fn the_package_speaks() {
    // target/release/deps/python-…: the library that cargo made with this test is beside it.
    let library = env::current_exe().unwrap().parent().unwrap().join("libqwentts.so");
    assert!(library.exists(), "{} is not there", library.display());
    let python = env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("ffi_examples/python/tests");
    let ran = Command::new(&python)
        .args(["-B", "-W", "error::ResourceWarning", "-m", "unittest", "discover", "-v", "-s"])
        .arg(tests)
        .env("QWENTTS_LIBRARY", library)
        .env("QWENTTS_BIN", env!("CARGO_BIN_EXE_qwentts"))
        .env("QWENTTS_TEST_BASE", support::checkpoint("tiny-0b6-base", 1))
        .output()
        .unwrap_or_else(|e| panic!("{}: {e}; this test needs Python 3.9 or later, PYTHON names one", python.display()));
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{}: {said}{}", ran.status, String::from_utf8_lossy(&ran.stdout));
    // What was skipped, and why, is in it.
    println!("{said}");
}
