//! One route's folder: looking at it, making the next revision, reading earlier ones. Keeps nothing between calls, so that what
//! other processes and people do is seen. Every step may be the last one of a process that is killed.

use std::{io, path::PathBuf, sync::Arc};

use rustix::io::Errno;

use super::{
    disk::{self, Draft},
    entry::{Entry, LAST, MAX_HEADER, Note, file_name},
    seen::{FileText, Seen, State},
};
use crate::{
    compose::Revision,
    registry::{
        files::{FileStamp, Folder},
        source::ROUTE_TOML,
    },
};

/// The largest `route.toml`, in bytes.
pub(super) const MAX_TEXT: u64 = 256 << 10;

/// Revisions that are kept.
const KEPT: u64 = 1000;

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub(in crate::compose) enum StoreError {
    /// The folder is not as it was seen.
    #[error("the route has changed meanwhile")]
    Stale,
    /// The folder cannot be written to.
    #[error("cannot be written to: {0}")]
    ReadOnly(#[source] io::Error),
    /// The text is larger than a `route.toml` may be.
    #[error("{ROUTE_TOML}: size: expected at most {MAX_TEXT} bytes, got {0}")]
    TooLarge(usize),
    /// The file system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// The folder of one route; it need not exist.
#[derive(Clone, Debug)]
pub(in crate::compose) struct Store {
    path: PathBuf,
}

impl Store {
    /// The store of a route whose folder this is.
    pub(in crate::compose) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Looks at the folder. Finishes what a writer that died began. `known` is the newest revision of an earlier look, if any,
    /// which then is not read again.
    ///
    /// # Errors
    /// `Io` when the folder cannot be looked at.
    pub(in crate::compose) fn look(&self, known: Option<&Arc<Entry>>) -> Result<Seen, StoreError> {
        let Some(folder) = disk::open_route(&self.path).map_err(unread("the folder cannot be opened"))? else {
            return Ok(nothing());
        };
        let history = open_history(&folder)?;
        let mut seen = read(&folder, history.as_ref(), known)?;
        let Some(history) = history.filter(|_| matches!(seen.state, State::Edited | State::Removed)) else {
            return Ok(seen);
        };
        // A writer may be between its two steps: with its lock they are over.
        match disk::lock(&history) {
            Ok(_lock) => settled(&folder, &history),
            // On a disk that cannot be written to nobody finishes anything; what was begun holds all the same.
            Err(error) if is_read_only(&error) => {
                seen = read(&folder, Some(&history), None)?;
                if seen.is_behind(&folder, &history).map_err(unread("the revisions cannot be read"))? {
                    seen.state = State::Behind(error.to_string());
                }
                Ok(seen)
            }
            Err(error) => Err(unwritten("the revisions cannot be locked")(error)),
        }
    }

    /// Makes the next revision and replaces `route.toml` by it; `None` deletes the route. When this returns, both are on the
    /// disk. Nothing is done unless the folder is as it was `seen`. An edit by hand that the text does not come from is undone.
    ///
    /// # Errors
    /// `Stale`, also when another process makes the same revision at this moment; `ReadOnly`; `TooLarge`; `Io`, after which the
    /// revision may have been made or not.
    pub(in crate::compose) fn commit(
        &self,
        seen: &Seen,
        text: Option<&str>,
        note: Note,
    ) -> Result<Arc<Entry>, StoreError> {
        if let Some(text) = text.filter(|text| text.len() as u64 > MAX_TEXT) {
            return Err(StoreError::TooLarge(text.len()));
        }
        let folder = disk::make_route(&self.path).map_err(unwritten("the folder cannot be made"))?;
        let history = disk::make_history(&folder).map_err(unwritten("the folder of revisions cannot be made"))?;
        disk::is_writable(&folder).and_then(|()| disk::is_writable(&history)).map_err(unwritten("the folder"))?;
        let _lock = disk::lock(&history).map_err(unwritten("the revisions cannot be locked"))?;
        let now = settled(&folder, &history)?;
        if now.number != seen.number || now.file != seen.file {
            return Err(StoreError::Stale);
        }
        if let State::Behind(why) = now.state {
            return Err(unwritten("route.toml")(io::Error::other(why)));
        }
        if now.number >= LAST {
            return Err(unwritten("the revisions")(io::Error::other("no number is left")));
        }
        let desk = Desk { folder: &folder, history: &history };
        let after = FileText::of(text);
        let by_hand = matches!(now.state, State::Edited | State::Removed) && now.file != after;
        let before = if by_hand { desk.undo(&now)? } else { now.file };
        let entry = Entry::new(now.number + 1, note, text.unwrap_or_default().into());
        desk.make(&entry, &before, &after)?;
        disk::prune(&history, entry.revision.number.saturating_sub(KEPT));
        Ok(Arc::new(entry))
    }

    /// Every revision that is kept, newest first. Files that are not in order are left out.
    ///
    /// # Errors
    /// `Io` when the folder cannot be read.
    pub(in crate::compose) fn history(&self) -> Result<Vec<Revision>, StoreError> {
        let Some(history) = self.open()? else { return Ok(Vec::new()) };
        let numbers = disk::numbers(&history).map_err(unread("the revisions cannot be listed"))?;
        let read = |number| match entry_of(&history, number) {
            Ok(entry) => entry.map(|entry| entry.revision),
            Err(error) => {
                tracing::warn!(folder = %self.path.display(), revision = number, error, "a revision is not in order");
                None
            }
        };
        Ok(numbers.into_iter().rev().filter_map(read).collect())
    }

    /// A revision; `None` when there is none of this number.
    ///
    /// # Errors
    /// `Io` when its file cannot be read or is not in order.
    pub(in crate::compose) fn read(&self, number: u64) -> Result<Option<Entry>, StoreError> {
        let Some(history) = self.open()? else { return Ok(None) };
        entry_of(&history, number).map_err(|why| unread("the revision cannot be read")(io::Error::other(why)))
    }

    /// What `route.toml` says, without a look at its revisions.
    ///
    /// # Errors
    /// `Io` when the folder cannot be opened.
    pub(in crate::compose) fn text(&self) -> Result<FileText, StoreError> {
        let folder = disk::open_route(&self.path).map_err(unread("the folder cannot be opened"))?;
        Ok(folder.map_or(FileText::Absent, |folder| text_of(&folder).0))
    }

    /// Whether a revision could be made, as far as that can be known without making one.
    pub(in crate::compose) fn is_writable(&self) -> bool {
        let writable = |folder: &Folder| disk::is_writable(folder).is_ok();
        match disk::open_route(&self.path) {
            Ok(Some(folder)) => match disk::open_history(&folder) {
                Ok(Some(history)) => writable(&folder) && writable(&history),
                Ok(None) => writable(&folder),
                Err(_) => false,
            },
            Ok(None) => {
                let parent = self.path.parent().map(disk::open_route);
                matches!(parent, Some(Ok(Some(parent))) if writable(&parent))
            }
            Err(_) => false,
        }
    }

    fn open(&self) -> Result<Option<Folder>, StoreError> {
        let folder = disk::open_route(&self.path).map_err(unread("the folder cannot be opened"))?;
        folder.map_or(Ok(None), |folder| open_history(&folder))
    }
}

/// The two folders while a revision is made.
struct Desk<'a> {
    folder: &'a Folder,
    history: &'a Folder,
}

impl Desk<'_> {
    /// Puts the newest revision's text back, so that the next revision is made from it.
    fn undo(&self, now: &Seen) -> Result<FileText, StoreError> {
        let text = now.newest.as_ref().map_or("", |newest| &newest.text);
        let undone = if text.is_empty() { None } else { Some(text) };
        let draft = self.draft(undone)?;
        self.put(draft).map_err(unwritten("route.toml cannot be replaced"))?;
        Ok(FileText::of(undone))
    }

    /// Makes a revision. `before` is what the file says now, `after` what it is to say.
    fn make(&self, entry: &Entry, before: &FileText, after: &FileText) -> Result<(), StoreError> {
        let unmade = || unwritten("the revision cannot be written");
        let page = Draft::new(self.history, &entry.encode(), None).map_err(unmade())?;
        // Made first, so that little time passes between the two steps.
        let file = match after {
            FileText::Text(text) if before != after => self.draft(Some(text))?,
            _ => None,
        };
        page.create(&file_name(entry.revision.number)).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => StoreError::Stale,
            _ => unmade()(error),
        })?;
        // Who edits the file at this very moment comes after this revision: it is the next look's to see.
        if before != after && text_of(self.folder).0 == *before {
            self.put(file).map_err(unwritten("the revision was made, but route.toml cannot be replaced"))?;
        }
        let synced = disk::sync(self.history).and_then(|()| disk::sync(self.folder));
        synced.map_err(unwritten("the revision was made, but not flushed"))
    }

    fn draft(&self, text: Option<&str>) -> Result<Option<Draft<'_>>, StoreError> {
        let Some(text) = text else { return Ok(None) };
        let draft = Draft::new(self.history, text, disk::mode(self.folder, ROUTE_TOML));
        draft.map(Some).map_err(unwritten("route.toml cannot be written"))
    }

    fn put(&self, draft: Option<Draft<'_>>) -> io::Result<()> {
        match draft {
            Some(draft) => draft.replace(self.folder, ROUTE_TOML),
            None => disk::remove(self.folder, ROUTE_TOML),
        }
    }
}

