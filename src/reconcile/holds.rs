//! The mass hold: what one cause would stop all at once is held back for a while. Pure.
//!
//! A cause comes in with the documents it affects, and a look at what etcd holds and what is wanted. Where it would stop
//! more than half of our slots of the data plane, and more than [`STOPS_ALLOWED`], those slots and the pools they name in
//! etcd stay as they are, and the certificates they need there stay, until they are wanted again, released by name, or the hold time is over. Everything else goes on.
//!
//! What is held is known to this leader only: the next one considers what it finds when its term starts. It writes nothing,
//! and decides nothing about slots that are not in etcd.

use crate::{
    apisix::stored::Inspected,
    model::{
        names::{Kind, ObjectRef},
        places::{Directory, WorkId},
    },
    translate::desired::reach::Serves,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

/// One cause may stop this many slots without a question, whatever part of them all that is.
pub const STOPS_ALLOWED: usize = 100;

/// What makes slots stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// What came of one object.
    Object(ObjectRef),
    /// What differs between a complete list of a kind and what was known.
    List(Kind),
    /// What a leader finds different when its term starts: a wrong setting must not empty a data plane.
    Start,
}

/// The name a hold is released by: `gateway/default/edge`, `list/tcproutes.gateway.networking.k8s.io`, `start`.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(ObjectRef { kind, name }) => write!(f, "{}/{name}", kind.as_str().to_lowercase()),
            Self::List(kind) if kind.group().is_empty() => write!(f, "list/{}", kind.plural()),
            Self::List(kind) => write!(f, "list/{}.{}", kind.plural(), kind.group()),
            Self::Start => f.write_str("start"),
        }
    }
}

/// What a cause is considered over: one data plane, after the cause was worked out and before anything of it is written.
pub trait HoldScene {
    /// How many slots of ours etcd holds.
    fn n_stored(&self) -> usize;
    /// What etcd holds of a slot, if it is ours.
    fn stored(&self, slot: &WorkId) -> Option<&Inspected>;
    /// The slots of ours that name a pool in etcd, or need a certificate.
    fn stored_slots(&self, id: &WorkId) -> Vec<WorkId>;
    /// The slots that are to name a pool, or need a certificate.
    fn wanted_slots(&self, id: &WorkId) -> Vec<WorkId>;
    /// The slots that the route of a pool is to have, on whatever data plane.
    fn slots_of_route(&self, pool: &WorkId) -> Vec<WorkId>;
    /// What a slot is wanted to do, whatever is held.
    fn serves(&self, slot: &WorkId) -> Serves;
    /// Whether nothing would be written for a slot and its pool: etcd holds both as they are wanted.
    fn as_wanted(&self, slot: &WorkId) -> bool;
}

/// What considering a cause came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Considered {
    /// What is held from now on, if anything.
    pub hold: Option<Hold>,
    /// What is not held any more, because it is wanted again: to be looked at anew.
    pub let_go: BTreeSet<WorkId>,
}

/// A hold has begun, or has grown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// What it is released by.
    pub name: Arc<str>,
    /// How many slots this cause would have stopped.
    pub n_slots: usize,
    /// How many slots of ours etcd holds.
    pub n_stored: usize,
    /// When it is over.
    pub until: Instant,
}

/// A hold as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What it is released by.
    pub name: Arc<str>,
    /// How many slots it holds.
    pub n_slots: usize,
    /// When it began.
    pub since: Instant,
    /// When it is over.
    pub until: Instant,
}

/// Everything that is held back. A slot is in one hold at most: in the first that held it.
#[derive(Debug)]
pub struct Holds {
    time: Duration,
    by_name: BTreeMap<Arc<str>, Standing>,
    slots: HashMap<WorkId, HeldSlot>,
    /// Pools and certificates that held slots need in etcd, with those slots.
    needed: HashMap<WorkId, BTreeSet<WorkId>>,
}

#[derive(Debug)]
struct Standing {
    since: Instant,
    until: Instant,
    slots: BTreeSet<WorkId>,
}

#[derive(Debug)]
struct HeldSlot {
    hold: Arc<str>,
    needs: Vec<WorkId>,
}

impl Holds {
    /// Nothing held yet. Each hold lasts `time`; with none, nothing is ever held.
    #[must_use]
    pub fn new(time: Duration) -> Self {
        Self { time, by_name: BTreeMap::new(), slots: HashMap::new(), needed: HashMap::new() }
    }

