//! The store where something is wrong: files that are no text, damaged revisions, links, folders that cannot be written to.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use rustix::fs::IFlags;

use super::{
    folder::MAX_TEXT,
    tests::{FILE, Site, note},
    *,
};

#[test]
fn a_file_that_is_no_text_is_said_and_changes_nothing() {
    let site = Site::new();
    site.put("a = 1\n");
    let path = site.path.join(FILE);
    let wrong = || match site.look() {
        Seen { state: State::Edited, file: FileText::Wrong(why), number: 1, .. } => why,
        other => panic!("{other:?}"),
    };
    site.write(FILE, vec![b'x'; MAX_TEXT as usize + 1]);
    assert_eq!(wrong(), "route.toml: size: expected at most 262144 bytes, got 262145");
    fs::remove_file(&path).unwrap();
    symlink(site.page(1), &path).unwrap();
    assert_eq!(wrong(), "route.toml: is a link: expected a regular file");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(wrong(), "route.toml: expected a regular file");
    let seen = site.look();
    let error = site.store.commit(&seen, Some("a = 2\n"), note("ops", 1)).unwrap_err();
    assert!(error.to_string().starts_with("route.toml cannot be replaced: "), "{error}");
    fs::remove_dir(&path).unwrap();
    let seen = site.look();
    let large = "#".repeat(MAX_TEXT as usize + 1);
    let error = site.store.commit(&seen, Some(&large), note("ops", 1)).unwrap_err();
    assert_eq!(error.to_string(), "route.toml: size: expected at most 262144 bytes, got 262145");
    assert_eq!(site.numbers(), [1]);
}

#[test]
fn damage_costs_the_damaged_revision_only() {
    let site = Site::new();
    for i in 1..4 {
        site.put(&format!("a = {i}\n"));
    }
    // One in the middle.
    fs::write(site.page(2), "a = 2\n").unwrap();
    assert_eq!(site.look().state, State::Same);
    assert_eq!(site.numbers(), [3, 1]);
    let error = site.store.read(2).unwrap_err().to_string();
    assert!(error.ends_with("000002.toml: the header is not in order: expected '# revision = …'"), "{error}");
    // A text that was tampered with is not what the file says; the file holds.
    site.put("a = 4\n");
    let page = fs::read_to_string(site.page(4)).unwrap();
    fs::write(site.page(4), page.replace("a = 4", "a = 9")).unwrap();
    assert_eq!((site.look().state, site.file().unwrap()), (State::Edited, "a = 4\n".to_owned()));
    fs::write(site.page(4), page).unwrap();
    // The newest: its number is taken, what it said is not known, what the file says goes on.
    fs::write(site.page(4), "").unwrap();
    let seen = site.look();
    assert_eq!((seen.number, &seen.state, seen.newest.is_none()), (4, &State::Edited, true));
    assert!(seen.damage.unwrap().starts_with(".history/000004.toml: the header"));
    site.put("a = 4\n");
    assert_eq!((site.look().state, site.numbers()), (State::Same, vec![5, 3, 1]));
    // A copy under another number is none.
    fs::copy(site.page(5), site.page(6)).unwrap();
    assert_eq!((site.look().number, site.look().newest), (6, None));
    assert_eq!(site.put("a = 7\n").revision.number, 7);
    // What is no revision does not count.
    for other in ["12.toml", "readme.txt", "999999999999999999999.toml", ".draft-1-1"] {
        fs::write(site.path.join(".history").join(other), "x").unwrap();
    }
    assert_eq!((site.look().number, site.look().state), (7, State::Same));
}

#[test]
fn the_folder_of_revisions_may_be_no_link() {
    let site = Site::new();
    site.put("a = 1\n");
    let elsewhere = site.path.parent().unwrap().join("elsewhere");
    fs::rename(site.path.join(".history"), &elsewhere).unwrap();
    symlink(&elsewhere, site.path.join(".history")).unwrap();
    let error = site.store.look(None).unwrap_err().to_string();
    assert!(error.starts_with("the folder of revisions cannot be opened: "), "{error}");
    assert!(site.store.history().is_err() && !site.store.is_writable());
    // The route's own folder may be one.
    fs::remove_file(site.path.join(".history")).unwrap();
    fs::rename(&elsewhere, site.path.join(".history")).unwrap();
    let linked = site.path.parent().unwrap().join("linked");
    symlink(&site.path, &linked).unwrap();
    assert_eq!(Store::new(linked).look(None).unwrap().state, State::Same);
}

/// A folder that nobody can write to until this is dropped.
struct Frozen(PathBuf, fs::Permissions);

impl Frozen {
    /// By its permissions; for the super-user, whom they do not hold back, as an immutable file. `None` when the machine can
    /// do neither.
    fn new(path: &Path) -> Option<Self> {
        let frozen = Self(path.to_owned(), fs::metadata(path).unwrap().permissions());
        fs::set_permissions(path, fs::Permissions::from_mode(0o555)).unwrap();
        if fs::write(path.join(".probe"), "").is_err() {
            return Some(frozen);
        }
        fs::remove_file(path.join(".probe")).unwrap();
        frozen.flag(true);
        fs::write(path.join(".probe"), "").is_err().then_some(frozen)
    }

    fn flag(&self, on: bool) {
        let file = fs::File::open(&self.0).unwrap();
        if let Ok(mut flags) = rustix::fs::ioctl_getflags(&file) {
            flags.set(IFlags::IMMUTABLE, on);
            let _ = rustix::fs::ioctl_setflags(&file, flags);
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.flag(false);
        fs::set_permissions(&self.0, self.1.clone()).unwrap();
    }
}

#[test]
fn a_folder_that_cannot_be_written_to_is_read() {
    let site = Site::new();
    site.write(FILE, "a = 1\n");
    let Some(frozen) = Frozen::new(&site.path) else {
        return eprintln!("this machine cannot make a folder read-only for this user");
    };
    // Without revisions.
    let seen = site.look();
    assert_eq!((seen.number, &seen.state), (0, &State::Edited));
    assert!(!site.store.is_writable());
    let refused = |seen: &Seen, text| {
        let result = site.store.commit(seen, text, note("file", 0));
        assert!(matches!(result, Err(StoreError::ReadOnly(_))), "{result:?}");
    };
    refused(&seen, Some("a = 1\n"));
    refused(&seen, None);
    drop(frozen);
    assert!(site.store.is_writable());
    // With revisions, of which the last was not finished.
    site.put("a = 1\n");
    site.die_between(|site| drop(site.put("a = 2\n")));
    let history = Frozen::new(&site.path.join(".history")).unwrap();
    let folder = Frozen::new(&site.path).unwrap();
    let seen = site.look();
    assert!(matches!(&seen.state, State::Behind(why) if !why.is_empty()), "{seen:?}");
    assert_eq!(&*seen.newest.clone().unwrap().text, "a = 2\n");
    refused(&seen, Some("a = 3\n"));
    // Only one of the two folders can be written to.
    drop(folder);
    assert!(!site.store.is_writable());
    refused(&seen, Some("a = 3\n"));
    drop(history);
    let folder = Frozen::new(&site.path).unwrap();
    refused(&seen, Some("a = 3\n"));
    assert_eq!(site.numbers(), [2, 1]);
    drop(folder);
    assert_eq!((site.look().state, site.file().unwrap()), (State::Same, "a = 2\n".to_owned()));
}
