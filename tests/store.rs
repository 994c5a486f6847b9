//! The store holds on a real etcd: compare-and-swap, paging, watching, compaction, silence.

mod support;

use anyhow::{Context as _, bail, ensure};
use apisix_etcd_controller::{
    model::places::{Directory, WorkId},
    retry::RetryLimits,
    store::{
        PAGE_KEYS, PagePlace, ReadError, Store as _, Watch as _,
        etcd::{EtcdSettings, EtcdStore},
        follow::{KeyEvent, StoreEvent, follow},
        txn::{Action, Commit, CommitError, Condition, Current, Revision, Txn, Write},
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

fn writes(writes: Vec<Write>) -> Txn {
    Txn { conditions: vec![], writes }
}

async fn applied(store: &EtcdStore, txn: Txn) -> anyhow::Result<Revision> {
    match store.commit(txn).await? {
        Commit::Applied(revision) => Ok(revision),
        Commit::Conflicted { at, current } => bail!("conflicted at {at}: {current:?}"),
    }
}

async fn conflicted(store: &EtcdStore, txn: Txn) -> anyhow::Result<(Revision, Vec<Current>)> {
    match store.commit(txn).await? {
        Commit::Applied(revision) => bail!("applied at {revision}"),
        Commit::Conflicted { at, current } => Ok((at, current)),
    }
}

fn present(key: &str, at: Revision, value: &str) -> Current {
    Current { key: key.into(), value: Some((at, value.as_bytes().to_vec())) }
}

fn absent(key: &str) -> Current {
    Current { key: key.into(), value: None }
}

#[tokio::test]
async fn writes_happen_together_at_the_revision_that_is_answered() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let store = store(&etcd).await?;
    let txn = writes(vec![put("/cas/a", Revision::ABSENT, "1"), put("/cas/b", Revision::ABSENT, "2")]);
    let first = applied(&store, txn).await?;
    let held = etcd.under("/cas/").await?;
    assert_eq!([held["/cas/a"].mod_revision, held["/cas/b"].mod_revision], [first.0, first.0]);
    let second = applied(&store, writes(vec![put("/cas/a", first, "3"), delete("/cas/b", first)])).await?;
    ensure!(second > first);
    let held = etcd.under("/cas/").await?;
    assert_eq!((held["/cas/a"].value.as_str(), held.len()), ("3", 1));
    Ok(())
}

#[tokio::test]
async fn a_lost_compare_writes_nothing_and_tells_every_key_as_it_is() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let store = store(&etcd).await?;
    let txn = writes(vec![put("/lost/a", Revision::ABSENT, "1"), put("/lost/p", Revision::ABSENT, "p")]);
    let at = applied(&store, txn).await?;

    let again = writes(vec![put("/lost/a", Revision::ABSENT, "2"), put("/lost/b", Revision::ABSENT, "2")]);
    let (read_at, current) = conflicted(&store, again).await?;
    assert_eq!(current, [present("/lost/a", at, "1"), absent("/lost/b")]);
    ensure!(read_at >= at);

    let gone = writes(vec![delete("/lost/c", at)]);
    assert_eq!(conflicted(&store, gone).await?.1, [absent("/lost/c")]);

    let condition = Condition { key: "/lost/p".into(), expected: Revision(at.0 - 1) };
    let txn = Txn { conditions: vec![condition], writes: vec![put("/lost/b", Revision::ABSENT, "2")] };
    assert_eq!(conflicted(&store, txn).await?.1, [absent("/lost/b"), present("/lost/p", at, "p")]);
    assert_eq!(etcd.under("/lost/").await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_condition_that_holds_lets_writes_pass_and_stays_as_it_is() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let store = store(&etcd).await?;
    let at = applied(&store, writes(vec![put("/holds/p", Revision::ABSENT, "p")])).await?;
    let condition = Condition { key: "/holds/p".into(), expected: at };
    applied(&store, Txn { conditions: vec![condition], writes: vec![put("/holds/a", Revision::ABSENT, "1")] }).await?;
    assert_eq!(etcd.under("/holds/").await?["/holds/p"].mod_revision, at.0);
    Ok(())
}

#[tokio::test]
async fn what_etcd_will_not_take_is_refused_and_not_in_doubt() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let store = store(&etcd).await?;
    let many = |n: usize| writes((0..n).map(|n| put(&format!("/many/{n}"), Revision::ABSENT, "x")).collect());
    let refused = store.commit(many(129)).await;
    ensure!(matches!(refused, Err(CommitError::Refused { n_operations: 129, .. })), "{refused:?}");
    applied(&store, many(128)).await?;

    let large = "x".repeat(2 * 1024 * 1024);
    let refused = store.commit(writes(vec![put("/large", Revision::ABSENT, &large)])).await;
    ensure!(matches!(refused, Err(CommitError::Refused { .. })), "{refused:?}");
    let twice = writes(vec![put("/twice", Revision::ABSENT, "1"), put("/twice", Revision::ABSENT, "2")]);
    let refused = store.commit(twice).await;
    ensure!(matches!(refused, Err(CommitError::Refused { .. })), "{refused:?}");
    ensure!(etcd.under("/large").await?.is_empty() && etcd.under("/twice").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_transaction_reckoned_at_the_limit_is_taken() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let store = store(&etcd).await?;
    // etcd's default limit is 1.5 MiB; what we reckon must never be less than what etcd counts.
    let limit = 1_572_864;
    let mut txn = writes((0..100).map(|n| put(&format!("/full/{n}"), Revision::ABSENT, "x")).collect());
    let rest = limit - txn.n_bytes();
    txn.writes.push(put("/full/rest", Revision::ABSENT, ""));
    let value = "x".repeat(rest - (txn.n_bytes() - (limit - rest)));
    if let Some(last) = txn.writes.last_mut() {
        *last = put("/full/rest", Revision::ABSENT, &value);
    }
    assert_eq!(txn.n_bytes(), limit);
    applied(&store, txn).await?;
    Ok(())
}

#[tokio::test]
async fn silence_is_no_answer_and_sending_again_settles_it() -> anyhow::Result<()> {
    let etcd = Etcd::start(Binary::Etcd).await?;
    let store = store_at(etcd.endpoint(), Duration::from_millis(300)).await?;
    applied(&store, writes(vec![put("/p/warm", Revision::ABSENT, "1")])).await?;
    let txn = writes(vec![put("/p/a", Revision::ABSENT, "ours")]);
    etcd.process().signal("STOP")?;
    let answer = store.commit(txn.clone()).await;
    ensure!(matches!(answer, Err(CommitError::Unanswered { .. })), "{answer:?}");
    let read = store.page("/p", PagePlace::First).await;
    ensure!(matches!(read, Err(ReadError::TimedOut { .. })), "{read:?}");
    etcd.process().signal("CONT")?;
    let settled = wait_until("an answer", PATIENCE, async || Ok(store.commit(txn.clone()).await?)).await?;
    let current = match settled {
        Commit::Applied(_) => b"ours".to_vec(),
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
async fn pages_are_cut_at_one_revision_and_hold_the_prefix_and_nothing_else() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let store = store(&etcd).await?;
    let n_keys = 2 * PAGE_KEYS + 1;
    let keys: Vec<String> = (0..n_keys).map(|n| format!("/pages/{n:05}")).collect();
    for keys in keys.chunks(128) {
        applied(&store, writes(keys.iter().map(|key| put(key, Revision::ABSENT, "x")).collect())).await?;
    }
    for neighbour in ["/pages", "/pages0", "/pages1/x", "/page/x", "/pages!"] {
        applied(&store, writes(vec![put(neighbour, Revision::ABSENT, "x")])).await?;
    }
    let (mut place, mut read, mut sizes) = (PagePlace::First, Vec::new(), Vec::new());
    let mut revisions = Vec::new();
    loop {
        let page = store.page("/pages", place).await?;
        if revisions.is_empty() {
            applied(&store, writes(vec![put("/pages/99999", Revision::ABSENT, "too late")])).await?;
        }
        revisions.push(page.revision);
        sizes.push(page.entries.len());
        read.extend(page.entries.into_iter().map(|entry| String::from_utf8(entry.key).unwrap()));
        match page.next {
            Some(next) => place = next,
            None => break,
        }
    }
    assert_eq!(read, keys);
    assert_eq!(sizes, [PAGE_KEYS, PAGE_KEYS, 1]);
    ensure!(revisions.windows(2).all(|pair| pair[0] == pair[1]), "{revisions:?}");
    Ok(())
}

#[tokio::test]
async fn a_watch_tells_changes_in_order_each_revision_whole_from_the_one_asked_for() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let store = store(&etcd).await?;
    let before = applied(&store, writes(vec![put("/watch/a", Revision::ABSENT, "0")])).await?;
    let first =
        applied(&store, writes(vec![put("/watch/a", before, "1"), put("/watch/b", Revision::ABSENT, "1")])).await?;
    applied(&store, writes(vec![put("/watched", Revision::ABSENT, "neighbour")])).await?;
    let mut watch = store.watch("/watch", first).await?;
    let second = applied(&store, writes(vec![delete("/watch/a", first), put("/watch/b", first, "2")])).await?;
    let mut told = Vec::new();
    while told.len() < 4 {
        let batch = tokio::time::timeout(PATIENCE, watch.next()).await.context("a change")??;
        let last = batch.changes.last().context("only changes are told so soon")?;
        assert_eq!(batch.revision, last.revision);
        told.extend(batch.changes.into_iter().map(|change| {
            (
                change.revision,
                String::from_utf8(change.key).unwrap(),
                change.value.map(|value| String::from_utf8(value).unwrap()),
            )
        }));
    }
    told.sort();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        told,
        [
            (first, "/watch/a".to_owned(), some("1")),
            (first, "/watch/b".to_owned(), some("1")),
            (second, "/watch/a".to_owned(), None),
            (second, "/watch/b".to_owned(), some("2")),
        ]
    );
    Ok(())
}

