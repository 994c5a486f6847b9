//! What a real kube-apiserver holds arrives as facts, whatever it serves, whenever it serves it, and whoever may read it.

mod support;

use anyhow::{Context as _, bail, ensure};
use apisix_etcd_controller::{
    cluster::{
        ClusterEvent, ListedObject, Relist,
        metrics::Metrics,
        watch::{FollowSettings, follow_cluster},
    },
    model::{
        certificates::{CertificateFault, SecretField},
        facts::{Change, Facts, Observed},
        names::{Kind, ObjectName},
        verdicts::{Served, Source},
        versions::CacheVersion,
    },
};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use support::{
    certificates::{Authority, Pair},
    kubernetes::{Crds, Kubernetes, Named},
    pages_only::PagesOnly,
    proxy::Proxy,
    servers::{fresh_kubernetes, shared},
    wait::PATIENCE,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What one kube-apiserver tells, from the beginning.
struct Told {
    events: mpsc::Receiver<ClusterEvent>,
    relists: mpsc::UnboundedSender<Relist>,
    _stop: DropGuard,
}

/// A list, as it was told.
#[derive(Debug)]
struct Listed {
    kind: Kind,
    objects: Vec<ListedObject>,
    version: Option<CacheVersion>,
    ticket: u64,
}

impl Told {
    fn by(kubernetes: &Kubernetes) -> Self {
        Self::to(kubernetes.client(), settings())
    }

    fn to(client: Client, settings: FollowSettings) -> Self {
        let (sender, events) = mpsc::channel(64);
        let stop = CancellationToken::new();
        let (relists, asked) = mpsc::unbounded_channel();
        tokio::spawn(follow_cluster(client, settings, sender, asked, Metrics::default(), stop.clone()));
        Self { events, relists, _stop: stop.drop_guard() }
    }

    async fn next(&mut self) -> anyhow::Result<ClusterEvent> {
        timeout(PATIENCE, self.events.recv()).await.context("waiting for an event")?.context("the source ended")
    }

    async fn identity(&mut self) -> anyhow::Result<String> {
        let event = self.next().await?;
        let ClusterEvent::Identity(identity) = event else { bail!("not the cluster's identity, but {event:?}") };
        Ok(identity.to_string())
    }

    /// What is served, told next but for the identity and for what may be told at any time.
    async fn served(&mut self) -> anyhow::Result<Served> {
        loop {
            match self.next().await? {
                ClusterEvent::Served(served) => return Ok(served),
                ClusterEvent::Identity(_) | ClusterEvent::Reached { .. } | ClusterEvent::Waiting { .. } => {}
                event @ (ClusterEvent::NotServed(_) | ClusterEvent::Listed { .. } | ClusterEvent::Changed { .. }) => {
                    bail!("not what is served, but {event:?}")
                }
            }
        }
    }

    /// The lists of exactly these kinds, in any order. Nothing else may come between but what says nothing of objects.
    async fn lists(&mut self, kinds: &[Kind]) -> anyhow::Result<BTreeMap<Kind, Listed>> {
        let mut awaited: BTreeSet<Kind> = kinds.iter().copied().collect();
        let mut lists = BTreeMap::new();
        while !awaited.is_empty() {
            match self.next().await.with_context(|| format!("lists of {awaited:?}"))? {
                ClusterEvent::Listed { kind, objects, version, ticket, at: _ } if awaited.remove(&kind) => {
                    lists.insert(kind, Listed { kind, objects, version, ticket });
                }
                ClusterEvent::Identity(_)
                | ClusterEvent::Served(_)
                | ClusterEvent::Waiting { .. }
                | ClusterEvent::Reached { .. } => {}
                event @ (ClusterEvent::NotServed(_) | ClusterEvent::Listed { .. } | ClusterEvent::Changed { .. }) => {
                    bail!("not a list of {awaited:?}, but {event:?}")
                }
            }
        }
        Ok(lists)
    }

    /// The next list of `kind`, whatever is told of other kinds before; what is told of its objects before is an error.
    async fn list(&mut self, kind: Kind) -> anyhow::Result<Listed> {
        loop {
            match self.next().await.with_context(|| format!("a list of {kind}"))? {
                ClusterEvent::Listed { kind: listed, objects, version, ticket, at: _ } if listed == kind => {
                    return Ok(Listed { kind, objects, version, ticket });
                }
                ClusterEvent::Changed { change, .. } if change.kind == kind => bail!("not a list, but {change:?}"),
                ClusterEvent::Identity(_)
                | ClusterEvent::Served(_)
                | ClusterEvent::NotServed(_)
                | ClusterEvent::Waiting { .. }
                | ClusterEvent::Reached { .. }
                | ClusterEvent::Listed { .. }
                | ClusterEvent::Changed { .. } => {}
            }
        }
    }

    /// The next change of this object, with its version. A list of its kind before is an error.
    async fn change(
        &mut self,
        kind: Kind,
        name: &ObjectName,
    ) -> anyhow::Result<(Option<Observed>, Option<CacheVersion>)> {
        loop {
            match self.next().await.with_context(|| format!("a change of {kind} {name}"))? {
                ClusterEvent::Changed { change, status: _, version, at: _ } => {
                    let Change { kind: changed, name: of, observed } = change;
                    if (changed, &of) == (kind, name) {
                        return Ok((observed, version));
                    }
                }
                ClusterEvent::Listed { kind: listed, objects, .. } if listed == kind => {
                    bail!("not a change of {kind} {name}, but the list {objects:?}");
                }
                ClusterEvent::Identity(_)
                | ClusterEvent::Served(_)
                | ClusterEvent::NotServed(_)
                | ClusterEvent::Waiting { .. }
                | ClusterEvent::Reached { .. }
                | ClusterEvent::Listed { .. } => {}
            }
        }
    }

    /// Why `kind` cannot be read, told next of it.
    async fn waiting(&mut self, kind: Kind) -> anyhow::Result<String> {
        loop {
            match self.next().await.with_context(|| format!("why {kind} waits"))? {
                ClusterEvent::Waiting { kind: waiting, reason } if waiting == kind => return Ok(reason.to_string()),
                ClusterEvent::Listed { kind: listed, objects, .. } if listed == kind => bail!("a list {objects:?}"),
                ClusterEvent::Changed { change, .. } if change.kind == kind => bail!("a change {change:?}"),
                ClusterEvent::Identity(_)
                | ClusterEvent::Served(_)
                | ClusterEvent::NotServed(_)
                | ClusterEvent::Waiting { .. }
                | ClusterEvent::Reached { .. }
                | ClusterEvent::Listed { .. }
                | ClusterEvent::Changed { .. } => {}
            }
        }
    }

    fn ask(&self, kind: Kind, ticket: u64) -> anyhow::Result<()> {
        self.relists.send(Relist { kind, ticket }).context("nobody lists anew")
    }
}

fn settings() -> FollowSettings {
    FollowSettings::new("apisix-etcd.io/x".into())
}

/// How a client of the administrator is set up.
async fn config(kubernetes: &Kubernetes) -> anyhow::Result<Config> {
    let kubeconfig = Kubeconfig::read_from(kubernetes.kubeconfig())?;
    Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}

fn route(observed: Option<Observed>) -> anyhow::Result<apisix_etcd_controller::model::facts::RouteFacts> {
    match observed {
        Some(Observed::Facts(Facts::TcpRoute(route))) => Ok(route),
        other => bail!("not a readable route, but {other:?}"),
    }
}

fn names(objects: &[ListedObject]) -> Vec<String> {
    objects.iter().map(|object| object.name.to_string()).collect()
}

/// The `resourceVersion` of an object as the API server has it now.
async fn version_of(kubernetes: &Kubernetes, named: &Named<'_>) -> anyhow::Result<CacheVersion> {
    let object = kubernetes.get(named).await?.with_context(|| format!("there is no {named:?}"))?;
    let version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str).context("it has no version")?;
    Ok(CacheVersion(version.parse()?))
}