    /// Takes in what one cause affects, and holds what it would stop if that is too much. What it wants again is let go.
    ///
    /// Costs what is affected, not what there is.
    pub fn consider(
        &mut self,
        cause: &Cause,
        affected: &BTreeSet<WorkId>,
        scene: &impl HoldScene,
        now: Instant,
    ) -> Considered {
        let slots = concerned(affected, scene);
        let mut lives = Lives::new(scene);
        let let_go = self.let_go(&slots, &mut lives);
        // What cannot be too much needs no look at what becomes of each.
        let n_stored = scene.n_stored();
        if self.time.is_zero() || !too_many(slots.len(), n_stored) {
            return Considered { hold: None, let_go };
        }
        let stopped = |slot: &WorkId| !self.slots.contains_key(slot) && lives.ends(slot);
        let stops: Vec<WorkId> = slots.into_iter().filter(stopped).collect();
        let hold = too_many(stops.len(), n_stored).then(|| {
            let name: Arc<str> = cause.to_string().into();
            let (n_slots, until) = (stops.len(), now + self.time);
            for slot in &stops {
                self.hold(&name, slot, needs(scene.stored(slot)), now);
            }
            Hold { name, n_slots, n_stored, until }
        });
        Considered { hold, let_go }
    }

    /// Takes in what changes that are never held affect, single ones gathered as they came: gives what they want again, to
    /// be looked at anew.
    pub fn wanted_again(&mut self, affected: &BTreeSet<WorkId>, scene: &impl HoldScene) -> BTreeSet<WorkId> {
        if self.slots.is_empty() {
            return BTreeSet::new();
        }
        self.let_go(&concerned(affected, scene), &mut Lives::new(scene))
    }

    /// Takes in what etcd holds of a slot from now on, if it is ours: a transaction that was under way when the slot was held
    /// may have given it another pool or certificate. Gives what is to be looked at anew.
    pub fn stored(&mut self, slot: &WorkId, stored: Option<&Inspected>) -> BTreeSet<WorkId> {
        let Some(held) = self.slots.get(slot) else { return BTreeSet::new() };
        let needs = needs(stored);
        if stored.is_some() && held.needs == needs {
            return BTreeSet::new();
        }
        let name = Arc::clone(&held.hold);
        let mut again = BTreeSet::new();
        if stored.is_some() {
            self.unname(slot, &mut again);
            self.name(slot, needs, name);
        } else {
            // What is not there cannot be held.
            self.drop_slot(slot, &mut again);
        }
        again
    }

    /// The name of the hold that keeps a document: a slot, or a pool or certificate that a held slot needs in etcd.
    #[must_use]
    pub fn held(&self, id: &WorkId) -> Option<&Arc<str>> {
        let slot = match id.directory {
            Directory::StreamRoutes => id,
            Directory::Upstreams | Directory::Ssls => self.needed.get(id)?.first()?,
        };
        self.slots.get(slot).map(|held| &held.hold)
    }

    /// Lets go of a hold; gives what is to be looked at anew, nothing where there is no such hold.
    pub fn release(&mut self, name: &str) -> BTreeSet<WorkId> {
        let mut again = BTreeSet::new();
        for slot in self.by_name.remove(name).map(|standing| standing.slots).unwrap_or_default() {
            self.drop_slot(&slot, &mut again);
        }
        again
    }

    /// Lets go of the holds whose time is over; gives the name of each, and what is to be looked at anew.
    pub fn expire(&mut self, now: Instant) -> Vec<(Arc<str>, BTreeSet<WorkId>)> {
        let over = self.by_name.iter().filter(|(_, standing)| standing.until <= now).map(|(name, _)| Arc::clone(name));
        let over: Vec<Arc<str>> = over.collect();
        over.into_iter()
            .map(|name| {
                let again = self.release(&name);
                (name, again)
            })
            .collect()
    }

    /// When the time of a hold is over.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        self.by_name.values().map(|standing| standing.until).min()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Every hold, by name.
    pub fn summary(&self) -> impl Iterator<Item = Summary> {
        self.by_name.iter().map(|(name, Standing { since, until, slots })| Summary {
            name: Arc::clone(name),
            n_slots: slots.len(),
            since: *since,
            until: *until,
        })
    }

    /// The slots of a hold, in order.
    pub fn slots_of(&self, name: &str) -> impl Iterator<Item = &WorkId> {
        self.by_name.get(name).into_iter().flat_map(|standing| &standing.slots)
    }

    /// Lets go of slots among these that would not stop any more.
    fn let_go<S: HoldScene>(&mut self, slots: &BTreeSet<WorkId>, lives: &mut Lives<'_, S>) -> BTreeSet<WorkId> {
        let mut again = BTreeSet::new();
        if self.slots.is_empty() {
            return again;
        }
        for slot in slots {
            if self.slots.contains_key(slot) && !lives.ends(slot) {
                self.drop_slot(slot, &mut again);
            }
        }
        again
    }

