//! What a change may stop, and what a slot comes to, without translating anything: what guards ask before documents go.
//!
//! A change comes in before it is noted; out comes a bound of the slots that may stop by it. It reads facts and indexes
//! only, and never fails.

mod reached;

use super::{Desired, Route};
use crate::{
    apisix::ids::{self, SlotPlace},
    model::{
        facts::{Change, EndpointSliceFacts, Facts, FromNamespaces, ListenerFacts, Observed, RouteFacts},
        names::{Kind, ObjectName, ObjectRef, RouteRef},
        places::WorkId,
    },
    translate::{certificates::Ending, known::parent_named, planes::classes_naming},
};
use reached::Reached;

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
            // One prefix that comes or goes may decide over every other DataPlane.
            Kind::DataPlane => classes_naming(&self.known, None).for_each(|(class, _)| reached.class(class)),
            Kind::GatewayClass => reached.class(name),
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
            }
            Kind::Secret => {
                for owner in self.known.owners_by_secret.of(name) {
                    reached.listeners_ending_tls(owner, |secret| secret == name);
                }
            }
            Kind::BackendTlsPolicy => reached.policy(name, now),
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
        let plane = slot.plane;
        let (Some(place), Some(state)) = (SlotPlace::of(slot), self.planes.of(plane)) else { return Serves::Absent };
        let Some(holder) = state.slots.holder_at(slot) else {
            return match state.ports.nested_at(place) {
                Some(_) => Serves::NoNodes,
                None if self.planes.is_frozen(plane, place.port()) => Serves::Kept,
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
        match self.pool(route, plane).map_or(0, |pool| pool.nodes.len()) {
            0 => Serves::NoNodes,
            n_nodes => Serves::Nodes(n_nodes),
        }
    }

    /// The pool a slot is to name.
    #[must_use]
    pub fn slot_pool(&self, slot: &WorkId) -> Option<WorkId> {
        let holder = self.planes.of(slot.plane)?.slots.holder_at(slot).filter(|_| !self.is_shut(slot))?;
        self.routes.get(holder).map(|route| route.pool_on(slot.plane))
    }

    /// The certificate a slot is to need.
    #[must_use]
    pub fn slot_certificate(&self, slot: &WorkId) -> Option<WorkId> {
        let state = self.planes.of(slot.plane)?;
        let slot = state.slots.of_id(slot).filter(|slot| state.slots.holder(slot).is_some())?;
        match state.certificates.ending(&slot, state.view(&self.owners)) {
            Ending::With(name) => state.certificates.place(name),
            Ending::No | Ending::Taken | Ending::NoName => None,
        }
    }

    /// Whether a slot has a route and turns everybody away all the same, because TLS cannot be ended for it with the certificate
    /// of its listener.
    fn is_shut(&self, slot: &WorkId) -> bool {
        let Some(state) = self.planes.of(slot.plane) else { return false };
        let Some(slot) = state.slots.of_id(slot) else { return false };
        match state.certificates.ending(&slot, state.view(&self.owners)) {
            Ending::Taken | Ending::NoName => true,
            Ending::No | Ending::With(_) => false,
        }
    }

    /// The slots that are to name a pool, in order of their ports.
    pub fn slots_of(&self, pool: &WorkId) -> impl Iterator<Item = WorkId> {
        let plane = pool.plane;
        let slots = self.planes.of(plane).map(|state| &state.slots);
        let held = slots.zip(self.route_of_pool.get(&pool.id)).map(|(slots, route)| slots.held_by(route));
        held.into_iter().flatten().map(move |slot| ids::slot(plane, slot))
    }

    /// The slots that the route of a pool is to have, on whatever data plane.
    pub fn slots_of_route(&self, pool: &WorkId) -> impl Iterator<Item = WorkId> {
        let held = self.route_of_pool.get(&pool.id).map(|route| self.held_by(route));
        held.into_iter().flatten().map(|(plane, slot)| ids::slot(plane, slot))
    }

    /// Whether a share of the connections of this slot, or of those that come to this pool, is to be refused.
    #[must_use]
    pub fn refuses(&self, id: &WorkId) -> bool {
        let pool = self.route_of(id).and_then(|route| self.routes.get(route)).and_then(Route::any_pool);
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
            Facts::DataPlane(facts) => known.data_planes.get(name) == Some(facts),
            Facts::GatewayClass(facts) => known.classes.get(name) == Some(facts),
            Facts::Gateway(facts) => known.gateways.get(name) == Some(facts),
            Facts::ListenerSet(facts) => known.sets.get(name) == Some(facts),
            Facts::TcpRoute(facts) | Facts::UdpRoute(facts) | Facts::TlsRoute(facts) => {
                known.routes.get(&RouteRef::new(observed_kind, name.clone())) == Some(facts)
            }
            Facts::ReferenceGrant(facts) => known.grants.get(name) == Some(facts),
            Facts::BackendTlsPolicy(facts) => known.policies.get(name) == Some(facts),
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