const OF_CRDS: [Kind; 9] = [
    Kind::DataPlane,
    Kind::GatewayClass,
    Kind::Gateway,
    Kind::ListenerSet,
    Kind::TcpRoute,
    Kind::UdpRoute,
    Kind::TlsRoute,
    Kind::ReferenceGrant,
    Kind::BackendTlsPolicy,
];
const OF_KUBERNETES: [Kind; 4] = [Kind::Namespace, Kind::Secret, Kind::Service, Kind::EndpointSlice];

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: g}]
  rules: [{backendRefs: [{name: s, port: 80}]}]
";

const NAMED_ROUTE: Named<'_> = route_named("default");

const fn route_named(namespace: &str) -> Named<'_> {
    Named { api_version: "gateway.networking.k8s.io/v1", kind: "TCPRoute", namespace, name: "r" }
}

fn route_in(namespace: &str) -> String {
    ROUTE.replace("{name: r}", &format!("{{name: r, namespace: {namespace}}}"))
}

#[tokio::test]
async fn every_kind_is_listed_once_and_then_each_change_is_told() -> anyhow::Result<()> {
    let kubernetes = fresh_kubernetes().await?;
    kubernetes.install(Crds::Standard161).await?;
    kubernetes.apply(ROUTE).await?;
    let mut told = Told::by(&kubernetes);
    assert_eq!(
        told.served().await?,
        Served {
            source: Source::Cluster,
            versions: Kind::ALL
                .map(|kind| (kind, if kind == Kind::DataPlane { "v1alpha1" } else { "v1" }.into()))
                .into(),
            bundles: Some(vec!["v1.6.1".into()]),
        }
    );
    let name = ObjectName::new("default", "r");
    for (kind, Listed { objects, .. }) in told.lists(&Kind::ALL).await? {
        match kind {
            Kind::TcpRoute => {
                assert!(objects.len() == 1 && objects[0].name == name, "{objects:?}");
            }
            Kind::Namespace => assert!(objects.iter().any(|object| *object.name.name == *"default")),
            Kind::Service => assert_eq!(objects.len(), 1, "the API server's own"),
            Kind::DataPlane
            | Kind::GatewayClass
            | Kind::Gateway
            | Kind::ListenerSet
            | Kind::UdpRoute
            | Kind::TlsRoute
            | Kind::ReferenceGrant
            | Kind::BackendTlsPolicy
            | Kind::Secret => {
                assert!(objects.is_empty());
            }
            Kind::EndpointSlice => {}
        }
    }

    let weight = json!([{"backendRefs": [{"name": "s", "port": 80, "weight": 7}]}]);
    kubernetes.patch(&NAMED_ROUTE, json!({"spec": {"rules": weight}})).await?;
    let changed = route(told.change(Kind::TcpRoute, &name).await?.0)?;
    assert_eq!((changed.generation, changed.backends[0].weight), (2, 7));
    ensure!(changed.created.0 > 1_700_000_000 && changed.created.0 < 5_000_000_000, "{:?}", changed.created);

    kubernetes.delete(&NAMED_ROUTE).await?;
    assert_eq!(told.change(Kind::TcpRoute, &name).await?.0, None);
    kubernetes.apply(ROUTE).await?;
    assert_eq!(route(told.change(Kind::TcpRoute, &name).await?.0)?.generation, 1);
    Ok(())
}