    fn hold(&mut self, name: &Arc<str>, slot: &WorkId, needs: Vec<WorkId>, now: Instant) {
        let until = now + self.time;
        let standing = self.by_name.entry(Arc::clone(name));
        let standing = standing.or_insert_with(|| Standing { since: now, until, slots: BTreeSet::new() });
        // What the same cause adds has its whole time, and what it held before stays with it.
        standing.until = until;
        standing.slots.insert(slot.clone());
        self.name(slot, needs, Arc::clone(name));
    }

    fn name(&mut self, slot: &WorkId, needs: Vec<WorkId>, hold: Arc<str>) {
        for need in &needs {
            self.needed.entry(need.clone()).or_default().insert(slot.clone());
        }
        self.slots.insert(slot.clone(), HeldSlot { hold, needs });
    }

    /// Forgets what a held slot needs; what no held slot needs any more is to be looked at anew.
    fn unname(&mut self, slot: &WorkId, again: &mut BTreeSet<WorkId>) -> Option<Arc<str>> {
        let HeldSlot { hold, needs } = self.slots.remove(slot)?;
        for need in needs {
            let Some(slots) = self.needed.get_mut(&need) else { continue };
            slots.remove(slot);
            if slots.is_empty() {
                self.needed.remove(&need);
                again.insert(need);
            }
        }
        Some(hold)
    }

    fn drop_slot(&mut self, slot: &WorkId, again: &mut BTreeSet<WorkId>) {
        let Some(name) = self.unname(slot, again) else { return };
        again.insert(slot.clone());
        if let Some(standing) = self.by_name.get_mut(&name) {
            standing.slots.remove(slot);
            if standing.slots.is_empty() {
                self.by_name.remove(&name);
            }
        }
    }
}

/// More than may stop without a question, and more than half of all.
fn too_many(n_slots: usize, n_stored: usize) -> bool {
    n_slots > STOPS_ALLOWED && n_slots > n_stored / 2
}

/// The slots of ours in etcd that the affected documents are about.
fn concerned(affected: &BTreeSet<WorkId>, scene: &impl HoldScene) -> BTreeSet<WorkId> {
    let mut slots = BTreeSet::new();
    for id in affected {
        match id.directory {
            Directory::StreamRoutes => {
                slots.insert(id.clone());
            }
            Directory::Upstreams | Directory::Ssls => {
                slots.extend(scene.stored_slots(id));
                slots.extend(scene.wanted_slots(id));
            }
        }
    }
    slots.retain(|slot| scene.stored(slot).is_some());
    slots
}

fn needs(stored: Option<&Inspected>) -> Vec<WorkId> {
    stored.into_iter().flat_map(Inspected::needs).cloned().collect()
}

/// Which slots end, and which routes live on although one of their slots does.
struct Lives<'a, S> {
    scene: &'a S,
    /// By the route's pool: whether it serves on any slot. Remembered, as a route may have many.
    routes: HashMap<WorkId, bool>,
}

impl<'a, S: HoldScene> Lives<'a, S> {
    fn new(scene: &'a S) -> Self {
        Self { scene, routes: HashMap::new() }
    }

    /// Whether a slot in etcd stops, and its route with it.
    fn ends(&mut self, slot: &WorkId) -> bool {
        let stops = match self.scene.serves(slot) {
            Serves::Nodes(_) | Serves::Kept => false,
            Serves::Absent | Serves::Refused => true,
            // It has been like that before.
            Serves::NoNodes => !self.scene.as_wanted(slot),
        };
        stops && !self.scene.stored(slot).and_then(|stored| stored.pool.as_ref()).is_some_and(|pool| self.lives(pool))
    }

    /// Whether the route of a pool has a slot in etcd that stays, or gets one. A slot that stops is none of these.
    fn lives(&mut self, pool: &WorkId) -> bool {
        if let Some(lives) = self.routes.get(pool) {
            return *lives;
        }
        let gets = |slot: &WorkId| matches!(self.scene.serves(slot), Serves::Nodes(_) | Serves::Kept);
        let stays = |slot: &WorkId| self.scene.serves(slot) == Serves::Kept;
        let lives = self.scene.slots_of_route(pool).iter().any(gets) || self.scene.stored_slots(pool).iter().any(stays);
        self.routes.insert(pool.clone(), lives);
        lives
    }
}

#[cfg(test)]
mod tests;
