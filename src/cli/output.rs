//! How a command shows its result: a table for people, JSON for programs.

use clap::{Args, ValueEnum};

/// The form of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

/// The option that chooses it.
#[derive(Args, Clone, Copy, Debug)]
pub struct Output {
    /// How the result is shown [env: WEIR_OUTPUT]
    #[arg(long = "output", value_name = "FORMAT", value_enum, default_value_t, env = "WEIR_OUTPUT", hide_env = true)]
    format: Format,
}

impl Output {
    /// JSON is wanted.
    pub fn is_json(self) -> bool {
        self.format == Format::Json
    }
}
