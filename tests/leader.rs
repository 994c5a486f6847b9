//! Leading on a real etcd: one of several leads, the next one follows, and a fence outlives nobody.

mod support;

use anyhow::{Context as _, bail, ensure};
use apisix_etcd_controller::{
    leader::{
        Again, Leadership, Metrics, Resign, Term,
        campaign::{CampaignSettings, campaign},
    },
    retry::RetryLimits,
    store::{
        Store as _,
        control::ControlKeys,
        etcd::{EtcdSettings, EtcdStore},
        txn::{Action, Commit, Revision, Txn, Write},
    },
};
use std::{sync::Arc, time::Duration};
use support::{
    binaries::Binary,
    etcd::{Etcd, shared_etcd},
    proxy::Proxy,
    wait::{PATIENCE, wait_until},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// So long that whatever happens within [`PATIENCE`] did not wait for a lease to end.
const LONG: Duration = Duration::from_mins(30);

/// Short enough to wait for, and long enough for a machine with other work to renew it.
const SHORT: Duration = Duration::from_secs(3);

async fn store_at(endpoint: &str) -> anyhow::Result<EtcdStore> {
    let settings =
        EtcdSettings { endpoints: vec![endpoint.to_owned()], request_timeout: EtcdSettings::REQUEST_TIMEOUT };
    Ok(EtcdStore::connect(&settings).await?)
}

/// The keys of one test.
fn keys(test: &str) -> ControlKeys {
    ControlKeys::new(format!("/{test}/control").into(), "us".into())
}

struct Replica {
    fit: watch::Sender<bool>,
    resign: mpsc::Sender<Resign>,
    leadership: watch::Receiver<Leadership>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Replica {
    async fn start(endpoint: &str, keys: &ControlKeys, name: &str, ttl: Duration) -> anyhow::Result<Self> {
        let store = Arc::new(store_at(endpoint).await?);
        let (fit, is_fit) = watch::channel(true);
        let (resign, resignations) = mpsc::channel(1);
        let (teller, leadership) = watch::channel(Leadership::default());
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let stop = CancellationToken::new();
        let retry = RetryLimits { first: Duration::from_millis(10), longest: Duration::from_millis(200) };
        let settings = CampaignSettings { keys: keys.clone(), holder: name.into(), ttl, retry };
        let task = tokio::spawn(campaign(store, settings, is_fit, resignations, teller, metrics, stop.clone()));
        Ok(Self { fit, resign, leadership, stop, task })
    }

    fn term(&self) -> Option<Term> {
        match &*self.leadership.borrow() {
            Leadership::Leading(term) => Some(term.clone()),
            Leadership::Standby { .. } => None,
        }
    }

    /// Waits until it says something that is `wanted`.
    async fn says(&mut self, what: &str, wanted: impl FnMut(&Leadership) -> bool) -> anyhow::Result<Leadership> {
        let told = tokio::time::timeout(PATIENCE, self.leadership.wait_for(wanted)).await;
        Ok(told.with_context(|| format!("waiting for {what}"))?.context("the campaign ended")?.clone())
    }

    /// Waits for a term that began after `before`.
    async fn leads_after(&mut self, before: Revision) -> anyhow::Result<Term> {
        let later = |told: &Leadership| matches!(told, Leadership::Leading(term) if term.began() > before);
        match self.says("a term", later).await? {
            Leadership::Leading(term) => Ok(term),
            standby @ Leadership::Standby { .. } => bail!("{standby:?}"),
        }
    }

    async fn knows(&mut self, leader: &str) -> anyhow::Result<()> {
        let told = Leadership::Standby { leader: Some(leader.into()) };
        self.says(&format!("{leader} to lead"), |leadership| *leadership == told).await.map(drop)
    }

    async fn stands_by(&mut self) -> anyhow::Result<()> {
        self.says("standby", |told| matches!(told, Leadership::Standby { .. })).await.map(drop)
    }

    async fn stops(self) -> anyhow::Result<()> {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.context("stopping")?.context("the campaign panicked")
    }
}

/// What a leader's write is answered.
async fn write(store: &EtcdStore, term: &Term, key: &str) -> anyhow::Result<Commit> {
    let write =
        Write { key: key.into(), expected: Revision::ABSENT, action: Action::Put(b"written".as_slice().into()) };
    Ok(store.commit(Txn { fence: term.fence.clone(), conditions: vec![], writes: vec![write] }).await?)
}

/// Waits until one of the replicas leads in a term that began after `before`; which, and its term.
async fn one_leads(replicas: &[Replica], before: Revision) -> anyhow::Result<(usize, Term)> {
    wait_until("a leader", PATIENCE, async || {
        let mut terms = replicas.iter().enumerate().filter_map(|(n, replica)| Some((n, replica.term()?)));
        terms.find(|(_, term)| term.began() > before).context("nobody leads")
    })
    .await
}

#[tokio::test]
async fn of_two_replicas_one_leads_and_when_it_stops_the_next_leads_at_once() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let (keys, store) = (keys("stops"), store_at(etcd.endpoint()).await?);
    let mut first = Replica::start(etcd.endpoint(), &keys, "first", LONG).await?;
    let before = first.leads_after(Revision::ABSENT).await?;
    let mut second = Replica::start(etcd.endpoint(), &keys, "second", LONG).await?;
    second.knows("first").await?;
    ensure!(matches!(write(&store, &before, "/stops/a").await?, Commit::Applied(_)));
    assert_eq!(etcd.under("/stops/control").await?["/stops/control/us/leader"].value, "first");

    first.stops().await?;
    let after = second.leads_after(before.began()).await?;
    assert_eq!(write(&store, &before, "/stops/b").await?, Commit::Fenced);
    ensure!(matches!(write(&store, &after, "/stops/b").await?, Commit::Applied(_)));
    second.stops().await?;
    ensure!(etcd.under("/stops/control").await?.is_empty(), "the key is given up when the last one stops");
    Ok(())
}

#[tokio::test]
async fn of_three_replicas_the_next_leads_when_one_was_killed_and_its_lease_has_ended() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let (keys, store) = (keys("killed"), store_at(etcd.endpoint()).await?);
    let mut replicas = Vec::new();
    for name in ["a", "b", "c"] {
        replicas.push(Replica::start(etcd.endpoint(), &keys, name, SHORT).await?);
    }
    let mut before = Revision::ABSENT;
    while !replicas.is_empty() {
        let (n, term) = one_leads(&replicas, before).await?;
        ensure!(matches!(write(&store, &term, &format!("/killed/{n}-{}", replicas.len())).await?, Commit::Applied(_)));
        replicas.swap_remove(n).task.abort();
        if !replicas.is_empty() {
            one_leads(&replicas, term.began()).await?;
            assert_eq!(write(&store, &term, "/killed/late").await?, Commit::Fenced);
        }
        before = term.began();
    }
    Ok(())
}

