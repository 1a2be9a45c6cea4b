//! What the keeper is told: that something changed on the disk or among the models, that somebody wants a change. Senders never
//! wait; what can be said once is not kept twice.

use std::{collections::VecDeque, time::Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::{
    compose::{Change, ChangeError, Changed},
    types::{Error, ErrorCode},
};

/// Changes that may wait; more are refused.
const MAX_CHANGES: usize = 256;

/// Whom to tell what came of a change.
pub(super) type Reply = oneshot::Sender<Result<Changed, ChangeError>>;

/// What has arrived since the keeper looked last.
#[derive(Debug, Default)]
pub(super) struct Mail {
    pub(super) look: bool,
    pub(super) models: bool,
    pub(super) stop: bool,
    pub(super) changes: VecDeque<(Change, Reply)>,
}

impl Mail {
    pub(super) fn is_empty(&self) -> bool {
        !self.look && !self.models && !self.stop && self.changes.is_empty()
    }
}

/// The keeper's inbox.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    mail: Mutex<Mail>,
    arrived: Condvar,
}

impl Inbox {
    /// Something on the disk may have changed.
    pub(super) fn look(&self) {
        self.mail.lock().look = true;
        self.arrived.notify_one();
    }

    /// Something among the models has changed.
    pub(super) fn models(&self) {
        self.mail.lock().models = true;
        self.arrived.notify_one();
    }

    /// The keeper should end.
    pub(super) fn stop(&self) {
        self.mail.lock().stop = true;
        self.arrived.notify_one();
    }

    /// Somebody wants a change.
    ///
    /// # Errors
    /// `Overloaded` when too many wait already, `Unavailable` when the keeper is to end.
    pub(super) fn change(&self, change: Change, reply: Reply) -> Result<(), Error> {
        let mut mail = self.mail.lock();
        if mail.stop {
            return Err(stopping());
        }
        if mail.changes.len() >= MAX_CHANGES {
            return Err(Error::new(ErrorCode::Overloaded, "routes: too many changes wait"));
        }
        mail.changes.push_back((change, reply));
        self.arrived.notify_one();
        Ok(())
    }

    /// Takes what has arrived; waits for something until `deadline`, for ever without one.
    pub(super) fn take(&self, deadline: Option<Instant>) -> Mail {
        let mut mail = self.mail.lock();
        while mail.is_empty() {
            match deadline {
                None => self.arrived.wait(&mut mail),
                Some(deadline) => {
                    if self.arrived.wait_until(&mut mail, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        let stop = mail.stop;
        let taken = std::mem::take(&mut *mail);
        mail.stop = stop;
        taken
    }
}

/// What callers are told when the keeper ends.
pub(super) fn stopping() -> Error {
    Error::unavailable("routes: shutting down")
}
