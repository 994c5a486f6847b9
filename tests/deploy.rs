//! `deploy/kubernetes` on a real kube-apiserver: it is taken as it is, its pod is as confined as the strictest standard asks,
//! its settings are the binary's, and its rights are exactly those that are used.
//!
//! The controller runs with a token of the ServiceAccount. Rights are taken away one at a time, and each time something
//! says which one is missing.

#![allow(clippy::indexing_slicing, reason = "what a JSON value does not have is null")]

mod support;

use anyhow::{Context as _, ensure};
use apisix_etcd_controller::model::names::Kind;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};
use serde_json::Value;
use std::{collections::BTreeSet, path::Path, process::Command};
use support::{
    binaries,
    controller::{Controller, run_arguments},
    deployment::{Account, Deployment, Right},
    kubernetes::{Kubernetes, Named},
    pages_only::PagesOnly,
    servers::{Place, Servers, shared},
    wait::PATIENCE,
};
use tokio::sync::OnceCell;

const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";

/// Controllers that run at once while rights are taken away.
const AT_ONCE: usize = 6;

/// What a place needs for a DataPlane, a ListenerSet and a route of each kind that is served, beside its class, and for a TLSRoute
/// whose listener has no certificate and whose backend has a policy: both are told.
/// `$NS` and `$CLASS` stand for its names.
const OBJECTS: &str = "
---
apiVersion: apisix-etcd.io/v1alpha1
kind: DataPlane
metadata: {name: $NS}
spec: {etcdPrefix: /$NS-plane}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: $NS-plane}
spec:
  controllerName: $CONTROLLER
  parametersRef: {group: apisix-etcd.io, kind: DataPlane, name: $NS}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gateway, namespace: $NS}
spec:
  gatewayClassName: $CLASS
  listeners: [{name: one, protocol: TCP, port: 9100}, {name: two, protocol: UDP, port: 9200}, {name: three, protocol: TLS, port: 9400, tls: {mode: Terminate, certificateRefs: [{name: none}]}}]
  allowedListeners: {namespaces: {from: Same}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: set, namespace: $NS}
spec:
  parentRef: {name: gateway}
  listeners: [{name: one, protocol: TCP, port: 9300}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: route, namespace: $NS}
