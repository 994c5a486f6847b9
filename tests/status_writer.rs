//! Statuses reach a real API server, pass its schemas, and leave what others wrote alone.

use apisix_etcd_controller::model::places::Plane;
mod support;

use anyhow::{Context as _, ensure};
use apisix_etcd_controller::{
    model::{
        addresses::Address,
        facts::{ParentRef, RouteKind},
        names::{GATEWAY_GROUP, Kind, ObjectName, ObjectRef, RouteRef},
        places::{Directory, WorkId},
        sockets::Footing,
        verdicts::{
            AddressProblem, AttachmentRefusal, BackendFault, BackendProblem, BackendsVerdict, ClaimOutcome,
            ClaimVerdict, ClassVerdict, DataPlaneVerdict, GatewayRefusal, GatewayVerdict, ListenerRefusal,
            ListenerVerdict, ParametersProblem, ParentVerdict, PlaneFault, RefusedShare, RouteVerdict, Served, Source,
            Standing, Verdict,
        },
    },
    status::{
        conditions::render,
        metrics::Metrics,
        print::StatusPrint,
        queue::{StatusQueue, StatusSink as _, StatusUpdate},
        writer::{WriterSettings, write_statuses},
    },
};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use support::{
    kubernetes::{Crds, Kubernetes, Named},
    servers::{Place, Servers, fresh, shared},
    wait::{PATIENCE, wait_until},
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

const GROUP_V1: &str = "gateway.networking.k8s.io/v1";

/// A writer at work against a real API server.
struct Writer {
    queue: StatusQueue,
    controller_name: String,
    stop: CancellationToken,
    task: JoinHandle<()>,
    registry: Registry,
    // Held so that the writer keeps seeing what is served.
    _served: watch::Sender<Served>,
}

impl Writer {
    fn start(kubernetes: &Kubernetes, place: &Place, tcp_route: &str) -> Self {
        let queue = StatusQueue::default();
        let (sender, served) = watch::channel(served(tcp_route));
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let settings = WriterSettings::new(place.controller_name.as_str().into());
        let stop = CancellationToken::new();
        let writing = write_statuses(queue.clone(), kubernetes.client(), served, settings, metrics, stop.clone());
        let task = tokio::spawn(writing);
        Self { queue, controller_name: place.controller_name.clone(), stop, task, registry, _served: sender }
    }

    /// What is wanted of the object, once published.
    fn publish(&self, object: &ObjectRef, verdict: &Verdict) -> Value {
        let status = render(object, verdict, &self.controller_name, &|_| Standing::Programmed);
        let update = StatusUpdate {
            object: object.clone(),
            status: status.clone(),
            frozen_parents: Vec::new(),
            finalizer: false,
        };
        self.queue.clone().publish(update);
        status
    }

    async fn drain(&self) -> anyhow::Result<()> {
        wait_until("every status to be written", PATIENCE, async || {
            ensure!(self.queue.depth() == 0, "{} are left", self.queue.depth());
            Ok(())
        })
        .await
    }

    /// Ends the writer; its metrics as text.
    async fn end(self) -> anyhow::Result<String> {
        self.stop.cancel();
        self.task.await?;
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    async fn ensure_says(&self, kubernetes: &Kubernetes, named: &Named<'_>, wanted: &Value) -> anyhow::Result<()> {
        let object = kubernetes.get(named).await?.context("the object is there")?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == named.kind).context("a kind of ours")?;
        let print = |status: &Value| StatusPrint::of(kind, status, &self.controller_name);
        let status = object.get("status").unwrap_or(&Value::Null);
        ensure!(print(status) == print(wanted), "{named:?} says {status:#}, not {wanted:#}");
        Ok(())
    }
}

fn served(tcp_route: &str) -> Served {
    Served {
        source: Source::Cluster,
        versions: [
            (Kind::DataPlane, "v1alpha1".into()),
            (Kind::GatewayClass, "v1".into()),
            (Kind::Gateway, "v1".into()),
            (Kind::TcpRoute, tcp_route.into()),
            (Kind::ReferenceGrant, "v1beta1".into()),
        ]
        .into(),
        bundles: Some(vec!["v1.6.1".into()]),
    }
}

fn parent(name: &str) -> ParentRef {
    ParentRef {
        group: GATEWAY_GROUP.into(),
        kind: "Gateway".into(),
        namespace: None,
        name: name.into(),
        section_name: None,
        port: None,
    }
}

fn route_verdict(parents: Vec<ParentVerdict>) -> RouteVerdict {
    let backends = BackendsVerdict::default();
    RouteVerdict { generation: 1, parents, frozen_parents: Vec::new(), backends, rules_not_served: 0 }
}

fn attached(name: &str) -> ParentVerdict {
    let outcome = ClaimOutcome::Holds {
        slot: WorkId::new(Plane::default(), Directory::StreamRoutes, "slot"),
        pool: WorkId::new(Plane::default(), Directory::Upstreams, "pool"),
        certificate: None,
    };
    let claim = ClaimVerdict { listener: "foo".into(), hostname: None, outcome };
    ParentVerdict { parent: parent(name), attachment: Ok(vec![claim]) }
}

fn listener(name: &str, refusal: Option<ListenerRefusal>) -> ListenerVerdict {
    let kind = |kind: &str| RouteKind { group: GATEWAY_GROUP.into(), kind: kind.into() };
    ListenerVerdict {
        name: name.into(),
        mapped: None,
        refusal,
        footing: Footing::Listening,
        supported_kinds: vec![kind("TCPRoute")],
        invalid_kinds: vec![kind("UDPRoute")],
        attached_routes: 1,
        certificates: None,
        overlap: None,
    }
}

async fn create_route(kubernetes: &Kubernetes, place: &Place, version: &str) -> anyhow::Result<ObjectRef> {
    let namespace = &place.namespace;
    let manifest = format!(
        "
apiVersion: gateway.networking.k8s.io/{version}
kind: TCPRoute
metadata: {{name: route, namespace: {namespace}}}
spec:
  parentRefs: [{{name: gateway}}]
  rules: [{{backendRefs: [{{name: service, port: 80}}]}}]
"
    );
    kubernetes.apply(&manifest).await?;
    Ok(ObjectRef::new(Kind::TcpRoute, ObjectName::new(namespace, "route")))
}

async fn stage(hint: &str) -> anyhow::Result<(Servers, Place)> {
    let servers = Box::pin(shared()).await?;
    let place = servers.place(hint).await?;
    Ok((servers, place))
}

#[tokio::test]
async fn every_kind_of_status_passes_the_schemas() -> anyhow::Result<()> {
    let (servers, place) = stage("schemas").await?;
    let kubernetes = &servers.kubernetes;
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
metadata: {{name: gateway, namespace: {namespace}}}
spec:
  gatewayClassName: {class}
  listeners: [{{name: foo, port: 9100, protocol: TCP}}]
---
apiVersion: apisix-etcd.io/v1alpha1
kind: DataPlane
metadata: {{name: {class}}}
spec: {{etcdPrefix: /{class}}}
"
        ))
        .await?;
    let route = create_route(kubernetes, &place, "v1").await?;
    let writer = Writer::start(kubernetes, &place, "v1");

    let class_object = ObjectRef::new(Kind::GatewayClass, ObjectName::cluster(class));
    let class_named = Named { api_version: GROUP_V1, kind: "GatewayClass", namespace: "", name: class };
    for parameters in [None, Some(ParametersProblem::Missing("edge".into()))] {
        for bundles in [None, Some(vec!["v1.6.1".into()]), Some(vec!["".into(), "v2.0.0".into()])] {
            let served = Served { bundles, ..served("v1") };
            let verdict = ClassVerdict {
                generation: 1,
                unusable_parameters: parameters.clone(),
                served,
                in_use: false,
                passes_tls_through: false,
            };
            let wanted = writer.publish(&class_object, &Verdict::GatewayClass(verdict));
            writer.drain().await?;
            writer.ensure_says(kubernetes, &class_named, &wanted).await?;
        }
    }

    // Ours, of another API group.
    let plane_object = ObjectRef::new(Kind::DataPlane, ObjectName::cluster(class));
    let plane_named = Named { api_version: "apisix-etcd.io/v1alpha1", kind: "DataPlane", namespace: "", name: class };
    for fault in [None, Some(PlaneFault::Invalid("etcdPrefix is none".into()))] {
        let verdict = DataPlaneVerdict { generation: 1, fault };
        let wanted = writer.publish(&plane_object, &Verdict::DataPlane(verdict));
        writer.drain().await?;
        writer.ensure_says(kubernetes, &plane_named, &wanted).await?;
    }

    let gateway_object = ObjectRef::new(Kind::Gateway, ObjectName::new(namespace, "gateway"));
    let gateway_named = Named { api_version: GROUP_V1, kind: "Gateway", namespace, name: "gateway" };
    for verdict in gateway_verdicts() {
        let wanted = writer.publish(&gateway_object, &Verdict::Gateway(verdict));
        writer.drain().await?;
        writer.ensure_says(kubernetes, &gateway_named, &wanted).await?;
    }

    let route_named = Named { api_version: GROUP_V1, kind: "TCPRoute", namespace, name: "route" };
    for verdict in route_verdicts() {
        let wanted = writer.publish(&route, &Verdict::Route(verdict));
        writer.drain().await?;
        writer.ensure_says(kubernetes, &route_named, &wanted).await?;
    }
    let metrics = writer.end().await?;
    ensure!(!metrics.contains("failed"), "{metrics}");
    Ok(())
}

