//! Routes on the way: traffic shifted in small steps, moved to another Gateway, taken off ours.

use super::{
    claims::{PROGRAMMED, entry, items},
    documents::slot_key,
    objects::{CLASS, gateway, route, service},
    scene::{Scene, keys},
};
use anyhow::ensure;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

const PROGRAMMED_TRUE: &[(&str, &str)] = &[("Programmed", "True/Programmed")];
const SERVED: &[(&str, &str)] =
    &[("Accepted", "True/Accepted"), ("ResolvedRefs", "True/ResolvedRefs"), (PROGRAMMED, "True/Programmed")];

/// Changes of weights, as progressive delivery makes them.
const STEPS: u32 = 2_000;

/// Of them at a time; the API server takes longer over one than we do.
const AT_A_TIME: usize = 8;

#[tokio::test]
async fn two_thousand_steps_of_a_rollout_write_upstreams_alone() -> anyhow::Result<()> {
    let mut scene = Scene::open("rollout").await?;
    let services = service("blue", &["10.0.0.1"]) + &service("green", &["10.0.0.2"]);
    scene.apply(CLASS.to_owned() + &services + &gateway("edge", &[("tcp", 9100)])).await?;
    scene.apply(route("app", ("edge", "tcp"), &[("blue", 1), ("green", 1)])).await?;
    let before = scene.served(9100, "app", &[("10.0.0.1:8080", 1), ("10.0.0.2:8080", 1)]).await?;
    scene.route_says("app", "tcp", SERVED).await?;
    scene.gateway_says("edge", PROGRAMMED_TRUE, &[("tcp", 1)]).await?;

    let revision = scene.revision().await?;
    let weights = |blue: u32, green: u32| {
        let backend = |name: &str, weight| json!({"name": name, "port": 8080, "weight": weight});
        json!({"spec": {"rules": [{"backendRefs": [backend("blue", blue), backend("green", green)]}]}})
    };
    let named = scene.object("TCPRoute", "app");
    // Weights that no divisor makes smaller, so that every step is another document.
    let steps =
        stream::iter(1..STEPS).map(|step| scene.servers.kubernetes.patch(&named, weights(step, STEPS + 1 - step)));
    steps.buffer_unordered(AT_A_TIME).try_collect::<()>().await?;
    scene.servers.kubernetes.patch(&named, weights(7, 5)).await?;
    let after = scene.served(9100, "app", &[("10.0.0.1:8080", 7), ("10.0.0.2:8080", 5)]).await?;
    scene.route_says("app", "tcp", SERVED).await?;

    assert_eq!(after.slot(9100)?, before.slot(9100)?);
    let history = scene.history_to_fence(revision).await?;
    let pool = before.pool_key(9100)?;
    assert!(keys(&history).iter().all(|key| *key == pool), "{:?}", keys(&history));
    Ok(())
}

#[tokio::test]
async fn a_route_moves_to_another_gateway_and_then_off_ours() -> anyhow::Result<()> {
    let mut scene = Scene::open("gateways").await?;
    let gateways = gateway("one", &[("tcp", 9100)]) + &gateway("two", &[("tcp", 9200)]);
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"]) + &gateways).await?;
    scene.apply(route("app", ("one", "tcp"), &[("web", 1)])).await?;
    let before = scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;
    scene.route_says("app", "tcp", SERVED).await?;
    scene.gateway_says("one", PROGRAMMED_TRUE, &[("tcp", 1)]).await?;
    scene.gateway_says("two", PROGRAMMED_TRUE, &[("tcp", 0)]).await?;

    let revision = scene.revision().await?;
    scene.apply(route("app", ("two", "tcp"), &[("web", 1)])).await?;
    let after = scene.served(9200, "app", &[("10.0.0.1:8080", 1)]).await?;
    assert_eq!(after.pool(9200)?, before.pool(9100)?);
    scene.gateway_says("one", PROGRAMMED_TRUE, &[("tcp", 0)]).await?;
    scene.gateway_says("two", PROGRAMMED_TRUE, &[("tcp", 1)]).await?;
    let moved = scene
        .until("one entry, for the other Gateway", async || {
            let route = scene.get(&scene.object("TCPRoute", "app")).await?;
            let entry = entry(&route, &scene.place.controller_name, "tcp")?;
            ensure!(items(&route, "/status/parents").len() == 1 && entry["parentRef"]["name"] == "two", "{route}");
            Ok(route)
        })
        .await?;
    assert_eq!(moved["spec"]["parentRefs"][0]["name"], "two");
    let history = scene.history_to_fence(revision).await?;
    let mut written = keys(&history);
    written.sort_unstable();
    assert_eq!(written, [slot_key(9100), slot_key(9200)]);
    scene.delete("TCPRoute", "fence-0").await?;

    // To a Gateway that is not there: nothing of ours is left, in etcd or in its status.
    scene.apply(route("app", ("elsewhere", "tcp"), &[("web", 1)])).await?;
    scene.emptied().await?;
    scene.gateway_says("two", PROGRAMMED_TRUE, &[("tcp", 0)]).await?;
    scene
        .until("our entry to go", async || {
            let route = scene.get(&scene.object("TCPRoute", "app")).await?;
            ensure!(items(&route, "/status/parents").is_empty(), "{}", route["status"]);
            Ok(())
        })
        .await
}
