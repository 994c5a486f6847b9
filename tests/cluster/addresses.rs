//! Where clients reach a data plane, in the status of its Gateways; and the finalizer that keeps their GatewayClass.

use super::{
    objects::{CLASS, gateway, route, service},
    scene::Scene,
};
use crate::support::servers::shared;
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

const FINALIZER: &str = "gateway-exists-finalizer.gateway.networking.k8s.io";

/// A Service of its namespace, without endpoints.
fn front(spec: &str) -> String {
    format!(
        "
---
apiVersion: v1
kind: Service
metadata: {{name: front, namespace: $NS}}
spec: {{ports: [{{port: 9100}}], {spec}}}
"
    )
}

/// A Gateway that asks for an address.
fn asking(name: &str, port: u16, addresses: &str) -> String {
    gateway(name, &[("tcp", port)])
        .replace("spec: {gatewayClassName", &format!("spec: {{addresses: [{addresses}], gatewayClassName"))
}

/// Waits until a Gateway reports these addresses and says this of `Programmed`; the Gateway.
async fn reports(scene: &Scene, name: &str, programmed: &str, addresses: &[(&str, &str)]) -> anyhow::Result<Value> {
    let named = scene.object("Gateway", name);
    let want: Vec<Value> = addresses.iter().map(|(kind, value)| json!({"type": kind, "value": value})).collect();
    scene.gateway_says(name, &[("Accepted", "True/Accepted"), ("Programmed", programmed)], &[]).await?;
    scene
        .until(&format!("Gateway {name} to report {addresses:?}"), async || {
            let gateway = scene.get(&named).await?;
            let found = gateway.pointer("/status/addresses").cloned().unwrap_or_else(|| json!([]));
            ensure!(found == Value::Array(want.clone()), "{found}");
            Ok(gateway)
        })
        .await
}

#[tokio::test]
async fn addresses_follow_the_service_in_front_of_the_data_plane() -> anyhow::Result<()> {
    let servers = shared().await?;
    let place = servers.place("front").await?;
    let service_name = format!("{}/front", place.namespace);
    let scene = Scene::start(servers, place, &["--publish-service", &service_name])?;
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"]) + &gateway("edge", &[("tcp", 9100)])).await?;
    scene.apply(route("app", ("edge", "tcp"), &[("web", 1)])).await?;

    // There is none yet. Routes do not wait for it.
    let gateway = reports(&scene, "edge", "False/AddressNotAssigned", &[]).await?;
    ensure!(gateway["status"].to_string().contains(&format!("Service {service_name}")), "{}", gateway["status"]);
    scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;

    scene.apply(front("type: LoadBalancer")).await?;
    let named = scene.object("Service", "front");
    let balanced = |ingress: Value| json!({"status": {"loadBalancer": {"ingress": ingress}}});
    scene.servers.kubernetes.patch(&named, balanced(json!([{"ip": "203.0.113.7"}]))).await?;
    reports(&scene, "edge", "True/Programmed", &[("IPAddress", "203.0.113.7")]).await?;

    // It changes, it is asked for in part, it goes.
    let both = json!([{"ip": "203.0.113.8"}, {"hostname": "lb.example.com"}]);
    scene.servers.kubernetes.patch(&named, balanced(both)).await?;
    let reported = [("IPAddress", "203.0.113.8"), ("Hostname", "lb.example.com")];
    reports(&scene, "edge", "True/Programmed", &reported).await?;
    scene.apply(asking("picky", 9200, "{type: Hostname, value: lb.example.com}")).await?;
    reports(&scene, "picky", "True/Programmed", &reported[1..]).await?;
    scene.delete("Service", "front").await?;
    reports(&scene, "edge", "False/AddressNotAssigned", &[]).await?;
    reports(&scene, "picky", "False/AddressNotUsable", &[]).await?;

    scene.apply(front("type: ClusterIP, externalIPs: [203.0.113.9]")).await?;
    reports(&scene, "edge", "True/Programmed", &[("IPAddress", "203.0.113.9")]).await?;
    Ok(())
}

