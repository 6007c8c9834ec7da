//! Would catch a C ABI that is not what its header promises: a symbol or layout that changed, an example that does not
//! compile or speak, a misuse without an answer, a close or cancel that hangs. Each file of tests/c says what it would catch.
#![cfg(target_os = "linux")] // `cc`, `nm` and ELF's names

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::{env, fs};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const WARNINGS: [&str; 5] = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-g"];

/// Whether the library is built with AddressSanitizer; then so is what the C tests compile.
fn sanitized() -> bool {
    option_env!("RUSTFLAGS").is_some_and(|flags| flags.contains("sanitizer=address"))
}

/// The shared library that belongs to this test; cargo makes it with the library that other tests use.
fn library() -> PathBuf {
    // target/release/deps/c_api-…
    let beside = env::current_exe().unwrap().parent().unwrap().join("libqwentts.so");
    assert!(beside.exists(), "{} is not there", beside.display());
    beside
}

/// A folder with the library under the names by which a linker and a program look for it.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c_api");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        for name in ["libqwentts.so", "libqwentts.so.0"] {
            std::os::unix::fs::symlink(library(), folder.join(name)).unwrap();
        }
        folder
    })
}

fn run(command: &mut Command) -> Output {
    let done = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let [out, err] = [&done.stdout, &done.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    let short = if out.len() < 4000 { &out } else { "" };
    assert!(done.status.success(), "{command:?}: {}\n{short}{err}", done.status);
    done
}

/// Compiles a source of the tree as `language` ("c99" or "c++17") and links it with the library.
fn compile(source: &str, language: &str) -> PathBuf {
    // Two tests may want the same one at the same time.
    static COMPILED: AtomicUsize = AtomicUsize::new(0);
    let number = COMPILED.fetch_add(1, Relaxed);
    let to = folder().join(format!("{}-{number}", source.replace(['/', '.'], "-")));
    let mut compiler = Command::new(if language == "c99" { "cc" } else { "c++" });
    if language == "c++17" && source.ends_with(".c") {
        compiler.args(["-x", "c++"]);
    }
    // The tests use threads and poll; an example that needs POSIX says so itself.
    if source.starts_with("tests/") {
        compiler.arg("-D_POSIX_C_SOURCE=200809L");
    }
    compiler.arg(format!("-std={language}")).args(WARNINGS);
    if sanitized() {
        compiler.arg("-fsanitize=address");
    }
    for include in ["include", "ffi_examples/cpp"] {
        compiler.arg("-I").arg(Path::new(ROOT).join(include));
    }
    compiler.arg(Path::new(ROOT).join(source)).arg("-o").arg(&to);
    compiler.arg("-L").arg(folder()).args(["-lqwentts", "-pthread"]);
    run(&mut compiler);
    to
}

fn program(path: &Path) -> Command {
    let mut program = Command::new(path);
    program.env("LD_LIBRARY_PATH", folder());
    program
}

/// What a program says on its standard output, which must be all that it says.
fn says(path: &Path) -> String {
    let done = run(&mut program(path));
    assert_eq!(String::from_utf8_lossy(&done.stderr), "", "the library printed");
    String::from_utf8(done.stdout).unwrap()
}

/// The names that nm lists of a library, sorted.
fn names(nm: &[&str], of: &Path) -> Vec<String> {
    let seen = run(Command::new("nm").args(nm).arg("--defined-only").arg(of)).stdout;
    let seen = String::from_utf8(seen).unwrap();
    let mut seen: Vec<String> =
        seen.lines().filter_map(|line| line.split_whitespace().nth(2)).map(str::to_owned).collect();
    seen.sort_unstable();
    seen
}

#[test]
fn only_the_abi_can_be_seen_and_it_is_the_committed_one() {
    let seen = names(&["-D"], &library());
    let committed = fs::read_to_string(Path::new(ROOT).join("tests/c/symbols.txt")).unwrap();
    let committed: Vec<&str> = committed.lines().collect();
    assert_eq!(seen, committed, "left is the library, right tests/c/symbols.txt");
    let archive = names(&["-g"], &installed().join("lib/libqwentts.a"));
    assert_eq!(archive, committed, "left is the static library, right tests/c/symbols.txt");
    assert!(committed.iter().all(|name| name.starts_with("qwentts_")));
    // And each is in the header.
    let header = fs::read_to_string(Path::new(ROOT).join("include/qwentts.h")).unwrap();
    assert!(committed.iter().all(|name| header.contains(&format!("{name}("))));
}

#[test]
fn the_soname_is_the_abi_s_major() {
    let read = run(Command::new("readelf").arg("-d").arg(library())).stdout;
    assert!(String::from_utf8_lossy(&read).contains("soname: [libqwentts.so.0]"));
    let header = fs::read_to_string(Path::new(ROOT).join("include/qwentts.h")).unwrap();
    assert!(header.contains("#define QWENTTS_ABI_MAJOR 0\n"), "build.rs has another");
}

#[test]
fn layouts_are_the_committed_ones_in_c_and_in_cpp() {
    assert_eq!(says(&compile("tests/c/layout.c", "c99")), "");
    assert_eq!(says(&compile("tests/c/layout.c", "c++17")), "");
}

/// A Base model of seeded weights: what it says is no speech, but whose voice it is can be told.
#[test]
fn voices_of_recordings_are_made_kept_and_spoken_with() {
    let made = folder().join("ann.qvoice");
    let [base, other] =
        [("tiny-0b6-base", 1), ("tiny-0b6-base", 2)].map(|(kind, seed)| support::checkpoint(kind, seed));
    let mut voices = program(&compile("tests/c/voices.c", "c99"));
    let said = run(voices.args([&base, &other, &made])).stdout;
    assert_eq!(String::from_utf8_lossy(&said), "");
    // What Rust makes of the same sound with the same words is the same file.
    let model = qwentts::Model::open(&qwentts::ModelSource::Folder(base)).unwrap();
    let sound: Vec<f32> = (0..30_000).map(|i| (i % 240) as f32 / 240.0 - 0.5).collect();
    let cloning = qwentts::Cloning { transcript: Some("A few words.".into()), ..Default::default() };
    let ours = qwentts::SavedVoice::create(&model, &sound, &cloning).unwrap();
    assert!(qwentts::SavedVoice::load(&made).unwrap() == ours);
}

#[test]
fn every_misuse_has_an_answer() {
    assert_eq!(says(&compile("tests/c/misuse.c", "c99")), "");
}

#[test]
fn closes_cancels_and_forks_in_bad_moments() {
    assert_eq!(says(&compile("tests/c/order.c", "c99")), "");
}

#[test]
fn streams_of_many_threads_live_text_handles_and_events() {
    assert_eq!(says(&compile("tests/c/streams.c", "c99")), "");
}

// ---- much time -------------------------------------------------------------------------------------------------

/// So many seconds of the storm, and what became of its streams.
fn storm(seconds: u64) -> String {
    let model = support::checkpoint("tiny-0b6-custom", 2);
    let said = run(program(&compile("tests/c/storm.c", "c99")).arg(seconds.to_string()).arg(model));
    assert_eq!(String::from_utf8_lossy(&said.stderr), "", "the library printed");
    String::from_utf8(said.stdout).unwrap()
}

fn soak_seconds() -> u64 {
    env::var("SOAK_SECONDS").map_or(600, |seconds| seconds.parse().unwrap())
}

#[test]
fn a_storm_of_streams() {
    println!("{}", storm(6));
}

#[test]
#[ignore = "needs minutes: make soak-c"]
fn a_long_storm_under_address_sanitizer() {
    assert!(sanitized(), "is not built with AddressSanitizer: make soak-c");
    // It watches both sides.
    let faults = compile("tests/c/faults.c", "c99");
    for (fault, report, place) in [
        ("library", "heap-buffer-overflow", "ring.rs"),
        ("caller", "heap-buffer-overflow", "faults.c"),
        ("leak", "LeakSanitizer", "qwentts"),
    ] {
        let done = program(&faults).arg(fault).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && said.contains(report) && said.contains(place), "{fault}: {said}");
    }
    println!("AddressSanitizer on both sides: {}", storm(soak_seconds()));
}

