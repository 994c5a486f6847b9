//! Which cluster an API server belongs to: the UID of its namespace `kube-system`.
//!
//! One request out, [`ClusterEvent::Identity`] out where the answer is not what was told last. Every cluster has that
//! namespace and nobody can delete it. A cluster that is set up anew gets another UID; one restored from a backup keeps it.

use super::ClusterEvent;
use kube::{
    Client,
    core::{PartialObjectMeta, Request, params::GetParams},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Mutex, mpsc},
    time::timeout,
};
use tracing::{error, info};

const NAMESPACES: &str = "/api/v1/namespaces";
const NAMESPACE: &str = "kube-system";

/// How long the answer may take: it is one small object.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The API server did not say which cluster it belongs to; ask again.
#[derive(Debug, thiserror::Error)]
pub(super) enum IdentityError {
    /// A person must grant a right.
    #[error("reading namespace {NAMESPACE}, whose UID tells clusters apart, is forbidden: allow get on namespaces")]
    Forbidden(#[source] Box<kube::core::Status>),
    /// The namespace came without a UID.
    #[error("namespace {NAMESPACE}, whose UID tells clusters apart, has no UID")]
    WithoutUid,
    /// Anything else.
    #[error("reading namespace {NAMESPACE}, whose UID tells clusters apart, failed")]
    Asking(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why it could not be made sure that the cluster told is the cluster asked.
pub(super) enum Unconfirmed {
    /// Nobody receives events any more.
    Unheard,
    /// The cluster could not be asked.
    Unknown(IdentityError),
}

/// The cluster that was told of last, for everybody who reads from one API server.
#[derive(Debug, Default)]
pub(super) struct Identity {
    /// How many questions were asked.
    asked: AtomicU64,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    uid: Option<Arc<str>>,
    /// The latest question that was answered so.
    asked: u64,
}

impl Identity {
    /// Makes sure that `events` have been told the cluster that `client` leads to.
    ///
    /// Called after an answer begins and before it is told, this keeps what another cluster holds from being taken for this
    /// one's. May be dropped at any moment; what was not told then is told the next time.
    pub(super) async fn confirm(
        &self,
        client: &Client,
        events: &mpsc::Sender<ClusterEvent>,
    ) -> Result<(), Unconfirmed> {
        loop {
            let asked = self.asked.fetch_add(1, Ordering::Relaxed);
            let uid = read(client).await.map_err(Unconfirmed::Unknown)?;
            // SUBTLE: held while telling, so that nobody goes on before the cluster is told.
            let mut told = self.told.lock().await;
            match &told.uid {
                Some(before) if *before == uid => {
                    told.asked = told.asked.max(asked);
                    return Ok(());
                }
                // Somebody asked later and was told otherwise: this answer may be the older one.
                Some(_) if asked < told.asked => continue,
                Some(before) => error!(%before, %uid, "the API server now belongs to another cluster"),
                None => info!(%uid, "cluster found"),
            }
            let event = ClusterEvent::Identity(Arc::clone(&uid));
            events.send(event).await.map_err(|_| Unconfirmed::Unheard)?;
            *told = Told { uid: Some(uid), asked };
            return Ok(());
        }
    }
}

async fn read(client: &Client) -> Result<Arc<str>, IdentityError> {
    let request = Request::new(NAMESPACES)
        .get_metadata(NAMESPACE, &GetParams::default())
        .map_err(|error| IdentityError::Asking(error.into()))?;
    let answer = timeout(WAIT_MAX, client.request::<PartialObjectMeta>(request)).await;
    match answer.map_err(|_silence| IdentityError::Asking(format!("no answer within {WAIT_MAX:?}").into()))? {
        Ok(namespace) => match namespace.metadata.uid {
            Some(uid) if !uid.is_empty() => Ok(uid.into()),
            Some(_) | None => Err(IdentityError::WithoutUid),
        },
        Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => Err(IdentityError::Forbidden(status)),
        // kube's own error repeats the status twice over in its text; the status alone says it once.
        Err(kube::Error::Api(status)) => Err(IdentityError::Asking(status)),
        Err(error) => Err(IdentityError::Asking(error.into())),
    }
}
