//! Following a real etcd through what happens to etcds: members lost, compaction, wiped, restored from a backup.

mod support;

use anyhow::{Context as _, bail, ensure};
use apisix_etcd_controller::{
    model::places::{Directory, Plane, WorkId},
    retry::RetryLimits,
    store::{
        StoreId,
        audit::differences,
        etcd::{EtcdSettings, EtcdStore},
        follow::{KeyEvent, PlaneEvent, Reread, Snapshot, StoreEvent, follow, list::list},
        mirror::Mirror,
        txn::Revision,
    },
};
use std::{path::Path, process::Command, sync::Arc};
use support::{
    binaries::Binary,
    etcd::Etcd,
    etcd_cluster::{EtcdCluster, MEMBERS},
    proxy::Proxy,
    wait::{PATIENCE, wait_until},
};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

async fn store(endpoints: Vec<String>) -> anyhow::Result<EtcdStore> {
    let settings = EtcdSettings { endpoints, ..EtcdSettings::at("") };
    Ok(EtcdStore::connect(&settings).await?)
}

/// A follower of `/p`, a mirror made of what it tells, and what it told of the store.
struct Following {
    store: EtcdStore,
    events: mpsc::Receiver<PlaneEvent>,
    reread: Reread,
    mirror: Mirror,
    told: Revision,
    snapshots: Vec<(StoreId, bool)>,
    outages: usize,
    _stop: DropGuard,
}

impl Following {
    /// Starts one and waits until it has read everything.
    async fn start(endpoints: Vec<String>) -> anyhow::Result<Self> {
        let store = store(endpoints).await?;
        let (sender, events) = mpsc::channel(16);
        let (reread, stop) = (Reread::default(), CancellationToken::new());
        let task =
            follow(Arc::new(store.clone()), Plane::of("/p"), sender, reread.clone(), RetryLimits::STORE, stop.clone());
        tokio::spawn(task);
        let mut following = Self {
            store,
            events,
            reread,
            mirror: Mirror::new(Plane::of("/p"), "us".into()),
            told: Revision::ABSENT,
            snapshots: Vec::new(),
            outages: 0,
            _stop: stop.drop_guard(),
        };
        following.until("a snapshot", |following| !following.snapshots.is_empty()).await?;
        Ok(following)
    }

    /// Takes in what is told until `done`.
    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        while !done(self) {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
            match event.with_context(|| format!("waiting for {what}"))?.context("the follower ended")?.event {
                StoreEvent::Snapshot(snapshot) => {
                    let Snapshot { store, revision, begins_anew, .. } = snapshot;
                    self.snapshots.push((store, begins_anew));
                    self.told = revision;
                    self.mirror.take_snapshot(snapshot);
                }
                StoreEvent::Changed { revision, events } => {
                    self.told = self.told.max(revision);
                    for event in events {
                        match event {
                            KeyEvent::Document { id, revision, stored } => {
                                drop(self.mirror.learn(id, revision, stored));
                            }
                            KeyEvent::TrafficSplit(_) => bail!("nobody lists plugins here"),
                        }
                    }
                    self.mirror.passed(revision);
                }
                StoreEvent::Disconnected => self.outages += 1,
                StoreEvent::Reconnected => {}
            }
        }
        Ok(())
    }

    /// Waits until everything up to `revision` was told.
    async fn catches_up(&mut self, revision: Revision) -> anyhow::Result<()> {
        self.until(&format!("revision {revision}"), |following| following.told >= revision).await
    }

    async fn loses_etcd(&mut self) -> anyhow::Result<()> {
        let outages = self.outages;
        self.until("an outage", |following| following.outages > outages).await
    }

    /// Waits for the next reading; whether it begins anew.
    async fn begins_anew(&mut self) -> anyhow::Result<bool> {
        let n_snapshots = self.snapshots.len();
        self.until("a snapshot", |following| following.snapshots.len() > n_snapshots).await?;
        Ok(self.snapshots.last().is_some_and(|(_, begins_anew)| *begins_anew))
    }

    /// The mirror is what etcd holds.
    async fn is_right(&self) -> anyhow::Result<()> {
        // Members that have just come back may not be connected yet.
        let (_, listing) =
            wait_until("a listing", PATIENCE, async || Ok(list(&self.store, Plane::of("/p")).await?)).await?;
        assert_eq!(differences(&self.mirror, &listing), [].into());
        assert_eq!(self.mirror.known().count(), listing.keys.len());
        Ok(())
    }
}

