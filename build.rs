//! Compiles each `cuda/*.cu` to a fatbin and writes the list of them for `src/cuda/mod.rs` to take in. Without nvcc the list
//! is empty, and cargo says so once: the library is then the CPU alone.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;
use std::{env, fs};

/// Machine code for each of these; and PTX, for what is newer, of the lowest, which knows nothing that a later GPU lacks, and of
/// the newest.
const MACHINE_CODE: &str = "80 86 89 90 100 120";
const PTX: &str = "80 120";

/// 12.8 is the first that knows 120; drivers of 13.0 could not compile the PTX of a newer one.
const VERSIONS: std::ops::RangeInclusive<(u32, u32)> = (12, 8)..=(13, 0);

fn main() {
    // The library's file is named by its ABI's major, which src/ffi has.
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libqwentts.so.0");
    }
    for name in ["CUDA_HOME", "PATH", "QWENTTS_CUDA_ARCHS"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    println!("cargo::rerun-if-changed=cuda"); // `make nvcc` touches it: a file that is not there would mean every time
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says OUT_DIR"));
    let mut list = "static BUILT_FOR: &[&str] = &[];\nstatic IMAGES: &[(&str, &[u8])] = &[];\n".to_owned();
    if env::var_os("CARGO_FEATURE_CUDA").is_some() {
        match nvcc() {
            Ok(nvcc) => list = compile(&nvcc, &out),
            Err(why) => {
                println!("cargo::warning=built without CUDA kernels, for the CPU alone: {why}; `make nvcc` fetches one")
            }
        }
    }
    fs::write(out.join("images.rs"), list).expect("OUT_DIR can be written");
}

/// The compiler and what it says of its version, or why there is none.
fn nvcc() -> Result<(PathBuf, String), String> {
    let home = env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let fetched = PathBuf::from("target/cuda/nvidia/cu13/bin");
    let mut why = "no nvcc in CUDA_HOME, PATH or target/cuda".to_owned();
    for folder in home.into_iter().chain(env::split_paths(&path)).chain([fetched]) {
        let nvcc = folder.join("nvcc");
        let Ok(said) = Command::new(&nvcc).arg("--version").output() else { continue };
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let version = said.split("release ").nth(1).and_then(|rest| rest.split([',', '\n']).next());
        let numbers =
            version.and_then(|v| v.split_once('.')).and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match numbers {
            Some(version) if VERSIONS.contains(&version) => return Ok((nvcc, said)),
            _ => {
                why =
                    format!("{} is {}, expected 12.8 to 13.0", nvcc.display(), version.unwrap_or("of no known version"))
            }
        }
    }
    Err(why)
}

/// Compiles what has changed, several at a time, and lists all.
fn compile((nvcc, version): &(PathBuf, String), out: &Path) -> String {
    let archs = env::var("QWENTTS_CUDA_ARCHS").unwrap_or_else(|_| MACHINE_CODE.to_owned());
    let archs: Vec<&str> = archs.split_whitespace().collect();
    let mut flags: Vec<String> =
        "--fatbin -O3 -std=c++17 -lineinfo -compress-mode=size --threads=0 -Werror=all-warnings"
            .split(' ')
            .map(str::to_owned)
            .collect();
    flags.extend(archs.iter().map(|n| format!("-gencode=arch=compute_{n},code=sm_{n}")));
    // A developer's short build has the one that all can run.
    let ptx = if env::var_os("QWENTTS_CUDA_ARCHS").is_some() { "80" } else { PTX };
    flags.extend(ptx.split(' ').map(|n| format!("-gencode=arch=compute_{n},code=compute_{n}")));

    let mut files: Vec<PathBuf> =
        fs::read_dir("cuda").expect("cuda/ is there").map(|f| f.expect("a file").path()).collect();
    files.sort();
    let (sources, headers): (Vec<_>, Vec<_>) =
        files.into_iter().filter(|f| f.is_file()).partition(|f| f.extension().is_some_and(|e| e == "cu"));
    let text = |file: &PathBuf| fs::read_to_string(file).expect("a text");
    let shared = format!("{version}{flags:?}{}", headers.iter().map(text).collect::<String>());
    let fatbin = |source: &PathBuf| out.join(source.file_stem().expect("a name")).with_extension("fatbin");

    // What it was made of stands beside each fatbin: the same again needs no making.
    let stale = |source: &&PathBuf| {
        let made_of = shared.clone() + &text(source);
        let same = fs::read_to_string(fatbin(source).with_extension("made-of")).is_ok_and(|was| was == made_of);
        !same || !fatbin(source).exists()
    };
    let waiting = Mutex::new(sources.iter().filter(stale).collect::<Vec<_>>());
    let jobs = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(source) = { waiting.lock().expect("a list").pop() } {
                    let (to, started) = (fatbin(source), Instant::now());
                    let done = Command::new(nvcc).args(&flags).arg(source).arg("-o").arg(&to).status();
                    assert!(done.is_ok_and(|status| status.success()), "nvcc cannot compile {}", source.display());
                    fs::write(to.with_extension("made-of"), shared.clone() + &text(source))
                        .expect("OUT_DIR can be written");
                    let (bytes, took) = (fs::metadata(&to).expect("a fatbin").len(), started.elapsed());
                    println!("{}: fatbin of {bytes} bytes in {:.1} s", source.display(), took.as_secs_f32());
                }
            });
        }
    });

    // The driver reads numbers out of a fatbin where it lies.
    let mut list = "#[repr(C, align(16))]\nstruct Aligned<B: ?Sized>(B);\n".to_owned();
    let mut images = String::new();
    for (i, source) in sources.iter().enumerate() {
        list += &format!("static IMAGE_{i}: &Aligned<[u8]> = &Aligned(*include_bytes!({:?}));\n", fatbin(source));
        images += &format!("({:?}, &IMAGE_{i}.0), ", source.file_stem().expect("a name"));
    }
    let code = archs.iter().map(|n| format!("sm_{n}")).chain(ptx.split(' ').map(|n| format!("compute_{n}")));
    list += &format!("static BUILT_FOR: &[&str] = &{:?};\n", code.collect::<Vec<_>>());
    list + &format!("static IMAGES: &[(&str, &[u8])] = &[{images}];\n")
}
