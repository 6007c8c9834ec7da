//! Would catch a request, codes or a place to write that is taken in silence, ends in a panic, or is refused without the
//! words that mend it.

#[path = "support/folder.rs"]
mod folder;
#[path = "support/run.rs"]
mod run;

use folder::{Folder, base, fails, hello, reference, request_fails, say};
use qwentts::request::{Layout, Randomness, ReferenceSpeech, Request, Voice, VoicePrompt};
use qwentts::speech::{Speech, Text};
use qwentts::trace::{self, TraceRequest};
use run::{command, demo, done, refused, run};
use serde_json::json;
use std::fs;
use std::process::Stdio;
use tempfile::TempDir;

// ---- requests ------------------------------------------------------------------------------------------------

#[test]
fn empty_text() {
    for text in ["", " ", "\n\t\n"] {
        assert_eq!(refused(&["say", text, "-o", "/nowhere/x.wav"]), "text: is empty; there is nothing to say");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = file.path().to_str().unwrap();
    assert_eq!(refused(&["say", "--file", file, "-o", "/nowhere/x.wav"]), "text: is empty; there is nothing to say");
    // A trace goes where the official package goes: it speaks an empty text.
    let reference = reference();
    for request in [json!({"text": ""}), json!({"text_ids": []}), json!({"pieces": [], "layout": "streaming"})] {
        let mut request = request;
        request["max_new_tokens"] = json!(3);
        let request = TraceRequest::parse(request.to_string().as_bytes()).unwrap();
        let trace = trace::run(&reference, &request, None).unwrap().trace;
        assert_eq!(trace.ids.text, [1557, 460, 198, 1558, 198, 1557, 460, 198]);
        assert_eq!(trace.frames.len(), 2);
    }
}

#[test]
fn a_hundred_kilobytes_of_text() {
    let sentences = fs::read_to_string(demo().join("sentences.txt")).unwrap();
    let mut long = sentences.repeat(100_000 / sentences.len() + 1);
    long.truncate(100_000);
    let reference = reference();
    for text in [&long, &"a".repeat(100_000), &" ".repeat(100_000), &"é\u{301}".repeat(25_000)] {
        let streaming = Request { layout: Some(Layout::Streaming), ..say(5) };
        let speak = |text: Text| {
            let mut speech = Speech::new(reference.clone(), text, &streaming).unwrap();
            std::iter::from_fn(|| speech.next_frame().unwrap().map(|c| c.frame)).collect::<Vec<_>>()
        };
        let frames = speak(Text::Whole(text.clone()));
        assert_eq!(frames.len(), 4);
        let pieces = text.chars().collect::<Vec<_>>();
        let pieces = pieces.chunks(7).map(|piece| piece.iter().collect()).collect();
        assert_eq!(speak(Text::Pieces(pieces)), frames);
    }
    let request = Request { layout: Some(Layout::Whole), ..say(5) };
    let error = fails(reference.clone(), Text::Whole(long.clone()), &request);
    let streaming = Request { layout: Some(Layout::Streaming), ..say(5) };
    let ids = Speech::new(reference.clone(), Text::Whole(long), &streaming).unwrap().ids().unwrap().text.len();
    // The ids have five of the template's tail; the prompt has the codec row's five, eos, and where sound begins.
    let words = format!(
        "text: makes a prompt of {} positions; this model has 32768 in all. Speak it in parts, or in the streaming layout",
        ids - 5 + 7
    );
    assert_eq!(error, words);
    // Text that fits but for the last position, and text that just fits.
    let fits = |body: usize| Speech::new(reference.clone(), Text::Ids(vec![64; body]), &request);
    assert!(fits(32_768 - 11).is_ok());
    assert!(fits(32_768 - 10).err().unwrap().to_string().starts_with("text: makes a prompt of 32768 positions"));

    let huge = fails(reference, Text::Whole("a".repeat((1 << 20) + 1)), &request);
    assert_eq!(huge, "text: 1048586 bytes of text in one stretch; at most 1048576 can be tokenised");
}

#[test]
fn voices_and_languages_that_are_not_there() {
    let voice = |voice| Request { voice, ..say(3) };
    let cloned = || Voice::Cloned(VoicePrompt { speaker_vector: vec![0.0; 256], reference: None });
    let error = fails(reference(), hello(), &voice(Voice::Preset("Bob".into())));
    assert_eq!(error, "voice: \"Bob\" is unknown; this model has rms, slt");
    let error = fails(reference(), hello(), &voice(cloned()));
    assert_eq!(error, "voice: only a Base model speaks in a cloned voice");
    let error = fails(base().reference(), hello(), &voice(Voice::Preset("slt".into())));
    assert_eq!(error, "voice: \"slt\": this model has no preset voices");
    let error = fails(base().reference(), hello(), &voice(Voice::Unset));
    assert_eq!(error, "voice: a Base model speaks in a cloned voice; a speaker vector is missing");

    let language = |name: &str| Request { language: Some(name.into()), ..say(3) };
    let error = fails(reference(), hello(), &language("Klingon"));
    assert_eq!(error, "language: \"klingon\" is unknown; this model has auto, english");
    let dialect = || {
        Folder::new()
            .set("config.json", "/talker_config/codec_language_id/sichuan_dialect", json!(300))
            .set("config.json", "/talker_config/spk_is_dialect/slt", json!("sichuan_dialect"))
            .reference()
    };
    let error = fails(dialect(), hello(), &language("sichuan_dialect"));
    assert_eq!(error, "language: \"sichuan_dialect\" is unknown; this model has auto, english");
    assert!(Speech::new(dialect(), hello(), &language("ENGLISH")).is_ok());
}

#[test]
fn what_a_base_model_cannot_take() {
    let reference = base().reference();
    let clone = |speaker_vector: Vec<f32>, recording| Request {
        voice: Voice::Cloned(VoicePrompt { speaker_vector, reference: recording }),
        ..say(3)
    };
    let fails = |request: Request| fails(reference.clone(), hello(), &request);
    let right = vec![0.01; 256];
    assert!(Speech::new(reference.clone(), hello(), &clone(right.clone(), None)).is_ok());
    let error = fails(clone(vec![0.0; 255], None));
    assert_eq!(error, "speaker_vector: has 255 numbers; this model takes 256");
    for bad in [f32::NAN, f32::INFINITY] {
        let mut vector = right.clone();
        vector[200] = bad;
        assert_eq!(fails(clone(vector, None)), "speaker_vector: holds a number that is not finite");
    }
    let error = fails(Request { instruct: Some("Whisper.".into()), ..clone(right.clone(), None) });
    assert_eq!(error, "instruct: a Base model takes no instruction");

    let recording = |frames, transcript: &str| Some(ReferenceSpeech { frames, transcript: transcript.into() });
    let mut frame = [0; 16];
    frame[7] = 256;
    let error = fails(clone(right.clone(), recording(vec![[0; 16], frame], "Hi.")));
    assert_eq!(error, "ref_codes: frame 1 group 7 is 256; this model's codes are 0 to 255");
    let error = fails(clone(right.clone(), recording(vec![], "Hi.")));
    assert_eq!(error, "ref_codes: is empty; an in-context clone needs at least one frame");
    let error = fails(clone(right.clone(), recording(vec![[0; 16]], "")));
    assert_eq!(error, "ref_text: is empty; an in-context clone needs the recording's words");
    let error = fails(clone(right, recording(vec![[0; 16]; 40_000], "Hi.")));
    assert_eq!(
        error,
        "text: makes a prompt of 40009 positions; this model has 32768 in all. Shorten the instruction or the reference"
    );
}

#[test]
fn sampling_that_cannot_be() {
    let reference = reference();
    for (request, words) in [
        (r#"{"text":"a","max_new_tokens":1}"#, "max_new_tokens: is 1; expected at least 2 (a frame)"),
        (r#"{"text":"a","temperature":0}"#, "temperature: is 0; expected 0.00001 to 100000"),
        (
            r#"{"text":"a","temperature":1e-40}"#,
            "temperature: is 0.0000000000000000000000000000000000000001; expected 0.00001 to 100000",
        ),
        (r#"{"text":"a","top_p":1.5}"#, "top_p: is 1.5; expected 0 to 1"),
        (r#"{"text":"a","repetition_penalty":-2}"#, "repetition_penalty: is -2; expected 0.00001 to 100000"),
        (r#"{"text":"a","seed":1,"uniforms":[0.5]}"#, "seed: give seed or uniforms, not both"),
        (r#"{"text":"a","uniforms":[0.5, 1.0]}"#, "uniforms: number 1 is 1; expected 0 to under 1"),
        (r#"{"text":"a","uniforms":[-0.5]}"#, "uniforms: number 0 is -0.5; expected 0 to under 1"),
        (
            r#"{"text":"a","do_sample":true,"subtalker_dosample":true,"uniforms":[0.5, 0.5, 0.5]}"#,
            "uniforms: holds 3 draws; frame 0 group 3 needs one more",
        ),
        (
            r#"{"text":"a","do_sample":true,"uniforms":[0.5, 0.5]}"#,
            "uniforms: holds 2 draws; frame 2 group 0 needs one more",
        ),
    ] {
        assert_eq!(request_fails(&reference, request), words);
    }
    let nan = Request { randomness: Randomness::Uniforms(vec![f64::NAN]), ..say(3) };
    assert_eq!(fails(reference, hello(), &nan), "uniforms: number 0 is NaN; expected 0 to under 1");
}

#[test]
fn trace_requests_that_do_not_add_up() {
    let reference = reference();
    let unknown = format!("request: unknown field \"txet\"; known are {}", trace::FIELDS.join(", "));
    let codes = json!({"text": "a", "forced_frames": [vec![0; 16], vec![300; 16]]}).to_string();
    for (request, words) in [
        (r#"{"txet":"a"}"#, &*unknown),
        (r#"{"text":"a""#, "request: EOF while parsing an object at line 1 column 11"),
        ("[]", "request: invalid type: sequence, expected a map at line 1 column 0"),
        (r#"{"text":5}"#, "text: invalid type: integer `5`, expected a string"),
        (r#"{"text":"a","temperature":"x"}"#, "temperature: invalid type: string \"x\", expected f32"),
        (r#"{"text":"a","seed":-1}"#, "seed: invalid value: integer `-1`, expected u64"),
        (r#"{"text":"a","forced_frames":[[1,2]]}"#, "forced_frames: invalid length 2, expected an array of length 16"),
        (r#"{"text":"a","text":"b"}"#, "request: duplicate field `text` at line 1 column 18"),
        ("{}", "text: give exactly one of text, pieces and text_ids"),
        (r#"{"text":"a","pieces":["b"]}"#, "text: give exactly one of text, pieces and text_ids"),
        (r#"{"text":"a","text_ids":[1]}"#, "text: give exactly one of text, pieces and text_ids"),
        (r#"{"text_ids":[64, 1600]}"#, "text_ids: 1600 is not under the model's text_vocab_size 1600"),
        (
            r#"{"pieces":["a","b"]}"#,
            "pieces: live text needs the streaming layout; this request has the whole-text one",
        ),
        (
            r#"{"pieces":["a"],"layout":"whole"}"#,
            "pieces: live text needs the streaming layout; this request has the whole-text one",
        ),
        (r#"{"text":"a","layout":"both"}"#, "layout: is \"both\"; known are streaming, whole"),
        (r#"{"text":"a","regex":"llama"}"#, "regex: is \"llama\"; known are qwen, mistral"),
        (r#"{"text":"a","ref_text":"b"}"#, "ref_codes: ref_codes and ref_text go together"),
        (r#"{"text":"a","ref_text":"b","ref_codes":[]}"#, "speaker_vector: is missing; ref_codes need it"),
        (r#"{"text":"a","speaker":"slt","speaker_vector":[]}"#, "speaker: give speaker or speaker_vector, not both"),
        (&codes, "forced_frames: frame 1 group 0 is 300; this model's codes are 0 to 255"),
    ] {
        assert_eq!(request_fails(&reference, request), words);
    }
}

// ---- codes ---------------------------------------------------------------------------------------------------

#[test]
fn codes_that_no_codebook_has() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out.wav");
    let refuse = |name: &str, bytes: &[u8], words: &str| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let words = words.replace("FILE", path.to_str().unwrap());
        assert_eq!(refused(&["codec", "decode", path.to_str().unwrap(), "-o", out.to_str().unwrap()]), words);
        assert!(!out.exists());
    };
    let frames = |codes: usize, code: u32| json!([vec![0; 16], vec![code; codes]]).to_string();
    refuse("a.json", frames(16, 256).as_bytes(), "codes: frame 1 group 0 is 256; this model's codes are 0 to 255");
    refuse(
        "b.json",
        frames(16, 65536).as_bytes(),
        "FILE: expected [[16 codes]...]: invalid value: integer `65536`, expected u16 at line 1 column 41",
    );
    refuse(
        "c.json",
        frames(15, 0).as_bytes(),
        "FILE: expected [[16 codes]...]: invalid length 15, expected an array of length 16 at line 1 column 66",
    );
    refuse("d.json", b"codes", "FILE: expected [[16 codes]...]: expected value at line 1 column 1");

    let npy = |descr: &str, order: &str, shape: &str, data: &[u8]| {
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
        header += &" ".repeat(127 - 10 - header.len());
        let header = header + "\n";
        let length = (header.len() as u16).to_le_bytes();
        [&b"\x93NUMPY\x01\x00"[..], &length, header.as_bytes(), data].concat()
    };
    let zeros = [0; 128];
    let cases = [
        (npy("<i2", "False", "(2, 8)", &zeros[..32]), "FILE: has shape [2, 8]; expected [frames, 16]"),
        (npy("<i2", "False", "(16,)", &zeros[..32]), "FILE: has shape [16]; expected [frames, 16]"),
        (npy("<i2", "True", "(2, 16)", &zeros[..64]), "FILE: stands columns first; expected rows first"),
        (npy("<f4", "False", "(2, 16)", &zeros), "FILE: holds f4; expected i8, i4, i2 or u2, little-endian"),
        (npy(">i8", "False", "(1, 16)", &zeros), "FILE: holds >i8; expected i8, i4, i2 or u2, little-endian"),
        (npy("<i2", "False", "(1, 16)", &[255; 32]), "FILE: holds code -1"),
        (
            npy("<i8", "False", "(2, 16)", &zeros),
            "FILE: has 128 bytes behind its header; shape [2, 16] of i8 says otherwise",
        ),
        (
            npy("<i8", "False", "(4611686018427387904, 16)", &zeros),
            "FILE: has shape (4611686018427387904, 16), which no file can hold",
        ),
        (
            npy("<i8", "False", "(576460752303423488, 16)", &zeros),
            "FILE: has 128 bytes behind its header; shape [576460752303423488, 16] of i8 says otherwise",
        ),
        (
            npy("<u2", "False", "(1, 16)", &zeros[..33]),
            "FILE: has 33 bytes behind its header; shape [1, 16] of u2 says otherwise",
        ),
        (
            npy("<i4", "False", "(1, 16)", &300i32.to_le_bytes().repeat(16)),
            "codes: frame 0 group 0 is 300; this model's codes are 0 to 255",
        ),
        (b"RIFF....WAVE".to_vec(), "FILE: not a .npy file: magic not found for NPY file"),
    ];
    for (bytes, words) in &cases {
        refuse("codes.npy", bytes, words);
    }
    let missing = folder.path().join("missing.npy");
    let error = refused(&["codec", "decode", missing.to_str().unwrap(), "-o", out.to_str().unwrap()]);
    assert_eq!(error, format!("{}: No such file or directory (os error 2)", missing.display()));
}

// ---- places to write -----------------------------------------------------------------------------------------

#[test]
fn outputs_that_cannot_be_written() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let here = folder.path().to_str().unwrap();
    let (request, codes, nowhere) = (at("r.json"), at("codes.json"), at("none/x.wav"));
    fs::write(&request, r#"{"text":"Hi.","max_new_tokens":3}"#).unwrap();
    fs::write(&codes, json!([vec![0; 16]]).to_string()).unwrap();
    let no_folder = format!("{nowhere}: No such file or directory (os error 2)");
    let a_folder = |path: &str| format!("{path}: Is a directory (os error 21)");

    assert_eq!(refused(&["say", "Hi.", "-o", &nowhere]), no_folder);
    assert_eq!(refused(&["say", "Hi.", "-o", here]), a_folder(here));
    assert_eq!(refused(&["codec", "decode", &codes, "-o", &nowhere]), no_folder);
    assert_eq!(refused(&["trace", "--request", &request, "--wav", &nowhere]), no_folder);
    fs::create_dir(at("folder.npy")).unwrap();
    assert_eq!(refused(&["trace", "--request", &request, "--wav", &at("folder.npy")]), a_folder(&at("folder.npy")));
    let error = refused(&["trace", "--request", &request, "--dump", &request]);
    assert_eq!(error, format!("{request}: File exists (os error 17)"));
    // A name that says no format is refused before the work, by the argument's name.
    for args in [["trace", "--request", &request, "--wav", "x.mp3"], ["codec", "decode", &codes, "--output", "x.mp3"]] {
        let ran = run(command(&args), b"");
        assert_eq!((ran.status, ran.out.len()), (Some(2), 0));
        let words = format!("invalid value 'x.mp3' for '{} <", args[3]);
        assert!(ran.err.contains(&words), "{}", ran.err);
        assert!(ran.err.contains("expected a name that ends in .wav or .npy"), "{}", ran.err);
    }
}

#[test]
fn a_standard_output_that_takes_nothing() {
    let folder = TempDir::new().unwrap();
    let request = folder.path().join("r.json").to_str().unwrap().to_owned();
    fs::write(&request, r#"{"text":"Hi.","max_new_tokens":3}"#).unwrap();
    let commands: [&[&str]; 4] =
        [&["say", "Hi.", "-o", "-"], &["trace", "--request", &request], &["voices"], &["inspect", "--json"]];
    for args in commands {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut gone = command(args);
        gone.stdout(writer);
        let ran = run(gone, b"");
        assert_eq!(ran.status, Some(2), "{args:?}: {}", ran.err);
        assert!(ran.err.ends_with("qwentts: <stdout>: Broken pipe (os error 32)\n"), "{args:?}: {}", ran.err);

        let mut full = command(args);
        full.stdout(Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap()));
        let ran = run(full, b"");
        assert_eq!(ran.status, Some(2), "{args:?}: {}", ran.err);
        assert!(ran.err.ends_with("qwentts: <stdout>: No space left on device (os error 28)\n"), "{}", ran.err);

        // A descriptor that is closed is /dev/null by the time Rust's main runs: nothing is wrong to see.
        let mut closed = std::process::Command::new("sh");
        closed.args(["-c", "exec \"$0\" \"$@\" >&-", env!("CARGO_BIN_EXE_qwentts")]).args(args);
        closed.stdout(Stdio::piped()).stderr(Stdio::piped());
        let ran = run(closed, b"");
        assert_eq!((ran.status, ran.out.len()), (Some(0), 0), "{args:?}: {}", ran.err);
    }
}

// ---- the command line's own ----------------------------------------------------------------------------------

#[test]
fn arguments_that_cannot_be_used() {
    let error = refused(&["say", "Hi.", "--device", "cpu", "--threads", "0", "-o", "/nowhere/x.wav"]);
    assert_eq!(error, "threads: is 0; expected 1 to 1024");
    let error = refused(&["say", "Hi.", "--json", "-o", "-"]);
    assert_eq!(error, "--json: and -o - both want standard output");
    let error = refused(&["say", "Hi.", "--voice", "Bob", "-o", "/nowhere/x.wav"]);
    assert_eq!(error, "voice: \"Bob\" is unknown; this model has rms, slt");
    let error = refused(&["say", "Hi.", "--layout", "both", "-o", "/nowhere/x.wav"]);
    assert_eq!(error, "layout: is \"both\"; known are streaming, whole");
    let error = refused(&["say", "--file", "/nowhere/text", "-o", "/nowhere/x.wav"]);
    assert_eq!(error, "/nowhere/text: No such file or directory (os error 2)");
    let error = refused(&["voices", "-m", "/nowhere/model"]);
    assert!(error.starts_with("/nowhere/model: is no folder; expected one that holds config.json"), "{error}");
    assert_eq!(refused(&["inspect", "/nowhere/model"]), error);

    let folder = TempDir::new().unwrap();
    let text = folder.path().join("latin1.txt");
    fs::write(&text, b"caf\xe9").unwrap();
    let error = refused(&["say", "--file", text.to_str().unwrap(), "-o", "/nowhere/x.wav"]);
    assert_eq!(error, "text: is not UTF-8: incomplete utf-8 byte sequence from index 3");
    let request = folder.path().join("r.json");
    fs::write(&request, r#"{"text":"Hi.","max_new_tokens":3}"#).unwrap();
    let request = request.to_str().unwrap();
    let missing = refused(&["trace", "--request", "/nowhere/r.json"]);
    assert_eq!(missing, "/nowhere/r.json: No such file or directory (os error 2)");
    let no_trace = refused(&["trace", "--request", request, "--compare", request]);
    assert_eq!(no_trace, format!("{request}: missing field `ids` at line 1 column 33"));
    // The parser of arguments has its own words, which name the argument.
    let usage: [(&[&str], &str); 6] = [
        (&[], "Usage: qwentts <COMMAND>"),
        (&["sing"], "unrecognized subcommand 'sing'"),
        (&["say"], "required arguments were not provided"),
        (&["say", "Hi.", "--seed", "x"], "invalid value 'x' for '--seed <SEED>'"),
        (&["say", "Hi.", "--sample", "--greedy"], "'--sample' cannot be used with '--greedy'"),
        (&["trace", "--request", request, "--chunks", "1,0"], "\"1,0\": expected widths in frames, such as 1,2,4,8"),
    ];
    for (args, words) in usage {
        let ran = run(command(args), b"");
        assert_eq!((ran.status, ran.out.len()), (Some(2), 0), "{args:?}");
        assert!(ran.err.contains(words), "{args:?}: {}", ran.err);
    }
    done(&["trace", "--request", request]);
}