#[tokio::test]
async fn who_resigns_or_is_unfit_lets_another_one_lead_at_once() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let keys = keys("resigns");
    let mut first = Replica::start(etcd.endpoint(), &keys, "first", LONG).await?;
    let mut term = first.leads_after(Revision::ABSENT).await?;
    let mut second = Replica::start(etcd.endpoint(), &keys, "second", LONG).await?;
    second.knows("first").await?;
    first.fit.send_replace(false);
    term = second.leads_after(term.began()).await?;
    first.knows("second").await?;
    first.fit.send_replace(true);
    second.resign.send(Resign { term: term.clone(), again: Again::Later }).await?;
    term = first.leads_after(term.began()).await?;
    second.knows("first").await?;
    first.resign.send(Resign { term: term.clone(), again: Again::AtOnce }).await?;
    // The second one is still letting others lead.
    first.leads_after(term.began()).await?;
    Ok(())
}

#[tokio::test]
async fn a_key_deleted_by_hand_ends_the_term_and_another_begins() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let (keys, store) = (keys("deleted"), store_at(etcd.endpoint()).await?);
    let mut replica = Replica::start(etcd.endpoint(), &keys, "a", LONG).await?;
    let before = replica.leads_after(Revision::ABSENT).await?;
    etcd.client().await?.delete(&*keys.leader(), None).await?;
    let after = replica.leads_after(before.began()).await?;
    assert_eq!(write(&store, &before, "/deleted/a").await?, Commit::Fenced);
    ensure!(matches!(write(&store, &after, "/deleted/a").await?, Commit::Applied(_)));
    Ok(())
}

#[tokio::test]
async fn nobody_leads_without_etcd_and_somebody_does_when_it_is_back() -> anyhow::Result<()> {
    let etcd = Etcd::start(Binary::Etcd).await?;
    let keys = keys("restarts");
    let mut replicas = Vec::new();
    for name in ["a", "b"] {
        replicas.push(Replica::start(etcd.endpoint(), &keys, name, SHORT).await?);
    }
    let (n, before) = one_leads(&replicas, Revision::ABSENT).await?;
    etcd.stop().await?;
    replicas[n].stands_by().await?;
    let again = etcd.start_again().await?;
    let (_, after) = one_leads(&replicas, before.began()).await?;
    let store = store_at(again.endpoint()).await?;
    assert_eq!(write(&store, &before, "/restarts/a").await?, Commit::Fenced);
    ensure!(matches!(write(&store, &after, "/restarts/a").await?, Commit::Applied(_)));
    Ok(())
}

#[tokio::test]
async fn an_etcd_that_falls_silent_ends_the_term_and_nobody_waits_for_it_to_speak() -> anyhow::Result<()> {
    let etcd = Etcd::start(Binary::Etcd36).await?;
    let keys = keys("silent");
    let mut replica = Replica::start(etcd.endpoint(), &keys, "a", SHORT).await?;
    let before = replica.leads_after(Revision::ABSENT).await?;
    etcd.process().signal("STOP")?;
    replica.stands_by().await?;
    etcd.process().signal("CONT")?;
    replica.leads_after(before.began()).await?;
    Ok(())
}

#[tokio::test]
async fn who_is_cut_off_stands_by_before_another_one_leads_and_its_fence_is_refused() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let (keys, store) = (keys("cut"), store_at(etcd.endpoint()).await?);
    let proxy = Proxy::start(etcd.endpoint()).await?;
    let mut cut = Replica::start(&proxy.endpoint(), &keys, "cut", SHORT).await?;
    let before = cut.leads_after(Revision::ABSENT).await?;
    let mut other = Replica::start(etcd.endpoint(), &keys, "other", SHORT).await?;
    other.knows("cut").await?;
    proxy.cut();
    let after = other.leads_after(before.began()).await?;
    assert_eq!(cut.term(), None, "its own clock says that its lease is over before etcd does");
    assert_eq!(write(&store, &before, "/cut/a").await?, Commit::Fenced);
    ensure!(matches!(write(&store, &after, "/cut/a").await?, Commit::Applied(_)));
    proxy.mend();
    cut.knows("other").await?;
    Ok(())
}
