//! Which cluster an API server belongs to and what it serves of Gateway API and of our own group: versions of the kinds read here, and the release
//! their CRDs come from.
//!
//! Asked again and again, because CRDs come, change and go while we run. Publishes versions for the kinds' own tasks,
//! [`ClusterEvent::Identity`] and [`ClusterEvent::Served`] for everybody else; it reads no objects. An answer that fails changes nothing.

use super::{
    ClusterEvent,
    failure::Failure,
    identity::{Identity, IdentityError, Unconfirmed},
    kinds,
    metrics::Metrics,
};
use crate::{
    model::{
        names::{GATEWAY_GROUP, Kind, OWN_GROUP},
        verdicts::{Served, Source},
    },
    retry::{Retry, RetryLimits},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroup, APIResourceList};
use kube::{
    Client,
    core::{PartialObjectMeta, Request, params::GetParams},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::timeout,
};
use tracing::{debug, info, warn};

/// How soon a CRD that was missing is seen: a person may be waiting for it.
const PERIOD_INCOMPLETE: Duration = Duration::from_secs(2);

/// How soon another version of a CRD is seen. A kind that vanishes is noticed at once by its own task, which asks to look.
const PERIOD: Duration = Duration::from_secs(30);

/// How long one look may take, all its requests together.
const LOOK_MAX: Duration = Duration::from_secs(30);

/// The annotation of Gateway API's CRDs that names their release.
const BUNDLE_VERSION: &str = "gateway.networking.k8s.io/bundle-version";

/// The version to read each kind at; a kind that is not served is absent.
pub(super) type Versions = BTreeMap<Kind, &'static str>;

/// What one look found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    versions: Versions,
    bundles: Option<Vec<Arc<str>>>,
}

impl Found {
    fn served(&self) -> Served {
        Served {
            source: Source::Cluster,
            versions: self.versions.iter().map(|(kind, version)| (*kind, Arc::from(*version))).collect(),
            bundles: self.bundles.clone(),
        }
    }

    fn complete(&self) -> bool {
        Kind::ALL.into_iter().all(|kind| kinds::is_extra(kind) || self.versions.contains_key(&kind))
    }
}

/// The API server did not say what it serves; ask again.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("discovery failed at {path}")]
    Asking {
        path: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("discovery took longer than {LOOK_MAX:?}")]
    TooLong,
}

/// Follows what an API server serves, until `events` is closed.
pub(super) struct Discovery {
    /// The API server.
    pub(super) client: Client,
    /// Which cluster it belongs to.
    pub(super) identity: Arc<Identity>,
    /// Who is told of what is served.
    pub(super) events: mpsc::Sender<ClusterEvent>,
    /// Who reads each kind.
    pub(super) versions: watch::Sender<Versions>,
    /// Wakes this up: somebody met a kind that is not served where it was found.
    pub(super) look_again: Arc<Notify>,
    /// Counts.
    pub(super) metrics: Metrics,
}

impl Discovery {
    /// Looks until the receiver of events is gone. `Identity`, `Served`, then `NotServed` for each missing kind, are sent
    /// before any kind is read for the first time; until they can be, every kind is `Waiting`.
    pub(super) async fn follow(self) {
        let mut retry = Retry::new(RetryLimits::CLUSTER);
        let mut failure = Failure::default();
        let mut known: Option<Found> = None;
        loop {
            let looked = match self.identity.confirm(&self.client, &self.events).await {
                Ok(()) => look_in_time(&self.client).await,
                Err(Unconfirmed::Unknown(error)) => Err(error.into()),
                Err(Unconfirmed::Unheard) => return,
            };
            let wait = match looked {
                Ok(found) => {
                    retry.reset();
                    if failure.over() {
                        info!("discovery works again");
                    }
                    if self.publish(known.as_ref(), &found).await.is_err() {
                        return;
                    }
                    let wait = if found.complete() { PERIOD } else { PERIOD_INCOMPLETE };
                    known = Some(found);
                    wait
                }
                Err(error) => {
                    if let Some(reason) = failure.news(&error) {
                        warn!(error = reason, "what the API server serves is not known, what was known stays in force");
                        if known.is_none() && self.all_wait(reason).await.is_err() {
                            return;
                        }
                    }
                    retry.next_delay()
                }
            };
            // Whichever comes first; being asked to look is never refused, only the asker's own delays slow it down.
            let _ = timeout(wait, self.look_again.notified()).await;
        }
    }

    /// No kind can be read before discovery works.
    async fn all_wait(&self, reason: &str) -> Result<(), mpsc::error::SendError<ClusterEvent>> {
        let reason = Arc::from(reason);
        for kind in Kind::ALL {
            self.events.send(ClusterEvent::Waiting { kind, reason: Arc::clone(&reason) }).await?;
        }
        Ok(())
    }

