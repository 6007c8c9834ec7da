//! Would catch a doctor who is silent, says it twice, calls the broken well, or cannot be read by a program.

#[path = "support/run.rs"]
mod run;

use qwentts::Device;
use run::{Ran, command, demo, run};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const ITEMS: [&str; 8] = ["cpu", "driver", "gpu", "kernels", "device", "model", "model cache", "sound"];

/// What the kernels in this build were compiled for.
fn built_for() -> &'static [&'static str] {
    #[cfg(feature = "cuda")]
    return qwentts::cuda::built_for();
    #[cfg(not(feature = "cuda"))]
    return &[];
}

/// Runs `doctor` with this home for models.
fn doctor(home: &Path, args: &[&str]) -> Ran {
    let mut command = command(&[&["doctor"], args].concat());
    for name in ["HF_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE"] {
        command.env_remove(name);
    }
    command.env("HF_HOME", home);
    run(command, b"")
}

/// The items of `doctor --json` with this exit status.
#[track_caller]
fn items(home: &Path, args: &[&str], status: i32) -> Vec<Value> {
    let ran = doctor(home, &[&["--json"], args].concat());
    assert_eq!(ran.status, Some(status), "{}", ran.err);
    let said: Value = serde_json::from_slice(&ran.out).unwrap();
    assert_eq!(said["version"], env!("CARGO_PKG_VERSION"));
    let items = said["items"].as_array().unwrap().clone();
    assert_eq!(items.iter().map(|i| i["item"].as_str().unwrap()).collect::<Vec<_>>(), ITEMS);
    let rank = |verdict: &Value| ["ok", "note", "problem"].iter().position(|known| verdict == known).unwrap();
    let worst = items.iter().map(|i| rank(&i["verdict"])).max().unwrap();
    assert_eq!((rank(&said["verdict"]), status), (worst, i32::from(worst == 2)));
    items
}

#[test]
fn each_item_once_with_its_verdict() {
    let home = TempDir::new().unwrap();
    let model = demo();
    for args in [&[][..], &["-m", model.to_str().unwrap()]] {
        let items = items(home.path(), args, 0);
        let ran = doctor(home.path(), args);
        assert_eq!(ran.status, Some(0));
        let text = String::from_utf8(ran.out).unwrap();
        // A line that begins with a verdict is an item; the others go on with one.
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with(' ')).collect();
        assert_eq!(lines.len(), ITEMS.len(), "{text}");
        for (line, item) in lines.iter().zip(&items) {
            let (verdict, rest) = line.split_once(' ').unwrap();
            assert_eq!(verdict, item["verdict"], "{line}");
            assert!(rest.trim_start().starts_with(item["item"].as_str().unwrap()), "{line}");
            assert!(rest.len() > 30, "{line}");
            let found = item["found"].as_array().unwrap();
            // What changes from moment to moment is in both, but not the same.
            if !["cpu", "model cache"].contains(&item["item"].as_str().unwrap()) {
                assert!(found.iter().all(|f| text.contains(f.as_str().unwrap())), "{line}");
            }
        }
        let [cpu, _, _, kernels, device, model, ..] = &items[..] else { panic!() };
        assert!(cpu["cores"].as_u64().unwrap() > 0 && cpu["vector_bits"].as_u64().unwrap() >= 32);
        assert_eq!(kernels["built_for"], json!(built_for()));
        if built_for().is_empty() {
            assert!(kernels["found"][0].as_str().unwrap().starts_with("none: "), "{kernels}");
        }
        assert_eq!(kernels["verdict"], if built_for().is_empty() { "note" } else { "ok" });
        // The best that there is, and always one.
        assert_eq!((&device["verdict"], &device["device"]), (&json!("ok"), &json!(Device::best().to_string())));
        if !args.is_empty() || cfg!(feature = "demo") {
            assert_eq!((&model["verdict"], &model["kind"]), (&json!("ok"), &json!("CustomVoice")));
            assert!(model["weights_bytes"].as_u64().unwrap() > 25 << 20);
        }
    }
}

#[test]
fn no_driver_is_a_note() {
    let home = TempDir::new().unwrap();
    let items = items(home.path(), &[], 0);
    let (driver, gpu) = (&items[1], &items[2]);
    match driver["verdict"].as_str().unwrap() {
        // A machine that has one: said as it is.
        "ok" => assert!(driver["cuda_version"].is_string()),
        verdict => {
            assert_eq!((verdict, &gpu["verdict"], &gpu["gpus"]), ("note", &json!("note"), &json!([])));
            assert!(driver["advice"].as_str().unwrap().contains("driver"), "{driver}");
        }
    }
}

