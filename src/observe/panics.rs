//! Panics as log events: one line with thread, place and text, instead of what the standard hook writes straight to standard
//! error, over several lines and past the log. Silent where a panic is expected and caught: whoever catches it reports it.
//! [`install`]ed once by the command line; the engine [`contain`]s the graph library with it.

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    cell::Cell,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    thread,
};

thread_local! {
    /// Calls of [`contain`] that this thread is in.
    static CONTAINED: Cell<usize> = const { Cell::new(0) };
}

/// Makes panics log events. As long as nothing is logged anywhere, they are shown as before.
pub fn install() {
    let standard = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if CONTAINED.get() > 0 {
            return;
        }
        if tracing::dispatcher::has_been_set() { report(panic) } else { standard(panic) }
    }));
}

fn report(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        thread = thread.name(),
        place = panic.location().map(ToString::to_string),
        backtrace,
        "panicked: {}",
        text(panic.payload())
    );
}

/// Runs `work` and catches its panic, of which the log hears nothing.
///
/// # Errors
/// What it panicked with; [`text`] reads it.
pub fn contain<T>(work: impl FnOnce() -> T) -> thread::Result<T> {
    CONTAINED.set(CONTAINED.get() + 1);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(CONTAINED.get() - 1);
    result
}

/// The text of a panic.
pub fn text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contained_panics_are_values() {
        assert_eq!(contain(|| 7).ok(), Some(7));
        let nested = contain(|| {
            let inner = contain::<()>(|| panic!("inner {}", 1)).unwrap_err();
            assert_eq!((text(&*inner), CONTAINED.get()), ("inner 1", 1));
            panic!("outer");
        });
        assert_eq!(text(&*nested.map(|(): ()| ()).unwrap_err()), "outer");
        assert_eq!(CONTAINED.get(), 0);
        assert_eq!(text(&7), "no text");
    }
}
