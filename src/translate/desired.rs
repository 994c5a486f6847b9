//! `Desired`: what etcd and the statuses should be, kept up to date change by change.

mod prefixes;
pub mod reach;
mod said;
mod states;
mod wanted;
mod wave;

use super::{
    attachments::Attachments,
    known::Known,
    planes::{DataPlanes, PlaneSettings},
    pools::Pool,
    sets::Owners,
};
use crate::{
    apisix::{documents::PLACEHOLDER, ids},
    model::{
        facts::{Change, DriftPolicy, Observed},
        names::{Created, Kind, ObjectName, ObjectRef, RouteRef},
        opaque::Opaque,
        places::{Directory, Plane, Slot, WorkId},
        verdicts::Served,
    },
};
pub(super) use states::{PlaneState, Planes};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

/// What translation needs to know besides the objects.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `spec.controllerName` of the GatewayClasses that are ours.
    pub controller_name: Arc<str>,
    /// The instance named in every seal.
    pub instance: Arc<str>,
    /// The data plane of classes that name none.
    pub plane: Arc<PlaneSettings>,
}

/// What a document should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Not there.
    Absent,
    /// There, with these bytes.
    Document(Document),
    /// As it is in etcd, neither written nor deleted, because an object it is computed over cannot be read or its class is
    /// absent. Where etcd holds nothing, `otherwise` is what to put, if anything.
    ///
    /// Of a pool it holds for every slot in etcd that names the pool, too.
    Kept {
        /// What to put if etcd holds nothing.
        otherwise: Option<Document>,
    },
    /// It would be refused by a data plane of the configured version; leave what is there alone.
    Refused(Arc<str>),
}

/// One document as it should stand in etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    /// The exact value.
    pub bytes: Arc<[u8]>,
    /// The pool a slot names: it must be in etcd before the slot and outlive it.
    pub pool: Option<WorkId>,
    /// The certificate a slot needs: it must be in etcd before the slot and outlive it.
    pub certificate: Option<WorkId>,
}

impl Document {
    /// What a slot needs beside itself: its pool and its certificate.
    pub fn needs(&self) -> impl Iterator<Item = &WorkId> {
        self.pool.iter().chain(&self.certificate)
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, pool, certificate } = self;
        f.debug_struct("Document")
            .field("bytes", &Opaque(bytes))
            .field("pool", pool)
            .field("certificate", certificate)
            .finish()
    }
}

/// What a change touched. An id may be listed although nothing about it differs; nothing that differs is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affected {
    /// Documents whose [`Desired::wanted`] may have changed.
    pub documents: BTreeSet<WorkId>,
    /// Data planes of which that may hold for every document that is in etcd.
    pub planes: BTreeSet<Plane>,
    /// Objects whose [`Desired::verdict`] may have changed, or that are gone.
    pub verdicts: BTreeSet<ObjectRef>,
}

/// What etcd and the statuses should be.
#[derive(Debug)]
pub struct Desired {
    settings: Settings,
    served: Served,
    known: Known,
    /// What each DataPlane comes to.
    data_planes: DataPlanes,
    /// Where the controller keeps its own keys, if it keeps any.
    control_prefix: Option<Arc<str>>,
    planes: Planes,
    /// Data planes that etcd says hold documents of ours, or may, with their names.
    recorded: BTreeMap<Plane, Arc<str>>,
    /// Those of them whose documents are kept, although nobody can say which are wanted there.
    kept: BTreeSet<Plane>,
    owners: Owners,
    routes: HashMap<RouteRef, Route>,
    /// Routes attached, by Gateway or ListenerSet and listener name.
    attached: HashMap<ObjectRef, BTreeMap<Arc<str>, u32>>,
    /// ListenerSets that are accepted, by Gateway.
    accepted_sets: HashMap<ObjectName, BTreeSet<ObjectName>>,
    /// Routes by the id of their pools, which is the same on each data plane.
    route_of_pool: BTreeMap<Arc<str>, RouteRef>,
    /// What was noted and not worked out yet.
    pending: wave::Wave,
}

