//! What is known of the cluster: the facts of every object, and reverse indexes keyed by *reference*, so that an object that
//! does not exist yet is felt when it appears.

use crate::model::{
    facts::{
        BackendRef, EndpointSliceFacts, Facts, GatewayClassFacts, GatewayFacts, NamespaceFacts, Observed, ParentRef,
        ReferenceGrantFacts, RouteFacts, ServiceFacts,
    },
    names::{GATEWAY_GROUP, Kind, ObjectName},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    sync::Arc,
};

/// One object: its facts, or the knowledge that it exists and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence<F> {
    /// It could be read.
    Readable(F),
    /// It exists, but could never be read.
    Unreadable,
}

impl<F> Presence<F> {
    /// The facts, if it could be read.
    #[must_use]
    pub fn readable(&self) -> Option<&F> {
        match self {
            Self::Readable(facts) => Some(facts),
            Self::Unreadable => None,
        }
    }
}

/// All objects of one kind.
#[derive(Clone, Debug)]
pub struct Shelf<F> {
    objects: BTreeMap<ObjectName, Presence<F>>,
    /// Those that could never be read: asked for at every backend, and nearly always none.
    unreadable: BTreeSet<ObjectName>,
}

// Not derived: that would ask for `F: Default`.
impl<F> Default for Shelf<F> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), unreadable: BTreeSet::new() }
    }
}

impl<F: PartialEq> Shelf<F> {
    /// The facts of an object that could be read.
    #[must_use]
    pub fn get(&self, name: &ObjectName) -> Option<&F> {
        self.objects.get(name)?.readable()
    }

    /// Whether the object exists but could never be read.
    #[must_use]
    pub fn is_unreadable(&self, name: &ObjectName) -> bool {
        self.unreadable.contains(name)
    }

    /// Whether any object in `namespace` exists but could never be read.
    #[must_use]
    pub fn any_unreadable_in(&self, namespace: &Arc<str>) -> bool {
        let first = ObjectName { namespace: Arc::clone(namespace), name: "".into() };
        self.unreadable.range(first..).next().is_some_and(|name| name.namespace == *namespace)
    }

    /// The readable objects of a namespace, by name.
    pub fn readable_in(&self, namespace: &Arc<str>) -> impl Iterator<Item = &F> {
        self.in_namespace(namespace).filter_map(|(_, presence)| presence.readable())
    }

    /// Every name, readable or not, in order.
    pub fn names(&self) -> impl Iterator<Item = &ObjectName> {
        self.objects.keys()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The objects of a namespace, by name.
    pub fn in_namespace<'a>(&'a self, namespace: &Arc<str>) -> impl Iterator<Item = (&'a ObjectName, &'a Presence<F>)> {
        let namespace = Arc::clone(namespace);
        let first = ObjectName { namespace: Arc::clone(&namespace), name: "".into() };
        self.objects.range(first..).take_while(move |(name, _)| name.namespace == namespace)
    }

    /// Says whether anything differs now. What cannot be read keeps the facts there are.
    fn set(&mut self, name: &ObjectName, presence: Option<Presence<F>>) -> bool {
        match presence {
            None => {
                self.unreadable.remove(name);
                self.objects.remove(name).is_some()
            }
            Some(Presence::Unreadable) if self.get(name).is_some() => false,
            Some(presence) => {
                if self.objects.get(name) == Some(&presence) {
                    return false;
                }
                match &presence {
                    Presence::Readable(_) => self.unreadable.remove(name),
                    Presence::Unreadable => self.unreadable.insert(name.clone()),
                };
                self.objects.insert(name.clone(), presence);
                true
            }
        }
    }
}

/// Many-to-many from a reference to those who refer.
#[derive(Clone, Debug)]
pub struct Index<K, V> {
    entries: HashMap<K, BTreeSet<V>>,
}

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new() }
    }
}

impl<K: Hash + Eq, V: Ord + Clone> Index<K, V> {
    /// Those who refer to `key`, in order.
    pub fn of(&self, key: &K) -> impl Iterator<Item = &V> {
        self.entries.get(key).into_iter().flatten()
    }

    fn add(&mut self, keys: impl IntoIterator<Item = K>, value: &V) {
        for key in keys {
            self.entries.entry(key).or_default().insert(value.clone());
        }
    }

    fn remove(&mut self, keys: impl IntoIterator<Item = K>, value: &V) {
        for key in keys {
            if let Some(values) = self.entries.get_mut(&key) {
                values.remove(value);
                if values.is_empty() {
                    self.entries.remove(&key);
                }
            }
        }
    }
}

/// Every object there is, and who refers to what.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// GatewayClasses.
    pub classes: Shelf<GatewayClassFacts>,
    /// Gateways.
    pub gateways: Shelf<GatewayFacts>,
    /// TCPRoutes.
    pub routes: Shelf<RouteFacts>,
    /// ReferenceGrants.
    pub grants: Shelf<ReferenceGrantFacts>,
    /// Namespaces.
    pub namespaces: Shelf<NamespaceFacts>,
    /// Services.
    pub services: Shelf<ServiceFacts>,
    /// EndpointSlices.
    pub slices: Shelf<EndpointSliceFacts>,
    /// Class name to the Gateways that name it.
    pub gateways_by_class: Index<Arc<str>, ObjectName>,
    /// Gateway to the routes that name it as a parent.
    pub routes_by_gateway: Index<ObjectName, ObjectName>,
    /// Service to the routes that name it as a backend.
    pub routes_by_service: Index<ObjectName, ObjectName>,
    /// Namespace to the routes elsewhere that name a backend in it.
    pub routes_by_foreign_namespace: Index<Arc<str>, ObjectName>,
    /// Service to its EndpointSlices.
    pub slices_by_service: Index<ObjectName, ObjectName>,
}

