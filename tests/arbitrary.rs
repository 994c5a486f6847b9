//! Arbitrary objects beside a cluster in order: a hundred thousand, made by spoiling the objects of the golden cases.
//!
//! Whatever an object says, nothing panics, its neighbours' documents and statuses stay as they are, its own status fits
//! the CRDs and loses nothing of what others wrote there, and when it is gone nothing of it is left. What is made is
//! decided by a seed that a failure names: `SEED=17 cargo test --test arbitrary` makes that one again.
#![allow(clippy::indexing_slicing, reason = "what a JSON value does not have is null")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use anyhow::{Context as _, Result, ensure};
use apisix_etcd_controller::{
    apisix::version::ApisixVersion,
    cluster::manifests::{self, File, Manifests},
    model::{
        addresses::AddressSource,
        facts::{Change, Observed},
        names::{Kind, ObjectRef},
        places::{Plane, WorkId},
        sockets::{Inventory, StreamProxy},
        verdicts::{Standing, Verdict},
    },
    status::{
        conditions,
        merge::{Merging, Write, merge},
    },
    translate::{
        desired::{Desired, Settings, Wanted},
        planes::PlaneSettings,
    },
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Spoilt objects in all.
const OBJECTS: usize = 100_000;

const CONTROLLER: &str = "apisix-etcd.io/gateway-controller";
const NOW: &str = "2026-01-01T00:00:00Z";

/// A cluster in order. Its names and ports are in no golden case.
const NEIGHBOURS: &str = "
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: neighbours}, spec: {controllerName: apisix-etcd.io/gateway-controller}}
---
apiVersion: apisix-etcd.io/v1alpha1
kind: DataPlane
metadata: {name: neighbours, creationTimestamp: 1970-01-01T00:00:00Z}
spec: {etcdPrefix: /neighbours}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: neighbours-elsewhere}
spec:
  controllerName: apisix-etcd.io/gateway-controller
  parametersRef: {group: apisix-etcd.io, kind: DataPlane, name: neighbours}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: neighbour-elsewhere, namespace: neighbours}
