//! Notices changes in a directory as they happen, where the machine can say so. It only ever says "look again": what has changed
//! is the scan's to find out. Network file systems and exhausted watches say nothing, so the managers of the registry and of the
//! routes poll as well.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _, event::AccessKind};

/// How changes are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchMode {
    /// The machine is asked to say so, and the directory is looked at regularly.
    Auto,
    /// The directory is looked at regularly.
    Poll,
    /// Not at all, except when somebody asks.
    Off,
}

/// The folders that are watched. Without a watcher it does nothing.
#[derive(Debug)]
pub(crate) struct Watcher {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl Watcher {
    /// Calls `changed` after every change in a watched folder.
    pub(crate) fn new(mode: WatchMode, changed: impl Fn() + Send + 'static) -> Self {
        let watcher = match mode {
            WatchMode::Poll | WatchMode::Off => None,
            WatchMode::Auto => {
                let told = move |event: notify::Result<Event>| {
                    if event.is_ok_and(|event| is_change(&event)) {
                        changed();
                    }
                };
                notify::recommended_watcher(told)
                    .map_err(|error| tracing::warn!(%error, "registry: cannot be watched, so it is polled"))
                    .ok()
            }
        };
        Self { watcher, watched: BTreeSet::new() }
    }

    /// Watches these folders and no others; true when some were not watched before. A link is watched where it leads.
    pub(crate) fn follow(&mut self, folders: BTreeSet<PathBuf>) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let mut new = false;
        for gone in self.watched.difference(&folders) {
            // It may have been deleted, and with it the watch.
            drop(watcher.unwatch(gone));
        }
        self.watched.retain(|folder| folders.contains(folder));
        for folder in folders {
            if self.watched.contains(&folder) {
                continue;
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => new |= self.watched.insert(folder),
                // It vanished, and that change will be told by the folder around it.
                Err(_) if !folder.exists() => {}
                Err(error) => {
                    self.give_up(&folder, &error);
                    return false;
                }
            }
        }
        new
    }

    /// Forgets the folders, so that they are watched anew: they may be others under the same names.
    pub(crate) fn restart(&mut self) {
        self.follow(BTreeSet::new());
    }

    fn give_up(&mut self, folder: &Path, error: &notify::Error) {
        tracing::warn!(folder = %folder.display(), %error, "registry: cannot be watched any more, so it is polled");
        self.watcher = None;
        self.watched.clear();
    }
}

/// Reading is no change; our own loads would otherwise wake us.
fn is_change(event: &Event) -> bool {
    event.need_rescan()
        || match event.kind {
            EventKind::Access(AccessKind::Close(mode)) => mode == notify::event::AccessMode::Write,
            EventKind::Access(_) => false,
            _ => true,
        }
}