fn gateway_verdicts() -> Vec<GatewayVerdict> {
    let refusals = [
        ListenerRefusal::UnsupportedProtocol("HTTP".into()),
        ListenerRefusal::PortOutOfRange(0),
        ListenerRefusal::ProtocolConflict,
        ListenerRefusal::HostnameConflict,
        ListenerRefusal::PortTaken(std::num::NonZeroU16::MIN),
    ];
    let mut listeners = vec![listener("good", None)];
    listeners.extend(refusals.into_iter().enumerate().map(|(n, refusal)| listener(&format!("bad{n}"), Some(refusal))));
    let gateway = |refusal, address| GatewayVerdict {
        generation: 1,
        refusal,
        addresses: Vec::new(),
        address,
        listeners: listeners.clone(),
        listener_sets: 0,
    };
    let address = |text: &str| Address::of(text).into_iter().collect::<Vec<_>>();
    let not_usable = AddressProblem::NotUsable { asked: "192.0.2.1".into(), instead: Vec::new(), why: None };
    let not_assigned = AddressProblem::NotAssigned { kind: "IPAddress".into(), why: None };
    let hostname = format!("a.{}", vec!["b".repeat(49); 5].join("."));
    vec![
        gateway(None, None),
        GatewayVerdict { listener_sets: 2, ..gateway(None, None) },
        gateway(Some(GatewayRefusal::Parameters("example.com/Tuning fast".into())), None),
        gateway(Some(GatewayRefusal::AddressType("test/fake".into())), None),
        gateway(None, Some(not_usable)),
        GatewayVerdict { listeners: listeners.clone().split_off(1), ..gateway(None, Some(not_assigned)) },
        GatewayVerdict { addresses: [address("2001:db8::1"), address(&hostname)].concat(), ..gateway(None, None) },
        GatewayVerdict {
            addresses: (1..=16).flat_map(|last| address(&format!("192.0.2.{last}"))).collect(),
            ..gateway(None, None)
        },
        gateway(None, None),
    ]
}