#[tokio::test]
async fn kinds_whose_crds_come_later_are_picked_up_then() -> anyhow::Result<()> {
    let kubernetes = fresh_kubernetes().await?;
    let mut told = Told::by(&kubernetes);
    let served = told.served().await?;
    let kinds: Vec<Kind> = served.versions.into_keys().collect();
    assert_eq!((&*kinds, served.bundles), (&OF_KUBERNETES[..], Some(vec![])));
    for kind in OF_CRDS {
        let event = told.next().await?;
        ensure!(matches!(event, ClusterEvent::NotServed(missing) if missing == kind), "{event:?}");
    }
    // Asked for while nobody can answer: the first list of all does.
    told.ask(Kind::TcpRoute, 3)?;
    told.lists(&OF_KUBERNETES).await?;
    kubernetes.install(Crds::Standard161).await?;
    let mut tickets = BTreeMap::new();
    while !OF_CRDS.iter().all(|kind| tickets.contains_key(kind)) {
        // A kind whose versions come one after the other may be listed at each.
        if let ClusterEvent::Listed { kind, ticket, .. } = told.next().await? {
            tickets.insert(kind, ticket);
        }
    }
    assert_eq!((tickets[&Kind::TcpRoute], tickets[&Kind::Gateway]), (3, 0));
    Ok(())
}

