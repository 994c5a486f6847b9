//! `checkpoint show`, `checkpoint reset` and `release` as a user runs them, on a real etcd.

mod support;

use anyhow::{Context as _, bail, ensure};
use apisix_etcd_controller::{
    command::checkpoint::reset::{Reset, reset},
    model::versions::CacheVersion,
    store::{
        Content, Page, PagePlace, ReadError, Scope, Store,
        checkpoint::Checkpoint,
        control::ControlKeys,
        etcd::{EtcdSettings, EtcdStore, EtcdWatch},
        lease::{Claim, LeaseError, LeaseId, Leases},
        records::{Records, read_records},
        txn::{Action, Commit, CommitError, Fence, Revision, Txn, Write},
    },
};
use std::{
    process::{Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use support::{
    binaries::Binary,
    etcd::{Etcd, shared_etcd},
    wait::PATIENCE,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

/// How a command ended: exit status, standard output, standard error.
#[derive(Debug)]
struct Ended {
    status: i32,
    out: String,
    err: String,
}

impl Ended {
    fn of(output: Output) -> anyhow::Result<Self> {
        let Output { status, stdout, stderr } = output;
        let status = status.code().context("a command ends by itself")?;
        Ok(Self { status, out: String::from_utf8(stdout)?, err: String::from_utf8(stderr)? })
    }
}

/// One instance on the shared etcd, and nobody else's.
struct Scene {
    etcd: Arc<Etcd>,
    store: EtcdStore,
    keys: ControlKeys,
    prefix: String,
}

impl Scene {
    async fn new(name: &str) -> anyhow::Result<Self> {
        Self::on(shared_etcd().await?, name).await
    }

    async fn on(etcd: Arc<Etcd>, name: &str) -> anyhow::Result<Self> {
        let settings = EtcdSettings { request_timeout: PATIENCE, ..EtcdSettings::at(etcd.endpoint()) };
        let store = EtcdStore::connect(&settings).await?;
        let prefix = format!("/control-{name}");
        let keys = ControlKeys::new(prefix.as_str().into(), "blue".into());
        Ok(Self { etcd, store, keys, prefix })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_apisix-etcd-controller"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("APISIX_ETCD_CONTROLLER_")) {
            command.env_remove(name);
        }
        command.args(arguments).args(["--etcd-endpoints", self.etcd.endpoint()]);
        command.args(["--control-prefix", &self.prefix, "--instance", "blue"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> anyhow::Result<Ended> {
        let output = tokio::time::timeout(PATIENCE, self.command(arguments).output()).await;
        Ended::of(output.context("a command ends")??)
    }

    async fn put(&self, key: &str, value: impl Into<Vec<u8>>) -> anyhow::Result<()> {
        self.etcd.client().await?.put(key, value.into(), None).await?;
        Ok(())
    }

    async fn put_record(&self, lane: u32, record: &Checkpoint) -> anyhow::Result<()> {
        self.put(&self.keys.lane(lane), record.encode()).await
    }

    async fn delete(&self, key: &str) -> anyhow::Result<()> {
        self.etcd.client().await?.delete(key, None).await?;
        Ok(())
    }

    async fn records(&self) -> anyhow::Result<Records> {
        Ok(read_records(&self.store, &self.keys).await?)
    }

    /// Every key below the control prefix, with its revision.
    async fn all(&self) -> anyhow::Result<Vec<(Vec<u8>, Revision)>> {
        let page = self.store.page(&self.keys.everyone(), Content::KeysOnly, PagePlace::First).await?;
        Ok(page.entries.into_iter().map(|entry| (entry.key, entry.mod_revision)).collect())
    }
}

fn record(sequence: u64) -> Checkpoint {
    Checkpoint {
        instance: "blue".into(),
        cluster: "f0e1".into(),
        prefixes: [("/apisix".into(), "".into())].into(),
        versions: [("services".into(), CacheVersion(300 + sequence))].into(),
        sequence,
        holder: "blue-0".into(),
        written_at: 1_700_000_000,
    }
}

#[tokio::test]
async fn what_was_never_written_has_no_checkpoint_to_show_or_reset() -> anyhow::Result<()> {
    let scene = Scene::new("never").await?;
    let shown = scene.run(&["checkpoint", "show"]).await?;
    assert_eq!(shown.status, 0, "{shown:?}");
    ensure!(shown.out.contains("Nobody leads it") && shown.out.contains("no checkpoint"), "{shown:?}");
    let reset = scene.run(&["checkpoint", "reset", "--yes"]).await?;
    assert_eq!((reset.status, reset.out.as_str()), (1, ""));
    ensure!(reset.err.contains("no checkpoint") && reset.err.contains("--instance"), "{reset:?}");
    assert_eq!(scene.all().await?, []);
    Ok(())
}

#[tokio::test]
async fn every_lane_is_shown_with_the_newest_record_whole_and_who_leads() -> anyhow::Result<()> {
    let scene = Scene::new("show").await?;
    scene.put_record(0, &record(11)).await?;
    scene.put_record(1, &record(12)).await?;
    scene.put(&scene.keys.leader(), "blue-1").await?;
    let before = scene.all().await?;

    let shown = scene.run(&["checkpoint", "show"]).await?;
    assert_eq!((shown.status, shown.err.as_str()), (0, ""));
    for part in ["blue-1 leads it", "1 (newest)", "2023-11-14T22:13:20Z", "f0e1", "/apisix", "services", "312"] {
        ensure!(shown.out.contains(part), "{part} is not in\n{}", shown.out);
    }
    let json: serde_json::Value =
        serde_json::from_str(&scene.run(&["checkpoint", "show", "--output", "json"]).await?.out)?;
    assert_eq!(json["leader"]["holder"], "blue-1");
    assert_eq!((&json["newest"], &json["lanes"][1]["record"]["sequence"]), (&1.into(), &12.into()));
    assert_eq!(json["lanes"][0]["record"]["versions"]["services"], 311);
    assert_eq!(scene.all().await?, before);
    Ok(())
}

#[tokio::test]
async fn a_record_that_cannot_be_used_is_shown_with_the_reason_and_ends_with_1() -> anyhow::Result<()> {
    let scene = Scene::new("unusable").await?;
    scene.put_record(0, &record(11)).await?;
    scene.put(&scene.keys.lane(1), "{}").await?;
    scene.put(&scene.keys.lane(2), *b"\x0dCHPK\x10\x02").await?;
    let shown = scene.run(&["checkpoint", "show"]).await?;
    assert_eq!(shown.status, 1, "{shown:?}");
    for part in ["lane 1", "broken", "lane 2", "has format 2"] {
        ensure!(shown.out.contains(part), "{part} is not in\n{}", shown.out);
    }
    Ok(())
}

#[tokio::test]
async fn a_reset_leaves_one_newer_record_that_any_cluster_may_follow() -> anyhow::Result<()> {
    let scene = Scene::new("reset").await?;
    let document = format!("{}-data/stream_routes/gateway-api.9100", scene.prefix);
    scene.put(&document, "{}").await?;
    scene.put_record(0, &record(11)).await?;
    scene.put_record(1, &record(12)).await?;
    scene.put(&scene.keys.lane(2), "{}").await?;
    scene.put(&scene.keys.release("held"), "").await?;
    let written = scene.etcd.under(&document).await?;

    let ended = scene.run(&["checkpoint", "reset", "--yes"]).await?;
    assert_eq!((ended.status, ended.err.as_str()), (0, ""));
    ensure!(ended.out.contains("is reset") && ended.out.contains("could not be read: 1"), "{ended:?}");

    let records = scene.records().await?;
    assert_eq!(records.found().iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0]);
    let newest = records.newest()?.context("there is a record")?;
    assert_eq!((newest.sequence, newest.versions.len()), (13, 0));
    assert_eq!(newest.prefixes, record(12).prefixes, "what belongs to the instance stays its own");
    for cluster in ["f0e1", "another", "folder"] {
        newest.acceptable(cluster)?;
    }
    let keys: Vec<_> =
        scene.all().await?.into_iter().map(|(key, _)| String::from_utf8(key)).collect::<Result<_, _>>()?;
    assert_eq!(keys, [&*scene.keys.lane(0), &*scene.keys.release("held")], "the lead was given back, and no more");
    assert_eq!(scene.etcd.under(&document).await?, written);
    Ok(())
}

#[tokio::test]
async fn a_reset_can_be_reset() -> anyhow::Result<()> {
    let scene = Scene::new("twice").await?;
    scene.put_record(5, &record(11)).await?;
    for sequence in [12, 13] {
        assert_eq!(scene.run(&["checkpoint", "reset", "--yes"]).await?.status, 0);
        assert_eq!(scene.records().await?.newest()?.map(|newest| newest.sequence), Some(sequence));
    }
    let shown = scene.run(&["checkpoint", "show"]).await?;
    ensure!(shown.status == 0 && shown.out.contains("any may follow (reset)"), "{shown:?}");
    Ok(())
}

#[tokio::test]
async fn nothing_is_reset_without_a_yes() -> anyhow::Result<()> {
    let scene = Scene::new("unasked").await?;
    scene.put_record(0, &record(11)).await?;
    let before = scene.all().await?;
    let ended = scene.run(&["checkpoint", "reset"]).await?;
    assert_eq!((ended.status, ended.out.as_str()), (2, ""));
    ensure!(ended.err.contains("--yes"), "{ended:?}");
    assert_eq!(scene.all().await?, before);
    Ok(())
}

#[tokio::test]
async fn while_another_leads_nothing_is_reset_and_it_is_named() -> anyhow::Result<()> {
    let scene = Scene::new("led").await?;
    scene.put_record(0, &record(11)).await?;
    scene.put(&scene.keys.leader(), "blue-1").await?;
    let before = scene.all().await?;
    let ended = scene.run(&["checkpoint", "reset", "--yes", "--timeout", "100ms"]).await?;
    assert_eq!((ended.status, ended.out.as_str()), (1, ""), "{ended:?}");
    ensure!(ended.err.contains("waiting up to 100ms for blue-1") && ended.err.contains("blue-1 leads"), "{ended:?}");
    assert_eq!(scene.all().await?, before);
    Ok(())
}

#[tokio::test]
async fn a_reset_waits_for_the_leader_to_end_and_counts_what_it_wrote_last() -> anyhow::Result<()> {
    let scene = Scene::new("wait").await?;
    scene.put_record(0, &record(11)).await?;
    scene.put(&scene.keys.leader(), "blue-1").await?;
    let mut child = scene.command(&["checkpoint", "reset", "--yes", "--timeout", "10m"]).spawn()?;
    let stderr = child.stderr.take().context("a pipe")?;
    let line = tokio::time::timeout(PATIENCE, BufReader::new(stderr).lines().next_line()).await??;
    ensure!(line.as_ref().is_some_and(|line| line.contains("for blue-1")), "{line:?}");
    scene.put_record(1, &record(40)).await?;
    scene.delete(&scene.keys.leader()).await?;
    let status = tokio::time::timeout(PATIENCE, child.wait()).await??;
    ensure!(status.success());
    assert_eq!(scene.records().await?.newest()?.map(|newest| newest.sequence), Some(41));
    Ok(())
}

#[tokio::test]
async fn an_etcd_that_is_not_there_and_wrong_settings_end_with_2() -> anyhow::Result<()> {
    let scene = Scene::new("wrong").await?;
    for command in [&["checkpoint", "show"][..], &["checkpoint", "reset", "--yes"], &["release", "held"]] {
        let mut gone = Command::new(env!("CARGO_BIN_EXE_apisix-etcd-controller"));
        gone.args(command).args(["--etcd-endpoints", "http://127.0.0.1:1", "--etcd-timeout", "1s"]);
        let gone = Ended::of(gone.output().await?)?;
        assert_eq!((gone.status, gone.out.as_str()), (2, ""), "{gone:?}");
        ensure!(gone.err.starts_with("error: "), "{gone:?}");
        let wrong = scene.run(&[command, &["--etcd-timeout", "soon"]].concat()).await?;
        assert_eq!((wrong.status, wrong.out.as_str()), (2, ""), "{wrong:?}");
    }
    Ok(())
}

#[tokio::test]
async fn help_shows_examples() -> anyhow::Result<()> {
    for command in [&["checkpoint", "show"][..], &["checkpoint", "reset"], &["release"]] {
        let mut help = Command::new(env!("CARGO_BIN_EXE_apisix-etcd-controller"));
        let help = Ended::of(help.args(command).arg("--help").output().await?)?;
        ensure!(help.status == 0 && help.out.contains("Examples:\n") && help.out.contains("Ends with 0"), "{help:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_release_is_put_once_and_says_whether_a_leader_is_there() -> anyhow::Result<()> {
    let scene = Scene::new("release").await?;
    let kind = "kind/gateway.networking.k8s.io/tcproutes";
    let nobody = scene.run(&["release", kind]).await?;
    assert_eq!((nobody.status, nobody.err.as_str()), (0, ""));
    ensure!(nobody.out.contains("Nobody leads instance blue"), "{nobody:?}");
    let put = scene.all().await?;
    assert_eq!(put.len(), 1);

    scene.put(&scene.keys.leader(), "blue-1").await?;
    let again = scene.run(&["release", kind]).await?;
    ensure!(again.status == 0 && again.out.contains("asked for before") && again.out.contains("blue-1"), "{again:?}");
    let another = scene.run(&["release", "hold-7"]).await?;
    ensure!(another.status == 0 && another.out.contains("blue-1 leads instance blue"), "{another:?}");
    ensure!(scene.all().await?.contains(&put[0]), "it was put once");

    let list = scene.run(&["release", "--list"]).await?;
    assert_eq!((list.status, list.out.as_str()), (0, &*format!("hold-7\n{kind}\n")));
    // As the leader does.
    scene.delete(&scene.keys.release(kind)).await?;
    assert_eq!(scene.run(&["release", "--list"]).await?.out, "hold-7\n");
    Ok(())
}

/// An etcd whose first answers to transactions are lost; every other one of those transactions, too.
struct Deaf {
    store: EtcdStore,
    n_lost: usize,
    n_sent: AtomicUsize,
    /// Whether the first of the lost ones is carried out.
    first_arrives: bool,
}

impl Store for Deaf {
    type Watch = EtcdWatch;

    async fn commit(&self, txn: Txn) -> Result<Commit, CommitError> {
        let n_sent = self.n_sent.fetch_add(1, Ordering::SeqCst);
        if n_sent >= self.n_lost {
            return self.store.commit(txn).await;
        }
        let n_operations = txn.n_operations();
        if n_sent.is_multiple_of(2) == self.first_arrives {
            self.store.commit(txn).await?;
        }
        Err(CommitError::Unanswered { n_operations, waited: Duration::ZERO, source: "silence".into() })
    }

    async fn page(&self, scope: &Scope, content: Content, place: PagePlace) -> Result<Page, ReadError> {
        self.store.page(scope, content, place).await
    }

    async fn watch(&self, scope: &Scope, from: Revision) -> Result<EtcdWatch, ReadError> {
        self.store.watch(scope, from).await
    }
}

impl Leases for Deaf {
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, LeaseError> {
        self.store.grant(ttl).await
    }

    async fn renew(&self, lease: LeaseId) -> Result<(), LeaseError> {
        self.store.renew(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), LeaseError> {
        self.store.revoke(lease).await
    }

    async fn claim(&self, key: &str, value: &[u8], lease: LeaseId) -> Result<Claim, LeaseError> {
        self.store.claim(key, value, lease).await
    }
}

#[tokio::test]
async fn a_reset_whose_answers_are_lost_is_settled() -> anyhow::Result<()> {
    // What arrives of the first two is the record or its settling; the third loss is about the deletions.
    for (n_lost, first_arrives) in [(1, true), (1, false), (2, true), (2, false), (3, true), (3, false)] {
        let scene = Scene::new(&format!("deaf-{n_lost}-{first_arrives}")).await?;
        scene.put_record(0, &record(11)).await?;
        scene.put_record(1, &record(12)).await?;
        let deaf = Deaf { store: scene.store.clone(), n_lost, n_sent: AtomicUsize::new(0), first_arrives };
        let Reset { n_deleted, n_unread } = reset(&deaf, &scene.keys, PATIENCE, |_| {}).await?;
        assert_eq!((n_deleted, n_unread), (1, 0));
        let records = scene.records().await?;
        let newest = records.newest()?.context("there is a record")?;
        ensure!(records.lanes.len() == 1 && newest.sequence > 12, "{records:?}");
        newest.acceptable("another")?;
    }
    Ok(())
}

#[tokio::test]
async fn what_a_former_leader_sent_is_fenced_by_a_reset() -> anyhow::Result<()> {
    let scene = Scene::new("fenced").await?;
    scene.put_record(0, &record(11)).await?;
    let (_, at) = scene.all().await?.remove(0);
    // A leader that paused before its last transaction.
    let lease = scene.store.grant(PATIENCE).await?;
    let Claim::Won(created) = scene.store.claim(&scene.keys.leader(), b"blue-1", lease).await? else { bail!("held") };
    scene.store.revoke(lease).await?;
    reset(&scene.store, &scene.keys, PATIENCE, |_| {}).await?;
    let late = Txn {
        fence: Fence { key: scene.keys.leader(), created },
        conditions: vec![],
        writes: vec![Write { key: scene.keys.lane(0), expected: at, action: Action::Put(record(12).encode().into()) }],
    };
    assert_eq!(scene.store.commit(late).await?, Commit::Fenced);
    Ok(())
}

#[tokio::test]
async fn on_the_newest_etcd_a_reset_and_a_release_do_the_same() -> anyhow::Result<()> {
    let scene = Scene::on(Arc::new(Etcd::start(Binary::Etcd36).await?), "newest").await?;
    scene.put_record(3, &record(11)).await?;
    let ended = scene.run(&["checkpoint", "reset", "--yes"]).await?;
    ensure!(ended.status == 0 && ended.out.contains("is reset"), "{ended:?}");
    assert_eq!(scene.records().await?.newest()?.map(|newest| newest.sequence), Some(12));
    assert_eq!(scene.run(&["release", "hold-7"]).await?.status, 0);
    assert_eq!(scene.run(&["release", "--list"]).await?.out, "hold-7\n");
    Ok(())
}
