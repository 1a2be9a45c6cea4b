//! What a route's folder looks like at one moment, and what that means: the file is the newest revision, was edited by hand, or
//! is behind because a writer died between making the revision and replacing the file.
//!
//! A writer that dies leaves the file as it was before, and it was that before the revision was made. So a file is behind when
//! it is what the revision before the newest one says and is no younger, by change times, which nobody can set. Anything else
//! that differs was written by somebody.

use std::sync::Arc;

use super::{
    disk::{self, Changed},
    entry::{Entry, file_name},
};
use crate::registry::files::{FileStamp, Folder};

/// `route.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::compose) enum FileText {
    /// It is not there.
    Absent,
    /// It says this.
    Text(Arc<str>),
    /// It cannot be read, for this reason.
    Wrong(String),
}

impl FileText {
    /// Whether it is as a revision says.
    pub(in crate::compose) fn is(&self, entry: &Entry) -> bool {
        match self {
            FileText::Absent => entry.is_deletion(),
            FileText::Text(text) => !entry.is_deletion() && *text == entry.text,
            FileText::Wrong(_) => false,
        }
    }

    pub(super) fn of(text: Option<&str>) -> Self {
        text.map_or(FileText::Absent, |text| FileText::Text(text.into()))
    }
}

/// How file and revisions stand to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::compose) enum State {
    /// The file is the newest revision.
    Same,
    /// There is no file, and no revision says that there is one.
    Gone,
    /// The file is older than the newest revision, which holds; it could not be replaced for this reason.
    Behind(String),
    /// The file was written by hand since, or cannot be read.
    Edited,
    /// The file was removed by hand.
    Removed,
}

/// What a folder looks like.
#[derive(Clone, Debug)]
pub(in crate::compose) struct Seen {
    /// Number of the newest revision; 0 = there is none.
    pub(in crate::compose) number: u64,
    /// That revision; `None` also when its file is not in order.
    pub(in crate::compose) newest: Option<Arc<Entry>>,
    /// What is wrong with its file.
    pub(in crate::compose) damage: Option<String>,
    /// `route.toml`.
    pub(in crate::compose) file: FileText,
    /// Tells when it was changed, when it is there.
    pub(in crate::compose) stamp: Option<FileStamp>,
    /// What follows.
    pub(in crate::compose) state: State,
}

impl Seen {
    /// The state as far as it follows from the contents.
    pub(super) fn compared(&self) -> State {
        match (&self.newest, &self.file) {
            (Some(newest), file) if file.is(newest) && newest.is_deletion() => State::Gone,
            (Some(newest), file) if file.is(newest) => State::Same,
            (None, FileText::Absent) if self.damage.is_none() => State::Gone,
            (_, FileText::Absent) => State::Removed,
            (_, FileText::Text(_) | FileText::Wrong(_)) => State::Edited,
        }
    }

    /// Whether a writer died between making the newest revision and replacing the file, or is between the two now.
    pub(super) fn is_behind(&self, folder: &Folder, history: &Folder) -> std::io::Result<bool> {
        if !matches!(self.state, State::Edited | State::Removed) || self.newest.is_none() {
            return Ok(false);
        }
        let changed = match (&self.file, self.stamp) {
            (FileText::Text(_), Some(stamp)) => stamp.changed(),
            (FileText::Absent, _) => disk::folder_changed(folder)?,
            _ => return Ok(false),
        };
        let Some(made) = disk::changed(history, &file_name(self.number))? else { return Ok(false) };
        Ok(self.is_as_before(made, changed, super::folder::entry_of(history, self.number.saturating_sub(1))))
    }

    fn is_as_before(&self, made: Changed, changed: Changed, before: Result<Option<Entry>, String>) -> bool {
        match before {
            Ok(Some(before)) => self.file.is(&before) && changed <= made,
            Ok(None) if self.number == 1 => self.file == FileText::Absent && changed <= made,
            // What it was before is not known any more.
            Ok(None) | Err(_) => changed < made,
        }
    }
}
