//! The locks of the parts that are model-checked (`meeting`, `room`, `promise`, `pool`, `local`, `mailbox`, `circuit`): here those
//! of the program. The checker compiles the same files once more with its own.

pub(crate) use parking_lot::{Condvar, Mutex};
pub(crate) use std::sync::{Arc, atomic};
pub(crate) use tokio::sync::Notify;
