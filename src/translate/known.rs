//! What is known of the cluster: the facts of every object, and reverse indexes keyed by *reference*, so that an object that
//! does not exist yet is felt when it appears.

pub mod shelf;

use super::policies;
use crate::model::{
    certificates::SecretFacts,
    facts::{
        BackendRef, EndpointSliceFacts, Facts, GatewayClassFacts, GatewayFacts, ListenerFacts, NamespaceFacts,
        Observed, ParentRef, ReferenceGrantFacts, RouteFacts, SecretRef, ServiceFacts, data_planes::DataPlaneFacts,
        listener_sets::ListenerSetFacts, policies::BackendTlsPolicyFacts,
    },
    names::{GATEWAY_GROUP, Kind, ObjectName, ObjectRef, RouteRef},
};
use shelf::{Index, Presence, Shelf};
use std::sync::Arc;

/// Every object there is, and who refers to what.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// DataPlanes.
    pub data_planes: Shelf<DataPlaneFacts>,
    /// GatewayClasses.
    pub classes: Shelf<GatewayClassFacts>,
    /// Gateways.
    pub gateways: Shelf<GatewayFacts>,
    /// ListenerSets.
    pub sets: Shelf<ListenerSetFacts>,
    /// Routes of every kind.
    pub routes: Routes,
    /// ReferenceGrants.
    pub grants: Shelf<ReferenceGrantFacts>,
    /// BackendTLSPolicies.
    pub policies: Shelf<BackendTlsPolicyFacts>,
    /// Namespaces.
    pub namespaces: Shelf<NamespaceFacts>,
    /// Secrets of type `kubernetes.io/tls`.
    pub secrets: Shelf<SecretFacts>,
    /// Services.
    pub services: Shelf<ServiceFacts>,
    /// EndpointSlices.
    pub slices: Shelf<EndpointSliceFacts>,
    /// Class name to the Gateways that name it.
    pub gateways_by_class: Index<Arc<str>, ObjectName>,
    /// Secret to the Gateways and ListenerSets that name it in a listener.
    pub owners_by_secret: Index<ObjectName, ObjectRef>,
    /// Namespace to the Gateways and ListenerSets elsewhere that name a Secret in it.
    pub owners_by_foreign_namespace: Index<Arc<str>, ObjectRef>,
    /// Gateway to the ListenerSets that name it.
    pub sets_by_gateway: Index<ObjectName, ObjectName>,
    /// Gateway or ListenerSet to the routes that name it as a parent.
    pub routes_by_parent: Index<ObjectRef, RouteRef>,
    /// Service to the routes that name it as a backend.
    pub routes_by_service: Index<ObjectName, RouteRef>,
    /// Namespace to the routes elsewhere that name a backend in it.
    pub routes_by_foreign_namespace: Index<Arc<str>, RouteRef>,
    /// Service to the BackendTLSPolicies that target it or a port of it.
    pub policies_by_service: Index<ObjectName, ObjectName>,
    /// Service to its EndpointSlices.
    pub slices_by_service: Index<ObjectName, ObjectName>,
}

impl Known {
    /// Takes in what is now known of one object and says whether anything differs. Facts of another kind than `kind` are
    /// a mistake of the caller and change nothing.
    pub fn set(&mut self, kind: Kind, name: &ObjectName, observed: Option<Observed>) -> bool {
        self.unindex(kind, name);
        let changed = match kind {
            Kind::DataPlane => set(&mut self.data_planes, name, observed, |facts| {
                if let Facts::DataPlane(facts) = facts { Some(facts) } else { None }
            }),
            Kind::GatewayClass => set(&mut self.classes, name, observed, |facts| {
                if let Facts::GatewayClass(facts) = facts { Some(facts) } else { None }
            }),
            Kind::Gateway => set(&mut self.gateways, name, observed, |facts| {
                if let Facts::Gateway(facts) = facts { Some(facts) } else { None }
            }),
            Kind::ListenerSet => set(&mut self.sets, name, observed, |facts| {
                if let Facts::ListenerSet(facts) = facts { Some(facts) } else { None }
            }),
            Kind::TcpRoute => set(&mut self.routes.tcp, name, observed, |facts| {
                if let Facts::TcpRoute(facts) = facts { Some(facts) } else { None }
            }),
            Kind::TlsRoute => set(&mut self.routes.tls, name, observed, |facts| {
                if let Facts::TlsRoute(facts) = facts { Some(facts) } else { None }
            }),
            Kind::UdpRoute => set(&mut self.routes.udp, name, observed, |facts| {
                if let Facts::UdpRoute(facts) = facts { Some(facts) } else { None }
            }),
            Kind::ReferenceGrant => set(&mut self.grants, name, observed, |facts| {
                if let Facts::ReferenceGrant(facts) = facts { Some(facts) } else { None }
            }),
            Kind::BackendTlsPolicy => set(&mut self.policies, name, observed, |facts| {
                if let Facts::BackendTlsPolicy(facts) = facts { Some(facts) } else { None }
            }),
            Kind::Namespace => set(&mut self.namespaces, name, observed, |facts| {
                if let Facts::Namespace(facts) = facts { Some(facts) } else { None }
            }),
            Kind::Secret => set(&mut self.secrets, name, observed, |facts| {
                if let Facts::Secret(facts) = facts { Some(facts) } else { None }
            }),
            Kind::Service => set(&mut self.services, name, observed, |facts| {
                if let Facts::Service(facts) = facts { Some(facts) } else { None }
            }),
            Kind::EndpointSlice => set(&mut self.slices, name, observed, |facts| {
                if let Facts::EndpointSlice(facts) = facts { Some(facts) } else { None }
            }),
        };
        self.index(kind, name);
        changed
    }

