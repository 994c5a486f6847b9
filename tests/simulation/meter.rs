//! How much replicas have done in one run: requests and polls go in; once there are more than any run needs, out comes that
//! somebody spins. From then on nobody gets any further, so that the run ends although virtual time may never pass.

use parking_lot::Mutex;
use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{sync::Notify, time::Instant};

/// More requests than any run has by far: they have up to a thousand.
const REQUESTS_MAX: u64 = 20_000;

/// More polls of replicas than any run has by far: they have up to ten thousand.
const POLLS_MAX: u64 = 200_000;

/// More polls of replicas at one moment, without anything being asked, than any run needs by far: they have some
/// ten. In one poll a replica may go round its loop a hundred times, until its runtime takes the turn from it.
const IDLE_POLLS_MAX: u64 = 1_000;

/// Counts for one run. Clones count together.
#[derive(Clone, Default)]
pub(crate) struct Meter(Arc<Counts>);

#[derive(Default)]
struct Counts {
    n_requests: AtomicU64,
    n_polls: AtomicU64,
    idle: Mutex<Idle>,
    over: Notify,
}

/// Polls since something was asked of the store, or time went on.
#[derive(Default)]
struct Idle {
    at: Option<Instant>,
    n_requests: u64,
    n_polls: u64,
}

impl Meter {
    /// Somebody asks something of the store. Does not return when that is too much.
    pub(crate) async fn request(&self) {
        if self.0.n_requests.fetch_add(1, Ordering::Relaxed) >= REQUESTS_MAX {
            self.0.over.notify_one();
            pending::<()>().await;
        }
    }

    /// Somebody is polled; gives whether that is too much.
    pub(crate) fn poll(&self) -> bool {
        let n_polls = self.0.n_polls.fetch_add(1, Ordering::Relaxed);
        let over = n_polls >= POLLS_MAX || self.idle() >= IDLE_POLLS_MAX;
        if over {
            self.0.over.notify_one();
        }
        over
    }

    /// How many polls there have been at this moment since something was asked.
    fn idle(&self) -> u64 {
        let (now, n_asked) = (Instant::now(), self.0.n_requests.load(Ordering::Relaxed));
        let mut idle = self.0.idle.lock();
        if (idle.at, idle.n_requests) != (Some(now), n_asked) {
            *idle = Idle { at: Some(now), n_requests: n_asked, n_polls: 0 };
        }
        idle.n_polls += 1;
        idle.n_polls
    }

    /// What to say once it was too much; waits for that.
    pub(crate) async fn spins(&self) -> String {
        self.0.over.notified().await;
        let (n_requests, n_polls) = (self.0.n_requests.load(Ordering::Relaxed), self.0.n_polls.load(Ordering::Relaxed));
        let n_idle = self.0.idle.lock().n_polls;
        format!(
            "somebody spins: {n_requests} requests to etcd and {n_polls} polls of replicas in one run, the last {n_idle} at one \
             moment without a request"
        )
    }
}
