//! The `fanout` function.
fn main() {}
