//! `Desired`: what etcd and the statuses should be, kept up to date change by change.

pub mod reach;
mod wanted;
mod wave;

use super::{
    addresses,
    attachments::Attachments,
    certificates::{Certificates, View},
    known::Known,
    listeners::Listener,
    policies,
    pools::Pool,
    ports::Ports,
    sets::Owners,
    slots::Slots,
    verdicts,
};
use crate::{
    apisix::{
        documents::{PLACEHOLDER, Sealing},
        ids,
        version::ApisixVersion,
    },
    model::{
        addresses::AddressSource,
        facts::{Change, DriftPolicy, Observed},
        names::{Created, Kind, ObjectName, ObjectRef, RouteRef},
        opaque::Opaque,
        places::{Directory, WorkId},
        sockets::StreamProxy,
        verdicts::{ListenerVerdict, Served, Verdict},
    },
};
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
    /// The prefix in etcd, without a trailing slash; part of what a seal covers.
    pub prefix: Arc<str>,
    /// The oldest APISIX that reads the prefix.
    pub version: ApisixVersion,
    /// Where APISIX listens, and what it runs there.
    pub stream: StreamProxy,
    /// Who says where clients reach it.
    pub addresses: AddressSource,
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
    /// Objects whose [`Desired::verdict`] may have changed, or that are gone.
    pub verdicts: BTreeSet<ObjectRef>,
}

/// What etcd and the statuses should be.
#[derive(Debug)]
pub struct Desired {
    settings: Settings,
    served: Served,
    traffic_split: Option<bool>,
    known: Known,
    owners: Owners,
    ports: Ports,
    routes: HashMap<RouteRef, Route>,
    /// Routes attached, by Gateway or ListenerSet and listener name.
    attached: HashMap<ObjectRef, BTreeMap<Arc<str>, u32>>,
    /// ListenerSets that are accepted, by Gateway.
    accepted_sets: HashMap<ObjectName, BTreeSet<ObjectName>>,
    slots: Slots,
    certificates: Certificates,
    route_of_pool: BTreeMap<WorkId, RouteRef>,
    /// What was noted and not worked out yet.
    pending: wave::Wave,
}

/// What the tiers said of one route.
#[derive(Debug)]
struct Route {
    pool_id: WorkId,
    created: Created,
    attachments: Attachments,
    /// `None` while no parent is ours, or the route could never be read.
    pool: Option<Pool>,
}