    /// Every name of a kind, in order.
    #[must_use]
    pub fn names(&self, kind: Kind) -> Vec<ObjectName> {
        match kind {
            Kind::DataPlane => self.data_planes.names().cloned().collect(),
            Kind::GatewayClass => self.classes.names().cloned().collect(),
            Kind::Gateway => self.gateways.names().cloned().collect(),
            Kind::ListenerSet => self.sets.names().cloned().collect(),
            Kind::TcpRoute => self.routes.tcp.names().cloned().collect(),
            Kind::UdpRoute => self.routes.udp.names().cloned().collect(),
            Kind::TlsRoute => self.routes.tls.names().cloned().collect(),
            Kind::ReferenceGrant => self.grants.names().cloned().collect(),
            Kind::BackendTlsPolicy => self.policies.names().cloned().collect(),
            Kind::Namespace => self.namespaces.names().cloned().collect(),
            Kind::Secret => self.secrets.names().cloned().collect(),
            Kind::Service => self.services.names().cloned().collect(),
            Kind::EndpointSlice => self.slices.names().cloned().collect(),
        }
    }

    /// How many objects of a kind there are.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::DataPlane => self.data_planes.len(),
            Kind::GatewayClass => self.classes.len(),
            Kind::Gateway => self.gateways.len(),
            Kind::ListenerSet => self.sets.len(),
            Kind::TcpRoute => self.routes.tcp.len(),
            Kind::UdpRoute => self.routes.udp.len(),
            Kind::TlsRoute => self.routes.tls.len(),
            Kind::ReferenceGrant => self.grants.len(),
            Kind::BackendTlsPolicy => self.policies.len(),
            Kind::Namespace => self.namespaces.len(),
            Kind::Secret => self.secrets.len(),
            Kind::Service => self.services.len(),
            Kind::EndpointSlice => self.slices.len(),
        }
    }

    /// The Service an EndpointSlice belongs to.
    #[must_use]
    pub fn service_of(&self, slice: &ObjectName) -> Option<ObjectName> {
        let service = self.slices.get(slice)?.service.as_ref()?;
        Some(ObjectName { namespace: Arc::clone(&slice.namespace), name: Arc::clone(service) })
    }

    /// Whether a Gateway names this class, or could not be read and may.
    #[must_use]
    pub fn class_in_use(&self, class: &ObjectName) -> bool {
        self.gateways_by_class.of(&class.name).next().is_some() || self.gateways.any_unreadable()
    }

    fn index(&mut self, kind: Kind, name: &ObjectName) {
        match kind {
            Kind::Gateway => {
                self.gateways_by_class.add(self.class_of(name), name);
                self.index_secrets(&ObjectRef::new(kind, name.clone()));
            }
            Kind::ListenerSet => {
                self.sets_by_gateway.add(self.gateway_of(name), name);
                self.index_secrets(&ObjectRef::new(kind, name.clone()));
            }
            Kind::TcpRoute | Kind::UdpRoute | Kind::TlsRoute => {
                let route = RouteRef::new(kind, name.clone());
                let references = self.references(&route);
                self.routes_by_parent.add(references.parents, &route);
                self.routes_by_service.add(references.services, &route);
                self.routes_by_foreign_namespace.add(references.foreign_namespaces, &route);
            }
            Kind::BackendTlsPolicy => self.policies_by_service.add(policies::services_of(self, name), name),
            Kind::EndpointSlice => self.slices_by_service.add(self.service_of(name), name),
            Kind::DataPlane
            | Kind::GatewayClass
            | Kind::ReferenceGrant
            | Kind::Namespace
            | Kind::Secret
            | Kind::Service => {}
        }
    }

    fn unindex(&mut self, kind: Kind, name: &ObjectName) {
        match kind {
            Kind::Gateway => {
                self.gateways_by_class.remove(self.class_of(name), name);
                self.unindex_secrets(&ObjectRef::new(kind, name.clone()));
            }
            Kind::ListenerSet => {
                self.sets_by_gateway.remove(self.gateway_of(name), name);
                self.unindex_secrets(&ObjectRef::new(kind, name.clone()));
            }
            Kind::TcpRoute | Kind::UdpRoute | Kind::TlsRoute => {
                let route = RouteRef::new(kind, name.clone());
                let references = self.references(&route);
                self.routes_by_parent.remove(references.parents, &route);
                self.routes_by_service.remove(references.services, &route);
                self.routes_by_foreign_namespace.remove(references.foreign_namespaces, &route);
            }
            Kind::BackendTlsPolicy => self.policies_by_service.remove(policies::services_of(self, name), name),
            Kind::EndpointSlice => self.slices_by_service.remove(self.service_of(name), name),
            Kind::DataPlane
            | Kind::GatewayClass
            | Kind::ReferenceGrant
            | Kind::Namespace
            | Kind::Secret
            | Kind::Service => {}
        }
    }

    fn class_of(&self, gateway: &ObjectName) -> Option<Arc<str>> {
        self.gateways.get(gateway).map(|gateway| Arc::clone(&gateway.class))
    }

    fn index_secrets(&mut self, owner: &ObjectRef) {
        let secrets = self.secrets_of(owner);
        self.owners_by_foreign_namespace.add(foreign_namespaces(&secrets, &owner.name), owner);
        self.owners_by_secret.add(secrets, owner);
    }

    fn unindex_secrets(&mut self, owner: &ObjectRef) {
        let secrets = self.secrets_of(owner);
        self.owners_by_foreign_namespace.remove(foreign_namespaces(&secrets, &owner.name), owner);
        self.owners_by_secret.remove(secrets, owner);
    }

    fn secrets_of(&self, owner: &ObjectRef) -> Vec<ObjectName> {
        let with_tls = self.listeners_of(owner).iter().filter_map(|listener| listener.tls.as_ref());
        let references = with_tls.flat_map(|tls| &tls.certificates);
        references.filter_map(|reference| secret_name(reference, &owner.name.namespace)).collect()
    }

    /// The listeners of a Gateway or a ListenerSet, as they are written.
    #[must_use]
    pub fn listeners_of(&self, owner: &ObjectRef) -> &[ListenerFacts] {
        let of_gateway = || Some(self.gateways.get(&owner.name)?.listeners.as_slice());
        let of_set = || Some(self.sets.get(&owner.name)?.listeners.as_slice());
        if owner.kind == Kind::ListenerSet { of_set() } else { of_gateway() }.unwrap_or_default()
    }

    /// The Gateway that a ListenerSet adds to.
    #[must_use]
    pub fn gateway_of(&self, set: &ObjectName) -> Option<ObjectName> {
        gateway_name(&self.sets.get(set)?.parent, set)
    }

    /// The Services that a route names as backends.
    #[must_use]
    pub fn services_named_by(&self, route: &RouteRef) -> Vec<ObjectName> {
        self.references(route).services
    }

    fn references(&self, route: &RouteRef) -> References {
        let Some(facts) = self.routes.get(route) else { return References::default() };
        let route = &route.name;
        let services: Vec<ObjectName> =
            facts.backends.iter().filter_map(|backend| service_name(backend, route)).collect();
        References {
            parents: facts.parents.iter().filter_map(|parent| parent_named(parent, route)).collect(),
            foreign_namespaces: foreign_namespaces(&services, route).collect(),
            services,
        }
    }
}

