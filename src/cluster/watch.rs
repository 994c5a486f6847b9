//! An API server as source of objects: one task for each kind lists it, watches it, and lists anew when it must.
//!
//! [`ClusterEvent`]s out, in order for each kind; between kinds there is no order. Whatever fails is tried again without
//! end, and what was told stays true meanwhile. Objects are neither kept nor compared here, and neither are versions: a list
//! older than the one before is told like any other.

mod settings;

use super::{
    ClusterEvent, Relist,
    discovery::{Discovery, Versions},
    failure::Failure,
    frames::{Frame, Frames, ReadError},
    identity::{Identity, Unconfirmed},
    kinds,
    list::{Collection, List},
    metrics::Metrics,
    relists::Relists,
};
use crate::{
    clock,
    model::{facts::Change, names::Kind, versions::CacheVersion},
    retry::{Retry, RetryLimits},
    status::print::StatusPrint,
};
use kube::Client;
pub use settings::FollowSettings;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span, warn};

/// A watch that lasted this long before it ended was a good one, even if nothing happened in it: the next one begins at
/// once. One that ends sooner and says nothing is followed by a growing delay.
const GOOD_WATCH: Duration = Duration::from_secs(1);

/// Tells `events` what an API server holds of every kind, until `stop` is cancelled or the receiver is gone.
///
/// First [`ClusterEvent::Identity`], [`ClusterEvent::Served`] and one [`ClusterEvent::NotServed`] for each missing kind; then,
/// for each served kind, one [`ClusterEvent::Listed`] followed by [`ClusterEvent::Changed`]s and [`ClusterEvent::Reached`]s. A
/// kind that cannot be read is [`ClusterEvent::Waiting`], and so is every kind while the first three cannot be told. Secrets
/// that may not be read, and never were, are also [`ClusterEvent::NotServed`]: nobody waits for them.
///
/// A kind in `relists` is listed anew at once, by a list begun after the request; a list under way is finished first, so
/// that requests cannot keep a kind from ever being listed. Nothing is told of objects because their kind is no longer
/// served, or forbidden: what was told of them stays true. Deleting a CRD deletes its objects first, and the API server may
/// tell so, object by object; those are deletions like any other.
///
/// When `events` is full, reading waits: the API server may then close a watch, which is taken up where it was or, if that is
/// too long ago, listed anew.
///
/// May be dropped at any moment.
///
/// # Panics
/// If a task of its own did: a kind that is silently no longer followed would be worse.
pub async fn follow_cluster(
    client: Client,
    settings: FollowSettings,
    events: mpsc::Sender<ClusterEvent>,
    relists: mpsc::UnboundedReceiver<Relist>,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let (relists, forward) = Relists::of(relists);
    let (versions, found) = watch::channel(Versions::new());
    let (look_again, identity) = (Arc::new(Notify::new()), Arc::new(Identity::default()));
    let mut tasks = JoinSet::new();
    tasks.spawn(forward);
    for kind in Kind::ALL {
        let follower = Follower {
            client: client.clone(),
            kind,
            settings: settings.clone(),
            relists: relists.clone(),
            identity: Arc::clone(&identity),
            events: events.clone(),
            metrics: metrics.clone(),
            look_again: Arc::clone(&look_again),
        };
        tasks.spawn(follower.follow(found.clone()).instrument(info_span!("watch", %kind)));
    }
    drop(found);
    let discovery = Discovery { client, identity, events, versions, look_again, metrics };
    tasks.spawn(discovery.follow().instrument(info_span!("discovery")));
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        }
    };
    stop.run_until_cancelled(all).await;
    tasks.shutdown().await;
}

/// The task of one kind.
struct Follower {
    client: Client,
    kind: Kind,
    settings: FollowSettings,
    relists: Relists,
    identity: Arc<Identity>,
    events: mpsc::Sender<ClusterEvent>,
    metrics: Metrics,
    look_again: Arc<Notify>,
}

/// Nobody receives events any more.
struct Unheard;

impl<T> From<mpsc::error::SendError<T>> for Unheard {
    fn from(_: mpsc::error::SendError<T>) -> Self {
        Self
    }
}

