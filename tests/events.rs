//! Notices reach a real API server as Events, of every kind of object, and can be found from their objects.

mod support;

use anyhow::{Context as _, ensure};
use apisix_etcd_controller::{
    clock,
    model::{
        names::{Kind, ObjectName, ObjectRef},
        verdicts::{Served, Source},
    },
    status::events::{
        Notice, NoticeQueue, Severity,
        writer::{EventSettings, write_events},
    },
};
use serde_json::Value;
use support::{
    kubernetes::{Kubernetes, Named},
    servers::shared,
    wait::{PATIENCE, wait_until},
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

const GROUP_V1: &str = "gateway.networking.k8s.io/v1";

/// A writer at work against a real API server.
struct Writer {
    queue: NoticeQueue,
    stop: CancellationToken,
    task: JoinHandle<()>,
    // Held so that the writer keeps seeing what is served.
    _served: watch::Sender<Served>,
}

impl Writer {
    fn start(kubernetes: &Kubernetes, controller_name: &str, holder: &str) -> Self {
        let (sender, served) = watch::channel(Served {
            source: Source::Cluster,
            versions: [(Kind::TcpRoute, "v1".into()), (Kind::ReferenceGrant, "v1beta1".into())].into(),
            bundles: None,
        });
        let (queue, stop) = (NoticeQueue::default(), CancellationToken::new());
        let settings = EventSettings::new(controller_name.into(), holder.into());
        let task = tokio::spawn(write_events(queue.clone(), kubernetes.client(), served, settings, stop.clone()));
        Self { queue, stop, task, _served: sender }
    }

    fn push(&self, about: &ObjectRef, note: &str, severity: Severity) {
        let notice = Notice { about: about.clone(), reason: "MassHold", note: note.to_owned(), severity };
        self.queue.push(notice, clock::now());
    }

    async fn end(self) -> anyhow::Result<()> {
        self.stop.cancel();
        Ok(self.task.await?)
    }
}

/// The Event in `namespace` whose note begins so.
async fn event(kubernetes: &Kubernetes, namespace: &str, note: &str) -> anyhow::Result<Value> {
    wait_until(&format!("an Event in {namespace}: {note}"), PATIENCE, async || {
        let events = kubernetes.list("events.k8s.io/v1", "Event", namespace).await?;
        let noted = |event: &Value| event["note"].as_str().is_some_and(|text| text.starts_with(note));
        let mut found: Vec<Value> = events.into_iter().filter(noted).collect();
        ensure!(found.len() == 1, "{} are there", found.len());
        found.pop().context("one is there")
    })
    .await
}

#[tokio::test]
async fn an_event_of_every_kind_of_object_is_taken() -> anyhow::Result<()> {
    let servers = Box::pin(shared()).await?;
    let place = servers.place("kinds").await?;
    let writer = Writer::start(&servers.kubernetes, &place.controller_name, "pod-1");
    for kind in Kind::ALL {
        let namespaced = ObjectName::new(&place.namespace, "some");
        let name = if kind.namespaced() { namespaced } else { ObjectName::cluster("some") };
        writer.push(&ObjectRef::new(kind, name), &format!("{kind} of {}", place.namespace), Severity::Normal);
    }
    for kind in Kind::ALL {
        let namespace = if kind.namespaced() { place.namespace.as_str() } else { "default" };
        let event = event(&servers.kubernetes, namespace, &format!("{kind} of {}", place.namespace)).await?;
        ensure!(event["regarding"]["kind"] == kind.as_str() && event["type"] == "Normal", "{event:#}");
        ensure!(event["reason"] == "MassHold" && event["reportingInstance"] == "pod-1", "{event:#}");
        ensure!(event["reportingController"] == place.controller_name.as_str(), "{event:#}");
    }
    writer.end().await
}

#[tokio::test]
async fn an_event_is_found_where_kubectl_describe_looks() -> anyhow::Result<()> {
    let servers = Box::pin(shared()).await?;
    let (kubernetes, place) = (&servers.kubernetes, servers.place("describe").await?);
    let (namespace, class) = (place.namespace.as_str(), place.gateway_class.as_str());
    let controller_name = &place.controller_name;
    kubernetes
        .apply(&format!(
            "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: {class}}}
spec: {{controllerName: {controller_name}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge, namespace: {namespace}}}
spec:
  gatewayClassName: {class}
  listeners: [{{name: foo, port: 9100, protocol: TCP}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {{name: edge, namespace: {namespace}}}
spec:
  parentRefs: [{{name: edge}}]
  rules: [{{backendRefs: [{{name: service, port: 80}}]}}]
"
        ))
        .await?;
    let writer = Writer::start(kubernetes, controller_name, "pod-1");
    let objects = [
        (Kind::GatewayClass, ObjectName::cluster(class), "default"),
        (Kind::Gateway, ObjectName::new(namespace, "edge"), namespace),
        (Kind::TcpRoute, ObjectName::new(namespace, "edge"), namespace),
    ];
    for (kind, name, _) in &objects {
        let about = ObjectRef::new(*kind, name.clone());
        writer.push(&about, &format!("{kind} {class}"), Severity::Warning);
    }
    for (kind, name, home) in &objects {
        event(kubernetes, home, &format!("{kind} {class}")).await?;
        let named = Named { api_version: GROUP_V1, kind: kind.as_str(), namespace: &name.namespace, name: &name.name };
        let object = kubernetes.get(&named).await?.context("the object is there")?;
        // `kubectl describe` reads events of the core group, by these four fields.
        let events = kubernetes.list("v1", "Event", home).await?;
        let regards = |event: &&Value| {
            let involved = &event["involvedObject"];
            involved["uid"] == object["metadata"]["uid"]
                && involved["name"] == *name.name
                && involved["kind"] == kind.as_str()
                && involved["namespace"].as_str().unwrap_or("") == &*name.namespace
        };
        let found: Vec<&Value> = events.iter().filter(regards).collect();
        ensure!(found.len() == 1 && found.iter().all(|event| event["type"] == "Warning"), "{kind}: {found:#?}");
    }
    writer.end().await
}

#[tokio::test]
async fn what_is_too_long_or_oddly_named_is_taken_cut_to_fit() -> anyhow::Result<()> {
    let servers = Box::pin(shared()).await?;
    let (kubernetes, place) = (&servers.kubernetes, servers.place("long").await?);
    let domain = format!("{}.example.com", "a".repeat(80));
    let writer = Writer::start(kubernetes, &format!("{domain}/~odd/{}", "b".repeat(100)), &"pod".repeat(50));
    let about = ObjectRef::new(Kind::Gateway, ObjectName::new(&place.namespace, &"long-name.".repeat(30)[..253]));
    writer.push(&about, &"much to say. ".repeat(100), Severity::Warning);
    let event = event(kubernetes, &place.namespace, "much").await?;
    let length = |field: &str| event[field].as_str().map_or(0, str::len);
    ensure!((1_000..=1_024).contains(&length("note")), "{event:#}");
    ensure!((100..=128).contains(&length("reportingInstance")), "{event:#}");
    ensure!(event["reportingController"] == format!("{domain}/odd-{}", "b".repeat(59)), "{event:#}");
    writer.end().await
}

#[tokio::test]
async fn an_event_that_is_refused_does_not_hold_up_the_next() -> anyhow::Result<()> {
    let servers = Box::pin(shared()).await?;
    let place = servers.place("refused").await?;
    let writer = Writer::start(&servers.kubernetes, &place.controller_name, "pod-1");
    let nowhere = ObjectRef::new(Kind::Gateway, ObjectName::new("no-such-namespace", "edge"));
    writer.push(&nowhere, "nobody hears this", Severity::Normal);
    writer.push(&ObjectRef::new(Kind::Gateway, ObjectName::new(&place.namespace, "edge")), "heard", Severity::Normal);
    event(&servers.kubernetes, &place.namespace, "heard").await?;
    writer.end().await
}
