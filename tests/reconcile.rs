//! The loop holds on a real etcd: facts in, documents and statuses out, whoever else writes and whatever breaks.

mod support;

use anyhow::{Context as _, bail, ensure};
use apisix_etcd_controller::{
    apisix::{ids, version::ApisixVersion},
    clock,
    cluster::{
        ClusterEvent,
        manifests::{self, File, Manifests},
    },
    leader,
    model::{
        facts::Change,
        names::{Kind, ObjectName, ObjectRef},
        places::Plane,
    },
    reconcile::{self, Progress, Settings, Statuses},
    replica::{self, Replica},
    retry::RetryLimits,
    status::{
        print::StatusPrint,
        queue::{StatusSink, StatusUpdate},
    },
    store::{
        control::ControlKeys,
        etcd::{EtcdSettings, EtcdStore},
    },
    translate::{
        desired::{self, Desired},
        planes::PlaneSettings,
    },
};
use etcd_client::{EventType, WatchOptions};
use parking_lot::Mutex;
use prometheus_client::{encoding::text::encode, registry::Registry};
use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};
use support::{
    binaries::Binary,
    etcd::{Etcd, Held, shared_etcd},
    proxy::Proxy,
    wait::{PATIENCE, wait_until},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

const CONTROLLER: &str = "apisix-etcd.io/gateway-controller";

#[derive(Clone, Default)]
struct Published(Arc<Mutex<Vec<StatusUpdate>>>);

impl StatusSink for Published {
    fn publish(&mut self, update: StatusUpdate) {
        self.0.lock().push(update);
    }

    fn forget(&mut self, _: &ObjectRef) {}
}

impl Published {
    /// Every `reason` published so far of `apisix-etcd.io/Programmed` on this route, in order.
    fn programmed(&self, route: &str) -> Vec<String> {
        let of_route =
            |update: &&StatusUpdate| update.object.kind == Kind::TcpRoute && *update.object.name.name == *route;
        let reason = |update: &StatusUpdate| {
            let conditions = update.status.pointer("/parents/0/conditions")?.as_array()?;
            let ours = conditions.iter().find(|condition| condition["type"] == "apisix-etcd.io/Programmed")?;
            ours["reason"].as_str().map(ToOwned::to_owned)
        };
        self.0.lock().iter().filter(of_route).filter_map(reason).collect()
    }
}

/// A running loop with a prefix of its own.
struct Loop {
    etcd: Arc<Etcd>,
    prefix: String,
    cluster: mpsc::Sender<ClusterEvent>,
    progress: watch::Receiver<Progress>,
    published: Published,
    registry: Registry,
    _stop: DropGuard,
}

async fn start(etcd: &Arc<Etcd>, prefix: &str) -> anyhow::Result<Loop> {
    start_at(etcd, etcd.endpoint(), prefix, "default").await
}

async fn start_at(etcd: &Arc<Etcd>, endpoint: &str, prefix: &str, instance: &str) -> anyhow::Result<Loop> {
    let settings = EtcdSettings { request_timeout: Duration::from_secs(2), ..EtcdSettings::at(endpoint) };
    let store = Arc::new(EtcdStore::connect(&settings).await?);
    let (stop, mut registry) = (CancellationToken::new(), Registry::default());
    let control = ControlKeys::new(format!("/control{prefix}").into(), instance.into());
    let mut settings = Settings::new(control, "replica".into(), CONTROLLER.into());
    settings.pool_linger = Duration::from_millis(200);
    settings.audit_grace = Duration::from_millis(100);
    settings.retry = RetryLimits::new(Duration::from_millis(10), Duration::from_millis(100));
    let desired = Desired::new(desired::Settings {
        controller_name: CONTROLLER.into(),
        instance: instance.into(),
        plane: PlaneSettings::new(Plane::of(prefix), ApisixVersion::DEFAULT).into(),
    });
    let published = Published::default();
    let statuses = Statuses { sink: published.clone(), idle: Box::new(|_, _| {}) };
    let metrics = replica::Metrics {
        reconcile: reconcile::Metrics::register(&mut registry),
        leader: leader::Metrics::register(&mut registry),
    };
    let settings = replica::Settings { reconcile: settings, lease_ttl: Duration::from_secs(5) };
    let Replica { cluster, relists: _, progress, tasks } =
        replica::wire(settings, desired, &store, statuses, metrics, &stop);
    for (_, task) in tasks {
        tokio::spawn(task);
    }
    cluster.send(ClusterEvent::Identity("cluster".into())).await?;
    let etcd = etcd.clone();
    let stop = stop.drop_guard();
    Ok(Loop { etcd, prefix: prefix.to_owned(), cluster, progress, published, registry, _stop: stop })
}

fn read(yaml: &str) -> anyhow::Result<Manifests> {
    let file = File { path: "cluster.yaml".into(), text: yaml.to_owned() };
    Manifests::of(&[file], CONTROLLER).map_err(|errors| anyhow::anyhow!("{errors:?}"))
}

impl Loop {
    /// These are all objects of the cluster.
    async fn listed(&self, yaml: &str) -> anyhow::Result<()> {
        self.cluster.send(ClusterEvent::Served(manifests::served())).await?;
        for (kind, objects) in read(yaml)?.objects {
            self.cluster
                .send(ClusterEvent::Listed { kind, objects, version: None, ticket: 0, at: clock::now() })
                .await?;
        }
        Ok(())
    }

    /// These objects are new, or changed.
    async fn changed(&self, yaml: &str) -> anyhow::Result<()> {
        for (kind, objects) in read(yaml)?.objects {
            for object in objects {
                let change = Change { kind, name: object.name, observed: Some(object.observed) };
                self.cluster
                    .send(ClusterEvent::Changed { change, status: object.status, version: None, at: clock::now() })
                    .await?;
            }
        }
        Ok(())
    }

    async fn deleted(&self, kind: Kind, name: &str) -> anyhow::Result<()> {
        let change = Change { kind, name: ObjectName::new("default", name), observed: None };
        Ok(self
            .cluster
            .send(ClusterEvent::Changed { change, status: StatusPrint::default(), version: None, at: clock::now() })
            .await?)
    }

    fn slot(&self, port: u16) -> String {
        format!("{}/stream_routes/gateway-api.{port}", self.prefix)
    }

    fn pool(&self, route: &str) -> String {
        let route = ObjectName::new("default", route);
        ids::pool(Plane::of(&self.prefix), "default", Kind::TcpRoute, &route).key()
    }

    async fn held(&self) -> anyhow::Result<BTreeMap<String, Held>> {
        self.etcd.under(&format!("{}/", self.prefix)).await
    }

    /// What etcd holds once `claim` of it is true, which is awaited.
    async fn until(
        &self,
        what: &str,
        claim: impl Fn(&BTreeMap<String, Held>) -> bool,
    ) -> anyhow::Result<BTreeMap<String, Held>> {
        wait_until(what, PATIENCE, async || {
            let held = self.held().await?;
            ensure!(claim(&held), "{held:#?}");
            Ok(held)
        })
        .await
    }

    async fn settled(&self) -> anyhow::Result<()> {
        let mut progress = self.progress.clone();
        tokio::time::timeout(PATIENCE, progress.wait_for(|progress| progress.settled)).await.context("to settle")??;
        Ok(())
    }

    async fn put(&self, key: &str, value: &str) -> anyhow::Result<i64> {
        let answer = self.etcd.client().await?.put(key, value, None).await?;
        answer.header().map(etcd_client::ResponseHeader::revision).context("a revision")
    }

    async fn delete(&self, key: &str) -> anyhow::Result<()> {
        self.etcd.client().await?.delete(key, None).await?;
        Ok(())
    }

    fn metric(&self, line: &str) -> anyhow::Result<u64> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        value.with_context(|| format!("no {line} in {text}"))?.parse().context("a whole number")
    }
}

