//! What is read of a version and what is refused: manifests that do not match, files that are not what they seem.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use super::*;
use crate::registry::{publish, source::MODEL_ONNX, sums::Sums};

/// A model that keeps the data of an initializer in `w.bin`: graph { initializer { external_data { location: w.bin } } }.
const REFERS: &[u8] = b"\x3a\x17\x2a\x15\x6a\x13\x0a\x08location\x12\x07./w.bin";

struct Dir(tempfile::TempDir);

impl Dir {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let dir = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(dir.path("1")).unwrap();
        files.iter().for_each(|(name, content)| dir.put(name, content));
        dir
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, content: &[u8]) {
        fs::write(self.path("1").join(name), content).unwrap();
    }

    fn shelf(&self) -> Shelf<'_> {
        let version = Version::ONE;
        Shelf { folder: self.0.path(), version, place: Place::Folder, model_filename: MODEL_ONNX, max_bytes: 1000 }
    }

    fn read(&self) -> Result<Bundle, String> {
        read_bundle(self.shelf()).map_err(|error| error.to_string())
    }

    fn sums(&self) -> Sums {
        self.read().unwrap().sums.wait().unwrap()
    }

    fn manifest(&self, lines: &[(&str, &[u8])]) {
        let sha = |content: &[u8]| publish::hex(&Sha256::digest(content));
        let list: Vec<_> = lines
            .iter()
            .map(|(name, content)| serde_json::json!({"path": name, "sha256": sha(content), "size": content.len()}))
            .collect();
        self.put(MANIFEST_JSON, serde_json::json!({ "files": list }).to_string().as_bytes());
    }
}

#[test]
fn reads_the_model_its_side_files_and_golden() {
    let dir = Dir::new(&[(MODEL_ONNX, REFERS), ("w.bin", b"data"), ("golden.json", b"{}"), ("notes.txt", b"n")]);
    let bundle = dir.read().unwrap();
    assert_eq!(bundle.artifact.bytes, REFERS);
    assert_eq!(bundle.artifact.side_files.into_iter().collect::<Vec<_>>(), [("w.bin".to_owned(), "data".into())]);
    assert_eq!(bundle.golden.as_deref(), Some("{}"));
    let sums = bundle.sums.wait().unwrap();
    assert_eq!(*sums.digest, *publish::hex(&Sha256::digest(REFERS)));
    // What is not read does not count; what is read does, wherever it is.
    dir.put("notes.txt", b"other");
    assert_eq!(dir.sums(), sums);
    dir.put("w.bin", b"atad");
    let changed = dir.sums();
    assert_eq!(changed.digest, sums.digest);
    assert_ne!(changed.fingerprint, sums.fingerprint);
}

#[test]
fn what_the_manifest_lists_must_be_there() {
    let dir = Dir::new(&[(MODEL_ONNX, REFERS), ("w.bin", b"data")]);
    dir.manifest(&[(MODEL_ONNX, REFERS), ("w.bin", b"data")]);
    assert!(dir.read().is_ok());
    dir.put("w.bin", b"dat");
    assert_eq!(dir.read().unwrap_err(), "manifest.json: w.bin: size: expected 4, got 3");
    dir.put("w.bin", b"DATA");
    let error = dir.read().unwrap_err();
    assert!(error.starts_with("manifest.json: w.bin: sha256: expected 3a6eb079"), "{error}");
    dir.manifest(&[(MODEL_ONNX, REFERS)]);
    assert_eq!(dir.read().unwrap_err(), "manifest.json: w.bin: not listed");
    dir.manifest(&[("w.bin", b"DATA")]);
    assert_eq!(dir.read().unwrap_err(), "manifest.json: model.onnx: not listed");
    dir.manifest(&[(MODEL_ONNX, REFERS), ("w.bin", b"DATA"), ("reference.json", b"{}")]);
    assert_eq!(dir.read().unwrap_err(), "manifest.json: reference.json: not found");
    dir.put("reference.json", b"[]");
    assert!(dir.read().unwrap_err().starts_with("manifest.json: reference.json: sha256: expected"));
    dir.put("reference.json", b"{}");
    assert!(dir.read().is_ok());
    dir.put(MANIFEST_JSON, b"{\"files\":[{\"path\":\"../x\",\"sha256\":\"\",\"size\":1}]}");
    assert!(dir.read().unwrap_err().starts_with("manifest.json: "));
    dir.put(MANIFEST_JSON, b"{\"files\":[");
    assert!(dir.read().unwrap_err().starts_with("manifest.json: line 1, column "));
}

#[test]
fn only_plain_files_of_the_folder_are_read() {
    let dir = Dir::new(&[("w.bin", b"data")]);
    assert_eq!(dir.read().unwrap_err(), "model.onnx: not found");
    fs::write(dir.path("outside"), REFERS).unwrap();
    symlink(dir.path("outside"), dir.path("1/model.onnx")).unwrap();
    assert_eq!(dir.read().unwrap_err(), "model.onnx: is a link: expected a regular file");
    fs::remove_file(dir.path("1/model.onnx")).unwrap();
    dir.put(MODEL_ONNX, REFERS);
    fs::hard_link(dir.path("1/w.bin"), dir.path("other")).unwrap();
    assert_eq!(dir.read().unwrap_err(), "w.bin: has another name (hard link): expected a file of its own");
    fs::remove_file(dir.path("1/w.bin")).unwrap();
    symlink(dir.path("other"), dir.path("1/w.bin")).unwrap();
    assert_eq!(dir.read().unwrap_err(), "w.bin: is a link: expected a regular file");
    // What is missing, or elsewhere, is left to the engine.
    fs::remove_file(dir.path("1/w.bin")).unwrap();
    assert!(dir.read().unwrap().artifact.side_files.is_empty());
    let elsewhere = b"\x3a\x17\x2a\x15\x6a\x13\x0a\x08location\x12\x07../oths";
    dir.put(MODEL_ONNX, elsewhere);
    assert!(dir.read().unwrap().artifact.side_files.is_empty());
}

#[test]
fn memory_is_bounded_over_all_files() {
    let dir = Dir::new(&[(MODEL_ONNX, REFERS), ("w.bin", b"data")]);
    let size = REFERS.len() as u64;
    let limited = |max_bytes| read_bundle(Shelf { max_bytes, ..dir.shelf() }).map_err(|error| error.to_string());
    assert!(limited(size + 4).is_ok());
    assert_eq!(limited(size + 3).unwrap_err(), "w.bin: size: expected at most 3 bytes, got 4");
    assert!(limited(size - 1).unwrap_err().starts_with("model.onnx: size: expected at most"));
}