/// What a folder looks like to who holds its lock. Finishes what was begun.
fn settled(folder: &Folder, history: &Folder) -> Result<Seen, StoreError> {
    let mut seen = read(folder, Some(history), None)?;
    if !seen.is_behind(folder, history).map_err(unread("the revisions cannot be read"))? {
        return Ok(seen);
    }
    let desk = Desk { folder, history };
    let text = seen.newest.as_ref().map(|newest| &*newest.text).filter(|text| !text.is_empty());
    let finish = || {
        let draft = desk.draft(text)?;
        desk.put(draft).and_then(|()| disk::sync(folder)).map_err(unwritten("route.toml cannot be replaced"))
    };
    match finish() {
        Ok(()) => {
            tracing::warn!(revision = seen.number, "a writer died before it replaced route.toml; it is replaced now");
            read(folder, Some(history), None)
        }
        Err(error) => {
            seen.state = State::Behind(error.to_string());
            Ok(seen)
        }
    }
}

fn read(folder: &Folder, history: Option<&Folder>, known: Option<&Arc<Entry>>) -> Result<Seen, StoreError> {
    let unreadable = || unread("the revisions cannot be read");
    let mut seen = nothing();
    if let Some(history) = history {
        let hint = known.map_or(0, |known| known.revision.number);
        seen.number = disk::newest(history, hint).map_err(unreadable())?;
        match known.filter(|_| seen.number == hint && hint > 0) {
            Some(known) => seen.newest = Some(Arc::clone(known)),
            None => match entry_of(history, seen.number) {
                Ok(entry) => seen.newest = entry.map(Arc::new),
                Err(damage) => seen.damage = Some(format!(".history/{damage}")),
            },
        }
    }
    (seen.file, seen.stamp) = text_of(folder);
    seen.state = seen.compared();
    Ok(seen)
}

