//! The revisions of one route on disk. A revision is a file that is created exclusively, which is the compare-and-set between
//! writers and between processes; `route.toml` is the newest revision's text, replaced whole, and people may edit it. Used by
//! the keeper; it knows nothing of what a text means.
//!
//! | file | what it is |
//! |---|---|
//! | `entry` | a revision as a file: header and text (pure) |
//! | `disk` | the steps on the disk that are whole or not at all |
//! | `seen` | what a folder looks like, and what that means |
//! | `folder` | [`Store`]: look, commit, history |

mod disk;
mod entry;
mod folder;
mod seen;

pub(super) use entry::{Entry, Note};
pub(super) use folder::{Store, StoreError};
pub(super) use seen::{FileText, Seen, State};

#[cfg(test)]
#[path = "crash_tests.rs"]
mod crash_tests;
#[cfg(test)]
#[path = "damage_tests.rs"]
mod damage_tests;
#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
