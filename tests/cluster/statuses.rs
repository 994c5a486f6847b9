//! What stands beside ours in a route's status, and what is done to ours.

use super::{
    claims::{PROGRAMMED, entry, items},
    objects::{CLASS, gateway, route, service},
    scene::Scene,
};
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

const THEIRS: &str = "example.com/other";

/// Their entry as the API server shows it, to the byte.
fn theirs(route: &Value) -> anyhow::Result<String> {
    Ok(entry(route, THEIRS, "tcp")?.to_string())
}

/// Rewrites `status.parents`, again if somebody else was faster.
async fn rewrite_parents(scene: &Scene, mut change: impl FnMut(&mut Vec<Value>)) -> anyhow::Result<()> {
    let named = scene.object("TCPRoute", "app");
    scene
        .until("a status to be written by somebody else", async || {
            let route = scene.get(&named).await?;
            let mut parents = items(&route, "/status/parents").to_vec();
            change(&mut parents);
            let version = &route["metadata"]["resourceVersion"];
            let patch = json!({"metadata": {"resourceVersion": version}, "status": {"parents": parents}});
            scene.servers.kubernetes.patch(&named, patch).await
        })
        .await
}

#[tokio::test]
async fn another_controllers_entry_is_kept_and_ours_is_put_right() -> anyhow::Result<()> {
    let scene = Scene::open("entries").await?;
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"]) + &gateway("edge", &[("tcp", 9100)])).await?;
    scene.apply(route("app", ("edge", "tcp"), &[("web", 1)])).await?;
    let served =
        &[("Accepted", "True/Accepted"), ("ResolvedRefs", "True/ResolvedRefs"), (PROGRAMMED, "True/Programmed")];
    scene.route_says("app", "tcp", served).await?;

    // About the same parent as ours, before ours, and out of date.
    let their_entry = json!({
        "parentRef": {"name": "edge", "sectionName": "tcp"},
        "controllerName": THEIRS,
        "conditions": [{
            "type": "Accepted", "status": "Unknown", "reason": "Pending", "message": "theirs",
            "observedGeneration": 1, "lastTransitionTime": "2020-01-01T00:00:00Z"
        }]
    });
    rewrite_parents(&scene, |parents| parents.insert(0, their_entry.clone())).await?;
    let app = scene.object("TCPRoute", "app");
    let before = theirs(&scene.get(&app).await?)?;

    // Ours changes.
    scene.delete("Service", "web").await?;
    scene.route_says("app", "tcp", &[("ResolvedRefs", "False/BackendNotFound")]).await?;
    assert_eq!(theirs(&scene.get(&app).await?)?, before);
    scene.apply(service("web", &["10.0.0.1"])).await?;
    scene.route_says("app", "tcp", served).await?;

    // Ours is spoiled: conditions edited, then the entry removed.
    let ours = scene.place.controller_name.clone();
    rewrite_parents(&scene, |parents| {
        for condition in parents
            .iter_mut()
            .filter(|entry| entry["controllerName"] == ours.as_str())
            .flat_map(|entry| entry.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten())
        {
            condition["status"] = "False".into();
            condition["reason"] = "Spoiled".into();
        }
    })
    .await?;
    scene.route_says("app", "tcp", served).await?;
    rewrite_parents(&scene, |parents| parents.retain(|entry| entry["controllerName"] == THEIRS)).await?;
    scene.route_says("app", "tcp", served).await?;
    assert_eq!(theirs(&scene.get(&app).await?)?, before);

    // Our parent goes from the spec, and nothing of ours is left to say.
    scene.apply(route("app", ("nobodys", "tcp"), &[("web", 1)])).await?;
    scene.emptied().await?;
    scene
        .until("our entry to go, and theirs to stay", async || {
            let route = scene.get(&app).await?;
            ensure!(items(&route, "/status/parents").len() == 1, "{}", route["status"]);
            ensure!(theirs(&route)? == before, "{}", route["status"]);
            Ok(())
        })
        .await
}

#[tokio::test]
async fn spoiled_statuses_of_a_class_and_a_gateway_are_put_right() -> anyhow::Result<()> {
    let scene = Scene::open("spoiled").await?;
    scene.apply(CLASS.to_owned() + &gateway("edge", &[("tcp", 9100)])).await?;
    let programmed = &[("Accepted", "True/Accepted"), ("Programmed", "True/Programmed")];
    let accepted = &[("Accepted", "True/Accepted")];
    let gateway = scene.gateway_says("edge", programmed, &[("tcp", 0)]).await?;
    let class = scene.class_says(accepted).await?;

    let class_named = scene.object("GatewayClass", &scene.place.gateway_class);
    for (named, object) in [(class_named, class), (scene.object("Gateway", "edge"), gateway)] {
        let mut conditions = items(&object, "/status/conditions").to_vec();
        for condition in &mut conditions {
            condition["status"] = "False".into();
            condition["reason"] = "Spoiled".into();
        }
        let foreign = json!({
            "type": "example.com/Theirs", "status": "True", "reason": "Theirs", "message": "",
            "lastTransitionTime": "2020-01-01T00:00:00Z"
        });
        conditions.push(foreign);
        scene.servers.kubernetes.patch(&named, json!({"status": {"conditions": conditions}})).await?;
    }
    let class = scene.class_says(accepted).await?;
    let gateway = scene.gateway_says("edge", programmed, &[("tcp", 0)]).await?;
    for object in [class, gateway] {
        let theirs = items(&object, "/status/conditions").iter().find(|found| found["type"] == "example.com/Theirs");
        assert_eq!(theirs.context("their condition is kept")?["lastTransitionTime"], "2020-01-01T00:00:00Z");
    }
    Ok(())
}
