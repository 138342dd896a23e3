//! The `message` function.
fn main() {}
