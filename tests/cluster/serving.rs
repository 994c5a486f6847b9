//! A route that changes, as etcd and users see it.

use super::{
    claims::{PROGRAMMED, message},
    documents::{slot_key, value},
    objects::{CLASS, gateway, route, service},
    scene::{Scene, keys},
};
use anyhow::ensure;
use serde_json::json;

const BOTH: &[(&str, &str)] = &[("Accepted", "True/Accepted"), ("Programmed", "True/Programmed")];
const SERVED: &[(&str, &str)] =
    &[("Accepted", "True/Accepted"), ("ResolvedRefs", "True/ResolvedRefs"), (PROGRAMMED, "True/Programmed")];

#[tokio::test]
async fn a_route_becomes_a_stream_route_and_an_upstream_and_every_status_says_so() -> anyhow::Result<()> {
    let scene = Scene::open("create").await?;
    scene.controller.ready().await?;
    let manifests = CLASS.to_owned()
        + &service("web", &["10.0.0.1", "10.0.0.2"])
        + &gateway("edge", &[("tcp", 9100)])
        + &route("app", ("edge", "tcp"), &[("web", 1)]);
    scene.apply(manifests).await?;

    let documents = scene.served(9100, "app", &[("10.0.0.1:8080", 1), ("10.0.0.2:8080", 1)]).await?;
    let slot = value(documents.slot(9100)?)?;
    assert_eq!((&slot["id"], &slot["server_port"]), (&json!("gateway-api.9100"), &json!(9100)));
    let pool = value(documents.pool(9100)?)?;
    assert_eq!((&pool["type"], &pool["scheme"]), (&json!("roundrobin"), &json!("tcp")));
    let mut all =
        ["/ssls/", "/stream_routes/", "/stream_routes/gateway-api.9100", &documents.pool_key(9100)?, "/upstreams/"];
    all.sort_unstable();
    assert_eq!(documents.0.keys().collect::<Vec<_>>(), all);
    assert_eq!((documents.at("/upstreams/")?.value.as_str(), documents.at("/upstreams/")?.version), ("init_dir", 1));

    let class =
        scene.class_says(&[("Accepted", "True/Accepted"), ("SupportedVersion", "True/SupportedVersion")]).await?;
    let said = message(&class["status"], "Accepted")?;
    assert!(
        said.ends_with(
            " TCPRoute is read at v1, UDPRoute is read at v1, TLSRoute is read at v1, ReferenceGrant is read at v1."
        ),
        "{said}"
    );
    let gateway = scene.gateway_says("edge", BOTH, &[("tcp", 1)]).await?;
    super::claims::says(&gateway, super::claims::listener(&gateway, "tcp")?, BOTH)?;
    let entry = scene.route_says("app", "tcp", SERVED).await?;
    assert_eq!(entry["parentRef"]["name"], "edge");

    // An answer that got lost on a busy machine is not counted, so each look changes something that is.
    let mut round: u32 = 1;
    let counted: [(&str, &[&str], u64); 4] = [
        ("transactions_total", &["outcome=\"applied\""], 1),
        ("propagation_seconds_count", &[], 1),
        ("documents", &[], 2),
        ("status_writes_total", &["kind=\"tcproute\"", "outcome=\"written\""], 1),
    ];
    scene
        .until("what was done to be counted", async || {
            round += 1;
            let node = format!("10.0.1.{round}");
            scene.apply(service("web", &[&node]) + &route("app", ("edge", "tcp"), &[("web", round)])).await?;
            scene.served(9100, "app", &[(&format!("{node}:8080"), 1)]).await?;
            for (name, labels, least) in counted {
                let value = scene.metric(name, labels).await?;
                ensure!(value >= least, "{name}{labels:?} is {value}");
            }
            Ok(())
        })
        .await?;
    Ok(())
}

