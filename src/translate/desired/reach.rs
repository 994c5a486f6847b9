//! What a change may stop, and what a slot comes to, without translating anything: what guards ask before documents go.
//!
//! A change comes in before it is noted; out comes a bound of the slots that may stop by it. It reads facts and indexes
//! only, and never fails.

use super::Desired;
use crate::{
    apisix::ids::{self, SlotPlace},
    model::{
        facts::{
            Change, EndpointSliceFacts, Facts, FromNamespaces, GatewayFacts, ListenerFacts, Observed, ParentRef,
            RouteFacts,
        },
        names::{Kind, ObjectName, ObjectRef, RouteRef},
        places::{Port, ServerName, Slot, WorkId},
    },
    translate::{
        certificates::Ending,
        known::{parent_named, secret_name},
    },
};
use std::{collections::BTreeSet, sync::Arc};

/// How many routes are looked at before a change counts as one that reaches far: a fraction of a millisecond of work.
const ROUTES_LOOKED_AT: usize = 1_000;

/// What a slot is wanted to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Connections go to this many nodes; at least one.
    Nodes(usize),
    /// It is there, and no connection gets anywhere.
    NoNodes,
    /// A document that it needs would be refused.
    Refused,
    /// It is not there.
    Absent,
    /// It stays as it is in etcd.
    Kept,
}

impl Desired {
    /// How many slots may stop when `change` is taken in: an upper bound, up to `enough`, where counting ends. To be asked
    /// before the change is noted; changes that are noted and not settled are counted with.
    ///
    /// A change that says what is known already, and one that leaves a ready endpoint where there was one, stop nothing.
    #[must_use]
    pub fn reach(&self, change: &Change, enough: usize) -> usize {
        let Change { kind, name, observed } = change;
        if observed.as_ref().is_some_and(|observed| self.says_nothing_new(name, observed)) {
            return 0;
        }
        let now = match observed {
            Some(Observed::Facts(facts)) => Some(facts),
            Some(Observed::Unreadable { error: _ }) | None => None,
        };
        let mut reached = Reached::new(self, enough);
        match kind {
            Kind::GatewayClass => {
                for gateway in self.known.gateways_by_class.of(&name.name) {
                    reached.gateway(gateway);
                }
                reached.sets_of_gateways_reached();
            }
            Kind::Gateway => {
                reached.gateway(name);
                if let Some(Facts::Gateway(facts)) = now {
                    reached.listeners(&facts.listeners);
                }
                reached.sets_of_gateways_reached();
            }
            Kind::ListenerSet => {
                reached.set(name);
                if let Some(Facts::ListenerSet(facts)) = now {
                    reached.listeners(&facts.listeners);
                }
                reached.sets_of_gateways_reached();
            }
            Kind::TcpRoute | Kind::UdpRoute | Kind::TlsRoute => {
                reached.route(&RouteRef::new(*kind, name.clone()));
                if let Some(Facts::TcpRoute(facts) | Facts::UdpRoute(facts) | Facts::TlsRoute(facts)) = now {
                    reached.facts_of_route(name, facts);
                }
            }
            Kind::Namespace => {
                let routes = self.known.routes.readable_in(&name.name);
                let selected = routes.filter(|(route, facts)| self.is_selected_by_label(&route.name, facts));
                for (route, _) in selected {
                    if reached.is_enough() {
                        break;
                    }
                    reached.route(&route);
                }
                reached.sets_selected_by_label(name);
            }
            Kind::ReferenceGrant => {
                reached.routes(self.known.routes_by_foreign_namespace.of(&name.namespace));
                for owner in self.known.owners_by_foreign_namespace.of(&name.namespace) {
                    reached.listeners_ending_tls(owner, |secret| secret.namespace == name.namespace);
                }
                reached.sets_of_gateways_reached();
            }
            Kind::Secret => {
                for owner in self.known.owners_by_secret.of(name) {
                    reached.listeners_ending_tls(owner, |secret| secret == name);
                }
            }
            Kind::Service => reached.routes(self.known.routes_by_service.of(name)),
            Kind::EndpointSlice => {
                let now =
                    now.and_then(|facts| if let Facts::EndpointSlice(slice) = facts { Some(slice) } else { None });
                if !stays_ready(self.known.slices.get(name), now) {
                    reached.slice(name, now);
                }
            }
        }
        reached.count()
    }

