//! The reconcile loop: what the cluster and the store tell comes in, transactions and statuses go out.
//!
//! One task owns everything: what should be ([`Desired`]), what is ([`Mirrors`]) and the set of ids that may need work. It
//! asks for each id what is to be done now ([`crate::plan`]), keeps a few transactions in flight, and takes their answers
//! into the mirror. It is level-triggered: no order of events matters, and any id can be looked at any number of times.
//! There is no fixed delay: the first change after quiet goes out at once, and while transactions are in flight changes
//! gather.
//!
//! Only the leader writes, and only once every kind has been listed, the mirror is whole, and what it knows is no older than
//! what was written last (`term`).

mod answers;
mod audit;
mod control;
mod departures;
mod guards;
pub mod holds;
mod intake;
pub mod kind_guard;
mod metrics;
mod overlaps;
mod parts;
mod pass;
mod planes;
mod progress;
mod report;
mod standing;
mod strays;
mod term;
#[cfg(test)]
mod tests;
mod tidy;
mod work;

use crate::{
    clock,
    leader::Term,
    model::{
        names::Kind,
        places::{Plane, WorkId},
        versions::CacheVersion,
    },
    plan::order::{Left, TxnNumber},
    retry::{Retry, RetryLimits},
    status::queue::StatusSink,
    store::{
        ReadError, Store, StoreId,
        checkpoint::judge::Stop,
        control::ControlKeys,
        follow::list::list,
        mirrors::Mirrors,
        records::{Records, read_records},
        txn::{Commit, CommitError, Txn},
    },
    translate::desired::Desired,
};
use audit::Listed;
use control::{Claims, Control, Release};
use departures::Departures;
use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use holds::Holds;
use kind_guard::KindGuard;
pub use metrics::Metrics;
use overlaps::Overlaps;
pub use parts::{Inputs, Outputs, Settings};
pub use progress::{Progress, Role, Waiting};
use report::Report;
pub use report::{IdleHook, Statuses};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    future::pending,
    sync::Arc,
    time::Instant,
};
use term::Phase;
use tokio::{sync::watch, task::yield_now};
use tokio_util::sync::CancellationToken;
use work::Work;

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
    mirror: Mirrors,
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
    /// Whether etcd was found to be another than the mirror's; until it has been read anew.
    doubted: bool,
    /// Kinds that have not been listed yet, and why, as far as known.
    waiting_for: BTreeMap<Kind, Option<Arc<str>>>,
    /// Kinds that are not served.
    not_served: BTreeSet<Kind>,
    /// Up to which version each kind is known.
    versions: BTreeMap<Kind, CacheVersion>,
    /// The last list that was asked for of each kind and has come.
    tickets: BTreeMap<Kind, u64>,
    next_ticket: u64,
    /// Who has written which data plane, as far as taken into account.
    claims: BTreeMap<Plane, Claims>,
    /// Releases that were cleared, until the watch says so.
    cleared: BTreeSet<Release>,
    holds: Holds,
    guard: KindGuard,
    /// Since when each data plane is followed without a break.
    following_since: BTreeMap<Plane, Instant>,
    /// The data planes that this instance has recorded in etcd, with their names.
    recorded: BTreeMap<Plane, Arc<str>>,
    /// Documents of data planes that have not been read yet.
    unread: BTreeSet<WorkId>,
    /// Data planes whose documents we may not write, and when to try again.
    resting: BTreeMap<Plane, Outage>,
    /// Data planes that cannot be read for now.
    unreachable: BTreeSet<Plane>,
    /// Documents that are to be deleted once their data plane is served from elsewhere.
    leaving: BTreeSet<WorkId>,
    /// When the earliest change came whose consequences have not been worked out yet.
    noted_since: Option<Instant>,
    /// When the earliest change came that a document may need work for; what a transaction in flight answers to is with it.
    changed_at: HashMap<WorkId, Instant>,
    departures: Departures,
    /// Strays that are not deleted before the control keys have been read again.
    unjudged: BTreeSet<WorkId>,
    /// Documents that are not as they are wanted, and left so.
    left: HashMap<WorkId, Left>,
    /// Documents found edited or deleted by somebody else, and not put right yet.
    drifted: HashSet<WorkId>,
    outage: Option<Outage>,
    overlaps: Overlaps,
    /// Whether a stream_route of somebody else that takes connections of any port has come, gone or changed, and slots have
    /// not been looked at since.
    reached_everywhere: bool,
    /// Whether the sink has been told that nothing is to be done.
    told_idle: bool,
}