/// Why reading stopped.
enum Stop {
    /// Nobody receives events any more.
    Unheard,
    /// It went wrong.
    Read(ReadError),
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<Unconfirmed> for Stop {
    fn from(unconfirmed: Unconfirmed) -> Self {
        match unconfirmed {
            Unconfirmed::Unheard => Self::Unheard,
            Unconfirmed::Unknown(error) => Self::Read(ReadError::failed(error)),
        }
    }
}

impl<T> From<mpsc::error::SendError<T>> for Stop {
    fn from(_: mpsc::error::SendError<T>) -> Self {
        Self::Unheard
    }
}

/// Where the reading of a kind stands.
struct Reading {
    /// The version up to which everything was told; `None` before the first list and when it is too old.
    version: Option<String>,
    /// Whether a list was ever told.
    listed: bool,
    /// The latest request to list anew that the last list, successful or not, was begun after.
    ticket: u64,
    /// How the next list is made.
    way: Way,
    /// Whether the server never does streaming lists.
    pages_only: bool,
    retry: Retry,
    failure: Failure,
}

/// How to list.
#[derive(Clone, Copy)]
enum Way {
    Stream,
    Pages,
}

impl Reading {
    fn new() -> Self {
        Self {
            version: None,
            listed: false,
            ticket: 0,
            way: Way::Stream,
            pages_only: false,
            retry: Retry::new(RetryLimits::CLUSTER),
            failure: Failure::default(),
        }
    }

    /// Everything up to `version` was told. Without a version there is nothing to go on from: the older one stays.
    fn reached(&mut self, version: String) {
        if !version.is_empty() {
            self.version = Some(version);
        }
    }

    /// Objects come in again.
    fn works(&mut self) {
        if self.failure.over() {
            info!("read again");
        }
    }
}

impl Follower {
    /// Follows the kind wherever discovery finds it.
    async fn follow(self, mut versions: watch::Receiver<Versions>) {
        let kind = self.kind;
        loop {
            let version = match versions.wait_for(|versions| versions.contains_key(&kind)).await {
                Ok(versions) => versions.get(&kind).copied(),
                Err(_discovery_ended) => return,
            };
            let Some(version) = version else { continue };
            tokio::select! {
                moved = versions.wait_for(|versions| versions.get(&kind) != Some(&version)) => {
                    if moved.is_err() {
                        return;
                    }
                }
                () = self.follow_version(version) => return,
            }
        }
    }

