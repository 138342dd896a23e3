//! Building functions with cargo, in a small workspace that each test writes.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use local_gateway::build::{BuildError, build};

/// Writes a workspace like the project's: the functions are not its default members.
fn workspace(dir: &Path, hello: &str) {
    fs::write(
        dir.join("Cargo.toml"),
        "[workspace]\nresolver = \"3\"\nmembers = [\"main\", \"hello\"]\ndefault-members = [\"main\"]\n",
    )
    .unwrap();
    for (package, code) in [("main", "fn main() {}"), ("hello", hello)] {
        fs::create_dir_all(dir.join(package).join("src")).unwrap();
        let manifest = format!("[package]\nname = \"{package}\"\nedition = \"2024\"\n");
        fs::write(dir.join(package).join("Cargo.toml"), manifest).unwrap();
        fs::write(dir.join(package).join("src/main.rs"), code).unwrap();
    }
}

fn hello() -> BTreeSet<String> {
    BTreeSet::from(["hello".to_owned()])
}

#[tokio::test]
async fn non_default_member_is_built() {
    let dir = tempfile::tempdir().unwrap();
    workspace(dir.path(), "fn main() { println!(\"hello\"); }");
    let built = build(dir.path(), &hello(), false).await.unwrap();
    assert_eq!(built.len(), 1);
    let output = Command::new(built.get("hello").unwrap()).output().unwrap();
    assert_eq!(output.stdout, b"hello\n");
    // The second build compiles nothing and still reports the executable.
    assert_eq!(build(dir.path(), &hello(), false).await.unwrap(), built);
}

#[tokio::test]
async fn build_errors_name_their_cause() {
    let dir = tempfile::tempdir().unwrap();
    let error = build(dir.path(), &hello(), false).await.unwrap_err();
    assert!(matches!(error, BuildError::Workspace(path) if path == dir.path()));
    workspace(dir.path(), "fn main() { not rust }");
    let error = build(dir.path(), &hello(), false).await.unwrap_err();
    assert!(matches!(error, BuildError::Failed));
}
