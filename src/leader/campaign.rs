//! The campaign: is this replica fit, and who holds the leader key, come in; [`Leadership`] comes out.
//!
//! While the key is vacant and this replica fit, it takes a lease and creates the key on it. Whoever created it leads, until its
//! lease may have ended by its own clock, or the store says that the lease or the key is gone. Then it is a standby at once, and
//! begins anew with another lease. It never looks at what the leader writes, and never deletes a key but by ending its lease.
//!
//! A lease may outlive its key, and a watch may be silent without having ended, so nobody relies on the watch alone: a leader
//! reads the key with each renewal, a standby once in the time of a lease.

use super::{
    Again, Leadership, Metrics, Resign, Term,
    key::{Heard, LeaderKey},
};
use crate::{
    clock,
    retry::{Retry, RetryLimits},
    store::{
        Scope, Store,
        control::ControlKeys,
        follow::{Reread, control::follow_control},
        lease::{Claim, LeaseError, LeaseId, Leases},
        txn::{Fence, Revision},
    },
};
use std::{
    convert::Infallible,
    error::Error,
    fmt,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// What the campaign needs to know.
#[derive(Clone, Debug)]
pub struct CampaignSettings {
    /// Where the leader key is.
    pub keys: ControlKeys,
    /// This replica's name: the value of the leader key. Only people read it.
    pub holder: Arc<str>,
    /// How long a lease lasts without a renewal, in whole seconds, at least one: what is beyond is cut off.
    pub ttl: Duration,
    /// How delays grow when the store gives no lease.
    pub retry: RetryLimits,
}

/// How long giving a lease back may take at the end: longer than any healthy etcd needs, and short beside the time that a
/// process is given to end. A lease that was not given back ends by itself.
const RELEASE_MAX: Duration = Duration::from_secs(3);

/// How many events of the leader key may wait. It changes once for each term.
const KEY_EVENTS_MAX: usize = 16;

/// Campaigns, and leads, until `stop`; then gives the lease back within a few seconds and returns.
///
/// `fit` says whether this replica could lead; a closed channel means that it could not. A [`Resign`] for any other term than
/// the current one changes nothing. While `leadership` says `Leading`, the lease has not ended by this replica's clock, counted
/// from when its last renewal was sent. Dropping it half-way says `Standby` and leaves the lease to end by itself.
pub async fn campaign<S: Store + Leases>(
    store: Arc<S>,
    settings: CampaignSettings,
    fit: watch::Receiver<bool>,
    resign: mpsc::Receiver<Resign>,
    leadership: watch::Sender<Leadership>,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let (sender, events) = mpsc::channel(KEY_EVENTS_MAX);
    let keys = settings.keys.clone();
    let scope = Scope::Key(keys.leader());
    let reread = Reread::default();
    let following =
        follow_control(Arc::clone(&store), keys, scope, sender, reread.clone(), settings.retry, stop.clone());
    let mut campaign = Campaign {
        store,
        // Leases last whole seconds, and ours must not be taken for longer than it is.
        ttl: Duration::from_secs(settings.ttl.as_secs().max(1)),
        retry: Retry::new(settings.retry),
        settings,
        fit,
        resign,
        leadership,
        metrics,
        key: LeaderKey::new(events),
        reread,
        lease: None,
        last_term: None,
        not_before: clock::now(),
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        never = campaign.run() => match never {},
        () = following => {}
    }
    campaign.stand_by("stopping");
    // Nobody could do anything about it.
    let _ = tokio::time::timeout(RELEASE_MAX, campaign.release()).await;
}

struct Campaign<S> {
    store: Arc<S>,
    settings: CampaignSettings,
    ttl: Duration,
    fit: watch::Receiver<bool>,
    resign: mpsc::Receiver<Resign>,
    leadership: watch::Sender<Leadership>,
    metrics: Metrics,
    key: LeaderKey,
    /// Asks for the key to be read anew.
    reread: Reread,
    /// The lease that we hold, or may hold.
    lease: Option<LeaseId>,
    /// When the key of our last term was created.
    last_term: Option<Revision>,
    /// When to try again.
    not_before: Instant,
    retry: Retry,
}

/// A key created by us.
struct Won {
    lease: LeaseId,
    created: Revision,
    /// When the lease was asked for: its time counts from then at the latest.
    asked: Instant,
}

/// Why a term ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    TimeOver,
    LeaseGone,
    KeyGone,
    KeyTaken,
    StoreReplaced,
    Unfit,
    Resigned(Again),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimeOver => "the lease could not be renewed in time",
            Self::LeaseGone => "etcd has ended the lease",
            Self::KeyGone => "the leader key was deleted",
            Self::KeyTaken => "the leader key was written by somebody else",
            Self::StoreReplaced => "etcd was wiped, or restored from a backup",
            Self::Unfit => "this replica is not fit to lead any more",
            Self::Resigned(Again::AtOnce) => "this replica resigned, to begin anew",
            Self::Resigned(Again::Later) => "this replica resigned, to let another one lead",
        })
    }
}