    /// Follows the kind at one version; returns when nobody receives events any more.
    async fn follow_version(&self, version: &str) {
        let metrics = self.metrics.clone();
        let collection = Collection::new(self.client.clone(), self.kind, version, self.settings.clone(), metrics);
        let mut reading = Reading::new();
        loop {
            let begun = clock::now();
            let wait = match self.read_on(&collection, &mut reading).await {
                Err(Stop::Unheard) => return,
                Ok(()) if clock::now().duration_since(begun) >= GOOD_WATCH => {
                    reading.works();
                    reading.retry.reset();
                    Duration::ZERO
                }
                Ok(()) => reading.retry.next_delay(),
                Err(Stop::Read(error)) => match self.wait_after(&error, &mut reading).await {
                    Ok(wait) => wait,
                    Err(_unheard) => return,
                },
            };
            tokio::select! {
                () = self.relists.beyond(self.kind, reading.ticket) => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// What to do about a failure, and how long to wait first.
    async fn wait_after(&self, error: &ReadError, reading: &mut Reading) -> Result<Duration, Unheard> {
        let delay = reading.retry.next_delay();
        match error {
            ReadError::Expired => {
                debug!("what happened since the last event is no longer known, listing anew");
                reading.version = None;
                return Ok(delay);
            }
            ReadError::StreamingRefused(_) => {
                info!("the API server has no streaming lists, listing by pages");
                reading.pages_only = true;
                return Ok(Duration::ZERO);
            }
            ReadError::NotServed => self.look_again.notify_one(),
            ReadError::Failed { .. } => {}
        }
        // A streaming list has to be whole within one watch; by pages it gets through however slow it is.
        reading.way = match (reading.version.is_none(), reading.way) {
            (true, Way::Stream) => Way::Pages,
            (true, Way::Pages) | (false, _) => Way::Stream,
        };
        self.metrics.read_failed(self.kind);
        if let Some(reason) = reading.failure.news(error) {
            warn!(error = reason, "kind cannot be read, trying again; what is known of it stays in force");
            self.events.send(ClusterEvent::Waiting { kind: self.kind, reason: reason.into() }).await?;
            if !reading.listed && error.is_forbidden() && kinds::may_be_withheld(self.kind) {
                self.events.send(ClusterEvent::NotServed(self.kind)).await?;
            }
        }
        Ok(if let ReadError::Failed { after, source: _ } = error { delay.max(*after) } else { delay })
    }

    /// Lists if there is nothing to go on from or a list is asked for, then tells every change until the watch ends or the
    /// next list is asked for.
    async fn read_on(&self, collection: &Collection, reading: &mut Reading) -> Result<(), Stop> {
        // SUBTLE: taken before the list begins, so that the list is newer than whatever made somebody ask.
        let ticket = self.relists.latest(self.kind);
        if ticket > reading.ticket {
            reading.ticket = ticket;
            reading.version = None;
        }
        let frames = match (&reading.version, reading.way, reading.pages_only) {
            (Some(_), _, _) => None,
            (None, Way::Stream, false) => {
                let (list, frames) = collection.stream().await?;
                self.listed(list, reading).await?;
                Some(frames)
            }
            (None, Way::Pages, _) | (None, Way::Stream, true) => {
                let list = collection.pages().await?;
                self.listed(list, reading).await?;
                None
            }
        };
        let ticket = reading.ticket;
        tokio::select! {
            // A frame that was not told is lost with the watch; the list that follows has it.
            () = self.relists.beyond(self.kind, ticket) => Ok(()),
            told = self.tell(collection, frames, reading) => told,
        }
    }

    async fn listed(&self, list: List, reading: &mut Reading) -> Result<(), Stop> {
        self.identity.confirm(&self.client, &self.events).await?;
        reading.works();
        self.metrics.listed(self.kind);
        info!(objects = list.objects.len(), version = list.version, "listed");
        let event = ClusterEvent::Listed {
            kind: self.kind,
            objects: list.objects,
            version: CacheVersion::read(&list.version),
            ticket: reading.ticket,
            at: clock::now(),
        };
        self.events.send(event).await?;
        reading.listed = true;
        reading.version = Some(list.version);
        reading.way = Way::Stream;
        Ok(())
    }

    /// Tells what `frames` say or, without them, a watch that goes on from where the reading stands.
    async fn tell(&self, collection: &Collection, frames: Option<Frames>, reading: &mut Reading) -> Result<(), Stop> {
        let mut frames = if let Some(frames) = frames {
            frames
        } else {
            let version = reading.version.as_deref().unwrap_or_default();
            let frames = collection.watch(version).await?;
            self.identity.confirm(&self.client, &self.events).await?;
            // SUBTLE: a watch from a version that is yet to come stays open and silent, and tells nothing of what happens until
            // then. A list does tell: it is older, and whoever minds that hears of it.
            if collection.has_gone_back(version).await? {
                return Err(ReadError::Expired.into());
            }
            frames
        };
        while let Some(frame) = frames.next().await? {
            let at = clock::now();
            reading.works();
            reading.retry.reset();
            let (change, status, version) = match frame {
                Frame::Exists(json) => match collection.read(json) {
                    Ok((object, version)) => {
                        let observed = Some(object.observed);
                        (Change { kind: self.kind, name: object.name, observed }, object.status, version)
                    }
                    Err(nameless) => {
                        collection.skip(&nameless);
                        continue;
                    }
                },
                Frame::Gone(json) => match collection.read_name(json) {
                    Ok((name, version)) => {
                        (Change { kind: self.kind, name, observed: None }, StatusPrint::default(), version)
                    }
                    Err(nameless) => {
                        collection.skip(&nameless);
                        continue;
                    }
                },
                Frame::Bookmark { version, list_complete: _ } => {
                    if let Some(version) = CacheVersion::read(&version) {
                        self.events.send(ClusterEvent::Reached { kind: self.kind, version }).await?;
                    }
                    reading.reached(version);
                    continue;
                }
            };
            self.events
                .send(ClusterEvent::Changed { change, status, version: CacheVersion::read(&version), at })
                .await?;
            reading.reached(version);
        }
        if frames.fell_silent() {
            debug!("nothing came for too long, the connection is taken for dead");
            self.metrics.watch_silent(self.kind);
        }
        Ok(())
    }
}
