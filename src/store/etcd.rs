//! The store on a real etcd. With its folder, the only place that knows the crate `etcd_client`.
//!
//! Every request has a timeout, because a connection that went away silently would otherwise hold its caller for ever.

mod connection;
mod encode;
mod errors;
pub mod files;
mod lease;
mod watch;

pub use watch::EtcdWatch;

use super::{
    BoxError, Content, Page, PagePlace, ReadError, Scope, Store,
    txn::{Commit, CommitError, Revision, Txn},
};
use crate::model::link::{Login, TlsFiles};
use connection::Connection;
use errors::{ground, read_error, refusal};
use etcd_client::WatchOptions;
use files::FileError;
use std::{future::Future, time::Duration};

/// Where etcd is, how to show it who we are, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct EtcdSettings {
    /// URLs of the cluster's members.
    pub endpoints: Vec<String>,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// Who to be there, if anyone.
    pub login: Option<Login>,
    /// For https endpoints: whom to trust, and what to show.
    pub tls: Option<TlsFiles>,
}

impl EtcdSettings {
    /// etcd answers a request it cannot serve (no leader, a full disk) after 5 s plus twice its election timeout at the
    /// latest; a member that takes longer than 5 s is not one to wait for.
    pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

    /// One endpoint, nobody in particular, no TLS.
    #[must_use]
    pub fn at(endpoint: &str) -> Self {
        let endpoints = vec![endpoint.to_owned()];
        Self { endpoints, request_timeout: Self::REQUEST_TIMEOUT, login: None, tls: None }
    }
}

/// A client of etcd could not be made. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// An endpoint is malformed.
    #[error("cannot make a client for etcd at {endpoints}")]
    Endpoints {
        /// The endpoints, as given.
        endpoints: String,
        /// What the client said.
        #[source]
        source: BoxError,
    },
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A client of one etcd cluster. Clones share its connections.
#[derive(Clone)]
pub struct EtcdStore {
    connection: Connection,
    request_timeout: Duration,
}

impl EtcdStore {
    /// Reads the files and makes a client. Connections are made when first needed: an etcd that is down is no error here.
    pub async fn connect(settings: &EtcdSettings) -> Result<Self, ConnectError> {
        let connection = Connection::new(settings).await?;
        Ok(Self { connection, request_timeout: settings.request_timeout })
    }

    async fn read<T>(&self, request: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, ReadError> {
        match tokio::time::timeout(self.request_timeout, request).await {
            Ok(answer) => answer.map_err(read_error),
            Err(_) => Err(ReadError::TimedOut { waited: self.request_timeout }),
        }
    }
}

impl Store for EtcdStore {
    type Watch = EtcdWatch;

    async fn commit(&self, txn: Txn) -> Result<Commit, CommitError> {
        let n_operations = txn.n_operations();
        let waited = self.request_timeout;
        let request = self.connection.send(|mut clients| {
            let txn = encode::encode(&txn);
            async move { clients.kv.txn(txn).await }
        });
        match tokio::time::timeout(waited, request).await {
            Ok(Ok(response)) => Ok(encode::decode(&txn, &response)),
            Ok(Err(error)) if refusal(&error) => {
                Err(CommitError::Refused { n_operations, ground: ground(&error), source: error.into() })
            }
            Ok(Err(error)) => Err(CommitError::Unanswered { n_operations, waited, source: error.into() }),
            Err(elapsed) => Err(CommitError::Unanswered { n_operations, waited, source: elapsed.into() }),
        }
    }

    async fn page(&self, scope: &Scope, content: Content, place: PagePlace) -> Result<Page, ReadError> {
        let pinned = match &place {
            PagePlace::First => None,
            PagePlace::After { at, .. } => Some(*at),
        };
        let (from, options) = encode::page_request(scope, content, place);
        let request = self.connection.send(|mut clients| {
            let (from, options) = (from.clone(), options.clone());
            async move { clients.kv.get(from, Some(options)).await }
        });
        self.read(request).await.map(|response| encode::page(response, pinned))
    }

    async fn watch(&self, scope: &Scope, from: Revision) -> Result<EtcdWatch, ReadError> {
        let (key, end) = encode::range(scope);
        // Progress notifications let an idle prefix resume after a compaction without reading everything anew. Fragments keep
        // what was missed in a long absence from coming as one message of any size.
        let options =
            WatchOptions::new().with_range(end).with_start_revision(from.0).with_progress_notify().with_fragment();
        let request =
            self.connection.begin(|mut clients| {
                let (key, options) = (key.clone(), options.clone());
                async move {
                    clients.watch.watch(key, Some(options)).await.map(|stream| EtcdWatch::new(stream, clients.watch))
                }
            });
        self.read(request).await
    }
}