fn pool(id: &str) -> WorkId {
    WorkId::new(Plane::of("/p"), Directory::Upstreams, id)
}

async fn put(client: &etcd_client::Client, id: &str, value: &str) -> anyhow::Result<Revision> {
    let answer = client.kv_client().put(pool(id).key(), value, None).await.context("putting a key")?;
    Ok(Revision(answer.header().context("an answer has a header")?.revision()))
}

async fn delete(client: &etcd_client::Client, id: &str) -> anyhow::Result<Revision> {
    let answer = client.kv_client().delete(pool(id).key(), None).await.context("deleting a key")?;
    Ok(Revision(answer.header().context("an answer has a header")?.revision()))
}

#[tokio::test]
async fn a_cluster_that_loses_a_member_and_then_its_leader_is_followed_on() -> anyhow::Result<()> {
    let mut cluster = EtcdCluster::start(Binary::Etcd36).await?;
    let mut following = Following::start(cluster.endpoints()).await?;
    let leader = cluster.leader().await?;
    let other = (leader + 1) % MEMBERS;

    cluster.stop(other).await?;
    let last = put(&cluster.client(leader).await?, "a", "without a member").await?;
    following.catches_up(last).await?;
    cluster.start_again(other).await?;

    cluster.stop(leader).await?;
    let next = cluster.leader().await?;
    ensure!(next != leader);
    let last = put(&cluster.client(next).await?, "b", "without the leader").await?;
    following.catches_up(last).await?;
    cluster.start_again(leader).await?;

    let last = put(&cluster.client(leader).await?, "a", "with all").await?;
    following.catches_up(last).await?;
    following.is_right().await?;
    assert_eq!(following.snapshots.len(), 1, "nothing had to be read anew");
    Ok(())
}

#[tokio::test]
async fn a_member_that_was_away_is_believed_once_it_has_caught_up() -> anyhow::Result<()> {
    let mut cluster = EtcdCluster::start(Binary::Etcd).await?;
    let leader = cluster.leader().await?;
    let member = (leader + 1) % MEMBERS;
    // Only this member is known, so that what it says after its absence is all there is.
    let mut following = Following::start(vec![cluster.endpoint(member)?.to_owned()]).await?;
    let client = cluster.client(leader).await?;
    let first = put(&client, "a", "1").await?;
    following.catches_up(first).await?;
    cluster.stop(member).await?;
    following.loses_etcd().await?;
    for n in 0..50 {
        put(&client, "a", &n.to_string()).await?;
    }
    let last = put(&client, "b", "1").await?;
    cluster.start_again(member).await?;
    following.catches_up(last).await?;
    following.is_right().await?;
    assert_eq!(following.snapshots.len(), 1, "a member that lags is no store that lost anything");
    Ok(())
}

#[tokio::test]
async fn what_was_compacted_while_away_is_read_anew_without_beginning_anew() -> anyhow::Result<()> {
    for binary in [Binary::Etcd, Binary::Etcd36] {
        let etcd = Etcd::start(binary).await?;
        let client = etcd.client().await?;
        for id in ["same", "edited", "deleted"] {
            put(&client, id, "1").await?;
        }
        let proxy = Proxy::start(etcd.endpoint()).await?;
        let mut following = Following::start(vec![proxy.endpoint()]).await?;
        proxy.cut();
        following.loses_etcd().await?;
        put(&client, "edited", "2").await?;
        put(&client, "new", "1").await?;
        let last = delete(&client, "deleted").await?;
        client.kv_client().compact(last.0, None).await?;
        proxy.mend();
        ensure!(!following.begins_anew().await?);
        following.is_right().await?;
    }
    Ok(())
}

/// Ends an etcd and starts it with an empty disk, at the same address and with the same flags.
async fn wipe(etcd: &Etcd) -> anyhow::Result<Etcd> {
    etcd.stop().await?;
    std::fs::remove_dir_all(etcd.process().folder().join("data")).context("wiping etcd")?;
    etcd.start_again().await
}

