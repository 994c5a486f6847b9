//! Following every data plane there is: which ones come in, what the followers of all of them tell comes out.
//!
//! Each has a follower of its own, so that one whose prefix cannot be read keeps nobody else waiting. It never gives up and never
//! writes.

use super::{PlaneEvent, Reread, follow};
use crate::{model::places::Plane, retry::RetryLimits, store::Store};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// The follower of one data plane; dropping this ends it.
struct Following {
    reread: Reread,
    stop: CancellationToken,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Follows the data planes that `planes` names until `stop`, or until nobody receives any more. One that is named anew is read
/// anew; of one that is not named any more nothing is told from some moment on.
pub async fn follow_planes<S: Store>(
    store: Arc<S>,
    mut planes: watch::Receiver<BTreeSet<Plane>>,
    events: mpsc::Sender<PlaneEvent>,
    reread: Reread,
    limits: RetryLimits,
    stop: CancellationToken,
) {
    let mut running: BTreeMap<Plane, Following> = BTreeMap::new();
    let mut followers: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
    loop {
        let named = planes.borrow_and_update().clone();
        running.retain(|plane, _| named.contains(plane));
        for plane in named {
            running.entry(plane).or_insert_with(|| {
                let following = Following { reread: Reread::default(), stop: stop.child_token() };
                let (reread, stop) = (following.reread.clone(), following.stop.clone());
                followers.push(follow(store.clone(), plane, events.clone(), reread, limits, stop).boxed());
                following
            });
        }
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = events.closed() => return,
                changed = planes.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                () = reread.0.notified() => running.values().for_each(|following| following.reread.ask()),
                Some(()) = followers.next(), if !followers.is_empty() => {}
            }
        }
    }
}
