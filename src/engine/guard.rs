//! Keeps panics and deep recursion of the graph libraries away from the rest of the process. Loading and compiling run on threads
//! with a big stack, since both recurse over the graph; runs are caught where they stand. Called by the engines, and by those who
//! have threads that do little else than load.

use std::{
    any::Any,
    cell::Cell,
    fmt, io,
    thread::{self, JoinHandle},
};

use super::{EngineError, LoadError};
use crate::observe::panics;

/// Stack of a thread that loads and compiles, in bytes. Only the pages in use cost memory.
const STACK_BYTES: usize = 64 << 20;

/// The longest text that is kept of an error from inside a graph library, in bytes.
const MAX_TEXT_BYTES: usize = 400;

thread_local! {
    /// This thread has a big stack.
    static IS_BIG: Cell<bool> = const { Cell::new(false) };
}

/// Starts a thread that is made for loading: engines load and compile on it without a thread of their own for each time, and with
/// the memory of the time before at hand. New threads begin without any, and a third of what a small model took went into that.
///
/// # Errors
/// When the machine refuses a thread.
pub fn loading_thread<T: Send + 'static>(
    name: String,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let work = move || {
        IS_BIG.set(true);
        work()
    };
    thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(work)
}

/// Runs `work` with a big stack: here, if this thread has one, else on another, which is waited for. A panic becomes an error that
/// says `<subject>: …`.
pub(super) fn on_big_stack<T: Send>(
    subject: &str,
    work: impl FnOnce() -> Result<T, LoadError> + Send,
) -> Result<T, LoadError> {
    let ended = if IS_BIG.get() { Ok(panics::contain(work)) } else { elsewhere(work) };
    match ended {
        Ok(ended) => ended.unwrap_or_else(|panic| Err(LoadError::new(format!("{subject}: {}", panic_text(&*panic))))),
        Err(error) => Err(LoadError::new(format!("{subject}: no thread: {error}"))),
    }
}

/// What `work` comes to on a thread of its own.
fn elsewhere<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<thread::Result<T>> {
    let work = || {
        IS_BIG.set(true);
        panics::contain(work)
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("weir-load".to_owned()).stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, work)?;
        Ok(thread.join().and_then(|ended| ended))
    })
}

/// Runs `work` here; a panic becomes an error.
pub(super) fn caught<T>(work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    panics::contain(work).unwrap_or_else(|panic| Err(EngineError::new(panic_text(&*panic))))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    format!("panicked: {}", one_line(panics::text(panic)))
}

/// An error with its causes as one line of bounded length.
pub(super) fn error_text(error: &impl fmt::Display) -> String {
    one_line(&format!("{error:#}"))
}

fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(MAX_TEXT_BYTES));
    for word in text.split_whitespace() {
        if line.len() + word.len() + 1 > MAX_TEXT_BYTES {
            line.push_str(" ...");
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deep(n: usize) -> usize {
        let page = std::hint::black_box([n; 128]);
        if n == 0 { 0 } else { deep(n - 1) + page[7] - n + 1 }
    }

    #[test]
    fn panics_become_errors() {
        let load = on_big_stack::<()>("model", || panic!("no\nentry")).unwrap_err();
        assert_eq!(load.to_string(), "model: panicked: no entry");
        let run = caught::<()>(|| panic!("index {}", 3)).unwrap_err();
        assert_eq!(run.to_string(), "panicked: index 3");
    }

    #[test]
    fn the_stack_is_big() {
        assert_eq!(on_big_stack("model", || Ok(deep(20_000))), Ok(20_000));
    }

    #[test]
    fn threads_that_load_need_no_others() {
        let here = || on_big_stack("model", || Ok(thread::current().id()));
        assert_ne!(here(), Ok(thread::current().id()));
        let thread = loading_thread("loads".to_owned(), move || {
            let panic = on_big_stack::<()>("model", || panic!("once")).unwrap_err();
            assert_eq!(panic.to_string(), "model: panicked: once");
            assert_eq!(here(), Ok(thread::current().id()));
            on_big_stack("model", || Ok(deep(20_000)))
        });
        assert_eq!(thread.unwrap().join().unwrap(), Ok(20_000));
    }

    #[test]
    fn long_texts_are_cut() {
        assert!(one_line(&"word ".repeat(1000)).len() <= MAX_TEXT_BYTES + 4);
    }
}
