//! What the manager is told: that something changed on the disk, that a load ended, that somebody wants something. Senders never
//! wait; what can be said once is not kept twice.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::{loader::Loaded, version::Tried};
use crate::{
    engine::LoadError,
    types::{Error, ErrorCode, ModelName, ServableId, Version},
};

/// Commands that may wait; more are refused.
const MAX_COMMANDS: usize = 1024;

/// Versions that may not be unloaded, by model.
pub type Pins = BTreeMap<ModelName, BTreeSet<Version>>;

/// Whom to tell how it ended.
pub(super) type Reply = oneshot::Sender<Result<(), Error>>;

/// What somebody wants.
#[derive(Debug)]
pub(super) enum Command {
    /// Look at the model again and retry what was refused; under explicit control also load it.
    Load(ModelName, Option<Reply>),
    /// Stop serving the model.
    Unload(ModelName, Reply),
    /// These versions are named by live routes.
    Pin(u64, Pins),
}

/// A load that has ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) id: ServableId,
    pub(super) tried: Tried,
    pub(super) result: Result<Loaded, LoadError>,
    pub(super) took: std::time::Duration,
}

/// What has arrived since the manager looked last.
#[derive(Debug, Default)]
pub(super) struct Mail {
    pub(super) look: bool,
    pub(super) stop: bool,
    pub(super) commands: VecDeque<Command>,
    pub(super) finished: Vec<Finished>,
}

impl Mail {
    fn is_empty(&self) -> bool {
        !self.look && !self.stop && self.commands.is_empty() && self.finished.is_empty()
    }
}

/// The manager's inbox.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    mail: Mutex<Mail>,
    arrived: Condvar,
    /// How often it was said what routes name.
    pins: AtomicU64,
}

impl Inbox {
    /// Something on the disk may have changed.
    pub(super) fn look(&self) {
        self.mail.lock().look = true;
        self.arrived.notify_one();
    }

    /// The manager should end.
    pub(super) fn stop(&self) {
        self.mail.lock().stop = true;
        self.arrived.notify_one();
    }

    /// A load has ended. At most one comes from each loader thread.
    pub(super) fn finished(&self, finished: Finished) {
        self.mail.lock().finished.push(finished);
        self.arrived.notify_one();
    }

    /// Somebody wants something.
    ///
    /// # Errors
    /// `Overloaded` when too much is wanted already, `Unavailable` when the manager is to end.
    pub(super) fn command(&self, command: Command) -> Result<(), Error> {
        let mut mail = self.room()?;
        mail.commands.push_back(command);
        self.arrived.notify_one();
        Ok(())
    }

    /// Live routes name these versions. Returns the number by which the snapshot tells that this has been heard.
    ///
    /// # Errors
    /// As [`Inbox::command`].
    pub(super) fn pin(&self, pins: Pins) -> Result<u64, Error> {
        let mut mail = self.room()?;
        // Under the lock, so that numbers grow in the order of the commands.
        let number = self.pins.fetch_add(1, Ordering::Relaxed) + 1;
        mail.commands.push_back(Command::Pin(number, pins));
        self.arrived.notify_one();
        Ok(number)
    }

    fn room(&self) -> Result<MutexGuard<'_, Mail>, Error> {
        let mail = self.mail.lock();
        if mail.stop {
            return Err(Error::unavailable("registry: shutting down"));
        }
        if mail.commands.len() >= MAX_COMMANDS {
            return Err(Error::new(ErrorCode::Overloaded, "registry: too many commands wait"));
        }
        Ok(mail)
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
