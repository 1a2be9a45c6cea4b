//! Reads `manifest.json`: the files of a version with their digests, which must match before the version loads. `weir push`
//! writes it; the registry's loader reads it through this.

use serde::Deserialize;

use super::{
    json_text::{self, START},
    problem::{MAX_PROBLEMS, Problem, quoted},
};

/// A file of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFile {
    /// Its name in the version's folder, without any folder.
    pub path: Box<str>,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Bytes.
    pub size: u64,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with 'files'")]
struct RawManifest {
    files: Vec<RawFile>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with 'path', 'sha256' and 'size'")]
struct RawFile {
    path: String,
    sha256: String,
    size: u64,
}

/// Reads a `manifest.json`.
///
/// # Errors
/// Where the text is no JSON of that form, or everything that is wrong with its entries.
pub fn parse_manifest_json(text: &str) -> Result<Vec<ManifestFile>, Vec<Problem>> {
    let manifest: RawManifest =
        serde_json::from_str(text).map_err(|error| vec![json_text::problem(&error, START, "")])?;
    let mut problems = Vec::new();
    let mut files: Vec<ManifestFile> = Vec::with_capacity(manifest.files.len());
    if manifest.files.is_empty() {
        problems.push(START.problem("files", "expected at least one file"));
    }
    for (i, file) in manifest.files.into_iter().enumerate() {
        let mut wrong = |key: &str, text: String| {
            if problems.len() < MAX_PROBLEMS {
                problems.push(START.problem(format!("files[{i}].{key}"), text));
            }
        };
        if file.path.is_empty() || file.path.starts_with('.') || file.path.contains(['/', '\\', '\0']) {
            wrong("path", format!("expected a plain file name, got {}", quoted(&file.path)));
        } else if files.iter().any(|other| *other.path == *file.path) {
            wrong("path", format!("{} is listed twice", quoted(&file.path)));
        }
        let Some(sha256) = digest(&file.sha256) else {
            wrong("sha256", format!("expected 64 hexadecimal digits, got {}", quoted(&file.sha256)));
            continue;
        };
        files.push(ManifestFile { path: file.path.into(), sha256, size: file.size });
    }
    if problems.is_empty() { Ok(files) } else { Err(problems) }
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "00fF9dce81f5a034fa0ff947aeda9761f3639074c0c233c61525a61252a149f0";

    fn check(text: &str, expected: &[&str]) {
        let problems: Vec<_> = parse_manifest_json(text).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(problems, expected, "{text}");
    }

    #[test]
    fn reads_files() {
        let text = format!(
            r#"{{"files":[{{"path":"model.onnx","sha256":"{DIGEST}","size":4428}},
                {{"size":1,"path":"weights.bin","sha256":"{DIGEST}","note":"ignored"}}],"made_by":"ignored"}}"#
        );
        let files = parse_manifest_json(&text).unwrap();
        assert_eq!(files.len(), 2);
        assert_eq!((&*files[0].path, files[0].size), ("model.onnx", 4428));
        assert_eq!(files[0].sha256[..3], [0x00, 0xff, 0x9d]);
        assert_eq!((&*files[1].path, files[1].sha256[31]), ("weights.bin", 0xf0));
    }

    #[test]
    fn every_problem() {
        check(r#"{"files":[]}"#, &["line 1, column 1: files: expected at least one file"]);
        check("[]", &["line 1, column 2: invalid length 0, expected an object with 'files'"]);
        check(r#"{"files":[{"path":"a","size":1}]}"#, &["line 1, column 31: missing field `sha256`"]);
        let text = format!(
            r#"{{"files":[{{"path":"../a","sha256":"{DIGEST}","size":1}},{{"path":"b","sha256":"00","size":1}},
            {{"path":"c","sha256":"{DIGEST}","size":1}},{{"path":"c","sha256":"{}","size":1}}]}}"#,
            "é".repeat(32)
        );
        check(
            &text,
            &[
                "line 1, column 1: files[0].path: expected a plain file name, got '../a'",
                "line 1, column 1: files[1].sha256: expected 64 hexadecimal digits, got '00'",
                "line 1, column 1: files[3].path: 'c' is listed twice",
                &format!("line 1, column 1: files[3].sha256: expected 64 hexadecimal digits, got '{}'", "é".repeat(32)),
            ],
        );
        check(
            r#"{"files":[{"path":"a","sha256":"","size":-1}]}"#,
            &["line 1, column 43: invalid value: integer `-1`, expected u64"],
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,100}", path in "\\PC{0,10}", sha256 in "\\PC{60,68}") {
            let _ = parse_manifest_json(&text);
            let file = serde_json::json!({"files": [{"path": path, "sha256": sha256, "size": 1}]});
            let _ = parse_manifest_json(&file.to_string());
        }
    }
}
