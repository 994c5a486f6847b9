//! The reconcile loop: what the cluster and the store tell comes in, transactions and statuses go out.
//!
//! One task owns everything: what should be ([`Desired`]), what is ([`Mirror`]) and the set of ids that may need work. It
//! asks for each id what is to be done now ([`crate::plan`]), keeps a few transactions in flight, and takes their answers
//! into the mirror. It is level-triggered: no order of events matters, and any id can be looked at any number of times.
//! There is no fixed delay: the first change after quiet goes out at once, and while transactions are in flight changes
//! gather.
//!
//! Only the leader writes, and only once every kind has been listed, the mirror is whole, and what it knows is no older than
//! what was written last ([`term`]).

mod answers;
mod audit;
mod control;
mod departures;
mod guards;
pub mod holds;
mod intake;
pub mod kind_guard;
mod metrics;
mod pass;
mod report;
mod standing;
mod term;
#[cfg(test)]
mod tests;
mod tidy;
mod work;

use crate::{
    clock,
    cluster::{ClusterEvent, Relist},
    leader::{Leadership, Resign, Term},
    model::{
        facts::DriftPolicy,
        names::Kind,
        places::{Directory, WorkId},
        versions::CacheVersion,
    },
    plan::{
        order::{Left, TxnNumber},
        pack::Limits,
    },
    retry::{Retry, RetryLimits},
    status::queue::StatusSink,
    store::{
        Content, PagePlace, ReadError, Store, StoreId,
        audit::Listing,
        checkpoint::judge::Stop,
        control::ControlKeys,
        follow::{Reread, StoreEvent, control::ControlEvent, list::list},
        mirror::Mirror,
        txn::{Commit, CommitError, Txn},
    },
    translate::desired::Desired,
};
use control::{Claims, Control, Release};
use departures::Departures;
use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use holds::Holds;
use kind_guard::KindGuard;
pub use metrics::Metrics;
use report::Report;
pub use report::{IdleHook, Statuses};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    future::{pending, ready},
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};
use term::{LaneKeys, Phase, lane_number};
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
    /// Where this instance's own keys are.
    pub control: ControlKeys,
    /// The name of this replica.
    pub holder: Arc<str>,
    /// How many transactions may be in flight: the number of lanes.
    pub in_flight_max: NonZeroU32,
    /// How long a pool stays after its last user has left: data planes apply directories one after another.
    pub pool_linger: Duration,
    /// How often every key and its revision is compared with what the watch told.
    pub audit_interval: Duration,
    /// How long a difference may be mere lag.
    pub audit_grace: Duration,
    /// How long a leader may have work and write nothing before it gives way.
    pub write_stall: Duration,
    /// What is done about edited documents whose route does not say.
    pub drift: DriftPolicy,
    /// How long a change that would stop most of a data plane is held; `None`: not at all.
    pub hold_time: Option<Duration>,
    /// How delays grow when writing goes wrong.
    pub retry: RetryLimits,
}

impl Settings {
    /// With everything that has a default at it.
    #[must_use]
    pub fn new(prefix: Arc<str>, control: ControlKeys, holder: Arc<str>, controller_name: Arc<str>) -> Self {
        Self {
            prefix,
            instance: control.instance().clone(),
            controller_name,
            control,
            holder,
            limits: Limits::DEFAULT,
            in_flight_max: IN_FLIGHT,
            // Data planes follow within 40 ms as a rule.
            pool_linger: Duration::from_secs(1),
            audit_interval: Duration::from_mins(10),
            // A watch on a local network is milliseconds behind.
            audit_grace: Duration::from_secs(2),
            write_stall: Duration::from_mins(1),
            drift: DriftPolicy::Repair,
            hold_time: Some(Duration::from_hours(1)),
            retry: RetryLimits::STORE,
        }
    }
}

/// Measured on a local etcd: 4 in flight write half as much again as 1, and 16 no more than 4.
const IN_FLIGHT: NonZeroU32 = NonZeroU32::MIN.saturating_add(3);

/// Where the loop hears from. The queues are bounded: when the loop does not keep up, their senders wait.
#[derive(Debug)]
pub struct Inputs {
    /// What the cluster tells.
    pub cluster: mpsc::Receiver<ClusterEvent>,
    /// What the store tells of documents.
    pub store: mpsc::Receiver<StoreEvent>,
    /// What the store tells of the controller's own keys.
    pub control: mpsc::Receiver<ControlEvent>,
    /// Whether this replica leads.
    pub leadership: watch::Receiver<Leadership>,
}

/// Whom the loop asks for something.
#[derive(Debug)]
pub struct Outputs {
    /// Lists a kind anew.
    pub relists: mpsc::UnboundedSender<Relist>,
    /// Read the documents in etcd anew, and the controller's own keys.
    pub rereads: [Reread; 2],
    /// Whether this replica may campaign.
    pub fit: watch::Sender<bool>,
    /// Gives leading up.
    pub resign: mpsc::Sender<Resign>,
}

