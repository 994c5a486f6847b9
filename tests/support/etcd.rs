//! A real etcd with one member.
//!
//! In: which etcd. Out: one that answers, on its own folder and ports, and is gone when dropped. It keeps nothing: it does
//! not wait for the disk where it can be told so.

use super::{
    binaries::Binary,
    process::{Ending, Process, folder, free_ports},
    wait::PATIENCE,
};
use anyhow::{Context as _, ensure};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// One key as etcd holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// The value.
    pub(crate) value: String,
    /// The revision that wrote it last.
    pub(crate) mod_revision: i64,
    /// How often it was written since it was created.
    pub(crate) version: i64,
}

/// One change of a key, as a watch tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// The key.
    pub(crate) key: String,
    /// The revision that wrote it. What one transaction wrote has one revision.
    pub(crate) revision: i64,
    /// What was put; `None` if it was deleted.
    pub(crate) value: Option<String>,
}

/// A running etcd.
#[derive(Debug)]
pub(crate) struct Etcd {
    process: Process,
    endpoint: String,
    program: PathBuf,
    arguments: Vec<String>,
}

/// How often a start is tried: each time somebody else took a port between our finding it free and etcd's using it.
pub(crate) const STARTS_MAX: usize = 4;

/// The etcd of the machine that all tests of this binary share. Keep to a prefix of your own.
pub(crate) async fn shared_etcd() -> anyhow::Result<Arc<Etcd>> {
    static SHARED: OnceCell<Arc<Etcd>> = OnceCell::const_new();
    SHARED.get_or_try_init(async || Etcd::start(Binary::Etcd).await.map(Arc::new)).await.cloned()
}

impl Etcd {
    /// Starts one and waits until it answers.
    pub(crate) async fn start(binary: Binary) -> anyhow::Result<Self> {
        let program = binary.path()?;
        let mut attempt = Self::start_once(&program).await;
        for _ in 1..STARTS_MAX {
            if attempt.as_ref().err().is_none_or(|error| !format!("{error:#}").contains("address already in use")) {
                break;
            }
            attempt = Self::start_once(&program).await;
        }
        attempt.with_context(|| format!("starting {}", program.display()))
    }

    async fn start_once(program: &Path) -> anyhow::Result<Self> {
        let folder = folder()?;
        let [client_port, peer_port] = free_ports()?;
        let (endpoint, peer) = (format!("http://127.0.0.1:{client_port}"), format!("http://127.0.0.1:{peer_port}"));
        let mut arguments = vec![
            "--name=alone".to_owned(),
            format!("--data-dir={}", folder.path().join("data").display()),
            format!("--listen-client-urls={endpoint}"),
            format!("--advertise-client-urls={endpoint}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=alone={peer}"),
        ];
        // Debian's 3.4 does not have it.
        let help = Command::new(program).arg("--help").output().context("asking etcd for its flags")?;
        if String::from_utf8_lossy(&[help.stdout, help.stderr].concat()).contains("--unsafe-no-fsync") {
            arguments.push("--unsafe-no-fsync".to_owned());
        }
        Self::start_with(folder, endpoint, program.to_owned(), arguments).await
    }

    async fn start_with(
        folder: TempDir,
        endpoint: String,
        program: PathBuf,
        arguments: Vec<String>,
    ) -> anyhow::Result<Self> {
        let process = Process::start("etcd", folder, &program, &arguments, &[], Ending::AtOnce)?;
        let etcd = Self { process, endpoint, program, arguments };
        etcd.process
            .wait_until("etcd to answer", PATIENCE, async || {
                // A read through the leader: it answers only when the member is ready for writes as well.
                etcd.client().await?.get("ready", None).await.context("reading a key")
            })
            .await?;
        Ok(etcd)
    }

    /// Ends it as its machine's end would, with what it holds left on disk. Keep `self` until whoever was started with
    /// [`Etcd::start_again`] has ended: the disk is this one's.
    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        self.process.signal("KILL")?;
        self.process.ended(PATIENCE).await.map(drop)
    }

    /// Another on what this one left, at the same endpoint. This one has been stopped.
    pub(crate) async fn start_again(&self) -> anyhow::Result<Self> {
        Self::start_with(folder()?, self.endpoint.clone(), self.program.clone(), self.arguments.clone()).await
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The process, to pause it (`STOP`, `CONT`) or read its log.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// A client of its own for this runtime: a client dies with the runtime it was made on, and every test has its own.
    pub(crate) async fn client(&self) -> anyhow::Result<etcd_client::Client> {
        etcd_client::Client::connect([&self.endpoint], None).await.context("connecting to etcd")
    }

    /// All keys that begin with `prefix`, at one revision.
    pub(crate) async fn under(&self, prefix: &str) -> anyhow::Result<BTreeMap<String, Held>> {
        let options = etcd_client::GetOptions::new().with_prefix();
        let answer = self.client().await?.get(prefix, Some(options)).await.context("reading keys")?;
        answer
            .kvs()
            .iter()
            .map(|kv| {
                let held =
                    Held { value: kv.value_str()?.to_owned(), mod_revision: kv.mod_revision(), version: kv.version() };
                Ok((kv.key_str()?.to_owned(), held))
            })
            .collect()
    }

    /// The revision now: of the last write to any key.
    pub(crate) async fn revision(&self) -> anyhow::Result<i64> {
        let answer = self.client().await?.get("revision", None).await.context("reading a key")?;
        Ok(answer.header().context("an answer has a header")?.revision())
    }

    /// Every change after `revision`, up to now, of keys that begin with `prefix`, in the order of revisions.
    pub(crate) async fn history(&self, prefix: &str, revision: i64) -> anyhow::Result<Vec<Written>> {
        let mut client = self.client().await?;
        // A watch never says that there is no more, so something is put at the end that it does tell.
        let end = format!("{prefix}end-of-history");
        let until = client.put(end.as_str(), "", None).await.context("putting a key")?;
        let until = until.header().context("an answer has a header")?.revision();
        let options = etcd_client::WatchOptions::new().with_prefix().with_start_revision(revision + 1);
        let mut watch = client.watch(prefix, Some(options)).await.context("watching keys")?;
        let mut history = Vec::new();
        loop {
            let message = tokio::time::timeout(PATIENCE, watch.message()).await.context("waiting for a watch")??;
            let message = message.context("a watch goes on")?;
            ensure!(!message.canceled(), "the watch was ended: {}", message.cancel_reason());
            for event in message.events() {
                let kv = event.kv().context("an event has a key")?;
                let (key, revision) = (kv.key_str()?.to_owned(), kv.mod_revision());
                if revision >= until {
                    return Ok(history);
                }
                let value = match event.event_type() {
                    etcd_client::EventType::Put => Some(kv.value_str()?.to_owned()),
                    etcd_client::EventType::Delete => None,
                };
                // That of an earlier call.
                if key != end {
                    history.push(Written { key, revision, value });
                }
            }
        }
    }
}