/// All routes, by kind.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    tcp: Shelf<RouteFacts>,
    udp: Shelf<RouteFacts>,
    tls: Shelf<RouteFacts>,
}

impl Routes {
    /// The facts of a route that could be read.
    #[must_use]
    pub fn get(&self, route: &RouteRef) -> Option<&RouteFacts> {
        self.of(route.kind)?.get(&route.name)
    }

    /// Whether the route exists but could never be read.
    #[must_use]
    pub fn is_unreadable(&self, route: &RouteRef) -> bool {
        self.of(route.kind).is_some_and(|shelf| shelf.is_unreadable(&route.name))
    }

    /// Every route, readable or not, kind by kind.
    pub fn all(&self) -> impl Iterator<Item = RouteRef> {
        let of_kind = |kind| self.of(kind).into_iter().flat_map(Shelf::names).map(move |name| (kind, name));
        Kind::ROUTES.into_iter().flat_map(of_kind).map(|(kind, name)| RouteRef::new(kind, name.clone()))
    }

    /// The readable routes of a namespace, kind by kind.
    pub fn readable_in(&self, namespace: &Arc<str>) -> impl Iterator<Item = (RouteRef, &RouteFacts)> {
        let of_kind =
            |kind| self.of(kind).into_iter().flat_map(|shelf| shelf.in_namespace(namespace)).map(move |o| (kind, o));
        Kind::ROUTES
            .into_iter()
            .flat_map(of_kind)
            .filter_map(|(kind, (name, presence))| Some((RouteRef::new(kind, name.clone()), presence.readable()?)))
    }

