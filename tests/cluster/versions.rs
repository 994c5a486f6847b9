//! API servers that serve less than the newest Gateway API.

use super::{
    claims::{PROGRAMMED, message},
    objects::{CLASS, SERVICE_PORT, gateway, route, service, service_in},
    scene::Scene,
    support::{
        binaries::Binary,
        etcd::Etcd,
        kubernetes::{Crds, Named},
        servers::{Servers, fresh, fresh_kubernetes},
    },
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
    let services = service("near", &["10.0.0.1"]) + &service_in(&other, "far", &["10.0.0.2"]);
    scene.apply(CLASS.to_owned() + &services + &gateway("edge", &[("tcp", 9100)])).await?;
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
"
    );
    scene.apply(manifests).await?;

    scene.served(9100, "app", &[("10.0.0.2:8080", 1)]).await?;
    let namespace = scene.place.namespace.as_str();
    let api_version = "gateway.networking.k8s.io/v1alpha2";
    let app = Named { api_version, kind: "TCPRoute", namespace, name: "app" };
    let entry = scene.route_at_says(&app, "tcp", SERVED).await?;
    let said = message(&entry, "Accepted")?;
    assert!(said.contains("Only the first rule is served; 1 further rule is not"), "{said}");
    let class =
        scene.class_says(&[("Accepted", "True/Accepted"), ("SupportedVersion", "True/SupportedVersion")]).await?;
    let said = message(&class["status"], "Accepted")?;
    assert!(said.contains("TCPRoute is read at v1alpha2, ReferenceGrant at v1beta1."), "{said}");
    let version = scene.metric("served_version", &["kind=\"tcproute\"", "version=\"v1alpha2\""]).await?;
    assert_eq!(version, 1);

    scene.servers.kubernetes.delete(&app).await?;
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
    assert!(said.contains("TCPRoute is not served yet"), "{said}");
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