/// How far the loop has come; what `/readyz` is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What is waited for before this replica can lead.
    pub waiting: Waiting,
    /// Whether etcd is being followed right now.
    pub following: bool,
    /// Why this replica does not write until a person has decided, if so.
    pub halted: Option<Arc<str>>,
    /// Whether it writes.
    pub role: Role,
    /// Whether it writes, etcd is as it should be, and nothing is under way or waiting for its time.
    pub settled: bool,
}

/// What is waited for before this replica can lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Kinds that have not been listed yet, in order, with the reason where one is known.
    pub kinds: BTreeMap<Kind, Option<Arc<str>>>,
    /// Whether the cluster has not said which one it is.
    pub identity: bool,
    /// Whether the documents in etcd have not been read yet.
    pub documents: bool,
    /// Whether the controller's own keys in etcd have not been read yet.
    pub control: bool,
}

/// Whether this replica writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Another one does, or nobody.
    Standby {
        /// Its name, if known.
        leader: Option<Arc<str>>,
    },
    /// It is about to.
    TakingOver,
    /// It does.
    Leading,
}

impl Default for Role {
    fn default() -> Self {
        Self::Standby { leader: None }
    }
}

impl Progress {
    /// Whether this replica leads, or could at any moment.
    #[must_use]
    pub fn fit(&self) -> bool {
        self.waiting == Waiting::default() && self.halted.is_none()
    }
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
    outputs: Outputs,
    desired: Desired,
    mirror: Mirror,
    control: Control,
    work: Work,
    report: Report<K>,
    metrics: Metrics,
    phase: Phase,
    /// Why nothing is written until a person has decided.
    halted: Option<Stop>,
    /// Which cluster this is.
    identity: Option<Arc<str>>,
    /// Which etcd this is.
    store_id: Option<StoreId>,
    /// Kinds that have not been listed yet, and why, as far as known.
    waiting_for: BTreeMap<Kind, Option<Arc<str>>>,
    /// Kinds that are not served.
    not_served: BTreeSet<Kind>,
    /// Up to which version each kind is known.
    versions: BTreeMap<Kind, CacheVersion>,
    /// The last list that was asked for of each kind and has come.
    tickets: BTreeMap<Kind, u64>,
    next_ticket: u64,
    /// Who has written the prefix, as far as taken into account.
    claims: Claims,
    /// Releases that were cleared, until the watch says so.
    cleared: BTreeSet<Release>,
    holds: Holds,
    guard: KindGuard,
    /// Since when etcd is followed without a break; `None` while it is not.
    following_since: Option<Instant>,
    /// When the earliest change came whose consequences have not been worked out yet.
    noted_since: Option<Instant>,
    /// When the earliest change came that a document may need work for; what a transaction in flight answers to is with it.
    changed_at: HashMap<WorkId, Instant>,
    departures: Departures,
    /// Documents that are not as they are wanted, and left so.
    left: HashMap<WorkId, Left>,
    /// Documents found edited or deleted by somebody else, and not put right yet.
    drifted: HashSet<WorkId>,
    outage: Option<Outage>,
    /// Whether the sink has been told that nothing is to be done.
    told_idle: bool,
}

/// The store refuses, or does not answer. Until it does again, one transaction at a time is sent.
#[derive(Debug)]
struct Outage {
    retry: Retry,
    /// When the next one may be sent.
    until: Instant,
}

/// What the loop wants done with the store.
#[derive(Debug)]
enum Task {
    Commit(TxnNumber, Txn),
    ReadLanes(Term),
    List(Term),
}

/// What that came to.
#[derive(Debug)]
enum Answer {
    Committed(TxnNumber, Result<Commit, CommitError>),
    Lanes(Term, Result<LaneKeys, ReadError>),
    Listed(Term, Result<(StoreId, Listing), ReadError>),
}

impl<S: Store, K: StatusSink> Reconciler<S, K> {
    /// A loop that has heard nothing yet.
    pub fn new(
        settings: Settings,
        desired: Desired,
        store: Arc<S>,
        (inputs, outputs): (Inputs, Outputs),
        statuses: Statuses<K>,
        observers: (Metrics, watch::Sender<Progress>),
    ) -> Self {
        let (metrics, progress) = observers;
        Self { store, inputs, progress, state: State::new(settings, outputs, desired, statuses, metrics) }
    }

