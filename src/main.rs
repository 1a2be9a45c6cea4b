//! The `weir` command: the allocator, and the command line. Everything else is in the library.

use std::process::ExitCode;

/// Tensors are allocated on one thread and freed on another, which this allocator is fast at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    weir::cli::run(std::env::args_os())
}