#[test]
fn a_device_that_is_asked_for_and_cannot_compute_is_a_problem() {
    let home = TempDir::new().unwrap();
    let item = |device: &str, status: i32| items(home.path(), &["--device", device], status)[4].clone();
    assert_eq!((&item("cpu", 0)["verdict"], &item("cpu", 0)["device"]), (&json!("ok"), &json!("cpu")));
    for (device, words) in [
        ("tpu", "device: is \"tpu\"; expected cpu or cuda:N".to_owned()),
        ("cuda:99", Device::Cuda(99).describe().unwrap_err().to_string()),
    ] {
        let item = item(device, 1);
        assert_eq!((&item["verdict"], &item["found"][0]), (&json!("problem"), &json!(words)));
    }
}

#[test]
fn a_model_that_does_not_open_is_a_problem() {
    let home = TempDir::new().unwrap();
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    let path = folder.path().to_str().unwrap();
    let broken = &items(home.path(), &["-m", path], 1)[5];
    assert_eq!((&broken["verdict"], &broken["model"]), (&json!("problem"), &json!(path)));
    assert!(broken["found"][0].as_str().unwrap().contains("config.json"), "{broken}");
    // The other lines are printed all the same.
    let ran = doctor(home.path(), &["-m", path]);
    assert_eq!(ran.status, Some(1));
    let text = String::from_utf8(ran.out).unwrap();
    assert!(text.lines().any(|line| line.starts_with("problem  model ")), "{text}");
    assert_eq!(text.lines().filter(|line| !line.starts_with(' ')).count(), ITEMS.len());
}

#[cfg(feature = "hub")]
#[test]
fn the_model_cache_and_what_it_holds() {
    let home = TempDir::new().unwrap();
    let cache = home.path().join("hub");
    let model_cache = |status: i32, args: &[&str]| items(home.path(), args, status)[6].clone();
    let nothing = model_cache(0, &[]);
    assert_eq!((&nothing["exists"], &nothing["models"]), (&json!(false), &json!([])));
    assert_eq!(nothing["folder"], cache.to_str().unwrap());

    let commit = "0123456789abcdef0123456789abcdef01234567";
    let add = |model: &str, files: &[&str]| {
        let model = cache.join(format!("models--{model}"));
        for name in files {
            let to = model.join("snapshots").join(commit).join(name);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(demo().join(name), to).unwrap();
        }
        fs::create_dir_all(model.join("refs")).unwrap();
        fs::write(model.join("refs/main"), commit).unwrap();
    };
    let whole = [
        "config.json",
        "generation_config.json",
        "vocab.json",
        "merges.txt",
        "tokenizer_config.json",
        "model.safetensors",
        "speech_tokenizer/config.json",
        "speech_tokenizer/model.safetensors",
    ];
    add("me--tuned", &whole);
    add("Qwen--Qwen3-TTS-part", &whole[..6]);
    add("someone--else", &["config.json"]);
    fs::create_dir_all(cache.join("models--Qwen--Qwen3-TTS-nothing/blobs")).unwrap();
    fs::create_dir_all(cache.join("datasets--a--b")).unwrap();
    let said = model_cache(0, &[]);
    assert_eq!(
        said["models"],
        json!([
            {"id": "Qwen/Qwen3-TTS-nothing", "whole": false, "lacks": "config.json"},
            {"id": "Qwen/Qwen3-TTS-part", "whole": false, "lacks": "speech_tokenizer/config.json"},
            {"id": "me/tuned", "whole": true, "lacks": null},
        ])
    );
    assert_eq!((&said["verdict"], &said["exists"]), (&json!("note"), &json!(true)));
    if cfg!(unix) {
        assert!(said["free_bytes"].as_u64().unwrap() > 0);
    }
    // By id: what is whole opens, what is not is a problem, and nothing is asked of the hub.
    assert_eq!(items(home.path(), &["-m", "me/tuned"], 0)[5]["verdict"], "ok");
    let part = &items(home.path(), &["-m", "Qwen/Qwen3-TTS-part"], 1)[5];
    assert!(part["advice"].as_str().unwrap().contains("qwentts inspect Qwen/Qwen3-TTS-part"), "{part}");
}

#[test]
fn sound_is_what_the_build_has() {
    let home = TempDir::new().unwrap();
    let sound = &items(home.path(), &[], 0)[7];
    assert_eq!(sound["built"], cfg!(feature = "play"));
    if !cfg!(feature = "play") {
        assert_eq!((&sound["verdict"], &sound["output"]), (&json!("note"), &Value::Null));
        assert!(sound["found"][0].as_str().unwrap().contains("--features play"), "{sound}");
    }
}
