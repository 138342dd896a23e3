//! Building functions with cargo, in a small workspace of the test's own.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use local_gateway::build::{BuildError, build};

/// A workspace like the project's: its default member is another than the functions.
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
async fn a_function_is_built_though_it_is_no_default_member() {
    let dir = tempfile::tempdir().unwrap();
    workspace(dir.path(), "fn main() { println!(\"hello\"); }");
    let built = build(dir.path(), &hello(), false).await.unwrap();
    assert_eq!(built.len(), 1);
    let output = Command::new(built.get("hello").unwrap()).output().unwrap();
    assert_eq!(output.stdout, b"hello\n");
    // Nothing is compiled the second time, and the executable is still told.
    assert_eq!(build(dir.path(), &hello(), false).await.unwrap(), built);
}

#[tokio::test]
async fn a_failed_build_and_a_folder_without_a_workspace_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let error = build(dir.path(), &hello(), false).await.unwrap_err();
    assert!(matches!(error, BuildError::Workspace(path) if path == dir.path()));
    workspace(dir.path(), "fn main() { not rust }");
    let error = build(dir.path(), &hello(), false).await.unwrap_err();
    assert!(matches!(error, BuildError::Failed));
}