#[tokio::test]
async fn a_server_of_the_older_version_only_is_read_at_it() -> anyhow::Result<()> {
    let kubernetes = fresh_kubernetes().await?;
    kubernetes.install(Crds::Experimental141).await?;
    let mut told = Told::by(&kubernetes);
    let older = |kind| match kind {
        Kind::TcpRoute | Kind::UdpRoute => Some("v1alpha2"),
        Kind::ReferenceGrant => Some("v1beta1"),
        Kind::GatewayClass
        | Kind::Gateway
        | Kind::BackendTlsPolicy
        | Kind::Namespace
        | Kind::Secret
        | Kind::Service
        | Kind::EndpointSlice => Some("v1"),
        // Ours, whatever Gateway API is there.
        Kind::DataPlane => Some("v1alpha1"),
        // They had another shape or name then.
        Kind::ListenerSet | Kind::TlsRoute => None,
    };
    let versions: BTreeMap<Kind, Arc<str>> =
        Kind::ALL.into_iter().filter_map(|kind| Some((kind, older(kind)?.into()))).collect();
    let kinds: Vec<Kind> = versions.keys().copied().collect();
    assert_eq!(
        told.served().await?,
        Served { source: Source::Cluster, versions, bundles: Some(vec!["v1.4.1".into()]) }
    );
    for kind in [Kind::ListenerSet, Kind::TlsRoute] {
        let event = told.next().await?;
        ensure!(matches!(event, ClusterEvent::NotServed(missing) if missing == kind), "{event:?}");
    }
    told.lists(&kinds).await?;
    let rules = "rules: [{backendRefs: [{name: s, port: 80}]}, {backendRefs: [{name: t, port: 80}]}]";
    kubernetes
        .apply(&format!(
            "{{apiVersion: gateway.networking.k8s.io/v1alpha2, kind: TCPRoute, metadata: {{name: r}}, spec: {{{rules}}}}}"
        ))
        .await?;
    let changed = route(told.change(Kind::TcpRoute, &ObjectName::new("default", "r")).await?.0)?;
    assert_eq!((changed.rules, changed.backends.len()), (2, 1));
    Ok(())
}

/// Most clusters have none, and nothing waits for them.
#[tokio::test]
async fn a_cluster_without_data_planes_is_served_all_the_same() -> anyhow::Result<()> {
    let kubernetes = fresh_kubernetes().await?;
    kubernetes.install_but(Crds::Standard161, &["dataplanes.apisix-etcd.io"]).await?;
    let mut told = Told::by(&kubernetes);
    let served = told.served().await?;
    let others: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| *kind != Kind::DataPlane).collect();
    assert_eq!((served.version(Kind::DataPlane), served.versions.len()), (None, others.len()));
    assert_eq!(served.bundles, Some(vec!["v1.6.1".into()]));
    let event = told.next().await?;
    ensure!(matches!(event, ClusterEvent::NotServed(Kind::DataPlane)), "{event:?}");
    told.lists(&others).await?;
    Ok(())
}

const CRD_OF_ROUTES: Named<'_> = Named {
    api_version: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    namespace: "",
    name: "tcproutes.gateway.networking.k8s.io",
};

/// The watch of a CRD that is no longer served is not always closed, and discovery looks every half minute.
#[tokio::test]
async fn a_kind_that_is_no_longer_served_keeps_its_objects_and_is_listed_anew_when_it_is_back() -> anyhow::Result<()> {
    let kubernetes = fresh_kubernetes().await?;
    kubernetes.install(Crds::Standard161).await?;
    kubernetes.apply(ROUTE).await?;
    let mut told = Told::to(kubernetes.client(), FollowSettings { watch_max: Duration::from_secs(2), ..settings() });
    told.lists(&Kind::ALL).await?;
    let crd = kubernetes.get(&CRD_OF_ROUTES).await?.context("the CRD")?;
    let mut versions = crd.pointer("/spec/versions").cloned().context("its versions")?;
    for served in [false, true] {
        for version in versions.as_array_mut().context("a list of versions")? {
            version["served"] = served.into();
        }
        kubernetes.patch(&CRD_OF_ROUTES, json!({"spec": {"versions": versions}})).await?;
        // An error if anything is told of any object before.
        assert_eq!(told.served().await?.version(Kind::TcpRoute).is_some(), served);
        if !served {
            told.ask(Kind::TcpRoute, 1)?;
        }
    }
    let routes = told.list(Kind::TcpRoute).await?;
    assert_eq!((names(&routes.objects), routes.ticket), (vec!["default/r".to_owned()], 1));
    Ok(())
}

