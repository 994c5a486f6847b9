//! DataPlane as Kubernetes has it: its CustomResourceDefinition is what the type says (BLESS=1 writes it), a real kube-apiserver
//! refuses what can be known to be wrong, and the controller says the rest.

mod support;

use anyhow::{Context as _, ensure};
use apisix_etcd_controller::cluster::data_plane::DataPlane;
use kube::CustomResourceExt as _;
use serde_json::{Value, json};
use std::{env, fs, path::Path};
use support::{
    controller::Controller,
    kubernetes::{Kubernetes, Named},
    servers::{Place, shared},
    wait::PATIENCE,
};

const HEAD: &str = "# The kind DataPlane. Generated from src/cluster/data_plane.rs: `BLESS=1 cargo test --test data_planes` writes it.\n";

const API_VERSION: &str = "apisix-etcd.io/v1alpha1";

#[test]
fn the_definition_is_what_the_type_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes/data-planes.yaml");
    let generated = format!("{HEAD}{}", serde_yaml_ng::to_string(&DataPlane::crd()).unwrap());
    if env::var_os("BLESS").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == generated, "deploy/kubernetes/data-planes.yaml is not what the type says: BLESS=1 writes it");
}

fn plane(name: &str, spec: &Value) -> String {
    json!({"apiVersion": API_VERSION, "kind": "DataPlane", "metadata": {"name": name}, "spec": spec}).to_string()
}

