//! `make run-kubernetes`: the whole road on this machine, from a real kube-apiserver to a real etcd and back as status.
//!
//! In: the manifests of `deploy/quickstart`. Out: a kubeconfig to use kubectl with, what to try, and every status as it
//! changes. Ends with Ctrl-C or SIGTERM, and all it started ends with it.

#[path = "../support.rs"]
mod support;

use anyhow::Context as _;
use serde_json::Value;
use std::{collections::BTreeMap, fmt::Write as _, path::Path, sync::Arc, time::Duration};
use support::{
    apiserver::ApiServer,
    binaries::Binary,
    controller::Controller,
    etcd::Etcd,
    kubernetes::{Crds, Kubernetes},
    wait::PATIENCE,
};
use tokio::signal::unix::{SignalKind, signal};

const MANIFESTS: &str = "deploy/quickstart";
const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut interrupted = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
    let mut terminated = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    tokio::select! {
        // Dropping it half-way drops every server it holds, and each ends when dropped.
        done = Box::pin(run()) => done,
        _ = interrupted.recv() => Ok(()),
        _ = terminated.recv() => Ok(()),
    }
}

async fn run() -> anyhow::Result<()> {
    eprintln!("starting kube-apiserver and etcd");
    let (server, etcd) = tokio::try_join!(Box::pin(ApiServer::start()), Box::pin(Etcd::start(Binary::Etcd)))?;
    let kubernetes = Kubernetes::of(Arc::new(server)).await?;
    eprintln!("installing the CRDs of Gateway API 1.6.1 and {MANIFESTS}");
    Box::pin(kubernetes.install(Crds::Standard161)).await?;
    kubernetes.apply_path(&Path::new(env!("CARGO_MANIFEST_DIR")).join(MANIFESTS)).await?;
    let kubeconfig = kubernetes.kubeconfig().to_str().context("the kubeconfig's path is text")?;
    eprintln!("starting the controller");
    let arguments = ["run", "--kubeconfig", kubeconfig, "--etcd-endpoints", etcd.endpoint(), "--log-format", "text"];
    let controller = Controller::start(&arguments)?;
    let pool = controller.wait_until("an upstream in etcd", PATIENCE, async || first_pool(&etcd).await).await?;
    println!("{}", what_to_try(kubeconfig, &etcd, &controller, &pool));
    tokio::select! {
        followed = follow(&kubernetes) => followed,
        // Nobody asked it to end.
        status = controller.process().ended(Duration::MAX) => {
            anyhow::bail!("the controller ended with status {}; its log:\n{}", status?, controller.log())
        }
    }
}

async fn first_pool(etcd: &Etcd) -> anyhow::Result<String> {
    let pools = etcd.under("/apisix/upstreams/gateway-api.").await?;
    pools.into_keys().next().context("there is none under /apisix/upstreams/gateway-api.")
}

fn what_to_try(kubeconfig: &str, etcd: &Etcd, controller: &Controller, pool: &str) -> String {
    let (endpoint, log) = (etcd.endpoint(), controller.process().folder().join("log"));
    format!(
        r#"
A kube-apiserver with Gateway API 1.6.1, an etcd and the controller run on this machine. In another terminal:

  export KUBECONFIG={kubeconfig}

  # what the controller says of the objects
  kubectl get gatewayclass,gateway,tcproute -o yaml

  # what APISIX would read
  etcdctl --endpoints={endpoint} get --prefix /apisix/

  # a weight changes: with weight 0 nothing is left to send connections to, and they are refused
  kubectl patch tcproute tcp-app --type=json -p '[{{"op":"replace","path":"/spec/rules/0/backendRefs/0/weight","value":0}}]'

  # somebody edits a document behind the controller's back: it heals
  etcdctl --endpoints={endpoint} put {pool} '{{"nodes":{{"203.0.113.1:1":1}}}}'
  etcdctl --endpoints={endpoint} get --print-value-only {pool}

  # the route goes, and its documents with it; then all comes back as it was
  kubectl delete tcproute tcp-app
  kubectl apply --server-side --force-conflicts -f {MANIFESTS}/

  # the controller's log
  tail -f {log}

Ctrl-C ends all of them and removes their folders. Statuses follow here as they change.
"#,
        log = log.display()
    )
}

/// Prints the conditions of every object of the quickstart's kinds as they change. Ends with an error only.
async fn follow(kubernetes: &Kubernetes) -> anyhow::Result<()> {
    let mut shown: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let mut now = BTreeMap::new();
        for kind in ["GatewayClass", "Gateway", "TCPRoute"] {
            for object in kubernetes.list(GATEWAY_API, kind, "").await? {
                now.insert(name(kind, &object), summary(&object));
            }
        }
        for (name, summary) in &now {
            if shown.get(name) != Some(summary) {
                println!("{name}{summary}");
            }
        }
        for gone in shown.keys().filter(|name| !now.contains_key(*name)) {
            println!("{gone}\n    is gone");
        }
        shown = now;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn name(kind: &str, object: &Value) -> String {
    let (namespace, name) = (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
    if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") }
}

/// One line per condition, wherever in the status it stands.
fn summary(object: &Value) -> String {
    let mut lines = String::new();
    if let Some(status) = object.get("status") {
        conditions(status, "", &mut lines);
    }
    if lines.is_empty() { "\n    no conditions yet".to_owned() } else { lines }
}

fn conditions(value: &Value, place: &str, lines: &mut String) {
    let members: Vec<(&str, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(name, member)| (name.as_str(), member)).collect(),
        Value::Array(items) => items.iter().map(|item| (place, item)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return,
    };
    for (member, inner) in members {
        if member != "conditions" {
            let name = text(inner, "/name");
            let inside = if name.is_empty() { member.to_owned() } else { format!("{member} {name}") };
            conditions(inner, &inside, lines);
            continue;
        }
        for condition in inner.as_array().into_iter().flatten() {
            let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
            let [kind, status, reason, message] =
                ["type", "status", "reason", "message"].map(|key| text(condition, &format!("/{key}")));
            // Writing to a string cannot fail.
            let _ = write!(lines, "\n    {place}{kind} {status} {reason}: {message}");
        }
    }
}
