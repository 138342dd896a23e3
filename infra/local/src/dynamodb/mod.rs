//! DynamoDB: the embedded engine behind the gateway's own HTTP front.

mod faults;
mod front;
mod operations;
mod tables;
mod units;

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dynoxide::Database;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::fault::Faults;
use crate::listen;
use crate::rights::Rights;
use crate::template::Table;

/// The file of the tables in the folder of `--data`.
const DATABASE: &str = "dynamodb.sqlite";
/// The shortest wait between two sweeps. Nothing else deletes expired items. AWS takes days, in which a local table
/// would only grow.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// The wait is at least this multiple of the duration of a sweep, which limits the share of a core that sweeps use.
const SWEEP_SHARE: u32 = 50;

/// The running engine. It stops when it is shut down or dropped.
#[derive(Debug)]
pub struct Engine {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    stopped: oneshot::Receiver<()>,
}

/// Options of the engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The address to listen on.
    pub host: IpAddr,
    /// The port, 0 for any.
    pub port: u16,
    /// The folder of the tables. If `None`, they are in memory.
    pub data: Option<PathBuf>,
    /// Tables to create if they are absent.
    pub tables: Vec<Table>,
    pub faults: Faults,
    /// The functions' permissions.
    pub rights: Rights,
}

/// Why the engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The port is taken.
    #[error(
        "cannot listen on {address} for DynamoDB: {source}. Choose another with --dynamodb-port, or --port 0 for free ones."
    )]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    /// The database cannot be opened.
    #[error("cannot open the database {path}: {problem}. Choose another folder with --data.", path = .path.display())]
    Open {
        path: PathBuf,
        /// The engine's error.
        problem: String,
    },
    /// Another process uses the database.
    #[error("another local gateway uses the tables in {folder}; stop it, or choose another folder with --data", folder = .0.display())]
    InUse(PathBuf),
    /// A table of the template cannot be created.
    #[error("cannot create the table {table}: {problem}")]
    Create {
        table: String,
        /// The engine's error.
        problem: String,
    },
    /// A table exists with another schema.
    #[error(
        "the table {table} in the --data folder has other {what} than the template; delete the folder or choose another"
    )]
    Changed {
        table: String,
        /// The part of the schema that differs.
        what: &'static str,
    },
    /// The engine's thread could not be started.
    #[error("cannot start DynamoDB: {0}")]
    Thread(std::io::Error),
}

impl Engine {
    /// Opens the database, creates missing tables and listens. Returns when the engine can serve.
    ///
    /// # Errors
    /// Fails if the port is taken, or if the database is unusable or has another schema.
    pub async fn start(options: EngineOptions) -> Result<Self, EngineError> {
        let (stop, stopping) = oneshot::channel();
        let (done, stopped) = oneshot::channel();
        let (ready, address) = oneshot::channel();
        // The engine blocks on SQLite, so it has its own thread and runtime.
        std::thread::Builder::new()
            .name("dynamodb".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                match runtime {
                    Ok(runtime) => runtime.block_on(run(options, ready, stopping)),
                    Err(error) => drop(ready.send(Err(EngineError::Thread(error)))),
                }
                // This fails if no caller waits for the end.
                let _ = done.send(());
            })
            .map_err(EngineError::Thread)?;
        let address = address.await.unwrap_or_else(|_| {
            Err(EngineError::Thread(std::io::Error::other(
                "the engine's thread ended",
            )))
        })?;
        Ok(Self {
            address,
            stop,
            stopped,
        })
    }

    /// Returns the endpoint, `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        listen::url(self.address)
    }

    /// Stops serving and closes the database.
    pub async fn shut_down(self) {
        // Both fail only if the thread has already ended.
        let _ = self.stop.send(());
        let _ = self.stopped.await;
    }
}