    /// Runs until `stop`, or until one of the inputs is closed.
    ///
    /// Transactions in flight when it ends may or may not be applied; the next leader finds out by reading the lanes.
    pub async fn run(mut self, stop: CancellationToken) {
        let (prefix, control) = (self.state.settings.prefix.clone(), self.state.settings.control.clone());
        let mut under_way = FuturesUnordered::new();
        loop {
            let now = clock::now();
            let more = self.state.pass(now, |task| {
                under_way.push(execute(self.store.clone(), prefix.clone(), control.clone(), task));
            });
            self.tell_progress();
            let wake = self.state.next_wake(now);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = self.inputs.leadership.changed() => match changed {
                    Ok(()) => {
                        let leadership = self.inputs.leadership.borrow_and_update().clone();
                        self.state.leadership(leadership, clock::now());
                    }
                    Err(_) => return tracing::error!("nobody campaigns any more; the loop ends"),
                },
                Some(answer) = under_way.next(), if !under_way.is_empty() => {
                    self.state.task_answered(answer, clock::now());
                }
                event = self.inputs.control.recv() => match event {
                    Some(event) => self.state.control_event(event, clock::now()),
                    None => return tracing::error!("nobody follows the control keys any more; the loop ends"),
                },
                event = self.inputs.store.recv() => match event {
                    Some(event) => self.state.store_event(event, clock::now()),
                    None => return tracing::error!("nobody follows the store any more; the loop ends"),
                },
                event = self.inputs.cluster.recv() => match event {
                    Some(event) => self.state.cluster_event(event, clock::now()),
                    None => return tracing::error!("nobody follows the cluster any more; the loop ends"),
                },
                () = sleep_until(wake) => {}
                () = ready(()), if more => {}
            }
            while let Some(Some(answer)) = under_way.next().now_or_never() {
                self.state.task_answered(answer, clock::now());
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
                Ok(event) => self.state.cluster_event(event, clock::now()),
                Err(_) => break,
            }
        }
    }

    fn tell_progress(&self) {
        let fit = self.state.fit();
        self.state.outputs.fit.send_if_modified(|told| std::mem::replace(told, fit) != fit);
        let progress = self.state.progress();
        self.progress.send_if_modified(|told| {
            let modified = *told != progress;
            *told = progress;
            modified
        });
    }
}

/// Does what the loop wants done. Dropping it half-way leaves a transaction unanswered.
async fn execute<S: Store>(store: Arc<S>, prefix: Arc<str>, control: ControlKeys, task: Task) -> Answer {
    match task {
        Task::Commit(number, txn) => Answer::Committed(number, store.commit(txn).await),
        Task::ReadLanes(term) => Answer::Lanes(term, read_lanes(&*store, &control).await),
        Task::List(term) => Answer::Listed(term, list(&*store, &prefix).await),
    }
}

/// Every lane key of the instance.
async fn read_lanes<S: Store>(store: &S, control: &ControlKeys) -> Result<LaneKeys, ReadError> {
    let (scope, mut place, mut lanes) = (control.lanes(), Some(PagePlace::First), LaneKeys::new());
    while let Some(at) = place {
        let page = store.page(&scope, Content::Values, at).await?;
        lanes.extend(page.entries.into_iter().filter_map(|entry| {
            let number = lane_number(&control.read(&entry.key)?.purpose)?;
            Some((number, entry.mod_revision, entry.value))
        }));
        place = page.next;
    }
    Ok(lanes)
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => pending().await,
    }
}

impl<K: StatusSink> State<K> {
    fn new(settings: Settings, outputs: Outputs, desired: Desired, statuses: Statuses<K>, metrics: Metrics) -> Self {
        let mut work = Work::new(settings.retry);
        for directory in Directory::ALL {
            work.add(WorkId::placeholder(directory));
        }
        Self {
            mirror: Mirror::new(settings.instance.clone()),
            control: Control::new(settings.instance.clone(), settings.prefix.clone()),
            work,
            report: Report::new(statuses, settings.controller_name.clone()),
            holds: Holds::new(settings.hold_time.unwrap_or_default()),
            settings,
            outputs,
            desired,
            metrics,
            phase: Phase::Standby { leader: None },
            halted: None,
            identity: None,
            store_id: None,
            waiting_for: Kind::ALL.into_iter().map(|kind| (kind, None)).collect(),
            not_served: BTreeSet::new(),
            versions: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_ticket: 0,
            claims: Claims::default(),
            cleared: BTreeSet::new(),
            guard: KindGuard::default(),
            following_since: None,
            noted_since: None,
            changed_at: HashMap::new(),
            departures: Departures::default(),
            left: HashMap::new(),
            drifted: HashSet::new(),
            outage: None,
            told_idle: false,
        }
    }

    /// Whether everything is known that what should be is worked out from.
    fn warm(&self) -> bool {
        self.waiting_for.is_empty() && self.mirror.whole()
    }

    fn progress(&self) -> Progress {
        let waiting = Waiting {
            kinds: self.waiting_for.clone(),
            identity: self.identity.is_none(),
            documents: !self.mirror.whole(),
            control: !self.control.whole(),
        };
        let role = match &self.phase {
            Phase::Standby { leader } => Role::Standby { leader: leader.clone() },
            Phase::TakingOver(_) => Role::TakingOver,
            Phase::Leading(_) => Role::Leading,
        };
        Progress {
            waiting,
            following: self.following_since.is_some(),
            halted: self.halted.as_ref().map(|stop| stop.to_string().into()),
            settled: role == Role::Leading && self.work.settled(),
            role,
        }
    }
}
