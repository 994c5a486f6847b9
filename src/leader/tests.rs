//! The campaign on a store in memory, with time that passes at our word.

use super::{
    Again, Leadership, Metrics, Resign, Term,
    campaign::{CampaignSettings, campaign},
};
use crate::{
    clock,
    retry::RetryLimits,
    store::{
        BoxError, Content, Page, PagePlace, ReadError, Scope, Store, Watch, WatchBatch,
        control::ControlKeys,
        lease::{Claim, LeaseError, LeaseId, Leases},
        memory::{Image, MemoryStore, MemoryWatch},
        txn::{Commit, CommitError, Revision, Txn},
    },
};
use prometheus_client::{encoding::text, registry::Registry};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

const TTL: Duration = Duration::from_secs(15);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const LATENCY: Duration = Duration::from_millis(20);
const LEADER: &str = "/control/us/leader";

/// What the way to the store does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// It takes this long, there and back again.
    Slow(Duration),
    /// Watches fall silent.
    Blind,
    /// Nothing arrives.
    Cut,
    /// Requests arrive, their answers do not.
    Deaf,
    /// The store refuses everything about leases.
    Refusing,
}

/// One replica's way to the store.
struct Link {
    store: MemoryStore,
    fault: watch::Receiver<Fault>,
}

fn lost() -> BoxError {
    "lost on the way".into()
}

impl Link {
    async fn about_lease<T>(&self, request: impl Future<Output = Result<T, LeaseError>>) -> Result<T, LeaseError> {
        let fault = *self.fault.borrow();
        match fault {
            Fault::None | Fault::Blind => return request.await,
            Fault::Slow(latency) => {
                tokio::time::sleep(latency).await;
                let answer = request.await;
                tokio::time::sleep(latency).await;
                return answer;
            }
            Fault::Refusing => return Err(LeaseError::Refused { source: lost() }),
            Fault::Deaf => drop(request.await),
            Fault::Cut => {}
        }
        tokio::time::sleep(REQUEST_TIMEOUT).await;
        Err(LeaseError::Unanswered { waited: REQUEST_TIMEOUT, source: lost() })
    }

    async fn read<T>(&self, request: impl Future<Output = Result<T, ReadError>>) -> Result<T, ReadError> {
        let fault = *self.fault.borrow();
        match fault {
            Fault::None | Fault::Slow(_) | Fault::Blind | Fault::Refusing => request.await,
            Fault::Cut | Fault::Deaf => {
                tokio::time::sleep(REQUEST_TIMEOUT).await;
                Err(ReadError::TimedOut { waited: REQUEST_TIMEOUT })
            }
        }
    }
}

impl Store for Link {
    type Watch = LinkWatch;

    async fn commit(&self, txn: Txn) -> Result<Commit, CommitError> {
        self.store.commit(txn).await
    }

    async fn page(&self, scope: &Scope, content: Content, place: PagePlace) -> Result<Page, ReadError> {
        self.read(self.store.page(scope, content, place)).await
    }

    async fn watch(&self, scope: &Scope, from: Revision) -> Result<LinkWatch, ReadError> {
        let watch = self.read(self.store.watch(scope, from)).await?;
        Ok(LinkWatch { watch, fault: self.fault.clone() })
    }
}

struct LinkWatch {
    watch: MemoryWatch,
    fault: watch::Receiver<Fault>,
}

impl Watch for LinkWatch {
    async fn next(&mut self) -> Result<WatchBatch, ReadError> {
        // A watch on a way that is cut does not end either.
        let silent = |fault: &Fault| matches!(fault, Fault::Cut | Fault::Blind);
        loop {
            let _ = self.fault.wait_for(|fault| !silent(fault)).await;
            tokio::select! {
                biased;
                Ok(_) = self.fault.wait_for(silent) => {}
                batch = self.watch.next() => return batch,
            }
        }
    }
}

impl Leases for Link {
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, LeaseError> {
        self.about_lease(self.store.grant(ttl)).await
    }

    async fn renew(&self, lease: LeaseId) -> Result<(), LeaseError> {
        self.about_lease(self.store.renew(lease)).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), LeaseError> {
        self.about_lease(self.store.revoke(lease)).await
    }