    /// Tells everybody what changed; an error means that nobody listens.
    async fn publish(&self, known: Option<&Found>, found: &Found) -> Result<(), mpsc::error::SendError<ClusterEvent>> {
        if known == Some(found) {
            return Ok(());
        }
        self.say(known, found);
        let served = found.served();
        if known.map(Found::served).as_ref() != Some(&served) {
            self.events.send(ClusterEvent::Served(served)).await?;
        }
        if known.is_none() {
            for kind in Kind::ALL.into_iter().filter(|kind| !found.versions.contains_key(kind)) {
                self.events.send(ClusterEvent::NotServed(kind)).await?;
            }
        }
        for kind in Kind::ALL.into_iter().filter(|kind| !found.versions.contains_key(kind)) {
            if known.is_some_and(|known| known.versions.contains_key(&kind)) {
                let reason =
                    "the API server no longer serves the kind: its CRD is gone, or no version read here is served";
                self.events.send(ClusterEvent::Waiting { kind, reason: reason.into() }).await?;
            }
        }
        self.versions.send_if_modified(|versions| {
            let changed = *versions != found.versions;
            versions.clone_from(&found.versions);
            changed
        });
        Ok(())
    }

    fn say(&self, known: Option<&Found>, found: &Found) {
        for kind in Kind::ALL {
            let before = known.and_then(|known| known.versions.get(&kind).copied());
            let now = found.versions.get(&kind).copied();
            self.metrics.served(kind, before, now);
            match (known, before, now) {
                (_, before, Some(version)) if before != now => info!(%kind, version, "kind is served"),
                (_, Some(before), None) => {
                    warn!(%kind, before, "kind is no longer served, what is known of it stays in force");
                }
                (None, None, None) if kinds::is_extra(kind) => debug!(%kind, "kind is not served"),
                (None, None, None) => info!(%kind, "kind is not served, waiting for its CRD"),
                (Some(_), None, None) | (_, _, Some(_)) => {}
            }
        }
        if known.map(|known| &known.bundles) != Some(&found.bundles) {
            info!(bundles = ?found.bundles, "gateway API release of the installed CRDs");
        }
    }
}

async fn look_in_time(client: &Client) -> Result<Found, LookError> {
    timeout(LOOK_MAX, look(client)).await.unwrap_or(Err(LookError::TooLong))
}

async fn look(client: &Client) -> Result<Found, LookError> {
    let mut resources = served_resources(client, GATEWAY_GROUP).await?;
    resources.extend(served_resources(client, OWN_GROUP).await?);
    let mut versions = Versions::new();
    for kind in Kind::ALL {
        let serves = |version: &&&str| {
            !kinds::from_crd(kind) || resources.contains(&(kind.group(), **version, kind.plural().to_owned()))
        };
        if let Some(version) = kinds::versions(kind).iter().find(serves) {
            versions.insert(kind, version);
        }
    }
    let bundles = bundles(client, &versions).await?;
    Ok(Found { versions, bundles })
}

/// A resource that is served: its group, its version and its plural name.
type Resource = (&'static str, &'static str, String);

/// Every resource of `group` that is served, of the versions read here.
async fn served_resources(client: &Client, group: &'static str) -> Result<BTreeSet<Resource>, LookError> {
    let mut served = BTreeSet::new();
    let Some(found) = get::<APIGroup>(client, format!("/apis/{group}")).await? else {
        return Ok(served);
    };
    let wanted: BTreeSet<&str> =
        Kind::ALL.into_iter().filter(|kind| kind.group() == group).flat_map(kinds::versions).copied().collect();
    let exists = |version: &&str| found.versions.iter().any(|served| served.version == **version);
    // The stable version last: of a CRD that comes between two requests, not only an older version is seen.
    for version in wanted.into_iter().rev().filter(exists) {
        let resources = get::<APIResourceList>(client, format!("/apis/{group}/{version}")).await?;
        let names = resources.into_iter().flat_map(|list| list.resources).map(|resource| resource.name);
        served.extend(names.map(|name| (group, version, name)));
    }
    Ok(served)
}

/// The releases the CRDs of the served kinds come from; `None` where reading CRDs is forbidden.
async fn bundles(client: &Client, versions: &Versions) -> Result<Option<Vec<Arc<str>>>, LookError> {
    let crds = Request::new("/apis/apiextensions.k8s.io/v1/customresourcedefinitions");
    let mut bundles = BTreeSet::new();
    for kind in versions.keys().copied().filter(|kind| kind.group() == GATEWAY_GROUP) {
        let name = kinds::crd_name(kind);
        let asking = |source| LookError::Asking { path: format!("{}/{name}", crds.url_path), source };
        let request = crds.get_metadata(&name, &GetParams::default()).map_err(|error| asking(error.into()))?;
        match client.request::<PartialObjectMeta>(request).await {
            Ok(crd) => {
                let annotation =
                    crd.metadata.annotations.and_then(|mut annotations| annotations.remove(BUNDLE_VERSION));
                bundles.insert(Arc::from(annotation.unwrap_or_default()));
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => return Ok(None),
            // Served, but not from a CRD, or its CRD went this moment.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(asking(error.into())),
        }
    }
    Ok(Some(bundles.into_iter().collect()))
}

/// What is at `path`; `None` if nothing is.
async fn get<T: serde::de::DeserializeOwned>(client: &Client, path: String) -> Result<Option<T>, LookError> {
    let request = match http::Request::get(&path).body(Vec::new()) {
        Ok(request) => request,
        Err(error) => return Err(LookError::Asking { path, source: error.into() }),
    };
    match client.request(request).await {
        Ok(answer) => Ok(Some(answer)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(kube::Error::Api(status)) => Err(LookError::Asking { path, source: status }),
        Err(error) => Err(LookError::Asking { path, source: error.into() }),
    }
}
