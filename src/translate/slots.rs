//! Tier 4: the claims on each slot give its holder: the oldest route, then the first by namespace and name.

use crate::model::{
    names::{Created, RouteRef},
    places::Port,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Every claim on every slot.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    claims: BTreeMap<Port, BTreeSet<(Created, RouteRef)>>,
    /// What [`Slots::settle`] last said, so that it can tell a change.
    holders: BTreeMap<Port, RouteRef>,
    held: HashMap<RouteRef, BTreeSet<Port>>,
}

impl Slots {
    /// The route that holds a slot.
    #[must_use]
    pub fn holder(&self, slot: Port) -> Option<&RouteRef> {
        self.holders.get(&slot)
    }

    /// Every slot with a holder, in order.
    pub fn held(&self) -> impl Iterator<Item = (Port, &RouteRef)> {
        self.holders.iter().map(|(slot, route)| (*slot, route))
    }

    /// The slots a route holds, in order.
    pub fn held_by(&self, route: &RouteRef) -> impl Iterator<Item = Port> {
        self.held.get(route).into_iter().flatten().copied()
    }

    /// The routes that claim a slot, the holder first.
    pub fn claimants(&self, slot: Port) -> impl Iterator<Item = &RouteRef> {
        self.claims.get(&slot).into_iter().flatten().map(|(_, route)| route)
    }

    /// Replaces the claims of a route; each is a slot and the route's age. Call [`Slots::settle`] for each touched slot after.
    pub(super) fn replace(
        &mut self,
        route: &RouteRef,
        before: impl IntoIterator<Item = (Port, Created)>,
        now: impl IntoIterator<Item = (Port, Created)>,
    ) -> BTreeSet<Port> {
        let mut touched = BTreeSet::new();
        for (slot, created) in before {
            if let Some(claims) = self.claims.get_mut(&slot) {
                claims.remove(&(created, route.clone()));
                if claims.is_empty() {
                    self.claims.remove(&slot);
                }
            }
            touched.insert(slot);
        }
        for (slot, created) in now {
            self.claims.entry(slot).or_default().insert((created, route.clone()));
            touched.insert(slot);
        }
        touched
    }

    /// Decides who holds `slot` now; returns the holders before and after if they differ.
    pub(super) fn settle(&mut self, slot: Port) -> Option<(Option<RouteRef>, Option<RouteRef>)> {
        let now = self.claims.get(&slot).and_then(BTreeSet::first).map(|(_, route)| route.clone());
        let before = match &now {
            Some(route) => self.holders.insert(slot, route.clone()),
            None => self.holders.remove(&slot),
        };
        if before == now {
            return None;
        }
        if let Some(slots) = before.as_ref().and_then(|route| self.held.get_mut(route)) {
            slots.remove(&slot);
        }
        if let Some(route) = before.as_ref().filter(|route| self.held.get(*route).is_some_and(BTreeSet::is_empty)) {
            self.held.remove(route);
        }
        if let Some(route) = &now {
            self.held.entry(route.clone()).or_default().insert(slot);
        }
        Some((before, now))
    }
}
