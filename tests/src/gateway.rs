//! A local gateway on free ports that runs prebuilt functions. It stops when its test ends, also if the test fails.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::{DEADLINE, Urls};

/// The environment variable with the folder of prebuilt binaries. Without it each test process builds them.
const BINARIES: &str = "MESSAGING_BINARIES";

/// A running local gateway.
#[derive(Debug)]
pub struct Gateway {
    process: Child,
    urls: Urls,
    _folder: TempDir,
}

impl Gateway {
    /// Starts a gateway with these arguments and waits until it is ready.
    ///
    /// # Errors
    /// Fails if the binaries do not build or the gateway does not become ready.
    pub fn start<A: AsRef<OsStr>>(arguments: &[A]) -> Result<Self> {
        Self::start_with(arguments, Stdio::inherit())
    }

    /// Starts a gateway that writes its own log and that of its functions to a file.
    ///
    /// # Errors
    /// Fails under the conditions of [`Self::start`].
    pub fn start_logging<A: AsRef<OsStr>>(arguments: &[A], log: &Path) -> Result<Self> {
        Self::start_with(arguments, File::create(log)?.into())
    }

    fn start_with<A: AsRef<OsStr>>(arguments: &[A], log: Stdio) -> Result<Self> {
        let binaries = binaries()?;
        let folder = tempfile::tempdir()?;
        let ready = folder.path().join("ready.json");
        let process = Command::new(binaries.join("local-gateway"))
            .current_dir(root())
            .args(["--port", "0", "--functions"])
            .arg(&binaries)
            .arg("--ready-file")
            .arg(&ready)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("the local gateway does not start")?;
        let mut gateway = Self {
            process,
            urls: Urls::default(),
            _folder: folder,
        };
        gateway.urls = gateway.until_ready(&ready)?;
        Ok(gateway)
    }

    /// Starts a gateway without schedules, so that requests are counted that the test causes and no others.
    ///
    /// # Errors
    /// Fails under the conditions of [`Self::start`].
    pub fn without_schedules() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let template = folder.path().join("template.yaml");
        std::fs::write(&template, quiet()?)?;
        Self::start(&[OsStr::new("--template"), template.as_os_str()])
    }

    fn until_ready(&mut self, ready: &Path) -> Result<Urls> {
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            // The gateway creates the file atomically.
            if ready.exists() {
                return Urls::read(ready);
            }
            if let Some(status) = self.process.try_wait()? {
                bail!("the gateway ended before it was ready: {status}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the gateway was not ready within {DEADLINE:?}")
    }

    /// Returns the URLs of the gateway.
    #[must_use]
    pub const fn urls(&self) -> &Urls {
        &self.urls
    }

    /// Kills the gateway without warning, like a crash.
    ///
    /// # Errors
    /// Fails if the process cannot be killed.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Gateway {
    /// Sends SIGTERM, so that the gateway stops its functions too.
    fn drop(&mut self) {
        if !self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            return;
        }
        let id = self.process.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            if self.process.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the template with its schedules disabled and with absolute paths, so that any folder can hold it.
fn quiet() -> Result<String> {
    let mut quiet = String::new();
    for line in std::fs::read_to_string(root().join("template.yaml"))?.lines() {
        match line.split_once("TemplateURL: ") {
            Some((indentation, nested)) => {
                let nested = root().join(nested);
                let nested = nested.canonicalize().with_context(|| line.to_owned())?;
                quiet.push_str(&format!("{indentation}TemplateURL: {}\n", nested.display()));
            }
            None => {
                quiet.push_str(line);
                quiet.push('\n');
            }
        }
        if let Some((indentation, _)) = line.split_once("Schedule: rate(")
            && indentation.trim().is_empty()
        {
            quiet.push_str(&format!("{indentation}Enabled: false\n"));
        }
    }
    Ok(quiet)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the folder of the gateway and the functions. Builds them once per process, unless they are prebuilt.
fn binaries() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if let Some(folder) = std::env::var_os(BINARIES) {
        return Ok(folder.into());
    }
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

fn build() -> Result<PathBuf> {
    // target/<profile>/deps/<test>
    let test = std::env::current_exe()?;
    let folder = test.ancestors().nth(2).context("a test has no folder")?;
    let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    cargo
        .current_dir(root())
        .args(["build", "--quiet", "--workspace", "--bins", "--locked"])
        .env("CARGO_TARGET_DIR", folder.parent().unwrap_or(folder));
    let profile = folder.file_name().unwrap_or_default();
    if profile != "debug" {
        cargo.arg("--profile").arg(profile);
    }
    let status = cargo.status().context("cargo cannot be run")?;
    ensure!(status.success(), "the functions do not build");
    Ok(folder.to_owned())
}
