//! `manifest.json` against what is there. A version that has one is complete as soon as every listed file has its size, and may
//! load when every digest matches; there is no need to wait for it to settle.

use std::collections::BTreeMap;

use super::{files::Folder, publish::hex, source::FoundVersion};
use crate::{
    engine::LoadError,
    spec::manifest_json::{ManifestFile, parse_manifest_json},
};

/// The file of digests in a version folder.
pub const MANIFEST_JSON: &str = "manifest.json";

/// The largest manifest, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The files of a version with their sizes and digests.
#[derive(Debug)]
pub struct Manifest {
    files: BTreeMap<Box<str>, ManifestFile>,
}

impl Manifest {
    /// Reads the manifest of a version's folder; `None` when it has none.
    ///
    /// # Errors
    /// `manifest.json: <place and what is wrong>`.
    pub fn read(folder: &Folder) -> Result<Option<Self>, LoadError> {
        let Some(content) = folder.read(MANIFEST_JSON, MAX_BYTES)? else { return Ok(None) };
        let text = String::from_utf8(content.bytes).map_err(|_| wrong("is not UTF-8"))?;
        let files = parse_manifest_json(&text)
            .map_err(|problems| wrong(&problems.first().map(ToString::to_string).unwrap_or_default()))?;
        let files = files.into_iter().map(|file| (file.path.clone(), file)).collect();
        Ok(Some(Self { files }))
    }

    /// The names that are listed.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(|name| &**name)
    }

    /// Whether a file is listed.
    pub fn lists(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Whether a file is what is listed; files that are not listed are.
    ///
    /// # Errors
    /// `manifest.json: model.onnx: size: expected 4428, got 100`, or `sha256`.
    pub fn check(&self, name: &str, size: u64, sha256: &[u8; 32]) -> Result<(), LoadError> {
        let Some(listed) = self.files.get(name) else { return Ok(()) };
        if listed.size != size {
            return Err(wrong(&format!("{name}: size: expected {}, got {size}", listed.size)));
        }
        if listed.sha256 != *sha256 {
            let (expected, got) = (hex(&listed.sha256), hex(sha256));
            return Err(wrong(&format!("{name}: sha256: expected {expected}, got {got}")));
        }
        Ok(())
    }

    /// Whether every listed file is there with its size, so that the copying seems to have ended.
    pub fn is_complete(&self, found: &FoundVersion) -> bool {
        let size = |name: &str| found.files.get(name).map(super::files::FileStamp::size);
        self.files.values().all(|file| size(&file.path) == Some(file.size))
    }
}

fn wrong(what: &str) -> LoadError {
    LoadError::new(format!("{MANIFEST_JSON}: {what}"))
}
