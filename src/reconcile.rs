//! The reconcile loop: what the cluster and the store tell comes in, transactions and statuses go out.
//!
//! One task owns everything: what should be ([`Desired`]), what is ([`Mirror`]) and the set of ids that may need work. It
//! asks for each id what is to be done now ([`crate::plan`]), keeps a few transactions in flight, and takes their answers
//! into the mirror. It is level-triggered: no order of events matters, and any id can be looked at any number of times.
//! There is no fixed delay: the first change after quiet goes out at once, and while transactions are in flight changes
//! gather.
//!
//! Nothing is written before every kind has been listed and the mirror is whole.

mod answers;
mod departures;
pub mod holds;
mod intake;
pub mod kind_guard;
mod metrics;
mod pass;
mod report;
mod standing;
#[cfg(test)]
mod tests;
mod work;

use crate::{
    clock,
    cluster::ClusterEvent,
    model::{
        names::Kind,
        places::{Directory, WorkId},
    },
    plan::{
        order::TxnNumber,
        pack::{Envelope, Limits},
    },
    retry::{Retry, RetryLimits},
    status::queue::StatusSink,
    store::{
        Store,
        follow::StoreEvent,
        mirror::Mirror,
        txn::{Action, Commit, CommitError, Fence, Revision, Txn, Write},
    },
    translate::desired::Desired,
};
use departures::Departures;
use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
pub use metrics::Metrics;
use report::Report;
pub use report::{IdleHook, Statuses};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    future::{pending, ready},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use work::Work;

/// What the loop needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The prefix in etcd, without a trailing slash.
    pub prefix: Arc<str>,
    /// The instance named in our seals.
    pub instance: Arc<str>,
    /// `spec.controllerName` of the GatewayClasses that are ours.
    pub controller_name: Arc<str>,
    /// How large a transaction may be.
    pub limits: Limits,
    /// How many transactions may be in flight.
    pub in_flight_max: usize,
    /// How long a pool stays after its last user has left: data planes apply directories one after another.
    pub pool_linger: Duration,
    /// How delays grow when writing goes wrong.
    pub retry: RetryLimits,
}

impl Settings {
    /// With everything that has a default at it.
    #[must_use]
    pub fn new(prefix: Arc<str>, instance: Arc<str>, controller_name: Arc<str>) -> Self {
        Self {
            prefix,
            instance,
            controller_name,
            limits: Limits::DEFAULT,
            // Measured on a local etcd: 4 in flight write half as much again as 1, and 16 no more than 4.
            in_flight_max: 4,
            // Data planes follow within 40 ms as a rule.
            pool_linger: Duration::from_secs(1),
            retry: RetryLimits::STORE,
        }
    }
}

/// Where the loop hears from. Both queues are bounded: when the loop does not keep up, their senders wait.
#[derive(Debug)]
pub struct Inputs {
    /// What the cluster tells.
    pub cluster: mpsc::Receiver<ClusterEvent>,
    /// What the store tells.
    pub store: mpsc::Receiver<StoreEvent>,
}

/// How far the loop has come; what `/readyz` is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four questions with four answers")]
pub struct Progress {
    /// Kinds that have not been listed yet, in order.
    pub waiting_for: Vec<Kind>,
    /// Whether everything in our directories of etcd has been read.
    pub mirror_whole: bool,
    /// Whether etcd is being followed right now.
    pub following: bool,
    /// Whether the loop writes: nothing is waited for, and the mirror is whole.
    pub ready: bool,
    /// Whether etcd is as it should be, and nothing is under way or waiting for its time.
    pub settled: bool,
}

/// How many events are taken in before the next pass: enough to gather a burst, and a few milliseconds of work at most.
const EVENTS_PER_PASS: usize = 1_024;

/// The reconcile loop. `K` is where statuses go.
pub struct Reconciler<S, K> {
    store: Arc<S>,
    inputs: Inputs,
    progress: watch::Sender<Progress>,
    state: State<K>,
}

/// Everything the loop knows.
struct State<K> {
    settings: Settings,
    desired: Desired,
    mirror: Mirror,
    work: Work,
    report: Report<K>,
    metrics: Metrics,
    /// Kinds that have not been listed yet.
    waiting_for: BTreeSet<Kind>,
    /// Since when etcd is followed without a break; `None` while it is not.
    following_since: Option<Instant>,
    /// When the earliest change came whose consequences have not been worked out yet.
    noted_since: Option<Instant>,
    /// When the earliest change came that a document may need work for; what a transaction in flight answers to is with it.
    changed_at: HashMap<WorkId, Instant>,
    departures: Departures,
    /// Documents found edited or deleted by somebody else, and not put right yet.
    drifted: HashSet<WorkId>,
    outage: Option<Outage>,
    /// Whether the sink has been told that nothing is to be done.
    told_idle: bool,
    envelope: Envelope,
}

