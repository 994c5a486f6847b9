//! What is said of one object: reads what the tiers said, and never fails.

use super::{Desired, PlaneState, Route};
use crate::{
    model::{
        names::{Kind, ObjectName, ObjectRef, RouteRef},
        places::WorkId,
        verdicts::{ListenerVerdict, Verdict},
    },
    translate::{addresses, listeners::Listener, planes, policies, verdicts},
};
use std::collections::BTreeSet;

impl Desired {
    /// What is said of one object; `None` if it does not exist or no status of ours belongs on it.
    #[must_use]
    pub fn verdict(&self, object: &ObjectRef) -> Option<Verdict> {
        let name = &object.name;
        match object.kind {
            Kind::DataPlane => planes::verdict(&self.known, name, &self.data_planes, &self.settings.controller_name)
                .map(Verdict::DataPlane),
            Kind::GatewayClass => {
                let class = self.known.classes.get(name)?;
                let in_use = self.known.class_in_use(name);
                let plane = planes::of_class(class.parameters.as_ref(), &self.data_planes);
                let verdict = || verdicts::class(class, plane, &self.served, in_use, self.settings.plane.version);
                (class.controller_name == self.settings.controller_name).then(|| Verdict::GatewayClass(verdict()))
            }
            Kind::Gateway => {
                let gateway = self.owners.gateways.get(name)?;
                let state = self.planes.of(gateway.plane?)?;
                let assigned = self.assigned(name, state)?;
                let n_sets = self.accepted_sets.get(name).map_or(0, BTreeSet::len);
                let listeners = self.listener_verdicts(object, &gateway.listeners, state);
                Some(Verdict::Gateway(verdicts::gateway(gateway, listeners, assigned, n_sets)))
            }
            Kind::ListenerSet => {
                let set = self.owners.sets.get(name)?;
                let state = self.planes.of(set.plane?)?;
                let listeners = self.listener_verdicts(object, if set.allowed { &set.listeners } else { &[] }, state);
                let address = self.assigned(&set.gateway, state)?.problem.is_none();
                Some(Verdict::ListenerSet(verdicts::listener_set(set, listeners, address, &state.ports)))
            }
            Kind::TcpRoute | Kind::UdpRoute | Kind::TlsRoute => {
                let name = RouteRef::new(object.kind, name.clone());
                let (route, facts) = (self.routes.get(&name)?, self.known.routes.get(&name)?);
                let Route { pool_id, attachments, .. } = route;
                let of = verdicts::Routed { name: &name, attachments, pool_id };
                Some(Verdict::Route(verdicts::route(of, facts, route.any_pool(), &self.planes, &self.owners)))
            }
            Kind::BackendTlsPolicy => {
                let facts = self.known.policies.get(name)?;
                let services = policies::services_of(&self.known, name);
                let routes = services.iter().flat_map(|service| self.known.routes_by_service.of(service));
                let user = |route| {
                    let route = self.routes.get(route)?;
                    Some((&route.attachments, route.any_pool()))
                };
                Some(Verdict::Policy(policies::verdict(name, facts, routes.filter_map(user), &self.known)))
            }
            Kind::ReferenceGrant | Kind::Namespace | Kind::Secret | Kind::Service | Kind::EndpointSlice => None,
        }
    }

    /// Every object with a verdict, in order.
    #[must_use]
    pub fn verdicts(&self) -> BTreeSet<ObjectRef> {
        Kind::ALL
            .into_iter()
            .filter(|kind| kind.has_our_status())
            .flat_map(|kind| self.known.names(kind).into_iter().map(move |name| ObjectRef::new(kind, name)))
            .filter(|object| self.verdict(object).is_some())
            .collect()
    }

    /// The route whose `Programmed` depends on how this document stands in etcd, or of a certificate the Gateways; its routes are
    /// found through their slots.
    #[must_use]
    pub fn users(&self, id: &WorkId) -> Vec<ObjectRef> {
        let listeners = self.planes.of(id.plane).into_iter().flat_map(|state| state.certificates.listeners(id));
        let owners: BTreeSet<_> = listeners.map(|listener| &listener.owner).collect();
        self.route_of(id).cloned().map(ObjectRef::from).into_iter().chain(owners.into_iter().cloned()).collect()
    }

    fn assigned(&self, gateway: &ObjectName, state: &PlaneState) -> Option<addresses::Assigned> {
        let asked = &self.known.gateways.get(gateway)?.addresses;
        Some(addresses::assign(asked, &state.settings.addresses, &self.known.services))
    }

    fn listener_verdicts(&self, owner: &ObjectRef, listeners: &[Listener], state: &PlaneState) -> Vec<ListenerVerdict> {
        verdicts::listeners(owner, listeners, &state.ports, &state.certificates, self.attached.get(owner))
    }
}
