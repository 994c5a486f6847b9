//! A small cluster: objects that change by chance, and what each replica is told of them, when.

use super::{CONTROLLER, dice::Dice};
use apisix_etcd_controller::{
    clock,
    cluster::{
        ClusterEvent, ListedObject, Relist,
        manifests::{self, File, Manifests},
    },
    model::{
        facts::{Change, Observed},
        names::{Kind, ObjectName, ObjectRef},
        versions::CacheVersion,
    },
    status::print::StatusPrint,
};
use parking_lot::Mutex;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

/// The cluster. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Cluster {
    state: Arc<Mutex<State>>,
    /// Rung at every change.
    bell: Arc<watch::Sender<u64>>,
}

/// Everything a backup holds.
#[derive(Clone)]
pub(crate) struct State {
    uid: String,
    version: u64,
    /// How often it was restored.
    epoch: u64,
    objects: BTreeMap<ObjectRef, Observed>,
    statuses: BTreeMap<ObjectRef, Value>,
    /// What changed, by version.
    log: BTreeMap<u64, ObjectRef>,
    not_served: BTreeSet<Kind>,
}

/// What there can be: each thing in some variants, one of which it is, or it is absent.
const THINGS: &[&str] = &[
    "class", "g1", "g2", "r1", "r2", "r3", "r4", "r5", "r6", "s1", "s2", "s3", "e1", "e2", "e3", "grant", "default",
    "other",
];

fn meta(name: &str, namespace: &str, day: u64) -> String {
    format!("metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '2026-01-{day:02}T00:00:00Z'}}")
}

/// One variant of a thing.
fn yaml(thing: &str, dice: &Dice) -> String {
    let number: u64 = thing.chars().last().and_then(|c| c.to_digit(10)).map_or(0, u64::from);
    let (gateway_api, kind) = ("apiVersion: gateway.networking.k8s.io/v1", thing.chars().next().unwrap_or_default());
    match (thing, kind) {
        ("class", _) => {
            let controller = if dice.chance(10) { "example.com/other" } else { CONTROLLER };
            format!(
                "{gateway_api}\nkind: GatewayClass\nmetadata: {{name: apisix}}\nspec: {{controllerName: {controller}}}\n"
            )
        }
        ("grant", _) => format!(
            "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\n{}\nspec:\n  from: [{{group: \
             gateway.networking.k8s.io, kind: TCPRoute, namespace: default}}]\n  to: [{{group: '', kind: Service}}]\n",
            meta("grant", "other", 1)
        ),
        ("default" | "other", _) => format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {thing}}}\n"),
        (_, 'g') => {
            let mut text = format!(
                "{gateway_api}\nkind: Gateway\n{}\nspec:\n  gatewayClassName: apisix\n  listeners:\n",
                meta(thing, "default", number)
            );
            let first = dice.number(0..=1);
            for port in (9100 + first)..=(9101 + first + number) {
                let _ = writeln!(text, "  - {{name: p{port}, port: {port}, protocol: TCP}}");
            }
            text
        }
        (_, 'r') => {
            let mut text = format!("{gateway_api}\nkind: TCPRoute\n{}\n", meta(thing, "default", number));
            if dice.chance(20) {
                text = text.replace("metadata: {", "metadata: {annotations: {apisix-etcd.io/drift: report}, ");
            }
            text += "spec:\n  parentRefs:\n";
            for _ in 0..dice.number(1..=2) {
                let (gateway, port) = (dice.number(1..=2), dice.number(9100..=9103));
                let _ = writeln!(text, "  - {{name: g{gateway}, sectionName: p{port}}}");
            }
            text += "  rules:\n  - backendRefs:\n";
            for _ in 0..dice.number(1..=2) {
                let service = dice.number(1..=3);
                let namespace = if service == 3 { ", namespace: other" } else { "" };
                let _ =
                    writeln!(text, "    - {{name: s{service}{namespace}, port: 80, weight: {}}}", dice.number(0..=3));
            }
            text
        }
        (_, 's') => format!(
            "apiVersion: v1\nkind: Service\n{}\nspec: {{ports: [{{port: 80, protocol: TCP}}]}}\n",
            meta(thing, if number == 3 { "other" } else { "default" }, 1)
        ),
        (_, _) => {
            let namespace = if number == 3 { "other" } else { "default" };
            let endpoints: Vec<String> = (0..dice.number(0..=2))
                .map(|_| format!("{{addresses: [10.0.{number}.{}]}}", dice.number(1..=9)))
                .collect();
            format!(
                "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {thing}, namespace: {namespace}, \
                 labels: {{kubernetes.io/service-name: s{number}}}}}\naddressType: IPv4\nports: [{{name: '', port: 8080, \
                 protocol: TCP}}]\nendpoints: [{}]\n",
                endpoints.join(", ")
            )
        }
    }
}