#[tokio::test]
async fn an_api_server_takes_every_field() -> anyhow::Result<()> {
    let kubernetes = Box::pin(shared()).await?.kubernetes;
    let whole = json!({
        "etcdPrefix": "/fields/a_b.c-D9",
        "apisixVersion": "3.18.0",
        "listen": [
            {"protocol": "TCP", "port": 9000, "endPort": 9010}, {"protocol": "TLS", "port": 9443, "endPort": 9443},
            {"protocol": "TLSPassthrough", "port": 1}, {"protocol": "TLSEither", "port": 2}, {"protocol": "UDP", "port": 65535},
        ],
        "portMapping": [{"gatewayPort": 443, "apisixPort": 9443}, {"gatewayPort": 80, "apisixPort": 80}],
        "streamPlugins": ["traffic-split"],
        "addresses": ["192.0.2.1", "2001:db8::1", "edge.example.com"],
    });
    let service = json!({"etcdPrefix": "/fields/b", "listen": [], "streamPlugins": [], "apisixVersion": "3.8", "publishService": {"namespace": "apisix", "name": "gateway"}});
    for (name, spec) in [("fields-a", &whole), ("fields-b", &service)] {
        kubernetes.apply(&plane(name, spec)).await?;
        let named = Named { api_version: API_VERSION, kind: "DataPlane", namespace: "", name };
        let object = kubernetes.get(&named).await?.context("it was taken")?;
        ensure!(object["spec"] == *spec, "nothing is dropped or added: {object}");
        kubernetes.delete(&named).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_api_server_refuses_what_it_can_know_to_be_wrong() -> anyhow::Result<()> {
    let kubernetes = Box::pin(shared()).await?.kubernetes;
    let with = |field: &str, value: Value| json!({"etcdPrefix": "/refused", field: value});
    let addresses: Vec<String> = (1..=17).map(|last| format!("192.0.2.{last}")).collect();
    let service = json!({"namespace": "apisix", "name": "gateway"});
    let ports = |one: u16, other: u16| json!([{"gatewayPort": 443, "apisixPort": one}, {"gatewayPort": 444, "apisixPort": other}]);
    for (spec, part) in [
        (json!({}), "spec.etcdPrefix: Required value"),
        (with("etcdPrefix", json!("")), "spec.etcdPrefix"),
        (with("etcdPrefix", json!("edge")), "spec.etcdPrefix"),
        (with("etcdPrefix", json!("/edge/")), "spec.etcdPrefix"),
        (with("etcdPrefix", json!("/a//b")), "spec.etcdPrefix"),
        (with("etcdPrefix", json!("/a b")), "spec.etcdPrefix"),
        (with("apisixVersion", json!("2.15.0")), "spec.apisixVersion"),
        (with("apisixVersion", json!("3.7.0")), "spec.apisixVersion"),
        (with("apisixVersion", json!("4.0")), "spec.apisixVersion"),
        (with("listen", json!([{"protocol": "tcp", "port": 1}])), "spec.listen[0].protocol: Unsupported value"),
        (with("listen", json!([{"protocol": "TCP", "port": 0}])), "spec.listen[0].port"),
        (with("listen", json!([{"protocol": "TCP", "port": 1, "endPort": 65536}])), "spec.listen[0].endPort"),
        (with("listen", json!([{"protocol": "TCP", "port": 2, "endPort": 1}])), "endPort comes before port"),
        (with("listen", json!([{"protocol": "TCP"}])), "spec.listen[0].port: Required value"),
        (with("portMapping", json!([{"gatewayPort": 0, "apisixPort": 1}])), "spec.portMapping[0].gatewayPort"),
        (with("portMapping", ports(9443, 9443)), "two gatewayPorts are mapped to the same apisixPort"),
        (
            with("portMapping", json!([{"gatewayPort": 1, "apisixPort": 1}, {"gatewayPort": 1, "apisixPort": 2}])),
            "spec.portMapping[1]: Duplicate value",
        ),
        (with("addresses", json!([])), "spec.addresses"),
        (with("addresses", json!(addresses)), "spec.addresses"),
        (with("publishService", json!({"namespace": "a", "name": "B"})), "spec.publishService.name"),
        (
            json!({"etcdPrefix": "/refused", "addresses": ["192.0.2.1"], "publishService": service}),
            "addresses and publishService both say the addresses",
        ),
    ] {
        // As it is created: server-side apply says of duplicates what it makes of them.
        let refused = create(&kubernetes, &spec).await;
        let error = refused.err().with_context(|| format!("{spec} is taken"))?;
        ensure!(format!("{error:#}").contains(part), "{spec}: {error:#}");
    }
    kubernetes.apply(&plane("not-refused", &with("portMapping", ports(9443, 9444)))).await?;
    Ok(())
}

async fn create(kubernetes: &Kubernetes, spec: &Value) -> anyhow::Result<()> {
    let object: kube::api::DynamicObject = serde_json::from_str(&plane("refused", spec))?;
    let resource = kube::api::ApiResource::erase::<DataPlane>(&());
    let api = kube::Api::<kube::api::DynamicObject>::all_with(kubernetes.client(), &resource);
    api.create(&kube::api::PostParams::default(), &object).await?;
    Ok(())
}

/// The condition Accepted of an object, as `status/reason message`; empty where it has none.
async fn accepted(kubernetes: &Kubernetes, named: &Named<'_>) -> anyhow::Result<String> {
    let object = kubernetes.get(named).await?.with_context(|| format!("{named:?} is not there"))?;
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let accepted = conditions.iter().find(|condition| condition["type"] == "Accepted");
    let generation = object.pointer("/metadata/generation");
    let current = |condition: &&Value| condition.get("observedGeneration") == generation;
    let text = |condition: &Value| {
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        format!("{}/{} {}", text("status"), text("reason"), text("message"))
    };
    Ok(accepted.filter(current).map(text).unwrap_or_default())
}

async fn says(controller: &Controller, kubernetes: &Kubernetes, named: &Named<'_>, part: &str) -> anyhow::Result<()> {
    let said = async || {
        let said = accepted(kubernetes, named).await?;
        ensure!(said.contains(part), "{named:?} says {said:?}");
        Ok(())
    };
    controller.wait_until(&format!("{named:?} to say {part:?}"), PATIENCE, said).await
}

#[tokio::test]
async fn data_planes_and_the_classes_that_name_them_say_how_things_stand() -> anyhow::Result<()> {
    let servers = Box::pin(shared()).await?;
    let kubernetes = &servers.kubernetes;
    let place = servers.place("planes").await?;
    let Place { namespace, gateway_class, controller_name, .. } = &place;
    let [elder, younger] = ["elder", "younger"].map(|name| format!("{namespace}-{name}"));
    let of_plane = |name| Named { api_version: API_VERSION, kind: "DataPlane", namespace: "", name };
    let class =
        Named { api_version: "gateway.networking.k8s.io/v1", kind: "GatewayClass", namespace: "", name: gateway_class };
    let parameters = json!({"group": "apisix-etcd.io", "kind": "DataPlane", "name": younger});
    let spec = json!({"controllerName": controller_name, "parametersRef": parameters});
    let object = json!({
        "apiVersion": class.api_version, "kind": class.kind, "metadata": {"name": gateway_class}, "spec": spec,
    });
    kubernetes.apply(&object.to_string()).await?;
    let controller = servers.controller(&place, &[])?;
    says(&controller, kubernetes, &class, &format!("False/InvalidParameters There is no DataPlane {younger}")).await?;

    // The API server keeps its times in whole seconds, so that the name decides; nothing else says which is older.
    let wide = format!("/wide-{namespace}");
    kubernetes.apply(&plane(&elder, &json!({"etcdPrefix": wide}))).await?;
    kubernetes.apply(&plane(&younger, &json!({"etcdPrefix": format!("{wide}/own")}))).await?;
    let overlaps = format!(
        "False/PrefixOverlaps The etcd prefix {wide}/own overlaps {wide}, the prefix of DataPlane {elder}, which comes first"
    );
    says(&controller, kubernetes, &of_plane(&younger), &overlaps).await?;
    says(&controller, kubernetes, &class, &format!("DataPlane {younger} cannot be used. The etcd prefix")).await?;

    kubernetes.patch(&of_plane(&younger), json!({"spec": {"addresses": ["192.0.2.1:80"]}})).await?;
    says(&controller, kubernetes, &of_plane(&younger), "False/Invalid addresses[0]: \"192.0.2.1:80\" is neither")
        .await?;
    kubernetes.patch(&of_plane(&younger), json!({"spec": {"addresses": ["192.0.2.1"]}})).await?;
    says(&controller, kubernetes, &of_plane(&younger), "False/PrefixOverlaps").await?;

    kubernetes.delete(&of_plane(&elder)).await?;
    says(&controller, kubernetes, &of_plane(&younger), "True/Accepted").await?;
    // What somebody else wrote there is put right.
    let spoilt = json!([{
        "type": "Accepted", "status": "False", "reason": "Spoilt", "message": "", "observedGeneration": 3,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]);
    kubernetes.patch(&of_plane(&younger), json!({"status": {"conditions": spoilt}})).await?;
    says(&controller, kubernetes, &of_plane(&younger), "True/Accepted").await?;
    Ok(())
}
