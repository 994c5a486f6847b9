//! What routes refer to across namespaces, and who lets them.

use super::{
    claims::{PROGRAMMED, message},
    documents::value,
    objects::{CLASS, SERVICE_PORT, gateway, route, service, service_in},
    scene::{Scene, keys},
    support::{kubernetes::Named, servers::shared},
};
use serde_json::json;

#[tokio::test]
async fn a_namespace_whose_label_changes_attaches_and_detaches_its_routes() -> anyhow::Result<()> {
    let scene = Scene::open("labels").await?;
    let other = scene.servers.kubernetes.namespace("labels-tenant").await?;
    let namespace = Named { api_version: "v1", kind: "Namespace", namespace: "", name: &other };
    scene.apply(CLASS).await?;
    scene
        .apply(
            "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: $NS}
spec:
  gatewayClassName: $CLASS
  listeners:
    - name: tcp
      protocol: TCP
      port: 9100
      allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {tenant: welcome}}}}
",
        )
        .await?;
    let manifests = service_in(&other, "web", &["10.0.0.1"])
        + &format!(
            "
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {{name: app, namespace: {other}}}
spec:
  parentRefs: [{{name: edge, namespace: $NS, sectionName: tcp}}]
  rules: [{{backendRefs: [{{name: web, port: {SERVICE_PORT}}}]}}]
"
        );
    scene.apply(manifests).await?;
    let app = Named { api_version: "gateway.networking.k8s.io/v1", kind: "TCPRoute", namespace: &other, name: "app" };
    let programmed = [("Programmed", "True/Programmed")];

    let refused = [("Accepted", "False/NotAllowedByListeners"), (PROGRAMMED, "False/NotAccepted")];
    scene.route_at_says(&app, "tcp", &refused).await?;
    scene.gateway_says("edge", &programmed, &[("tcp", 0)]).await?;
    assert_eq!(scene.documents().await?.of_our_shape(), Vec::<&str>::new());

    scene.servers.kubernetes.patch(&namespace, json!({"metadata": {"labels": {"tenant": "welcome"}}})).await?;
    scene.route_at_says(&app, "tcp", &[("Accepted", "True/Accepted"), (PROGRAMMED, "True/Programmed")]).await?;
    scene.gateway_says("edge", &programmed, &[("tcp", 1)]).await?;
    scene.documents().await?.serve(9100, &format!("TCPRoute {other}/app"), &[("10.0.0.1:8080", 1)])?;

    scene.servers.kubernetes.patch(&namespace, json!({"metadata": {"labels": {"tenant": null}}})).await?;
    scene.route_at_says(&app, "tcp", &refused).await?;
    scene.gateway_says("edge", &programmed, &[("tcp", 0)]).await?;
    scene.emptied().await?;
    Ok(())
}

/// A route to a Service of its own namespace and to one of another, each with half of the connections.
struct Across {
    scene: Scene,
    grant: String,
    other: String,
}

const RESOLVED: &[(&str, &str)] = &[("ResolvedRefs", "True/ResolvedRefs"), (PROGRAMMED, "True/Programmed")];
const NOT_PERMITTED: &[(&str, &str)] =
    &[("Accepted", "True/Accepted"), ("ResolvedRefs", "False/RefNotPermitted"), (PROGRAMMED, "True/Programmed")];