/// What happens to a leader.
enum Event {
    TimeOver,
    Heard(Heard),
    Unfit,
    Resign(Resign),
    Renewed { sent: Instant, answer: Result<(), LeaseError> },
}

impl<S: Store + Leases> Campaign<S> {
    async fn run(&mut self) -> Infallible {
        loop {
            self.turn().await;
            match self.claim().await {
                Ok(Some(won)) => {
                    self.retry.reset();
                    self.lead(won).await;
                }
                Ok(None) => self.retry.reset(),
                Err(error) => {
                    unable_for_now(&error, self.retry.n_tries());
                    self.not_before = clock::now() + self.retry.next_delay();
                }
            }
            self.release().await;
        }
    }

    /// Waits until this replica is fit, the key vacant and the time come.
    async fn turn(&mut self) {
        let mut read_again = clock::now() + self.ttl;
        loop {
            self.tell_who_leads();
            let fit = *self.fit.borrow_and_update() && self.fit.has_changed().is_ok();
            let vacant = self.key.vacant();
            tokio::select! {
                biased;
                _ = self.key.heard() => {}
                Ok(()) = self.fit.changed() => {}
                // Of a term that has ended already.
                Some(_) = self.resign.recv() => {}
                () = tokio::time::sleep_until(self.not_before.into()), if fit && vacant => return,
                () = tokio::time::sleep_until(read_again.into()) => {
                    self.reread.ask();
                    read_again = clock::now() + self.ttl;
                }
            }
        }
    }

    /// Takes a lease and creates the key; `None` if somebody else has.
    async fn claim(&mut self) -> Result<Option<Won>, LeaseError> {
        let asked = clock::now();
        let lease = self.store.grant(self.ttl).await?;
        self.lease = Some(lease);
        let key = self.settings.keys.leader();
        match self.store.claim(&key, self.settings.holder.as_bytes(), lease).await? {
            Claim::Won(created) => {
                self.key.answered(created, created, self.settings.holder.as_bytes());
                Ok(Some(Won { lease, created, asked }))
            }
            Claim::Held { at, created, value } => {
                self.key.answered(at, created, &value);
                Ok(None)
            }
        }
    }

    /// Leads for as long as it lasts.
    async fn lead(&mut self, won: Won) {
        // SUBTLE: a store restored from a backup counts its revisions anew; a fence must not come twice.
        let fence_is_old = self.last_term.replace(won.created) == Some(won.created);
        if fence_is_old || clock::now() >= won.asked + self.ttl || !*self.fit.borrow() {
            return;
        }
        let term = Term { fence: Fence { key: self.settings.keys.leader(), created: won.created } };
        tracing::info!(created = %won.created, holder = %self.settings.holder, "leading");
        self.metrics.began();
        self.leadership.send_replace(Leadership::Leading(term.clone()));
        let ended = self.hold(&term, &won).await;
        self.stand_by(ended);
        self.not_before = clock::now();
        if ended == Ended::Resigned(Again::Later) {
            self.not_before += self.ttl;
        }
    }