    fn of(&self, kind: Kind) -> Option<&Shelf<RouteFacts>> {
        match kind {
            Kind::TcpRoute => Some(&self.tcp),
            Kind::UdpRoute => Some(&self.udp),
            Kind::TlsRoute => Some(&self.tls),
            Kind::DataPlane
            | Kind::GatewayClass
            | Kind::Gateway
            | Kind::ListenerSet
            | Kind::ReferenceGrant
            | Kind::BackendTlsPolicy
            | Kind::Namespace
            | Kind::Secret
            | Kind::Service
            | Kind::EndpointSlice => None,
        }
    }
}

#[derive(Default)]
struct References {
    parents: Vec<ObjectRef>,
    services: Vec<ObjectName>,
    foreign_namespaces: Vec<Arc<str>>,
}

/// The Gateway or ListenerSet that a parentRef of `object` names; `None` if it names something else.
#[must_use]
pub fn parent_named(parent: &ParentRef, object: &ObjectName) -> Option<ObjectRef> {
    let kinds = [Kind::Gateway, Kind::ListenerSet];
    let kind = kinds.into_iter().find(|kind| kind.as_str() == &*parent.kind && &*parent.group == GATEWAY_GROUP)?;
    let namespace = Arc::clone(parent.namespace.as_ref().unwrap_or(&object.namespace));
    Some(ObjectRef::new(kind, ObjectName { namespace, name: Arc::clone(&parent.name) }))
}

/// The Gateway that a parentRef of `object` names; `None` if it names something else.
#[must_use]
pub fn gateway_name(parent: &ParentRef, object: &ObjectName) -> Option<ObjectName> {
    parent_named(parent, object).filter(|named| named.kind == Kind::Gateway).map(|named| named.name)
}

/// The Service a backendRef of `route` names; `None` if it names something else.
#[must_use]
pub fn service_name(backend: &BackendRef, route: &ObjectName) -> Option<ObjectName> {
    (backend.group.is_empty() && &*backend.kind == "Service").then(|| ObjectName {
        namespace: Arc::clone(backend.namespace.as_ref().unwrap_or(&route.namespace)),
        name: Arc::clone(&backend.name),
    })
}

/// The Secret a certificateRef of an object in `home` names; `None` if it names something else.
#[must_use]
pub fn secret_name(reference: &SecretRef, home: &Arc<str>) -> Option<ObjectName> {
    (reference.group.is_empty() && &*reference.kind == "Secret").then(|| ObjectName {
        namespace: Arc::clone(reference.namespace.as_ref().unwrap_or(home)),
        name: Arc::clone(&reference.name),
    })
}

/// The namespaces of `objects` that are not that of who refers to them.
fn foreign_namespaces(objects: &[ObjectName], from: &ObjectName) -> impl Iterator<Item = Arc<str>> {
    objects.iter().filter(|object| object.namespace != from.namespace).map(|object| Arc::clone(&object.namespace))
}

fn set<F: PartialEq>(
    shelf: &mut Shelf<F>,
    name: &ObjectName,
    observed: Option<Observed>,
    of_kind: impl FnOnce(Facts) -> Option<F>,
) -> bool {
    let presence = match observed {
        None => None,
        Some(Observed::Unreadable { error: _ }) => Some(Presence::Unreadable),
        Some(Observed::Facts(facts)) => match of_kind(facts) {
            Some(facts) => Some(Presence::Readable(facts)),
            None => return false,
        },
    };
    shelf.set(name, presence)
}
