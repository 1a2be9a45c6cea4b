//! A version's files in memory: the model, the files it keeps tensors in, the golden answers, and digests of all that. What the
//! manifest lists must be what is there. Called by the loader, which hands the artifact to an engine.

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{
    external::external_files,
    files::Folder,
    manifest::{MANIFEST_JSON, Manifest},
    source::Place,
    sums::{Files, Summing},
};
use crate::{
    engine::{Artifact, ArtifactKind, LoadError},
    types::Version,
};

/// The file of golden answers.
pub const GOLDEN_JSON: &str = "golden.json";

/// Where a version is and how much of it may be read.
#[derive(Clone, Copy, Debug)]
pub struct Shelf<'a> {
    /// The model's folder.
    pub folder: &'a Path,
    /// Which version.
    pub version: Version,
    /// Where its files are.
    pub place: Place,
    /// The name of the model file.
    pub model_filename: &'a str,
    /// Bytes that all its files may have together.
    pub max_bytes: u64,
}

/// A version in memory.
#[derive(Debug)]
pub struct Bundle {
    /// What an engine loads.
    pub artifact: Artifact,
    /// The text of `golden.json`, where there is one.
    pub golden: Option<String>,
    /// The digests of all that was read.
    pub sums: Summing,
}

/// A file in memory.
struct Read {
    bytes: Bytes,
    hard_links: u64,
}

/// Reads a version.
///
/// # Errors
/// What is missing, no regular file, too large, or not what the manifest lists, by file.
pub fn read_bundle(shelf: Shelf<'_>) -> Result<Bundle, LoadError> {
    let folder = Folder::open(shelf.folder)?;
    let folder = match shelf.place {
        Place::Folder => folder.child(&shelf.version.to_string())?,
        Place::Bare => folder,
    };
    let mut reader = Reader { folder, left: shelf.max_bytes, manifest: None, files: Files::default() };
    reader.read_manifest()?;
    let Some(model) = reader.read(shelf.model_filename)? else {
        return Err(LoadError::new(format!("{}: not found", shelf.model_filename)));
    };
    reader.must_be_listed(shelf.model_filename)?;
    let side_files = reader.side_files(&model.bytes)?;
    let golden = reader.golden()?;
    reader.all_listed_are_there()?;
    let sums = reader.files.sum(shelf.model_filename);
    let artifact = Artifact { kind: ArtifactKind::Onnx, bytes: model.bytes, side_files };
    Ok(Bundle { artifact, golden, sums })
}

struct Reader {
    folder: Folder,
    /// Bytes that may still be read.
    left: u64,
    manifest: Option<Manifest>,
    files: Files,
}

impl Reader {
    fn read_manifest(&mut self) -> Result<(), LoadError> {
        self.manifest = Manifest::read(&self.folder)?;
        Ok(())
    }

    /// A file that agrees with the manifest, as far as that lists it; `None` when there is none.
    fn read(&mut self, name: &str) -> Result<Option<Read>, LoadError> {
        let Some(content) = self.folder.read(name, self.left)? else { return Ok(None) };
        self.left = self.left.saturating_sub(content.stamp.size());
        let bytes = Bytes::from(content.bytes);
        if let Some(manifest) = &self.manifest {
            // No engine sees what is not what was published.
            let digest: [u8; 32] = Sha256::digest(&bytes).into();
            manifest.check(name, content.stamp.size(), &digest)?;
            self.files.add_known(name, digest);
        } else {
            self.files.add(name, &bytes);
        }
        Ok(Some(Read { bytes, hard_links: content.hard_links }))
    }

    /// A manifest that leaves out what the model is made of promises nothing.
    fn must_be_listed(&self, name: &str) -> Result<(), LoadError> {
        match &self.manifest {
            Some(manifest) if !manifest.lists(name) => {
                Err(LoadError::new(format!("{MANIFEST_JSON}: {name}: not listed")))
            }
            _ => Ok(()),
        }
    }

    /// The files that the model refers to. A name that is no plain file name, or of no file, is the engine's to refuse: it
    /// knows the tensor.
    fn side_files(&mut self, model: &[u8]) -> Result<BTreeMap<String, Bytes>, LoadError> {
        let mut files = BTreeMap::new();
        for name in external_files(model) {
            let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
            if name.is_empty() || name == ".." || name.contains(['/', '\\', '\0']) {
                continue;
            }
            let Some(content) = self.read(&name)? else { continue };
            if content.hard_links > 1 {
                return Err(LoadError::new(format!(
                    "{name}: has another name (hard link): expected a file of its own"
                )));
            }
            self.must_be_listed(&name)?;
            files.insert(name, content.bytes);
        }
        Ok(files)
    }

    fn golden(&mut self) -> Result<Option<String>, LoadError> {
        let Some(content) = self.read(GOLDEN_JSON)? else { return Ok(None) };
        let text = std::str::from_utf8(&content.bytes);
        text.map(|text| Some(text.to_owned())).map_err(|_| LoadError::new(format!("{GOLDEN_JSON}: is not UTF-8")))
    }

    /// Files that nothing here reads must be right too: whoever listed them relies on them.
    fn all_listed_are_there(&mut self) -> Result<(), LoadError> {
        let listed: Vec<_> = self.manifest.iter().flat_map(Manifest::names).map(str::to_owned).collect();
        for name in listed {
            if !self.files.contains(&name) && self.read(&name)?.is_none() {
                return Err(LoadError::new(format!("{MANIFEST_JSON}: {name}: not found")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