impl Known {
    /// Takes in what is now known of one object and says whether anything differs. Facts of another kind than `kind` are
    /// a mistake of the caller and change nothing.
    pub fn set(&mut self, kind: Kind, name: &ObjectName, observed: Option<Observed>) -> bool {
        self.unindex(kind, name);
        let changed = match kind {
            Kind::GatewayClass => set(&mut self.classes, name, observed, |facts| {
                if let Facts::GatewayClass(facts) = facts { Some(facts) } else { None }
            }),
            Kind::Gateway => set(&mut self.gateways, name, observed, |facts| {
                if let Facts::Gateway(facts) = facts { Some(facts) } else { None }
            }),
            Kind::TcpRoute => set(&mut self.routes, name, observed, |facts| {
                if let Facts::TcpRoute(facts) = facts { Some(facts) } else { None }
            }),
            Kind::ReferenceGrant => set(&mut self.grants, name, observed, |facts| {
                if let Facts::ReferenceGrant(facts) = facts { Some(facts) } else { None }
            }),
            Kind::Namespace => set(&mut self.namespaces, name, observed, |facts| {
                if let Facts::Namespace(facts) = facts { Some(facts) } else { None }
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
            Kind::GatewayClass => self.classes.names().cloned().collect(),
            Kind::Gateway => self.gateways.names().cloned().collect(),
            Kind::TcpRoute => self.routes.names().cloned().collect(),
            Kind::ReferenceGrant => self.grants.names().cloned().collect(),
            Kind::Namespace => self.namespaces.names().cloned().collect(),
            Kind::Service => self.services.names().cloned().collect(),
            Kind::EndpointSlice => self.slices.names().cloned().collect(),
        }
    }

    /// How many objects of a kind there are.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::GatewayClass => self.classes.len(),
            Kind::Gateway => self.gateways.len(),
            Kind::TcpRoute => self.routes.len(),
            Kind::ReferenceGrant => self.grants.len(),
            Kind::Namespace => self.namespaces.len(),
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

    fn index(&mut self, kind: Kind, name: &ObjectName) {
        match kind {
            Kind::Gateway => self.gateways_by_class.add(self.class_of(name), name),
            Kind::TcpRoute => {
                let references = self.references(name);
                self.routes_by_gateway.add(references.gateways, name);
                self.routes_by_service.add(references.services, name);
                self.routes_by_foreign_namespace.add(references.foreign_namespaces, name);
            }
            Kind::EndpointSlice => self.slices_by_service.add(self.service_of(name), name),
            Kind::GatewayClass | Kind::ReferenceGrant | Kind::Namespace | Kind::Service => {}
        }
    }

    fn unindex(&mut self, kind: Kind, name: &ObjectName) {
        match kind {
            Kind::Gateway => self.gateways_by_class.remove(self.class_of(name), name),
            Kind::TcpRoute => {
                let references = self.references(name);
                self.routes_by_gateway.remove(references.gateways, name);
                self.routes_by_service.remove(references.services, name);
                self.routes_by_foreign_namespace.remove(references.foreign_namespaces, name);
            }
            Kind::EndpointSlice => self.slices_by_service.remove(self.service_of(name), name),
            Kind::GatewayClass | Kind::ReferenceGrant | Kind::Namespace | Kind::Service => {}
        }
    }

    fn class_of(&self, gateway: &ObjectName) -> Option<Arc<str>> {
        self.gateways.get(gateway).map(|gateway| Arc::clone(&gateway.class))
    }

    fn references(&self, route: &ObjectName) -> References {
        let Some(facts) = self.routes.get(route) else { return References::default() };
        let services: Vec<ObjectName> =
            facts.backends.iter().filter_map(|backend| service_name(backend, route)).collect();
        References {
            gateways: facts.parents.iter().filter_map(|parent| gateway_name(parent, route)).collect(),
            foreign_namespaces: services
                .iter()
                .filter(|service| service.namespace != route.namespace)
                .map(|service| Arc::clone(&service.namespace))
                .collect(),
            services,
        }
    }
}

#[derive(Default)]
struct References {
    gateways: Vec<ObjectName>,
    services: Vec<ObjectName>,
    foreign_namespaces: Vec<Arc<str>>,
}

/// The Gateway a parentRef of `route` names; `None` if it names something else.
#[must_use]
pub fn gateway_name(parent: &ParentRef, route: &ObjectName) -> Option<ObjectName> {
    (&*parent.group == GATEWAY_GROUP && &*parent.kind == "Gateway").then(|| ObjectName {
        namespace: Arc::clone(parent.namespace.as_ref().unwrap_or(&route.namespace)),
        name: Arc::clone(&parent.name),
    })
}

/// The Service a backendRef of `route` names; `None` if it names something else.
#[must_use]
pub fn service_name(backend: &BackendRef, route: &ObjectName) -> Option<ObjectName> {
    (backend.group.is_empty() && &*backend.kind == "Service").then(|| ObjectName {
        namespace: Arc::clone(backend.namespace.as_ref().unwrap_or(&route.namespace)),
        name: Arc::clone(&backend.name),
    })
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
