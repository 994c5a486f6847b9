//! The store holds where etcd does not: silence, lost connections, and following it through them. What every store must do
//! while it answers is in `contract.rs`.

mod support;

use anyhow::{Context as _, bail, ensure};
use apisix_etcd_controller::{
    model::places::{Directory, Plane, WorkId},
    retry::RetryLimits,
    store::{
        Content, PagePlace, ReadError, Scope, Store as _,
        etcd::{EtcdSettings, EtcdStore},
        follow::{KeyEvent, PlaneEvent, Reread, StoreEvent, follow},
        lease::{LeaseError, Leases as _},
        txn::{Action, Commit, CommitError, Current, Fence, Revision, Txn, Write},
    },
};
use std::{sync::Arc, time::Duration};
use support::{
    binaries::Binary,
    etcd::{Etcd, shared_etcd},
    proxy::Proxy,
    wait::{PATIENCE, wait_until},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

async fn store_at(endpoint: &str, request_timeout: Duration) -> anyhow::Result<EtcdStore> {
    Ok(EtcdStore::connect(&EtcdSettings { request_timeout, ..EtcdSettings::at(endpoint) }).await?)
}

async fn store(etcd: &Etcd) -> anyhow::Result<EtcdStore> {
    store_at(etcd.endpoint(), EtcdSettings::REQUEST_TIMEOUT).await
}

fn put(key: &str, expected: Revision, value: &str) -> Write {
    Write { key: key.into(), expected, action: Action::Put(value.as_bytes().into()) }
}

fn delete(key: &str, expected: Revision) -> Write {
    Write { key: key.into(), expected, action: Action::Delete }
}

/// Under a fence that stands because nobody holds its key.
fn writes(writes: Vec<Write>) -> Txn {
    Txn { fence: Fence { key: "/nobody".into(), created: Revision::ABSENT }, conditions: vec![], writes }
}

async fn applied(store: &EtcdStore, txn: Txn) -> anyhow::Result<Revision> {
    match store.commit(txn).await? {
        Commit::Applied(revision) => Ok(revision),
        other @ (Commit::Fenced | Commit::Conflicted { .. }) => bail!("not applied but {other:?}"),
    }
}

/// Stops etcd and waits until it is: a signal may take a moment to reach all its threads.
async fn silence(etcd: &Etcd, store: &EtcdStore) -> anyhow::Result<()> {
    etcd.process().signal("STOP")?;
    wait_until("etcd to fall silent", PATIENCE, async || {
        let read = store.page(&Scope::Key("/p".into()), Content::KeysOnly, PagePlace::First).await;
        ensure!(matches!(read, Err(ReadError::TimedOut { .. })), "{read:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn silence_is_no_answer_and_sending_again_settles_it() -> anyhow::Result<()> {
    let etcd = Etcd::start(Binary::Etcd).await?;
    let store = store_at(etcd.endpoint(), Duration::from_millis(300)).await?;
    wait_until("a first answer", PATIENCE, async || {
        Ok(store.page(&Scope::Key("/p/a".into()), Content::KeysOnly, PagePlace::First).await?)
    })
    .await?;
    let txn = writes(vec![put("/p/a", Revision::ABSENT, "ours")]);
    silence(&etcd, &store).await?;
    let answer = store.commit(txn.clone()).await;
    ensure!(matches!(answer, Err(CommitError::Unanswered { .. })), "{answer:?}");
    etcd.process().signal("CONT")?;
    let settled = wait_until("an answer", PATIENCE, async || Ok(store.commit(txn.clone()).await?)).await?;
    let current = match settled {
        Commit::Applied(_) => b"ours".to_vec(),
        Commit::Fenced => bail!("fenced"),
        Commit::Conflicted { current, .. } => {
            let [Current { value: Some((_, value)), .. }] = current.as_slice() else { bail!("nothing there") };
            value.clone()
        }
    };
    assert_eq!(current, b"ours");
    assert_eq!(etcd.under("/p/a").await?["/p/a"].version, 1, "whichever of the two was applied, only one was");
    Ok(())
}

#[tokio::test]
async fn silence_about_a_lease_is_not_its_end() -> anyhow::Result<()> {
    let etcd = Etcd::start(Binary::Etcd).await?;
    let store = store_at(etcd.endpoint(), Duration::from_millis(300)).await?;
    let lease = wait_until("a lease", PATIENCE, async || Ok(store.grant(Duration::from_mins(10)).await?)).await?;
    silence(&etcd, &store).await?;
    let unanswered = |answer: Result<(), LeaseError>| {
        ensure!(matches!(answer, Err(LeaseError::Unanswered { .. })), "{answer:?}");
        Ok(())
    };
    unanswered(store.renew(lease).await)?;
    unanswered(store.claim("/p/leader", b"me", lease).await.map(drop))?;
    unanswered(store.grant(Duration::from_mins(10)).await.map(drop))?;
    etcd.process().signal("CONT")?;
    wait_until("the lease to be renewed", PATIENCE, async || Ok(store.renew(lease).await?)).await?;
    etcd.stop().await?;
    unanswered(store.renew(lease).await)?;
    unanswered(store.revoke(lease).await)
}

/// A follower of `prefix`, and what it tells.
struct Following {
    events: mpsc::Receiver<PlaneEvent>,
    _stop: tokio_util::sync::DropGuard,
}

impl Following {
    fn start(store: EtcdStore, prefix: &str) -> Self {
        let (sender, events) = mpsc::channel(16);
        let stop = CancellationToken::new();
        let retry = RetryLimits::new(Duration::from_millis(10), Duration::from_millis(100));
        tokio::spawn(follow(Arc::new(store), Plane::of(prefix), sender, Reread::default(), retry, stop.clone()));
        Self { events, _stop: stop.drop_guard() }
    }

    async fn next(&mut self) -> anyhow::Result<StoreEvent> {
        let told = tokio::time::timeout(PATIENCE, self.events.recv()).await.context("an event")?;
        Ok(told.context("the follower ended")?.event)
    }
}

fn ids(events: &[KeyEvent]) -> Vec<String> {
    let id = |event: &KeyEvent| match event {
        KeyEvent::Document { id, stored, .. } => format!("{}{id}", if stored.is_some() { "" } else { "-" }),
        KeyEvent::TrafficSplit(listed) => format!("{listed:?}"),
    };
    events.iter().map(id).collect()
}

#[tokio::test]
async fn following_begins_with_everything_and_goes_on_with_changes() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let store = store(&etcd).await?;
    let plugins = r#"[{"name": "traffic-split", "stream": true}]"#;
    let at = applied(
        &store,
        writes(vec![
            put("/follow/upstreams/1", Revision::ABSENT, "{}"),
            put("/follow/routes/1", Revision::ABSENT, "{}"),
            put("/follow/plugins", Revision::ABSENT, plugins),
        ]),
    )
    .await?;
    let mut following = Following::start(store.clone(), "/follow");
    let StoreEvent::Snapshot(snapshot) = following.next().await? else { bail!("no snapshot") };
    ensure!(snapshot.revision >= at);
    assert_eq!(snapshot.traffic_split, Some(true));
    let [(id, revision, _)] = snapshot.documents.as_slice() else { bail!("{snapshot:?}") };
    assert_eq!((id, *revision), (&WorkId::new(Plane::of("/follow"), Directory::Upstreams, "1"), at));

    let next = applied(
        &store,
        writes(vec![
            put("/follow/stream_routes/2", Revision::ABSENT, "{}"),
            delete("/follow/upstreams/1", at),
            delete("/follow/plugins", at),
        ]),
    )
    .await?;
    let (mut told, mut up_to) = (Vec::new(), Revision::ABSENT);
    while up_to < next {
        let StoreEvent::Changed { revision, events } = following.next().await? else { bail!("no change") };
        told.extend(ids(&events));
        up_to = revision;
    }
    told.sort();
    let read = ["Some(true)", "upstreams/1"];
    ensure!(read.iter().all(|read| told.contains(&(*read).to_owned())), "what was read last is told again: {told:?}");
    told.retain(|told| !read.contains(&&**told));
    assert_eq!((up_to, told.join(" ")), (next, "-upstreams/1 None stream_routes/2".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_lost_watch_is_resumed_where_it_was_or_begun_anew_after_a_compaction() -> anyhow::Result<()> {
    let etcd = Etcd::start(Binary::Etcd).await?;
    let direct = store(&etcd).await?;
    let proxy = Proxy::start(etcd.endpoint()).await?;
    let mut following = Following::start(store_at(&proxy.endpoint(), Duration::from_secs(1)).await?, "/p");
    let StoreEvent::Snapshot(_) = following.next().await? else { bail!("no snapshot") };
    let first = applied(&direct, writes(vec![put("/p/upstreams/a", Revision::ABSENT, "1")])).await?;
    let StoreEvent::Changed { revision, .. } = following.next().await? else { bail!("no change") };
    assert_eq!(revision, first);

    proxy.cut();
    assert_eq!(following.next().await?, StoreEvent::Disconnected);
    let second = applied(&direct, writes(vec![put("/p/upstreams/b", Revision::ABSENT, "1")])).await?;
    proxy.mend();
    assert_eq!(following.next().await?, StoreEvent::Reconnected);
    let mut told = Vec::new();
    while !told.contains(&"upstreams/b".to_owned()) {
        let StoreEvent::Changed { events, .. } = following.next().await? else { bail!("no change") };
        told.extend(ids(&events));
    }
    assert_eq!(told.join(" "), "upstreams/a upstreams/b", "the last one is told again");

    proxy.cut();
    assert_eq!(following.next().await?, StoreEvent::Disconnected);
    let third =
        applied(&direct, writes(vec![delete("/p/upstreams/a", first), put("/p/upstreams/b", second, "2")])).await?;
    etcd.client().await?.compact(third.0, None).await?;
    proxy.mend();
    let mut told = following.next().await?;
    if told == StoreEvent::Reconnected {
        told = following.next().await?;
    }
    let StoreEvent::Snapshot(snapshot) = told else { bail!("no snapshot but {told:?}") };
    let [(id, revision, _)] = snapshot.documents.as_slice() else { bail!("{snapshot:?}") };
    assert_eq!((id.to_string(), *revision), ("upstreams/b".to_owned(), third));
    Ok(())
}
