//! The controller, or etcd, away for a while.

use super::{
    claims::PROGRAMMED,
    objects::{CLASS, gateway, route, service},
    scene::{Scene, keys},
    support::{
        binaries::Binary,
        etcd::Etcd,
        kubernetes::Crds,
        servers::{Servers, fresh, shared},
    },
};
use anyhow::ensure;
use serde_json::Value;
use std::sync::Arc;

const PROGRAMMED_GATEWAY: &[(&str, &str)] = &[("Accepted", "True/Accepted"), ("Programmed", "True/Programmed")];

/// The shared Kubernetes, and an etcd where nobody else writes.
async fn with_own_etcd() -> anyhow::Result<Servers> {
    let kubernetes = shared().await?.kubernetes;
    Ok(Servers { kubernetes, etcd: Arc::new(Etcd::start(Binary::Etcd).await?) })
}

impl Scene {
    /// A place with Gateway `edge` (listeners `one` and `two`) and route `app` from `one` to Service `web`, served.
    async fn start_with_route(servers: Servers, hint: &str) -> anyhow::Result<Self> {
        let place = servers.place(hint).await?;
        let scene = Self::start(servers, place, &[])?;
        let listeners = [("one", 9100), ("two", 9200)];
        scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"]) + &gateway("edge", &listeners)).await?;
        scene.apply(route("app", ("edge", "one"), &[("web", 1)])).await?;
        scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;
        scene.route_says("app", "one", &[(PROGRAMMED, "True/Programmed")]).await?;
        Ok(scene)
    }
}

/// Versions of all objects with a status of ours.
async fn versions(scene: &Scene) -> anyhow::Result<Vec<Value>> {
    let mut versions = Vec::new();
    let class = scene.place.gateway_class.as_str();
    for (kind, name) in [("GatewayClass", class), ("Gateway", "edge"), ("TCPRoute", "app"), ("TCPRoute", "b-waits")] {
        versions.push(scene.get(&scene.object(kind, name)).await?["metadata"]["resourceVersion"].clone());
    }
    Ok(versions)
}

