//! The `disconnect` function.
fn main() {}
