//! Why a store could not do what it was asked.

/// Errors of opening and reading; how a write ended is a `FlushOutcome`.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The configuration cannot work: driver, source, directory. Retrying cannot help.
    #[error("{0}")]
    Config(String),
    /// What is stored cannot be used: other version, other cluster, undecodable row.
    #[error("{0}")]
    Corrupt(String),
    /// The medium or the database failed; retrying may help.
    #[error("{context}")]
    Unavailable {
        /// What was being done.
        context: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process owns the store.
    #[error("the store is owned by {holder}")]
    Deposed { holder: String },
}

impl StoreError {
    /// What lies behind it, where its own words only say what was being done.
    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Unavailable { source, .. } => source.to_string(),
            Self::Config(_) | Self::Corrupt(_) | Self::Deposed { .. } => self.to_string(),
        }
    }
}
