//! The store on a real disk: what looks and commits do, and whom edits by hand belong to. Damage and read-only folders, and
//! killed and racing processes, have files of their own.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::*;
use crate::compose::Author;

pub(super) const FILE: &str = "route.toml";

pub(super) fn note(who: &str, from: u64) -> Note {
    let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_764_000_000_250_999_999);
    Note { author: Author { who: who.into(), why: "because".into() }, from, at }
}

/// A folder of one route.
pub(super) struct Site {
    _root: tempfile::TempDir,
    pub(super) path: PathBuf,
    pub(super) store: Store,
}

impl Site {
    pub(super) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("r");
        Self { store: Store::new(path.clone()), path, _root: root }
    }

    pub(super) fn look(&self) -> Seen {
        self.store.look(None).unwrap()
    }

    pub(super) fn put(&self, text: &str) -> Arc<Entry> {
        let seen = self.look();
        self.store.commit(&seen, Some(text), note("ops", seen.number)).unwrap()
    }

    pub(super) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::create_dir_all(&self.path).unwrap();
        fs::write(self.path.join(name), text).unwrap();
    }

    pub(super) fn file(&self) -> Option<String> {
        fs::read_to_string(self.path.join(FILE)).ok()
    }

    pub(super) fn page(&self, number: u64) -> PathBuf {
        self.path.join(format!(".history/{number:06}.toml"))
    }

    pub(super) fn numbers(&self) -> Vec<u64> {
        self.store.history().unwrap().iter().map(|revision| revision.number).collect()
    }

    /// Undoes the second step of the last commit, as if the writer had died before it. The file keeps the times of `before`.
    pub(super) fn die_between(&self, commit: impl FnOnce(&Self)) {
        let (kept, path) = (self.path.join(".kept"), self.path.join(FILE));
        let was_there = fs::hard_link(&path, &kept).is_ok();
        commit(self);
        // What a writer that died leaves behind is older than the revision: make the revision the younger one again.
        if was_there {
            fs::rename(&kept, &path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        let newest = self.page(self.numbers()[0]);
        later_than(&path, &newest);
        later_than(&self.path, &newest);
    }
}

/// Changes a file until its change time is beyond another's; what it says stays.
fn later_than(earlier: &Path, file: &Path) {
    let changed = |path: &Path| fs::symlink_metadata(path).map_or((0, 0), |meta| (meta.ctime(), meta.ctime_nsec()));
    while changed(file) <= changed(earlier) {
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    }
}

#[test]
fn a_revision_is_a_file_and_the_text() {
    let site = Site::new();
    assert_eq!(site.look().state, State::Gone);
    assert!(!site.path.exists(), "a look makes nothing");
    let first = site.put("a = 1\n");
    assert_eq!((first.revision.number, first.revision.from), (1, 0));
    let seen = site.look();
    assert_eq!((seen.number, seen.state, seen.newest), (1, State::Same, Some(Arc::clone(&first))));
    assert_eq!(site.file().unwrap(), "a = 1\n");
    let page = fs::read_to_string(site.page(1)).unwrap();
    assert!(page.starts_with("# revision = 1\n# at = 2025-11-24T16:00:00.250Z\n# who = \"ops\"\n"), "{page}");
    assert!(page.ends_with("\n# from = 0\na = 1\n"), "{page}");
    let second = site.put("a = 2\n");
    assert_eq!(site.look().newest, Some(Arc::clone(&second)));
    assert_eq!(site.numbers(), [2, 1]);
    assert_eq!(site.store.read(1).unwrap(), Some((*first).clone()));
    assert_eq!(site.store.read(3).unwrap(), None);
    assert_eq!(site.store.read(0).unwrap(), None);
    let left: Vec<_> = fs::read_dir(site.path.join(".history")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "two revisions and the lock: {left:?}");
}

#[test]
fn a_look_goes_on_from_what_is_known() {
    let site = Site::new();
    let known = site.put("a = 1\n");
    assert!(Arc::ptr_eq(&site.store.look(Some(&known)).unwrap().newest.unwrap(), &known));
    for i in 2..5 {
        site.put(&format!("a = {i}\n"));
    }
    assert_eq!(site.store.look(Some(&known)).unwrap().number, 4);
    // It has been pruned, or the folder is another one.
    fs::remove_file(site.page(1)).unwrap();
    assert_eq!(site.store.look(Some(&known)).unwrap().number, 4);
    fs::remove_dir_all(&site.path).unwrap();
    assert_eq!(site.store.look(Some(&known)).unwrap().state, State::Gone);
    let other = site.put("b = 1\n");
    assert_eq!(site.store.look(Some(&known)).unwrap().newest, Some(other));
}

#[test]
fn who_expects_something_else_changes_nothing() {
    let site = Site::new();
    let nothing = site.look();
    site.put("a = 1\n");
    let one = site.look();
    let stale = |seen: &Seen| {
        let result = site.store.commit(seen, Some("x = 1\n"), note("late", 0));
        assert!(matches!(result, Err(StoreError::Stale)), "{result:?}");
    };
    stale(&nothing);
    site.put("a = 2\n");
    stale(&one);
    // The file was edited meanwhile: it wins.
    let two = site.look();
    site.write(FILE, "a = 3\n");
    stale(&two);
    assert_eq!((site.numbers(), site.file().unwrap()), (vec![2, 1], "a = 3\n".to_owned()));
}

#[test]
fn an_edit_by_hand_becomes_a_revision_when_somebody_says_so() {
    let site = Site::new();
    site.write(FILE, "a = 1\n");
    let seen = site.look();
    assert_eq!((seen.number, &seen.state), (0, &State::Edited));
    assert!(!site.path.join(".history").exists(), "a look makes nothing");
    let FileText::Text(text) = &seen.file else { panic!("{seen:?}") };
    let first = site.store.commit(&seen, Some(text), note("file", 0)).unwrap();
    assert_eq!((first.revision.number, &*first.revision.author.who), (1, "file"));
    let inode = fs::metadata(site.path.join(FILE)).unwrap().ino();
    site.write(FILE, "a = 2\n");
    let seen = site.look();
    assert_eq!((seen.number, &seen.state, seen.file == FileText::Text("a = 2\n".into())), (1, &State::Edited, true));
    site.store.commit(&seen, Some("a = 2\n"), note("file", 1)).unwrap();
    assert_eq!(site.look().state, State::Same);
    assert_eq!(fs::metadata(site.path.join(FILE)).unwrap().ino(), inode, "the file itself is left alone");
    // The loser of a race adopts the winner's number.
    assert!(matches!(site.store.commit(&seen, Some("a = 2\n"), note("file", 1)), Err(StoreError::Stale)));
    assert_eq!(site.look().number, 2);
    // Back to an earlier text by hand is an edit like any other.
    site.write(FILE, "a = 1\n");
    later_than(&site.page(2), &site.path.join(FILE));
    assert_eq!(site.look().state, State::Edited);
}

#[test]
fn a_writer_that_died_between_its_steps_is_finished() {
    let site = Site::new();
    // Making the first revision, replacing, deleting, making it again.
    let steps: [(Option<&str>, State); 5] = [
        (Some("a = 1\n"), State::Same),
        (Some("a = 2\n"), State::Same),
        (None, State::Gone),
        (Some("a = 4\n"), State::Same),
        (Some("a = 4\n"), State::Same),
    ];
    for (number, (text, state)) in (1..).zip(steps) {
        let seen = site.look();
        if seen.file != FileText::of(text) {
            site.die_between(|site| drop(site.store.commit(&seen, text, note("ops", 0)).unwrap()));
        } else {
            site.store.commit(&seen, text, note("ops", 0)).unwrap();
        }
        let seen = site.look();
        assert_eq!((seen.number, &seen.state), (number, &state), "{seen:?}");
        assert_eq!(site.file().as_deref(), text);
    }
    assert_eq!(site.numbers(), [5, 4, 3, 2, 1]);
}

#[test]
fn what_is_younger_than_the_revision_was_written_by_hand() {
    let site = Site::new();
    site.put("a = 1\n");
    site.put("a = 2\n");
    // By its text it could be what a writer left behind; by its time it cannot.
    site.write(FILE, "a = 1\n");
    later_than(&site.page(2), &site.path.join(FILE));
    assert_eq!(site.look().state, State::Edited);
    // By its time it could be; by its text it cannot.
    site.write(FILE, "a = 3\n");
    later_than(&site.path.join(FILE), &site.page(2));
    assert_eq!(site.look().state, State::Edited);
    // When nobody knows what it was before, the time decides.
    fs::remove_file(site.page(1)).unwrap();
    assert_eq!(site.look().state, State::Same);
    assert_eq!(site.file().unwrap(), "a = 2\n");
    // A file that was removed.
    fs::remove_file(site.path.join(FILE)).unwrap();
    later_than(&site.page(2), &site.path);
    assert_eq!(site.look().state, State::Removed);
}

#[test]
fn a_refused_edit_is_undone_before_the_next_revision_is_made() {
    let site = Site::new();
    site.write(FILE, "rubbish");
    let seen = site.look();
    // Nothing was there before: a writer that dies now leaves nothing, and that is finished.
    site.store.commit(&seen, Some("a = 1\n"), note("ops", 0)).unwrap();
    assert_eq!((site.look().state, site.file().unwrap()), (State::Same, "a = 1\n".to_owned()));
    site.write(FILE, [0xff, 0xfe]);
    let seen = site.look();
    assert_eq!((&seen.state, &seen.file), (&State::Edited, &FileText::Wrong("route.toml: is not UTF-8".to_owned())));
    site.store.commit(&seen, Some("a = 2\n"), note("ops", 1)).unwrap();
    assert_eq!((site.look().state, site.file().unwrap()), (State::Same, "a = 2\n".to_owned()));
    fs::remove_file(site.path.join(FILE)).unwrap();
    later_than(&site.page(2), &site.path);
    let seen = site.look();
    assert_eq!(seen.state, State::Removed);
    site.store.commit(&seen, Some("a = 3\n"), note("ops", 2)).unwrap();
    assert_eq!((site.look().state, site.look().number), (State::Same, 3));
}

#[test]
fn deleting_leaves_the_history_and_the_numbers_go_on() {
    let site = Site::new();
    site.put("a = 1\n");
    let seen = site.look();
    let gone = site.store.commit(&seen, None, note("ops", 1)).unwrap();
    assert!(gone.is_deletion() && gone.revision.number == 2);
    assert_eq!((site.look().state, site.look().number, site.file()), (State::Gone, 2, None));
    // An empty file is no deletion.
    site.write(FILE, "");
    assert_eq!(site.look().state, State::Edited);
    fs::remove_file(site.path.join(FILE)).unwrap();
    assert_eq!(site.put("a = 3\n").revision.number, 3);
    assert_eq!(site.numbers(), [3, 2, 1]);
    // By hand.
    fs::remove_file(site.path.join(FILE)).unwrap();
    later_than(&site.page(3), &site.path);
    let seen = site.look();
    assert_eq!(seen.state, State::Removed);
    site.store.commit(&seen, None, note("file", 3)).unwrap();
    assert_eq!((site.look().state, site.look().number), (State::Gone, 4));
    site.write(FILE, "a = 5\n");
    assert_eq!((site.look().state, site.look().number), (State::Edited, 4));
}

#[test]
fn the_last_thousand_are_kept() {
    let site = Site::new();
    site.put("a = 1\n");
    let page = fs::read_to_string(site.page(1)).unwrap();
    for number in 2..=1200 {
        fs::write(site.page(number), page.replace("# revision = 1\n", &format!("# revision = {number}\n"))).unwrap();
    }
    site.put("a = 2\n");
    let numbers = site.numbers();
    assert_eq!((numbers.len(), numbers[0], numbers[999]), (1000, 1201, 202));
    site.put("a = 3\n");
    assert_eq!(*site.numbers().last().unwrap(), 203);
}

#[test]
fn the_file_keeps_its_permissions() {
    let site = Site::new();
    site.put("a = 1\n");
    let path = site.path.join(FILE);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
    site.put("a = 2\n");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
}
