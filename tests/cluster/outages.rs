//! The controller, or etcd, away for a while.

use super::{
    claims::PROGRAMMED,
    objects::{CLASS, gateway, route, service},
    scene::{Scene, keys},
    support::{
        binaries::Binary,
        etcd::Etcd,
        servers::{Servers, shared},
    },
};
use serde_json::Value;
use std::sync::Arc;

const PROGRAMMED_GATEWAY: &[(&str, &str)] = &[("Accepted", "True/Accepted"), ("Programmed", "True/Programmed")];

/// The shared Kubernetes, and an etcd where nobody else writes.
async fn with_own_etcd() -> anyhow::Result<Servers> {
    let kubernetes = shared().await?.kubernetes;
    Ok(Servers { kubernetes, etcd: Arc::new(Etcd::start(Binary::Etcd).await?) })
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
    scene.controller.ready().await?;
    assert_eq!(scene.revision().await?, revision);
    assert_eq!(keys(&scene.history_to_fence(revision).await?), Vec::<&str>::new());
    assert_eq!(versions(&scene).await?, before);
    // Not even looked at: what the list said is what is wanted.
    assert_eq!(scene.metric("status_writes_total", &["kind=\"gatewayclass\""]).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_change_while_etcd_is_away_is_written_when_it_is_back() -> anyhow::Result<()> {
    let servers = with_own_etcd().await?;
    let gone = servers.etcd.clone();
    let place = servers.place("etcd-away").await?;
    let mut scene = Scene::start(servers, place, &[])?;
    let listeners = [("one", 9100), ("two", 9200)];
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"]) + &gateway("edge", &listeners)).await?;
    scene.apply(route("app", ("edge", "one"), &[("web", 1)])).await?;
    scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;
    scene.route_says("app", "one", &[(PROGRAMMED, "True/Programmed")]).await?;

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
