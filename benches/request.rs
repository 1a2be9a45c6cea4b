//! Own cost per request.
fn main() {}