#[tokio::test]
async fn when_endpoints_change_only_the_upstream_is_written() -> anyhow::Result<()> {
    let mut scene = Scene::open("endpoints").await?;
    let first = service("web", &["10.0.0.1"]);
    scene.apply(CLASS.to_owned() + &first + &gateway("edge", &[("tcp", 9100)])).await?;
    scene.apply(route("app", ("edge", "tcp"), &[("web", 1)])).await?;
    scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;
    scene.route_says("app", "tcp", SERVED).await?;
    scene.gateway_says("edge", BOTH, &[("tcp", 1)]).await?;
    let spoken = scene.get(&scene.object("TCPRoute", "app")).await?["metadata"]["resourceVersion"].clone();

    let revision = scene.revision().await?;
    let before = scene.documents().await?;
    scene.apply(service("web", &["10.0.0.2", "10.0.0.3"])).await?;
    let after = scene.served(9100, "app", &[("10.0.0.2:8080", 1), ("10.0.0.3:8080", 1)]).await?;
    assert_eq!(after.slot(9100)?, before.slot(9100)?);
    let history = scene.history_to_fence(revision).await?;
    assert_eq!(keys(&history), [before.pool_key(9100)?]);
    // Nothing that the route's status says has changed.
    assert_eq!(scene.get(&scene.object("TCPRoute", "app")).await?["metadata"]["resourceVersion"], spoken);
    Ok(())
}

#[tokio::test]
async fn when_a_weight_changes_only_the_upstream_is_written() -> anyhow::Result<()> {
    let mut scene = Scene::open("weight").await?;
    let services = service("blue", &["10.0.0.1"]) + &service("green", &["10.0.0.2"]);
    scene.apply(CLASS.to_owned() + &services + &gateway("edge", &[("tcp", 9100)])).await?;
    scene.apply(route("app", ("edge", "tcp"), &[("blue", 1), ("green", 1)])).await?;
    scene.served(9100, "app", &[("10.0.0.1:8080", 1), ("10.0.0.2:8080", 1)]).await?;
    scene.route_says("app", "tcp", SERVED).await?;

    let revision = scene.revision().await?;
    let before = scene.documents().await?;
    scene.apply(route("app", ("edge", "tcp"), &[("blue", 3), ("green", 1)])).await?;
    let after = scene.served(9100, "app", &[("10.0.0.1:8080", 3), ("10.0.0.2:8080", 1)]).await?;
    assert_eq!(after.slot(9100)?, before.slot(9100)?);
    // The generation is another one, and the status keeps up.
    scene.route_says("app", "tcp", SERVED).await?;
    let history = scene.history_to_fence(revision).await?;
    assert_eq!(keys(&history), [before.pool_key(9100)?]);
    Ok(())
}

#[tokio::test]
async fn a_route_that_moves_to_another_listener_takes_its_upstream_along() -> anyhow::Result<()> {
    let mut scene = Scene::open("move").await?;
    let listeners = [("one", 9100), ("two", 9200)];
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"]) + &gateway("edge", &listeners)).await?;
    scene.apply(route("app", ("edge", "one"), &[("web", 1)])).await?;
    let before = scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;
    scene.gateway_says("edge", BOTH, &[("one", 1), ("two", 0)]).await?;

    let revision = scene.revision().await?;
    scene.apply(route("app", ("edge", "two"), &[("web", 1)])).await?;
    let after = scene.served(9200, "app", &[("10.0.0.1:8080", 1)]).await?;
    assert_eq!(after.pool_key(9200)?, before.pool_key(9100)?);
    scene
        .until("the slot of port 9100 to go", async || {
            let documents = scene.documents().await?;
            ensure!(documents.slot(9100).is_err(), "it is there");
            Ok(())
        })
        .await?;
    scene.route_says("app", "two", SERVED).await?;
    scene.gateway_says("edge", BOTH, &[("one", 0), ("two", 1)]).await?;
    let route = scene.get(&scene.object("TCPRoute", "app")).await?;
    assert_eq!(super::claims::items(&route, "/status/parents").len(), 1, "{}", route["status"]);

    let history = scene.history_to_fence(revision).await?;
    let mut written = keys(&history);
    written.sort_unstable();
    assert_eq!(written, [slot_key(9100), slot_key(9200)]);
    Ok(())
}

