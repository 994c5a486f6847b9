//! Two replicas of one instance: one writes, the other takes over.

use super::{
    objects::service,
    road::{Link, crowd, with_own_etcd},
    scene::Scene,
};
use anyhow::{Context as _, ensure};

const NODES: &[(&str, u64)] = &[("10.0.0.1:8080", 1)];
const OTHER_NODES: &[(&str, u64)] = &[("10.0.0.2:8080", 1)];

/// Longer than a test waits for anything.
const LASTS: [&str; 2] = ["--lease-ttl=10m", "--write-stall=10m"];

#[tokio::test]
async fn a_leader_that_is_stopped_hands_over_at_once_and_only_the_leader_writes() -> anyhow::Result<()> {
    let servers = with_own_etcd().await?;
    let place = servers.place("two").await?;
    let started = |name: &str| {
        let more = [LASTS[0], LASTS[1], "--replica-name", name];
        anyhow::Ok(Scene::of(
            servers.clone(),
            place.clone(),
            Link { more: &more, ..Link::default() }.start(&servers, &place)?,
        ))
    };
    let first = started("first")?;
    let strangers = first.settle_strangers().await?;
    first.counted("leader", &[], 1).await?;
    let second = started("second")?;
    second.controller.ready().await?;
    first.apply_crowd(20, "").await?;
    first.serves_exactly(crowd(20), NODES).await?;
    first.all_programmed(20).await?;
    second.counted("objects", &["kind=\"tcproute\""], 20).await?;
    let (holder, created) = first.control_key("leader").await?.context("somebody leads")?;
    ensure!(holder.contains("first"), "{holder}");
    ensure!(first.metric("status_writes_total", &[]).await? > 0);
    assert_eq!(second.metric("status_writes_total", &[]).await?, 0);
    assert_eq!(second.metric("transactions_total", &[]).await?, 0);
    assert_eq!(second.metric("leader", &[]).await?, 0);

    // The lease of the first would last for longer than anybody here waits.
    first.stop().await?;
    second.counted("leader", &[], 1).await?;
    let (holder, created_then) = second.control_key("leader").await?.context("somebody leads")?;
    ensure!(holder.contains("second") && created_then > created, "{holder} {created} {created_then}");
    second.apply(service("web", &["10.0.0.2"])).await?;
    second.serves_exactly(crowd(20), OTHER_NODES).await?;
    second.all_programmed(20).await?;
    // Taking over wrote nothing that was there already.
    let route = second.get(&second.object("TCPRoute", "r9100")).await?;
    second.route_says("r9100", "p9100", &[("Accepted", "True/Accepted")]).await?;
    ensure!(route["status"]["parents"].as_array().is_some_and(|parents| parents.len() == 1), "{route}");
    assert_eq!(second.strangers().await?, strangers);
    Ok(())
}
