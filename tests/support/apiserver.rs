//! A real kube-apiserver on an etcd 3.6 of its own: no controllers, no kubelet.
//!
//! In: nothing. Out: one that is ready, with RBAC, one administrator, its own certificate, and a kubeconfig; gone when
//! dropped. What it serves beyond Kubernetes itself is [`super::kubernetes`]'s business.

use super::{
    binaries::Binary,
    etcd::{Etcd, STARTS_MAX},
    process::{Ending, Process, folder, free_ports},
    wait::PATIENCE,
};
use anyhow::{Context as _, ensure};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use std::{
    hash::{BuildHasher as _, RandomState},
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

/// A running kube-apiserver.
#[derive(Debug)]
pub(crate) struct ApiServer {
    // Ends before the etcd that it talks to.
    process: Process,
    etcd: Etcd,
    kubeconfig: PathBuf,
    arguments: Vec<String>,
    /// Whose folders this one uses.
    _before: Option<Arc<ApiServer>>,
}

/// What an API server's etcd held at one moment.
#[derive(Debug)]
pub(crate) struct Backup {
    folder: TempDir,
}

impl ApiServer {
    /// Starts one and waits until it is ready.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let program = Binary::KubeApiserver.path()?;
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
        let etcd = Etcd::start(Binary::Etcd36).await?;
        let folder = folder()?;
        let [port] = free_ports()?;
        let token = token();
        let certificates = folder.path().join("certificates");
        let tokens = folder.path().join("tokens.csv");
        std::fs::write(&tokens, format!("{token},administrator,1,system:masters\n")).context("writing the token")?;
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, kubeconfig_text(port, &certificates, &token)?).context("writing the kubeconfig")?;

        let arguments = arguments(&etcd, port, &certificates, &tokens);
        let process = Process::start("kube-apiserver", folder, program, &arguments, &[], Ending::AtOnce)?;
        let server = Self { process, etcd, kubeconfig, arguments, _before: None };
        server.process.wait_until("kube-apiserver to be ready", PATIENCE, async || server.ready().await).await?;
        Ok(server)
    }

    /// Copies what its etcd holds, which is held still meanwhile.
    pub(crate) fn back_up(&self) -> anyhow::Result<Backup> {
        let backup = Backup { folder: folder()? };
        self.etcd.process().signal("STOP")?;
        let copied = copy_folder(&self.etcd.data(), &backup.folder.path().join("data"));
        self.etcd.process().signal("CONT")?;
        copied.map(|()| backup)
    }

    /// Ends this one, and starts another where it was, with what `backup` holds.
    pub(crate) async fn restore(self: Arc<Self>, backup: &Backup) -> anyhow::Result<Self> {
        self.process.signal("KILL")?;
        self.process.ended(PATIENCE).await?;
        self.etcd.stop().await?;
        let data = self.etcd.data();
        std::fs::remove_dir_all(&data).context("removing what an etcd held")?;
        copy_folder(&backup.folder.path().join("data"), &data)?;
        let etcd = Box::pin(self.etcd.start_again()).await?;
        let (kubeconfig, arguments) = (self.kubeconfig.clone(), self.arguments.clone());
        let program = Binary::KubeApiserver.path()?;
        let process = Process::start("kube-apiserver", folder()?, &program, &arguments, &[], Ending::AtOnce)?;
        let server = Self { process, etcd, kubeconfig, arguments, _before: Some(self) };
        server.process.wait_until("kube-apiserver to be ready", PATIENCE, async || server.ready().await).await?;
        Ok(server)
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let client = self.client().await?;
        for path in ["/readyz", "/api/v1/namespaces/default", "/api/v1/namespaces/kube-system"] {
            let request = http::Request::get(path).body(Vec::new()).context("building a request")?;
            let answer = client.request_text(request).await.with_context(|| format!("asking for {path}"))?;
            ensure!(!answer.is_empty(), "{path} answered nothing");
        }
        Ok(())
    }

    /// The administrator's kubeconfig file, for the controller and for kubectl. It is gone with the server.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The process, to pause it (`STOP`, `CONT`) or read its log.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// The administrator's client, made for this runtime: a client dies with the runtime it was made on.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).context("reading the kubeconfig")?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .context("reading the kubeconfig")?;
        Client::try_from(config).context("making a client of kube-apiserver")
    }
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copied = std::process::Command::new("cp").arg("-r").arg(from).arg(to).status().context("running cp")?;
    ensure!(copied.success(), "{} could not be copied", from.display());
    Ok(())
}

fn arguments(etcd: &Etcd, port: u16, certificates: &Path, tokens: &Path) -> Vec<String> {
    // It makes a key and a certificate for itself first of all; that key signs service account tokens as well.
    let key = certificates.join("apiserver.key");
    [
        format!("--etcd-servers={}", etcd.endpoint()),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", certificates.display()),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-signing-key-file={}", key.display()),
        format!("--service-account-key-file={}", key.display()),
        format!("--token-auth-file={}", tokens.display()),
        "--authorization-mode=RBAC".to_owned(),
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--allow-privileged".to_owned(),
    ]
    .into()
}

/// As JSON, which is YAML too.
fn kubeconfig_text(port: u16, certificates: &Path, token: &str) -> anyhow::Result<String> {
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "local",
        "clusters": [{ "name": "local", "cluster": {
            "server": format!("https://127.0.0.1:{port}"),
            "certificate-authority": certificates.join("apiserver.crt"),
        }}],
        "users": [{ "name": "administrator", "user": { "token": token } }],
        "contexts": [{ "name": "local", "context": { "cluster": "local", "user": "administrator" } }],
    });
    serde_json::to_string_pretty(&text).context("writing the kubeconfig")
}

/// A secret that others on this machine cannot guess: the standard library seeds its hashers from the system.
fn token() -> String {
    let [high, low] = [0, 1].map(|half| RandomState::new().hash_one(half));
    format!("{high:016x}{low:016x}")
}
