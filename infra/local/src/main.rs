//! The `local-gateway` function.
fn main() {}
