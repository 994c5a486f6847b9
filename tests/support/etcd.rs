//! A real etcd with one member.
//!
//! In: which etcd. Out: one that answers, on its own folder and ports, and is gone when dropped. It keeps nothing: it does
//! not wait for the disk where it can be told so.

use super::{
    binaries::Binary,
    process::{Ending, Process, folder, free_ports},
    wait::PATIENCE,
};
use anyhow::Context as _;
use std::{collections::BTreeMap, path::Path, process::Command, sync::Arc};
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

/// A running etcd.
#[derive(Debug)]
pub(crate) struct Etcd {
    process: Process,
    endpoint: String,
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
        let process = Process::start("etcd", folder, program, &arguments, &[], Ending::AtOnce)?;
        let etcd = Self { process, endpoint };
        etcd.process
            .wait_until("etcd to answer", PATIENCE, async || {
                // A read through the leader: it answers only when the member is ready for writes as well.
                etcd.client().await?.get("ready", None).await.context("reading a key")
            })
            .await?;
        Ok(etcd)
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
}
