//! Reading files of the registry without being led astray: a file is opened relative to the handle of its folder, a link is
//! never followed, only regular files are read, completely, into memory, up to a limit. The loader reads models through
//! this; the scan takes [`FileStamp`]s to see that a file changed.
//!
//! The registry itself and a model's folder may be links, because the operator chose them and deployments swap them
//! atomically. A version's folder and everything in it may not.

use std::{
    fs::{File, Metadata},
    io::Read,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};

use crate::engine::LoadError;

/// What tells that a file is no longer the same: size, times and identity. The change time cannot be set by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    identity: (u64, u64),
}

impl FileStamp {
    /// The stamp in a file's metadata.
    pub fn of(meta: &Metadata) -> Self {
        Self {
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            identity: (meta.dev(), meta.ino()),
        }
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// When the file was last changed, by the file system's clock: seconds since the epoch and nanoseconds.
    pub fn changed(&self) -> (i64, i64) {
        self.changed
    }

    /// How long the file has not been changed by the wall clock; zero when that lies in the future.
    pub fn age(&self, now: SystemTime) -> Duration {
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(self.changed.0), u32::try_from(self.changed.1)) else {
            return Duration::ZERO;
        };
        let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos));
        changed.and_then(|changed| now.duration_since(changed).ok()).unwrap_or_default()
    }
}

/// A whole file.
#[derive(Debug)]
pub struct Content {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its stamp, the same before and after it was read.
    pub stamp: FileStamp,
    /// How many names it has.
    pub hard_links: u64,
}

/// An open folder.
#[derive(Debug)]
pub struct Folder(OwnedFd);

impl Folder {
    /// Opens a folder that the operator named; links are followed.
    ///
    /// # Errors
    /// `cannot be opened: <why>`.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        open_folder(CWD, path, OFlags::empty())
    }

    /// Opens a folder inside this one, which must be a real folder.
    ///
    /// # Errors
    /// `<name>: <why>`.
    pub fn child(&self, name: &str) -> Result<Self, LoadError> {
        plain_name(name)?;
        open_folder(&self.0, Path::new(name), OFlags::NOFOLLOW)
            .map_err(|error| LoadError::new(format!("{name}: {error}")))
    }

    /// Reads a regular file of this folder; `None` when there is nothing of that name.
    ///
    /// # Errors
    /// `<name>: <why>`: a link, not a regular file, larger than `limit` bytes, changed while it was read, unreadable.
    pub fn read(&self, name: &str, limit: u64) -> Result<Option<Content>, LoadError> {
        plain_name(name)?;
        // A FIFO must not block the loader, a terminal must not become ours.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = match openat(&self.0, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(LoadError::new(format!("{name}: is a link: expected a regular file"))),
            Err(error) => return Err(unreadable(name, error.into())),
        };
        read_whole(&mut File::from(fd), name, limit).map(Some)
    }

    /// As [`Folder::read`], for a file that must be there.
    ///
    /// # Errors
    /// Also `<name>: not found`.
    pub fn read_required(&self, name: &str, limit: u64) -> Result<Content, LoadError> {
        self.read(name, limit)?.ok_or_else(|| LoadError::new(format!("{name}: not found")))
    }
}

impl From<OwnedFd> for Folder {
    /// What the handle leads to must be a folder.
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn open_folder(at: impl AsFd, path: &Path, extra: OFlags) -> Result<Folder, LoadError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | extra;
    openat(at, path, flags, Mode::empty()).map(Folder).map_err(|error| {
        let text = match error {
            Errno::NOENT => "not found".to_owned(),
            Errno::LOOP | Errno::NOTDIR => "expected a folder that is no link".to_owned(),
            other => format!("cannot be opened: {}", std::io::Error::from(other)),
        };
        LoadError::new(text)
    })
}

/// A name that cannot leave its folder.
fn plain_name(name: &str) -> Result<(), LoadError> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(LoadError::new(format!("'{}': expected a plain file name", name.escape_default())));
    }
    Ok(())
}

fn unreadable(name: &str, error: std::io::Error) -> LoadError {
    LoadError::new(format!("{name}: cannot be read: {error}"))
}

fn read_whole(file: &mut File, name: &str, limit: u64) -> Result<Content, LoadError> {
    let before = file.metadata().map_err(|error| unreadable(name, error))?;
    if !before.is_file() {
        return Err(LoadError::new(format!("{name}: expected a regular file")));
    }
    if before.size() > limit {
        return Err(LoadError::new(format!("{name}: size: expected at most {limit} bytes, got {}", before.size())));
    }
    let size = usize::try_from(before.size()).map_err(|_| LoadError::new(format!("{name}: too large")))?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| LoadError::new(format!("{name}: no memory for {size} bytes")))?;
    file.take(before.size()).read_to_end(&mut bytes).map_err(|error| unreadable(name, error))?;
    let after = file.metadata().map_err(|error| unreadable(name, error))?;
    let stamp = FileStamp::of(&before);
    if bytes.len() != size || FileStamp::of(&after) != stamp {
        return Err(LoadError::new(format!("{name}: changed while it was read")));
    }
    Ok(Content { bytes, stamp, hard_links: before.nlink() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_regular_files_of_the_folder_are_read() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path();
        std::fs::write(dir.join("good"), b"abc").unwrap();
        symlink("good", dir.join("link")).unwrap();
        std::fs::create_dir(dir.join("sub")).unwrap();
        symlink("sub", dir.join("sublink")).unwrap();
        rustix::fs::mknodat(CWD, dir.join("pipe"), rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();

        let folder = Folder::open(dir).unwrap();
        let content = folder.read_required("good", 3).unwrap();
        assert_eq!((content.bytes.as_slice(), content.hard_links, content.stamp.size()), (&b"abc"[..], 1, 3));
        assert!(folder.read("absent", 3).unwrap().is_none());
        assert!(folder.child("sub").is_ok());
        for (name, text) in [
            ("link", "link: is a link: expected a regular file"),
            ("pipe", "pipe: expected a regular file"),
            ("sub", "sub: expected a regular file"),
            ("../good", "'../good': expected a plain file name"),
            ("..", "'..': expected a plain file name"),
            ("absent", "absent: not found"),
        ] {
            assert_eq!(folder.read_required(name, 9).unwrap_err().to_string(), text);
        }
        let large = folder.read_required("good", 2).unwrap_err().to_string();
        assert_eq!(large, "good: size: expected at most 2 bytes, got 3");
        assert_eq!(folder.child("sublink").unwrap_err().to_string(), "sublink: expected a folder that is no link");
        assert_eq!(folder.child("good").unwrap_err().to_string(), "good: expected a folder that is no link");
    }

    #[test]
    fn a_stamp_tells_a_rewrite_and_its_age() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("f");
        std::fs::write(&path, b"a").unwrap();
        let first = FileStamp::of(&std::fs::symlink_metadata(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(root.path().join("other"), b"x").unwrap();
        std::fs::write(&path, b"bc").unwrap();
        assert_ne!(first, FileStamp::of(&std::fs::symlink_metadata(&path).unwrap()));
        assert_eq!(first.age(SystemTime::UNIX_EPOCH), Duration::ZERO);
        assert!(first.age(SystemTime::now() + Duration::from_secs(60)) >= Duration::from_secs(60));
    }
}