/// The store refuses, or does not answer. Until it does again, one transaction at a time is sent.
#[derive(Debug)]
struct Outage {
    retry: Retry,
    /// When the next one may be sent.
    until: Instant,
    /// What was said of it.
    said: BTreeSet<&'static str>,
}

impl Outage {
    /// It begins now.
    fn begun(limits: RetryLimits, now: Instant) -> Self {
        Self { retry: Retry::new(limits), until: now, said: BTreeSet::new() }
    }

    /// It goes on. What was in flight together fails together: that is one failure.
    fn goes_on(&mut self, now: Instant) {
        if self.until <= now {
            self.until = now + self.retry.next_delay();
        }
    }
}

/// What the loop wants done with the store.
#[derive(Debug)]
enum Task {
    Commit(TxnNumber, Txn),
    ReadLanes(Term),
    List(Term, BTreeSet<Plane>),
}

/// What that came to.
#[derive(Debug)]
enum Answer {
    Committed(TxnNumber, Result<Commit, CommitError>),
    Lanes(Term, Result<Records, ReadError>),
    Listed(Term, Vec<(Plane, Listed)>),
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
        let control = self.state.settings.control.clone();
        let mut under_way = FuturesUnordered::new();
        loop {
            let now = clock::now();
            let more = self.state.pass(now, |task| {
                under_way.push(execute(self.store.clone(), control.clone(), task));
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
                // Everybody else on this thread has a turn first.
                () = yield_now(), if more => {}
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
async fn execute<S: Store>(store: Arc<S>, control: ControlKeys, task: Task) -> Answer {
    match task {
        Task::Commit(number, txn) => Answer::Committed(number, store.commit(txn).await),
        Task::ReadLanes(term) => Answer::Lanes(term, read_records(&*store, &control).await),
        Task::List(term, planes) => {
            let mut listed = Vec::with_capacity(planes.len());
            for plane in planes {
                listed.push((plane, list(&*store, plane).await));
            }
            Answer::Listed(term, listed)
        }
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => pending().await,
    }
}

impl<K: StatusSink> State<K> {
    fn new(settings: Settings, outputs: Outputs, desired: Desired, statuses: Statuses<K>, metrics: Metrics) -> Self {
        let work = Work::new(settings.retry);
        let mut state = Self {
            mirror: Mirrors::new(settings.instance.clone()),
            control: Control::new(settings.instance.clone()),
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
            doubted: false,
            waiting_for: Kind::ALL.into_iter().map(|kind| (kind, None)).collect(),
            not_served: BTreeSet::new(),
            versions: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_ticket: 0,
            claims: BTreeMap::new(),
            cleared: BTreeSet::new(),
            guard: KindGuard::default(),
            following_since: BTreeMap::new(),
            recorded: BTreeMap::new(),
            unread: BTreeSet::new(),
            resting: BTreeMap::new(),
            unreachable: BTreeSet::new(),
            leaving: BTreeSet::new(),
            noted_since: None,
            changed_at: HashMap::new(),
            departures: Departures::default(),
            unjudged: BTreeSet::new(),
            left: HashMap::new(),
            drifted: HashSet::new(),
            outage: None,
            overlaps: Overlaps::default(),
            reached_everywhere: false,
            told_idle: false,
        };
        state.follow_planes();
        state
    }

    /// Whether everything is known that what should be is worked out from.
    fn warm(&self) -> bool {
        self.waiting_for.is_empty() && self.mirror.whole(self.desired.default_plane())
    }

    fn progress(&self) -> Progress {
        let waiting = Waiting {
            kinds: self.waiting_for.clone(),
            identity: self.identity.is_none(),
            documents: !self.mirror.whole(self.desired.default_plane()) || self.doubted,
            control: !self.control.whole(),
        };
        let role = match &self.phase {
            Phase::Standby { leader } => Role::Standby { leader: leader.clone() },
            Phase::TakingOver(_) => Role::TakingOver,
            Phase::Leading(_) => Role::Leading,
        };
        Progress {
            waiting,
            following: self.mirror.planes().all(|plane| self.following_since.contains_key(&plane)),
            halted: self.halted.as_ref().map(|stop| stop.to_string().into()),
            settled: role == Role::Leading && self.work.settled(),
            role,
        }
    }
}
