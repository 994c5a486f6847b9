//! The whole controller inside this process, from manifests or a real kube-apiserver to a real etcd.
//!
//! What the translation is in each case is for other tests; this one shows that the rooms are wired to each other.

mod support;

use anyhow::{Context as _, bail, ensure};
use apisix_etcd_controller::{
    app::{self, App},
    config::{
        args::{Command, CommandLine},
        settings::RunSettings,
    },
};
use clap::Parser as _;
use etcd_client::Client;
use std::{fs, future::Future, path::Path, pin::Pin};
use support::{
    etcd::{Etcd, shared_etcd},
    kubernetes::{Crds, Named},
    servers::fresh_kubernetes,
    wait::{PATIENCE, wait_until},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

const QUICKSTART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/quickstart");
const SLOT: &str = "stream_routes/gateway-api.9100";

fn settings(etcd: &Etcd, prefix: &str, source: &[&str]) -> anyhow::Result<RunSettings> {
    let control = format!("/control{prefix}");
    let line = ["x", "run", "--admin-address", "127.0.0.1:0", "--etcd-prefix", prefix, "--control-prefix", &control];
    let endpoints = ["--etcd-endpoints", etcd.endpoint()];
    let line = line.iter().chain(&endpoints);
    let Command::Run(args) = CommandLine::try_parse_from(line.chain(source))?.command else { bail!("not run") };
    RunSettings::check(*args).map_err(|errors| anyhow::anyhow!("{errors:?}"))
}

/// Runs `test` beside the controller, which must not end before it and ends in good order after it.
async fn beside<T>(app: App, test: Pin<Box<dyn Future<Output = anyhow::Result<T>> + '_>>) -> anyhow::Result<T> {
    let stop = app.stop();
    let mut running = Box::pin(app.wait());
    let outcome = tokio::select! {
        ended = &mut running => bail!("the controller ended: {ended:?}"),
        outcome = test => outcome?,
    };
    stop.cancel();
    timeout(PATIENCE, running).await.context("waiting for the controller's end")??;
    Ok(outcome)
}

async fn ask(app: std::net::SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(app).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn ready(admin: std::net::SocketAddr) -> anyhow::Result<()> {
    wait_until("the controller to be ready", PATIENCE, async || {
        let answer = ask(admin, "/readyz").await?;
        ensure!(answer.starts_with("HTTP/1.0 200"), "{answer}");
        Ok(())
    })
    .await
}

/// Waits until the value at `key` is there and has `part` in it.
async fn holds(etcd: &Etcd, key: &str, part: &str) -> anyhow::Result<String> {
    wait_until(&format!("{key} to have {part}"), PATIENCE, async || {
        let mut client: Client = etcd.client().await?;
        let answer = client.get(key, None).await?;
        let value = answer.kvs().first().context("no such key")?.value_str()?.to_owned();
        ensure!(value.contains(part), "it is {value}");
        Ok(value)
    })
    .await
}

fn copy_quickstart(folder: &Path) -> anyhow::Result<()> {
    for name in ["gateway.yaml", "route.yaml", "service.yaml"] {
        fs::copy(format!("{QUICKSTART}/{name}"), folder.join(name))?;
    }
    Ok(())
}

#[tokio::test]
async fn a_folder_is_followed_into_etcd_healed_and_a_restart_writes_nothing() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let (prefix, folder) = ("/app-folder", tempfile::tempdir()?);
    copy_quickstart(folder.path())?;
    let source = ["--manifests", folder.path().to_str().context("a path that is text")?];
    let slot = format!("{prefix}/{SLOT}");
    let mut client = etcd.client().await?;
    client.put(format!("{prefix}/upstreams/1"), "theirs", None).await?;

    let app = app::build(settings(&etcd, prefix, &source)?).await?;
    let admin = app.admin_address();
    beside(
        app,
        Box::pin(async {
            ready(admin).await?;
            let value = holds(&etcd, &slot, "\"server_port\":9100").await?;
            client.put(slot.as_str(), "{}", None).await?;
            ensure!(holds(&etcd, &slot, "server_port").await? == value, "it was healed to something else");
            let pool = etcd.under(prefix).await?.into_keys().find(|key| key.contains("/upstreams/gateway-api."));
            let pool = pool.context("there is no upstream")?;
            let service = fs::read_to_string(folder.path().join("service.yaml"))?;
            fs::write(folder.path().join("service.yaml"), service.replace("192.0.2.12", "192.0.2.13"))?;
            holds(&etcd, &pool, "192.0.2.13").await?;
            let metrics = ask(admin, "/metrics").await?;
            ensure!(metrics.contains("apisix_etcd_controller_documents{directory=\"upstreams\"} 1"), "{metrics}");
            Ok(())
        }),
    )
    .await?;

    let before = etcd.under(prefix).await?;
    let again = app::build(settings(&etcd, prefix, &source)?).await?;
    let admin = again.admin_address();
    beside(again, Box::pin(ready(admin))).await?;
    ensure!(etcd.under(prefix).await? == before, "a restart wrote something");
    Ok(())
}

#[tokio::test]
async fn a_cluster_is_followed_into_etcd_and_back_into_statuses() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let kubernetes = fresh_kubernetes().await?;
    kubernetes.install(Crds::Standard161).await?;
    let prefix = "/app-cluster";
    let kubeconfig = kubernetes.kubeconfig().to_str().context("a path that is text")?.to_owned();
    let app = app::build(settings(&etcd, prefix, &["--kubeconfig", &kubeconfig])?).await?;
    let admin = app.admin_address();
    beside(
        app,
        Box::pin(async {
            ready(admin).await?;
            for name in ["gateway.yaml", "service.yaml", "route.yaml"] {
                kubernetes.apply_path(Path::new(&format!("{QUICKSTART}/{name}"))).await?;
            }
            holds(&etcd, &format!("{prefix}/{SLOT}"), "\"server_port\":9100").await?;
            let api_version = "gateway.networking.k8s.io/v1";
            let route = Named { api_version, kind: "TCPRoute", namespace: "default", name: "tcp-app" };
            wait_until("the route to be called programmed", PATIENCE, async || {
                let route = kubernetes.get(&route).await?.context("no such route")?;
                let conditions = route["status"]["parents"][0]["conditions"].as_array().cloned().unwrap_or_default();
                let programmed = conditions.iter().find(|condition| condition["type"] == "apisix-etcd.io/Programmed");
                ensure!(programmed.is_some_and(|condition| condition["status"] == "True"), "{}", route["status"]);
                Ok(())
            })
            .await
        }),
    )
    .await
}

#[tokio::test]
async fn an_etcd_that_is_away_is_waited_for_and_named() -> anyhow::Result<()> {
    let line = ["x", "run", "--manifests", QUICKSTART, "--admin-address", "127.0.0.1:0"];
    let etcd = ["--etcd-endpoints", "http://127.0.0.1:1"];
    let Command::Run(args) = CommandLine::try_parse_from(line.iter().chain(&etcd))?.command else { bail!("not run") };
    let settings = RunSettings::check(*args).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    let app = app::build(settings).await?;
    let admin = app.admin_address();
    beside(
        app,
        Box::pin(async {
            wait_until("etcd alone to be waited for", PATIENCE, async || {
                let answer = ask(admin, "/readyz").await?;
                ensure!(
                    answer.starts_with("HTTP/1.0 503")
                        && answer.ends_with(
                            "\r\nwaiting for etcd, to read what is there\nwaiting for etcd, to read who wrote last\n"
                        ),
                    "{answer}"
                );
                Ok(())
            })
            .await
        }),
    )
    .await
}
