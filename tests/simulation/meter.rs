//! How much replicas have done in one run: requests and polls go in; once there are more than any run needs, out comes that
//! somebody spins. From then on nobody gets any further, so that the run ends although virtual time may never pass.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::Notify;

/// More requests than any run has by far: they have up to a thousand.
const REQUESTS_MAX: u64 = 20_000;

/// More polls of replicas than any run has by far: they have up to ten thousand.
const POLLS_MAX: u64 = 200_000;

/// Counts for one run. Clones count together.
#[derive(Clone, Default)]
pub(crate) struct Meter(Arc<Counts>);

#[derive(Default)]
struct Counts {
    n_requests: AtomicU64,
    n_polls: AtomicU64,
    over: Notify,
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
        let over = self.0.n_polls.fetch_add(1, Ordering::Relaxed) >= POLLS_MAX;
        if over {
            self.0.over.notify_one();
        }
        over
    }

    /// What to say once it was too much; waits for that.
    pub(crate) async fn spins(&self) -> String {
        self.0.over.notified().await;
        let (n_requests, n_polls) = (self.0.n_requests.load(Ordering::Relaxed), self.0.n_polls.load(Ordering::Relaxed));
        format!("somebody spins: {n_requests} requests to etcd and {n_polls} polls of replicas in one run")
    }
}
