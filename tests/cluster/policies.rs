//! BackendTLSPolicies where TLS is ended: what they do to a backend, what they are told, and what is left when they go.

use super::{
    claims::{PROGRAMMED, items, message, says},
    documents::{Documents, value},
    objects::{CLASS, service},
    scene::Scene,
    tls::{GATEWAY, ROUTE, secret},
};
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

const THEIRS: &str = "example.com/other";

/// A policy for the Service `web`.
fn policy(name: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{name: {name}, namespace: $NS}}
spec:
  targetRefs: [{{group: '', kind: Service, name: web}}]
  validation: {{hostname: web.internal, wellKnownCACertificates: System}}
"
    )
}

/// The only upstream's nodes.
fn nodes(documents: &Documents) -> anyhow::Result<Vec<String>> {
    let mut found = documents.0.iter().filter(|(key, _)| key.starts_with("/upstreams/gateway-api."));
    let (_, held) = found.next().context("there is no upstream")?;
    ensure!(found.next().is_none(), "{:?}", documents.0.keys());
    Ok(items(&value(held)?, "/nodes").iter().map(|node| node["host"].as_str().unwrap_or_default().to_owned()).collect())
}

/// Waits until the upstream has these nodes.
async fn leads_to(scene: &Scene, wanted: &[&str]) -> anyhow::Result<()> {
    scene
        .until(&format!("the upstream to have {wanted:?}"), async || {
            let found = nodes(&scene.documents().await?)?;
            ensure!(found == wanted, "{found:?}");
            Ok(())
        })
        .await
}

/// Waits until a policy's only entry of ours is about the Gateway and says this; the entry.
async fn policy_says(scene: &Scene, name: &str, reason: &str) -> anyhow::Result<Value> {
    let named = scene.object("BackendTLSPolicy", name);
    scene
        .until(&format!("BackendTLSPolicy {name} to say {reason}"), async || {
            let policy = scene.get(&named).await?;
            let ours = ours(scene, &policy);
            let [entry] = ours.as_slice() else { anyhow::bail!("{}", policy["status"]) };
            let ancestor = json!({
                "group": "gateway.networking.k8s.io", "kind": "Gateway",
                "namespace": scene.place.namespace, "name": "edge"
            });
            ensure!(entry["ancestorRef"] == ancestor, "{entry}");
            says(&policy, entry, &[("Accepted", &format!("False/{reason}"))])?;
            Ok((*entry).clone())
        })
        .await
}

fn ours<'a>(scene: &Scene, policy: &'a Value) -> Vec<&'a Value> {
    let entries = items(policy, "/status/ancestors").iter();
    entries.filter(|entry| entry["controllerName"] == scene.place.controller_name.as_str()).collect()
}

#[tokio::test]
async fn a_policy_refuses_its_backend_while_it_is_there_and_its_status_follows() -> anyhow::Result<()> {
    let scene = Scene::open("policies").await?;
    let app = scene.object("TLSRoute", "app");
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"]) + GATEWAY + ROUTE + &secret("cert")?.0).await?;
    let served = &[("ResolvedRefs", "True/ResolvedRefs"), (PROGRAMMED, "True/Programmed")];
    scene.route_at_says(&app, "tls", served).await?;
    leads_to(&scene, &["10.0.0.1"]).await?;

    // It comes, and nothing gets to the backend.
    scene.apply(policy("one")).await?;
    leads_to(&scene, &[]).await?;
    let refused = &[("ResolvedRefs", "False/UnsupportedProtocol"), (PROGRAMMED, "True/Programmed")];
    let entry = scene.route_at_says(&app, "tls", refused).await?;
    let said = message(&entry, "ResolvedRefs")?;
    assert!(said.contains(&format!("BackendTLSPolicy {} demands", scene.named("one"))), "{said}");
    policy_says(&scene, "one", "Invalid").await?;

    // A second one loses, and what others say of it stays.
    scene.apply(policy("two")).await?;
    policy_says(&scene, "two", "Conflicted").await?;
    let two = scene.object("BackendTLSPolicy", "two");
    let theirs = json!({
        "ancestorRef": {"group": "", "kind": "Service", "name": "web"},
        "controllerName": THEIRS,
        "conditions": [{
            "type": "Accepted", "status": "True", "reason": "Accepted", "message": "theirs",
            "observedGeneration": 1, "lastTransitionTime": "2020-01-01T00:00:00Z"
        }]
    });
    scene
        .until("a status to be written by somebody else", async || {
            let policy = scene.get(&two).await?;
            let version = &policy["metadata"]["resourceVersion"];
            let ancestors: Vec<&Value> = [&theirs].into_iter().chain(items(&policy, "/status/ancestors")).collect();
            let patch = json!({"metadata": {"resourceVersion": version}, "status": {"ancestors": ancestors}});
            scene.servers.kubernetes.patch(&two, patch).await
        })
        .await?;

    // The first goes, and the second has its place.
    scene.delete("BackendTLSPolicy", "one").await?;
    policy_says(&scene, "two", "Invalid").await?;

    // The route goes: the policy concerns nobody any more.
    scene.delete("TLSRoute", "app").await?;
    scene
        .until("our entry to go, and theirs to stay", async || {
            let policy = scene.get(&two).await?;
            ensure!(items(&policy, "/status/ancestors") == [theirs.clone()], "{}", policy["status"]);
            Ok(())
        })
        .await?;

    // The route comes back, the policy goes, and the backend is reached.
    scene.apply(ROUTE).await?;
    policy_says(&scene, "two", "Invalid").await?;
    scene.delete("BackendTLSPolicy", "two").await?;
    leads_to(&scene, &["10.0.0.1"]).await?;
    scene.route_at_says(&app, "tls", served).await?;
    Ok(())
}
