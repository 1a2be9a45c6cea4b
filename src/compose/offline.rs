//! One route's file, read and replaced by a process that serves nothing: what the command line does to a route beside a running
//! gateway, which follows as it follows any other writer. Time is an argument.

use std::{path::Path, sync::Arc, time::SystemTime};

use super::{
    Author,
    store::{FileText, Note, Seen, State, Store},
};

/// A route's file as it was when it was read.
#[derive(Debug)]
pub struct RouteFile {
    store: Store,
    seen: Seen,
    text: Arc<str>,
}

impl RouteFile {
    /// Reads the `route.toml` of a folder.
    ///
    /// # Errors
    /// Why there is none to be read.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let store = Store::new(folder.to_owned());
        let seen = store.look(None).map_err(|error| error.to_string())?;
        let text = match (&seen.state, &seen.newest, &seen.file) {
            // A writer died before the file was replaced, and this process cannot do it either.
            (State::Behind(_), Some(newest), _) => Arc::clone(&newest.text),
            (_, _, FileText::Text(text)) => Arc::clone(text),
            (_, _, FileText::Absent) => return Err("not found".to_owned()),
            (_, _, FileText::Wrong(reason)) => return Err(reason.clone()),
        };
        Ok(Self { store, seen, text })
    }

    /// What it says.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Makes the next revision with this text, if nothing has changed since the file was read. A file that was edited by hand
    /// becomes a revision of its own first. The number of the new revision; when this returns, it is on the disk.
    ///
    /// # Errors
    /// The route has changed meanwhile, or its folder cannot be written to.
    pub fn replace(self, text: &str, author: Author, at: SystemTime) -> Result<u64, String> {
        let failed = |error: super::store::StoreError| error.to_string();
        let mut seen = self.seen;
        if matches!(seen.state, State::Edited | State::Removed) {
            let by_hand = Author { who: "file".into(), why: "".into() };
            let note = Note { author: by_hand, from: seen.number, at };
            self.store.commit(&seen, Some(&self.text), note).map_err(failed)?;
            seen = self.store.look(None).map_err(failed)?;
            if seen.file != FileText::Text(Arc::clone(&self.text)) {
                return Err("the route has changed meanwhile".to_owned());
            }
        }
        let note = Note { author, from: seen.number, at };
        let entry = self.store.commit(&seen, Some(text), note).map_err(failed)?;
        Ok(entry.revision.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, time::Duration};

    fn author(why: &str) -> Author {
        Author { who: "local".into(), why: why.into() }
    }

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    fn history(folder: &Path) -> Vec<(u64, String, String, u64)> {
        let entries = Store::new(folder.to_owned()).history().unwrap();
        let each = entries.iter().map(|revision| {
            (revision.number, revision.author.who.to_string(), revision.author.why.to_string(), revision.from)
        });
        each.collect()
    }

    #[test]
    fn what_was_written_by_hand_is_kept_before_it_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("route.toml");
        fs::write(&file, "# by hand\n").unwrap();
        let route = RouteFile::open(folder.path()).unwrap();
        assert_eq!(route.text(), "# by hand\n");
        assert_eq!(route.replace("# calibrated\n", author("because"), at(5)), Ok(2));
        assert_eq!(fs::read_to_string(&file).unwrap(), "# calibrated\n");
        let made = |number, who: &str, why: &str, from| (number, who.to_owned(), why.to_owned(), from);
        assert_eq!(history(folder.path()), [made(2, "local", "because", 1), made(1, "file", "", 0)]);
        let route = RouteFile::open(folder.path()).unwrap();
        assert_eq!(route.replace("# again\n", author(""), at(6)), Ok(3));
        assert_eq!(history(folder.path())[0], made(3, "local", "", 2));
    }

    #[test]
    fn a_change_in_between_wins() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("route.toml");
        fs::write(&file, "# one\n").unwrap();
        let (first, second) = (RouteFile::open(folder.path()).unwrap(), RouteFile::open(folder.path()).unwrap());
        let third = RouteFile::open(folder.path()).unwrap();
        assert_eq!(first.replace("# two\n", author(""), at(5)), Ok(2));
        assert_eq!(second.replace("# other\n", author(""), at(6)), Err("the route has changed meanwhile".to_owned()));
        fs::write(&file, "# by hand\n").unwrap();
        assert!(third.replace("# other\n", author(""), at(7)).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "# by hand\n");
    }

    #[test]
    fn there_must_be_a_file() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(RouteFile::open(folder.path()).unwrap_err(), "not found");
        assert_eq!(RouteFile::open(&folder.path().join("absent")).unwrap_err(), "not found");
    }
}
