//! Requests to list a kind anew, on their way to whoever reads it.
//!
//! [`Relist`]s in, the latest ticket of each kind out, to be asked for at any time. Only the latest is kept: it stands for
//! all before it, so nothing piles up, and a request for a kind that nobody reads at the moment waits until somebody does.

use super::Relist;
use crate::model::names::Kind;
use std::{collections::BTreeMap, future::pending};
use tokio::sync::{mpsc, watch};

/// The latest ticket of each kind; a kind that was never asked for is absent.
pub(super) type Tickets = BTreeMap<Kind, u64>;

/// What was asked for so far. Clones see the same.
#[derive(Clone)]
pub(super) struct Relists {
    latest: watch::Receiver<Tickets>,
}

impl Relists {
    /// What `requests` ask for. The future does the forwarding, and must run beside whoever reads; it ends with `requests`.
    pub(super) fn of(mut requests: mpsc::UnboundedReceiver<Relist>) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, latest) = watch::channel(Tickets::new());
        let forward = async move {
            while let Some(Relist { kind, ticket }) = requests.recv().await {
                sender.send_if_modified(|tickets| {
                    let known = tickets.entry(kind).or_default();
                    let newer = ticket > *known;
                    *known = ticket.max(*known);
                    newer
                });
            }
        };
        (Self { latest }, forward)
    }

    /// The latest ticket of `kind`; 0 if it was never asked for.
    pub(super) fn latest(&self, kind: Kind) -> u64 {
        self.latest.borrow().get(&kind).copied().unwrap_or_default()
    }

    /// The latest ticket of every kind.
    pub(super) fn all(&self) -> Tickets {
        self.latest.borrow().clone()
    }

    /// Waits until `kind` is asked for with a later ticket than `taken`; for ever if that does not happen. May be dropped at
    /// any moment.
    pub(super) async fn beyond(&self, kind: Kind, taken: u64) {
        self.until(|tickets| tickets.get(&kind).is_some_and(|latest| *latest > taken)).await;
    }

    /// Waits until anything is asked for that is not in `taken`; for ever if that does not happen. May be dropped at any
    /// moment.
    pub(super) async fn beyond_all(&self, taken: &Tickets) {
        self.until(|tickets| tickets != taken).await;
    }

    async fn until(&self, asked: impl FnMut(&Tickets) -> bool) {
        // A copy, because waiting marks what was seen.
        if self.latest.clone().wait_for(asked).await.is_err() {
            pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn the_latest_ticket_of_a_kind_stands_for_all_before_it_and_outlives_who_asked() {
        let (ask, requests) = mpsc::unbounded_channel();
        let (relists, forward) = Relists::of(requests);
        for ticket in [3, 7, 5] {
            ask.send(Relist { kind: Kind::Service, ticket }).unwrap();
        }
        drop(ask);
        forward.await;
        assert_eq!((relists.latest(Kind::Service), relists.latest(Kind::Gateway)), (7, 0));
        assert_eq!(relists.all(), Tickets::from([(Kind::Service, 7)]));
        relists.beyond(Kind::Service, 6).await;
        relists.beyond_all(&Tickets::new()).await;
        // Nobody can ask any more: that is no request.
        assert!(relists.beyond(Kind::Service, 7).now_or_never().is_none());
        assert!(relists.beyond_all(&relists.all()).now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_request_wakes_only_whoever_waits_for_its_kind() {
        let (ask, requests) = mpsc::unbounded_channel();
        let (relists, forward) = Relists::of(requests);
        tokio::spawn(forward);
        ask.send(Relist { kind: Kind::Service, ticket: 1 }).unwrap();
        relists.beyond(Kind::Service, 0).await;
        assert!(relists.beyond(Kind::Gateway, 0).now_or_never().is_none());
    }
}
