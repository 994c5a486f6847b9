//! UDPRoutes and UDP listeners, alone and beside those of TCP, as etcd and users see them.

use super::{
    claims::{PROGRAMMED, listener, message, says},
    documents::{slot_key, value},
    objects::{CLASS, mixed_gateway, route, route_of, service, service_of},
    scene::{Scene, keys},
};
use anyhow::ensure;
use serde_json::json;

const BOTH: &[(&str, &str)] = &[("Accepted", "True/Accepted"), ("Programmed", "True/Programmed")];
const SERVED: &[(&str, &str)] =
    &[("Accepted", "True/Accepted"), ("ResolvedRefs", "True/ResolvedRefs"), (PROGRAMMED, "True/Programmed")];
const UNAVAILABLE: &[(&str, &str)] =
    &[("Accepted", "False/PortUnavailable"), ("Programmed", "False/Invalid"), ("ResolvedRefs", "True/ResolvedRefs")];
const ATTACHED_IN_VAIN: &[(&str, &str)] = &[
    ("Accepted", "True/Accepted"),
    ("ResolvedRefs", "True/ResolvedRefs"),
    (PROGRAMMED, "False/ListenerNotProgrammed"),
];

/// A UDPRoute to Services of its own namespace, as [`route`] has it for TCP.
pub(crate) fn udp_route(name: &str, parent: (&str, &str), backends: &[(&str, u32)]) -> String {
    route_of("UDPRoute", name, parent, backends)
}

/// A Service whose port is for UDP, with ready endpoints at these addresses.
pub(crate) fn udp_service(name: &str, addresses: &[&str]) -> String {
    service_of("UDP", "$NS", name, addresses)
}

#[tokio::test]
async fn a_udproute_comes_changes_and_goes_beside_a_tcproute_of_its_name() -> anyhow::Result<()> {
    let mut scene = Scene::open("udp-life").await?;
    let services = service("web", &["10.0.0.1"]) + &udp_service("dns", &["10.0.0.2"]);
    let gateway = mixed_gateway("edge", &[("tcp", "TCP", 9100), ("udp", "UDP", 9200)]);
    scene.apply(CLASS.to_owned() + &services + &gateway + &route("app", ("edge", "tcp"), &[("web", 1)])).await?;
    scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;
    scene.route_says("app", "tcp", SERVED).await?;
    scene.gateway_says("edge", BOTH, &[("tcp", 1), ("udp", 0)]).await?;

    // It comes.
    let revision = scene.revision().await?;
    scene.apply(udp_route("app", ("edge", "udp"), &[("dns", 1)])).await?;
    let first = scene.served_by(9200, ("UDPRoute", "app"), &[("10.0.0.2:8080", 1)]).await?;
    let slot = value(first.slot(9200)?)?;
    assert_eq!((&slot["id"], &slot["server_port"]), (&json!("gateway-api.9200"), &json!(9200)));
    assert_eq!(value(first.pool(9200)?)?["scheme"], "udp");
    assert_ne!(first.pool_key(9200)?, first.pool_key(9100)?);
    let entry = scene.route_at_says(&scene.object("UDPRoute", "app"), "udp", SERVED).await?;
    assert_eq!(entry["parentRef"]["name"], "edge");
    scene.gateway_says("edge", BOTH, &[("tcp", 1), ("udp", 1)]).await?;
    scene.counted("status_writes_total", &["kind=\"udproute\""], 1).await?;

    // Its backends change.
    scene.apply(udp_service("dns", &["10.0.0.3", "10.0.0.4"])).await?;
    let second = scene.served_by(9200, ("UDPRoute", "app"), &[("10.0.0.3:8080", 1), ("10.0.0.4:8080", 1)]).await?;
    assert_eq!(second.slot(9200)?, first.slot(9200)?);
    scene.apply(udp_route("app", ("edge", "udp"), &[("web", 1)])).await?;
    let unsupported = &[
        ("Accepted", "True/Accepted"),
        ("ResolvedRefs", "False/UnsupportedProtocol"),
        (PROGRAMMED, "True/Programmed"),
    ];
    let entry = scene.route_at_says(&scene.object("UDPRoute", "app"), "udp", unsupported).await?;
    assert!(message(&entry, "ResolvedRefs")?.contains("is not a UDP port"), "{entry}");
    assert!(message(&entry, PROGRAMMED)?.contains("Every session is dropped"), "{entry}");
    scene.served_by(9200, ("UDPRoute", "app"), &[]).await?;

    // It goes, and takes nothing of the TCPRoute along.
    scene.delete("UDPRoute", "app").await?;
    let pool = first.pool_key(9200)?;
    let last = scene
        .until("the UDPRoute's documents to go", async || {
            let documents = scene.documents().await?;
            ensure!(documents.slot(9200).is_err() && documents.at(&pool).is_err(), "{:?}", documents.0.keys());
            Ok(documents)
        })
        .await?;
    assert_eq!((last.slot(9100)?, last.pool(9100)?), (first.slot(9100)?, first.pool(9100)?));
    scene.gateway_says("edge", BOTH, &[("tcp", 1), ("udp", 0)]).await?;
    let history = scene.history_to_fence(revision).await?;
    let slot = slot_key(9200);
    let written: Vec<(&str, bool)> =
        keys(&history).into_iter().zip(history.iter().map(|w| w.value.is_some())).collect();
    let (new, changes) = written.split_at(2);
    assert!(new.contains(&(pool.as_str(), true)) && new.contains(&(slot.as_str(), true)), "{written:?}");
    // First other endpoints, then none; a slot goes before its pool.
    assert_eq!(changes, [(pool.as_str(), true), (&pool, true), (&slot, false), (&pool, false)]);
    Ok(())
}

