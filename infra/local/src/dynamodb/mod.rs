//! DynamoDB: the embedded engine behind our own HTTP front.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::fault::Faults;
use crate::template::Table;

/// The running engine; it stops when shut down or dropped.
#[derive(Debug)]
pub struct Engine;

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
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database cannot be opened.
    #[error("cannot open the database {path}: {problem}", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the engine said.
        problem: String,
    },
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
        "the table {table} is kept with another {what} than the template's; delete the --data folder or choose another"
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
        let _ = options;
        Ok(Self)
    }

    /// The endpoint, `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        String::new()
    }

    /// Stops serving and closes the database.
    pub async fn shut_down(self) {}
}
