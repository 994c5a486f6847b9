//! A small cluster: objects that change by chance, and what each replica is told of them, when.

use super::{
    CONTROLLER,
    dice::Dice,
    things::{THINGS, draw, name},
};
use apisix_etcd_controller::{
    clock,
    cluster::{ClusterEvent, ListedObject, Relist, manifests},
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
    /// GatewayClasses that carry the finalizer of one in use.
    finalized: BTreeSet<ObjectRef>,
    /// What changed, by version.
    log: BTreeMap<u64, ObjectRef>,
    not_served: BTreeSet<Kind>,
}

impl Cluster {
    pub(crate) fn new(dice: &Dice) -> Self {
        let state = State {
            uid: "cluster".to_owned(),
            version: 1,
            epoch: 0,
            objects: BTreeMap::new(),
            statuses: BTreeMap::new(),
            finalized: BTreeSet::new(),
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
        let often = THINGS.get(3..15).unwrap_or(THINGS);
        let things = if dice.chance(60) { often } else { THINGS };
        let thing = dice.pick(things).copied().unwrap_or("r1");
        if dice.chance(25) { self.delete(&name(thing)) } else { self.put(thing, dice) }
    }

    fn put(&self, thing: &str, dice: &Dice) -> String {
        let (object, observed) = draw(thing, dice);
        self.set(&object, observed);
        format!("put {object}")
    }

    fn set(&self, object: &ObjectRef, observed: Observed) {
        let mut state = self.state.lock();
        if state.objects.get(object) != Some(&observed) {
            state.version += 1;
            let version = state.version;
            state.objects.insert(object.clone(), observed);
            state.log.insert(version, object.clone());
        }
        drop(state);
        self.ring();
    }

    /// An object goes, by chance; to be put back with [`Cluster::put_back`].
    pub(crate) fn take(&self, dice: &Dice) -> Option<(ObjectRef, Observed)> {
        let all: Vec<_> = self.state.lock().objects.iter().map(|(object, it)| (object.clone(), it.clone())).collect();
        let (object, observed) = dice.pick(&all).cloned()?;
        self.delete(&object);
        Some((object, observed))
    }

    pub(crate) fn put_back(&self, object: &ObjectRef, observed: Observed) {
        self.set(object, observed);
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
            let unreadable = self.state.lock().objects.get(&name(thing)).is_some_and(garbled);
            if unreadable {
                self.put(thing, dice);
            }
        }
    }

    /// An object goes. Says what happened.
    pub(crate) fn delete(&self, object: &ObjectRef) -> String {
        let mut state = self.state.lock();
        if state.objects.remove(object).is_some() {
            state.statuses.remove(object);
            state.finalized.remove(object);
            state.version += 1;
            let version = state.version;
            state.log.insert(version, object.clone());
        }
        drop(state);
        self.ring();
        format!("removed {object}")
    }

    /// The status writer of a replica put a finalizer on an object, or took it away.
    pub(crate) fn set_finalizer(&self, object: &ObjectRef, carried: bool) {
        let mut state = self.state.lock();
        if !state.objects.contains_key(object) || state.finalized.contains(object) == carried {
            return;
        }
        if carried {
            state.finalized.insert(object.clone());
        } else {
            state.finalized.remove(object);
        }
        state.version += 1;
        let version = state.version;
        state.log.insert(version, object.clone());
        drop(state);
        self.ring();
    }

    pub(crate) fn carries_finalizer(&self, object: &ObjectRef) -> bool {
        self.state.lock().finalized.contains(object)
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
        let print = status.map_or_else(StatusPrint::default, |status| StatusPrint::of(object.kind, status, CONTROLLER));
        print.with_finalizer(state.finalized.contains(object))
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
        mut lag: watch::Receiver<u64>,
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
                let time = dice.time(0..=*lag.borrow_and_update());
                // What is on its way comes as soon as the news are fast again.
                tokio::select! {
                    biased;
                    Ok(()) = lag.changed() => {}
                    () = sleep(time) => {}
                }
                while let Ok(Relist { kind: asked, ticket }) = relists.try_recv() {
                    tickets.insert(asked, ticket);
                    told.remove(&asked);
                    // It may have had its turn already, and nothing may ever ring again.
                    if asked != kind && !kinds.contains(&asked) {
                        kinds.push(asked);
                    }
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
