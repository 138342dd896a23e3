//! The functions' executables, either built from the workspace or taken from a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde::Deserialize;
use tokio::process::Command;

/// Why the executables are not available.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A tool could not be run.
    #[error(
        "cannot run cargo: {0}. Build the functions yourself and name their folder with --functions."
    )]
    Cargo(std::io::Error),
    /// Cargo could not read the workspace and has printed the reason.
    #[error("cargo cannot read the workspace at {path}", path = .0.display())]
    Workspace(PathBuf),
    /// No package has the binary.
    #[error("the template names the binary `{0}`, but no package of the workspace has it")]
    NoBinary(String),
    /// The build failed, and cargo has printed the errors.
    #[error("the functions do not build; cargo's errors are above")]
    Failed,
    /// A ready-made file is not executable.
    #[error("{path} is not executable: make it executable with `chmod +x`", path = .0.display())]
    NotExecutable(PathBuf),
    /// A ready-made executable is missing.
    #[error("{dir} has neither `{binary}` nor `{binary}/bootstrap`", dir = .dir.display())]
    Missing { dir: PathBuf, binary: String },
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// One line of `cargo build --message-format=json`. Only lines that name an executable matter.
#[derive(Debug, Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

/// Builds `binaries` of the workspace that contains `dir`, and shows progress. Uses the profile `local` if `release` is
/// set.
///
/// # Errors
/// Fails if cargo cannot be run, if a binary is in no package, or if the build fails.
pub async fn build(
    dir: &Path,
    binaries: &BTreeSet<String>,
    release: bool,
) -> Result<BTreeMap<String, PathBuf>, BuildError> {
    if binaries.is_empty() {
        return Ok(BTreeMap::new());
    }
    let packages = packages(dir, binaries).await?;
    let mut arguments = vec![
        "build",
        "--message-format=json-render-diagnostics",
        "--profile",
    ];
    arguments.push(if release { "local" } else { "dev" });
    // Name the packages too, because in a workspace `--bin` alone searches only the default members.
    arguments.extend(packages.iter().flat_map(|package| ["-p", package]));
    arguments.extend(binaries.iter().flat_map(|binary| ["--bin", binary]));
    // On a terminal, show cargo's own progress. Elsewhere, print one line.
    let shown = std::io::stderr().is_terminal();
    if !shown {
        eprintln!("building {} functions", binaries.len());
    }
    let output = cargo(
        dir,
        &arguments,
        if shown {
            Stdio::inherit()
        } else {
            Stdio::piped()
        },
    )
    .await?;
    // On a terminal, cargo has already printed its errors, and `stderr` is empty.
    if !output.status.success() {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        return Err(BuildError::Failed);
    }
    // Each binary must be among the executables that cargo reports.
    let built: BTreeMap<_, _> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok())
        .filter_map(|message| Some((message.target?.name, message.executable?)))
        .filter(|(name, _)| binaries.contains(name))
        .collect();
    match binaries.iter().find(|binary| !built.contains_key(*binary)) {
        Some(missing) => Err(BuildError::NoBinary(missing.clone())),
        None => Ok(built),
    }
}

/// Finds `binaries` in `dir` as `<binary>` or `<binary>/bootstrap`.
///
/// # Errors
/// Fails if one is missing or is not executable.
pub fn ready_made(
    dir: &Path,
    binaries: &BTreeSet<String>,
) -> Result<BTreeMap<String, PathBuf>, BuildError> {
    let executable = |binary: &String| {
        let path = dir.join(binary);
        let candidates = [path.join("bootstrap"), path];
        let found = candidates.into_iter().find(|path| path.is_file());
        // Make the path absolute, so that it stays valid if a function changes its folder.
        let found = found.and_then(|path| std::path::absolute(path).ok());
        let path = found.ok_or_else(|| BuildError::Missing {
            dir: dir.to_owned(),
            binary: binary.clone(),
        })?;
        if is_executable(&path) {
            Ok((binary.clone(), path))
        } else {
            Err(BuildError::NotExecutable(path))
        }
    };
    binaries.iter().map(executable).collect()
}

/// Returns true if the file is executable for any user. If its metadata cannot be read, returns true and the start
/// fails later.
fn is_executable(path: &Path) -> bool {
    path.metadata()
        .map_or(true, |file| file.permissions().mode() & 0o111 != 0)
}

/// Returns the packages that contain `binaries`.
async fn packages(dir: &Path, binaries: &BTreeSet<String>) -> Result<BTreeSet<String>, BuildError> {
    let arguments = ["metadata", "--no-deps", "--format-version", "1"];
    let output = cargo(dir, &arguments, Stdio::piped()).await?;
    let metadata = output
        .status
        .success()
        .then(|| serde_json::from_slice::<Metadata>(&output.stdout));
    let Some(Ok(metadata)) = metadata else {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        return Err(BuildError::Workspace(dir.to_owned()));
    };
    let has = |package: &Package, binary: &String| {
        let is_it = |target: &Target| {
            target.name == *binary && target.kind.iter().any(|kind| kind == "bin")
        };
        package.targets.iter().any(is_it)
    };
    binaries
        .iter()
        .map(|binary| {
            let package = metadata
                .packages
                .iter()
                .find(|package| has(package, binary));
            package
                .map(|package| package.name.clone())
                .ok_or_else(|| BuildError::NoBinary(binary.clone()))
        })
        .collect()
}

async fn cargo(dir: &Path, arguments: &[&str], stderr: Stdio) -> Result<Output, BuildError> {
    // Under `cargo run`, `CARGO` is the cargo that runs the gateway, of the same toolchain.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_about_us(name)) {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .kill_on_drop(true)
        .spawn()
        .map_err(BuildError::Cargo)?
        .wait_with_output()
        .await
        .map_err(BuildError::Cargo)
}

/// Returns true if `cargo run` sets this variable for the program that it runs. Such variables are removed for the
/// inner cargo. Build scripts that watch them would otherwise run again, with everything that depends on them, each
/// time the two cargos alternate.
fn is_about_us(name: &OsStr) -> bool {
    let about = [
        "CARGO_BIN_",
        "CARGO_CRATE_",
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
        "CARGO_PRIMARY_",
    ];
    name.to_str()
        .is_some_and(|name| about.iter().any(|prefix| name.starts_with(prefix)))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn ready_made_finds_binary_or_bootstrap() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("packed")).unwrap();
        for (name, mode) in [
            ("bare", 0o755),
            ("packed/bootstrap", 0o755),
            ("text", 0o644),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        let found = ready_made(dir.path(), &names(&["bare", "packed"])).unwrap();
        assert_eq!(found["bare"], dir.path().join("bare"));
        assert_eq!(found["packed"], dir.path().join("packed/bootstrap"));
        assert!(matches!(
            ready_made(dir.path(), &names(&["absent"])),
            Err(BuildError::Missing { binary, .. }) if binary == "absent"
        ));
        assert!(matches!(
            ready_made(dir.path(), &names(&["text"])),
            Err(BuildError::NotExecutable(path)) if path == dir.path().join("text")
        ));
    }

    #[tokio::test]
    async fn unknown_binary_is_named() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let error = build(here, &names(&["no-such-binary"]), false)
            .await
            .unwrap_err();
        assert!(matches!(error, BuildError::NoBinary(binary) if binary == "no-such-binary"));
    }
}
