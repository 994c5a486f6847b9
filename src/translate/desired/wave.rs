//! One wave through the tiers: what changed marks what it may affect, tier by tier, and equal outputs stop it.
//!
//! A full rebuild is the same wave over every object there is, from nothing.

use super::{Affected, Desired, Route};
use crate::{
    apisix::ids,
    model::{
        facts::Observed,
        names::{Created, Kind, ObjectName, ObjectRef, RouteRef},
        places::{Port, ServerName, Slot},
    },
    translate::{
        attachments::{self, Attachments},
        certificates::{View, implied},
        known::{Known, gateway_name},
        listeners::{self, Gateway},
        pools,
        ports::Settled,
        secrets,
    },
};
use std::{collections::BTreeSet, sync::Arc};

/// What is marked to be computed again, by tier.
#[derive(Debug, Default)]
pub(super) struct Wave {
    gateways: BTreeSet<ObjectName>,
    ports: BTreeSet<Port>,
    attachments: BTreeSet<RouteRef>,
    slots: BTreeSet<Slot>,
    /// Server names whose certificates are to be settled. A wildcard comes before every name that it covers, as `*` does
    /// before every letter.
    names: BTreeSet<ServerName>,
    pools: BTreeSet<RouteRef>,
    affected: Affected,
}

impl Wave {
    /// Takes in what is now known of one object and marks what hangs on it.
    pub(super) fn take_in(&mut self, desired: &mut Desired, kind: Kind, name: &ObjectName, observed: Option<Observed>) {
        // A slice that moves from one Service to another touches both.
        let before = if kind == Kind::EndpointSlice { routes_of_slice(&desired.known, name) } else { Vec::new() };
        if desired.known.set(kind, name, observed) {
            self.pools.extend(before);
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
        // Gateways hold up to 64 ports each, so that which of them gained or lost any is gathered first.
        let moved: BTreeSet<ObjectName> =
            std::mem::take(&mut self.ports).into_iter().flat_map(|port| self.ports_tier(desired, port)).collect();
        for gateway in moved {
            self.attachments.extend(desired.known.routes_by_gateway.of(&gateway).cloned());
            self.verdict(Kind::Gateway, &gateway);
        }
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
                // Also when it becomes readable or unreadable without becoming ours.
                self.attachments.extend(known.routes_by_gateway.of(name).cloned());
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
                self.gateways.extend(known.gateways_by_foreign_namespace.of(&name.namespace).cloned());
            }
            Kind::Namespace => self.mark_routes_selected_by_label(desired, &name.name),
            Kind::Secret => self.gateways.extend(known.gateways_by_secret.of(name).cloned()),
            Kind::Service => self.pools.extend(known.routes_by_service.of(name).cloned()),
            Kind::EndpointSlice => self.pools.extend(routes_of_slice(known, name)),
        }
    }

    fn mark_routes_selected_by_label(&mut self, desired: &Desired, namespace: &Arc<str>) {
        for (route, facts) in desired.known.routes.readable_in(namespace) {
            let selected = facts
                .parents
                .iter()
                .filter_map(|parent| gateway_name(parent, &route.name))
                .filter_map(|gateway| desired.gateways.get(&gateway))
                .any(listeners::Gateway::selects_by_label);
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
        if now.as_ref() == desired.gateways.get(name) {
            return;
        }
        let before = match &now {
            Some(gateway) => desired.gateways.insert(name.clone(), gateway.clone()),
            None => desired.gateways.remove(name),
        };
        for gateway in before.iter().chain(&now) {
            self.mark_certificates(desired, gateway);
        }
        if let (Some(before), Some(now)) = (&before, &now)
            && secrets::differ_alone(before, now)
        {
            return;
        }
        self.ports.extend(desired.ports.replace(name, before.as_ref(), now.as_ref()));
        self.attachments.extend(desired.known.routes_by_gateway.of(name).cloned());
    }

    /// Marks every name that may be served with a certificate of this Gateway.
    fn mark_certificates(&mut self, desired: &mut Desired, gateway: &Gateway) {
        for listener in gateway.listeners.iter().filter(|listener| listener.certificates.is_some()) {
            let Some(port) = listener.port else { continue };
            self.names.extend(desired.certificates.within(port, listener.hostname.as_ref()).cloned());
            self.mark_implied(desired, port, listener);
        }
    }

    /// Marks the names that a listener without a hostname may want on its port.
    fn mark_implied(&mut self, desired: &mut Desired, port: Port, listener: &listeners::Listener) {
        for name in implied(listener) {
            desired.certificates.consider(name, port);
            self.names.insert(name.clone());
        }
    }

    /// A listener with `hostname` came to a port or left it, or a slot of the port without names got another holder.
    fn mark_names_within(&mut self, desired: &mut Desired, port: Port, hostname: Option<&ServerName>) {
        self.names.extend(desired.certificates.within(port, hostname).cloned());
        if let Some(name) = hostname {
            desired.certificates.consider(name, port);
            self.names.insert(name.clone());
            return;
        }
        let holder = desired.ports.holder_covering(port, None);
        let listener =
            holder.and_then(|(listener, _)| desired.gateways.get(&listener.gateway)?.listener(&listener.name));
        if let Some((_, listener)) = listener {
            let listener = listener.clone();
            self.mark_implied(desired, port, &listener);
        }
    }

    /// Gives the Gateways that gained or lost `port`.
    fn ports_tier(&mut self, desired: &mut Desired, port: Port) -> BTreeSet<ObjectName> {
        // The slot may have become frozen, or stopped being so.
        self.affected.documents.insert(ids::port_slot(port));
        let Settled { gateways, hostnames } = desired.ports.settle(port);
        for name in hostnames {
            self.mark_names_within(desired, port, name.as_ref());
            self.affected.documents.insert(ids::slot(&Slot { port, name }));
        }
        gateways
    }

    fn attachments_tier(&mut self, desired: &mut Desired, name: &RouteRef) {
        let facts = desired.known.routes.get(name);
        let exists = facts.is_some() || desired.known.routes.is_unreadable(name);
        let created = facts.map_or(Created::UNKNOWN, |facts| facts.created);
        let now = facts
            .map(|facts| attachments::attach(name, facts, &desired.gateways, &desired.ports, &desired.known))
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
        if attachments_before.parents.is_empty() != now.parents.is_empty() {
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
        before: &BTreeSet<(ObjectName, Arc<str>)>,
        now: &BTreeSet<(ObjectName, Arc<str>)>,
    ) {
        for (gateway, listener) in before.difference(now) {
            if let Some(counts) = desired.attached.get_mut(gateway) {
                let left = counts.get(listener).map_or(0, |count| count.saturating_sub(1));
                if left == 0 {
                    counts.remove(listener);
                } else {
                    counts.insert(Arc::clone(listener), left);
                }
                if counts.is_empty() {
                    desired.attached.remove(gateway);
                }
            }
            self.verdict(Kind::Gateway, gateway);
        }
        for (gateway, listener) in now.difference(before) {
            *desired.attached.entry(gateway.clone()).or_default().entry(Arc::clone(listener)).or_default() += 1;
            self.verdict(Kind::Gateway, gateway);
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

    fn certificates_tier(&mut self, desired: &mut Desired, name: &ServerName) {
        let ports: Vec<Port> = desired.certificates.ports_of(name).collect();
        let view = View { gateways: &desired.gateways, ports: &desired.ports, slots: &desired.slots };
        let Some((before, now)) = desired.certificates.settle(name, view) else { return };
        self.affected.documents.insert(ids::certificate(name));
        for held in before.iter().chain(&now) {
            for listener in &held.listeners {
                self.verdict(Kind::Gateway, &listener.gateway);
            }
        }
        // Those of the port without names may be served by any of their listener's.
        for slot in ports.into_iter().flat_map(|port| [Slot { port, name: Some(name.clone()) }, Slot::of_port(port)]) {
            self.affected.documents.insert(ids::slot(&slot));
            for route in desired.slots.claimants(&slot) {
                self.route_verdict(route);
            }
        }
        if name.is_wildcard() {
            self.names.extend(desired.certificates.covered_by(name).cloned());
        }
    }

    fn pools_tier(&mut self, desired: &mut Desired, name: &RouteRef) {
        let splits = desired.splits();
        let Some(route) = desired.routes.get_mut(name) else { return };
        let facts = desired.known.routes.get(name).filter(|_| !route.attachments.parents.is_empty());
        let now = facts.map(|facts| pools::pool(name, facts, &desired.known, splits));
        if route.pool == now {
            return;
        }
        let split_of = |pool: &Option<pools::Pool>| pool.as_ref().and_then(|pool| pool.split);
        let split_changed = split_of(&route.pool) != split_of(&now);
        route.pool = now;
        self.affected.documents.insert(route.pool_id.clone());
        self.route_verdict(name);
        if split_changed {
            self.affected.documents.extend(desired.slots.held_by(name).map(ids::slot));
        }
    }

    fn route_verdict(&mut self, route: &RouteRef) {
        self.affected.verdicts.insert(route.clone().into());
    }

    fn verdict(&mut self, kind: Kind, name: &ObjectName) {
        self.affected.verdicts.insert(ObjectRef::new(kind, name.clone()));
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