    /// What a slot is wanted to do, as of the last time changes were settled. `Refused` is never said here: the documents of
    /// checked settings pass their check, and the limits of transactions are the caller's to know.
    #[must_use]
    pub fn serves(&self, slot: &WorkId) -> Serves {
        let Some(place) = SlotPlace::of(slot) else { return Serves::Absent };
        let Some(holder) = self.slots.holder_at(slot) else {
            return match self.ports.nested_at(place) {
                Some(_) => Serves::NoNodes,
                None if self.ports.is_frozen(place.port()) => Serves::Kept,
                None => Serves::Absent,
            };
        };
        let Some(route) = self.routes.get(holder) else { return Serves::Absent };
        if self.keeps_pool_of(holder, route) {
            return Serves::Kept;
        }
        if self.is_shut(slot) {
            return Serves::NoNodes;
        }
        match route.pool.as_ref().map_or(0, |pool| pool.nodes.len()) {
            0 => Serves::NoNodes,
            n_nodes => Serves::Nodes(n_nodes),
        }
    }

    /// The pool a slot is to name.
    #[must_use]
    pub fn slot_pool(&self, slot: &WorkId) -> Option<&WorkId> {
        let holder = self.slots.holder_at(slot).filter(|_| !self.is_shut(slot))?;
        self.routes.get(holder).map(|route| &route.pool_id)
    }

    /// The certificate a slot is to need.
    #[must_use]
    pub fn slot_certificate(&self, slot: &WorkId) -> Option<WorkId> {
        let slot = self.slots.of_id(slot).filter(|slot| self.slots.holder(slot).is_some())?;
        match self.certificates.ending(&slot, self.view()) {
            Ending::With(name) => self.certificates.place(name),
            Ending::No | Ending::Taken | Ending::NoName => None,
        }
    }

    /// Whether a slot has a route and turns everybody away all the same, because TLS cannot be ended for it with the certificate
    /// of its listener.
    fn is_shut(&self, slot: &WorkId) -> bool {
        let Some(slot) = self.slots.of_id(slot) else { return false };
        match self.certificates.ending(&slot, self.view()) {
            Ending::Taken | Ending::NoName => true,
            Ending::No | Ending::With(_) => false,
        }
    }

    /// The slots that are to name a pool, in order of their ports.
    pub fn slots_of(&self, pool: &WorkId) -> impl Iterator<Item = WorkId> {
        self.route_of_pool.get(pool).into_iter().flat_map(|route| self.slots.held_by(route)).map(ids::slot)
    }

    /// Whether a share of the connections of this slot, or of those that come to this pool, is to be refused.
    #[must_use]
    pub fn refuses(&self, id: &WorkId) -> bool {
        let pool = self.route_of(id).and_then(|route| self.routes.get(route)).and_then(|route| route.pool.as_ref());
        pool.is_some_and(|pool| pool.verdict.refused.is_some())
    }

    /// The GatewayClasses that are ours; where none is, all there are. In order.
    #[must_use]
    pub fn gateway_classes(&self) -> Vec<ObjectRef> {
        let ours = |name: &&ObjectName| {
            let class = self.known.classes.get(name);
            class.is_some_and(|class| class.controller_name == self.settings.controller_name)
        };
        let mut names: Vec<&ObjectName> = self.known.classes.names().filter(ours).collect();
        if names.is_empty() {
            names = self.known.classes.names().collect();
        }
        names.into_iter().map(|name| ObjectRef::new(Kind::GatewayClass, name.clone())).collect()
    }

    fn says_nothing_new(&self, name: &ObjectName, observed: &Observed) -> bool {
        let Observed::Facts(facts) = observed else { return false };
        let observed_kind = facts.kind();
        let known = &self.known;
        match facts {
            Facts::GatewayClass(facts) => known.classes.get(name) == Some(facts),
            Facts::Gateway(facts) => known.gateways.get(name) == Some(facts),
            Facts::ListenerSet(facts) => known.sets.get(name) == Some(facts),
            Facts::TcpRoute(facts) | Facts::UdpRoute(facts) | Facts::TlsRoute(facts) => {
                known.routes.get(&RouteRef::new(observed_kind, name.clone())) == Some(facts)
            }
            Facts::ReferenceGrant(facts) => known.grants.get(name) == Some(facts),
            Facts::Namespace(facts) => known.namespaces.get(name) == Some(facts),
            Facts::Secret(facts) => known.secrets.get(name) == Some(facts),
            Facts::Service(facts) => known.services.get(name) == Some(facts),
            Facts::EndpointSlice(facts) => known.slices.get(name) == Some(facts),
        }
    }

