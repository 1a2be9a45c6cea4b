//! Routes as callers and operators meet them: what is promised of them while they change, while processes die, while models are
//! overloaded or broken, and when a configuration is not in order.

mod history;
mod lab;
mod ledger;
mod wire;
