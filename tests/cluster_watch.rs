//! What a real kube-apiserver holds arrives as facts, whatever it serves and whenever it serves it.

mod support;

use anyhow::{Context as _, bail, ensure};
use apisix_etcd_controller::{
    cluster::{
        ClusterEvent, ListedObject, Relist,
        metrics::Metrics,
        watch::{FollowSettings, follow_cluster},
    },
    model::{
        facts::{Change, Facts, Observed},
        names::{Kind, ObjectName},
        verdicts::{Served, Source},
    },
};
use serde_json::json;
use std::collections::BTreeSet;
use support::{
    kubernetes::{Crds, Kubernetes, Named},
    servers::fresh_kubernetes,
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

impl Told {
    fn by(kubernetes: &Kubernetes) -> Self {
        let (sender, events) = mpsc::channel(64);
        let stop = CancellationToken::new();
        let (relists, asked) = mpsc::unbounded_channel();
        let settings = FollowSettings::new("apisix-etcd.io/x".into());
        let following = follow_cluster(kubernetes.client(), settings, sender, asked, Metrics::default(), stop.clone());
        tokio::spawn(following);
        Self { events, relists, _stop: stop.drop_guard() }
    }

    async fn next(&mut self) -> anyhow::Result<ClusterEvent> {
        timeout(PATIENCE, self.events.recv()).await.context("waiting for an event")?.context("the source ended")
    }

    async fn served(&mut self) -> anyhow::Result<Served> {
        let event = self.next().await?;
        let ClusterEvent::Served(served) = event else { bail!("not what is served, but {event:?}") };
        Ok(served)
    }

    /// The lists of exactly these kinds, in any order. Statuses of what is served may come between.
    async fn lists(&mut self, kinds: &[Kind]) -> anyhow::Result<Vec<(Kind, Vec<ListedObject>)>> {
        let mut awaited: BTreeSet<Kind> = kinds.iter().copied().collect();
        let mut lists = Vec::new();
        while !awaited.is_empty() {
            match self.next().await.with_context(|| format!("lists of {awaited:?}"))? {
                ClusterEvent::Listed { kind, objects, version: _, ticket: _, at: _ } if awaited.remove(&kind) => {
                    lists.push((kind, objects))
                }
                ClusterEvent::Served(_) => {}
                event @ (ClusterEvent::Identity(_)
                | ClusterEvent::Reached { .. }
                | ClusterEvent::NotServed(_)
                | ClusterEvent::Listed { .. }
                | ClusterEvent::Changed { .. }) => {
                    bail!("not a list of {awaited:?}, but {event:?}")
                }
            }
        }
        Ok(lists)
    }

    /// The next change of this object.
    async fn change(&mut self, kind: Kind, name: &ObjectName) -> anyhow::Result<Option<Observed>> {
        loop {
            if let ClusterEvent::Changed { change, status: _, version: _, at: _ } = self.next().await? {
                let Change { kind: changed, name: of, observed } = change;
                if (changed, &of) == (kind, name) {
                    return Ok(observed);
                }
            }
        }
    }
}

fn route(observed: Option<Observed>) -> anyhow::Result<apisix_etcd_controller::model::facts::RouteFacts> {
    match observed {
        Some(Observed::Facts(Facts::TcpRoute(route))) => Ok(route),
        other => bail!("not a readable route, but {other:?}"),
    }
}

const OF_GATEWAY_API: [Kind; 4] = [Kind::GatewayClass, Kind::Gateway, Kind::TcpRoute, Kind::ReferenceGrant];
const OF_KUBERNETES: [Kind; 3] = [Kind::Namespace, Kind::Service, Kind::EndpointSlice];

const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: r}
spec:
  parentRefs: [{name: g}]
  rules: [{backendRefs: [{name: s, port: 80}]}]
";