/// Reads one object. Its namespace is told besides, and is not what is asked for.
fn read(text: &str) -> Option<(ObjectRef, Observed)> {
    let file = File { path: "object.yaml".into(), text: text.to_owned() };
    let manifests = Manifests::of(&[file], CONTROLLER).ok()?;
    let asked = |kind: &Kind| *kind != Kind::Namespace || text.contains("kind: Namespace");
    manifests.objects.into_iter().filter(|(kind, _)| asked(kind)).find_map(|(kind, objects)| {
        let object = objects.into_iter().next()?;
        Some((ObjectRef::new(kind, object.name), object.observed))
    })
}

impl Cluster {
    pub(crate) fn new(dice: &Dice) -> Self {
        let state = State {
            uid: "cluster".to_owned(),
            version: 1,
            epoch: 0,
            objects: BTreeMap::new(),
            statuses: BTreeMap::new(),
            log: BTreeMap::new(),
            not_served: BTreeSet::new(),
        };
        let cluster = Self { state: Arc::new(Mutex::new(state)), bell: Arc::new(watch::Sender::new(0)) };
        for thing in THINGS {
            if dice.chance(85) {
                cluster.put(thing, dice);
            }
        }
        cluster
    }

    fn ring(&self) {
        self.bell.send_modify(|n| *n += 1);
    }

    /// One thing changes, comes or goes. Says what happened.
    pub(crate) fn mutate(&self, dice: &Dice) -> String {
        // What changes often in life changes often here.
        let things = if dice.chance(60) { &THINGS[3..15] } else { THINGS };
        let thing = dice.pick(things).copied().unwrap_or("r1");
        if dice.chance(25) { self.remove(thing, dice) } else { self.put(thing, dice) }
    }

    fn put(&self, thing: &str, dice: &Dice) -> String {
        let text = yaml(thing, dice);
        let Some((object, observed)) = read(&text) else { panic!("cannot read {text}") };
        let mut state = self.state.lock();
        if state.objects.get(&object) != Some(&observed) {
            state.version += 1;
            let version = state.version;
            state.objects.insert(object.clone(), observed);
            state.log.insert(version, object.clone());
        }
        drop(state);
        self.ring();
        format!("put {object}")
    }

    /// An object that cannot be read any more, by chance.
    pub(crate) fn garble(&self, dice: &Dice) -> Option<ObjectRef> {
        let mut state = self.state.lock();
        let object = dice.pick(&state.objects.keys().cloned().collect::<Vec<_>>()).cloned()?;
        state.objects.insert(object.clone(), Observed::Unreadable { error: "garbled".into() });
        state.version += 1;
        let version = state.version;
        state.log.insert(version, object.clone());
        drop(state);
        self.ring();
        Some(object)
    }

    /// Everything can be read again: what could not is written anew.
    pub(crate) fn ungarble(&self, dice: &Dice) {
        let garbled = |observed: &Observed| matches!(observed, Observed::Unreadable { .. });
        for thing in THINGS {
            let Some((object, _)) = read(&yaml(thing, dice)) else { panic!("cannot read {thing}") };
            let unreadable = self.state.lock().objects.get(&object).is_some_and(garbled);
            if unreadable {
                self.put(thing, dice);
            }
        }
    }

    fn remove(&self, thing: &str, dice: &Dice) -> String {
        let Some((object, _)) = read(&yaml(thing, dice)) else { panic!("cannot read {thing}") };
        let mut state = self.state.lock();
        if state.objects.remove(&object).is_some() {
            state.statuses.remove(&object);
            state.version += 1;
            let version = state.version;
            state.log.insert(version, object.clone());
        }
        drop(state);
        self.ring();
        format!("removed {object}")
    }

    /// The status writer of a replica wrote this, or somebody spoiled it.
    pub(crate) fn set_status(&self, object: &ObjectRef, status: Option<Value>) {
        let mut state = self.state.lock();
        if !state.objects.contains_key(object) || state.statuses.get(object) == status.as_ref() {
            return;
        }
        match status {
            Some(status) => drop(state.statuses.insert(object.clone(), status)),
            None => drop(state.statuses.remove(object)),
        }
        state.version += 1;
        let version = state.version;
        state.log.insert(version, object.clone());
        drop(state);
        self.ring();
    }

    /// An object that has a status, by chance.
    pub(crate) fn some_status(&self, dice: &Dice) -> Option<ObjectRef> {
        dice.pick(&self.state.lock().statuses.keys().cloned().collect::<Vec<_>>()).cloned()
    }

    pub(crate) fn image(&self) -> State {
        self.state.lock().clone()
    }

    /// The cluster goes back to what it was.
    pub(crate) fn restore(&self, image: State) {
        let mut state = self.state.lock();
        let epoch = state.epoch + 1;
        *state = State { epoch, ..image };
        drop(state);
        self.ring();
    }

    /// From the next start of a replica on, a kind is served or not.
    pub(crate) fn serve(&self, kind: Kind, served: bool) {
        let mut state = self.state.lock();
        if served {
            state.not_served.remove(&kind)
        } else {
            state.not_served.insert(kind)
        };
        drop(state);
        self.ring();
    }

