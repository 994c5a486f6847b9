//! One wave through the tiers: what changed marks what it may affect, tier by tier, and equal outputs stop it.
//!
//! A full rebuild is the same wave over every object there is, from nothing.

mod certificates;
mod listener_sets;
mod policies;

use super::{Affected, Desired, Route};
use crate::{
    apisix::ids,
    model::{
        facts::{FromNamespaces, Observed},
        names::{Created, Kind, ObjectName, ObjectRef, RouteRef},
        places::{Port, ServerName, Slot},
    },
    translate::{
        attachments::{self, Attachments},
        known::{Known, gateway_name, parent_named},
        listeners::{self},
        pools,
        ports::{Settled, turns::Share},
        secrets,
    },
};
use std::{collections::BTreeSet, sync::Arc};

/// What is marked to be computed again, by tier.
#[derive(Debug, Default)]
pub(super) struct Wave {
    gateways: BTreeSet<ObjectName>,
    sets: BTreeSet<ObjectName>,
    ports: BTreeSet<Port>,
    attachments: BTreeSet<RouteRef>,
    slots: BTreeSet<Slot>,
    /// Server names whose certificates are to be settled. A wildcard comes before every name that it covers, as `*` does
    /// before every letter.
    names: BTreeSet<ServerName>,
    pools: BTreeSet<RouteRef>,
    /// Objects with listeners that won or lost ports, or may have.
    moved: BTreeSet<ObjectRef>,
    affected: Affected,
}

impl Wave {
    /// Takes in what is now known of one object and marks what hangs on it.
    pub(super) fn take_in(&mut self, desired: &mut Desired, kind: Kind, name: &ObjectName, observed: Option<Observed>) {
        // A slice that moves from one Service to another touches both.
        let before = if kind == Kind::EndpointSlice { routes_of_slice(&desired.known, name) } else { Vec::new() };
        let touched_before = policies::touched(&desired.known, kind, name);
        let classes_before = classes_used(&desired.known, kind, name);
        if desired.known.set(kind, name, observed) {
            self.pools.extend(before);
            self.touch(touched_before);
            self.touch(policies::touched(&desired.known, kind, name));
            let classes = classes_before.into_iter().chain(classes_used(&desired.known, kind, name));
            self.affected.verdicts.extend(classes);
            self.mark(desired, kind, name);
        }
    }

    /// Marks every pool.
    pub(super) fn recompute_pools(&mut self, desired: &Desired) {
        self.pools.extend(desired.known.routes.all());
    }

    /// Works through the tiers in their order.
    pub(super) fn run(mut self, desired: &mut Desired) -> Affected {
        for name in std::mem::take(&mut self.gateways) {
            self.listeners_tier(desired, &name);
        }
        for name in std::mem::take(&mut self.sets) {
            self.sets_tier(desired, &name);
        }
        self.ports_tier(desired);
        for name in std::mem::take(&mut self.attachments) {
            self.attachments_tier(desired, &name);
        }
        for slot in std::mem::take(&mut self.slots) {
            self.slots_tier(desired, &slot);
        }
        while let Some(name) = self.names.pop_first() {
            self.certificates_tier(desired, &name);
        }
        for name in std::mem::take(&mut self.pools) {
            self.pools_tier(desired, &name);
        }
        self.affected
    }