impl Desired {
    /// Of a cluster without objects.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            ports: Ports::new(settings.version),
            settings,
            served: Served::default(),
            traffic_split: None,
            known: Known::default(),
            owners: Owners::default(),
            routes: HashMap::new(),
            attached: HashMap::new(),
            accepted_sets: HashMap::new(),
            slots: Slots::default(),
            certificates: Certificates::default(),
            route_of_pool: BTreeMap::new(),
            pending: wave::Wave::default(),
        }
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
        Affected { documents: BTreeSet::new(), verdicts: classes.collect() }
    }

    /// Takes in whether the data plane runs `traffic-split` in stream mode, as the key `{prefix}/plugins` says;
    /// `None` when there is no such key: then the settings hold, else the version's default. As with [`Desired::note`], the consequences are
    /// asked for later.
    pub fn note_traffic_split(&mut self, enabled: Option<bool>) {
        let before = self.splits();
        self.traffic_split = enabled;
        if self.splits() != before {
            self.mark(|wave, desired| wave.recompute_pools(desired));
        }
    }

    /// What one document should be.
    #[must_use]
    pub fn wanted(&self, id: &WorkId) -> Wanted {
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
        let slots = self.held_slots().chain(self.ports.frozen().map(ids::port_slot));
        let pools = self.route_of_pool.keys().cloned();
        let placeholders = Directory::ALL.into_iter().map(WorkId::placeholder);
        let certificates = self.certificates.places().cloned();
        slots
            .chain(pools)
            .chain(certificates)
            .chain(placeholders)
            .filter(|id| self.wanted(id) != Wanted::Absent)
            .collect()
    }

    /// Every slot that a route holds, in order, and every one that is closed, without asking what its document should be.
    pub fn held_slots(&self) -> impl Iterator<Item = WorkId> {
        let closed = self.ports.nested().filter(|slot| self.slots.holder(slot).is_none());
        self.slots.held().map(|(slot, _)| ids::slot(slot)).chain(closed.map(|slot| ids::slot(&slot)))
    }

    /// The slots that are to need a pool or a certificate, in order.
    pub fn slots_needing(&self, id: &WorkId) -> impl Iterator<Item = WorkId> {
        let (of_pool, of_certificate) = match id.directory {
            Directory::Upstreams => (Some(self.slots_of(id)), None),
            Directory::Ssls => (None, Some(self.certificates.slots(id, self.view()))),
            Directory::StreamRoutes => (None, None),
        };
        let of_certificate = of_certificate.into_iter().flatten().map(|slot| ids::slot(&slot));
        of_pool.into_iter().flatten().chain(of_certificate)
    }

    /// What is said of one object; `None` if it does not exist or no status of ours belongs on it.
    #[must_use]
    pub fn verdict(&self, object: &ObjectRef) -> Option<Verdict> {
        let name = &object.name;
        match object.kind {
            Kind::GatewayClass => {
                let class = self.known.classes.get(name)?;
                let in_use = self.known.class_in_use(name);
                (class.controller_name == self.settings.controller_name)
                    .then(|| Verdict::GatewayClass(verdicts::class(class, &self.served, in_use, self.settings.version)))
            }
            Kind::Gateway => {
                let gateway = self.owners.gateways.get(name).filter(|gateway| !gateway.frozen)?;
                let assigned = self.assigned(name)?;
                let n_sets = self.accepted_sets.get(name).map_or(0, BTreeSet::len);
                let listeners = self.listener_verdicts(object, &gateway.listeners);
                Some(Verdict::Gateway(verdicts::gateway(gateway, listeners, assigned, n_sets)))
            }
            Kind::ListenerSet => {
                let set = self.owners.sets.get(name).filter(|set| !set.frozen)?;
                let listeners = self.listener_verdicts(object, if set.allowed { &set.listeners } else { &[] });
                let address = self.assigned(&set.gateway)?.problem.is_none();
                Some(Verdict::ListenerSet(verdicts::listener_set(set, listeners, address, &self.ports)))
            }
            Kind::TcpRoute | Kind::UdpRoute | Kind::TlsRoute => {
                let name = RouteRef::new(object.kind, name.clone());
                let (route, facts) = (self.routes.get(&name)?, self.known.routes.get(&name)?);
                let Route { pool_id, attachments, pool, created: _ } = route;
                Some(Verdict::Route(verdicts::route(
                    &name,
                    facts,
                    attachments,
                    &self.certificates,
                    self.view(),
                    pool.as_ref(),
                    pool_id,
                )))
            }
            Kind::BackendTlsPolicy => {
                let facts = self.known.policies.get(name)?;
                let services = policies::services_of(&self.known, name);
                let routes = services.iter().flat_map(|service| self.known.routes_by_service.of(service));
                let user = |route| {
                    let Route { attachments, pool, .. } = self.routes.get(route)?;
                    Some((attachments, pool.as_ref()))
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
        let owners: BTreeSet<_> = self.certificates.listeners(id).map(|listener| &listener.owner).collect();
        self.route_of(id).cloned().map(ObjectRef::from).into_iter().chain(owners.into_iter().cloned()).collect()
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

    fn assigned(&self, gateway: &ObjectName) -> Option<addresses::Assigned> {
        let asked = &self.known.gateways.get(gateway)?.addresses;
        Some(addresses::assign(asked, &self.settings.addresses, &self.known.services))
    }

    fn listener_verdicts(&self, owner: &ObjectRef, listeners: &[Listener]) -> Vec<ListenerVerdict> {
        verdicts::listeners(owner, listeners, &self.ports, &self.certificates, self.attached.get(owner))
    }

    /// Lets the pending wave mark what is to be worked out; it steps out for that long, as it reads everything else.
    fn mark(&mut self, mark: impl FnOnce(&mut wave::Wave, &mut Self)) {
        let mut wave = std::mem::take(&mut self.pending);
        mark(&mut wave, self);
        self.pending = wave;
    }

    fn route_of(&self, id: &WorkId) -> Option<&RouteRef> {
        match id.directory {
            Directory::Upstreams => self.route_of_pool.get(id),
            Directory::Ssls => None,
            Directory::StreamRoutes => self.slots.holder_at(id),
        }
    }

    /// Whether the data plane can refuse a share beside a pool.
    fn splits(&self) -> bool {
        let told = self.traffic_split.or(self.settings.stream.traffic_split);
        self.settings.version.has_stream_traffic_split() && told.unwrap_or(true)
    }

    fn sealing(&self) -> Sealing<'_> {
        Sealing { prefix: &self.settings.prefix, instance: &self.settings.instance }
    }

    fn view(&self) -> View<'_> {
        View { owners: &self.owners, ports: &self.ports, slots: &self.slots }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            prefix: "/apisix".into(),
            version: "3.16.0".parse().unwrap(),
            stream: StreamProxy::default(),
            addresses: AddressSource::Nobody,
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
        let pool = |name: &str| ids::pool("us", Kind::TcpRoute, &ObjectName::new("ns", name));
        let slot = ids::port_slot(Port::new(9100).unwrap());
        assert_eq!(desired.held_slots().collect::<Vec<_>>(), std::slice::from_ref(&slot));
        assert_eq!(desired.drift_policy(&slot), Some(DriftPolicy::Report));
        assert_eq!(desired.drift_policy(&pool("a")), Some(DriftPolicy::Report));
        assert_eq!(desired.drift_policy(&pool("b")), Some(DriftPolicy::Repair));
        assert_eq!(desired.drift_policy(&pool("c")), None);
        let nobodys = ids::port_slot(Port::MIN);
        for id in [nobodys, pool("gone"), WorkId::placeholder(Directory::StreamRoutes)] {
            assert_eq!(desired.drift_policy(&id), None, "{id}");
        }
    }

    #[test]
    fn a_drift_policy_that_changes_changes_no_document_and_touches_the_routes() {
        let mut desired = desired();
        desired.apply([route("a", Some(DriftPolicy::Report))]);
        let pool = ids::pool("us", Kind::TcpRoute, &ObjectName::new("ns", "a"));
        let slot = ids::port_slot(Port::new(9100).unwrap());
        let before = [desired.wanted(&pool), desired.wanted(&slot)];
        assert!(before.iter().all(|wanted| matches!(wanted, Wanted::Document(_))));
        let affected = desired.apply([route("a", None)]);
        assert_eq!([desired.wanted(&pool), desired.wanted(&slot)], before);
        assert_eq!(affected.documents, [pool, slot].into());
        assert_eq!(affected.verdicts, [ObjectRef::new(Kind::TcpRoute, ObjectName::new("ns", "a"))].into());
    }
}