spec:
  gatewayClassName: neighbours-elsewhere
  listeners: [{name: tcp, port: 64009, protocol: TCP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: neighbour, namespace: neighbours}
spec:
  gatewayClassName: neighbours
  listeners:
  - {name: tcp, port: 64001, protocol: TCP}
  - {name: udp, port: 64002, protocol: UDP}
  - {name: tls, port: 64003, protocol: TLS, hostname: neighbour.example, tls: {mode: Passthrough}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: neighbour, namespace: neighbours}
spec:
  parentRefs: [{name: neighbour, sectionName: tcp}]
  rules: [{backendRefs: [{name: neighbour, port: 8080}, {name: nobody, port: 8080}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: UDPRoute
metadata: {name: neighbour, namespace: neighbours}
spec:
  parentRefs: [{name: neighbour, sectionName: udp}]
  rules: [{backendRefs: [{name: neighbour, port: 53}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: neighbour, namespace: neighbours}
spec:
  hostnames: [neighbour.example]
  parentRefs: [{name: neighbour, sectionName: tls}]
  rules: [{backendRefs: [{name: neighbour, port: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: neighbour, namespace: neighbours}
spec: {ports: [{port: 8080, name: tcp}, {port: 53, name: udp, protocol: UDP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: neighbour-1, namespace: neighbours, labels: {kubernetes.io/service-name: neighbour}}
addressType: IPv4
ports: [{name: tcp, port: 80}, {name: udp, port: 53, protocol: UDP}]
endpoints: [{addresses: [10.9.0.1]}]
";

#[test]
fn arbitrary_objects_harm_nobody() -> Result<()> {
    let corpus = corpus()?;
    if let Ok(seed) = std::env::var("SEED") {
        let mut world = World::new()?;
        return world.endure(&corpus, seed.parse()?, &mut Tally::default());
    }
    let mut tally = Tally::default();
    let mut world = World::new()?;
    for seed in 0.. {
        if tally.spoilt >= OBJECTS {
            break;
        }
        world.endure(&corpus, seed, &mut tally).with_context(|| format!("SEED={seed}"))?;
    }
    // Spoiling that nobody can read, or that nothing comes of, would show nothing.
    let Tally { spoilt, files_refused, unreadable, documents, statuses } = tally;
    println!(
        "{spoilt} objects spoilt: {files_refused} manifests refused, {unreadable} objects unreadable, {documents} documents, {statuses} statuses"
    );
    for (what, count) in [
        ("manifests refused", files_refused),
        ("unreadable", unreadable),
        ("documents", documents),
        ("statuses", statuses),
    ] {
        ensure!(count * 100 > spoilt, "{what} came up {count} times only");
    }
    Ok(())
}

/// What was met.
#[derive(Default)]
struct Tally {
    spoilt: usize,
    files_refused: usize,
    unreadable: usize,
    documents: usize,
    statuses: usize,
}

/// The golden cases, each as its objects.
fn corpus() -> Result<Vec<Vec<Value>>> {
    let mut paths = BTreeSet::new();
    for area in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"))? {
        for file in fs::read_dir(area?.path())? {
            paths.insert(file?.path());
        }
    }
    let mut cases = Vec::new();
    for path in paths.into_iter().filter(|path| path.to_string_lossy().ends_with(".in.yaml")) {
        let text = fs::read_to_string(&path)?;
        let mut objects = Vec::new();
        for document in text.split("\n---\n") {
            // What is no YAML is spoilt enough where it is.
            let Ok(object) = serde_yaml_ng::from_str::<Value>(document) else { continue };
            if object.is_object() {
                objects.push(object);
            }
        }
        cases.push(objects);
    }
    ensure!(cases.len() > 100, "{} golden cases", cases.len());
    Ok(cases)
}

struct World {
    desired: Desired,
    neighbours: Said,
    objects: BTreeSet<ObjectRef>,
}

/// Everything translation says.
#[derive(Debug, PartialEq)]
struct Said {
    documents: BTreeMap<WorkId, Wanted>,
    verdicts: BTreeMap<ObjectRef, Option<Verdict>>,
}

impl Said {
    fn of(desired: &Desired) -> Self {
        Self {
            documents: desired.documents().into_iter().map(|id| (id.clone(), desired.wanted(&id))).collect(),
            verdicts: desired.verdicts().into_iter().map(|object| (object.clone(), desired.verdict(&object))).collect(),
        }
    }
}

impl World {
    fn new() -> Result<Self> {
        let mut desired = Desired::new(Settings {
            controller_name: CONTROLLER.into(),
            instance: "default".into(),
            plane: PlaneSettings {
                stream: StreamProxy { sockets: Inventory::Unknown, traffic_split: None },
                addresses: AddressSource::Nobody,
                ..PlaneSettings::new(Plane::default(), "3.19.0".parse::<ApisixVersion>()?)
            }
            .into(),
        });
        desired.set_served(manifests::served());
        let file = File { path: "neighbours.yaml".into(), text: NEIGHBOURS.into() };
        let manifests = Manifests::of(&[file], CONTROLLER).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
        let changes = changes(&manifests);
        let objects = changes.iter().map(|change| ObjectRef::new(change.kind, change.name.clone())).collect();
        desired.apply(changes);
        let neighbours = Said::of(&desired);
        let served = |wanted: &&Wanted| matches!(wanted, Wanted::Document(_));
        ensure!(neighbours.documents.values().filter(served).count() >= 6, "the neighbours are served: {neighbours:?}");
        Ok(Self { desired, neighbours, objects })
    }

    /// Takes in a spoilt golden case beside the neighbours, and takes it back out.
    fn endure(&mut self, corpus: &[Vec<Value>], seed: u64, tally: &mut Tally) -> Result<()> {
        let mut random = fastrand::Rng::with_seed(seed);
        let objects = spoilt_case(corpus, &mut random, tally);
        let mut came = BTreeMap::new();
        for object in &objects {
            let file = File { path: "spoilt.json".into(), text: object.to_string() };
            match Manifests::of(&[file], CONTROLLER) {
                Ok(manifests) => {
                    for change in changes(&manifests) {
                        let name = ObjectRef::new(change.kind, change.name.clone());
                        if self.objects.contains(&name) {
                            continue;
                        }
                        tally.unreadable += usize::from(matches!(change.observed, Some(Observed::Unreadable { .. })));
                        self.desired.apply([change]);
                        came.insert(name, object);
                    }
                }
                Err(errors) => {
                    tally.files_refused += 1;
                    ensure!(errors.iter().all(|error| !error.reason.is_empty()), "{errors:?}");
                }
            }
        }
        self.neighbours_stand(&objects)?;
        let theirs = self.desired.documents().len() - self.neighbours.documents.len();
        tally.documents += theirs;
        for (name, object) in &came {
            if let Some(verdict) = self.desired.verdict(name) {
                tally.statuses += 1;
                status_is_good(name, &verdict, object, &mut random).with_context(|| object.to_string())?;
            }
        }
        let gone =
            came.keys().map(|ObjectRef { kind, name }| Change { kind: *kind, name: name.clone(), observed: None });
        self.desired.apply(gone.collect::<Vec<_>>());
        ensure!(Said::of(&self.desired) == self.neighbours, "something is left of {objects:#?}");
        Ok(())
    }

    fn neighbours_stand(&self, objects: &[Value]) -> Result<()> {
        for (id, wanted) in &self.neighbours.documents {
            ensure!(self.desired.wanted(id) == *wanted, "document {id} is another beside {objects:#?}");
        }
        for (object, verdict) in &self.neighbours.verdicts {
            ensure!(self.desired.verdict(object) == *verdict, "{object} has another verdict beside {objects:#?}");
        }
        Ok(())
    }
}

fn changes(manifests: &Manifests) -> Vec<Change> {
    let objects = manifests.objects.iter().flat_map(|(kind, listed)| listed.iter().map(|listed| (*kind, listed)));
    objects
        .map(|(kind, listed)| Change { kind, name: listed.name.clone(), observed: Some(listed.observed.clone()) })
        .collect()
}

/// The objects of a golden case, most of them spoilt.
fn spoilt_case(corpus: &[Vec<Value>], random: &mut fastrand::Rng, tally: &mut Tally) -> Vec<Value> {
    let mut objects = corpus[random.usize(..corpus.len())].clone();
    for object in &mut objects {
        let n_faults = random.usize(0..4);
        let whole = object.clone();
        for _ in 0..n_faults {
            let donors = &corpus[random.usize(..corpus.len())];
            spoil(object, donors, random);
        }
        // A manifest that names no object is a thing of files alone; the API server takes none.
        if random.u32(0..8) > 0 {
            name_again(object, &whole);
        }
        tally.spoilt += usize::from(n_faults > 0);
    }
    objects
}

fn name_again(object: &mut Value, whole: &Value) {
    if !object.is_object() {
        *object = json!({});
    }
    for field in ["apiVersion", "kind"] {
        object[field] = whole[field].clone();
    }
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    for field in ["name", "namespace"] {
        if let Some(value) = whole["metadata"].get(field) {
            object["metadata"][field] = value.clone();
        }
    }
}

/// Changes one thing somewhere in an object; deep down more often than not, as what is wrong with the whole is soon seen.
fn spoil(at: &mut Value, donors: &[Value], random: &mut fastrand::Rng) {
    if random.u32(0..8) == 0 {
        return fault(at, donors, random);
    }
    match at {
        Value::Object(fields) if !fields.is_empty() => {
            let n = random.usize(..fields.len());
            spoil(fields.values_mut().nth(n).unwrap(), donors, random);
        }
        Value::Array(items) if !items.is_empty() => {
            let n = random.usize(..items.len());
            spoil(&mut items[n], donors, random);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            fault(at, donors, random);
        }
    }
}

fn fault(at: &mut Value, donors: &[Value], random: &mut fastrand::Rng) {
    match (random.u32(0..6), &mut *at) {
        (0, Value::Object(fields)) if !fields.is_empty() => {
            let n = random.usize(..fields.len());
            let name = fields.keys().nth(n).unwrap().clone();
            fields.remove(&name);
        }
        (1, Value::Object(fields)) => {
            let name = fields.keys().next().cloned().unwrap_or_else(|| "spec".into());
            fields.insert(name.to_uppercase(), strange(random));
        }
        (0, Value::Array(items)) if !items.is_empty() => {
            let n = random.usize(..items.len());
            items.remove(n);
        }
        (1 | 2, Value::Array(items)) if !items.is_empty() => {
            let item = items[random.usize(..items.len())].clone();
            items.extend(std::iter::repeat_n(item, random.usize(1..40)));
        }
        // A part of something else.
        (3, _) if !donors.is_empty() => {
            let mut part = &donors[random.usize(..donors.len())];
            for _ in 0..random.usize(1..5) {
                let inside: Vec<&Value> = match part {
                    Value::Object(fields) => fields.values().collect(),
                    Value::Array(items) => items.iter().collect(),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => break,
                };
                let Some(deeper) = random.choice(inside) else { break };
                part = deeper;
            }
            *at = part.clone();
        }
        _ => *at = strange(random),
    }
}

/// A value that few expect.
fn strange(random: &mut fastrand::Rng) -> Value {
    let long = || "x".repeat(70_000);
    match random.u32(0..30) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(0),
        3 => json!(-1),
        4 => json!(65_535),
        5 => json!(65_536),
        6 => json!(i64::MAX),
        7 => json!(u64::MAX),
        8 => json!(1e300),
        9 => json!(0.5),
        10 => json!(""),
        11 => json!(" "),
        12 => json!("\u{0}\n\u{202e}\u{1f980}"),
        13 => json!("*"),
        14 => json!("*."),
        15 => json!("*.*.example"),
        16 => json!("UPPER.Example."),
        17 => json!("10.0.0.999"),
        18 => json!("::ffff:10.0.0.1"),
        19 => json!("../../etc"),
        20 => json!(long()),
        21 => json!([]),
        22 => json!({}),
        23 => json!([null]),
        24 => json!([[]]),
        25 => json!({"": {}}),
        26 => json!("9100"),
        27 => json!(1_000_001),
        28 => json!("2999-01-01T00:00:00Z"),
        _ => json!(random.i64(..)),
    }
}

/// That what is said of an object fits its CRD, and that what others said there stays.
fn status_is_good(name: &ObjectRef, verdict: &Verdict, object: &Value, random: &mut fastrand::Rng) -> Result<()> {
    let standing = |_: &WorkId| match verdict {
        Verdict::Route(_) => Standing::Programmed,
        Verdict::DataPlane(_)
        | Verdict::GatewayClass(_)
        | Verdict::Gateway(_)
        | Verdict::ListenerSet(_)
        | Verdict::Policy(_) => Standing::Pending,
    };
    let wanted = conditions::render(name, verdict, CONTROLLER, &standing);
    for condition in conditions_of(&wanted) {
        let text = |field: &str| condition[field].as_str().unwrap_or_default().chars().count();
        ensure!(text("message") <= 32_768 && (1..=1024).contains(&text("reason")), "{condition}");
    }
    let mut current = random.choice([&wanted, &object["status"], &Value::Null]).unwrap().clone();
    for _ in 0..random.usize(0..3) {
        spoil(&mut current, &[], random);
    }
    others_write(name.kind, &mut current, random);
    let merging = |current| Merging {
        kind: name.kind,
        generation: None,
        current,
        wanted: &wanted,
        controller_name: CONTROLLER,
        frozen_parents: &[],
        now: NOW,
    };
    let merged = merge(&merging(&current));
    let Write::Patch(patch) = &merged.write else { return Ok(()) };
    let mut next = current.clone();
    if !next.is_object() {
        next = json!({});
    }
    for (field, value) in patch.as_object().context("a patch is an object")? {
        next[field] = value.clone();
    }
    ensure!(foreign(&next) == foreign(&current), "of what others wrote in {current} only this is left: {next}");
    if merged.unplaced == 0 {
        let again = merge(&merging(&next)).write;
        ensure!(matches!(again, Write::Unchanged | Write::Stale), "after {next} there is still to write: {again:?}");
    }
    Ok(())
}

fn conditions_of(status: &Value) -> impl Iterator<Item = &Value> {
    let below =
        ["listeners", "parents", "ancestors"].into_iter().filter_map(|field| status[field].as_array()).flatten();
    [status].into_iter().chain(below).filter_map(|entry| entry["conditions"].as_array()).flatten()
}

/// Entries and conditions of other controllers, where the CRDs have room for them.
fn others_write(kind: Kind, status: &mut Value, random: &mut fastrand::Rng) {
    let (field, entry) = if Kind::ROUTES.contains(&kind) {
        let conditions = json!([{"type": "Accepted", "status": "True"}]);
        (
            "parents",
            json!({"controllerName": "example.com/other", "parentRef": {"name": "gw"}, "conditions": conditions}),
        )
    } else if kind == Kind::BackendTlsPolicy {
        let conditions = json!([{"type": "Accepted", "status": "True"}]);
        (
            "ancestors",
            json!({"controllerName": "example.com/other", "ancestorRef": {"name": "gw"}, "conditions": conditions}),
        )
    } else {
        ("conditions", json!({"type": "example.com/Theirs", "status": "True"}))
    };
    if !status.is_object() {
        *status = json!({});
    }
    if !status[field].is_array() {
        status[field] = json!([]);
    }
    let Some(items) = status[field].as_array_mut() else { return };
    for _ in 0..*random.choice([0, 1, 2, 31, 32].iter()).unwrap() {
        let at = random.usize(..=items.len());
        items.insert(at, entry.clone());
    }
}

/// What others wrote, in its order.
fn foreign(status: &Value) -> Vec<&Value> {
    let of = |field: &str, theirs: fn(&&Value) -> bool| -> Vec<&Value> {
        status[field].as_array().into_iter().flatten().filter(theirs).collect()
    };
    let mut all = of("parents", |entry| entry["controllerName"] == "example.com/other");
    all.extend(of("ancestors", |entry| entry["controllerName"] == "example.com/other"));
    all.extend(of("conditions", |condition| condition["type"] == "example.com/Theirs"));
    all
}
