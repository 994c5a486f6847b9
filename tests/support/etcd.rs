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
use parking_lot::Mutex;
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
    tls: Option<TlsSetup>,
    /// Whom [`Etcd::client`] is there, by name and password.
    user: Mutex<Option<(String, String)>>,
}

/// How to set one up, where that is not the plainest way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    /// Its certificates; http without.
    pub(crate) tls: Option<TlsSetup>,
    /// More flags.
    pub(crate) arguments: Vec<String>,
}

/// The files of an etcd with TLS. The tests' own client reads them anew each time.
#[derive(Clone, Debug)]
pub(crate) struct TlsSetup {
    /// Its certificate.
    pub(crate) certificate: PathBuf,
    /// The certificate's key.
    pub(crate) key: PathBuf,
    /// Whose clients' certificates it takes; it asks for none without.
    pub(crate) client_ca: Option<PathBuf>,
    /// What the tests' own client trusts.
    pub(crate) ca: PathBuf,
    /// What the tests' own client shows: certificate and key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
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
        Self::start_as(binary, &Setup::default()).await
    }

    /// Starts one in a special way and waits until it answers.
    pub(crate) async fn start_as(binary: Binary, setup: &Setup) -> anyhow::Result<Self> {
        let program = binary.path()?;
        let mut attempt = Self::start_once(&program, setup).await;
        for _ in 1..STARTS_MAX {
            if attempt.as_ref().err().is_none_or(|error| !format!("{error:#}").contains("address already in use")) {
                break;
            }
            attempt = Self::start_once(&program, setup).await;
        }
        attempt.with_context(|| format!("starting {}", program.display()))
    }

    async fn start_once(program: &Path, setup: &Setup) -> anyhow::Result<Self> {
        let folder = folder()?;
        let [client_port, peer_port] = free_ports()?;
        let scheme = if setup.tls.is_some() { "https" } else { "http" };
        let (endpoint, peer) = (format!("{scheme}://127.0.0.1:{client_port}"), format!("http://127.0.0.1:{peer_port}"));
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
        if let Some(TlsSetup { certificate, key, client_ca, .. }) = &setup.tls {
            arguments
                .extend([format!("--cert-file={}", certificate.display()), format!("--key-file={}", key.display())]);
            if let Some(ca) = client_ca {
                arguments.extend(["--client-cert-auth".to_owned(), format!("--trusted-ca-file={}", ca.display())]);
            }
        }
        arguments.extend(setup.arguments.iter().cloned());
        Self::start_with(folder, endpoint, program.to_owned(), arguments, setup.tls.clone(), None).await
    }

    async fn start_with(
        folder: TempDir,
        endpoint: String,
        program: PathBuf,
        arguments: Vec<String>,
        tls: Option<TlsSetup>,
        user: Option<(String, String)>,
    ) -> anyhow::Result<Self> {
        let process = Process::start("etcd", folder, &program, &arguments, &[], Ending::AtOnce)?;
        let etcd = Self { process, endpoint, program, arguments, tls, user: Mutex::new(user) };
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
        let (tls, user) = (self.tls.clone(), self.user.lock().clone());
        Self::start_with(folder()?, self.endpoint.clone(), self.program.clone(), self.arguments.clone(), tls, user)
            .await
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
        let user = self.user.lock().clone();
        self.client_as(user).await
    }

    /// A client that is `user` there, by name and password.
    pub(crate) async fn client_as(&self, user: Option<(String, String)>) -> anyhow::Result<etcd_client::Client> {
        let mut options = etcd_client::ConnectOptions::new().with_auto_token_refresh(true);
        if let Some((name, password)) = user {
            options = options.with_user(name, password);
        }
        if let Some(TlsSetup { ca, identity, .. }) = &self.tls {
            let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
            let mut tls = etcd_client::TlsOptions::new().ca_certificate(etcd_client::Certificate::from_pem(read(ca)?));
            if let Some((certificate, key)) = identity {
                tls = tls.identity(etcd_client::Identity::from_pem(read(certificate)?, read(key)?));
            }
            options = options.with_tls(tls);
        }
        // Whoever makes a client would be as large as this otherwise.
        Box::pin(etcd_client::Client::connect([&self.endpoint], Some(options))).await.context("connecting to etcd")
    }

    /// Makes the user `root`, turns authentication on, and is `root` from then on.
    pub(crate) async fn turn_authentication_on(&self, password: &str) -> anyhow::Result<()> {
        let mut client = self.client().await?;
        client.user_add("root", password, None).await.context("adding root")?;
        client.role_add("root").await.context("adding the role root")?;
        client.user_grant_role("root", "root").await.context("making root what it is")?;
        client.auth_enable().await.context("turning authentication on")?;
        self.log_in("root", password);
        Ok(())
    }

    /// [`Etcd::client`] is this user from now on.
    pub(crate) fn log_in(&self, user: &str, password: &str) {
        *self.user.lock() = Some((user.to_owned(), password.to_owned()));
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
