//! Tier 4: the claims on each slot give its holder: the oldest route, then the first by namespace and name.

use crate::{
    apisix::ids::SlotPlace,
    model::{
        names::{Created, RouteRef},
        places::{Port, Slot, WorkId},
    },
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Every claim on every slot.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    claims: BTreeMap<Slot, BTreeSet<(Created, RouteRef)>>,
    /// What [`Slots::settle`] last said, so that it can tell a change.
    holders: BTreeMap<Slot, RouteRef>,
    held: HashMap<RouteRef, BTreeSet<Slot>>,
    /// Every claimed slot with a server name, by its place: a place says only a hash of it.
    named: HashMap<SlotPlace, Slot>,
}

impl Slots {
    /// The slot that an id names, if it is one without server names or somebody claims it.
    #[must_use]
    pub fn of_id(&self, id: &WorkId) -> Option<Slot> {
        match SlotPlace::of(id)? {
            SlotPlace::Port(port) => Some(Slot::of_port(port)),
            place @ SlotPlace::Name(..) => self.named.get(&place).cloned(),
        }
    }

    /// The route that holds a slot.
    #[must_use]
    pub fn holder(&self, slot: &Slot) -> Option<&RouteRef> {
        self.holders.get(slot)
    }

    /// The route that holds the slot that an id names.
    #[must_use]
    pub fn holder_at(&self, id: &WorkId) -> Option<&RouteRef> {
        self.holder(&self.of_id(id)?)
    }

    /// Every slot with a holder, in order.
    pub fn held(&self) -> impl Iterator<Item = (&Slot, &RouteRef)> {
        self.holders.iter()
    }

    /// The slots of `port` that are held, in order.
    pub fn held_on(&self, port: Port) -> impl Iterator<Item = &Slot> {
        self.holders.range(Slot::of_port(port)..).map(|(slot, _)| slot).take_while(move |slot| slot.port == port)
    }

    /// The slots a route holds, in order.
    pub fn held_by(&self, route: &RouteRef) -> impl Iterator<Item = &Slot> {
        self.held.get(route).into_iter().flatten()
    }

    /// The routes that claim a slot, the holder first.
    pub fn claimants(&self, slot: &Slot) -> impl Iterator<Item = &RouteRef> {
        self.claims.get(slot).into_iter().flatten().map(|(_, route)| route)
    }

    /// Replaces the claims of a route; each is a slot and the route's age. Call [`Slots::settle`] for each touched slot after.
    pub(super) fn replace(
        &mut self,
        route: &RouteRef,
        before: impl IntoIterator<Item = (Slot, Created)>,
        now: impl IntoIterator<Item = (Slot, Created)>,
    ) -> BTreeSet<Slot> {
        let mut touched = BTreeSet::new();
        for (slot, created) in before {
            if let Some(claims) = self.claims.get_mut(&slot) {
                claims.remove(&(created, route.clone()));
                if claims.is_empty() {
                    self.claims.remove(&slot);
                    self.named.remove(&SlotPlace::from(&slot));
                }
            }
            touched.insert(slot);
        }
        for (slot, created) in now {
            if slot.name.is_some() {
                self.named.insert(SlotPlace::from(&slot), slot.clone());
            }
            self.claims.entry(slot.clone()).or_default().insert((created, route.clone()));
            touched.insert(slot);
        }
        touched
    }

    /// Decides who holds `slot` now; returns the holders before and after if they differ.
    pub(super) fn settle(&mut self, slot: &Slot) -> Option<(Option<RouteRef>, Option<RouteRef>)> {
        let now = self.claims.get(slot).and_then(BTreeSet::first).map(|(_, route)| route.clone());
        let before = match &now {
            Some(route) => self.holders.insert(slot.clone(), route.clone()),
            None => self.holders.remove(slot),
        };
        if before == now {
            return None;
        }
        if let Some(slots) = before.as_ref().and_then(|route| self.held.get_mut(route)) {
            slots.remove(slot);
        }
        if let Some(route) = before.as_ref().filter(|route| self.held.get(*route).is_some_and(BTreeSet::is_empty)) {
            self.held.remove(route);
        }
        if let Some(route) = &now {
            self.held.entry(route.clone()).or_default().insert(slot.clone());
        }
        Some((before, now))
    }
}