    /// Everything there is.
    pub(crate) fn objects(&self) -> BTreeMap<Kind, Vec<(ObjectName, Observed)>> {
        let state = self.state.lock();
        let mut objects: BTreeMap<Kind, Vec<_>> = Kind::ALL.into_iter().map(|kind| (kind, Vec::new())).collect();
        for (object, observed) in &state.objects {
            objects.entry(object.kind).or_default().push((object.name.clone(), observed.clone()));
        }
        objects
    }

    pub(crate) fn status(&self, object: &ObjectRef) -> Option<Value> {
        self.state.lock().statuses.get(object).cloned()
    }

    fn print(state: &State, object: &ObjectRef) -> StatusPrint {
        let status = state.statuses.get(object);
        status.map_or_else(StatusPrint::default, |status| StatusPrint::of(object.kind, status, CONTROLLER))
    }

    fn list(&self, kind: Kind) -> (Vec<ListedObject>, u64, u64) {
        let state = self.state.lock();
        let of_kind = state.objects.iter().filter(|(object, _)| object.kind == kind);
        let objects = of_kind.map(|(object, observed)| ListedObject {
            name: object.name.clone(),
            observed: observed.clone(),
            status: Self::print(&state, object),
        });
        (objects.collect(), state.version, state.epoch)
    }

    /// Tells a replica of everything, as its watches would: each kind by itself, in order, late by chance, sometimes with a
    /// list instead of changes.
    pub(crate) async fn feed(
        self,
        events: mpsc::Sender<ClusterEvent>,
        mut relists: mpsc::UnboundedReceiver<Relist>,
        lag: watch::Receiver<u64>,
        dice: Dice,
    ) {
        let _ = self.feed_until_unheard(&events, &mut relists, lag, &dice).await;
        // The replica ends by being dropped; until then somebody must hold its input open.
        std::future::pending::<()>().await;
    }

    async fn feed_until_unheard(
        &self,
        events: &mpsc::Sender<ClusterEvent>,
        relists: &mut mpsc::UnboundedReceiver<Relist>,
        lag: watch::Receiver<u64>,
        dice: &Dice,
    ) -> Result<(), mpsc::error::SendError<ClusterEvent>> {
        let uid = self.state.lock().uid.clone();
        events.send(ClusterEvent::Identity(uid.into())).await?;
        events.send(ClusterEvent::Served(manifests::served())).await?;
        let mut bell = self.bell.subscribe();
        let mut tickets: BTreeMap<Kind, u64> = BTreeMap::new();
        let mut told: BTreeMap<Kind, (u64, u64)> = BTreeMap::new();
        let mut waiting: BTreeSet<Kind> = BTreeSet::new();
        loop {
            bell.borrow_and_update();
            let mut kinds = Kind::ALL.to_vec();
            while !kinds.is_empty() {
                let kind = kinds.swap_remove(dice.index(kinds.len()));
                let lag = *lag.borrow();
                sleep(dice.time(0..=lag)).await;
                while let Ok(Relist { kind, ticket }) = relists.try_recv() {
                    tickets.insert(kind, ticket);
                    told.remove(&kind);
                }
                let (served, epoch) = {
                    let state = self.state.lock();
                    (!state.not_served.contains(&kind), state.epoch)
                };
                let known = told.get(&kind).copied().filter(|(_, of)| *of == epoch);
                match known {
                    // What is not served any more tells nothing.
                    Some(_) if !served => {}
                    Some((version, _)) if !dice.chance(3) => {
                        let reached = self.tell_changes(kind, version, events).await?;
                        told.insert(kind, (reached, epoch));
                    }
                    Some(_) | None if served => {
                        let (objects, version, epoch) = self.list(kind);
                        told.insert(kind, (version, epoch));
                        let ticket = tickets.get(&kind).copied().unwrap_or_default();
                        let version = Some(CacheVersion(version));
                        events.send(ClusterEvent::Listed { kind, objects, version, ticket, at: clock::now() }).await?;
                    }
                    Some(_) | None => {
                        if waiting.insert(kind) {
                            events.send(ClusterEvent::NotServed(kind)).await?;
                        }
                    }
                }
            }
            tokio::select! {
                biased;
                relist = relists.recv() => {
                    if let Some(Relist { kind, ticket }) = relist {
                        tickets.insert(kind, ticket);
                        told.remove(&kind);
                    }
                }
                _ = bell.changed() => {}
            }
        }
    }

    async fn tell_changes(
        &self,
        kind: Kind,
        from: u64,
        events: &mpsc::Sender<ClusterEvent>,
    ) -> Result<u64, mpsc::error::SendError<ClusterEvent>> {
        let (changes, reached) = {
            let state = self.state.lock();
            let log = state.log.range(from + 1..).filter(|(_, object)| object.kind == kind);
            let changes: Vec<ClusterEvent> = log
                .map(|(version, object)| ClusterEvent::Changed {
                    change: Change { kind, name: object.name.clone(), observed: state.objects.get(object).cloned() },
                    status: Self::print(&state, object),
                    version: Some(CacheVersion(*version)),
                    at: clock::now(),
                })
                .collect();
            (changes, state.version)
        };
        for change in changes {
            events.send(change).await?;
        }
        events.send(ClusterEvent::Reached { kind, version: CacheVersion(reached) }).await?;
        Ok(reached)
    }
}
