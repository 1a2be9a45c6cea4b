//! Publishes a version so that no gateway ever sees half of it: everything is copied into a hidden folder beside the versions,
//! a manifest of digests is written, all of it is flushed to the disk, and one rename makes it visible. Called by `weir push`.

use std::{
    fs::{self, File},
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};
use sha2::{Digest, Sha256};

use super::{
    bundle::GOLDEN_JSON,
    manifest::MANIFEST_JSON,
    source::{MODEL_ONNX, ROUTE_TOML},
};
use crate::types::{ModelName, Version};

/// How often the next free number is tried when others publish at the same time.
const MAX_RACES: usize = 1000;

/// What to publish.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// The model, which need not exist yet.
    pub model: &'a ModelName,
    /// A model file, or a folder whose files make up the version.
    pub from: &'a Path,
    /// The name that a single model file gets, normally `model.onnx`.
    pub model_filename: &'a str,
    /// The version; `None` = the next free number.
    pub version: Option<Version>,
    /// A file of golden answers that becomes the version's, in place of one in the folder.
    pub golden: Option<&'a Path>,
}

/// A version that has been published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its number.
    pub version: Version,
    /// Its folder.
    pub folder: PathBuf,
    /// Its files with their digests, in order of name.
    pub files: Vec<PublishedFile>,
}

/// A file of a published version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedFile {
    /// Name in the version's folder.
    pub name: String,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The version is there already; versions are immutable.
    #[error("model '{0}' version {1}: exists already")]
    Exists(ModelName, Version),
    /// What was given or found does not make a version.
    #[error("{0}")]
    Refused(String),
    /// The file system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// Publishes a version below `root`, which must exist, atomically. On success everything is on the disk, not just in its cache.
///
/// # Errors
/// When the version exists, the files do not make one, or the file system refuses; nothing is left behind then.
pub fn publish(root: &Path, publication: Publication<'_>) -> Result<Published, PublishError> {
    let mut sources = sources(publication)?;
    if let Some(golden) = publication.golden {
        sources.retain(|(name, _)| name != GOLDEN_JSON);
        sources.push((GOLDEN_JSON.to_owned(), golden.to_owned()));
        sources.sort();
    }
    let folder = root.join(publication.model.as_str());
    let new_model = made(&folder)?;
    let published = put(&folder, sources, publication);
    if new_model {
        match published {
            Ok(_) => sync_folder(root)?,
            // Only an empty folder goes: somebody else may have published the model meanwhile.
            Err(_) => drop(fs::remove_dir(&folder)),
        }
    }
    published
}

/// Makes a model's folder; says whether there was none.
fn made(folder: &Path) -> Result<bool, PublishError> {
    match fs::create_dir(folder) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed("creating", folder)(error)),
    }
}

/// Puts a version together beside its place in a model's folder, and moves it there.
fn put(
    folder: &Path,
    sources: Vec<(String, PathBuf)>,
    publication: Publication<'_>,
) -> Result<Published, PublishError> {
    refuse_other_layouts(folder)?;
    let staging = Staging::new(folder)?;
    let mut files = Vec::with_capacity(sources.len());
    for (name, path) in sources {
        files.push(copy(&path, staging.0.join(&name), name)?);
    }
    write_manifest(&staging.0, &files)?;
    sync_folder(&staging.0)?;
    let version = claim(&staging, folder, publication)?;
    sync_folder(folder)?;
    Ok(Published { version, folder: folder.join(version.to_string()), files })
}