const NAMED_ROUTE: Named<'_> =
    Named { api_version: "gateway.networking.k8s.io/v1", kind: "TCPRoute", namespace: "default", name: "r" };

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
            tcp_route: Some("v1".into()),
            reference_grant: Some("v1".into()),
            bundles: Some(vec!["v1.6.1".into()]),
        }
    );
    let name = ObjectName::new("default", "r");
    for (kind, objects) in told.lists(&Kind::ALL).await? {
        match kind {
            Kind::TcpRoute => {
                assert!(objects.len() == 1 && objects[0].name == name, "{objects:?}");
            }
            Kind::Namespace => assert!(objects.iter().any(|object| *object.name.name == *"default")),
            Kind::Service => assert_eq!(objects.len(), 1, "the API server's own"),
            Kind::GatewayClass | Kind::Gateway | Kind::ReferenceGrant => assert!(objects.is_empty()),
            Kind::EndpointSlice => {}
        }
    }

    let weight = json!([{"backendRefs": [{"name": "s", "port": 80, "weight": 7}]}]);
    kubernetes.patch(&NAMED_ROUTE, json!({"spec": {"rules": weight}})).await?;
    let changed = route(told.change(Kind::TcpRoute, &name).await?)?;
    assert_eq!((changed.generation, changed.backends[0].weight), (2, 7));
    ensure!(changed.created.0 > 1_700_000_000 && changed.created.0 < 5_000_000_000, "{:?}", changed.created);

    kubernetes.delete(&NAMED_ROUTE).await?;
    assert_eq!(told.change(Kind::TcpRoute, &name).await?, None);
    kubernetes.apply(ROUTE).await?;
    assert_eq!(route(told.change(Kind::TcpRoute, &name).await?)?.generation, 1);
    Ok(())
}

#[tokio::test]
async fn kinds_whose_crds_come_later_are_picked_up_then() -> anyhow::Result<()> {
    let kubernetes = fresh_kubernetes().await?;
    let mut told = Told::by(&kubernetes);
    let served = told.served().await?;
    assert_eq!((served.tcp_route, served.reference_grant, served.bundles), (None, None, Some(vec![])));
    for kind in OF_GATEWAY_API {
        let event = told.next().await?;
        ensure!(matches!(event, ClusterEvent::NotServed(missing) if missing == kind), "{event:?}");
    }
    told.lists(&OF_KUBERNETES).await?;
    kubernetes.install(Crds::Standard161).await?;
    told.lists(&OF_GATEWAY_API).await?;
    Ok(())
}

#[tokio::test]
async fn a_server_of_the_older_version_only_is_read_at_it() -> anyhow::Result<()> {
    let kubernetes = fresh_kubernetes().await?;
    kubernetes.install(Crds::Experimental141).await?;
    let mut told = Told::by(&kubernetes);
    assert_eq!(
        told.served().await?,
        Served {
            source: Source::Cluster,
            tcp_route: Some("v1alpha2".into()),
            reference_grant: Some("v1beta1".into()),
            bundles: Some(vec!["v1.4.1".into()]),
        }
    );
    told.lists(&Kind::ALL).await?;
    let rules = "rules: [{backendRefs: [{name: s, port: 80}]}, {backendRefs: [{name: t, port: 80}]}]";
    kubernetes
        .apply(&format!(
            "{{apiVersion: gateway.networking.k8s.io/v1alpha2, kind: TCPRoute, metadata: {{name: r}}, spec: {{{rules}}}}}"
        ))
        .await?;
    let changed = route(told.change(Kind::TcpRoute, &ObjectName::new("default", "r")).await?)?;
    assert_eq!((changed.rules, changed.backends.len()), (2, 1));
    Ok(())
}

#[tokio::test]
async fn a_crd_that_vanishes_and_comes_back_is_listed_anew() -> anyhow::Result<()> {
    let kubernetes = fresh_kubernetes().await?;
    kubernetes.install(Crds::Standard161).await?;
    let mut told = Told::by(&kubernetes);
    told.lists(&Kind::ALL).await?;
    let name = "tcproutes.gateway.networking.k8s.io";
    let crd = Named { api_version: "apiextensions.k8s.io/v1", kind: "CustomResourceDefinition", namespace: "", name };
    kubernetes.delete(&crd).await?;
    assert_eq!(told.served().await?.tcp_route, None);
    kubernetes.install(Crds::Standard161).await?;
    assert_eq!(told.served().await?.tcp_route.as_deref(), Some("v1"));
    told.lists(&[Kind::TcpRoute]).await?;
    Ok(())
}