fn route_verdicts() -> Vec<RouteVerdict> {
    let claim = |outcome| vec![ClaimVerdict { listener: "foo".into(), hostname: None, outcome }];
    let winner = RouteRef::new(Kind::TcpRoute, ObjectName::new("other", "elder"));
    let parents = [
        Err(AttachmentRefusal::NoMatchingParent),
        Err(AttachmentRefusal::NotAllowedByListeners),
        Ok(claim(ClaimOutcome::Superseded { winner })),
        Ok(claim(ClaimOutcome::ListenerNotAccepted)),
    ];
    let mut parents: Vec<ParentVerdict> = parents
        .into_iter()
        .enumerate()
        .map(|(n, attachment)| ParentVerdict { parent: parent(&format!("gateway{n}")), attachment })
        .collect();
    parents.push(attached("gateway"));
    if let Some(first) = parents.first_mut() {
        first.parent.namespace = Some("infra".into());
        first.parent.section_name = Some("foo".into());
        first.parent.port = Some(9100);
    }
    let mut faulty = route_verdict(parents);
    let not_found = |index| BackendProblem {
        index,
        fault: BackendFault::NotFound(ObjectName::new(&"n".repeat(63), &"s".repeat(63))),
    };
    faulty.backends.problems = (0..16).map(not_found).collect();
    faulty.backends.refused = Some(RefusedShare::Part { refused: 30, total: 100 });
    faulty.backends.rounded = true;
    faulty.rules_not_served = 15;
    let many = (0..32).map(|n| attached(&format!("gateway{n}"))).collect();
    vec![route_verdict(vec![attached("gateway")]), faulty, route_verdict(many), route_verdict(Vec::new())]
}