/// One class, one Gateway with these ports, and nothing else.
fn gateway(ports: &[u16]) -> String {
    let mut yaml = "\
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: apisix}
spec: {controllerName: apisix-etcd.io/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gateway, namespace: default, creationTimestamp: '2026-01-01T00:00:00Z'}
spec:
  gatewayClassName: apisix
  listeners:
"
    .to_owned();
    for port in ports {
        let _ = writeln!(yaml, "  - {{name: p{port}, port: {port}, protocol: TCP}}");
    }
    yaml
}

/// A route to its own Service, created on that day of January.
fn route(name: &str, port: u16, day: u8) -> String {
    format!(
        "\
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {{name: {name}, namespace: default, creationTimestamp: '2026-01-{day:02}T00:00:00Z'}}
spec:
  parentRefs: [{{name: gateway, sectionName: p{port}}}]
  rules: [{{backendRefs: [{{name: {name}, port: 80}}]}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec: {{ports: [{{port: 80, protocol: TCP}}]}}
"
    )
}

fn endpoint(name: &str, address: &str) -> String {
    format!(
        "\
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, namespace: default, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: '', port: 8080, protocol: TCP}}]
endpoints: [{{addresses: [{address}]}}]
"
    )
}

fn one_route() -> String {
    gateway(&[9100]) + &route("app", 9100, 2) + &endpoint("app", "10.0.0.1")
}

#[tokio::test]
async fn a_route_becomes_a_slot_and_a_pool_and_is_called_programmed_once_they_are_there() -> anyhow::Result<()> {
    let run = start(&shared_etcd().await?, "/create").await?;
    run.listed(&one_route()).await?;
    run.settled().await?;
    let held = run.held().await?;
    let (slot, pool) = (&held[&run.slot(9100)], &held[&run.pool("app")]);
    assert_eq!(slot.mod_revision, pool.mod_revision, "a new slot travels with its pool");
    ensure!(pool.value.contains("10.0.0.1") && slot.value.contains("\"server_port\":9100"), "{held:?}");
    for directory in ["stream_routes", "ssls", "upstreams"] {
        assert_eq!(held[&format!("/create/{directory}/")].value, "init_dir");
    }
    assert_eq!(held.len(), 5);
    wait_until("a status", PATIENCE, async || {
        let reasons = run.published.programmed("app");
        ensure!(reasons == ["Programmed"], "{reasons:?}");
        Ok(())
    })
    .await?;
    assert_eq!(run.metric("documents{directory=\"stream_routes\"}")?, 1);
    assert_eq!(run.metric("objects{kind=\"TCPRoute\"}")?, 1);
    Ok(())
}

#[tokio::test]
async fn nothing_is_written_before_every_kind_is_listed() -> anyhow::Result<()> {
    let run = start(&shared_etcd().await?, "/waits").await?;
    for (kind, objects) in read(&one_route())?.objects {
        if kind != Kind::ReferenceGrant {
            run.cluster
                .send(ClusterEvent::Listed { kind, objects, version: None, ticket: 0, at: clock::now() })
                .await?;
        }
    }
    let mut progress = run.progress.clone();
    let waits =
        |progress: &Progress| !progress.waiting.documents && progress.waiting.kinds.keys().eq(&[Kind::ReferenceGrant]);
    tokio::time::timeout(PATIENCE, progress.wait_for(waits)).await??;
    ensure!(run.held().await?.is_empty() && run.published.0.lock().is_empty());
    run.cluster.send(ClusterEvent::NotServed(Kind::ReferenceGrant)).await?;
    run.settled().await?;
    assert_eq!(run.held().await?.len(), 5);
    Ok(())
}

#[tokio::test]
async fn an_endpoint_change_writes_the_pool_and_no_slot() -> anyhow::Result<()> {
    let run = start(&shared_etcd().await?, "/endpoints").await?;
    run.listed(&one_route()).await?;
    run.settled().await?;
    let before = run.held().await?;
    run.changed(&endpoint("app", "10.0.0.2")).await?;
    let pool = run.pool("app");
    let after = run.until("the new endpoint", |held| held[&pool].value.contains("10.0.0.2")).await?;
    assert_eq!(after[&run.slot(9100)], before[&run.slot(9100)]);
    assert_eq!(after[&pool].version, 2);
    run.settled().await?;
    wait_until("the answer to be counted", PATIENCE, async || {
        ensure!(run.metric("propagation_seconds_count")? == 1);
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn edits_and_deletions_behind_our_back_are_put_right_and_foreign_keys_left_alone() -> anyhow::Result<()> {
    let run = start(&shared_etcd().await?, "/drift").await?;
    let foreign = ["/drift/stream_routes/theirs", "/drift/upstreams/1", "/drift/routes/gateway-api.9100"];
    for key in foreign {
        run.put(key, r#"{"server_port": 1}"#).await?;
    }
    run.listed(&one_route()).await?;
    run.settled().await?;
    let (good, slot, pool) = (run.held().await?, run.slot(9100), run.pool("app"));
    let as_before =
        |key: &str, held: &BTreeMap<String, Held>| held.get(key).is_some_and(|held| held.value == good[key].value);

    run.put(&pool, r#"{"id":"x","nodes":[]}"#).await?;
    run.until("the edited pool to be put right", |held| as_before(&pool, held)).await?;
    let edited = good[&slot].value.replace("9100", "9101");
    run.put(&slot, &edited).await?;
    run.until("the edited slot to be put right", |held| as_before(&slot, held)).await?;
    run.delete(&slot).await?;
    run.until("the deleted slot to come back", |held| as_before(&slot, held)).await?;
    run.delete(&pool).await?;
    run.until("the deleted pool to come back", |held| as_before(&pool, held)).await?;
    run.delete("/drift/stream_routes/").await?;
    run.until("the placeholder to come back", |held| as_before("/drift/stream_routes/", held)).await?;
    let stray = run.slot(9999);
    run.put(&stray, "{}").await?;
    run.until("a stray document at an id of ours to go", |held| !held.contains_key(&stray)).await?;
    run.settled().await?;
    let held = run.held().await?;
    for key in foreign {
        assert_eq!(held[key], good[key]);
    }
    assert_eq!(run.metric("drift_detected_total{what=\"edited\"}")?, 3);
    assert_eq!(run.metric("drift_detected_total{what=\"deleted\"}")?, 3);
    assert_eq!(run.metric("drift_repaired_total")?, 6);
    Ok(())
}

#[tokio::test]
async fn a_restart_with_nothing_changed_writes_nothing() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let first = start(&etcd, "/restart").await?;
    first.listed(&one_route()).await?;
    first.settled().await?;
    let before = first.held().await?;
    drop(first);
    let second = start(&etcd, "/restart").await?;
    second.listed(&one_route()).await?;
    second.settled().await?;
    assert_eq!(second.held().await?, before);
    ensure!(second.metric("transactions_total{outcome=\"applied\"}").is_err(), "something was written");
    assert_eq!(second.published.programmed("app"), ["Programmed"]);
    Ok(())
}

#[tokio::test]
async fn what_was_deleted_while_nobody_looked_goes_after_a_restart() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let first = start(&etcd, "/absent").await?;
    first.listed(&one_route()).await?;
    first.settled().await?;
    drop(first);
    let second = start(&etcd, "/absent").await?;
    second.listed(&gateway(&[9100])).await?;
    second.until("both documents to go", |held| held.len() == 3).await?;
    Ok(())
}

/// Keys put (`+`) and deleted (`-`) below a prefix since `from`, one string a revision, in order; until the last is `end`.
async fn history(etcd: &Etcd, prefix: &str, from: i64, end: &str) -> anyhow::Result<Vec<String>> {
    let options = WatchOptions::new().with_prefix().with_start_revision(from);
    let mut watch = etcd.client().await?.watch(format!("{prefix}/"), Some(options)).await?;
    let mut revisions: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    let reading = async {
        loop {
            let Some(response) = watch.message().await? else { bail!("the watch ended after {revisions:?}") };
            for event in response.events() {
                let kv = event.kv().context("a key")?;
                let sign = if event.event_type() == EventType::Put { '+' } else { '-' };
                let key = format!("{sign}{}", kv.key_str()?);
                revisions.entry(kv.mod_revision()).or_default().push(key);
            }
            if revisions.values().next_back().is_some_and(|last| last.iter().any(|key| key == end)) {
                return Ok(revisions.values().map(|keys| keys.join(" ")).collect());
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.context("the end of the history")?
}

#[tokio::test]
async fn a_takeover_puts_the_new_pool_moves_the_slot_and_then_deletes_the_old_pool() -> anyhow::Result<()> {
    let run = start(&shared_etcd().await?, "/takeover").await?;
    let both = one_route() + &route("next", 9100, 3) + &endpoint("next", "10.0.0.9");
    run.listed(&both).await?;
    run.settled().await?;
    let held = run.held().await?;
    ensure!(held.contains_key(&run.pool("app")) && !held.contains_key(&run.pool("next")), "the oldest serves");
    assert_eq!(run.published.programmed("next"), ["Superseded"]);
    let from = held.values().map(|held| held.mod_revision).max().unwrap_or(0) + 1;

    run.deleted(Kind::TcpRoute, "app").await?;
    let (slot, old, new) = (run.slot(9100), run.pool("app"), run.pool("next"));
    let told = history(&run.etcd, "/takeover", from, &format!("-{old}")).await?;
    assert_eq!(told, [format!("+{new}"), format!("+{slot}"), format!("-{old}")]);
    wait_until("a status", PATIENCE, async || {
        let reasons = run.published.programmed("next");
        ensure!(reasons == ["Superseded", "Programmed"], "{reasons:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pool_that_a_foreign_route_names_stays_until_that_goes() -> anyhow::Result<()> {
    let run = start(&shared_etcd().await?, "/foreign-user").await?;
    run.listed(&one_route()).await?;
    run.settled().await?;
    let (slot, pool) = (run.slot(9100), run.pool("app"));
    let id = pool.rsplit('/').next().context("an id")?.to_owned();
    let foreign = "/foreign-user/stream_routes/theirs";
    run.put(foreign, &format!(r#"{{"server_port": 9555, "upstream_id": "{id}"}}"#)).await?;
    run.deleted(Kind::TcpRoute, "app").await?;
    run.until("the slot to go", |held| !held.contains_key(&slot)).await?;
    run.settled().await?;
    ensure!(run.held().await?.contains_key(&pool));
    run.delete(foreign).await?;
    run.until("the pool to go", |held| !held.contains_key(&pool)).await?;
    Ok(())
}

#[tokio::test]
async fn another_instances_document_is_left_alone_and_said_to_occupy_the_slot() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let theirs = start_at(&etcd, etcd.endpoint(), "/two", "theirs").await?;
    theirs.listed(&one_route()).await?;
    theirs.settled().await?;
    let before = theirs.held().await?;
    let ours = start(&etcd, "/two").await?;
    ours.listed(&one_route()).await?;
    ours.settled().await?;
    let held = ours.held().await?;
    for (key, value) in &before {
        assert_eq!(held.get(key), Some(value), "{key}");
    }
    assert_eq!(ours.published.programmed("app"), ["Occupied"]);
    Ok(())
}

#[tokio::test]
async fn a_foreign_route_that_takes_a_slots_connections_keeps_it_away_until_it_goes_and_not_if_it_came_later()
-> anyhow::Result<()> {
    for foreign_value in [r#"{"server_port": 9100, "remote_addr": "10.0.0.0/8"}"#, r#"{"desc": "takes everything"}"#] {
        let prefix = if foreign_value.contains("9100") { "/overlap-port" } else { "/overlap-all" };
        let (etcd, foreign) = (shared_etcd().await?, format!("{prefix}/stream_routes/theirs"));
        etcd.client().await?.put(foreign.as_str(), foreign_value, None).await?;
        let run = start(&etcd, prefix).await?;
        let slot = run.slot(9100);
        run.listed(&one_route()).await?;
        run.settled().await?;
        ensure!(!run.held().await?.contains_key(&slot));
        run.delete(&foreign).await?;
        run.until("the slot to be put", |held| held.contains_key(&slot)).await?;
        run.settled().await?;
        wait_until("the route to be programmed", PATIENCE, async || {
            let reasons = run.published.programmed("app");
            ensure!(reasons == ["Occupied", "Programmed"], "{reasons:?}");
            Ok(())
        })
        .await?;
        let before = run.held().await?[&slot].clone();
        run.put(&foreign, foreign_value).await?;
        run.changed(&endpoint("app", "10.0.0.9")).await?;
        run.settled().await?;
        assert_eq!(run.held().await?[&slot], before);
    }
    Ok(())
}

#[tokio::test]
async fn an_edited_document_is_left_under_report_until_kubernetes_changes_it() -> anyhow::Result<()> {
    let run = start(&shared_etcd().await?, "/report").await?;
    let reporting = |ip: &str| {
        let all = gateway(&[9100]) + &route("app", 9100, 1) + &endpoint("app", ip);
        all.replace("name: app, ", "name: app, annotations: {apisix-etcd.io/drift: report}, ")
    };
    run.listed(&reporting("10.0.0.1")).await?;
    run.settled().await?;
    let (good, pool) = (run.held().await?, run.pool("app"));
    let edited = good[&pool].value.replace("10.0.0.1", "10.0.0.2");
    assert_ne!(edited, good[&pool].value);
    run.put(&pool, &edited).await?;
    wait_until("the route to say so", PATIENCE, async || {
        let reasons = run.published.programmed("app");
        ensure!(reasons == ["Programmed", "Edited"], "{reasons:?}");
        Ok(())
    })
    .await?;
    assert_eq!(run.held().await?[&pool].value, edited);
    run.changed(&reporting("10.0.0.3")).await?;
    run.until("the pool to be written", |held| held[&pool].value.contains("10.0.0.3")).await?;
    Ok(())
}

#[tokio::test]
async fn a_thousand_routes_leave_in_full_transactions() -> anyhow::Result<()> {
    let ports: Vec<u16> = (20_000..21_000).collect();
    let mut yaml = String::new();
    for (number, ports) in ports.chunks(64).enumerate() {
        let objects = gateway(ports).replace("name: gateway,", &format!("name: gateway-{number},"));
        // The class once, then Gateways only.
        yaml += if number == 0 {
            &objects
        } else {
            objects.split_once("spec: {controllerName: apisix-etcd.io/gateway-controller}\n").context("a class")?.1
        };
    }
    for (number, port) in ports.iter().enumerate() {
        let name = format!("r{port}");
        yaml += &route(&name, *port, 2).replace("name: gateway,", &format!("name: gateway-{},", number / 64));
        yaml += &endpoint(&name, "10.0.0.1");
    }
    let run = start(&shared_etcd().await?, "/thousand").await?;
    run.listed(&yaml).await?;
    run.settled().await?;
    assert_eq!(run.held().await?.len(), 2_003);
    let n_applied = run.metric("transactions_total{outcome=\"applied\"}")?;
    ensure!(n_applied <= 24, "{n_applied} transactions for 2,002 documents");
    wait_until("every status", PATIENCE, async || {
        let published = run.published.0.lock().len();
        // One a route, one a Gateway, one for the class.
        ensure!(published == 1_000 + 16 + 1, "{published}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn changes_made_while_etcd_cannot_be_reached_are_written_when_it_can() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let proxy = Proxy::start(etcd.endpoint()).await?;
    let run = start_at(&etcd, &proxy.endpoint(), "/outage", "default").await?;
    run.listed(&one_route()).await?;
    run.settled().await?;
    proxy.cut();
    run.changed(&(gateway(&[9100, 9200]) + &route("late", 9200, 3) + &endpoint("app", "10.0.0.7"))).await?;
    wait_until("the new route to be called pending", PATIENCE, async || {
        let reasons = run.published.programmed("late");
        ensure!(reasons == ["Pending"], "{reasons:?}");
        Ok(())
    })
    .await?;
    let slot = run.slot(9200);
    run.delete(&run.slot(9100)).await?;
    proxy.mend();
    let (old_slot, pool) = (run.slot(9100), run.pool("app"));
    run.until("both changes and the repair", |held| {
        held.contains_key(&slot) && held.contains_key(&old_slot) && held[&pool].value.contains("10.0.0.7")
    })
    .await?;
    run.settled().await?;
    wait_until("the new route to be called programmed", PATIENCE, async || {
        let reasons = run.published.programmed("late");
        ensure!(reasons == ["Pending", "Programmed"], "{reasons:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_loop_that_is_raced_for_every_write_still_gets_there() -> anyhow::Result<()> {
    let run = start(&shared_etcd().await?, "/race").await?;
    run.listed(&one_route()).await?;
    run.settled().await?;
    let (slot, pool) = (run.slot(9100), run.pool("app"));
    let good = run.held().await?;
    for round in 0..200 {
        run.put(if round % 2 == 0 { &pool } else { &slot }, &format!("{{\"round\":{round}}}")).await?;
    }
    run.until("everything to be put right", |held| {
        held.len() == good.len()
            && good.iter().all(|(key, good)| held.get(key).is_some_and(|held| held.value == good.value))
    })
    .await?;
    run.settled().await
}

#[tokio::test]
async fn an_etcd_that_was_wiped_is_filled_again() -> anyhow::Result<()> {
    let (old, new) = (Arc::new(Etcd::start(Binary::Etcd).await?), Etcd::start(Binary::Etcd).await?);
    let proxy = Proxy::start(old.endpoint()).await?;
    let run = start_at(&old, &proxy.endpoint(), "/wiped", "default").await?;
    for number in 0..20 {
        run.put("/elsewhere", &number.to_string()).await?;
    }
    run.listed(&one_route()).await?;
    run.settled().await?;
    let before = run.held().await?;
    // A repair shows that the watch has come past the first revisions, which the new etcd will not have.
    let pool = run.pool("app");
    run.put(&pool, "{}").await?;
    run.until("the watch to have told", |held| held[&pool].value == before[&pool].value).await?;
    proxy.cut();
    let mut progress = run.progress.clone();
    tokio::time::timeout(PATIENCE, progress.wait_for(|progress| !progress.following))
        .await
        .context("to lose etcd")??;
    proxy.turn_to(new.endpoint())?;
    proxy.mend();
    wait_until("the same documents", PATIENCE, async || {
        let held = new.under("/wiped/").await?;
        let same = before.iter().all(|(key, before)| held.get(key).is_some_and(|held| held.value == before.value));
        ensure!(same && held.len() == before.len(), "{held:#?}");
        Ok(())
    })
    .await
}