#[tokio::test]
async fn an_etcd_that_was_wiped_begins_anew_although_it_has_the_same_id() -> anyhow::Result<()> {
    for binary in [Binary::Etcd, Binary::Etcd36] {
        let etcd = Etcd::start(binary).await?;
        put(&etcd.client().await?, "a", "1").await?;
        put(&etcd.client().await?, "b", "1").await?;
        let mut following = Following::start(vec![etcd.endpoint().to_owned()]).await?;
        let wiped = wipe(&etcd).await?;
        ensure!(following.begins_anew().await?);
        following.is_right().await?;
        assert_eq!(following.snapshots[0].0, following.snapshots[1].0, "which is why its id is not all that is asked");
        let last = put(&wiped.client().await?, "a", "1").await?;
        following.catches_up(last).await?;
        following.is_right().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_etcd_that_was_wiped_and_has_overtaken_us_begins_anew() -> anyhow::Result<()> {
    let etcd = Etcd::start(Binary::Etcd).await?;
    let client = etcd.client().await?;
    for id in ["a", "b", "c"] {
        put(&client, id, "1").await?;
    }
    let proxy = Proxy::start(etcd.endpoint()).await?;
    let mut following = Following::start(vec![proxy.endpoint()]).await?;
    proxy.cut();
    following.loses_etcd().await?;
    let wiped = wipe(&etcd).await?;
    let client = wiped.client().await?;
    while put(&client, "a", "1").await? <= following.told {}
    proxy.mend();
    ensure!(following.begins_anew().await?);
    following.is_right().await
}

fn etcdctl(folder: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let done = Command::new("etcdctl")
        .args(arguments)
        .current_dir(folder)
        .env("ETCDCTL_API", "3")
        .output()
        .context("running etcdctl")?;
    ensure!(done.status.success(), "etcdctl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

#[tokio::test]
async fn an_etcd_restored_from_a_backup_begins_anew_with_what_the_backup_holds() -> anyhow::Result<()> {
    let etcd = Etcd::start(Binary::Etcd).await?;
    let client = etcd.client().await?;
    put(&client, "kept", "1").await?;
    put(&client, "edited", "before").await?;
    let mut following = Following::start(vec![etcd.endpoint().to_owned()]).await?;
    let folder = etcd.process().folder();
    etcdctl(folder, &["--endpoints", etcd.endpoint(), "snapshot", "save", "backup"])?;
    put(&client, "edited", "after").await?;
    let last = put(&client, "lost", "1").await?;
    following.catches_up(last).await?;

    etcd.stop().await?;
    std::fs::remove_dir_all(folder.join("data")).context("losing etcd's disk")?;
    etcdctl(folder, &["snapshot", "restore", "backup", "--data-dir", "data"])?;
    let restored = etcd.start_again().await?;
    ensure!(following.begins_anew().await?);
    following.is_right().await?;
    ensure!(following.mirror.stored(&pool("lost")).is_none());
    ensure!(following.snapshots[0].0 != following.snapshots[1].0, "etcdctl gives a restored member another name");
    let last = put(&restored.client().await?, "new", "1").await?;
    following.catches_up(last).await?;
    following.is_right().await
}

#[tokio::test]
async fn an_etcd_replaced_behind_a_proxy_is_told_by_a_listing_and_by_a_new_connection() -> anyhow::Result<()> {
    let (before, after) = (Etcd::start(Binary::Etcd).await?, Etcd::start(Binary::Etcd36).await?);
    put(&before.client().await?, "a", "1").await?;
    for _ in 0..9 {
        put(&after.client().await?, "b", "1").await?;
    }
    let proxy = Proxy::start(before.endpoint()).await?;
    let mut following = Following::start(vec![proxy.endpoint()]).await?;
    // The watch stays on the etcd that it began with; whoever connects anew is led to the other.
    proxy.turn_to(after.endpoint())?;
    let (id, listing) = list(&store(vec![proxy.endpoint()]).await?, Plane::of("/p")).await?;
    ensure!(id != following.snapshots[0].0);
    assert_eq!(differences(&following.mirror, &listing), ["a", "b"].map(pool).into());
    proxy.cut();
    following.loses_etcd().await?;
    proxy.mend();
    ensure!(following.begins_anew().await?);
    following.is_right().await?;
    following.reread.ask();
    ensure!(!following.begins_anew().await?, "it began anew once");
    Ok(())
}