    fn mark(&mut self, desired: &Desired, kind: Kind, name: &ObjectName) {
        let known = &desired.known;
        match kind {
            Kind::GatewayClass => {
                self.verdict(kind, name);
                self.gateways.extend(known.gateways_by_class.of(&name.name).cloned());
            }
            Kind::Gateway => {
                self.gateways.insert(name.clone());
                self.sets.extend(known.sets_by_gateway.of(name).cloned());
                // Also when it becomes readable or unreadable without becoming ours.
                self.attachments.extend(known.routes_by_parent.of(&ObjectRef::new(kind, name.clone())).cloned());
                for set in known.sets_by_gateway.of(name) {
                    let set = ObjectRef::new(Kind::ListenerSet, set.clone());
                    self.attachments.extend(known.routes_by_parent.of(&set).cloned());
                }
            }
            Kind::ListenerSet => {
                self.sets.insert(name.clone());
                self.attachments.extend(known.routes_by_parent.of(&ObjectRef::new(kind, name.clone())).cloned());
            }
            Kind::TcpRoute | Kind::UdpRoute | Kind::TlsRoute => {
                let route = RouteRef::new(kind, name.clone());
                self.verdict(kind, name);
                // Becoming gone or readable is felt by the pool even where nothing is attached.
                self.affected.documents.insert(ids::pool(&desired.settings.instance, kind, name));
                // Its drift policy is part of no document.
                self.affected.documents.extend(desired.slots.held_by(&route).map(ids::slot));
                self.attachments.insert(route.clone());
                self.pools.insert(route);
            }
            Kind::ReferenceGrant => {
                self.pools.extend(known.routes_by_foreign_namespace.of(&name.namespace).cloned());
                self.mark_owners(known.owners_by_foreign_namespace.of(&name.namespace));
            }
            Kind::Namespace => self.mark_selected_by_label(desired, &name.name),
            Kind::Secret => self.mark_owners(known.owners_by_secret.of(name)),
            Kind::Service => {
                self.pools.extend(known.routes_by_service.of(name).cloned());
                if desired.settings.addresses.is_service(name) {
                    let gateways = desired.owners.gateways.keys().map(|name| (Kind::Gateway, name));
                    let sets = desired.owners.sets.keys().map(|name| (Kind::ListenerSet, name));
                    let all = gateways.chain(sets).map(|(kind, name)| ObjectRef::new(kind, name.clone()));
                    self.affected.verdicts.extend(all);
                }
            }
            Kind::EndpointSlice => self.pools.extend(routes_of_slice(known, name)),
            // What it touches was marked when it was taken in.
            Kind::BackendTlsPolicy => self.verdict(kind, name),
        }
    }