    async fn claim(&self, key: &str, value: &[u8], lease: LeaseId) -> Result<Claim, LeaseError> {
        self.about_lease(self.store.claim(key, value, lease)).await
    }
}

struct Replica {
    name: &'static str,
    fit: watch::Sender<bool>,
    resign: mpsc::Sender<Resign>,
    leadership: watch::Receiver<Leadership>,
    fault: watch::Sender<Fault>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    registry: Registry,
}

impl Replica {
    fn start(store: &MemoryStore, name: &'static str, fit: bool) -> Self {
        Self::start_with(store, name, fit, TTL)
    }

    fn start_with(store: &MemoryStore, name: &'static str, fit: bool, ttl: Duration) -> Self {
        let (fault, state) = watch::channel(Fault::None);
        let link = Arc::new(Link { store: store.clone(), fault: state });
        let (fit, is_fit) = watch::channel(fit);
        let (resign, resignations) = mpsc::channel(1);
        let (teller, leadership) = watch::channel(Leadership::default());
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let stop = CancellationToken::new();
        let settings = CampaignSettings {
            keys: ControlKeys::new("/control".into(), "us".into()),
            holder: name.into(),
            ttl,
            retry: RetryLimits::STORE,
        };
        let task = tokio::spawn(campaign(link, settings, is_fit, resignations, teller, metrics, stop.clone()));
        Self { name, fit, resign, leadership, fault, stop, task, registry }
    }

    fn term(&self) -> Option<Term> {
        match &*self.leadership.borrow() {
            Leadership::Leading(term) => Some(term.clone()),
            Leadership::Standby { .. } => None,
        }
    }

    fn leads(&self) -> bool {
        self.term().is_some()
    }

    /// Waits for a term other than `before`.
    async fn next_term(&mut self, before: Option<&Term>) -> Term {
        let leading = |told: &Leadership| matches!(told, Leadership::Leading(term) if Some(term) != before);
        let waiting = self.leadership.wait_for(leading);
        drop(tokio::time::timeout(Duration::from_mins(10), waiting).await.expect("a term").unwrap());
        self.term().unwrap()
    }

    async fn stands_by(&mut self) {
        let standby = |told: &Leadership| matches!(told, Leadership::Standby { .. });
        let waiting = self.leadership.wait_for(standby);
        drop(tokio::time::timeout(Duration::from_mins(10), waiting).await.expect("standby").unwrap());
    }

    async fn knows(&mut self, leader: &str) {
        let told = Leadership::Standby { leader: Some(leader.into()) };
        let waiting = self.leadership.wait_for(|leadership| *leadership == told);
        drop(tokio::time::timeout(Duration::from_mins(10), waiting).await.expect("a leader").unwrap());
    }

    fn metric(&self, name: &str) -> String {
        let mut shown = String::new();
        text::encode(&mut shown, &self.registry).unwrap();
        let line = shown.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).unwrap();
        line.to_owned()
    }
}

fn created(store: &MemoryStore) -> Option<Revision> {
    store.get(LEADER).map(|held| held.created)
}

#[tokio::test(start_paused = true)]
async fn of_two_that_are_fit_one_leads_and_the_other_knows_who() {
    let store = MemoryStore::new();
    let mut first = Replica::start(&store, "first", true);
    let term = first.next_term(None).await;
    assert_eq!((term.fence.key.as_ref(), Some(term.began())), (LEADER, created(&store)));
    assert_eq!(store.get(LEADER).unwrap().value, b"first");
    let mut second = Replica::start(&store, "second", true);
    second.knows("first").await;
    tokio::time::sleep(Duration::from_hours(3)).await;
    assert_eq!((first.term(), second.leads()), (Some(term), false), "a lease that is renewed does not end");
    assert_eq!(store.leases().len(), 1, "a standby holds no lease");
    assert_eq!((first.metric("leader"), second.metric("leader")), ("1".into(), "0".into()));
}