    fn is_selected_by_label(&self, route: &ObjectName, facts: &RouteFacts) -> bool {
        let selects = |listener: &ListenerFacts| matches!(listener.namespaces, FromNamespaces::Selector(_));
        let mut parents = facts.parents.iter().filter_map(|parent| parent_named(parent, route));
        parents.any(|parent| self.known.listeners_of(&parent).iter().any(selects))
    }
}

/// Slots that may stop, each counted once, whoever has a part in it.
struct Reached<'a> {
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
    Held(Slot),
    /// On a port, with what a listener's hostname and a route's have in common.
    Name(i64, Option<Arc<str>>, Arc<str>),
}

impl<'a> Reached<'a> {
    fn new(desired: &'a Desired, enough: usize) -> Self {
        Self { desired, places: BTreeSet::new(), n_routes: 0, enough }
    }

    fn count(&self) -> usize {
        if self.is_enough() { self.enough } else { self.places.len() }
    }

    fn is_enough(&self) -> bool {
        self.places.len() >= self.enough || self.n_routes >= ROUTES_LOOKED_AT
    }

    fn listeners(&mut self, listeners: &[ListenerFacts]) {
        for listener in listeners {
            self.listener(listener);
        }
    }

    /// A Gateway with all that its ListenerSets add.
    fn gateway(&mut self, name: &ObjectName) {
        let known = &self.desired.known;
        let facts = known.gateways.get(name);
        self.listeners(facts.map_or(&[], |facts| &facts.listeners));
        for set in known.sets_by_gateway.of(name) {
            self.set(set);
        }
    }

    fn set(&mut self, name: &ObjectName) {
        let facts = self.desired.known.sets.get(name);
        self.listeners(facts.map_or(&[], |facts| &facts.listeners));
    }

    /// A Gateway that loses its last listener is not accepted any more, and its ListenerSets with it, wherever they are. What
    /// they leave may go to another Gateway, and that may move more.
    fn sets_of_gateways_reached(&mut self) {
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
    fn sets_selected_by_label(&mut self, namespace: &ObjectName) {
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
    fn listeners_ending_tls(&mut self, owner: &ObjectRef, with: impl Fn(&ObjectName) -> bool) {
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
        for slot in desired.slots.held_on(port).filter(|slot| slot.name.is_some()).take(room) {
            self.places.insert(Place::Held(slot.clone()));
            self.others_named(slot.name.as_ref());
        }
        self.others_named(listener.hostname.as_deref().and_then(ServerName::of).as_ref());
    }

    /// Slots of other ports with a name: there is one certificate for all of them.
    fn others_named(&mut self, name: Option<&ServerName>) {
        let Some(name) = name else { return };
        let slots = self.desired.certificates.ports_of(name).map(|port| Slot { port, name: Some(name.clone()) });
        self.places.extend(slots.map(Place::Held));
    }

    fn routes<'r>(&mut self, routes: impl Iterator<Item = &'r RouteRef>) {
        for route in routes {
            if self.is_enough() {
                return;
            }
            self.route(route);
        }
    }

    fn route(&mut self, route: &RouteRef) {
        self.n_routes += 1;
        if let Some(facts) = self.desired.known.routes.get(route) {
            self.facts_of_route(&route.name, facts);
        }
    }

    /// The ports on which a route may hold a slot.
    fn facts_of_route(&mut self, name: &ObjectName, facts: &RouteFacts) {
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

    fn slice(&mut self, name: &ObjectName, now: Option<&EndpointSliceFacts>) {
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

/// Whether whoever had an endpoint by a slice still has one: the same ports of the same Service, and one that is ready. So
/// are nearly all changes of endpoints, and they come in crowds.
fn stays_ready(before: Option<&EndpointSliceFacts>, now: Option<&EndpointSliceFacts>) -> bool {
    let (Some(before), Some(now)) = (before, now) else { return false };
    before.service == now.service
        && before.family == now.family
        && before.ports == now.ports
        && now.endpoints.iter().any(|endpoint| endpoint.ready)
}

#[cfg(test)]
mod tests;
