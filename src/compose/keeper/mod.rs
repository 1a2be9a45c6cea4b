//! The keeper of the routes: follows the folders that have a `route.toml`, makes what is written there live when it fits what is
//! loaded, and turns changes that operators ask for into revisions. One thread does all of it; requests and operators read what
//! it has published without a lock. Started by the application, asked by the ops API.
//!
//! | file | what it is |
//! |---|---|
//! | `handle` | [`Routes`]: start it, read it, ask for a change, end it |
//! | `inbox` | what the keeper is told |
//! | `seam` | what the keeper needs of the live table and of the registry |
//! | `manager` | the loop: when to look, what to look at |
//! | `scan` | which folders are routes |
//! | `kept` | what is known of one route: its folder, its edit by hand |
//! | `choose` | which of several changes can be made together (pure) |
//! | `evaluate` | from what folders say to what is live |
//! | `change`, `draft` | from what operators ask for to a revision |
//! | `pinning` | what the registry was told to keep loaded, and what it has heard |
//! | `board` | what others see |
//! | `audit` | the record of changes |

mod audit;
mod board;
mod change;
mod choose;
mod draft;
mod evaluate;
mod handle;
mod inbox;
mod kept;
mod manager;
mod pinning;
mod scan;
mod seam;

pub use audit::Attempt;
pub use handle::{Routes, RoutesConfig, RoutesError};
pub use seam::{Compiler, Models};

#[cfg(test)]
mod change_tests;
#[cfg(test)]
mod follow_tests;
#[cfg(test)]
mod handle_tests;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod registry_tests;
