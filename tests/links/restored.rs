//! A cluster that was restored from a backup: what it says is older than what etcd was last written from.

use super::{
    objects::{CLASS, gateway, route, service},
    road::Link,
    scene::{Scene, keys},
    support::{
        apiserver::{ApiServer, Backup},
        binaries::Binary,
        etcd::Etcd,
        kubernetes::{Crds, Kubernetes, Named},
        servers::Servers,
    },
};
use anyhow::ensure;
use serde_json::json;
use std::sync::Arc;

/// How many changes are lost with the restore: more than an API server writes by itself while it starts.
const N_CHANGES_LOST: usize = 400;

const APP: &[(&str, u64)] = &[("10.0.0.1:8080", 1)];

/// A scene on a cluster of which there is an older backup: it has route `app`, and not `late`, nor the last change of `web`.
async fn written_since_a_backup() -> anyhow::Result<(Scene, Arc<ApiServer>, Backup)> {
    let server = Arc::new(Box::pin(ApiServer::start()).await?);
    let kubernetes = Kubernetes::of(server.clone()).await?;
    Box::pin(kubernetes.install(Crds::Standard161)).await?;
    let etcd = Arc::new(Box::pin(Etcd::start(Binary::Etcd)).await?);
    let servers = Servers { kubernetes, etcd };
    let place = servers.place("restored").await?;
    let scene = Scene::start(servers, place, &[])?;
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"])).await?;
    scene.apply(gateway("edge", &[("one", 9100), ("two", 9200)])).await?;
    scene.apply(route("app", ("edge", "one"), &[("web", 1)])).await?;
    scene.served(9100, "app", APP).await?;
    let backup = server.back_up()?;

    // What the backup lacks: a route, and many changes that reach the checkpoint with it.
    let web = scene.place.namespace.clone();
    let web = Named { api_version: "v1", kind: "Service", namespace: &web, name: "web" };
    for n in 0..N_CHANGES_LOST {
        let annotations = json!({"metadata": {"annotations": {"n": n.to_string()}}});
        scene.servers.kubernetes.patch(&web, annotations).await?;
    }
    scene.apply(route("late", ("edge", "two"), &[("web", 1)])).await?;
    scene.served(9200, "late", APP).await?;
    // One more write: by then everything before it was known.
    scene.apply(service("web", &["10.0.0.2"])).await?;
    scene.served(9200, "late", &[("10.0.0.2:8080", 1)]).await?;
    Ok((scene, server, backup))
}

impl Scene {
    /// Waits until the controller says that a person has to decide about a restored cluster.
    async fn stops_on_purpose(&self) -> anyhow::Result<()> {
        self.until("the controller to say that a person is waited for", async || {
            let answer = self.controller.ask("/readyz").await?;
            ensure!(answer.status == 503, "{answer:?}");
            for part in ["restored from a backup", "checkpoint reset"] {
                ensure!(answer.body.contains(part), "{answer:?}");
            }
            Ok(())
        })
        .await
    }
}

#[tokio::test]
async fn a_restored_cluster_stops_the_controller_until_a_person_has_decided() -> anyhow::Result<()> {
    let (mut scene, server, backup) = written_since_a_backup().await?;
    let strangers = scene.settle_strangers().await?;
    scene.stop().await?;
    let revision = scene.revision().await?;
    let restored = Arc::new(Box::pin(server.restore(&backup)).await?);
    let Scene { servers, place, controller: gone, .. } = scene;
    drop(gone);
    let servers = Servers { kubernetes: Kubernetes::of(restored).await?, etcd: servers.etcd };
    scene = Scene::of(servers.clone(), place.clone(), Link::default().start(&servers, &place)?);
    scene.stops_on_purpose().await?;
    assert_eq!(scene.metric("halted", &[]).await?, 1);
    assert_eq!(scene.metric("leader", &[]).await?, 0);
    scene.logs("this needs a person").await?;
    // What changes while it waits is not written either.
    scene.apply(service("web", &["10.0.0.3"])).await?;
    scene.counted("objects", &["kind=\"service\""], 1).await?;
    let history = scene.history(revision).await?;
    ensure!(keys(&history).is_empty(), "{history:?}");
    let documents = scene.documents().await?;
    documents.serve(9100, &format!("TCPRoute {}", scene.named("app")), &[("10.0.0.2:8080", 1)])?;
    documents.serve(9200, &format!("TCPRoute {}", scene.named("late")), &[("10.0.0.2:8080", 1)])?;

    let said = scene.command(&["checkpoint", "reset"], &["--yes", "--timeout=10s"]).await?;
    ensure!(said.contains("reset"), "{said}");
    scene.served(9100, "app", &[("10.0.0.3:8080", 1)]).await?;
    scene
        .until("the route that the restored cluster lacks to go", async || {
            let documents = scene.documents().await?;
            ensure!(documents.of_our_shape().len() == 2, "{:?}", documents.of_our_shape());
            Ok(())
        })
        .await?;
    scene.all_programmed(1).await?;
    scene.controller.ready().await?;
    assert_eq!(scene.metric("halted", &[]).await?, 0);
    assert_eq!(scene.strangers().await?, strangers);
    Ok(())
}

#[tokio::test]
async fn a_leader_that_runs_while_its_cluster_is_restored_stops_too() -> anyhow::Result<()> {
    let (mut scene, server, backup) = written_since_a_backup().await?;
    let documents = scene.documents().await?;
    let restored = Arc::new(Box::pin(server.restore(&backup)).await?);
    let Scene { servers, .. } = &mut scene;
    servers.kubernetes = Kubernetes::of(restored).await?;
    scene.stops_on_purpose().await?;
    assert_eq!(scene.metric("halted", &[]).await?, 1);
    assert_eq!(scene.documents().await?.0, documents.0);
    Ok(())
}