/// A revision's file; `None` when there is none.
pub(super) fn entry_of(history: &Folder, number: u64) -> Result<Option<Entry>, String> {
    if number == 0 {
        return Ok(None);
    }
    let name = file_name(number);
    let content = history.read(&name, MAX_TEXT + MAX_HEADER).map_err(|error| error.to_string())?;
    let entry = content.map(|content| Entry::decode(number, content.bytes)).transpose();
    entry.map_err(|error| format!("{name}: {error}"))
}

fn text_of(folder: &Folder) -> (FileText, Option<FileStamp>) {
    match folder.read(ROUTE_TOML, MAX_TEXT) {
        Ok(None) => (FileText::Absent, None),
        Err(error) => (FileText::Wrong(error.to_string()), None),
        Ok(Some(content)) => match String::from_utf8(content.bytes) {
            Ok(text) => (FileText::Text(text.into()), Some(content.stamp)),
            Err(_) => (FileText::Wrong(format!("{ROUTE_TOML}: is not UTF-8")), Some(content.stamp)),
        },
    }
}

fn nothing() -> Seen {
    Seen { number: 0, newest: None, damage: None, file: FileText::Absent, stamp: None, state: State::Gone }
}

fn open_history(folder: &Folder) -> Result<Option<Folder>, StoreError> {
    disk::open_history(folder).map_err(unread("the folder of revisions cannot be opened"))
}

fn is_read_only(error: &io::Error) -> bool {
    let codes = [Errno::ROFS, Errno::ACCESS, Errno::PERM];
    codes.iter().any(|code| error.raw_os_error() == Some(code.raw_os_error()))
}

fn unread(what: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { what, source }
}

fn unwritten(what: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    move |source| if is_read_only(&source) { StoreError::ReadOnly(source) } else { StoreError::Io { what, source } }
}