#[tokio::test]
async fn an_equal_status_sends_no_patch() -> anyhow::Result<()> {
    let (servers, place) = stage("equal").await?;
    let kubernetes = &servers.kubernetes;
    let route = create_route(kubernetes, &place, "v1").await?;
    let named = Named { api_version: GROUP_V1, kind: "TCPRoute", namespace: &place.namespace, name: "route" };
    let writer = Writer::start(kubernetes, &place, "v1");
    let verdict = Verdict::Route(route_verdict(vec![attached("gateway")]));
    writer.publish(&route, &verdict);
    writer.drain().await?;
    let before = kubernetes.get(&named).await?;
    writer.publish(&route, &verdict);
    writer.drain().await?;
    ensure!(kubernetes.get(&named).await? == before, "the object was written");
    let metrics = writer.end().await?;
    for outcome in ["written", "unchanged"] {
        let line = format!("status_writes_total{{kind=\"TCPRoute\",outcome=\"{outcome}\"}} 1\n");
        ensure!(metrics.contains(&line), "{metrics}");
    }
    Ok(())
}

#[tokio::test]
async fn a_controller_writing_at_the_same_time_loses_nothing_to_us() -> anyhow::Result<()> {
    let (servers, place) = stage("rivals").await?;
    let kubernetes = &servers.kubernetes;
    let route = create_route(kubernetes, &place, "v1").await?;
    let named = Named { api_version: GROUP_V1, kind: "TCPRoute", namespace: &place.namespace, name: "route" };
    let writer = Writer::start(kubernetes, &place, "v1");

    let theirs: Vec<Value> = (0..20).map(their_entry).collect();
    let mut wanted = Value::Null;
    for (n, entry) in theirs.iter().enumerate() {
        let mut verdict = route_verdict(vec![attached("gateway")]);
        verdict.rules_not_served = n;
        wanted = writer.publish(&route, &Verdict::Route(verdict));
        append(kubernetes, &named, entry).await?;
    }
    writer.drain().await?;
    writer.ensure_says(kubernetes, &named, &wanted).await?;
    let object = kubernetes.get(&named).await?.context("the route is there")?;
    let parents = object["status"]["parents"].as_array().context("it has parents")?;
    let kept: Vec<&Value> = parents.iter().filter(|entry| entry["controllerName"] == "example.com/rival").collect();
    ensure!(kept == theirs.iter().collect::<Vec<_>>(), "{parents:#?}");
    ensure!(parents.len() == theirs.len() + 1, "{parents:#?}");
    writer.end().await?;
    Ok(())
}

fn their_entry(n: usize) -> Value {
    json!({
        "parentRef": {"group": GATEWAY_GROUP, "kind": "Gateway", "name": format!("rival{n}")},
        "controllerName": "example.com/rival",
        "conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    })
}

/// Adds an entry as a careful rival does: to what is there, and again if that moved on.
async fn append(kubernetes: &Kubernetes, named: &Named<'_>, entry: &Value) -> anyhow::Result<()> {
    wait_until("the rival to write", PATIENCE, async || {
        let object = kubernetes.get(named).await?.context("the route is there")?;
        let mut parents = object.pointer("/status/parents").and_then(Value::as_array).cloned().unwrap_or_default();
        parents.push(entry.clone());
        let version = object.pointer("/metadata/resourceVersion");
        kubernetes.patch(named, json!({"metadata": {"resourceVersion": version}, "status": {"parents": parents}})).await
    })
    .await
}

#[tokio::test]
async fn a_route_served_at_v1alpha2_only_is_written_there() -> anyhow::Result<()> {
    let servers = Box::pin(fresh(Crds::Experimental141)).await?;
    let place = servers.place("alpha").await?;
    let kubernetes = &servers.kubernetes;
    let route = create_route(kubernetes, &place, "v1alpha2").await?;
    let api_version = "gateway.networking.k8s.io/v1alpha2";
    let named = Named { api_version, kind: "TCPRoute", namespace: &place.namespace, name: "route" };
    let writer = Writer::start(kubernetes, &place, "v1alpha2");
    let wanted = writer.publish(&route, &Verdict::Route(route_verdict(vec![attached("gateway")])));
    writer.drain().await?;
    writer.ensure_says(kubernetes, &named, &wanted).await?;
    writer.end().await?;
    Ok(())
}