/// The objects of a deleted CRD are deleted by the API server, one by one, before it goes: that is no vanished kind.
#[tokio::test]
async fn deleting_a_crd_deletes_its_objects_and_takes_no_others() -> anyhow::Result<()> {
    let kubernetes = fresh_kubernetes().await?;
    kubernetes.install(Crds::Standard161).await?;
    kubernetes.apply(ROUTE).await?;
    let mut told = Told::by(&kubernetes);
    told.lists(&Kind::ALL).await?;
    kubernetes.delete(&CRD_OF_ROUTES).await?;
    assert_eq!(told.change(Kind::TcpRoute, &ObjectName::new("default", "r")).await?.0, None);
    assert_eq!(told.served().await?.version(Kind::TcpRoute), None);
    kubernetes.install(Crds::Standard161).await?;
    assert_eq!(told.served().await?.version(Kind::TcpRoute), Some("v1"));
    let lists = told.lists(&[Kind::TcpRoute]).await?;
    assert_eq!(names(&lists[&Kind::TcpRoute].objects), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn lists_and_changes_carry_the_versions_that_the_api_server_gave() -> anyhow::Result<()> {
    let kubernetes = shared().await?.kubernetes;
    let namespace = kubernetes.namespace("versions").await?;
    let (named, name) = (route_named(&namespace), ObjectName::new(&namespace, "r"));
    kubernetes.apply(&route_in(&namespace)).await?;
    let written = version_of(&kubernetes, &named).await?;
    let mut told = Told::by(&kubernetes);
    let system = Named { api_version: "v1", kind: "Namespace", namespace: "", name: "kube-system" };
    let uid = kubernetes.get(&system).await?.context("kube-system")?["metadata"]["uid"].clone();
    assert_eq!(json!(told.identity().await?), uid);

    let list = told.list(Kind::TcpRoute).await?;
    ensure!(list.version >= Some(written), "{list:?} is older than {written}");
    let mut before = list.version;
    for weight in [2, 3] {
        let rules = json!([{"backendRefs": [{"name": "s", "port": 80, "weight": weight}]}]);
        kubernetes.patch(&named, json!({"spec": {"rules": rules}})).await?;
        let (_route, version) = told.change(Kind::TcpRoute, &name).await?;
        assert_eq!(version, Some(version_of(&kubernetes, &named).await?));
        ensure!(version > before, "{version:?} after {before:?}");
        before = version;
    }
    kubernetes.delete(&named).await?;
    let (gone, version) = told.change(Kind::TcpRoute, &name).await?;
    ensure!(gone.is_none() && version > before, "{gone:?} {version:?} after {before:?}");
    Ok(())
}

#[tokio::test]
async fn a_kind_in_which_nothing_happens_is_told_to_be_up_to_date_and_its_watches_go_on() -> anyhow::Result<()> {
    let kubernetes = shared().await?.kubernetes;
    // An API server sends a bookmark two seconds before a watch ends, if anything happened in the kind since it started.
    let settings = FollowSettings { watch_max: Duration::from_secs(4), ..settings() };
    let mut told = Told::to(kubernetes.client(), settings);
    let mut known = told.list(Kind::TcpRoute).await?.version;
    let namespace = kubernetes.namespace("bookmarks").await?;
    let (named, name) = (route_named(&namespace), ObjectName::new(&namespace, "r"));
    kubernetes.apply(&route_in(&namespace)).await?;
    for _ in 0..2 {
        let reached = loop {
            match told.next().await? {
                ClusterEvent::Reached { kind: Kind::TcpRoute, version } => break version,
                ClusterEvent::Changed { change, version, .. } if change.kind == Kind::TcpRoute => {
                    ensure!(version > known, "{version:?} after {known:?}");
                    known = version;
                }
                ClusterEvent::Listed { kind: Kind::TcpRoute, .. } => bail!("listed twice"),
                ClusterEvent::Listed { .. }
                | ClusterEvent::Changed { .. }
                | ClusterEvent::Identity(_)
                | ClusterEvent::Served(_)
                | ClusterEvent::NotServed(_)
                | ClusterEvent::Waiting { .. }
                | ClusterEvent::Reached { .. } => {}
            }
        };
        ensure!(Some(reached) >= known, "{reached:?} after {known:?}");
        known = Some(reached);
    }
    ensure!(known >= Some(version_of(&kubernetes, &named).await?), "{known:?}");
    // The watches after the first one tell changes, too.
    kubernetes.delete(&named).await?;
    assert_eq!(told.change(Kind::TcpRoute, &name).await?.0, None);
    Ok(())
}

#[tokio::test]
async fn a_list_that_is_asked_for_holds_everything_written_before() -> anyhow::Result<()> {
    let kubernetes = shared().await?.kubernetes;
    let namespace = kubernetes.namespace("relist").await?;
    let (named, name) = (route_named(&namespace), ObjectName::new(&namespace, "r"));
    let mut told = Told::by(&kubernetes);
    assert_eq!(told.list(Kind::TcpRoute).await?.ticket, 0);
    kubernetes.apply(&route_in(&namespace)).await?;
    let written = version_of(&kubernetes, &named).await?;
    for ticket in [7, 8] {
        told.ask(Kind::TcpRoute, ticket)?;
        let list = loop {
            match told.next().await? {
                ClusterEvent::Listed { kind: Kind::TcpRoute, objects, version, ticket, at: _ } => {
                    break Listed { kind: Kind::TcpRoute, objects, version, ticket };
                }
                ClusterEvent::Listed { kind, ticket, .. } => ensure!(ticket == 0, "{kind} was not asked for"),
                ClusterEvent::Identity(_)
                | ClusterEvent::Served(_)
                | ClusterEvent::NotServed(_)
                | ClusterEvent::Waiting { .. }
                | ClusterEvent::Reached { .. }
                // It was watched until it was asked for.
                | ClusterEvent::Changed { .. } => {}
            }
        };
        assert_eq!((list.kind, list.ticket), (Kind::TcpRoute, ticket));
        ensure!(list.version >= Some(written), "{:?} is older than {written}", list.version);
        ensure!(list.objects.iter().any(|object| object.name == name), "{:?}", list.objects);
    }
    kubernetes.delete(&named).await?;
    assert_eq!(told.change(Kind::TcpRoute, &name).await?.0, None);
    Ok(())
}

#[tokio::test]
async fn a_watch_whose_connection_is_dead_is_replaced_and_goes_on_where_it_was() -> anyhow::Result<()> {
    let kubernetes = shared().await?.kubernetes;
    let namespace = kubernetes.namespace("stalled").await?;
    let mut config = config(&kubernetes).await?;
    let proxy = Proxy::start(&config.cluster_url.to_string()).await?;
    config.cluster_url = proxy.endpoint().parse()?;
    let settings = FollowSettings { silence_max: Duration::from_secs(2), ..settings() };
    let mut told = Told::to(Client::try_from(config)?, settings);
    told.list(Kind::TcpRoute).await?;
    proxy.forget();
    kubernetes.apply(&route_in(&namespace)).await?;
    // An error if it was listed anew.
    route(told.change(Kind::TcpRoute, &ObjectName::new(&namespace, "r")).await?.0)?;
    Ok(())
}

/// What the user `reader` of one test may read: `rights` are RBAC rules.
async fn allow(kubernetes: &Kubernetes, user: &str, rights: &[(&str, &str, &[&str])]) -> anyhow::Result<()> {
    let rules: Vec<Value> = rights
        .iter()
        .map(|(group, resource, verbs)| json!({"apiGroups": [group], "resources": [resource], "verbs": verbs}))
        .collect();
    let authorization = "rbac.authorization.k8s.io";
    let role = json!({
        "apiVersion": format!("{authorization}/v1"), "kind": "ClusterRole", "metadata": {"name": user}, "rules": rules,
    });
    let binding = json!({
        "apiVersion": format!("{authorization}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": user},
        "roleRef": {"apiGroup": authorization, "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": authorization, "kind": "User", "name": user}],
    });
    kubernetes.apply(&format!("{role}\n---\n{binding}")).await
}

async fn client_of(kubernetes: &Kubernetes, user: &str) -> anyhow::Result<Client> {
    let mut config = config(kubernetes).await?;
    config.auth_info.impersonate = Some(user.to_owned());
    Ok(Client::try_from(config)?)
}

/// Every right that reading needs, but for that to read Services.
const BUT_SERVICES: &[(&str, &str, &[&str])] = &[
    ("", "namespaces", &["get", "list", "watch"]),
    ("discovery.k8s.io", "endpointslices", &["list", "watch"]),
    ("gateway.networking.k8s.io", "*", &["list", "watch"]),
    ("apisix-etcd.io", "*", &["list", "watch"]),
];

#[tokio::test]
async fn a_kind_that_is_forbidden_waits_with_its_reason_and_loses_nothing() -> anyhow::Result<()> {
    let kubernetes = shared().await?.kubernetes;
    let namespace = kubernetes.namespace("forbidden").await?;
    let (user, whole) = ("half-blind", [BUT_SERVICES, &[("", "services", &["list", "watch"])]].concat());
    let name = ObjectName::new(&namespace, "s");
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": namespace},
        "spec": {"ports": [{"port": 80}]},
    });
    let named = Named { api_version: "v1", kind: "Service", namespace: &namespace, name: "s" };
    kubernetes.apply(&service.to_string()).await?;

    allow(&kubernetes, user, BUT_SERVICES).await?;
    let settings = FollowSettings { watch_max: Duration::from_secs(2), ..settings() };
    let mut told = Told::to(client_of(&kubernetes, user).await?, settings);
    let reason = told.waiting(Kind::Service).await?;
    ensure!(reason.contains("services is forbidden") && reason.contains(user), "{reason}");
    allow(&kubernetes, user, &whole).await?;
    let list = told.list(Kind::Service).await?;
    ensure!(list.objects.iter().any(|object| object.name == name), "{:?}", list.objects);

    // A watch under way is not broken off by the API server; the next one is refused.
    allow(&kubernetes, user, BUT_SERVICES).await?;
    let reason = told.waiting(Kind::Service).await?;
    ensure!(reason.contains("services is forbidden"), "{reason}");
    kubernetes.delete(&named).await?;
    allow(&kubernetes, user, &whole).await?;
    assert_eq!(told.change(Kind::Service, &name).await?.0, None);
    Ok(())
}

