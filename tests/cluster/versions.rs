//! API servers that serve less than the newest Gateway API.

use super::{
    claims::{PROGRAMMED, message},
    objects::{CLASS, SERVICE_PORT, gateway, mixed_gateway, route, service, service_in},
    scene::Scene,
    support::{
        binaries::Binary,
        etcd::Etcd,
        kubernetes::{Crds, Named},
        servers::{Servers, fresh, fresh_kubernetes},
    },
    udp::{udp_route, udp_service},
};
use anyhow::ensure;
use std::sync::Arc;

const SERVED: &[(&str, &str)] =
    &[("Accepted", "True/Accepted"), ("ResolvedRefs", "True/ResolvedRefs"), (PROGRAMMED, "True/Programmed")];

#[tokio::test]
async fn with_crds_of_1_4_routes_are_served_at_v1alpha2_and_grants_at_v1beta1() -> anyhow::Result<()> {
    let servers = fresh(Crds::Experimental141).await?;
    let place = servers.place("old").await?;
    let scene = Scene::start(servers, place, &[])?;
    let other = scene.servers.kubernetes.namespace("old-backend").await?;
    let services =
        service("near", &["10.0.0.1"]) + &service_in(&other, "far", &["10.0.0.2"]) + &udp_service("dns", &["10.0.0.3"]);
    let listeners = [("tcp", "TCP", 9100), ("udp", "UDP", 9200)];
    scene.apply(CLASS.to_owned() + &services + &mixed_gateway("edge", &listeners)).await?;
    let manifests = format!(
        "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {{name: grant, namespace: {other}}}
spec:
  from: [{{group: gateway.networking.k8s.io, kind: TCPRoute, namespace: $NS}}]
  to: [{{group: '', kind: Service}}]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {{name: app, namespace: $NS}}
spec:
  parentRefs: [{{name: edge, sectionName: tcp}}]
  rules:
    - backendRefs: [{{name: far, namespace: {other}, port: {SERVICE_PORT}}}]
    - backendRefs: [{{name: near, port: {SERVICE_PORT}}}]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: UDPRoute
metadata: {{name: app, namespace: $NS}}
spec:
  parentRefs: [{{name: edge, sectionName: udp}}]
  rules:
    - backendRefs: [{{name: dns, port: {SERVICE_PORT}}}]
    - backendRefs: [{{name: near, port: {SERVICE_PORT}}}]
"
    );
    scene.apply(manifests).await?;

    scene.served(9100, "app", &[("10.0.0.2:8080", 1)]).await?;
    let namespace = scene.place.namespace.as_str();
    let api_version = "gateway.networking.k8s.io/v1alpha2";
    let app = Named { api_version, kind: "TCPRoute", namespace, name: "app" };
    let over_udp = Named { kind: "UDPRoute", ..app.clone() };
    scene.served_by(9200, ("UDPRoute", "app"), &[("10.0.0.3:8080", 1)]).await?;
    for (route, listener) in [(&app, "tcp"), (&over_udp, "udp")] {
        let entry = scene.route_at_says(route, listener, SERVED).await?;
        let said = message(&entry, "Accepted")?;
        assert!(said.contains("Only the first rule is served; 1 further rule is not"), "{said}");
    }
    let class =
        scene.class_says(&[("Accepted", "True/Accepted"), ("SupportedVersion", "True/SupportedVersion")]).await?;
    let said = message(&class["status"], "Accepted")?;
    let versions = "TCPRoute is read at v1alpha2, UDPRoute is read at v1alpha2, ReferenceGrant is read at v1beta1. Not \
                    served yet: ListenerSet, TLSRoute; install the CRDs to use these.";
    assert!(said.ends_with(versions), "{said}");
    for kind in ["kind=\"tcproute\"", "kind=\"udproute\""] {
        assert_eq!(scene.metric("served_version", &[kind, "version=\"v1alpha2\""]).await?, 1, "{kind}");
    }

    for route in [&app, &over_udp] {
        scene.servers.kubernetes.delete(route).await?;
    }
    scene.emptied().await?;
    Ok(())
}

