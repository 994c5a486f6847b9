//! The slots that a change may stop, gathered object by object until there are enough. Reads facts and indexes only.

use crate::{
    model::{
        facts::{EndpointSliceFacts, Facts, FromNamespaces, GatewayFacts, ListenerFacts, ParentRef, RouteFacts},
        names::{Kind, ObjectName, ObjectRef, RouteRef},
        places::{Plane, Port, ServerName, Slot},
    },
    translate::{
        desired::Desired,
        known::{parent_named, secret_name},
        policies,
    },
};
use std::{collections::BTreeSet, sync::Arc};

/// How many routes are looked at before a change counts as one that reaches far: a fraction of a millisecond of work.
pub(super) const ROUTES_LOOKED_AT: usize = 1_000;

/// Slots that may stop, each counted once, whoever has a part in it.
pub(super) struct Reached<'a> {
    desired: &'a Desired,
    places: BTreeSet<Place>,
    n_routes: usize,
    enough: usize,
}

/// Where there may be a slot. Whether there is one would have to be worked out; no slot has two of these.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// On a port, without server names, or with the one that its listener has.
    Port(i64),
    /// On a port, with a server name that is held.
    Held(Plane, Slot),
    /// On a port, with what a listener's hostname and a route's have in common.
    Name(i64, Option<Arc<str>>, Arc<str>),
}

impl<'a> Reached<'a> {
    pub(super) fn new(desired: &'a Desired, enough: usize) -> Self {
        Self { desired, places: BTreeSet::new(), n_routes: 0, enough }
    }

    pub(super) fn count(&self) -> usize {
        if self.is_enough() { self.enough } else { self.places.len() }
    }

    pub(super) fn is_enough(&self) -> bool {
        self.places.len() >= self.enough || self.n_routes >= ROUTES_LOOKED_AT
    }

    pub(super) fn listeners(&mut self, listeners: &[ListenerFacts]) {
        for listener in listeners {
            self.listener(listener);
        }
    }

    /// The Gateways of a class, and their ListenerSets.
    pub(super) fn class(&mut self, name: &ObjectName) {
        let known = &self.desired.known;
        known.gateways_by_class.of(&name.name).for_each(|gateway| self.gateway(gateway));
        self.sets_of_gateways_reached();
    }

    /// A Gateway with all that its ListenerSets add.
    pub(super) fn gateway(&mut self, name: &ObjectName) {
        let known = &self.desired.known;
        let facts = known.gateways.get(name);
        self.listeners(facts.map_or(&[], |facts| &facts.listeners));
        if known.gateways.is_unreadable(name) {
            self.routes_of(Kind::Gateway, name);
        }
        for set in known.sets_by_gateway.of(name) {
            self.set(set);
            if known.gateways.is_unreadable(name) {
                self.routes_of(Kind::ListenerSet, set);
            }
        }
    }

    /// The routes of an object that could never be read: what they have on whatever parent was kept for it.
    fn routes_of(&mut self, kind: Kind, name: &ObjectName) {
        self.routes(self.desired.known.routes_by_parent.of(&ObjectRef::new(kind, name.clone())));
    }

    pub(super) fn set(&mut self, name: &ObjectName) {
        let sets = &self.desired.known.sets;
        self.listeners(sets.get(name).map_or(&[], |facts| &facts.listeners));
        if sets.is_unreadable(name) {
            self.routes_of(Kind::ListenerSet, name);
        }
    }

    /// A Gateway that loses its last listener is not accepted any more, and its ListenerSets with it, wherever they are. What
    /// they leave may go to another Gateway, and that may move more.
    pub(super) fn sets_of_gateways_reached(&mut self) {
        let known = &self.desired.known;
        let mut others: Vec<&ObjectName> = known.sets_by_gateway.keys().collect();
        loop {
            let is_reached = |gateway: &GatewayFacts| {
                gateway.listeners.iter().any(|listener| self.places.contains(&Place::Port(listener.port)))
            };
            let (reached, left): (Vec<&ObjectName>, Vec<&ObjectName>) =
                others.into_iter().partition(|gateway| known.gateways.get(gateway).is_some_and(is_reached));
            if reached.is_empty() || self.is_enough() {
                return;
            }
            reached.into_iter().flat_map(|gateway| known.sets_by_gateway.of(gateway)).for_each(|set| self.set(set));
            others = left;
        }
    }

    /// The ListenerSets of a namespace whose Gateways look at its labels.
    pub(super) fn sets_selected_by_label(&mut self, namespace: &ObjectName) {
        let known = &self.desired.known;
        let mut any = false;
        for (set, _) in known.sets.in_namespace(&namespace.name) {
            let gateway = known.gateway_of(set).and_then(|gateway| known.gateways.get(&gateway));
            if gateway.is_some_and(|gateway| matches!(gateway.allowed_listeners, FromNamespaces::Selector(_))) {
                self.set(set);
                any = true;
            }
        }
        if any {
            self.sets_of_gateways_reached();
        }
    }

