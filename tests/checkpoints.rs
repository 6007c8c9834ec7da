//! Would catch: a seeded checkpoint that is not, byte for byte, the one the goldens were recorded on.

mod support;

use std::collections::BTreeMap;
use std::fs;

use sha2::{Digest, Sha256};

#[test]
fn payloads_are_those_recorded() {
    let recorded = fs::read(support::goldens().join("checkpoints/sha256.json")).unwrap();
    let recorded: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_slice(&recorded).unwrap();
    let small = recorded.iter().filter(|(name, _)| name.starts_with("tiny"));
    let mut compared = 0;
    for (name, files) in small {
        let (kind, seed) = name.rsplit_once('-').unwrap();
        let folder = support::checkpoint(kind, seed.parse().unwrap());
        for (file, expected) in files {
            let bytes = fs::read(folder.join(file)).unwrap();
            let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let sum: String = Sha256::digest(&bytes[8 + header..]).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(&sum, expected, "{name}/{file}");
            compared += 1;
        }
    }
    assert_eq!(compared, 20);
}
