//! The wave where it reaches routes: where each attaches, which slots it holds, what its pools are.

use super::Wave;
use crate::{
    apisix::ids,
    model::{
        names::{Created, ObjectRef, RouteRef},
        places::{Directory, Plane, Slot, WorkId},
    },
    translate::{
        attachments::{self, Attachments},
        desired::{Desired, Route},
        pools::{self, Pool},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

impl Wave {
    pub(super) fn attachments_tier(&mut self, desired: &mut Desired, name: &RouteRef) {
        let facts = desired.known.routes.get(name);
        let exists = facts.is_some() || desired.known.routes.is_unreadable(name);
        let created = facts.map_or(Created::UNKNOWN, |facts| facts.created);
        let now = facts
            .map(|facts| attachments::attach(name, facts, &desired.owners, &desired.planes, &desired.known))
            .unwrap_or_default();

        let before = desired.routes.remove(name);
        let (pool_id, attachments_before, created_before, pools) = if let Some(route) = before {
            (route.pool_id, route.attachments, route.created, route.pools)
        } else {
            let pool = ids::pool(desired.settings.plane.plane, &desired.settings.instance, name.kind, &name.name);
            (pool.id, Attachments::default(), Created::UNKNOWN, BTreeMap::new())
        };
        if exists {
            let route = Route { pool_id: Arc::clone(&pool_id), created, attachments: now.clone(), pools };
            desired.routes.insert(name.clone(), route);
            desired.route_of_pool.insert(Arc::clone(&pool_id), name.clone());
        } else {
            desired.route_of_pool.remove(&pool_id);
        }
        if attachments_before == now && created_before == created {
            return;
        }
        let (planes_before, planes) = (attachments_before.planes(), now.planes());
        let turned = attachments_before.parent_unreadable != now.parent_unreadable;
        self.pool(desired, &pool_id, planes_before.union(&planes).copied(), turned);
        // How a slot takes its connections is said by the listener it is claimed through.
        self.held_slots(desired, name);
        self.route_verdict(name);
        self.policies_about(desired, name);
        if planes_before != planes || attachments_before.ends_tls() != now.ends_tls() {
            self.pools.insert(name.clone());
        }
        self.count(desired, &attachments_before.counted(), &now.counted());
        // A listener that came to end TLS, or ceased to, may have left it to the same route.
        let (claims_before, claims) = (attachments_before.claims(), now.claims());
        for (plane, Slot { port, name }) in claims.clone() {
            if let Some((name, state)) = name.zip(desired.planes.of_mut(plane)) {
                state.certificates.consider(&name, port);
                self.names.insert((plane, name));
            }
        }
        for plane in planes_before.union(&planes).copied() {
            let Some(state) = desired.planes.of_mut(plane) else { continue };
            let of_plane = |claims: &BTreeSet<(Plane, Slot)>, created| -> Vec<(Slot, Created)> {
                claims.iter().filter(|(of, _)| *of == plane).map(|(_, slot)| (slot.clone(), created)).collect()
            };
            let (before, now) = (of_plane(&claims_before, created_before), of_plane(&claims, created));
            self.slots.extend(state.slots.replace(name, before, now).into_iter().map(|slot| (plane, slot)));
        }
    }

    /// A route's pool may be another: on these data planes, or on all where it `turned` to be kept, or not to be.
    pub(super) fn pool(&mut self, desired: &Desired, id: &Arc<str>, planes: impl Iterator<Item = Plane>, turned: bool) {
        let all = desired.planes().filter(|_| turned);
        let of = |plane| WorkId { plane, directory: Directory::Upstreams, id: Arc::clone(id) };
        self.affected.documents.extend(planes.chain(all).map(of));
    }

    pub(super) fn held_slots(&mut self, desired: &Desired, route: &RouteRef) {
        self.affected.documents.extend(desired.held_by(route).map(|(plane, slot)| ids::slot(plane, slot)));
    }

    /// Keeps the number of attached routes of each listener.
    pub(super) fn count(
        &mut self,
        desired: &mut Desired,
        before: &BTreeSet<(ObjectRef, Arc<str>)>,
        now: &BTreeSet<(ObjectRef, Arc<str>)>,
    ) {
        for (owner, listener) in before.difference(now) {
            if let Some(counts) = desired.attached.get_mut(owner) {
                let left = counts.get(listener).map_or(0, |count| count.saturating_sub(1));
                if left == 0 {
                    counts.remove(listener);
                } else {
                    counts.insert(Arc::clone(listener), left);
                }
                if counts.is_empty() {
                    desired.attached.remove(owner);
                }
            }
            self.verdict(owner.kind, &owner.name);
        }
        for (owner, listener) in now.difference(before) {
            *desired.attached.entry(owner.clone()).or_default().entry(Arc::clone(listener)).or_default() += 1;
            self.verdict(owner.kind, &owner.name);
        }
    }

    pub(super) fn slots_tier(&mut self, desired: &mut Desired, plane: Plane, slot: &Slot) {
        let Some((before, now)) = desired.planes.of_mut(plane).and_then(|state| state.slots.settle(slot)) else {
            return;
        };
        self.affected.documents.insert(ids::slot(plane, slot));
        self.mark_names_within(desired, plane, slot.port, slot.name.as_ref());
        for route in before.iter().chain(&now) {
            self.affected.documents.insert(ids::pool(plane, &desired.settings.instance, route.kind, &route.name));
            self.route_verdict(route);
        }
        // Everyone else who claims it is told of the new holder.
        for route in desired.planes.of(plane).into_iter().flat_map(|state| state.slots.claimants(slot)) {
            self.route_verdict(route);
        }
    }

    pub(super) fn pools_tier(&mut self, desired: &mut Desired, name: &RouteRef) {
        let Some(route) = desired.routes.get_mut(name) else { return };
        let planes = route.attachments.planes();
        let splits: BTreeSet<bool> = planes.iter().filter_map(|plane| desired.planes.splits(*plane)).collect();
        let ends_tls = route.attachments.ends_tls();
        let facts = desired.known.routes.get(name);
        let pool = |splits| Some((splits, pools::pool(name, facts?, &desired.known, splits, ends_tls)));
        let now: BTreeMap<bool, Pool> = splits.into_iter().filter_map(pool).collect();
        if route.pools == now {
            return;
        }
        let splits_of = |pools: &BTreeMap<bool, Pool>| pools.values().map(|pool| pool.split).collect::<Vec<_>>();
        let splits_changed = splits_of(&route.pools) != splits_of(&now);
        let unreadable = |pools: &BTreeMap<bool, Pool>| pools.values().any(|pool| pool.unreadable);
        let turned = unreadable(&route.pools) != unreadable(&now);
        let policies_of =
            |pools: &BTreeMap<bool, Pool>| pools.values().next().map(|pool| pool.policies.clone()).unwrap_or_default();
        let policies_changed = policies_of(&route.pools) != policies_of(&now);
        route.pools = now;
        let pool_id = Arc::clone(&route.pool_id);
        self.pool(desired, &pool_id, planes.into_iter(), turned);
        self.route_verdict(name);
        if splits_changed {
            self.held_slots(desired, name);
        }
        if policies_changed {
            self.policies_about(desired, name);
        }
    }
}