#[tokio::test(start_paused = true)]
async fn who_is_not_fit_does_not_campaign_but_knows_who_leads() {
    let store = MemoryStore::new();
    let mut unfit = Replica::start(&store, "unfit", false);
    tokio::time::sleep(TTL * 3).await;
    assert_eq!((unfit.leads(), created(&store), store.leases().len()), (false, None, 0));
    let mut other = Replica::start(&store, "other", true);
    other.next_term(None).await;
    unfit.knows("other").await;
    other.stop.cancel();
    unfit.leadership.wait_for(|told| *told == Leadership::default()).await.unwrap();
    unfit.fit.send_replace(true);
    unfit.next_term(None).await;
}

#[tokio::test(start_paused = true)]
async fn who_becomes_unfit_gives_the_key_up_at_once() {
    let store = MemoryStore::new();
    let (mut first, mut second) = {
        let mut first = Replica::start(&store, "first", true);
        first.next_term(None).await;
        (first, Replica::start(&store, "second", true))
    };
    second.knows("first").await;
    let began = clock::now();
    first.fit.send_replace(false);
    first.stands_by().await;
    second.next_term(None).await;
    assert_eq!(clock::now(), began);
    first.knows("second").await;
    assert_eq!((first.metric("leader"), first.metric("leadership_changes_total")), ("0".into(), "2".into()));
}

#[tokio::test(start_paused = true)]
async fn a_closed_question_of_fitness_is_answered_no() {
    let store = MemoryStore::new();
    let mut replica = Replica::start(&store, "a", true);
    replica.next_term(None).await;
    replica.fit = watch::channel(true).0;
    replica.stands_by().await;
    tokio::time::sleep(TTL).await;
    assert_eq!((replica.leads(), created(&store)), (false, None));
}

