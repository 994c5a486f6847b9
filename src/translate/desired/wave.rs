//! One wave through the tiers: what changed marks what it may affect, tier by tier, and equal outputs stop it.
//!
//! A full rebuild is the same wave over every object there is, from nothing.

mod certificates;
mod data_planes;
mod listener_sets;
mod policies;
mod routes;

use super::{Affected, Desired};
use crate::{
    apisix::ids,
    model::{
        facts::{FromNamespaces, Observed},
        names::{Kind, ObjectName, ObjectRef, RouteRef},
        places::{Plane, Port, ServerName, Slot},
    },
    translate::{
        known::{Known, gateway_name, parent_named},
        listeners::{self},
        ports::{Settled, turns::Share},
        secrets,
    },
};
use std::{collections::BTreeSet, sync::Arc};

/// What is marked to be computed again, by tier.
#[derive(Debug, Default)]
pub(super) struct Wave {
    /// Whether DataPlanes are to be settled anew.
    planes: bool,
    gateways: BTreeSet<ObjectName>,
    sets: BTreeSet<ObjectName>,
    ports: BTreeSet<(Plane, Port)>,
    attachments: BTreeSet<RouteRef>,
    slots: BTreeSet<(Plane, Slot)>,
    /// Server names whose certificates are to be settled. A wildcard comes before every name that it covers, as `*` does
    /// before every letter.
    names: BTreeSet<(Plane, ServerName)>,
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
        let planes_before = data_planes::named(&desired.known, kind, name);
        if desired.known.set(kind, name, observed) {
            self.pools.extend(before);
            self.touch(touched_before);
            self.touch(policies::touched(&desired.known, kind, name));
            let classes = classes_before.into_iter().chain(classes_used(&desired.known, kind, name));
            self.affected.verdicts.extend(classes);
            self.affected.verdicts.extend(planes_before);
            self.affected.verdicts.extend(data_planes::named(&desired.known, kind, name));
            self.mark(desired, kind, name);
        }
    }

    /// Marks every pool.
    pub(super) fn recompute_pools(&mut self, desired: &Desired) {
        self.pools.extend(desired.known.routes.all());
    }

    /// Works through the tiers in their order.
    pub(super) fn run(mut self, desired: &mut Desired) -> Affected {
        if self.planes {
            self.planes_tier(desired);
        }
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
        for (plane, slot) in std::mem::take(&mut self.slots) {
            self.slots_tier(desired, plane, &slot);
        }
        while let Some((plane, name)) = self.names.pop_first() {
            self.certificates_tier(desired, plane, &name);
        }
        for name in std::mem::take(&mut self.pools) {
            self.pools_tier(desired, &name);
        }
        if self.planes {
            self.leave_planes(desired);
        }
        desired.judge_left(&mut self.affected);
        self.affected
    }

    fn mark(&mut self, desired: &Desired, kind: Kind, name: &ObjectName) {
        let known = &desired.known;
        match kind {
            Kind::DataPlane => {
                self.verdict(kind, name);
                self.planes = true;
            }
            Kind::GatewayClass => {
                self.verdict(kind, name);
                self.planes = true;
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
                let pool = |plane| ids::pool(plane, &desired.settings.instance, kind, name);
                self.affected.documents.extend(desired.planes().map(pool));
                // Its drift policy is part of no document.
                self.held_slots(desired, &route);
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
                if desired.planes.all().any(|(_, state)| state.settings.addresses.is_service(name)) {
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
            let class = desired.class_state(&facts.class);
            listeners::gateway(name, facts, &class, &desired.known, &desired.settings.plane)
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
            self.mark_certificates(desired, gateway.plane, &gateway.listeners);
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
        for gateway in before.iter().chain(&now) {
            self.stand(desired, gateway.plane, name);
        }
    }

    fn contribute(&mut self, desired: &mut Desired, owner: &ObjectRef, (before, now): (Share, Share)) {
        if desired.planes.freeze(owner, &before.frozen, &now.frozen) {
            // Which slots that concerns only etcd can tell.
            self.affected.planes.extend(desired.planes());
        }
        let on = |(plane, contenders)| Some((plane?, contenders));
        if let Some((plane, contenders)) = on((before.plane, before.contenders))
            && let Some(state) = desired.planes.of_mut(plane)
        {
            self.ports.extend(state.ports.take_out(contenders).into_iter().map(|port| (plane, port)));
        }
        if let Some((plane, contenders)) = on((now.plane, now.contenders))
            && let Some(state) = desired.planes.of_mut(plane)
        {
            self.ports.extend(state.ports.take_in(contenders).into_iter().map(|port| (plane, port)));
        }
        self.attachments.extend(desired.known.routes_by_parent.of(owner).cloned());
    }

    /// Settles ports until nothing moves. That a Gateway is accepted decides over the ports of its sets, and these over those of
    /// younger Gateways: each of these steps leads on to younger ones only, so that it ends, and always in the same state.
    fn ports_tier(&mut self, desired: &mut Desired) {
        while let Some((plane, port)) = self.ports.pop_first() {
            let Some(state) = desired.planes.of_mut(plane) else { continue };
            let Settled { owners, hostnames, overlapped } = state.ports.settle(port);
            for name in hostnames {
                self.mark_names_within(desired, plane, port, name.as_ref());
                self.affected.documents.insert(ids::slot(plane, &Slot { port, name }));
            }
            for owner in overlapped {
                self.verdict(owner.kind, &owner.name);
            }
            for gateway in owners.iter().filter(|owner| owner.kind == Kind::Gateway) {
                self.stand(desired, Some(plane), &gateway.name);
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
