//! What the store does to the disk, in steps that are whole or not at all: draft a file, give it its name, read it, take the
//! lock. Everything goes through the handles of the two folders, so that a folder that is swapped meanwhile changes nothing.

use std::{
    fs::{File, TryLockError},
    io::{self, Write},
    os::fd::AsFd,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rustix::{
    fs::{Access, AtFlags, CWD, Dir, Mode, OFlags, RenameFlags},
    io::Errno,
};

use super::entry::{file_name, number_of};
use crate::registry::files::Folder;

const HISTORY: &str = ".history";
const LOCK: &str = ".lock";
const DRAFT: &str = ".draft-";

/// How long the lock is waited for: as often as this, and so long each time.
const LOCK_TRIES: u32 = 5000;
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// Tries for a name that nobody has.
const MAX_NAMES: usize = 1000;

/// Drafts that are older than this, in seconds, belong to nobody any more.
const ABANDONED: i64 = 3600;

/// A moment by the file system's clock: seconds and nanoseconds.
pub(super) type Changed = (i64, i64);

/// Opens a folder; `None` when there is none. Links are followed only to a route's own folder.
pub(super) fn open(at: impl AsFd, name: &Path, follow: bool) -> io::Result<Option<Folder>> {
    let follow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    match rustix::fs::openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | follow, Mode::empty()) {
        Ok(fd) => Ok(Some(Folder::from(fd))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens a route's folder.
pub(super) fn open_route(path: &Path) -> io::Result<Option<Folder>> {
    open(CWD, path, true)
}

/// Opens the folder of a route's revisions.
pub(super) fn open_history(folder: &Folder) -> io::Result<Option<Folder>> {
    open(folder, Path::new(HISTORY), false)
}

/// As [`open_route`], and makes the folder when there is none.
pub(super) fn make_route(path: &Path) -> io::Result<Folder> {
    if let Some(folder) = open_route(path)? {
        return Ok(folder);
    }
    make(CWD, path)?;
    if let Some(parent) = path.parent() {
        File::open(parent)?.sync_all()?;
    }
    open_route(path)?.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// As [`open_history`], and makes the folder when there is none.
pub(super) fn make_history(folder: &Folder) -> io::Result<Folder> {
    if let Some(history) = open_history(folder)? {
        return Ok(history);
    }
    make(folder, Path::new(HISTORY))?;
    sync(folder)?;
    open_history(folder)?.ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn make(at: impl AsFd, name: &Path) -> io::Result<()> {
    match rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether files may be made in a folder, as far as that can be known without doing so.
pub(super) fn is_writable(folder: &Folder) -> io::Result<()> {
    let access = Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::accessat(folder, ".", access, AtFlags::EACCESS).map_err(io::Error::from)
}

/// What is on the disk now survives a loss of power.
pub(super) fn sync(folder: &Folder) -> io::Result<()> {
    rustix::fs::fsync(folder).map_err(io::Error::from)
}

/// Takes the lock of a folder of revisions, which ends with the file.
///
/// # Errors
/// `TimedOut` when somebody else keeps it.
pub(super) fn lock(history: &Folder) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = File::from(rustix::fs::openat(history, LOCK, flags, Mode::from_raw_mode(0o666))?);
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            // Some network file systems have no locks. Revisions are then still made by one writer only.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "another process keeps the lock"))
}

/// When a file of a folder was last changed; `None` when there is none.
pub(super) fn changed(folder: &Folder, name: &str) -> io::Result<Option<Changed>> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(moment(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// When a folder's entries were last changed.
pub(super) fn folder_changed(folder: &Folder) -> io::Result<Changed> {
    Ok(moment(&rustix::fs::fstat(folder)?))
}

#[expect(clippy::useless_conversion, reason = "the widths of these fields differ between machines")]
fn moment(stat: &rustix::fs::Stat) -> Changed {
    let nanos = i64::try_from(stat.st_ctime_nsec).unwrap_or(0);
    (i64::from(stat.st_ctime), nanos)
}

/// The numbers of all revisions, ascending.
pub(super) fn numbers(history: &Folder) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in Dir::read_from(history)? {
        numbers.extend(entry?.file_name().to_str().ok().and_then(number_of));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The newest revision's number, 0 without one. `known` is one that was there before: what follows it is looked for first,
/// because folders of many revisions are looked at every other second.
pub(super) fn newest(history: &Folder, known: u64) -> io::Result<u64> {
    let mut newest = known;
    if known > 0 && changed(history, &file_name(known))?.is_some() {
        while changed(history, &file_name(newest + 1))?.is_some() {
            newest += 1;
        }
        return Ok(newest);
    }
    Ok(numbers(history)?.last().copied().unwrap_or(0))
}

/// Removes a file; it may be gone already.
pub(super) fn remove(folder: &Folder, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes the revisions up to `last` and what writers that died left behind. What cannot be removed now will be later.
pub(super) fn prune(history: &Folder, last: u64) {
    let Ok(entries) = Dir::read_from(history) else { return };
    let now = folder_changed(history).map_or(0, |(seconds, _)| seconds);
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().to_str() else { continue };
        let old = number_of(name).is_some_and(|number| number <= last);
        let abandoned = || {
            let changed = changed(history, name).ok().flatten();
            changed.is_some_and(|(seconds, _)| seconds < now.saturating_sub(ABANDONED))
        };
        if old || (name.starts_with(DRAFT) && abandoned()) {
            drop(remove(history, name));
        }
    }
}

/// A file that is complete and on the disk, but has no name yet that anybody looks for. Removed unless it is given one.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    history: &'a Folder,
    name: String,
}

impl<'a> Draft<'a> {
    /// Writes one. `mode` are the permissions that it gets, as of the file that it replaces.
    pub(super) fn new(history: &'a Folder, content: &str, mode: Option<Mode>) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        for _ in 0..MAX_NAMES {
            let name = format!("{DRAFT}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let fd = match rustix::fs::openat(history, &name, flags, Mode::from_raw_mode(0o666)) {
                Ok(fd) => fd,
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(error.into()),
            };
            let draft = Self { history, name };
            let mut file = File::from(fd);
            file.write_all(content.as_bytes())?;
            if let Some(mode) = mode {
                // Another owner's file has been replaced by ours; its permissions are a courtesy.
                let _ = rustix::fs::fchmod(&file, mode);
            }
            file.sync_all()?;
            return Ok(draft);
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many drafts"))
    }

    /// Gives it a name that nothing has yet.
    ///
    /// # Errors
    /// `AlreadyExists` when something has it.
    pub(super) fn create(self, name: &str) -> io::Result<()> {
        match rustix::fs::linkat(self.history, &self.name, self.history, name, AtFlags::empty()) {
            // Some file systems have no links; their renames can be told to replace nothing.
            Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS | Errno::MLINK) => {
                rustix::fs::renameat_with(self.history, &self.name, self.history, name, RenameFlags::NOREPLACE)?
            }
            linked => linked?,
        }
        Ok(())
    }

    /// Puts it in the place of a file.
    pub(super) fn replace(self, folder: &Folder, name: &str) -> io::Result<()> {
        rustix::fs::renameat(self.history, &self.name, folder, name).map_err(io::Error::from)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // After a rename nothing is there.
        drop(remove(self.history, &self.name));
    }
}

/// The permissions of a file.
pub(super) fn mode(folder: &Folder, name: &str) -> Option<Mode> {
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(Mode::from_raw_mode(stat.st_mode & 0o777))
}