fn secret(namespace: &str, name: &str, r#type: &str, Pair { certificate, key }: &Pair) -> String {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "type": r#type,
        "stringData": {"tls.crt": certificate, "tls.key": key},
    })
    .to_string()
}

/// The certificate of a Secret that can be served with.
fn certificate(observed: Option<&Observed>, made: &Pair) -> anyhow::Result<()> {
    let Some(Observed::Facts(Facts::Secret(facts))) = observed else { bail!("not a Secret, but {observed:?}") };
    let pair = facts.pair.as_ref().map_err(|fault| *fault)?;
    assert_eq!(pair.certificate(), made.certificate.replace("\r\n", "\n"));
    ensure!(pair.reveal_key() == made.key.replace("\r\n", "\n"), "it is another key");
    Ok(())
}

#[tokio::test]
async fn only_tls_secrets_are_told_with_their_rotation_and_their_keys_are_not_shown() -> anyhow::Result<()> {
    let kubernetes = shared().await?.kubernetes;
    let namespace = kubernetes.namespace("secrets").await?;
    let authority = Authority::new("ours")?;
    let (first, second) = (authority.server(&["a.example.com"])?, authority.server(&["a.example.com"])?);
    let name = ObjectName::new(&namespace, "tls");
    let named = Named { api_version: "v1", kind: "Secret", namespace: &namespace, name: "tls" };
    kubernetes.apply(&secret(&namespace, "tls", "kubernetes.io/tls", &first)).await?;
    kubernetes.apply(&secret(&namespace, "opaque", "Opaque", &first)).await?;

    let pages = PagesOnly::before(kubernetes.kubeconfig()).await?;
    let mut by_pages = config(&kubernetes).await?;
    by_pages.cluster_url = pages.url().parse()?;
    let mut told = Told::by(&kubernetes);
    for told in [&mut Told::to(Client::try_from(by_pages)?, settings()), &mut told] {
        let list = told.list(Kind::Secret).await?;
        let here: Vec<_> = list.objects.iter().filter(|object| object.name.namespace == name.namespace).collect();
        ensure!(here.len() == 1 && here[0].name == name, "{here:?}");
        certificate(Some(&here[0].observed), &first)?;
        let shown = format!("{list:?}");
        ensure!(first.key.lines().filter(|line| line.len() > 16).all(|line| !shown.contains(line)), "{shown}");
    }

    kubernetes.apply(&secret(&namespace, "opaque2", "Opaque", &first)).await?;
    kubernetes.patch(&named, json!({"stringData": {"tls.crt": second.certificate, "tls.key": second.key}})).await?;
    loop {
        let ClusterEvent::Changed { change, .. } = told.next().await? else { continue };
        if change.kind == Kind::Secret && change.name.namespace == name.namespace {
            assert_eq!(change.name, name);
            certificate(change.observed.as_ref(), &second)?;
            break;
        }
    }
    // What an API server takes and nobody can serve with is a verdict, and the next one is heard all the same.
    kubernetes.patch(&named, json!({"stringData": {"tls.key": "garbage"}})).await?;
    let (observed, _version) = told.change(Kind::Secret, &name).await?;
    let Some(Observed::Facts(Facts::Secret(facts))) = observed else { bail!("not a Secret, but {observed:?}") };
    assert_eq!(facts.pair, Err(CertificateFault::NotPem(SecretField::Key)));
    kubernetes.delete(&named).await?;
    assert_eq!(told.change(Kind::Secret, &name).await?.0, None);
    Ok(())
}

