//! Would catch: a seeded checkpoint that is not, byte for byte, the one the goldens were recorded on.

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// Makes every recorded checkpoint whose kind begins so, and returns how many files were compared.
fn compare(kinds: &str) -> usize {
    let recorded = fs::read(support::goldens().join("checkpoints/sha256.json")).unwrap();
    let recorded: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_slice(&recorded).unwrap();
    let mut compared = 0;
    for (name, files) in recorded.iter().filter(|(name, _)| name.starts_with(kinds)) {
        let (kind, seed) = name.rsplit_once('-').unwrap();
        let folder = support::checkpoint(kind, seed.parse().unwrap());
        for (file, expected) in files {
            assert_eq!(&payload_sum(File::open(folder.join(file)).unwrap()), expected, "{name}/{file}");
            compared += 1;
        }
    }
    compared
}

/// SHA-256 of all that follows a safetensors header.
fn payload_sum(mut file: File) -> String {
    let mut length = [0; 8];
    file.read_exact(&mut length).unwrap();
    io::copy(&mut (&mut file).take(u64::from_le_bytes(length)), &mut io::sink()).unwrap();
    let mut sum = Sha256::new();
    io::copy(&mut file, &mut sum).unwrap();
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn small_payloads_are_those_recorded() {
    assert_eq!(compare("tiny"), 20);
}

#[test]
#[ignore = "needs 3 GB of disk for each full-size kind"]
fn full_payloads_are_those_recorded() {
    assert_eq!(compare("full"), 2);
}