/// What to copy, as (name in the version folder, path), in order of name.
fn sources(publication: Publication<'_>) -> Result<Vec<(String, PathBuf)>, PublishError> {
    let Publication { from, model_filename, .. } = publication;
    let meta = fs::metadata(from).map_err(failed("reading", from))?;
    if meta.is_file() {
        return Ok(vec![(model_filename.to_owned(), from.to_owned())]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(from).map_err(failed("reading", from))? {
        let entry = entry.map_err(failed("reading", from))?;
        let path = entry.path();
        let name = entry.file_name().into_string().map_err(|_| refused(&path, "the name is not UTF-8"))?;
        if name.starts_with('.') || name == MANIFEST_JSON {
            continue;
        }
        if !fs::metadata(&path).map_err(failed("reading", &path))?.is_file() {
            return Err(refused(&path, "a version holds plain files only"));
        }
        found.push((name, path));
    }
    found.sort();
    if found.iter().any(|(name, _)| name == model_filename) {
        Ok(found)
    } else {
        Err(refused(from, &format!("expected a {model_filename} in it")))
    }
}

fn refuse_other_layouts(folder: &Path) -> Result<(), PublishError> {
    if folder.join(ROUTE_TOML).exists() {
        return Err(refused(folder, "is a route"));
    }
    if folder.join(MODEL_ONNX).exists() && highest(folder)?.is_none() {
        return Err(refused(folder, "its model.onnx has no version folder: move it to 1/model.onnx first"));
    }
    Ok(())
}

/// The hidden folder that a version is put together in; removed unless it was renamed.
struct Staging(PathBuf);

impl Staging {
    fn new(folder: &Path) -> Result<Self, PublishError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        for _ in 0..MAX_RACES {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!(".push-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("creating", &path)(error)),
            }
        }
        Err(refused(folder, "too many unfinished .push- folders"))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a rename nothing is there; after a failure what is left is hidden and harmless.
        drop(fs::remove_dir_all(&self.0));
    }
}

fn copy(from: &Path, to: PathBuf, name: String) -> Result<PublishedFile, PublishError> {
    let mut source = File::open(from).map_err(failed("opening", from))?;
    let mut target = File::create_new(&to).map_err(failed("creating", &to))?;
    let mut digest = Sha256::new();
    let mut size = 0_u64;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = source.read(&mut buffer).map_err(failed("reading", from))?;
        if count == 0 {
            break;
        }
        digest.update(&buffer[..count]);
        target.write_all(&buffer[..count]).map_err(failed("writing", &to))?;
        size += count as u64;
    }
    target.sync_all().map_err(failed("flushing", &to))?;
    Ok(PublishedFile { name, sha256: hex(&digest.finalize()), size })
}

fn write_manifest(folder: &Path, files: &[PublishedFile]) -> Result<(), PublishError> {
    let path = folder.join(MANIFEST_JSON);
    let list: Vec<_> = files
        .iter()
        .map(|file| serde_json::json!({ "path": file.name, "sha256": file.sha256, "size": file.size }))
        .collect();
    let text = serde_json::json!({ "files": list }).to_string();
    let mut file = File::create_new(&path).map_err(failed("creating", &path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed("writing", &path))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn sync_folder(folder: &Path) -> Result<(), PublishError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(failed("flushing", folder))
}

/// Makes the version visible under its number, or under the next free one.
fn claim(staging: &Staging, folder: &Path, publication: Publication<'_>) -> Result<Version, PublishError> {
    for _ in 0..MAX_RACES {
        let version = match publication.version {
            Some(version) => version,
            None => highest(folder)?
                .map_or(Some(Version::ONE), |highest| Version::new(highest.get() + 1))
                .ok_or_else(|| refused(folder, "no version number is left"))?,
        };
        let target = folder.join(version.to_string());
        match rename_new(&staging.0, &target) {
            Ok(()) => return Ok(version),
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("creating", &target)(error));
            }
            Err(_) if publication.version.is_some() => {
                return Err(PublishError::Exists(publication.model.clone(), version));
            }
            Err(_) => {}
        }
    }
    Err(refused(folder, "others took every version number that was tried"))
}

/// Renames a folder unless the target exists.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system can: then an empty folder is the claim, which the rename replaces.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            fs::create_dir(to)?;
            fs::rename(from, to)
        }
        result => result.map_err(io::Error::from),
    }
}

/// The highest version number in use.
fn highest(folder: &Path) -> Result<Option<Version>, PublishError> {
    let mut highest = None;
    for entry in fs::read_dir(folder).map_err(failed("reading", folder))? {
        let name = entry.map_err(failed("reading", folder))?.file_name();
        highest = highest.max(name.to_str().and_then(Version::parse));
    }
    Ok(highest)
}

fn failed(what: &str, path: &Path) -> impl FnOnce(io::Error) -> PublishError {
    let what = format!("{what} {}", path.display());
    |source| PublishError::Io { what, source }
}

fn refused(path: &Path, why: &str) -> PublishError {
    PublishError::Refused(format!("{}: {why}", path.display()))
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