async fn run(
    options: EngineOptions,
    ready: oneshot::Sender<Result<SocketAddr, EngineError>>,
    stopping: oneshot::Receiver<()>,
) {
    let (database, _lock, listener, address) = match open(&options).await {
        Ok(opened) => opened,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let front = Arc::new(front::Front {
        database: database.clone(),
        faults: options.faults,
        rights: options.rights,
        tally: units::Tally::default(),
    });
    let serving = listen::serve(listener, move |request| {
        let front = Arc::clone(&front);
        async move { front.handle(request).await }
    });
    if ready.send(Ok(address)).is_err() {
        return;
    }
    tokio::select! {
        _ = serving => {}
        () = sweep(database) => {}
        // This also completes if the engine is dropped with its sender.
        _ = stopping => {}
    }
}

type Opened = (Database, Option<File>, TcpListener, SocketAddr);

async fn open(options: &EngineOptions) -> Result<Opened, EngineError> {
    let wanted = SocketAddr::new(options.host, options.port);
    let failed = |source| EngineError::Listen {
        address: wanted,
        source,
    };
    let listener = TcpListener::bind(wanted).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let (database, lock) = match &options.data {
        Some(folder) => {
            let (database, lock) = kept_in(folder)?;
            (database, Some(lock))
        }
        None => {
            let path = PathBuf::from(":memory:");
            let database = Database::memory();
            (
                database.map_err(|error| EngineError::Open {
                    path,
                    problem: error.to_string(),
                })?,
                None,
            )
        }
    };
    for table in &options.tables {
        tables::ensure(&database, table)?;
    }
    Ok((database, lock, listener, address))
}

/// Opens the database in `folder` and locks a file beside it. Other processes cannot open the database while the lock
/// is held. A crash releases the lock.
///
/// The tables have what people wrote, so only the owner may read them. A folder that existed keeps its permissions.
fn kept_in(folder: &Path) -> Result<(Database, File), EngineError> {
    let path = folder.join(DATABASE);
    let failed = |problem: String| EngineError::Open {
        path: path.clone(),
        problem,
    };
    let mut builder = DirBuilder::new();
    let created = builder.recursive(true).mode(0o700).create(folder);
    created.map_err(|error| failed(error.to_string()))?;
    let lock = own_file(&folder.join("lock")).map_err(|error| failed(error.to_string()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(EngineError::InUse(folder.to_owned())),
        Err(TryLockError::Error(error)) => return Err(failed(error.to_string())),
    }
    // SQLite gives its own files beside the database the database's permissions. A previous run may have left some.
    own_file(&path).map_err(|error| failed(error.to_string()))?;
    for left in ["-wal", "-shm", "-journal"] {
        let path = folder.join(format!("{DATABASE}{left}"));
        if path.exists() {
            own_file(&path).map_err(|error| failed(error.to_string()))?;
        }
    }
    let text = path
        .to_str()
        .ok_or_else(|| failed("the path is not UTF-8".to_owned()))?;
    let database = Database::new(text).map_err(|error| failed(error.to_string()))?;
    // This sets SQLite's synchronous=NORMAL. An acknowledged write survives a killed process, and is as fast as in
    // memory.
    database
        .disable_bulk_loading()
        .map_err(|error| failed(error.to_string()))?;
    Ok((database, lock))
}

/// Opens a file that only its owner can read. Creates it if it is absent, and keeps its content if it exists.
fn own_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600);
    let file = file.open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Deletes expired items repeatedly. Each sweep runs on a separate thread: it reads every table completely, and
/// requests run between two pages. The longer a sweep takes, the longer is the wait until the next.
async fn sweep(database: Database) {
    loop {
        let begun = Instant::now();
        let sweeping = database.clone();
        match tokio::task::spawn_blocking(move || sweeping.sweep_ttl()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "deleting expired items failed"),
            Err(error) => tracing::warn!(%error, "deleting expired items was aborted"),
        }
        tokio::time::sleep(SWEEP_EVERY.max(begun.elapsed() * SWEEP_SHARE)).await;
    }
}
