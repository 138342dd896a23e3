//! DynamoDB: the embedded engine behind our own HTTP front.

mod faults;
mod front;
mod operations;
mod tables;
mod units;

use std::fs::{File, TryLockError};
use std::net::{IpAddr, SocketAddr};
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

/// Nothing else deletes what has expired; AWS takes days, which would make a local table only grow.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// And so many times as long as it takes, if that is more: the share of a core that it may have.
const SWEEP_SHARE: u32 = 50;

/// The running engine; it stops when shut down or dropped.
#[derive(Debug)]
pub struct Engine {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    stopped: oneshot::Receiver<()>,
}

/// How the engine is to run.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The address to listen on.
    pub host: IpAddr,
    /// The port, 0 for any.
    pub port: u16,
    /// The folder that keeps the tables; in memory without.
    pub data: Option<PathBuf>,
    /// Tables to create where they are absent.
    pub tables: Vec<Table>,
    /// Faults to inject.
    pub faults: Faults,
    /// What functions may do.
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
        /// Address and port.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database cannot be opened.
    #[error("cannot open the database {path}: {problem}. Choose another folder with --data.", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the engine said.
        problem: String,
    },
    /// Another process has it.
    #[error("another local gateway keeps its tables in {folder}; stop it, or choose another folder with --data", folder = .0.display())]
    InUse(PathBuf),
    /// A table of the template cannot be created.
    #[error("cannot create the table {table}: {problem}")]
    Create {
        /// Its name.
        table: String,
        /// What the engine said.
        problem: String,
    },
    /// A table is there with another schema.
    #[error(
        "the table {table} is kept with other {what} than the template's; delete the --data folder or choose another"
    )]
    Changed {
        /// Its name.
        table: String,
        /// What differs.
        what: &'static str,
    },
    /// No thread could be started.
    #[error("cannot start DynamoDB: {0}")]
    Thread(std::io::Error),
}

impl Engine {
    /// Opens the database, creates missing tables and listens. Returns when it can serve.
    ///
    /// # Errors
    /// When the port is taken, or the database is unusable or of another schema.
    pub async fn start(options: EngineOptions) -> Result<Self, EngineError> {
        let (stop, stopping) = oneshot::channel();
        let (done, stopped) = oneshot::channel();
        let (ready, address) = oneshot::channel();
        // The engine blocks on SQLite, so it has a thread and a runtime to itself.
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
                // Nobody may be waiting for the end.
                let _ = done.send(());
            })
            .map_err(EngineError::Thread)?;
        let address = address.await.unwrap_or_else(|_| {
            Err(EngineError::Thread(std::io::Error::other(
                "its thread ended",
            )))
        })?;
        Ok(Self {
            address,
            stop,
            stopped,
        })
    }

    /// The endpoint, `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        listen::url(self.address)
    }

    /// Stops serving and closes the database.
    pub async fn shut_down(self) {
        // Both fail only when the thread has ended already.
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
        // A dropped sender is a dropped engine.
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

/// Opens the database in `folder`; nobody else may while the file beside it is held, also after a crash.
fn kept_in(folder: &Path) -> Result<(Database, File), EngineError> {
    let path = folder.join("dynamodb.sqlite");
    let failed = |problem: String| EngineError::Open {
        path: path.clone(),
        problem,
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
    let lock = File::create(folder.join("lock")).map_err(|error| failed(error.to_string()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(EngineError::InUse(folder.to_owned())),
        Err(TryLockError::Error(error)) => return Err(failed(error.to_string())),
    }
    let text = path
        .to_str()
        .ok_or_else(|| failed("its name is not UTF-8".to_owned()))?;
    let database = Database::new(text).map_err(|error| failed(error.to_string()))?;
    // It sets SQLite's synchronous=NORMAL: an acknowledged write survives a killed process, and is as fast as in memory.
    database
        .disable_bulk_loading()
        .map_err(|error| failed(error.to_string()))?;
    Ok((database, lock))
}

/// Deletes what is past its time to live, again and again. On a thread of its own: it reads every table from its beginning to its
/// end, and lets requests in between two pages. The longer that takes, the less often it is done.
async fn sweep(database: Database) {
    loop {
        let begun = Instant::now();
        let sweeping = database.clone();
        match tokio::task::spawn_blocking(move || sweeping.sweep_ttl()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "expired items could not be deleted"),
            Err(error) => tracing::warn!(%error, "deleting expired items broke off"),
        }
        tokio::time::sleep(SWEEP_EVERY.max(begun.elapsed() * SWEEP_SHARE)).await;
    }
}