spec:
  parentRefs: [{name: gateway, sectionName: one}]
  rules: [{backendRefs: [{name: service, port: 8080}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: route, namespace: $NS}
spec:
  parentRefs: [{name: gateway, sectionName: three}]
  hostnames: [a.example.com]
  rules: [{backendRefs: [{name: service, port: 8080}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: UDPRoute
metadata: {name: route, namespace: $NS}
spec:
  parentRefs: [{name: gateway, sectionName: two}]
  rules: [{backendRefs: [{name: service, port: 8080}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: policy, namespace: $NS}
spec:
  targetRefs: [{group: '', kind: Service, name: service}]
  validation: {hostname: service.internal, wellKnownCACertificates: System}
---
apiVersion: v1
kind: Service
metadata: {name: service, namespace: $NS}
spec: {ports: [{name: tcp, port: 8080}, {name: udp, port: 8080, protocol: UDP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: service-1, namespace: $NS, labels: {kubernetes.io/service-name: service}}
addressType: IPv4
ports: [{name: tcp, port: 8080}, {name: udp, port: 8080, protocol: UDP}]
endpoints: [{addresses: [192.0.2.11], conditions: {ready: true}}]
";

/// Listeners of one Gateway, as many as it may have.
const LISTENERS: u16 = 64;

const CLASS: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: $CLASS}
spec: {controllerName: $CONTROLLER}
";

/// One route on 128 ports: more than may stop at once without a question.
fn wide() -> String {
    let gateway = |name: &str, first: u16| {
        let ports = first..first + LISTENERS;
        let listeners: Vec<String> =
            ports.map(|port| format!("{{name: l{port}, protocol: TCP, port: {port}}}")).collect();
        format!(
            "
---
apiVersion: {GATEWAY_API}
kind: Gateway
metadata: {{name: {name}, namespace: $NS}}
spec: {{gatewayClassName: $CLASS, listeners: [{}]}}
",
            listeners.join(", ")
        )
    };
    let route = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: wide, namespace: $NS}
spec:
  parentRefs: [{name: wide-1}, {name: wide-2}]
  rules: [{backendRefs: [{name: service, port: 8080}]}]
";
    gateway("wide-1", 10_000) + &gateway("wide-2", 20_000) + route
}

/// Manifests with the names of a place.
fn named(manifests: &str, place: &Place) -> String {
    let Place { namespace, gateway_class, controller_name, .. } = place;
    manifests.replace("$NS", namespace).replace("$CLASS", gateway_class).replace("$CONTROLLER", controller_name)
}

/// Has a controller serve one route on 128 ports of a place, and deletes the route.
async fn stop_many(servers: &Servers, place: &Place, controller: &Controller) -> anyhow::Result<()> {
    let slots = format!("{}/stream_routes/gateway-api.", place.etcd_prefix);
    servers.kubernetes.apply(&named(&wide(), place)).await?;
    let served = async || {
        let served = servers.etcd.under(&slots).await?.len();
        // And the two of the place.
        ensure!(served >= usize::from(2 * LISTENERS + 2), "{served} ports");
        Ok(())
    };
    controller.wait_until("the wide route to be served", PATIENCE, served).await?;
    let wide = Named { api_version: GATEWAY_API, kind: "TCPRoute", namespace: &place.namespace, name: "wide" };
    servers.kubernetes.delete(&wide).await
}

/// The servers that all tests of this binary share, with `deploy/kubernetes` applied.
async fn deployed() -> anyhow::Result<(Servers, Deployment)> {
    static APPLIED: OnceCell<()> = OnceCell::const_new();
    let servers = Box::pin(shared()).await?;
    APPLIED.get_or_try_init(async || Deployment::apply(&servers.kubernetes)).await?;
    Ok((servers, Deployment::render()?))
}

/// What shows that a right is missing.
#[derive(Clone, Copy, Debug)]
enum Sign {
    /// `/readyz` waits for the list of the kind.
    NotListed(Kind),
    /// Failed reads of the kind are counted.
    NotWatched(Kind),
    /// Failed reads of the kind are counted, and everything else is served.
    LeftOut(Kind),
    /// Statuses of the kind that could not be written are counted.
    NotWritten(Kind),
    /// The class says that nobody can tell which release of Gateway API is installed.
    ReleaseUnknown,
    /// `/readyz` waits for the cluster to say which one it is.
    NotIdentified,
    /// A change is held back, and nobody can be told.
    NotTold,
}

impl Sign {
    /// Of a right; every right of the ClusterRole has one here, or it is not known to be needed.
    fn of(right: &Right) -> anyhow::Result<Self> {
        let Right { verb, group, resource, name: _ } = right;
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let kind = Kind::ALL.into_iter().find(|kind| kind.group() == group && kind.plural() == resource);
        let sign = match (kind, verb.as_str(), subresource) {
            (Some(Kind::Secret), "list" | "watch", "") => Some(Self::LeftOut(Kind::Secret)),
            (Some(kind), "list", "") => Some(Self::NotListed(kind)),
            (Some(kind), "watch", "") => Some(Self::NotWatched(kind)),
            (Some(Kind::Namespace), "get", "") => Some(Self::NotIdentified),
            (Some(kind), "get", "") | (Some(kind), "patch", "status") => Some(Self::NotWritten(kind)),
            // Of the finalizer, which is written with the status.
            (Some(Kind::GatewayClass), "patch", "") => Some(Self::NotWritten(Kind::GatewayClass)),
            (None, "get", "") if resource == "customresourcedefinitions" => Some(Self::ReleaseUnknown),
            (None, "create", "") if resource == "events" => Some(Self::NotTold),
            _ => None,
        };
        sign.with_context(|| format!("nothing here shows what {right} is for"))
    }

    /// Does what the right is for, where that is more than to run.
    async fn provoke(self, less: &Less<'_>) -> anyhow::Result<()> {
        match self {
            Self::NotListed(_)
            | Self::NotWatched(_)
            | Self::LeftOut(_)
            | Self::NotWritten(_)
            | Self::ReleaseUnknown
            | Self::NotIdentified => Ok(()),
            Self::NotTold => stop_many(less.servers, &less.place, &less.controller).await,
        }
    }

    /// Whether it is there.
    async fn shows(self, less: &Less<'_>) -> anyhow::Result<()> {
        match self {
            Self::NotListed(kind) => {
                let answer = less.controller.ask("/readyz").await?;
                let line = format!("waiting for the list of every {kind}");
                // Perhaps with a reason.
                let named = |found: &str| found.split(':').next() == Some(&*line);
                ensure!(answer.status == 503 && answer.body.lines().any(named), "{answer:?}");
            }
            Self::NotWatched(kind) => {
                less.counted(&format!("read_failures_total{{kind=\"{kind}\"}}")).await?;
            }
            Self::LeftOut(kind) => {
                less.counted(&format!("read_failures_total{{kind=\"{kind}\"}}")).await?;
                less.controller.ready().await?;
                let namespace = &less.place.namespace;
                let route = Named { api_version: GATEWAY_API, kind: "TCPRoute", namespace, name: "route" };
                let conditions = "/status/parents/0/conditions";
                says(&less.servers.kubernetes, &route, conditions, "apisix-etcd.io/Programmed", "True").await?;
            }
            Self::NotWritten(kind) => {
                less.counted(&format!("status_writes_total{{kind=\"{kind}\",outcome=\"failed\"}}")).await?;
            }
            Self::ReleaseUnknown => {
                let class = Named {
                    api_version: GATEWAY_API,
                    kind: "GatewayClass",
                    namespace: "",
                    name: &less.place.gateway_class,
                };
                says(&less.servers.kubernetes, &class, "/status/conditions", "SupportedVersion", "Unknown").await?;
            }
            Self::NotIdentified => {
                let answer = less.controller.ask("/readyz").await?;
                ensure!(answer.status == 503 && answer.body.contains("waiting for the cluster"), "{answer:?}");
            }
            // Only the log says so.
            Self::NotTold => {}
        }
        Ok(())
    }

    /// The refusals that the log tells of then.
    fn refusals(self, right: &Right) -> BTreeSet<String> {
        match self {
            Self::NotListed(_)
            | Self::NotWatched(_)
            | Self::LeftOut(_)
            | Self::NotWritten(_)
            | Self::NotIdentified
            | Self::NotTold => BTreeSet::from([format!("{} {}", right.verb, right.resource)]),
            Self::ReleaseUnknown => BTreeSet::new(),
        }
    }
}

/// A controller that may do one thing less.
struct Less<'a> {
    servers: &'a Servers,
    place: Place,
    controller: Controller,
}

impl<'a> Less<'a> {
    async fn start(
        servers: &'a Servers,
        rights: &BTreeSet<Right>,
        right: &Right,
        pages: &PagesOnly,
    ) -> anyhow::Result<(Self, Account)> {
        let place = servers.place("less").await?;
        let url = pages.url();
        // Only servers without streaming lists need the right to list.
        let server = (right.verb == "list").then_some(url.as_str());
        let Place { namespace, gateway_class: _, controller_name, etcd_prefix, control_prefix } = &place;
        let account = Account::without(right, rights, &servers.kubernetes, namespace, server).await?;
        servers.kubernetes.apply(&named(&format!("{CLASS}{OBJECTS}"), &place)).await?;
        let mut arguments =
            run_arguments(account.kubeconfig(), servers.etcd.endpoint(), etcd_prefix, control_prefix, controller_name)?;
        arguments.extend(["--instance", namespace]);
        let controller = Controller::start(&arguments)?;
        Ok((Self { servers, place, controller }, account))
    }

    async fn counted(&self, sample: &str) -> anyhow::Result<()> {
        let answer = self.controller.ask("/metrics").await?;
        let sample = format!("apisix_etcd_controller_{sample} ");
        let line =
            answer.body.lines().find(|line| line.starts_with(&sample)).with_context(|| format!("no {sample}"))?;
        ensure!(!line.ends_with(" 0"), "{line}");
        Ok(())
    }
}

/// What an API server refused, as the log tells it: `patch gateways/status`.
fn refusals(log: &str) -> BTreeSet<String> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|line| refusal(line["error"].as_str()?, line["object"].as_str())).collect()
}

/// What was refused: in the API server's words, else in the controller's own.
fn refusal(error: &str, object: Option<&str>) -> Option<String> {
    if let Some((_, said)) = error.split_once("cannot ") {
        let (verb, said) = said.split_once(" resource \"")?;
        let (resource, _) = said.split_once('"')?;
        return Some(format!("{verb} {resource}"));
    }
    if error == "creating an Event" {
        return Some("create events".to_owned());
    }
    let (kind, _) = object?.split_once(' ')?;
    let plural = Kind::ALL.into_iter().find(|known| known.as_str() == kind)?.plural();
    match error {
        "reading an object to write its status" => Some(format!("get {plural}")),
        "patching a status" => Some(format!("patch {plural}/status")),
        _ => None,
    }
}

async fn says(
    kubernetes: &Kubernetes,
    named: &Named<'_>,
    conditions: &str,
    kind: &str,
    status: &str,
) -> anyhow::Result<()> {
    let object = kubernetes.get(named).await?.with_context(|| format!("{named:?} is not there"))?;
    let conditions = object.pointer(conditions).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let said = conditions.iter().any(|condition| condition["type"] == kind && condition["status"] == status);
    ensure!(said, "{} of {named:?} is not {status}: {}", kind, object["status"]);
    Ok(())
}

/// Waits until class, Gateway and routes say that the routes are served. The first thing that the API server refuses ends it.
async fn programmed(controller: &Controller, kubernetes: &Kubernetes, place: &Place) -> anyhow::Result<()> {
    let Place { namespace, gateway_class, .. } = place;
    let class = Named { api_version: GATEWAY_API, kind: "GatewayClass", namespace: "", name: gateway_class };
    let plane = Named { api_version: "apisix-etcd.io/v1alpha1", kind: "DataPlane", namespace: "", name: namespace };
    let gateway = Named { api_version: GATEWAY_API, kind: "Gateway", namespace, name: "gateway" };
    let set = Named { api_version: GATEWAY_API, kind: "ListenerSet", namespace, name: "set" };
    let policy = Named { api_version: GATEWAY_API, kind: "BackendTLSPolicy", namespace, name: "policy" };
    let routes =
        ["TCPRoute", "UDPRoute"].map(|kind| Named { api_version: GATEWAY_API, kind, namespace, name: "route" });
    let refused = controller
        .wait_until("every status to be written", PATIENCE, async || {
            let refused = refusals(&controller.log());
            if !refused.is_empty() {
                return Ok(refused);
            }
            says(kubernetes, &class, "/status/conditions", "Accepted", "True").await?;
            says(kubernetes, &class, "/status/conditions", "SupportedVersion", "True").await?;
            says(kubernetes, &plane, "/status/conditions", "Accepted", "True").await?;
            says(kubernetes, &gateway, "/status/conditions", "Programmed", "True").await?;
            says(kubernetes, &set, "/status/conditions", "Programmed", "True").await?;
            says(kubernetes, &policy, "/status/ancestors/0/conditions", "Accepted", "False").await?;
            for route in &routes {
                says(kubernetes, route, "/status/parents/0/conditions", "apisix-etcd.io/Programmed", "True").await?;
            }
            Ok(refused)
        })
        .await?;
    ensure!(refused.is_empty(), "it has no right to {refused:?}");
    Ok(())
}

#[tokio::test]
async fn with_its_rights_the_controller_does_its_whole_work() -> anyhow::Result<()> {
    let (servers, deployment) = Box::pin(deployed()).await?;
    let kubernetes = &servers.kubernetes;
    // As deploy/kubernetes has them, all but the namespace.
    let place = Place {
        namespace: kubernetes.namespace("whole").await?,
        gateway_class: "apisix".to_owned(),
        controller_name: "apisix-etcd.io/gateway-controller".to_owned(),
        etcd_prefix: "/apisix".to_owned(),
        control_prefix: "/gateway-api-etcd".to_owned(),
    };
    kubernetes.apply_path(Path::new("deploy/kubernetes/examples/gateway-class.yaml")).await?;
    kubernetes.apply(&named(OBJECTS, &place)).await?;
    let pages = PagesOnly::before(kubernetes.kubeconfig()).await?;
    for server in [None, Some(pages.url())] {
        let account = Account::deployed(&deployment, kubernetes, server.as_deref()).await?;
        let mut arguments = deployment.arguments()?;
        // Its own port, and the etcd of tests, which has neither TLS nor users.
        arguments.retain(|argument| !argument.starts_with("--admin-address=") && !argument.starts_with("--etcd-"));
        arguments.push(format!("--etcd-endpoints={}", servers.etcd.endpoint()));
        arguments.push(format!("--kubeconfig={}", account.kubeconfig().display()));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let controller = Controller::start(&arguments)?;
        programmed(&controller, kubernetes, &place).await?;
        controller.ready().await?;
        for probe in deployment.probes()? {
            let answer = controller.ask(&probe).await?;
            ensure!(answer.status == 200, "{probe} says {answer:?}");
        }
        if server.is_some() {
            tells_what_it_holds(&controller, &servers, &place, &deployment.rights()?).await?;
        }
        let (status, log) = controller.stop().await?;
        ensure!(status == 0 && refusals(&log).is_empty(), "it ended with status {status}; its log:\n{log}");
    }
    Ok(())
}

/// Where there is a right to it, an Event says that a change is held.
async fn tells_what_it_holds(
    controller: &Controller,
    servers: &Servers,
    place: &Place,
    rights: &BTreeSet<Right>,
) -> anyhow::Result<()> {
    if !rights.iter().any(|right| right.resource == "events") {
        return Ok(());
    }
    stop_many(servers, place, controller).await?;
    let told = async || {
        let events = servers.kubernetes.list("events.k8s.io/v1", "Event", &place.namespace).await?;
        ensure!(!events.is_empty(), "there are no Events; refused: {:?}", refusals(&controller.log()));
        Ok(())
    };
    controller.wait_until("an Event", PATIENCE, told).await
}

#[tokio::test]
async fn with_one_right_less_something_says_which() -> anyhow::Result<()> {
    let (servers, deployment) = Box::pin(deployed()).await?;
    let rights = deployment.rights()?;
    let pages = PagesOnly::before(servers.kubernetes.kubeconfig()).await?;
    let one_less = async |right: &Right| {
        let sign = Sign::of(right)?;
        let (less, _account) = Less::start(&servers, &rights, right, &pages).await?;
        sign.provoke(&less).await?;
        let what = format!("{sign:?} without {right}");
        less.controller
            .wait_until(&what, PATIENCE, async || {
                sign.shows(&less).await?;
                let refusals = refusals(&less.controller.log());
                ensure!(refusals == sign.refusals(right), "refused: {refusals:?}");
                Ok(())
            })
            .await?;
        less.controller.stop().await.map(drop)
    };
    stream::iter(&rights).map(one_less).buffer_unordered(AT_ONCE).try_collect::<()>().await
}

#[tokio::test]
async fn the_pod_is_as_confined_as_the_strictest_standard_asks() -> anyhow::Result<()> {
    let (servers, deployment) = Box::pin(deployed()).await?;
    let pods: Api<Pod> = Api::namespaced(servers.kubernetes.client(), deployment.namespace()?);
    let only_asking = PostParams { dry_run: true, field_manager: None };
    let pod = deployment.pod("one")?;
    let container = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.containers.first()).cloned();
    let confined = container(&pod).and_then(|found| found.security_context).context("the container is confined")?;
    assert_eq!(confined.read_only_root_filesystem, Some(true));
    pods.create(&only_asking, &pod).await.context("creating the pod of the template")?;

    // The standard is in force: a pod that is less confined is refused.
    let mut loose = pod.clone();
    loose.spec.iter_mut().flat_map(|spec| &mut spec.containers).for_each(|found| found.security_context = None);
    let refusal = pods.create(&only_asking, &loose).await.map(drop).unwrap_err().to_string();
    assert!(refusal.contains("violates PodSecurity \"restricted:latest\""), "{refusal}");
    Ok(())
}

#[test]
fn every_setting_of_the_pod_is_one_that_the_binary_takes() -> anyhow::Result<()> {
    let deployment = Deployment::render()?;
    // What settings.env suggests, too, all of it together.
    let mut arguments = deployment.arguments()?;
    arguments.extend(Deployment::suggestions()?);
    let version = arguments.iter_mut().find(|argument| argument.starts_with("--apisix-version="));
    // One wrong setting: it is the only one complained about, and nothing is started.
    *version.context("the pod names a version of APISIX")? = "--apisix-version=1.0".to_owned();
    let ended = Command::new(binaries::controller()?).args(&arguments).env_clear().output()?;
    let said = String::from_utf8(ended.stderr)?;
    assert_eq!(ended.status.code(), Some(2), "{arguments:?}: {said}");
    let complaints: Vec<&str> = said.lines().filter(|line| line.contains("--") && !line.contains("--help")).collect();
    let expected = |line: &str| line.starts_with("error: --apisix-version");
    assert!(matches!(&*complaints, [only] if expected(only)), "{arguments:?}: {said}");
    Ok(())
}

#[test]
fn every_example_is_accepted_as_it_stands() -> anyhow::Result<()> {
    let ended = Command::new(binaries::controller()?)
        .args(["translate", "--output=json", "--manifests=deploy/kubernetes/examples"])
        .env_clear()
        .output()?;
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    let said: Value = serde_json::from_slice(&ended.stdout)?;
    let statuses = said["statuses"].as_array().context("statuses are a list")?;
    let kinds: BTreeSet<&str> = statuses.iter().filter_map(|status| status["kind"].as_str()).collect();
    assert_eq!(kinds, BTreeSet::from(["GatewayClass", "Gateway", "UDPRoute"]));
    assert!(said["documents"]["/apisix/stream_routes/gateway-api.9200"].is_object(), "{}", said["documents"]);
    Ok(())
}

#[test]
fn the_image_is_of_this_version() -> anyhow::Result<()> {
    let pod = Deployment::render()?.pod("one")?;
    let images = pod.spec.into_iter().flat_map(|spec| spec.containers).filter_map(|container| container.image);
    let images: Vec<String> = images.collect();
    assert!(matches!(&*images, [image] if image.ends_with(concat!(":", env!("CARGO_PKG_VERSION")))), "{images:?}");
    Ok(())
}

#[test]
fn rights_are_spelled_out_and_given_to_one_account() -> anyhow::Result<()> {
    let deployment = Deployment::render()?;
    for Right { verb, group, resource, name } in deployment.rights()? {
        assert!(
            ![&verb, &group, &resource].into_iter().chain(&name).any(|word| word.contains('*')),
            "{verb} {resource}"
        );
        assert!(resource != "secrets" || ["list", "watch"].contains(&&*verb), "{verb} {resource}");
    }
    let binding = deployment.only("ClusterRoleBinding")?;
    assert_eq!(binding["roleRef"]["name"], deployment.only("ClusterRole")?["metadata"]["name"]);
    bound_to_its_account(&deployment, "apisix-etcd-controller")?;
    // Nothing else gives rights.
    assert_eq!((deployment.all("Role").count(), deployment.all("RoleBinding").count()), (0, 0));
    Ok(())
}

#[test]
fn an_overlay_may_choose_settings_image_and_namespace() -> anyhow::Result<()> {
    let overlaid = Deployment::overlaid(
        "
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: elsewhere
resources: [base]
configMapGenerator:
  - name: apisix-etcd-controller
    behavior: merge
    literals: [APISIX_ETCD_CONTROLLER_ETCD_ENDPOINTS=https://etcd.example.com:2379]
images: [{name: registry.example.com/apisix-etcd-controller, newTag: other}]
",
    )?;
    bound_to_its_account(&overlaid, "elsewhere")?;
    let arguments = overlaid.arguments()?;
    for expected in ["--etcd-endpoints=https://etcd.example.com:2379", "--etcd-prefix=/apisix"] {
        assert!(arguments.iter().any(|argument| argument == expected), "{arguments:?}");
    }
    let image = overlaid.pod("one")?.spec.and_then(|spec| spec.containers.into_iter().next()?.image);
    assert_eq!(image.as_deref(), Some("registry.example.com/apisix-etcd-controller:other"));
    Ok(())
}

/// The rights are given to the account of the pod, which is in this namespace, and to nobody else.
fn bound_to_its_account(deployment: &Deployment, namespace: &str) -> anyhow::Result<()> {
    let account = &deployment.only("ServiceAccount")?["metadata"];
    assert_eq!(account["namespace"], namespace);
    assert_eq!(deployment.only("Deployment")?["spec"]["template"]["spec"]["serviceAccountName"], account["name"]);
    let subjects = deployment.only("ClusterRoleBinding")?["subjects"].as_array().context("a binding has subjects")?;
    let own = |subject: &Value| subject["name"] == account["name"] && subject["namespace"] == namespace;
    assert!(matches!(&**subjects, [only] if own(only)), "{subjects:?}");
    Ok(())
}
