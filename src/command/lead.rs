//! Leading for the length of one command: campaign like a replica, do something under the fence, give the lead back.
//!
//! Who leads at the moment is told to the caller, so that a person who waits knows for whom. A command that is killed while
//! it leads holds others up for 15 s at most.

use crate::{
    clock,
    retry::{Retry, RetryLimits},
    store::{
        ReadError, Scope, Store, Watch as _,
        control::ControlKeys,
        lease::{Claim, LeaseError, LeaseId, Leases},
        records::{LeaderRecord, read_leader},
        txn::{Fence, Revision},
    },
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A few round trips fit into it many times over, and so long a replica waits for a command that was killed.
const LEASE_TIME: Duration = Duration::from_secs(15);

/// This process leads.
pub struct Turn<'a, S> {
    store: &'a S,
    lease: LeaseId,
    /// What every transaction carries.
    pub fence: Fence,
}

/// This process does not lead.
#[derive(Debug, thiserror::Error)]
pub enum LeadError {
    /// Somebody else did, all the time.
    #[error(
        "{leader} leads, and did not end within {waited:?}: end it first (in Kubernetes: scale its Deployment to 0 replicas), \
         or wait longer with --timeout"
    )]
    Led {
        /// Who.
        leader: Arc<str>,
        /// How long was waited.
        waited: Duration,
    },
    /// etcd cannot be read.
    #[error("cannot ask etcd who leads")]
    Unreadable(#[source] ReadError),
    /// etcd did not let this process lead.
    #[error("cannot lead: etcd gives no lease, or no key on it")]
    Unleased(#[source] LeaseError),
}

/// Leads, once nobody else does; waits for that for up to `patience`. `waiting` is called with whoever leads, once for each.
///
/// Dropping it half-way may leave the leader key there for 15 s.
pub async fn lead<'a, S: Store + Leases>(
    store: &'a S,
    keys: &ControlKeys,
    holder: &str,
    patience: Duration,
    mut waiting: impl FnMut(&str),
) -> Result<Turn<'a, S>, LeadError> {
    let began = clock::now();
    let mut retry = Retry::new(RetryLimits::STORE);
    let mut told: Option<LeaderRecord> = None;
    loop {
        let error = match read_leader(store, keys).await {
            Ok((Some(leader), read_at)) => {
                if told.as_ref() != Some(&leader) {
                    waiting(&leader.holder);
                }
                let left = left(began, patience);
                if left.is_zero() {
                    return Err(LeadError::Led { leader: leader.holder, waited: patience });
                }
                told = Some(leader);
                match tokio::time::timeout(left, gone(store, keys, read_at)).await {
                    Ok(Ok(())) | Err(_) => continue,
                    Ok(Err(error)) => LeadError::Unreadable(error),
                }
            }
            Ok((None, _)) => match claim(store, keys, holder).await {
                Ok(Some(turn)) => return Ok(turn),
                Ok(None) => continue,
                Err(error) => LeadError::Unleased(error),
            },
            // Nobody waits for an etcd that was never there.
            Err(error) if told.is_none() => return Err(LeadError::Unreadable(error)),
            Err(error) => LeadError::Unreadable(error),
        };
        if left(began, patience).is_zero() || matches!(error, LeadError::Unleased(LeaseError::Refused { .. })) {
            return Err(error);
        }
        tokio::time::sleep(retry.next_delay().min(left(began, patience))).await;
    }
}

fn left(began: Instant, patience: Duration) -> Duration {
    patience.saturating_sub(clock::now().saturating_duration_since(began))
}

/// Waits until the leader key, as it was at `read_at`, is gone.
async fn gone<S: Store>(store: &S, keys: &ControlKeys, read_at: Revision) -> Result<(), ReadError> {
    let mut watch = store.watch(&Scope::Key(keys.leader()), Revision(read_at.0 + 1)).await?;
    loop {
        if watch.next().await?.changes.iter().any(|change| change.value.is_none()) {
            return Ok(());
        }
    }
}

/// One try; `None` if somebody else was first. The key does not stay unless this won.
async fn claim<'a, S: Store + Leases>(
    store: &'a S,
    keys: &ControlKeys,
    holder: &str,
) -> Result<Option<Turn<'a, S>>, LeaseError> {
    let key = keys.leader();
    let lease = store.grant(LEASE_TIME).await?;
    let error = match store.claim(&key, holder.as_bytes(), lease).await {
        Ok(Claim::Won(created)) => return Ok(Some(Turn { store, lease, fence: Fence { key, created } })),
        Ok(Claim::Held { .. }) => None,
        Err(error) => Some(error),
    };
    // If it stays, it ends by itself.
    let _ = store.revoke(lease).await;
    error.map_or(Ok(None), Err)
}

impl<S: Store + Leases> Turn<'_, S> {
    /// Puts the end of the turn off by 15 s. If that is too late, the fence says so.
    pub async fn prolong(&self) {
        let _ = self.store.renew(self.lease).await;
    }

    /// Gives the lead back. If etcd cannot be told, it goes by itself after 15 s.
    pub async fn end(self) -> Result<(), LeaseError> {
        self.store.revoke(self.lease).await
    }
}