#[tokio::test]
async fn addresses_of_the_settings_are_put_right_and_go_with_them() -> anyhow::Result<()> {
    let servers = shared().await?;
    let place = servers.place("said").await?;
    let scene =
        Scene::start(servers, place, &["--address", "203.0.113.7,2001:db8::7", "--address", "edge.example.com"])?;
    scene.apply(CLASS.to_owned() + &gateway("edge", &[("tcp", 9100)])).await?;
    let said = [("IPAddress", "203.0.113.7"), ("IPAddress", "2001:db8::7"), ("Hostname", "edge.example.com")];
    reports(&scene, "edge", "True/Programmed", &said).await?;

    scene.apply(asking("picky", 9200, "{value: 2001:0db8::0007}, {type: Hostname}")).await?;
    reports(&scene, "picky", "True/Programmed", &said[1..]).await?;
    scene.apply(asking("strange", 9300, "{value: 203.0.113.7}, {value: 198.51.100.1}")).await?;
    reports(&scene, "strange", "False/AddressNotUsable", &said[..1]).await?;

    let edge = scene.object("Gateway", "edge");
    let spoiled = json!({"status": {"addresses": [{"type": "IPAddress", "value": "192.0.2.66"}]}});
    scene.servers.kubernetes.patch(&edge, spoiled).await?;
    reports(&scene, "edge", "True/Programmed", &said).await?;

    // Started without them, the controller takes back what it said.
    scene.stop().await?;
    let scene = scene.start_again()?;
    reports(&scene, "edge", "True/Programmed", &[]).await?;
    reports(&scene, "picky", "False/AddressNotUsable", &[]).await?;
    Ok(())
}

/// Waits until the GatewayClass has exactly these finalizers.
async fn finalizers(scene: &Scene, want: &[&str]) -> anyhow::Result<()> {
    let named = scene.object("GatewayClass", &scene.place.gateway_class);
    scene
        .until(&format!("the GatewayClass to have finalizers {want:?}"), async || {
            let class = scene.get(&named).await?;
            let found = class.pointer("/metadata/finalizers").cloned().unwrap_or_else(|| json!([]));
            ensure!(found == json!(want), "{found}");
            Ok(())
        })
        .await
}

#[tokio::test]
async fn a_class_carries_the_finalizer_while_a_gateway_uses_it() -> anyhow::Result<()> {
    const THEIRS: &str = "example.com/other";
    let scene = Scene::open("finalizer").await?;
    let class = scene.place.gateway_class.clone();
    let named = scene.object("GatewayClass", &class);
    scene.apply(CLASS).await?;
    scene.class_says(&[("Accepted", "True/Accepted")]).await?;
    finalizers(&scene, &[]).await?;
    scene.servers.kubernetes.patch(&named, json!({"metadata": {"finalizers": [THEIRS]}})).await?;
    scene.apply(gateway("edge", &[("tcp", 9100)]) + &gateway("second", &[("tcp", 9200)])).await?;
    finalizers(&scene, &[THEIRS, FINALIZER]).await?;
    // Somebody takes it away.
    scene.servers.kubernetes.patch(&named, json!({"metadata": {"finalizers": [THEIRS]}})).await?;
    finalizers(&scene, &[THEIRS, FINALIZER]).await?;

    // A Gateway is left, and then none.
    scene.delete("Gateway", "edge").await?;
    scene.gateway_says("second", &[("Programmed", "True/Programmed")], &[]).await?;
    scene.apply(gateway("third", &[("tcp", 9300)])).await?;
    scene.gateway_says("third", &[("Programmed", "True/Programmed")], &[]).await?;
    finalizers(&scene, &[THEIRS, FINALIZER]).await?;
    scene.delete("Gateway", "second").await?;
    scene.delete("Gateway", "third").await?;
    finalizers(&scene, &[THEIRS]).await?;
    Ok(())
}

#[tokio::test]
async fn a_class_that_is_deleted_under_a_gateway_is_served_until_the_gateway_is_gone() -> anyhow::Result<()> {
    let scene = Scene::open("class-stays").await?;
    let class = scene.place.gateway_class.clone();
    let named = scene.object("GatewayClass", &class);
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"]) + &gateway("edge", &[("tcp", 9100)])).await?;
    scene.apply(route("app", ("edge", "tcp"), &[("web", 1)])).await?;
    scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;
    finalizers(&scene, &[FINALIZER]).await?;

    scene.delete("GatewayClass", &class).await?;
    let deleted = scene.get(&named).await?;
    deleted["metadata"]["deletionTimestamp"].as_str().context("the class is being deleted")?;
    scene.apply(service("web", &["10.0.0.2"])).await?;
    scene.served(9100, "app", &[("10.0.0.2:8080", 1)]).await?;
    finalizers(&scene, &[FINALIZER]).await?;

    scene.delete("Gateway", "edge").await?;
    scene.servers.kubernetes.gone(&named).await?;
    scene.emptied().await?;
    Ok(())
}