#[tokio::test]
async fn a_restart_with_nothing_changed_writes_nothing_to_etcd_and_no_status() -> anyhow::Result<()> {
    let servers = with_own_etcd().await?;
    let place = servers.place("restart").await?;
    let scene = Scene::start(servers, place, &[])?;
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"]) + &gateway("edge", &[("tcp", 9100)])).await?;
    scene.apply(route("app", ("edge", "tcp"), &[("web", 1)])).await?;
    scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;
    scene.apply(route("b-waits", ("edge", "tcp"), &[("web", 1), ("missing", 1)])).await?;
    scene.class_says(&[("Accepted", "True/Accepted")]).await?;
    scene.gateway_says("edge", PROGRAMMED_GATEWAY, &[("tcp", 2)]).await?;
    scene.route_says("app", "tcp", &[(PROGRAMMED, "True/Programmed")]).await?;
    let waits = [("ResolvedRefs", "False/BackendNotFound"), (PROGRAMMED, "False/Superseded")];
    scene.route_says("b-waits", "tcp", &waits).await?;

    let (revision, before) = (scene.revision().await?, versions(&scene).await?);
    scene.stop().await?;
    let mut scene = scene.start_again()?;
    scene.counted("leader", &[], 1).await?;
    // The leader key went with the one that ended, and came with this one.
    assert_eq!(scene.revision().await?, revision + 2);
    assert_eq!(keys(&scene.history_to_fence(revision).await?), Vec::<&str>::new());
    assert_eq!(versions(&scene).await?, before);
    // Not even looked at: what the list said is what is wanted.
    assert_eq!(scene.metric("status_writes_total", &["kind=\"gatewayclass\""]).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_change_while_etcd_is_away_is_written_when_it_is_back() -> anyhow::Result<()> {
    let mut scene = Scene::start_with_route(with_own_etcd().await?, "etcd-away").await?;
    let gone = scene.servers.etcd.clone();
    gone.stop().await?;
    scene.apply(service("web", &["10.0.0.2"]) + &route("late", ("edge", "two"), &[("web", 1)])).await?;
    // Statuses go on without etcd, and say no more than is true.
    let pending = [("Accepted", "True/Accepted"), ("ResolvedRefs", "True/ResolvedRefs"), (PROGRAMMED, "False/Pending")];
    scene.route_says("late", "two", &pending).await?;

    scene.servers.etcd = Arc::new(gone.start_again().await?);
    scene.served(9100, "app", &[("10.0.0.2:8080", 1)]).await?;
    scene.served(9200, "late", &[("10.0.0.2:8080", 1)]).await?;
    scene.route_says("late", "two", &[(PROGRAMMED, "True/Programmed")]).await?;
    scene.route_says("app", "one", &[(PROGRAMMED, "True/Programmed")]).await?;
    // It follows etcd again too.
    let pool = scene.documents().await?.pool_key(9100)?;
    scene.vandalise(&pool, Some("{}")).await?;
    scene.served(9100, "app", &[("10.0.0.2:8080", 1)]).await?;
    scene.controller.ready().await
}

#[tokio::test]
async fn a_change_while_etcd_hangs_is_written_when_it_answers_again() -> anyhow::Result<()> {
    let scene = Scene::start_with_route(with_own_etcd().await?, "etcd-hangs").await?;
    scene.servers.etcd.process().signal("STOP")?;
    scene.apply(service("web", &["10.0.0.2"]) + &route("late", ("edge", "two"), &[("web", 1)])).await?;
    scene.route_says("late", "two", &[("Accepted", "True/Accepted"), (PROGRAMMED, "False/Pending")]).await?;
    scene.servers.etcd.process().signal("CONT")?;
    scene.served(9100, "app", &[("10.0.0.2:8080", 1)]).await?;
    scene.served(9200, "late", &[("10.0.0.2:8080", 1)]).await?;
    scene.route_says("late", "two", &[(PROGRAMMED, "True/Programmed")]).await?;
    scene.controller.ready().await
}

#[tokio::test]
async fn without_etcd_the_controller_waits_for_it_and_says_so() -> anyhow::Result<()> {
    let servers = with_own_etcd().await?;
    let gone = servers.etcd.clone();
    gone.stop().await?;
    let place = servers.place("no-etcd").await?;
    let mut scene = Scene::start(servers, place, &[])?;
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"]) + &gateway("edge", &[("tcp", 9100)])).await?;
    scene.apply(route("app", ("edge", "tcp"), &[("web", 1)])).await?;
    scene
        .until("the controller to say that it waits for etcd alone", async || {
            let answer = scene.controller.ask("/readyz").await?;
            ensure!(answer.status == 503 && answer.body.lines().all(|line| line.contains("etcd")), "{answer:?}");
            Ok(())
        })
        .await?;
    assert_eq!(scene.controller.ask("/livez").await?.status, 200);

    scene.servers.etcd = Arc::new(gone.start_again().await?);
    scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;
    scene.route_says("app", "tcp", &[(PROGRAMMED, "True/Programmed")]).await?;
    scene.controller.ready().await
}

#[tokio::test]
async fn what_was_compacted_before_it_was_seen_is_found_by_reading_again_and_nothing_else_is_written()
-> anyhow::Result<()> {
    let mut scene = Scene::start_with_route(with_own_etcd().await?, "compacted").await?;
    let gone = scene.servers.etcd.clone();
    let whole = scene.documents().await?;
    let pool = whole.pool_key(9100)?;

    // The watch breaks, and while the controller cannot make another, history ends behind what it has seen.
    scene.controller.process().signal("STOP")?;
    gone.stop().await?;
    scene.servers.etcd = Arc::new(gone.start_again().await?);
    scene.vandalise(&pool, Some("{}")).await?;
    scene.vandalise("/upstreams/", None).await?;
    let revision = scene.revision().await?;
    scene.servers.etcd.client().await?.compact(revision, None).await?;
    scene.controller.process().signal("CONT")?;

    scene
        .until("the edited upstream and the deleted placeholder to be healed", async || {
            let now = scene.documents().await?;
            ensure!(now.at(&pool)?.value == whole.at(&pool)?.value, "{now:?}");
            now.at("/upstreams/").map(drop)
        })
        .await?;
    let history = scene.history_to_fence(revision).await?;
    let mut written = keys(&history);
    written.sort_unstable();
    assert_eq!(written, ["/upstreams/", &pool]);
    scene.counted("drift_repaired_total", &[], 2).await
}

#[tokio::test]
async fn while_kubernetes_hangs_drift_is_healed_but_a_new_controller_writes_nothing() -> anyhow::Result<()> {
    let mut scene = Scene::start_with_route(fresh(Crds::Standard161).await?, "kubernetes-hangs").await?;
    let kubernetes = scene.servers.kubernetes.clone();
    let whole = scene.documents().await?;
    let pool = whole.pool_key(9100)?;

    kubernetes.server().process().signal("STOP")?;
    scene.vandalise(&pool, Some("{}")).await?;
    scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;

    scene.stop().await?;
    let revision = scene.revision().await?;
    scene.vandalise(&pool, Some("{}")).await?;
    scene = scene.start_again()?;
    scene
        .until("the controller to say which kinds it waits for", async || {
            let answer = scene.controller.ask("/readyz").await?;
            ensure!(answer.status == 503 && answer.body.contains("TCPRoute"), "{answer:?}");
            Ok(())
        })
        .await?;
    // It has read etcd, and leaves it as it is.
    scene.counted("documents", &[], 1).await?;
    assert_eq!(scene.documents().await?.at(&pool)?.value, "{}");
    kubernetes.server().process().signal("CONT")?;

    scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;
    assert_eq!(keys(&scene.history_to_fence(revision).await?), [pool.as_str(), &pool]);
    scene.controller.ready().await
}
