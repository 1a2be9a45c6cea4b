//! The `weir` command. Placeholder until the application layer lands.
fn main() {}