#[tokio::test(start_paused = true)]
async fn who_stops_lets_the_next_one_lead_at_once() {
    let store = MemoryStore::new();
    let mut first = Replica::start(&store, "first", true);
    let before = first.next_term(None).await;
    let mut second = Replica::start(&store, "second", true);
    second.knows("first").await;
    let began = clock::now();
    first.stop.cancel();
    first.task.await.unwrap();
    assert!(matches!(*first.leadership.borrow(), Leadership::Standby { .. }));
    let after = second.next_term(None).await;
    assert_eq!(clock::now(), began);
    assert!(after.began() > before.began());
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_a_store_that_is_silent() {
    let store = MemoryStore::new();
    let mut replica = Replica::start(&store, "a", true);
    replica.next_term(None).await;
    replica.fault.send_replace(Fault::Cut);
    let began = clock::now();
    replica.stop.cancel();
    replica.stands_by().await;
    assert_eq!(clock::now(), began);
    replica.task.await.unwrap();
    assert!(clock::now() - began < REQUEST_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn who_is_killed_is_followed_by_the_next_after_its_lease() {
    let store = MemoryStore::new();
    let mut first = Replica::start(&store, "first", true);
    first.next_term(None).await;
    let mut second = Replica::start(&store, "second", true);
    second.knows("first").await;
    let began = clock::now();
    first.task.abort();
    first.stands_by().await;
    second.next_term(None).await;
    let waited = clock::now() - began;
    assert!(waited <= TTL && waited >= TTL * 2 / 3, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_cut_off_stands_by_before_its_lease_ends_in_the_store() {
    let store = MemoryStore::new();
    let mut first = Replica::start(&store, "first", true);
    first.fault.send_replace(Fault::Slow(LATENCY));
    let term = first.next_term(None).await;
    tokio::time::sleep(TTL).await;
    let mut second = Replica::start(&store, "second", true);
    second.knows("first").await;
    let began = clock::now();
    first.fault.send_replace(Fault::Cut);
    first.stands_by().await;
    assert!(clock::now() - began <= TTL);
    assert_eq!(created(&store), Some(term.began()), "the store still has its lease");
    let next = second.next_term(None).await;
    let txn = Txn { fence: term.fence, conditions: vec![], writes: vec![] };
    assert_eq!(store.commit(txn).await.unwrap(), Commit::Fenced);
    first.fault.send_replace(Fault::None);
    first.knows("second").await;
    assert_eq!(second.term(), Some(next));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_without_an_answer_does_not_count() {
    let store = MemoryStore::new();
    let mut replica = Replica::start(&store, "a", true);
    let began = clock::now();
    replica.next_term(None).await;
    // The renewal after a third of the time arrives, but no answer does: it must not be counted.
    tokio::time::sleep(TTL / 6).await;
    replica.fault.send_replace(Fault::Deaf);
    replica.stands_by().await;
    assert_eq!(clock::now() - began, TTL);
}

#[tokio::test(start_paused = true)]
async fn time_counts_from_when_a_renewal_was_sent() {
    let store = MemoryStore::new();
    let mut replica = Replica::start(&store, "a", true);
    let began = clock::now();
    replica.next_term(None).await;
    replica.fault.send_replace(Fault::Slow(LATENCY));
    tokio::time::sleep(TTL / 3 + LATENCY * 2).await;
    replica.fault.send_replace(Fault::Cut);
    replica.stands_by().await;
    assert_eq!(clock::now() - began, TTL / 3 + TTL);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_not_taken_for_longer_than_whole_seconds() {
    let store = MemoryStore::new();
    let mut replica = Replica::start_with(&store, "a", true, Duration::from_millis(2_900));
    let began = clock::now();
    replica.next_term(None).await;
    replica.fault.send_replace(Fault::Cut);
    replica.stands_by().await;
    assert_eq!(clock::now() - began, Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn refused_renewals_are_counted_and_end_the_term_in_time() {
    let store = MemoryStore::new();
    let mut replica = Replica::start(&store, "a", true);
    let first = replica.next_term(None).await;
    replica.fault.send_replace(Fault::Refusing);
    tokio::time::sleep(TTL / 2).await;
    assert_eq!(replica.term().as_ref(), Some(&first), "one refusal is not the end");
    assert_ne!(replica.metric("lease_renewals_failed_total"), "0");
    replica.stands_by().await;
    replica.fault.send_replace(Fault::None);
    assert_ne!(replica.next_term(None).await, first);
}

#[tokio::test(start_paused = true)]
async fn a_term_goes_on_after_a_renewal_failed_and_the_next_did_not() {
    let store = MemoryStore::new();
    let mut replica = Replica::start(&store, "a", true);
    let term = replica.next_term(None).await;
    for _ in 0..100 {
        tokio::time::sleep(TTL).await;
        replica.fault.send_replace(Fault::Cut);
        tokio::time::sleep(TTL / 2).await;
        replica.fault.send_replace(Fault::None);
    }
    assert_eq!(replica.term(), Some(term));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_store_ended_ends_the_term() {
    let store = MemoryStore::new();
    let mut replica = Replica::start(&store, "a", true);
    let first = replica.next_term(None).await;
    store.end_watches();
    store.expire_all();
    let second = replica.next_term(Some(&first)).await;
    assert!(second.began() > first.began());
    assert_eq!(created(&store), Some(second.began()));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_store_ended_is_found_out_by_the_next_renewal_when_no_watch_tells() {
    let store = MemoryStore::new();
    let mut replica = Replica::start(&store, "a", true);
    replica.next_term(None).await;
    let began = clock::now();
    replica.fault.send_replace(Fault::Blind);
    store.expire_all();
    replica.stands_by().await;
    assert_eq!(clock::now() - began, TTL / 3);
}

#[tokio::test(start_paused = true)]
async fn a_key_won_when_its_lease_may_have_ended_gives_no_term() {
    let store = MemoryStore::new();
    let ttl = Duration::from_secs(2);
    let mut replica = Replica::start_with(&store, "a", false, ttl);
    replica.fault.send_replace(Fault::Slow(ttl * 3 / 10));
    replica.fit.send_replace(true);
    tokio::time::sleep(ttl * 10).await;
    assert!(store.history().len() > 2, "the key was won and given up");
    assert_eq!(replica.metric("leadership_changes_total"), "0");
    replica.fault.send_replace(Fault::None);
    replica.next_term(None).await;
}

#[tokio::test(start_paused = true)]
async fn a_key_deleted_by_hand_ends_the_term_at_once() {
    let store = MemoryStore::new();
    let mut replica = Replica::start(&store, "a", true);
    let first = replica.next_term(None).await;
    let began = clock::now();
    store.delete(LEADER);
    let second = replica.next_term(Some(&first)).await;
    assert_eq!((clock::now(), created(&store)), (began, Some(second.began())));
    assert_eq!(store.leases().len(), 1, "the first lease was given up");
}

#[tokio::test(start_paused = true)]
async fn a_key_deleted_by_hand_is_missed_at_the_next_renewal_when_no_watch_tells() {
    let store = MemoryStore::new();
    let mut replica = Replica::start(&store, "a", true);
    let first = replica.next_term(None).await;
    replica.fault.send_replace(Fault::Blind);
    let began = clock::now();
    store.delete(LEADER);
    replica.next_term(Some(&first)).await;
    assert!(clock::now() - began < TTL, "the lease is still renewed, and its end would tell nobody");
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_was_not_told_of_the_end_of_a_term_finds_out_by_itself() {
    let store = MemoryStore::new();
    let mut first = Replica::start(&store, "first", true);
    first.next_term(None).await;
    let mut second = Replica::start(&store, "second", true);
    second.knows("first").await;
    second.fault.send_replace(Fault::Blind);
    first.stop.cancel();
    first.task.await.unwrap();
    let began = clock::now();
    second.next_term(None).await;
    assert!(clock::now() - began <= TTL);
}

#[tokio::test(start_paused = true)]
async fn a_key_written_by_hand_ends_the_term_and_is_left_to_whoever_wrote_it() {
    let store = MemoryStore::new();
    let mut replica = Replica::start(&store, "a", true);
    let first = replica.next_term(None).await;
    store.put(LEADER, "a person");
    replica.knows("a person").await;
    tokio::time::sleep(TTL * 3).await;
    assert_eq!(store.get(LEADER).unwrap().value, b"a person");
    store.delete(LEADER);
    assert!(replica.next_term(None).await.began() > first.began());
}

#[tokio::test(start_paused = true)]
async fn who_resigns_begins_anew_with_another_fence() {
    let store = MemoryStore::new();
    let mut replica = Replica::start(&store, "a", true);
    let first = replica.next_term(None).await;
    let began = clock::now();
    replica.resign.send(Resign { term: first.clone(), again: Again::AtOnce }).await.unwrap();
    let second = replica.next_term(Some(&first)).await;
    assert_eq!(clock::now(), began);
    assert!(second.began() > first.began());
    // Of a term that has ended: nothing happens, and nobody waits to be heard.
    for _ in 0..3 {
        replica.resign.send(Resign { term: first.clone(), again: Again::Later }).await.unwrap();
    }
    tokio::time::sleep(TTL).await;
    assert_eq!(replica.term(), Some(second));
}

#[tokio::test(start_paused = true)]
async fn who_resigns_for_others_waits_a_lease_long() {
    let store = MemoryStore::new();
    let mut first = Replica::start(&store, "first", true);
    let term = first.next_term(None).await;
    let mut second = Replica::start(&store, "second", true);
    second.knows("first").await;
    let began = clock::now();
    first.resign.send(Resign { term: term.clone(), again: Again::Later }).await.unwrap();
    second.next_term(None).await;
    assert_eq!(clock::now(), began);
    second.stop.cancel();
    second.task.await.unwrap();
    first.next_term(Some(&term)).await;
    assert_eq!(clock::now() - began, TTL);
}

#[tokio::test(start_paused = true)]
async fn a_claim_without_an_answer_gives_no_term() {
    let store = MemoryStore::new();
    let mut replica = Replica::start(&store, "a", false);
    replica.fault.send_replace(Fault::Slow(LATENCY));
    replica.fit.send_replace(true);
    // The lease is granted by now, and the claim has not been sent.
    tokio::time::sleep(LATENCY * 3 / 2).await;
    assert_eq!((store.leases().len(), created(&store)), (1, None));
    replica.fault.send_replace(Fault::Deaf);
    tokio::time::sleep(LATENCY).await;
    let unanswered = created(&store).expect("the claim arrived");
    replica.fault.send_replace(Fault::None);
    let term = replica.next_term(None).await;
    assert!(term.began() > unanswered);
    assert_eq!((created(&store), store.leases().len()), (Some(term.began()), 1));
}

#[tokio::test(start_paused = true)]
async fn a_restored_store_ends_the_term_although_the_key_came_back_with_it() {
    let store = MemoryStore::new();
    let mut replica = Replica::start(&store, "a", true);
    let first = replica.next_term(None).await;
    let image = store.image();
    store.put("/p/a", "lost");
    store.restore(image);
    assert_eq!(created(&store), Some(first.began()));
    let second = replica.next_term(Some(&first)).await;
    assert_ne!(second.fence, first.fence);
}

#[tokio::test(start_paused = true)]
async fn a_wiped_store_never_gives_the_same_fence_twice() {
    let store = MemoryStore::new();
    let mut replica = Replica::start(&store, "a", true);
    let mut last = replica.next_term(None).await;
    for _ in 0..5 {
        store.restore(Image::default());
        let next = replica.next_term(Some(&last)).await;
        assert_ne!(next.fence, last.fence);
        last = next;
    }
}

/// Lets everybody run whose time has come in this instant.
async fn all_that_is_due_now() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// Whatever happens to the way to the store, while nobody ends leases or deletes keys by hand: who says that it leads has the
/// key; no fence comes twice; and when the trouble is over, somebody leads.
#[tokio::test(start_paused = true)]
async fn who_says_that_it_leads_has_the_key_whatever_happens_on_the_way() {
    for seed in 0..40 {
        let mut chance = fastrand::Rng::with_seed(seed);
        let store = MemoryStore::new();
        let names = ["a", "b", "c"];
        let mut replicas: Vec<_> = names.into_iter().map(|name| Replica::start(&store, name, true)).collect();
        let mut fences = HashSet::new();
        let mut terms = [None, None, None];
        for _ in 0..300 {
            let n = chance.usize(..replicas.len());
            let replica = &mut replicas[n];
            match chance.u8(..12) {
                0..4 => {
                    let slow = Fault::Slow(Duration::from_millis(20 + 990 * chance.u64(..4)));
                    let faults = [Fault::Cut, Fault::Deaf, Fault::Refusing, slow, Fault::Blind];
                    replica.fault.send_replace(faults[chance.usize(..faults.len())]);
                }
                4..8 => drop(replica.fault.send_replace(Fault::None)),
                8 => drop(replica.fit.send_replace(chance.bool())),
                9 => {
                    if let Some(term) = replica.term() {
                        let again = if chance.bool() { Again::AtOnce } else { Again::Later };
                        let _ = replica.resign.try_send(Resign { term, again });
                    }
                }
                10 => {
                    let name = replica.name;
                    replica.task.abort();
                    *replica = Replica::start(&store, name, true);
                }
                11 => {
                    store.put("/control/us/lanes/0", "x");
                    store.compact(store.revision());
                    store.end_watches();
                }
                12.. => unreachable!(),
            }
            for _ in 0..chance.u8(1..6) {
                // Coarse steps: many end in the very instant in which a lease does.
                tokio::time::sleep(Duration::from_millis(250) * chance.u32(1..8)).await;
                all_that_is_due_now().await;
                for (replica, last) in replicas.iter().zip(&mut terms) {
                    let Some(term) = replica.term() else { continue };
                    assert_eq!(created(&store), Some(term.began()), "seed {seed}: {} says it leads", replica.name);
                    if last.as_ref() != Some(&term) {
                        assert!(fences.insert(term.began()), "seed {seed}: a fence came twice");
                        *last = Some(term);
                    }
                }
            }
        }
        for replica in &replicas {
            replica.fault.send_replace(Fault::None);
            replica.fit.send_replace(true);
        }
        tokio::time::sleep(TTL * 3).await;
        assert_eq!(replicas.iter().filter(|replica| replica.leads()).count(), 1, "seed {seed}");
    }
}