#[tokio::test]
async fn a_crd_of_tcproute_that_appears_later_is_picked_up() -> anyhow::Result<()> {
    let (kubernetes, etcd) = tokio::try_join!(Box::pin(fresh_kubernetes()), Box::pin(Etcd::start(Binary::Etcd)))?;
    kubernetes.install_but(Crds::Standard161, &["tcproutes.gateway.networking.k8s.io"]).await?;
    let servers = Servers { kubernetes, etcd: Arc::new(etcd) };
    let place = servers.place("late").await?;
    let scene = Scene::start(servers, place, &[])?;
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"]) + &gateway("edge", &[("tcp", 9100)])).await?;

    // Nothing waits for it.
    scene.controller.ready().await?;
    let class = scene.class_says(&[("Accepted", "True/Accepted")]).await?;
    let said = message(&class["status"], "Accepted")?;
    assert!(said.contains("UDPRoute is read at v1, ") && said.contains("Not served yet: TCPRoute;"), "{said}");
    scene.gateway_says("edge", &[("Programmed", "True/Programmed")], &[("tcp", 0)]).await?;

    Box::pin(scene.servers.kubernetes.install(Crds::Standard161)).await?;
    scene.apply(route("app", ("edge", "tcp"), &[("web", 1)])).await?;
    scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;
    scene.route_says("app", "tcp", SERVED).await?;
    scene.gateway_says("edge", &[("Programmed", "True/Programmed")], &[("tcp", 1)]).await?;
    let named = scene.object("GatewayClass", &scene.place.gateway_class);
    scene
        .until("the GatewayClass to name the version of TCPRoute", async || {
            let class = scene.get(&named).await?;
            let said = message(&class["status"], "Accepted")?;
            ensure!(said.contains("TCPRoute is read at v1, "), "{said}");
            Ok(())
        })
        .await
}

#[tokio::test]
async fn without_the_crd_of_udproute_tcproutes_are_served_and_udproutes_once_it_is_there() -> anyhow::Result<()> {
    let (kubernetes, etcd) = tokio::try_join!(Box::pin(fresh_kubernetes()), Box::pin(Etcd::start(Binary::Etcd)))?;
    kubernetes.install_but(Crds::Standard161, &["udproutes.gateway.networking.k8s.io"]).await?;
    let servers = Servers { kubernetes, etcd: Arc::new(etcd) };
    let place = servers.place("tcp-only").await?;
    let scene = Scene::start(servers, place, &[])?;
    let services = service("web", &["10.0.0.1"]) + &udp_service("dns", &["10.0.0.2"]);
    let listeners = [("tcp", "TCP", 9100), ("udp", "UDP", 9200)];
    let manifests = CLASS.to_owned() + &services + &mixed_gateway("edge", &listeners);
    scene.apply(manifests + &route("app", ("edge", "tcp"), &[("web", 1)])).await?;

    // Nothing waits for it.
    scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;
    scene.route_says("app", "tcp", SERVED).await?;
    scene.controller.ready().await?;
    let class = scene.class_says(&[("Accepted", "True/Accepted")]).await?;
    let said = message(&class["status"], "Accepted")?;
    assert!(said.contains("TCPRoute is read at v1, ") && said.contains("Not served yet: UDPRoute;"), "{said}");
    // The listener stands ready: what is missing is a kind of route, not what a Gateway says.
    scene.gateway_says("edge", &[("Programmed", "True/Programmed")], &[("tcp", 1), ("udp", 0)]).await?;

    Box::pin(scene.servers.kubernetes.install(Crds::Standard161)).await?;
    scene.apply(udp_route("app", ("edge", "udp"), &[("dns", 1)])).await?;
    scene.served_by(9200, ("UDPRoute", "app"), &[("10.0.0.2:8080", 1)]).await?;
    scene.route_at_says(&scene.object("UDPRoute", "app"), "udp", SERVED).await?;
    scene.gateway_says("edge", &[("Programmed", "True/Programmed")], &[("tcp", 1), ("udp", 1)]).await?;
    Ok(())
}