/// What the tiers said of one route.
#[derive(Debug)]
struct Route {
    /// The id of its pools.
    pool_id: Arc<str>,
    created: Created,
    attachments: Attachments,
    /// Its pools by whether a data plane can refuse a share beside them; for those data planes that it is on, so none while
    /// no parent is ours, or the route could never be read.
    pools: BTreeMap<bool, Pool>,
}

impl Route {
    fn pool_on(&self, plane: Plane) -> WorkId {
        WorkId { plane, directory: Directory::Upstreams, id: Arc::clone(&self.pool_id) }
    }

    /// What is said of its backends, and whether one of them is unreadable, is the same for all pools but for rounding.
    fn any_pool(&self) -> Option<&Pool> {
        self.pools.values().next()
    }
}

impl Desired {
    /// Of a cluster without objects.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            planes: Planes::new(Arc::clone(&settings.plane)),
            settings,
            recorded: BTreeMap::new(),
            kept: BTreeSet::new(),
            served: Served::default(),
            known: Known::default(),
            data_planes: DataPlanes::new(),
            control_prefix: None,
            owners: Owners::default(),
            routes: HashMap::new(),
            attached: HashMap::new(),
            accepted_sets: HashMap::new(),
            route_of_pool: BTreeMap::new(),
            pending: wave::Wave::default(),
        }
    }

    /// The same, where the controller keeps keys of its own under `control_prefix`, which no DataPlane may overlap.
    #[must_use]
    pub fn beside(mut self, control_prefix: &str) -> Self {
        self.control_prefix = Some(control_prefix.into());
        self
    }

    /// Takes in single changes, in any order.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Affected {
        for change in changes {
            self.note(change);
        }
        self.settle()
    }

    /// Takes in a change whose consequences are asked for later, by [`Desired::settle`]: many changes that touch the same
    /// things cost as much as one. Until then answers may be those from before.
    pub fn note(&mut self, change: Change) {
        let Change { kind, name, observed } = change;
        self.mark(|wave, desired| wave.take_in(desired, kind, &name, observed));
    }

    /// Takes in a complete list of a kind, as [`Desired::note`] does a change: what is not in it is gone.
    pub fn note_list(&mut self, kind: Kind, objects: Vec<(ObjectName, Observed)>) {
        let mut gone: BTreeSet<ObjectName> = self.known.names(kind).into_iter().collect();
        for (name, observed) in objects {
            gone.remove(&name);
            self.note(Change { kind, name, observed: Some(observed) });
        }
        for name in gone {
            self.note(Change { kind, name, observed: None });
        }
    }

    /// Works out the consequences of everything that was noted.
    pub fn settle(&mut self) -> Affected {
        std::mem::take(&mut self.pending).run(self)
    }

    /// Takes in what the source serves.
    pub fn set_served(&mut self, served: Served) -> Affected {
        if self.served == served {
            return Affected::default();
        }
        self.served = served;
        let classes = self.known.classes.names().map(|name| ObjectRef::new(Kind::GatewayClass, name.clone()));
        Affected { verdicts: classes.collect(), ..Affected::default() }
    }

    /// Takes in whether a data plane runs `traffic-split` in stream mode, as the key `{prefix}/plugins` says;
    /// `None` when there is no such key: then the settings hold, else the version's default. As with [`Desired::note`], the consequences are
    /// asked for later.
    pub fn note_traffic_split(&mut self, plane: Plane, enabled: Option<bool>) {
        if self.planes.set_traffic_split(plane, enabled) {
            self.mark(|wave, desired| wave.recompute_pools(desired));
        }
    }

    /// What one document should be.
    #[must_use]
    pub fn wanted(&self, id: &WorkId) -> Wanted {
        if self.planes.of(id.plane).is_none() {
            // What is wanted there nobody can say, or nothing is.
            return if self.kept.contains(&id.plane) { Wanted::Kept { otherwise: None } } else { Wanted::Absent };
        }
        if id.is_placeholder() {
            // What a data plane has put there itself is as good.
            return Wanted::Kept {
                otherwise: Some(Document { bytes: PLACEHOLDER.into(), pool: None, certificate: None }),
            };
        }
        match id.directory {
            Directory::Upstreams => self.wanted_pool(id),
            Directory::Ssls => self.wanted_certificate(id),
            Directory::StreamRoutes => self.wanted_slot(id),
        }
    }

    /// Every document that is wanted or kept, placeholders among them, in order.
    #[must_use]
    pub fn documents(&self) -> BTreeSet<WorkId> {
        let frozen = |plane| self.planes.frozen(plane).map(move |port| ids::port_slot(plane, port));
        let placeholders = |plane| Directory::ALL.into_iter().map(move |of| WorkId::placeholder(plane, of));
        let of_plane = |(plane, state): (Plane, &'_ PlaneState)| -> Vec<WorkId> {
            let certificates = state.certificates.places().cloned();
            certificates.chain(frozen(plane)).chain(placeholders(plane)).collect()
        };
        let pools = self.routes.iter().flat_map(|(name, route)| self.pools_of(name, route));
        let all = self.held_slots().chain(self.planes.all().flat_map(of_plane)).chain(pools);
        all.filter(|id| self.wanted(id) != Wanted::Absent).collect()
    }

    /// Every pool that a route may have: on its data planes, and on all where it is kept.
    fn pools_of<'a>(&'a self, name: &RouteRef, route: &'a Route) -> impl Iterator<Item = WorkId> + 'a {
        let kept = self.keeps_pool_of(name, route);
        let all = self.planes.names().filter(move |_| kept);
        let own = route.attachments.planes().into_iter().filter(move |_| !kept);
        all.chain(own).map(|plane| route.pool_on(plane))
    }

    /// Every slot that a route holds, in order, and every one that is closed, without asking what its document should be.
    pub fn held_slots(&self) -> impl Iterator<Item = WorkId> {
        self.planes.all().flat_map(|(plane, state)| {
            let held = state.slots.held().map(move |(slot, _)| ids::slot(plane, slot));
            held.chain(state.closed().map(move |slot| ids::slot(plane, &slot)))
        })
    }

    /// The slots that are to need a pool or a certificate, in order.
    pub fn slots_needing(&self, id: &WorkId) -> impl Iterator<Item = WorkId> {
        let plane = id.plane;
        let certificate = || self.planes.of(plane).map(|state| state.certificates.slots(id, state.view(&self.owners)));
        let (of_pool, of_certificate) = match id.directory {
            Directory::Upstreams => (Some(self.slots_of(id)), None),
            Directory::Ssls => (None, certificate()),
            Directory::StreamRoutes => (None, None),
        };
        let of_certificate = of_certificate.into_iter().flatten().map(move |slot| ids::slot(plane, &slot));
        of_pool.into_iter().flatten().chain(of_certificate)
    }

    /// The drift policy that the route of this document asks for: the one that holds the slot, or that the pool belongs to.
    /// `None` where there is no such route or it asks for none: then the setting decides.
    #[must_use]
    pub fn drift_policy(&self, id: &WorkId) -> Option<DriftPolicy> {
        self.known.routes.get(self.route_of(id)?)?.drift
    }

    /// How many objects of a kind are known.
    #[must_use]
    pub fn object_count(&self, kind: Kind) -> usize {
        self.known.count(kind)
    }

    /// Lets the pending wave mark what is to be worked out; it steps out for that long, as it reads everything else.
    fn mark(&mut self, mark: impl FnOnce(&mut wave::Wave, &mut Self)) {
        let mut wave = std::mem::take(&mut self.pending);
        mark(&mut wave, self);
        self.pending = wave;
    }

    fn route_of(&self, id: &WorkId) -> Option<&RouteRef> {
        match id.directory {
            Directory::Upstreams => self.route_of_pool.get(&id.id),
            Directory::Ssls => None,
            Directory::StreamRoutes => self.planes.of(id.plane)?.slots.holder_at(id),
        }
    }

    /// The slots that a route holds, with their data planes, in order.
    fn held_by(&self, route: &RouteRef) -> impl Iterator<Item = (Plane, &Slot)> {
        self.planes.all().flat_map(|(plane, state)| state.slots.held_by(route).map(move |slot| (plane, slot)))
    }

    /// The pool of a route as a data plane is to have it.
    fn pool<'a>(&self, route: &'a Route, plane: Plane) -> Option<&'a Pool> {
        route.pools.get(&self.planes.splits(plane)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::places::Plane;
    use crate::model::{
        facts::{Facts, FromNamespaces, GatewayClassFacts, GatewayFacts, ListenerFacts, ParentRef, RouteFacts},
        names::GATEWAY_GROUP,
        places::Port,
    };

    fn change(kind: Kind, name: ObjectName, facts: Facts) -> Change {
        Change { kind, name, observed: Some(Observed::Facts(facts)) }
    }

    fn route(name: &str, drift: Option<DriftPolicy>) -> Change {
        let parent = ParentRef {
            group: GATEWAY_GROUP.into(),
            kind: "Gateway".into(),
            namespace: None,
            name: "gw".into(),
            section_name: None,
            port: None,
        };
        let facts = RouteFacts {
            generation: 1,
            created: Created(7),
            drift,
            parents: vec![parent],
            hostnames: Vec::new(),
            rules: 0,
            backends: Vec::new(),
        };
        change(Kind::TcpRoute, ObjectName::new("ns", name), Facts::TcpRoute(facts))
    }

    /// A Gateway with one listener on port 9100.
    fn desired() -> Desired {
        let mut desired = Desired::new(Settings {
            controller_name: "a/b".into(),
            instance: "us".into(),
            plane: PlaneSettings::new(Plane::default(), "3.16.0".parse().unwrap()).into(),
        });
        let class = GatewayClassFacts { generation: 1, controller_name: "a/b".into(), parameters: None };
        let listener = ListenerFacts {
            name: "l".into(),
            port: 9100,
            protocol: "TCP".into(),
            hostname: None,
            tls: None,
            namespaces: FromNamespaces::Same,
            kinds: Vec::new(),
        };
        let gateway = GatewayFacts {
            generation: 1,
            created: Created(1),
            class: "c".into(),
            parameters: None,
            addresses: Vec::new(),
            listeners: vec![listener],
            allowed_listeners: FromNamespaces::Nobody,
        };
        desired.apply([
            change(Kind::GatewayClass, ObjectName::cluster("c"), Facts::GatewayClass(class)),
            change(Kind::Gateway, ObjectName::new("ns", "gw"), Facts::Gateway(gateway)),
        ]);
        desired
    }

    #[test]
    fn a_drift_policy_is_that_of_the_route_that_holds_the_slot_or_owns_the_pool() {
        let mut desired = desired();
        desired.apply([route("a", Some(DriftPolicy::Report)), route("b", Some(DriftPolicy::Repair)), route("c", None)]);
        let pool = |name: &str| ids::pool(Plane::default(), "us", Kind::TcpRoute, &ObjectName::new("ns", name));
        let slot = ids::port_slot(Plane::default(), Port::new(9100).unwrap());
        assert_eq!(desired.held_slots().collect::<Vec<_>>(), std::slice::from_ref(&slot));
        assert_eq!(desired.drift_policy(&slot), Some(DriftPolicy::Report));
        assert_eq!(desired.drift_policy(&pool("a")), Some(DriftPolicy::Report));
        assert_eq!(desired.drift_policy(&pool("b")), Some(DriftPolicy::Repair));
        assert_eq!(desired.drift_policy(&pool("c")), None);
        let nobodys = ids::port_slot(Plane::default(), Port::MIN);
        for id in [nobodys, pool("gone"), WorkId::placeholder(Plane::default(), Directory::StreamRoutes)] {
            assert_eq!(desired.drift_policy(&id), None, "{id}");
        }
    }

    #[test]
    fn a_drift_policy_that_changes_changes_no_document_and_touches_the_routes() {
        let mut desired = desired();
        desired.apply([route("a", Some(DriftPolicy::Report))]);
        let pool = ids::pool(Plane::default(), "us", Kind::TcpRoute, &ObjectName::new("ns", "a"));
        let slot = ids::port_slot(Plane::default(), Port::new(9100).unwrap());
        let before = [desired.wanted(&pool), desired.wanted(&slot)];
        assert!(before.iter().all(|wanted| matches!(wanted, Wanted::Document(_))));
        let affected = desired.apply([route("a", None)]);
        assert_eq!([desired.wanted(&pool), desired.wanted(&slot)], before);
        assert_eq!(affected.documents, [pool, slot].into());
        assert_eq!(affected.verdicts, [ObjectRef::new(Kind::TcpRoute, ObjectName::new("ns", "a"))].into());
    }
}