/// What helgrind can see, and what it cannot, is in tests/c/valgrind.supp.
fn helgrind(source: &str) -> Command {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=helgrind", "-q", "--error-exitcode=9", "--fair-sched=yes"]);
    valgrind.arg(format!("--suppressions={ROOT}/tests/c/valgrind.supp"));
    valgrind.arg(compile(source, "c99")).env("LD_LIBRARY_PATH", folder());
    valgrind
}

#[test]
#[ignore = "needs valgrind and minutes: make soak-c"]
fn a_storm_under_helgrind() {
    let done = helgrind("tests/c/faults.c").arg("race").output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.code() == Some(9) && said.contains("Possible data race") && said.contains("faults.c"),
        "{said}"
    );
    let model = support::checkpoint("tiny-0b6-custom", 2);
    let done = run(helgrind("tests/c/storm.c").arg("20").arg(model));
    println!("helgrind: {}", String::from_utf8_lossy(&done.stdout));
}

// ---- the examples ----------------------------------------------------------------------------------------------

const SENTENCE: &str = "The engine says what the loop says.";

/// Samples of a WAV file of speak.c.
fn wav(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    assert_eq!((&bytes[..4], &bytes[36..40]), (&b"RIFF"[..], &b"data"[..]));
    assert_eq!(u32::from_le_bytes(bytes[40..44].try_into().unwrap()) as usize, bytes.len() - 44);
    bytes[44..].to_vec()
}

