//! Keeps panics and deep recursion of the graph libraries away from the rest of the process. Loading and compiling run on a
//! thread of their own with a big stack, since both recurse over the graph; runs are caught where they stand. Called by the
//! engines.

use std::{any::Any, fmt, thread};

use super::{EngineError, LoadError};
use crate::observe::panics;

/// Stack of the thread that loads and compiles, in bytes. Only the pages in use cost memory.
const STACK_BYTES: usize = 64 << 20;

/// The longest text that is kept of an error from inside a graph library, in bytes.
const MAX_TEXT_BYTES: usize = 400;

/// Runs `work` on a thread with a big stack and waits for it. A panic becomes an error that says `<subject>: …`.
pub(super) fn on_big_stack<T: Send>(
    subject: &str,
    work: impl FnOnce() -> Result<T, LoadError> + Send,
) -> Result<T, LoadError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("weir-load".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || panics::contain(work))
            .map_err(|error| LoadError::new(format!("{subject}: no thread: {error}")))?;
        let ended = thread.join().and_then(|ended| ended);
        ended.unwrap_or_else(|panic| Err(LoadError::new(format!("{subject}: {}", panic_text(&*panic)))))
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

    #[test]
    fn panics_become_errors() {
        let load = on_big_stack::<()>("model", || panic!("no\nentry")).unwrap_err();
        assert_eq!(load.to_string(), "model: panicked: no entry");
        let run = caught::<()>(|| panic!("index {}", 3)).unwrap_err();
        assert_eq!(run.to_string(), "panicked: index 3");
    }

    #[test]
    fn the_stack_is_big() {
        fn deep(n: usize) -> usize {
            let page = std::hint::black_box([n; 128]);
            if n == 0 { 0 } else { deep(n - 1) + page[7] - n + 1 }
        }
        assert_eq!(on_big_stack("model", || Ok(deep(20_000))), Ok(20_000));
    }

    #[test]
    fn long_texts_are_cut() {
        assert!(one_line(&"word ".repeat(1000)).len() <= MAX_TEXT_BYTES + 4);
    }
}