    /// Renews the lease until the term ends.
    async fn hold(&mut self, term: &Term, won: &Won) -> Ended {
        let (lease, ttl) = (won.lease, self.ttl);
        let mut valid_until = won.asked + ttl;
        let mut retry = Retry::new(self.settings.retry);
        let store = Arc::clone(&self.store);
        // The first try and two more have their turn while the lease lasts.
        let patience = ttl / 4;
        let mut renewal = pin!(renew(&*store, lease, won.asked + ttl / 3, patience));
        loop {
            let event = tokio::select! {
                biased;
                () = tokio::time::sleep_until(valid_until.into()) => Event::TimeOver,
                heard = self.key.heard() => Event::Heard(heard),
                _ = self.fit.wait_for(|fit| !fit) => Event::Unfit,
                Some(resign) = self.resign.recv() => Event::Resign(resign),
                (sent, answer) = &mut renewal => Event::Renewed { sent, answer },
            };
            // SUBTLE: whatever else is heard by a process that was paused, the end of its time comes first.
            if clock::now() >= valid_until {
                return Ended::TimeOver;
            }
            match event {
                Event::TimeOver => return Ended::TimeOver,
                Event::Unfit => return Ended::Unfit,
                Event::Heard(Heard::StoreReplaced) => return Ended::StoreReplaced,
                Event::Heard(Heard::Key) => match self.key.holder() {
                    Some(holder) if holder.written == won.created => {}
                    Some(_) => return Ended::KeyTaken,
                    None => return Ended::KeyGone,
                },
                Event::Resign(resign) if resign.term == *term => return Ended::Resigned(resign.again),
                // Of a term that has ended already.
                Event::Resign(_) => {}
                Event::Renewed { sent, answer: Ok(()) } => {
                    retry.reset();
                    self.reread.ask();
                    valid_until = sent + ttl;
                    renewal.set(renew(&*store, lease, sent + ttl / 3, patience));
                }
                Event::Renewed { sent: _, answer: Err(LeaseError::Ended) } => return Ended::LeaseGone,
                Event::Renewed { sent: _, answer: Err(error) } => {
                    not_renewed(&error, retry.n_tries());
                    self.metrics.renewal_failed();
                    let delay = retry.next_delay().min(patience);
                    renewal.set(renew(&*store, lease, clock::now() + delay, patience));
                }
            }
        }
    }

    /// Gives the lease up, and with it the key, if one is held or may be. If that fails it ends by itself.
    async fn release(&mut self) {
        let Some(lease) = self.lease else { return };
        if let Err(error) = self.store.revoke(lease).await {
            not_given_up(&error);
        }
        self.lease = None;
    }
}

impl<S> Campaign<S> {
    /// Says `Standby`, if that is not said already.
    fn stand_by(&self, why: impl fmt::Display) {
        let led = self.leadership.send_if_modified(|leadership| {
            let led = matches!(leadership, Leadership::Leading(_));
            if led {
                *leadership = Leadership::Standby { leader: self.leader() };
            }
            led
        });
        if led {
            tracing::info!(%why, "not leading any more");
            self.metrics.ceased();
        }
    }

    /// Tells who leads, if that has changed. Of a standby only.
    fn tell_who_leads(&self) {
        let standby = Leadership::Standby { leader: self.leader() };
        let told = self.leadership.send_if_modified(|leadership| {
            let modified = *leadership != standby;
            leadership.clone_from(&standby);
            modified
        });
        if let (true, Leadership::Standby { leader: Some(leader) }) = (told, standby) {
            tracing::info!(%leader, "another replica leads");
        }
    }

    /// Who leads, if it is not us in a term that has ended.
    fn leader(&self) -> Option<Arc<str>> {
        let holder = self.key.holder().filter(|holder| Some(holder.written) != self.last_term)?;
        Some(Arc::clone(&holder.name))
    }
}

impl<S> Drop for Campaign<S> {
    fn drop(&mut self) {
        self.stand_by("the campaign was given up");
    }
}

/// Renews a lease once, at `at`; says when that was sent. Waits for an answer no longer than `patience`: another try is worth
/// more than a late answer.
async fn renew<S: Leases>(
    store: &S,
    lease: LeaseId,
    at: Instant,
    patience: Duration,
) -> (Instant, Result<(), LeaseError>) {
    tokio::time::sleep_until(at.into()).await;
    let sent = clock::now();
    let answer = match tokio::time::timeout(patience, store.renew(lease)).await {
        Ok(answer) => answer,
        Err(elapsed) => Err(LeaseError::Unanswered { waited: patience, source: elapsed.into() }),
    };
    (sent, answer)
}

// These are functions because a task that waits cannot hold on to a `dyn Error`.

fn unable_for_now(error: &(dyn Error + 'static), n_tries: u32) {
    if n_tries == 0 {
        tracing::warn!(error, "cannot campaign; trying again");
    } else {
        tracing::debug!(error, n_tries, "still cannot campaign");
    }
}

fn not_renewed(error: &(dyn Error + 'static), n_tries: u32) {
    if n_tries == 0 {
        tracing::warn!(error, "the lease was not renewed; trying again until its time is over");
    } else {
        tracing::debug!(error, n_tries, "the lease was again not renewed");
    }
}

fn not_given_up(error: &(dyn Error + 'static)) {
    tracing::debug!(error, "a lease was not given up; it ends by itself");
}