    /// Marks Gateways and ListenerSets, for their listeners.
    fn mark_owners<'a>(&mut self, owners: impl Iterator<Item = &'a ObjectRef>) {
        for owner in owners {
            let marked = if owner.kind == Kind::ListenerSet { &mut self.sets } else { &mut self.gateways };
            marked.insert(owner.name.clone());
        }
    }

    fn mark_selected_by_label(&mut self, desired: &Desired, namespace: &Arc<str>) {
        let Desired { known, owners, .. } = desired;
        for (set, presence) in known.sets.in_namespace(namespace) {
            let gateway = presence.readable().and_then(|facts| gateway_name(&facts.parent, set));
            let from = gateway.and_then(|gateway| owners.gateways.get(&gateway)).map(|of| &of.allowed_listeners);
            if matches!(from, Some(FromNamespaces::Selector(_))) {
                self.sets.insert(set.clone());
            }
        }
        for (route, facts) in known.routes.readable_in(namespace) {
            let selected = facts
                .parents
                .iter()
                .filter_map(|parent| parent_named(parent, &route.name))
                .filter_map(|parent| owners.of(&parent))
                .any(|owner| listeners::select_by_label(owner.listeners));
            if selected {
                self.attachments.insert(route);
            }
        }
    }

    fn listeners_tier(&mut self, desired: &mut Desired, name: &ObjectName) {
        let now = desired.known.gateways.get(name).and_then(|facts| {
            let class = listeners::class_state(&desired.known, &facts.class, &desired.settings.controller_name);
            listeners::gateway(
                name,
                facts,
                class,
                &desired.known,
                desired.settings.version,
                &desired.settings.stream.sockets,
            )
        });
        self.verdict(Kind::Gateway, name);
        if now.as_ref() == desired.owners.gateways.get(name) {
            return;
        }
        let before = match &now {
            Some(gateway) => desired.owners.gateways.insert(name.clone(), gateway.clone()),
            None => desired.owners.gateways.remove(name),
        };
        for gateway in before.iter().chain(&now) {
            self.mark_certificates(desired, &gateway.listeners);
        }
        if let (Some(before), Some(now)) = (&before, &now)
            && secrets::differ_alone(before, now, |gateway| &mut gateway.listeners)
        {
            return;
        }
        let share = |gateway: Option<&_>| gateway.map(|gateway| Share::of_gateway(name, gateway)).unwrap_or_default();
        let shares = (share(before.as_ref()), share(now.as_ref()));
        self.contribute(desired, &ObjectRef::new(Kind::Gateway, name.clone()), shares);
        // What it says of itself is part of what is said of its sets.
        for set in desired.known.sets_by_gateway.of(name) {
            self.sets.insert(set.clone());
            self.verdict(Kind::ListenerSet, set);
        }
        self.stand(desired, name);
    }

    fn contribute(&mut self, desired: &mut Desired, owner: &ObjectRef, (before, now): (Share, Share)) {
        self.ports.extend(desired.ports.replace(owner, before, now));
        self.attachments.extend(desired.known.routes_by_parent.of(owner).cloned());
    }

    /// Settles ports until nothing moves. That a Gateway is accepted decides over the ports of its sets, and these over those of
    /// younger Gateways: each of these steps leads on to younger ones only, so that it ends, and always in the same state.
    fn ports_tier(&mut self, desired: &mut Desired) {
        while let Some(port) = self.ports.pop_first() {
            // The slot may have become frozen, or stopped being so.
            self.affected.documents.insert(ids::port_slot(port));
            let Settled { owners, hostnames, overlapped } = desired.ports.settle(port);
            for name in hostnames {
                self.mark_names_within(desired, port, name.as_ref());
                self.affected.documents.insert(ids::slot(&Slot { port, name }));
            }
            for owner in overlapped {
                self.verdict(owner.kind, &owner.name);
            }
            for gateway in owners.iter().filter(|owner| owner.kind == Kind::Gateway) {
                self.stand(desired, &gateway.name);
            }
            self.moved.extend(owners);
        }
        // Each has up to 64 listeners, so that who gained or lost any is gathered first.
        for owner in std::mem::take(&mut self.moved) {
            self.attachments.extend(desired.known.routes_by_parent.of(&owner).cloned());
            self.verdict(owner.kind, &owner.name);
            let set = desired.owners.sets.get(&owner.name).filter(|_| owner.kind == Kind::ListenerSet);
            if let Some(gateway) = set.map(|set| set.gateway.clone()) {
                self.count_set(desired, &gateway, &owner.name);
            }
        }
    }

    fn attachments_tier(&mut self, desired: &mut Desired, name: &RouteRef) {
        let facts = desired.known.routes.get(name);
        let exists = facts.is_some() || desired.known.routes.is_unreadable(name);
        let created = facts.map_or(Created::UNKNOWN, |facts| facts.created);
        let now = facts
            .map(|facts| attachments::attach(name, facts, &desired.owners, &desired.ports, &desired.known))
            .unwrap_or_default();

        let pool_id = ids::pool(&desired.settings.instance, name.kind, &name.name);
        let before = desired.routes.remove(name);
        let (attachments_before, created_before, pool) = match before {
            Some(route) => (route.attachments, route.created, route.pool),
            None => (Attachments::default(), Created::UNKNOWN, None),
        };
        if exists {
            let route = Route { pool_id: pool_id.clone(), created, attachments: now.clone(), pool };
            desired.routes.insert(name.clone(), route);
            desired.route_of_pool.insert(pool_id.clone(), name.clone());
        } else {
            desired.route_of_pool.remove(&pool_id);
        }
        if attachments_before == now && created_before == created {
            return;
        }
        self.affected.documents.insert(pool_id);
        // How a slot takes its connections is said by the listener it is claimed through.
        self.affected.documents.extend(desired.slots.held_by(name).map(ids::slot));
        self.route_verdict(name);
        self.policies_about(desired, name);
        if attachments_before.parents.is_empty() != now.parents.is_empty()
            || attachments_before.ends_tls() != now.ends_tls()
        {
            self.pools.insert(name.clone());
        }
        self.count(desired, &attachments_before.counted(), &now.counted());
        // A listener that came to end TLS, or ceased to, may have left it to the same route.
        for Slot { port, name } in now.claims() {
            if let Some(name) = name {
                desired.certificates.consider(&name, port);
                self.names.insert(name);
            }
        }
        let claims = |attachments: &Attachments, created| attachments.claims().into_iter().map(move |p| (p, created));
        let touched = desired.slots.replace(name, claims(&attachments_before, created_before), claims(&now, created));
        self.slots.extend(touched);
    }

    /// Keeps the number of attached routes of each listener.
    fn count(
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

    fn slots_tier(&mut self, desired: &mut Desired, slot: &Slot) {
        let Some((before, now)) = desired.slots.settle(slot) else { return };
        self.affected.documents.insert(ids::slot(slot));
        self.mark_names_within(desired, slot.port, slot.name.as_ref());
        for route in before.iter().chain(&now) {
            self.affected.documents.insert(ids::pool(&desired.settings.instance, route.kind, &route.name));
            self.route_verdict(route);
        }
        // Everyone else who claims it is told of the new holder.
        for route in desired.slots.claimants(slot) {
            self.route_verdict(route);
        }
    }

    fn pools_tier(&mut self, desired: &mut Desired, name: &RouteRef) {
        let splits = desired.splits();
        let Some(route) = desired.routes.get_mut(name) else { return };
        let facts = desired.known.routes.get(name).filter(|_| !route.attachments.parents.is_empty());
        let ends_tls = route.attachments.ends_tls();
        let now = facts.map(|facts| pools::pool(name, facts, &desired.known, splits, ends_tls));
        if route.pool == now {
            return;
        }
        let split_of = |pool: &Option<pools::Pool>| pool.as_ref().and_then(|pool| pool.split);
        let split_changed = split_of(&route.pool) != split_of(&now);
        let policies_of =
            |pool: &Option<pools::Pool>| pool.as_ref().map(|pool| pool.policies.clone()).unwrap_or_default();
        let policies_changed = policies_of(&route.pool) != policies_of(&now);
        route.pool = now;
        self.affected.documents.insert(route.pool_id.clone());
        self.route_verdict(name);
        if split_changed {
            self.affected.documents.extend(desired.slots.held_by(name).map(ids::slot));
        }
        if policies_changed {
            self.policies_about(desired, name);
        }
    }

    fn route_verdict(&mut self, route: &RouteRef) {
        self.affected.verdicts.insert(route.clone().into());
    }

    fn verdict(&mut self, kind: Kind, name: &ObjectName) {
        self.affected.verdicts.insert(ObjectRef::new(kind, name.clone()));
    }
}

/// The GatewayClasses that are in use by a Gateway, as it is known now: any, if it could never be read.
fn classes_used(known: &Known, kind: Kind, name: &ObjectName) -> Vec<ObjectRef> {
    let class = |name: ObjectName| ObjectRef::new(Kind::GatewayClass, name);
    match known.gateways.get(name).filter(|_| kind == Kind::Gateway) {
        Some(gateway) => vec![class(ObjectName::cluster(&gateway.class))],
        None if kind == Kind::Gateway && known.gateways.is_unreadable(name) => {
            known.classes.names().cloned().map(class).collect()
        }
        None => Vec::new(),
    }
}

/// The routes whose pools an EndpointSlice may be part of, as it is known now.
fn routes_of_slice(known: &Known, slice: &ObjectName) -> Vec<RouteRef> {
    let mut services: Vec<ObjectName> = known.service_of(slice).into_iter().collect();
    // It may belong to any Service of its namespace.
    if known.slices.is_unreadable(slice) {
        services.extend(known.services.in_namespace(&slice.namespace).map(|(service, _)| service.clone()));
    }
    services.iter().flat_map(|service| known.routes_by_service.of(service)).cloned().collect()
}