#[tokio::test]
async fn of_tcp_and_udp_on_one_port_of_a_gateway_the_first_has_it_until_it_goes() -> anyhow::Result<()> {
    let scene = Scene::open("udp-clash").await?;
    let services = service("web", &["10.0.0.1"]) + &udp_service("dns", &["10.0.0.2"]);
    let gateway = mixed_gateway("edge", &[("tcp", "TCP", 9100), ("udp", "UDP", 9100)]);
    let routes = route("app", ("edge", "tcp"), &[("web", 1)]) + &udp_route("app", ("edge", "udp"), &[("dns", 1)]);
    scene.apply(CLASS.to_owned() + &services + &gateway + &routes).await?;
    scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;
    scene.route_says("app", "tcp", SERVED).await?;
    let over_udp = scene.object("UDPRoute", "app");
    scene.route_at_says(&over_udp, "udp", ATTACHED_IN_VAIN).await?;
    let partly = &[("Accepted", "True/ListenersNotValid"), ("Programmed", "True/Programmed")];
    let gateway = scene.gateway_says("edge", partly, &[("tcp", 1), ("udp", 1)]).await?;
    let refused = listener(&gateway, "udp")?;
    says(&gateway, refused, UNAVAILABLE)?;
    let said = message(refused, "Accepted")?;
    assert!(said.contains("Listener tcp has port 9100, and APISIX cannot tell TCP from UDP"), "{said}");
    says(&gateway, listener(&gateway, "tcp")?, BOTH)?;

    // The first listener goes, and the port is free for the other protocol.
    scene.apply(mixed_gateway("edge", &[("udp", "UDP", 9100)])).await?;
    let documents = scene.served_by(9100, ("UDPRoute", "app"), &[("10.0.0.2:8080", 1)]).await?;
    assert_eq!(value(documents.pool(9100)?)?["scheme"], "udp");
    scene.route_at_says(&over_udp, "udp", SERVED).await?;
    scene
        .route_says("app", "tcp", &[("Accepted", "False/NoMatchingParent"), (PROGRAMMED, "False/NotAccepted")])
        .await?;
    let gateway = scene.gateway_says("edge", BOTH, &[("udp", 1)]).await?;
    says(&gateway, listener(&gateway, "udp")?, BOTH)
}

#[tokio::test]
async fn of_two_gateways_that_want_a_port_for_tcp_and_udp_the_older_has_it_until_it_goes() -> anyhow::Result<()> {
    let scene = Scene::open("udp-gateways").await?;
    let services = service("web", &["10.0.0.1"]) + &udp_service("dns", &["10.0.0.2"]);
    let routes = route("app", ("b-tcp", "it"), &[("web", 1)]) + &udp_route("app", ("a-udp", "it"), &[("dns", 1)]);
    // First by age, or by name where both were created within one second.
    let gateways = mixed_gateway("a-udp", &[("it", "UDP", 9100)]) + &mixed_gateway("b-tcp", &[("it", "TCP", 9100)]);
    scene.apply(CLASS.to_owned() + &services + &gateways + &routes).await?;
    scene.served_by(9100, ("UDPRoute", "app"), &[("10.0.0.2:8080", 1)]).await?;
    scene.route_at_says(&scene.object("UDPRoute", "app"), "it", SERVED).await?;
    scene.route_says("app", "it", ATTACHED_IN_VAIN).await?;
    let refused = &[("Accepted", "False/ListenersNotValid"), ("Programmed", "False/Invalid")];
    let gateway = scene.gateway_says("b-tcp", refused, &[("it", 1)]).await?;
    says(&gateway, listener(&gateway, "it")?, UNAVAILABLE)?;
    let said = message(listener(&gateway, "it")?, "Accepted")?;
    assert!(said.contains("held by another Gateway") && !said.contains("a-udp"), "{said}");

    scene.delete("Gateway", "a-udp").await?;
    scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;
    scene.route_says("app", "it", SERVED).await?;
    scene.gateway_says("b-tcp", BOTH, &[("it", 1)]).await?;
    Ok(())
}