impl Across {
    async fn open(hint: &str, apisix_version: &str) -> anyhow::Result<Self> {
        let servers = shared().await?;
        let place = servers.place(hint).await?;
        let scene = Scene::start(servers, place, &["--apisix-version", apisix_version])?;
        let other = scene.servers.kubernetes.namespace(&format!("{hint}-backend")).await?;
        let grant = format!(
            "
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {{name: grant, namespace: {other}}}
spec:
  from: [{{group: gateway.networking.k8s.io, kind: TCPRoute, namespace: $NS}}]
  to: [{{group: '', kind: Service}}]
"
        );
        let services = service("near", &["10.0.0.1"]) + &service_in(&other, "far", &["10.0.0.2"]);
        scene.apply(CLASS.to_owned() + &services + &gateway("edge", &[("tcp", 9100)])).await?;
        scene.apply(&grant).await?;
        let backends =
            format!("[{{name: near, port: {SERVICE_PORT}}}, {{name: far, namespace: {other}, port: {SERVICE_PORT}}}]");
        let manifest =
            route("app", ("edge", "tcp"), &[]).replace("backendRefs: []", &format!("backendRefs: {backends}"));
        scene.apply(manifest).await?;
        scene.served(9100, "app", &[("10.0.0.1:8080", 1), ("10.0.0.2:8080", 1)]).await?;
        scene.route_says("app", "tcp", RESOLVED).await?;
        Ok(Self { scene, grant, other })
    }

    async fn revoke(&self) -> anyhow::Result<()> {
        let api_version = "gateway.networking.k8s.io/v1";
        let named = Named { api_version, kind: "ReferenceGrant", namespace: &self.other, name: "grant" };
        self.scene.servers.kubernetes.delete(&named).await
    }
}

#[tokio::test]
async fn a_revoked_grant_refuses_its_share_and_a_new_one_heals_it() -> anyhow::Result<()> {
    let mut across = Across::open("grant", "3.13.0").await?;
    let revision = across.scene.revision().await?;
    across.revoke().await?;
    let scene = &across.scene;
    // Where connections end at once, without another try: half of them are refused, and none goes to the wrong backend.
    let refused = scene.served(9100, "app", &[("10.0.0.1:8080", 1), ("127.0.0.1:1", 1)]).await?;
    assert_eq!(value(refused.pool(9100)?)?["retries"], 0);
    let entry = scene.route_says("app", "tcp", NOT_PERMITTED).await?;
    let said = message(&entry, "ResolvedRefs")?;
    assert!(said.contains("backendRefs[1]") && said.contains(&across.other), "{said}");
    let said = message(&entry, PROGRAMMED)?;
    assert!(said.contains("1 of 2 connections"), "{said}");

    scene.apply(&across.grant).await?;
    let healed = scene.served(9100, "app", &[("10.0.0.1:8080", 1), ("10.0.0.2:8080", 1)]).await?;
    assert_eq!(value(healed.pool(9100)?)?.get("retries"), None);
    scene.route_says("app", "tcp", RESOLVED).await?;
    let pool = healed.pool_key(9100)?;
    assert_eq!(keys(&across.scene.history_to_fence(revision).await?), [pool.as_str(), &pool]);
    Ok(())
}

#[tokio::test]
async fn with_apisix_3_14_a_revoked_grants_share_is_split_off_in_one_transaction() -> anyhow::Result<()> {
    let across = Across::open("split", "3.14.0").await?;
    across.revoke().await?;
    let scene = &across.scene;
    let refused = scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;
    let split = &value(refused.slot(9100)?)?["plugins"]["traffic-split"]["rules"][0]["weighted_upstreams"];
    assert_eq!(split, &json!([{"upstream": {"type": "roundrobin", "nodes": []}, "weight": 1}, {"weight": 1}]));
    assert_eq!(refused.slot(9100)?.mod_revision, refused.pool(9100)?.mod_revision);
    scene.route_says("app", "tcp", NOT_PERMITTED).await?;

    scene.apply(&across.grant).await?;
    let healed = scene.served(9100, "app", &[("10.0.0.1:8080", 1), ("10.0.0.2:8080", 1)]).await?;
    assert_eq!(value(healed.slot(9100)?)?.get("plugins"), None);
    assert_eq!(healed.slot(9100)?.mod_revision, healed.pool(9100)?.mod_revision);
    scene.route_says("app", "tcp", RESOLVED).await?;
    Ok(())
}