#[tokio::test]
async fn when_the_holder_of_a_listener_is_deleted_the_next_route_takes_over_without_a_gap() -> anyhow::Result<()> {
    let mut scene = Scene::open("takeover").await?;
    let services = service("blue", &["10.0.0.1"]) + &service("green", &["10.0.0.2"]);
    scene.apply(CLASS.to_owned() + &services + &gateway("edge", &[("tcp", 9100)])).await?;
    // First by age, or by name where both were created within one second.
    scene.apply(route("a-holder", ("edge", "tcp"), &[("blue", 1)])).await?;
    scene.apply(route("b-waits", ("edge", "tcp"), &[("green", 1)])).await?;
    let before = scene.served(9100, "a-holder", &[("10.0.0.1:8080", 1)]).await?;
    scene.route_says("a-holder", "tcp", SERVED).await?;
    let superseded = &[("Accepted", "True/Accepted"), (PROGRAMMED, "False/Superseded")];
    let entry = scene.route_says("b-waits", "tcp", superseded).await?;
    let said = message(&entry, PROGRAMMED)?;
    assert!(said.contains(&format!("TCPRoute {}", scene.named("a-holder"))), "{said}");
    scene.gateway_says("edge", BOTH, &[("tcp", 2)]).await?;

    let revision = scene.revision().await?;
    scene.delete("TCPRoute", "a-holder").await?;
    let after = scene.served(9100, "b-waits", &[("10.0.0.2:8080", 1)]).await?;
    scene.route_says("b-waits", "tcp", SERVED).await?;
    scene.gateway_says("edge", BOTH, &[("tcp", 1)]).await?;
    let (old, new) = (before.pool_key(9100)?, after.pool_key(9100)?);
    scene
        .until("the upstream of the deleted route to go", async || {
            ensure!(scene.documents().await?.at(&old).is_err(), "it is there");
            Ok(())
        })
        .await?;

    // APISIX applies its directories independently of each other: each step is there before the next begins.
    let history = scene.history_to_fence(revision).await?;
    assert_eq!(keys(&history), [new.as_str(), &slot_key(9100), &old]);
    assert_eq!(history.iter().map(|written| written.value.is_some()).collect::<Vec<_>>(), [true, true, false]);
    assert!(history.is_sorted_by(|a, b| a.revision < b.revision), "{history:?}");
    Ok(())
}

#[tokio::test]
async fn a_gateway_full_of_routes_is_served_and_goes_with_each_slot_written_and_deleted_once() -> anyhow::Result<()> {
    let scene = Scene::open("burst").await?;
    // As many listeners as the CRD allows.
    let names: Vec<String> = (0..64).map(|number| format!("r{number}")).collect();
    let places: Vec<(&str, u16)> = names.iter().map(String::as_str).zip(9000..).collect();
    let routes: String = places.iter().map(|(name, _)| route(name, ("edge", name), &[("web", 1)])).collect();
    let revision = scene.revision().await?;
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"]) + &gateway("edge", &places)).await?;
    scene.apply(routes).await?;
    for (name, port) in &places {
        scene.served(*port, name, &[("10.0.0.1:8080", 1)]).await?;
        scene.route_says(name, name, SERVED).await?;
    }
    let attached: Vec<(&str, u64)> = places.iter().map(|(name, _)| (*name, 1)).collect();
    scene.gateway_says("edge", BOTH, &attached).await?;

    scene.delete("Gateway", "edge").await?;
    scene.emptied().await?;
    let history = scene.history(revision).await?;
    for (_, port) in &places {
        let of_slot = history.iter().filter(|written| written.key == slot_key(*port));
        let puts: Vec<bool> = of_slot.map(|written| written.value.is_some()).collect();
        assert_eq!(puts, [true, false], "port {port}");
    }
    Ok(())
}