#[test]
fn the_c_examples_speak() {
    let file = folder().join("c.wav");
    for language in ["c99", "c++17"] {
        let speak = compile("ffi_examples/c/speak.c", language);
        run(program(&speak).arg(SENTENCE).arg(&file).arg(Path::new(ROOT).join("models/demo")));
        let spoken = wav(&file);
        assert!((24_000..480_000).contains(&spoken.len()), "{language}: {} bytes", spoken.len());
    }
    // Live text is heard as the same text at once; the embedded model's own layout for whole text is another one.
    let mut live =
        program(&compile("ffi_examples/c/live.c", "c99")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut text = live.stdin.take().unwrap();
    for byte in SENTENCE.as_bytes() {
        std::io::Write::write_all(&mut text, &[*byte]).unwrap();
    }
    drop(text);
    let done = live.wait_with_output().unwrap();
    assert!(done.status.success() && done.stderr.is_empty());
    assert!((24_000..480_000).contains(&done.stdout.len()), "{} bytes", done.stdout.len());
}

#[test]
fn the_cpp_example_speaks_the_same() {
    let file = folder().join("cpp.wav");
    run(program(&compile("ffi_examples/c/speak.c", "c99")).arg(SENTENCE).arg(&file));
    let floats = run(program(&compile("ffi_examples/cpp/speak.cpp", "c++17")).arg(SENTENCE)).stdout;
    let floats = floats.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    let whole: Vec<u8> = floats.flat_map(|sample| ((sample * 32767.0).round() as i16).to_le_bytes()).collect();
    assert_eq!(whole, wav(&file));
    // An error is an exception, which the example prints.
    let failed = program(&compile("ffi_examples/cpp/speak.cpp", "c++17")).args(["x", "/no/such"]).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).starts_with("/no/such: is no folder"));
}

// ---- what is installed -----------------------------------------------------------------------------------------

/// A prefix with the library, as `make install` leaves it.
fn installed() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let prefix = folder().join("prefix");
        let script = Path::new(ROOT).join("tools/install.sh");
        run(Command::new("sh").arg(script).arg(library().parent().unwrap()).arg(&prefix).env_remove("DESTDIR"));
        prefix
    })
}

#[test]
fn a_consumer_finds_it_by_pkg_config_or_links_it_whole() {
    let prefix = installed();
    let ask = |what: &[&str]| {
        let mut ask = Command::new("pkg-config");
        ask.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")).args(what).arg("qwentts");
        String::from_utf8(run(&mut ask).stdout).unwrap()
    };
    assert_eq!(ask(&["--modversion"]).trim(), env!("CARGO_PKG_VERSION"));
    let flags = ask(&["--cflags", "--libs"]);
    let (shared, whole) = (folder().join("installed"), folder().join("whole"));
    let compile = |to: &Path, rest: &str| {
        let mut compiler = Command::new("cc");
        compiler.arg(Path::new(ROOT).join("ffi_examples/c/speak.c")).arg("-o").arg(to).args(rest.split_whitespace());
        run(&mut compiler);
    };
    compile(&shared, &flags);
    let archive = prefix.join("lib/libqwentts.a").display().to_string();
    let private = ask(&["--cflags", "--libs", "--static"]).replace("-lqwentts", &archive);
    compile(&whole, &private);
    let spoken = |program: &Path| {
        let file = folder().join("installed.wav");
        run(Command::new(program).arg(SENTENCE).arg(&file).env("LD_LIBRARY_PATH", prefix.join("lib")));
        wav(&file)
    };
    assert_eq!(spoken(&shared), spoken(&whole));
    let needed = |program: &Path| {
        let read = run(Command::new("readelf").arg("-d").arg(program)).stdout;
        String::from_utf8_lossy(&read).contains("libqwentts.so.0")
    };
    assert!(needed(&shared) && !needed(&whole));
}

#[test]
#[ignore = "needs cmake"]
fn a_consumer_finds_it_by_cmake() {
    let (prefix, build) = (installed(), folder().join("cmake"));
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(Path::new(ROOT).join("ffi_examples/cmake")).arg("-B").arg(&build);
    run(configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())));
    run(Command::new("cmake").arg("--build").arg(&build));
    let file = folder().join("cmake.wav");
    let spoken = ["speak", "speak_static"].map(|name| {
        run(Command::new(build.join(name)).arg(SENTENCE).arg(&file));
        wav(&file)
    });
    assert_eq!(spoken[0], spoken[1]);
    assert!(!run(Command::new(build.join("speak_cpp")).arg(SENTENCE)).stdout.is_empty());
}
