//! One test's part of an etcd, and replicas of the controller that follow folders of manifests.
//!
//! In: where etcd is, manifests for each replica. Out: the replicas, what etcd holds, what it should hold, and what was
//! written since the test began.

use super::{
    chronicle::{Chronicle, Told},
    support::{
        binaries,
        controller::Controller,
        etcd::Held,
        wait::{PATIENCE, wait_until},
    },
};
use anyhow::{Context as _, ensure};
use etcd_client::{Client, GetOptions};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tempfile::TempDir;
use tokio::process::Command;

/// How long nobody leads after a leader's death, at most: `--lease-ttl` of every replica here that is not told otherwise.
const LEASE_TTL: &str = "2s";

/// How many keys are read at once: far below the size of one message, with documents of some hundred bytes.
const PAGE: i64 = 2_000;

/// A key that somebody else wrote among the documents, and what it holds.
const FOREIGN: (&str, &str) = ("/upstreams/theirs", r#"{"id":"theirs"}"#);

/// A test's place in an etcd, and the folders of its replicas.
pub(crate) struct Stage {
    /// What everything of this test begins with in etcd, without a slash at the end.
    pub(crate) root: String,
    /// Where the tests' own client looks.
    endpoints: Vec<String>,
    folders: TempDir,
    /// The foreign key's revision, and etcd's when the test began.
    foreign: i64,
    began: i64,
}

impl Stage {
    /// A new place in the etcd at these endpoints. `hint` begins its names.
    pub(crate) async fn new(endpoints: &[&str], hint: &str) -> anyhow::Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let root = format!("/{hint}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let endpoints = endpoints.iter().map(|&endpoint| endpoint.to_owned()).collect();
        let folders = tempfile::tempdir().context("making folders for manifests")?;
        let mut stage = Self { root, endpoints, folders, foreign: 0, began: 0 };
        let (key, value) = FOREIGN;
        stage.foreign = stage.put(key, value).await?;
        stage.began = stage.foreign;
        Ok(stage)
    }

    /// The prefix of documents.
    pub(crate) fn prefix(&self) -> String {
        format!("{}/apisix", self.root)
    }

    /// The prefix of control keys.
    pub(crate) fn control(&self) -> String {
        format!("{}/control", self.root)
    }

    /// A client of the tests' own.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        Client::connect(&self.endpoints, None).await.context("connecting to etcd")
    }

    /// From here on the tests' own client looks elsewhere.
    pub(crate) fn look_at(&mut self, endpoints: &[&str]) {
        self.endpoints = endpoints.iter().map(|&endpoint| endpoint.to_owned()).collect();
    }

    // Replicas

    fn folder(&self, name: &str) -> PathBuf {
        self.folders.path().join(name)
    }

    /// These are all manifests of a replica from here on.
    pub(crate) fn manifests(&self, name: &str, yaml: &str) -> anyhow::Result<()> {
        let (folder, new) = (self.folder(name), self.folders.path().join("new"));
        fs::create_dir_all(&folder).context("making a folder for manifests")?;
        // At once or not at all: a file that is half written may be sound YAML.
        fs::write(&new, yaml).context("writing manifests")?;
        fs::rename(new, folder.join("all.yaml")).context("writing manifests")
    }

    /// Starts a replica of this name on its manifests, with etcd at these endpoints.
    pub(crate) fn replica_at(&self, endpoints: &str, name: &str, more: &[&str]) -> anyhow::Result<Controller> {
        let (folder, prefix, control) = (self.folder(name), self.prefix(), self.control());
        let folder = folder.to_str().context("a path that is text")?;
        let mut arguments = vec!["run", "--log-format", "json", "--manifests", folder, "--etcd-endpoints", endpoints];
        arguments.extend(["--etcd-prefix", &prefix, "--control-prefix", &control]);
        arguments.extend(["--replica-name", name]);
        if !more.contains(&"--lease-ttl") {
            arguments.extend(["--lease-ttl", LEASE_TTL]);
        }
        arguments.extend(more);
        Controller::start(&arguments)
    }

    /// [`Stage::replica_at`] the endpoints of the tests' own client.
    pub(crate) fn replica(&self, name: &str, more: &[&str]) -> anyhow::Result<Controller> {
        self.replica_at(&self.endpoints.join(","), name, more)
    }

    /// Runs another command of the binary to its end: exit status, standard output, standard error.
    pub(crate) async fn command(&self, arguments: &[&str]) -> anyhow::Result<(i32, String, String)> {
        let output = Command::new(binaries::controller()?).args(arguments).kill_on_drop(true).output().await?;
        let status = output.status.code().context("a command ends by itself")?;
        Ok((status, String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
    }

    /// A command about the control keys, such as `checkpoint show`.
    pub(crate) async fn control_command(&self, arguments: &[&str]) -> anyhow::Result<(i32, String, String)> {
        let (endpoints, control) = (self.endpoints.join(","), self.control());
        let place = ["--etcd-endpoints", &endpoints, "--control-prefix", &control];
        self.command(&[arguments, &place].concat()).await
    }

    // What there is, and what there should be

    /// What `translate` makes of a replica's manifests, by full key.
    pub(crate) async fn wanted(&self, name: &str, more: &[&str]) -> anyhow::Result<BTreeMap<String, String>> {
        #[derive(serde::Deserialize)]
        struct Translation {
            documents: BTreeMap<String, Value>,
        }
        let (folder, prefix) = (self.folder(name), self.prefix());
        let folder = folder.to_str().context("a path that is text")?;
        let arguments = ["translate", "--output", "json", "--manifests", folder, "--etcd-prefix", &prefix];
        let (status, out, err) = self.command(&[&arguments, more].concat()).await?;
        ensure!(status == 0 || status == 1, "translate ended with {status}: {err}");
        let Translation { documents } = serde_json::from_str(&out).context("translate prints JSON")?;
        // Laid out as it stands in etcd; the order of fields is kept.
        Ok(documents.into_iter().map(|(key, value)| (key, value.to_string())).collect())
    }

    /// Everything below the prefix of documents, at one revision.
    pub(crate) async fn held(&self) -> anyhow::Result<BTreeMap<String, Held>> {
        let (mut client, prefix) = (self.client().await?, self.prefix());
        let (mut from, end) = (format!("{prefix}/").into_bytes(), format!("{prefix}0"));
        let (mut held, mut pinned) = (BTreeMap::new(), 0);
        loop {
            let options = GetOptions::new().with_range(end.as_str()).with_limit(PAGE).with_revision(pinned);
            let page = client.get(from, Some(options)).await.context("reading documents")?;
            pinned = page.header().context("an answer has a header")?.revision().max(pinned);
            for kv in page.kvs() {
                let (value, mod_revision, version) = (kv.value_str()?.to_owned(), kv.mod_revision(), kv.version());
                held.insert(kv.key_str()?.to_owned(), Held { value, mod_revision, version });
            }
            match page.kvs().last().filter(|_| page.more()) {
                Some(last) => from = [last.key(), &[0]].concat(),
                None => return Ok(held),
            }
        }
    }

    /// How many keys there are below the prefix of documents.
    pub(crate) async fn n_held(&self) -> anyhow::Result<i64> {
        let options = GetOptions::new().with_prefix().with_count_only();
        Ok(self.client().await?.get(format!("{}/", self.prefix()), Some(options)).await?.count())
    }

    /// Waits until etcd holds exactly these documents, and what is not ours as it was; everything it holds then.
    pub(crate) async fn holds(
        &self,
        controller: &Controller,
        wanted: &BTreeMap<String, String>,
    ) -> anyhow::Result<BTreeMap<String, Held>> {
        self.holds_within(controller, wanted, PATIENCE).await
    }

    /// [`Stage::holds`], with more patience.
    pub(crate) async fn holds_within(
        &self,
        controller: &Controller,
        wanted: &BTreeMap<String, String>,
        deadline: Duration,
    ) -> anyhow::Result<BTreeMap<String, Held>> {
        controller
            .wait_until("etcd to hold what is wanted", deadline, async || {
                // Cheap to ask, where there is much.
                let n_extra = 1 + placeholders(&self.prefix()).len();
                let n_wanted = i64::try_from(wanted.len() + n_extra)?;
                let n_held = self.n_held().await?;
                ensure!(n_held == n_wanted, "it holds {n_held} keys of {n_wanted}");
                let held = self.held().await?;
                let (foreign, value) = (format!("{}{}", self.prefix(), FOREIGN.0), FOREIGN.1);
                for (key, document) in &held {
                    if *key == foreign {
                        ensure!(
                            document.value == value && document.mod_revision == self.foreign,
                            "{key}: {document:?}"
                        );
                    } else if !placeholders(&self.prefix()).contains(key) {
                        let wanted = wanted.get(key).with_context(|| format!("{key} is there: {}", document.value))?;
                        ensure!(document.value == *wanted, "{key} is {} and should be {wanted}", document.value);
                    }
                }
                Ok(held)
            })
            .await
    }

    /// Writes below the prefix of documents, as somebody else; the revision.
    pub(crate) async fn put(&self, key: &str, value: &str) -> anyhow::Result<i64> {
        let answer = self.client().await?.put(format!("{}{key}", self.prefix()), value, None).await?;
        Ok(answer.header().context("an answer has a header")?.revision())
    }

    /// Deletes below the prefix of documents, as somebody else.
    pub(crate) async fn delete(&self, key: &str) -> anyhow::Result<()> {
        self.client().await?.delete(format!("{}{key}", self.prefix()), None).await?;
        Ok(())
    }

    /// Who holds the leader key of an instance, and since which revision.
    pub(crate) async fn leader(&self, instance: &str) -> anyhow::Result<Option<(String, i64)>> {
        let answer = self.client().await?.get(format!("{}/{instance}/leader", self.control()), None).await?;
        answer.kvs().first().map(|kv| Ok((kv.value_str()?.to_owned(), kv.create_revision()))).transpose()
    }

    /// Waits until the replica of this name holds the leader key in a term that began after `before`; when it began.
    pub(crate) async fn leads(&self, controller: &Controller, name: &str, before: i64) -> anyhow::Result<i64> {
        controller
            .wait_until(&format!("{name} to lead"), PATIENCE, async || {
                let (holder, since) = self.leader("default").await?.context("nobody leads")?;
                ensure!(holder == name && since > before, "{holder} leads since {since}");
                Ok(since)
            })
            .await
    }

    /// Everything written since the test began, judged.
    pub(crate) async fn judged(&self) -> anyhow::Result<Told> {
        self.chronicle(self.began).await?.judge(&self.prefix())
    }

    /// What was written after a revision.
    pub(crate) async fn chronicle(&self, after: i64) -> anyhow::Result<Chronicle> {
        Chronicle::after(&mut self.client().await?, &self.root, after).await
    }

    /// Everything written since the test began.
    pub(crate) async fn whole_chronicle(&self) -> anyhow::Result<Chronicle> {
        self.chronicle(self.began).await
    }
}

/// What keeps APISIX's directories from being absent.
fn placeholders(prefix: &str) -> [String; 3] {
    ["stream_routes", "ssls", "upstreams"].map(|directory| format!("{prefix}/{directory}/"))
}

/// The sum of the samples of a metric whose labels hold all of `labels`; `name` is without the prefix all metrics have.
pub(crate) async fn metric(controller: &Controller, name: &str, labels: &[&str]) -> anyhow::Result<u64> {
    let answer = controller.ask("/metrics").await?;
    ensure!(answer.status == 200, "/metrics says {}: {}", answer.status, answer.body);
    let mut sum = 0;
    for line in answer.body.lines() {
        let Some((sample, value)) = line.rsplit_once(' ') else { continue };
        let (found, found_labels) = sample.split_once('{').unwrap_or((sample, ""));
        if found.strip_prefix("apisix_etcd_controller_") == Some(name)
            && labels.iter().all(|label| found_labels.contains(label))
        {
            sum += value.parse::<u64>().with_context(|| format!("{line} ends in a whole number"))?;
        }
    }
    Ok(sum)
}

/// Waits until a metric is as it should be.
pub(crate) async fn counted(
    controller: &Controller,
    name: &str,
    labels: &[&str],
    right: impl Fn(u64) -> bool,
) -> anyhow::Result<u64> {
    controller
        .wait_until(&format!("{name}{labels:?}"), PATIENCE, async || {
            let value = metric(controller, name, labels).await?;
            ensure!(right(value), "it is {value}");
            Ok(value)
        })
        .await
}

/// Waits until a replica could lead: it knows the cluster and etcd. It is on hand when the leader goes.
pub(crate) async fn stands_by(controller: &Controller) -> anyhow::Result<()> {
    controller.ready().await?;
    counted(controller, "leader", &[], |leader| leader == 0).await.map(drop)
}

/// Kills a replica as its machine's end would.
pub(crate) async fn kill(controller: &Controller) -> anyhow::Result<()> {
    controller.process().signal("KILL")?;
    controller.process().ended(PATIENCE).await.map(drop)
}

/// Waits for what no replica's log would explain.
pub(crate) async fn until<T>(what: &str, look: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    wait_until(what, PATIENCE, look).await
}