#[tokio::test]
async fn secrets_that_may_not_be_read_are_not_waited_for_and_come_when_they_may() -> anyhow::Result<()> {
    let kubernetes = shared().await?.kubernetes;
    let user = "trusted-with-little";
    let without = [BUT_SERVICES, &[("", "services", &["list", "watch"])]].concat();
    let whole = [&*without, &[("", "secrets", &["list", "watch"])]].concat();
    allow(&kubernetes, user, &without).await?;
    let settings = FollowSettings { watch_max: Duration::from_secs(2), ..settings() };
    let mut told = Told::to(client_of(&kubernetes, user).await?, settings);
    let mut awaited: BTreeSet<Kind> = Kind::ALL.into();
    let mut reason = None;
    while !awaited.is_empty() {
        match told.next().await.with_context(|| format!("news of {awaited:?}"))? {
            ClusterEvent::Waiting { kind: Kind::Secret, reason: why } => reason = Some(why),
            ClusterEvent::NotServed(kind) => {
                assert_eq!(kind, Kind::Secret);
                awaited.remove(&kind);
            }
            ClusterEvent::Listed { kind, .. } => {
                ensure!(kind != Kind::Secret && awaited.remove(&kind), "{kind} is listed");
            }
            ClusterEvent::Waiting { .. }
            | ClusterEvent::Identity(_)
            | ClusterEvent::Served(_)
            | ClusterEvent::Reached { .. }
            | ClusterEvent::Changed { .. } => {}
        }
    }
    let reason = reason.context("Secrets wait with a reason")?;
    ensure!(reason.contains("secrets is forbidden") && reason.contains(user), "{reason}");

    allow(&kubernetes, user, &whole).await?;
    told.list(Kind::Secret).await?;
    // From here on they are like any other kind: what was told stays true.
    allow(&kubernetes, user, &without).await?;
    loop {
        match told.next().await? {
            ClusterEvent::Waiting { kind: Kind::Secret, .. } => break,
            ClusterEvent::NotServed(kind) => bail!("{kind} was known already"),
            ClusterEvent::Waiting { .. }
            | ClusterEvent::Identity(_)
            | ClusterEvent::Served(_)
            | ClusterEvent::Reached { .. }
            | ClusterEvent::Listed { .. }
            | ClusterEvent::Changed { .. } => {}
        }
    }
    // Should it be said after the reason, it comes before the next list that is asked for.
    allow(&kubernetes, user, &whole).await?;
    told.ask(Kind::Secret, 1)?;
    loop {
        match told.next().await? {
            ClusterEvent::NotServed(kind) => bail!("{kind} was known already"),
            ClusterEvent::Listed { kind: Kind::Secret, ticket: 1, .. } => break,
            ClusterEvent::Waiting { .. }
            | ClusterEvent::Identity(_)
            | ClusterEvent::Served(_)
            | ClusterEvent::Reached { .. }
            | ClusterEvent::Listed { .. }
            | ClusterEvent::Changed { .. } => {}
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_cluster_whose_identity_is_forbidden_names_the_missing_right_and_lists_nothing() -> anyhow::Result<()> {
    let kubernetes = shared().await?.kubernetes;
    let user = "nameless";
    let whole = [BUT_SERVICES, &[("", "services", &["list", "watch"])]].concat();
    let mut without = whole.clone();
    without[0] = ("", "namespaces", &["list", "watch"]);
    allow(&kubernetes, user, &without).await?;
    let mut told = Told::to(client_of(&kubernetes, user).await?, settings());
    for kind in Kind::ALL {
        let event = told.next().await?;
        let ClusterEvent::Waiting { kind: waiting, reason } = event else { bail!("not waiting, but {event:?}") };
        ensure!(waiting == kind && reason.contains("allow get on namespaces"), "{waiting}: {reason}");
    }
    allow(&kubernetes, user, &whole).await?;
    told.identity().await?;
    ensure!(told.served().await?.version(Kind::TcpRoute).is_some());
    Ok(())
}