/// The store refuses, or does not answer. Until it does again, one transaction at a time is sent.
#[derive(Debug)]
struct Outage {
    retry: Retry,
    /// When the next one may be sent.
    until: Instant,
}

impl<S: Store, K: StatusSink> Reconciler<S, K> {
    /// A loop that has heard nothing yet.
    pub fn new(
        settings: Settings,
        desired: Desired,
        store: Arc<S>,
        inputs: Inputs,
        statuses: Statuses<K>,
        observers: (Metrics, watch::Sender<Progress>),
    ) -> Self {
        let (metrics, progress) = observers;
        Self { store, inputs, progress, state: State::new(settings, desired, statuses, metrics) }
    }

    /// Runs until `stop`, or until one of the inputs is closed.
    ///
    /// Transactions in flight when it ends may or may not be applied; the next run finds out by reading.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut in_flight = FuturesUnordered::new();
        loop {
            let now = clock::now();
            let more = self.state.pass(now, |number, txn| in_flight.push(commit(self.store.clone(), number, txn)));
            self.tell_progress();
            let wake = self.state.next_wake(now);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some((number, answer)) = in_flight.next(), if !in_flight.is_empty() => {
                    self.state.answered(number, answer, clock::now());
                }
                event = self.inputs.store.recv() => match event {
                    Some(event) => self.state.store_event(event, clock::now()),
                    None => return tracing::error!("nobody follows the store any more; the loop ends"),
                },
                event = self.inputs.cluster.recv() => match event {
                    Some(event) => self.state.cluster_event(event),
                    None => return tracing::error!("nobody follows the cluster any more; the loop ends"),
                },
                () = sleep_until(wake) => {}
                () = ready(()), if more => {}
            }
            while let Some(Some((number, answer))) = in_flight.next().now_or_never() {
                self.state.answered(number, answer, clock::now());
            }
            self.take_what_is_there();
        }
    }

    fn take_what_is_there(&mut self) {
        for _ in 0..EVENTS_PER_PASS {
            match self.inputs.store.try_recv() {
                Ok(event) => self.state.store_event(event, clock::now()),
                Err(_) => break,
            }
        }
        for _ in 0..EVENTS_PER_PASS {
            match self.inputs.cluster.try_recv() {
                Ok(event) => self.state.cluster_event(event),
                Err(_) => break,
            }
        }
    }

    fn tell_progress(&self) {
        let progress = self.state.progress();
        self.progress.send_if_modified(|told| {
            let modified = *told != progress;
            *told = progress;
            modified
        });
    }
}

async fn commit<S: Store>(store: Arc<S>, number: TxnNumber, txn: Txn) -> (TxnNumber, Result<Commit, CommitError>) {
    (number, store.commit(txn).await)
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => pending().await,
    }
}

impl<K: StatusSink> State<K> {
    fn new(settings: Settings, desired: Desired, statuses: Statuses<K>, metrics: Metrics) -> Self {
        let mut work = Work::new(settings.retry);
        for directory in Directory::ALL {
            work.add(WorkId::placeholder(directory));
        }
        Self {
            mirror: Mirror::new(settings.instance.clone()),
            work,
            report: Report::new(statuses, settings.controller_name.clone()),
            settings,
            desired,
            metrics,
            waiting_for: Kind::ALL.into_iter().collect(),
            following_since: None,
            changed_at: HashMap::new(),
            departures: Departures::default(),
            drifted: HashSet::new(),
            noted_since: None,
            outage: None,
            told_idle: false,
            envelope: Envelope {
                fence: Fence { key: "/".into(), created: Revision::ABSENT },
                lane: Write { key: "/".into(), expected: Revision::ABSENT, action: Action::Delete },
            },
        }
    }

    /// Whether the loop may write.
    fn ready(&self) -> bool {
        self.waiting_for.is_empty() && self.mirror.whole()
    }

    fn progress(&self) -> Progress {
        Progress {
            waiting_for: self.waiting_for.iter().copied().collect(),
            mirror_whole: self.mirror.whole(),
            following: self.following_since.is_some(),
            ready: self.ready(),
            settled: self.ready() && self.work.settled(),
        }
    }
}