#[tokio::test]
async fn what_is_compacted_is_said_to_be() -> anyhow::Result<()> {
    let etcd = Etcd::start(Binary::Etcd).await?;
    let store = store(&etcd).await?;
    let first = applied(&store, writes(vec![put("/p/a", Revision::ABSENT, "1")])).await?;
    let second = applied(&store, writes(vec![put("/p/a", first, "2")])).await?;
    let third = applied(&store, writes(vec![put("/p/a", second, "3")])).await?;
    etcd.client().await?.compact(second.0, None).await?;
    let mut watch = store.watch("/p", first).await?;
    let told = watch.next().await;
    ensure!(matches!(told, Err(ReadError::Compacted)), "{told:?}");
    let page = store.page("/p", PagePlace::After { key: b"/p/".to_vec(), at: first }).await;
    ensure!(matches!(page, Err(ReadError::Compacted)), "{page:?}");
    let mut watch = store.watch("/p", second).await?;
    assert_eq!(watch.next().await?.revision, third);
    Ok(())
}

/// A follower of `prefix`, and what it tells.
struct Following {
    events: mpsc::Receiver<StoreEvent>,
    _stop: tokio_util::sync::DropGuard,
}

impl Following {
    fn start(store: EtcdStore, prefix: &str) -> Self {
        let (sender, events) = mpsc::channel(16);
        let stop = CancellationToken::new();
        let retry = RetryLimits::new(Duration::from_millis(10), Duration::from_millis(100));
        tokio::spawn(follow(Arc::new(store), prefix.into(), sender, retry, stop.clone()));
        Self { events, _stop: stop.drop_guard() }
    }

    async fn next(&mut self) -> anyhow::Result<StoreEvent> {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.context("an event")?.context("the follower ended")
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
    assert_eq!((id, *revision), (&WorkId::new(Directory::Upstreams, "1"), at));

    let next = applied(
        &store,
        writes(vec![
            put("/follow/stream_routes/2", Revision::ABSENT, "{}"),
            delete("/follow/upstreams/1", at),
            delete("/follow/plugins", at),
        ]),
    )
    .await?;
    let StoreEvent::Changed { revision, events } = following.next().await? else { bail!("no change") };
    let mut told = ids(&events);
    told.sort();
    assert_eq!((revision, told.join(" ")), (next, "-upstreams/1 None stream_routes/2".to_owned()));
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