    /// The listeners of a Gateway or ListenerSet that end TLS with what a Secret holds.
    pub(super) fn listeners_ending_tls(&mut self, owner: &ObjectRef, with: impl Fn(&ObjectName) -> bool) {
        for listener in self.desired.known.listeners_of(owner) {
            let references = listener.tls.as_ref().map(|tls| tls.certificates.as_slice()).unwrap_or_default();
            let mut secrets = references.iter().filter_map(|reference| secret_name(reference, &owner.name.namespace));
            if secrets.any(|secret| with(&secret)) {
                self.listener(listener);
            }
        }
    }

    /// A listener's own slot, and those with names that are held on its port: they may lie within its hostname, or it may stand
    /// in the way of theirs.
    fn listener(&mut self, listener: &ListenerFacts) {
        self.places.insert(Place::Port(listener.port));
        let Some(port) = u16::try_from(listener.port).ok().and_then(Port::new) else { return };
        let room = self.enough.saturating_sub(self.places.len());
        let desired = self.desired;
        for (plane, state) in desired.planes.all() {
            let slots = state.slots.held_on(state.settings.apisix_port(port));
            for slot in slots.filter(|slot| slot.name.is_some()).take(room) {
                self.places.insert(Place::Held(plane, slot.clone()));
                self.others_named(slot.name.as_ref());
            }
        }
        self.others_named(listener.hostname.as_deref().and_then(ServerName::of).as_ref());
    }

    /// Slots of other ports with a name: there is one certificate for all of them.
    fn others_named(&mut self, name: Option<&ServerName>) {
        let Some(name) = name else { return };
        for (plane, state) in self.desired.planes.all() {
            let slots = state.certificates.ports_of(name).map(|port| Slot { port, name: Some(name.clone()) });
            self.places.extend(slots.map(|slot| Place::Held(plane, slot)));
        }
    }

    pub(super) fn routes<'r>(&mut self, routes: impl Iterator<Item = &'r RouteRef>) {
        for route in routes {
            if self.is_enough() {
                return;
            }
            self.route(route);
        }
    }

    pub(super) fn route(&mut self, route: &RouteRef) {
        self.n_routes += 1;
        if let Some(facts) = self.desired.known.routes.get(route) {
            self.facts_of_route(&route.name, facts);
        }
    }

    /// The ports on which a route may hold a slot.
    pub(super) fn facts_of_route(&mut self, name: &ObjectName, facts: &RouteFacts) {
        for parent in &facts.parents {
            let Some(named) = parent_named(parent, name) else { continue };
            for listener in listeners_named(parent, self.desired.known.listeners_of(&named)) {
                let hostname = &listener.hostname;
                let name = |name: &Arc<str>| Place::Name(listener.port, hostname.clone(), Arc::clone(name));
                self.places.extend(facts.hostnames.iter().map(name));
                for name in &facts.hostnames {
                    self.others_named(ServerName::of(name).as_ref());
                }
                // A route without names has the listener's, of which there may be several on a port.
                self.places.insert(match hostname.as_ref().filter(|_| facts.hostnames.is_empty()) {
                    None => Place::Port(listener.port),
                    Some(hostname) => name(hostname),
                });
            }
        }
    }

    /// The routes to Services that a policy is about, or is about `now`.
    pub(super) fn policy(&mut self, name: &ObjectName, now: Option<&Facts>) {
        let known = &self.desired.known;
        let facts = now.and_then(|facts| if let Facts::BackendTlsPolicy(facts) = facts { Some(facts) } else { None });
        let after = facts.into_iter().flat_map(|facts| policies::targeted(facts, name));
        for service in policies::services_concerned(known, name).into_iter().chain(after) {
            self.routes(known.routes_by_service.of(&service));
        }
    }

    pub(super) fn slice(&mut self, name: &ObjectName, now: Option<&EndpointSliceFacts>) {
        let known = &self.desired.known;
        let of = |service: &Arc<str>| ObjectName { namespace: Arc::clone(&name.namespace), name: Arc::clone(service) };
        let after = now.and_then(|slice| slice.service.as_ref()).map(of);
        for service in known.service_of(name).into_iter().chain(after) {
            self.routes(known.routes_by_service.of(&service));
        }
        // It may have stood in the way of any Service of its namespace.
        if known.slices.is_unreadable(name) {
            for (service, _) in known.services.in_namespace(&name.namespace) {
                self.routes(known.routes_by_service.of(service));
            }
        }
    }
}

fn listeners_named<'a>(parent: &ParentRef, listeners: &'a [ListenerFacts]) -> impl Iterator<Item = &'a ListenerFacts> {
    listeners
        .iter()
        .filter(|listener| parent.section_name.as_ref().is_none_or(|section| *section == listener.name))
        .filter(|listener| parent.port.is_none_or(|port| port == listener.port))
}
