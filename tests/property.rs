//! Random clusters and random histories: after every step the incremental translation equals a full rebuild, byte for byte,
//! documents and verdicts; what differs was announced; and the order of events does not matter.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on may stop")]

use apisix_etcd_controller::{
    model::{
        addresses::{Address, AddressSource, distinct},
        certificates::{CertificateFault, KeyPair, SecretFacts, Validity},
        facts::{
            AddressFacts, BackendRef, Change, EndpointFacts, EndpointSliceFacts, Facts, FromNamespaces,
            GatewayClassFacts, GatewayFacts, GrantFrom, GrantTo, IpFamily, LabelRequirement, LabelSelector,
            ListenerFacts, NamespaceFacts, Observed, ParametersRef, ParentRef, ReferenceGrantFacts, RouteFacts,
            RouteKind, SecretRef, ServiceFacts, ServicePortFacts, SlicePortFacts, TlsFacts, Transport,
            data_planes::{DataPlaneFacts, PortMappingFacts},
            listener_sets::ListenerSetFacts,
            policies::{BackendTlsPolicyFacts, PolicyTarget},
        },
        names::{Created, GATEWAY_GROUP, Kind, OWN_GROUP, ObjectName, ObjectRef},
        places::{Directory, Plane, ServerName, WorkId},
        verdicts::{
            AttachmentRefusal, BackendFault, ClaimOutcome, ClaimVerdict, ListenerRefusal, ListenerSetVerdict,
            ListenerVerdict, Reception, RouteVerdict, Verdict,
        },
    },
    translate::{
        desired::{Affected, Desired, Settings, Wanted},
        planes::PlaneSettings,
    },
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

const OURS: &str = "apisix-etcd.io/gateway-controller";
const NAMESPACES: [&str; 2] = ["blue", "green"];

fn settings(version: &str) -> Settings {
    Settings {
        controller_name: OURS.into(),
        instance: "default".into(),
        plane: PlaneSettings {
            stream: apisix_etcd_controller::model::sockets::StreamProxy::default(),
            addresses: AddressSource::Service(ObjectName::new("blue", "svc")),
            ..PlaneSettings::new(Plane::default(), version.parse().unwrap())
        }
        .into(),
    }
}

fn text(choices: &'static [&'static str]) -> impl Strategy<Value = Arc<str>> {
    select(choices).prop_map(Arc::from)
}

fn namespace() -> impl Strategy<Value = Arc<str>> {
    text(&NAMESPACES)
}

fn created() -> impl Strategy<Value = Created> {
    prop_oneof![(1_i64..4).prop_map(Created), Just(Created::UNKNOWN)]
}

fn port() -> impl Strategy<Value = i64> {
    prop_oneof![12 => 9100_i64..9104, 1 => select(vec![0, 70_000, -1])]
}

fn parameters() -> impl Strategy<Value = ParametersRef> {
    let own = |name| ParametersRef { group: OWN_GROUP.into(), kind: "DataPlane".into(), namespace: None, name };
    let strange = ParametersRef { group: "g".into(), kind: "k".into(), namespace: None, name: "edge".into() };
    prop_oneof![3 => text(&["edge", "west", "none"]).prop_map(own), 1 => Just(strange)]
}

/// Prefixes that overlap, and some that mean nothing.
fn data_plane() -> impl Strategy<Value = Facts> {
    let mapping =
        (port(), port()).prop_map(|(gateway_port, apisix_port)| PortMappingFacts { gateway_port, apisix_port });
    (created(), text(&["/a", "/ab", "/b", "/apisix/c", "", "/a/"]), vec(mapping, 0..2)).prop_map(
        |(created, etcd_prefix, port_mapping)| {
            Facts::DataPlane(DataPlaneFacts {
                generation: 1,
                created,
                etcd_prefix,
                apisix_version: None,
                listen: None,
                port_mapping,
                stream_plugins: None,
                addresses: Vec::new(),
                publish_service: None,
            })
        },
    )
}

fn class() -> impl Strategy<Value = Facts> {
    (text(&[OURS, OURS, OURS, OURS, "example.com/other"]), option::weighted(0.15, parameters())).prop_map(
        |(controller_name, parameters)| {
            Facts::GatewayClass(GatewayClassFacts { generation: 1, controller_name, parameters })
        },
    )
}

fn from_namespaces() -> impl Strategy<Value = FromNamespaces> {
    let requirement = prop_oneof![
        text(&["a", "b"]).prop_map(|value| LabelRequirement::In("team".into(), vec![value])),
        Just(LabelRequirement::Exists("team".into())),
        Just(LabelRequirement::DoesNotExist("team".into())),
    ];
    prop_oneof![
        2 => Just(FromNamespaces::Same),
        2 => Just(FromNamespaces::All),
        2 => vec(requirement, 0..2).prop_map(|requirements| FromNamespaces::Selector(LabelSelector { requirements })),
        1 => Just(FromNamespaces::Nobody),
    ]
}

fn hostname() -> impl Strategy<Value = Arc<str>> {
    text(&["a.example", "b.a.example", "*.example", "*.a.example", "A.example.", "c.test", "10.0.0.1", ""])
}

fn listener() -> impl Strategy<Value = ListenerFacts> {
    let kinds = vec(
        text(&["TCPRoute", "TLSRoute", "UDPRoute"]).prop_map(|kind| RouteKind { group: GATEWAY_GROUP.into(), kind }),
        0..2,
    );
    let protocol = text(&["TCP", "TCP", "TCP", "UDP", "UDP", "TLS", "TLS", "TLS", "TLS", "HTTP", "x"]);
    let certificate = (
        text(&["Secret", "Secret", "Secret", "Secret", "Other"]),
        option::weighted(0.2, namespace()),
        text(&["certificate", "certificate", "certificate2", "none"]),
    )
        .prop_map(|(kind, namespace, name)| SecretRef { group: "".into(), kind, namespace, name });
    let tls = (text(&["Terminate", "Terminate", "Passthrough", "Passthrough", "Other"]), vec(certificate, 0..3))
        .prop_map(|(mode, certificates)| TlsFacts { mode, certificates });
    (port(), protocol, option::of(hostname()), tls, from_namespaces(), kinds).prop_map(
        |(port, protocol, hostname, tls, namespaces, kinds)| ListenerFacts {
            name: "".into(),
            port,
            hostname: hostname.filter(|hostname| &*protocol == "TLS" && !hostname.is_empty()),
            tls: (&*protocol == "TLS").then_some(tls),
            protocol,
            namespaces,
            kinds,
        },
    )
}

fn gateway() -> impl Strategy<Value = Facts> {
    let asked = (text(&["IPAddress", "IPAddress", "Hostname"]), text(&["", "192.0.2.1", "192.0.2.2", "edge"]))
        .prop_map(|(kind, value)| AddressFacts { kind, value });
    (
        created(),
        text(&["apisix", "apisix", "other"]),
        listeners(),
        option::weighted(0.1, Just(Arc::from("p"))),
        prop_oneof![2 => Just(Vec::new()), 1 => vec(asked, 1..4)],
        from_namespaces(),
    )
        .prop_map(|(created, class, listeners, parameters, addresses, allowed_listeners)| {
            Facts::Gateway(GatewayFacts {
                generation: 1,
                created,
                class,
                parameters,
                addresses,
                listeners,
                allowed_listeners,
            })
        })
}

fn listeners() -> impl Strategy<Value = Vec<ListenerFacts>> {
    vec(listener(), 1..4).prop_map(|mut listeners| {
        for (listener, name) in listeners.iter_mut().zip(["one", "two", "three"]) {
            listener.name = name.into();
        }
        listeners
    })
}

fn listener_set() -> impl Strategy<Value = Facts> {
    let kind = text(&["Gateway", "Gateway", "Gateway", "Gateway", "ListenerSet"]);
    let parent = (kind, option::of(namespace()), text(&["gw", "gw2"])).prop_map(|(kind, namespace, name)| ParentRef {
        group: GATEWAY_GROUP.into(),
        kind,
        namespace,
        name,
        section_name: None,
        port: None,
    });
    (created(), parent, listeners()).prop_map(|(created, parent, listeners)| {
        Facts::ListenerSet(ListenerSetFacts { generation: 1, created, parent, listeners })
    })
}

fn route(of: fn(RouteFacts) -> Facts) -> impl Strategy<Value = Facts> {
    let parent = (
        option::of(namespace()),
        text(&["gw", "gw2"]),
        option::weighted(0.3, text(&["one", "two", "none"])),
        option::weighted(0.1, 9100_i64..9104),
        text(&["Gateway", "Gateway", "ListenerSet"]),
    )
        .prop_map(|(namespace, name, section_name, port, kind)| ParentRef {
            group: GATEWAY_GROUP.into(),
            kind,
            namespace,
            name,
            section_name,
            port,
        });
    let backend = (
        text(&["Service", "Service", "Service", "Service", "Other"]),
        option::of(namespace()),
        text(&["svc", "svc2"]),
        option::weighted(0.9, select(vec![80_i64, 80, 80, 81])),
        select(vec![0_i64, 1, 3, 1_000_000]),
    )
        .prop_map(|(kind, namespace, name, port, weight)| BackendRef {
            group: "".into(),
            kind,
            namespace,
            name,
            port,
            weight,
        });
    (created(), vec(parent, 0..3), vec(backend, 0..3), 1_usize..3).prop_map(
        move |(created, parents, backends, rules)| {
            of(RouteFacts { generation: 1, created, drift: None, parents, hostnames: Vec::new(), rules, backends })
        },
    )
}

fn grant() -> impl Strategy<Value = Facts> {
    let from = (text(&["TCPRoute", "UDPRoute", "TLSRoute", "Gateway"]), namespace())
        .prop_map(|(kind, namespace)| GrantFrom { group: GATEWAY_GROUP.into(), kind, namespace });
    let to = (text(&["Service", "Secret"]), option::of(text(&["svc", "svc2", "certificate", ""])))
        .prop_map(|(kind, name)| GrantTo { group: "".into(), kind, name });
    (vec(from, 0..3), vec(to, 0..3)).prop_map(|(from, to)| Facts::ReferenceGrant(ReferenceGrantFacts { from, to }))
}

fn policy() -> impl Strategy<Value = Facts> {
    let section = option::weighted(0.4, text(&["main", "none"]));
    let target = (text(&["Service", "Service", "Service", "Other"]), text(&["svc", "svc2"]), section)
        .prop_map(|(kind, name, section_name)| PolicyTarget { group: "".into(), kind, name, section_name });
    (created(), vec(target, 0..3)).prop_map(|(created, targets)| {
        Facts::BackendTlsPolicy(BackendTlsPolicyFacts { generation: 1, created, targets })
    })
}

fn labels() -> impl Strategy<Value = Facts> {
    option::of(text(&["a", "b"])).prop_map(|team| {
        let labels = team.into_iter().map(|team| (Arc::from("team"), team)).collect();
        Facts::Namespace(NamespaceFacts { labels })
    })
}

fn secret() -> impl Strategy<Value = Facts> {
    let validity = Validity { not_before: 0, not_after: 1 };
    let pem = |text: &str| format!("-----BEGIN {text}-----\n{}\n", text.repeat(64));
    let pair = (select(vec!["A", "B"]), select(vec!["1", "2"])).prop_map(move |(certificate, key)| {
        let names = ["a.example", "*.example"].map(|name| ServerName::of(name).unwrap());
        let names = if certificate == "A" { names.to_vec() } else { Vec::new() };
        Ok(Arc::new(KeyPair::new(&pem(certificate), &pem(key), validity).for_names(names)))
    });
    let fault = select(vec![Err(CertificateFault::NoKey), Err(CertificateFault::KeyMismatch)]);
    prop_oneof![3 => pair, 1 => fault].prop_map(|pair| Facts::Secret(SecretFacts { pair }))
}

fn service() -> impl Strategy<Value = Facts> {
    let app_protocol = option::weighted(0.2, text(&["http", "https"]));
    let port = (text(&["", "", "", "main"]), select(vec![80_i64, 80, 80, 81]), transport(), app_protocol)
        .prop_map(|(name, port, transport, app_protocol)| ServicePortFacts { name, port, transport, app_protocol });
    let family = option::weighted(0.3, select(vec![IpFamily::V4, IpFamily::V6]));
    let address = select(vec!["192.0.2.1", "192.0.2.2", "edge"]).prop_filter_map("an address", Address::of);
    (prop::bool::weighted(0.05), family, vec(port, 0..4), vec(address, 0..3)).prop_map(
        |(external_name, family, ports, addresses)| {
            Facts::Service(ServiceFacts { external_name, family, ports, addresses: distinct(addresses) })
        },
    )
}

fn transport() -> impl Strategy<Value = Transport> {
    select(vec![Transport::Tcp, Transport::Tcp, Transport::Udp])
}

fn slice() -> impl Strategy<Value = Facts> {
    let endpoint = (select(vec!["10.0.0.1", "10.0.0.2", "fd00::1"]), any::<[bool; 3]>()).prop_map(
        |(address, [ready, serving, terminating])| EndpointFacts {
            address: address.parse().unwrap(),
            ready,
            serving,
            terminating,
        },
    );
    let port =
        (text(&["", "", "", "main"]), option::weighted(0.95, select(vec![8080_i64, 8080, 8081, 0])), transport())
            .prop_map(|(name, port, transport)| SlicePortFacts { name, port, transport });
    (
        option::weighted(0.9, text(&["svc", "svc2"])),
        option::weighted(0.95, select(vec![IpFamily::V4, IpFamily::V4, IpFamily::V6])),
        vec(port, 0..4),
        vec(endpoint, 0..4),
    )
        .prop_map(|(service, family, ports, endpoints)| {
            Facts::EndpointSlice(EndpointSliceFacts { service, family, ports, endpoints })
        })
}

/// The objects there can be: few, so that they refer to each other often.
fn universe() -> Vec<(Kind, Vec<&'static str>)> {
    vec![
        (Kind::DataPlane, vec!["edge", "west"]),
        (Kind::GatewayClass, vec!["apisix", "other"]),
        (Kind::Gateway, vec!["gw", "gw2"]),
        // The name of a Gateway, on purpose.
        (Kind::ListenerSet, vec!["gw", "gw2"]),
        (Kind::TcpRoute, vec!["route", "route2"]),
        // The name of a TCPRoute, on purpose.
        (Kind::UdpRoute, vec!["route"]),
        (Kind::TlsRoute, vec!["route", "tls"]),
        (Kind::ReferenceGrant, vec!["grant"]),
        (Kind::BackendTlsPolicy, vec!["policy", "policy2"]),
        (Kind::Namespace, NAMESPACES.to_vec()),
        (Kind::Secret, vec!["certificate", "certificate2"]),
        (Kind::Service, vec!["svc", "svc2"]),
        (Kind::EndpointSlice, vec!["slice", "slice2"]),
    ]
}

fn names(kind: Kind) -> Vec<ObjectName> {
    let own = universe().into_iter().filter(|(of, _)| *of == kind).flat_map(|(_, names)| names);
    if kind.namespaced() {
        own.flat_map(|name| NAMESPACES.map(|namespace| ObjectName::new(namespace, name))).collect()
    } else {
        own.map(ObjectName::cluster).collect()
    }
}

fn facts(kind: Kind) -> BoxedStrategy<Facts> {
    match kind {
        Kind::DataPlane => data_plane().boxed(),
        Kind::GatewayClass => class().boxed(),
        Kind::Gateway => gateway().boxed(),
        Kind::ListenerSet => listener_set().boxed(),
        Kind::TcpRoute => route(Facts::TcpRoute).boxed(),
        Kind::UdpRoute => route(Facts::UdpRoute).boxed(),
        Kind::TlsRoute => (route(Facts::TlsRoute), vec(hostname(), 0..3))
            .prop_map(|(mut facts, hostnames)| {
                if let Facts::TlsRoute(route) = &mut facts {
                    route.hostnames = hostnames;
                }
                facts
            })
            .boxed(),
        Kind::ReferenceGrant => grant().boxed(),
        Kind::BackendTlsPolicy => policy().boxed(),
        Kind::Namespace => labels().boxed(),
        Kind::Secret => secret().boxed(),
        Kind::Service => service().boxed(),
        Kind::EndpointSlice => slice().boxed(),
    }
}

/// An object of any kind that appears, changes, becomes unreadable or goes.
fn change() -> impl Strategy<Value = Change> {
    select(Kind::ALL.to_vec()).prop_flat_map(|kind| {
        let observed = prop_oneof![
            8 => facts(kind).prop_map(|facts| Some(Observed::Facts(facts))),
            2 => Just(None),
            1 => Just(Some(Observed::Unreadable { error: "x".into() })),
        ];
        (select(names(kind)), observed).prop_map(move |(name, observed)| Change { kind, name, observed })
    })
}

/// A Gateway or route of a cluster that has little else than TLS in it.
fn tls_change() -> impl Strategy<Value = Change> {
    let facts = |kind: Kind| {
        facts(kind).prop_map(|mut facts| {
            if let Facts::GatewayClass(class) = &mut facts {
                (class.controller_name, class.parameters) = (OURS.into(), None);
            }
            let listeners = match &mut facts {
                Facts::Gateway(gateway) => {
                    (gateway.class, gateway.parameters) = ("apisix".into(), None);
                    gateway.allowed_listeners = FromNamespaces::All;
                    &mut gateway.listeners
                }
                Facts::ListenerSet(set) => &mut set.listeners,
                Facts::DataPlane(_)
                | Facts::GatewayClass(_)
                | Facts::TcpRoute(_)
                | Facts::UdpRoute(_)
                | Facts::TlsRoute(_)
                | Facts::ReferenceGrant(_)
                | Facts::BackendTlsPolicy(_)
                | Facts::Namespace(_)
                | Facts::Secret(_)
                | Facts::Service(_)
                | Facts::EndpointSlice(_) => return facts,
            };
            for (n, listener) in listeners.iter_mut().enumerate() {
                let hostnames = [Some("a.example"), Some("*.example"), Some("*.a.example"), None];
                let at = usize::try_from(listener.port.max(0)).unwrap() + n + usize::from(listener.hostname.is_some());
                listener.port = 9100 + listener.port % 2;
                listener.protocol = "TLS".into();
                listener.hostname = hostnames[at % hostnames.len()].map(Into::into);
                listener.tls = Some(TlsFacts { mode: "Passthrough".into(), certificates: vec![] });
                (listener.namespaces, listener.kinds) = (FromNamespaces::All, vec![]);
            }
            facts
        })
    };
    let kinds = [
        [Kind::GatewayClass, Kind::Gateway, Kind::Gateway, Kind::ListenerSet],
        [Kind::ListenerSet, Kind::TlsRoute, Kind::TlsRoute, Kind::TlsRoute],
    ];
    select(kinds.concat()).prop_flat_map(move |kind| {
        let observed = prop_oneof![9 => facts(kind).prop_map(|facts| Some(Observed::Facts(facts))), 1 => Just(None)];
        (select(names(kind)), observed).prop_map(move |(name, observed)| Change { kind, name, observed })
    })
}

/// Nearly everything there can be, to start from.
fn populated() -> impl Strategy<Value = Vec<Change>> {
    let object = |kind: Kind, name: ObjectName| {
        option::weighted(0.9, facts(kind)).prop_map(move |facts| Change {
            kind,
            name: name.clone(),
            observed: facts.map(Observed::Facts),
        })
    };
    let all = Kind::ALL.into_iter().flat_map(|kind| names(kind).into_iter().map(move |name| object(kind, name)));
    all.collect::<Vec<_>>()
}

/// A populated cluster and what happens to it, in steps.
fn history() -> impl Strategy<Value = Vec<Vec<Change>>> {
    (populated(), vec(vec(change(), 1..3), 1..24)).prop_map(|(first, mut steps)| {
        steps.insert(0, first);
        steps
    })
}

/// Everything translation says, to compare.
#[derive(Debug, PartialEq)]
struct Said {
    documents: BTreeMap<WorkId, Wanted>,
    verdicts: BTreeMap<ObjectRef, Verdict>,
}

impl Said {
    fn by(desired: &Desired) -> Self {
        let documents = desired.documents().into_iter().map(|id| (id.clone(), desired.wanted(&id))).collect();
        let verdicts = desired
            .verdicts()
            .into_iter()
            .filter_map(|object| Some((object.clone(), desired.verdict(&object)?)))
            .collect();
        Self { documents, verdicts }
    }

    /// What differs between two states.
    fn difference(&self, other: &Self) -> Affected {
        Affected {
            documents: keys_that_differ(&self.documents, &other.documents),
            planes: BTreeSet::new(),
            verdicts: keys_that_differ(&self.verdicts, &other.verdicts),
        }
    }
}

fn keys_that_differ<K: Ord + Clone, V: PartialEq>(one: &BTreeMap<K, V>, other: &BTreeMap<K, V>) -> BTreeSet<K> {
    one.keys().chain(other.keys()).filter(|key| one.get(*key) != other.get(*key)).cloned().collect()
}

/// The objects there are after a history. What cannot be read keeps its older facts.
#[derive(Default)]
struct Objects(BTreeMap<(Kind, ObjectName), Observed>);

impl Objects {
    fn take_in(&mut self, change: &Change) {
        let key = (change.kind, change.name.clone());
        match &change.observed {
            None => drop(self.0.remove(&key)),
            Some(Observed::Unreadable { .. }) if self.0.contains_key(&key) => {}
            Some(observed) => drop(self.0.insert(key, observed.clone())),
        }
    }

    fn changes(&self) -> Vec<Change> {
        let change = |((kind, name), observed): (&(Kind, ObjectName), &Observed)| Change {
            kind: *kind,
            name: name.clone(),
            observed: Some(observed.clone()),
        };
        self.0.iter().map(change).collect()
    }
}

impl Objects {
    /// The data plane and the port of APISIX that are an accepted listener's.
    fn place(&self, owner: &ObjectRef, port: i64) -> (Plane, i64) {
        let facts = |kind, name: &ObjectName| match self.0.get(&(kind, name.clone())) {
            Some(Observed::Facts(facts)) => Some(facts),
            Some(Observed::Unreadable { .. }) | None => None,
        };
        let named = if let Some(Facts::ListenerSet(set)) = facts(owner.kind, &owner.name) {
            let namespace = set.parent.namespace.as_ref().unwrap_or(&owner.name.namespace);
            ObjectName::new(namespace, &set.parent.name)
        } else {
            owner.name.clone()
        };
        let gateway = facts(Kind::Gateway, &named).and_then(gateway_facts).unwrap();
        let class = facts(Kind::GatewayClass, &ObjectName::cluster(&gateway.class)).and_then(class_facts).unwrap();
        let Some(parameters) = &class.parameters else { return (Plane::default(), port) };
        let plane = facts(Kind::DataPlane, &ObjectName::cluster(&parameters.name)).and_then(plane_facts).unwrap();
        let mapped = plane.port_mapping.iter().find(|mapping| mapping.gateway_port == port);
        (Plane::of(&plane.etcd_prefix), mapped.map_or(port, |mapping| mapping.apisix_port))
    }

    /// The listeners of a Gateway or a ListenerSet.
    fn listeners(&self, owner: &ObjectRef) -> &[ListenerFacts] {
        let observed = self.0.get(&(owner.kind, owner.name.clone()));
        let facts = observed.and_then(|observed| match observed {
            Observed::Facts(Facts::Gateway(facts)) => Some(&facts.listeners),
            Observed::Facts(Facts::ListenerSet(facts)) => Some(&facts.listeners),
            Observed::Facts(_) | Observed::Unreadable { .. } => None,
        });
        facts.unwrap()
    }

    fn route(&self, name: &ObjectRef) -> &RouteFacts {
        let observed = self.0.get(&(name.kind, name.name.clone()));
        let facts = observed.and_then(|observed| match observed {
            Observed::Facts(Facts::TcpRoute(facts) | Facts::UdpRoute(facts) | Facts::TlsRoute(facts)) => Some(facts),
            Observed::Facts(_) | Observed::Unreadable { .. } => None,
        });
        facts.unwrap()
    }

    /// The pair of a Secret, for a reference of an object in `home`.
    fn certificate(&self, reference: &SecretRef, home: &Arc<str>) -> Option<&KeyPair> {
        let namespace = reference.namespace.as_ref().unwrap_or(home);
        match self.0.get(&(Kind::Secret, ObjectName::new(namespace, &reference.name))) {
            Some(Observed::Facts(Facts::Secret(SecretFacts { pair: Ok(pair) }))) => Some(pair),
            Some(Observed::Facts(_) | Observed::Unreadable { .. }) | None => None,
        }
    }

    /// Whether some policy demands TLS of every port of a Service.
    fn demand_tls(&self, service: &ObjectName) -> bool {
        self.0.iter().any(|((_, name), observed)| {
            let Observed::Facts(Facts::BackendTlsPolicy(facts)) = observed else { return false };
            let whole = |target: &PolicyTarget| {
                &*target.kind == "Service" && target.name == service.name && target.section_name.is_none()
            };
            name.namespace == service.namespace && facts.targets.iter().any(whole)
        })
    }

    /// Whether some grant in `namespace` is for routes of this kind and namespace.
    fn grant_for(&self, route: &ObjectRef, namespace: &Arc<str>) -> bool {
        let from_route =
            |from: &GrantFrom| *from.kind == *route.kind.as_str() && from.namespace == route.name.namespace;
        self.0.iter().any(|((_, name), observed)| {
            matches!(observed, Observed::Facts(Facts::ReferenceGrant(grant))
                if name.namespace == *namespace && grant.from.iter().any(from_route))
        })
    }
}

impl Said {
    fn routes(&self) -> impl Iterator<Item = (&ObjectRef, &RouteVerdict)> {
        self.verdicts.iter().filter_map(|(object, verdict)| match verdict {
            Verdict::Route(verdict) => Some((object, verdict)),
            Verdict::DataPlane(_)
            | Verdict::GatewayClass(_)
            | Verdict::Gateway(_)
            | Verdict::ListenerSet(_)
            | Verdict::Policy(_) => None,
        })
    }

    /// The listeners of every Gateway and ListenerSet, and whether they are served if they are not refused themselves.
    fn listeners(&self) -> impl Iterator<Item = (&ObjectRef, bool, &[ListenerVerdict])> {
        self.verdicts.iter().filter_map(|(object, verdict)| match verdict {
            Verdict::Gateway(verdict) => Some((object, verdict.refusal.is_none(), verdict.listeners.as_slice())),
            Verdict::ListenerSet(verdict) => Some((object, verdict.is_accepted(), verdict.listeners.as_slice())),
            Verdict::DataPlane(_) | Verdict::GatewayClass(_) | Verdict::Route(_) | Verdict::Policy(_) => None,
        })
    }

    /// The ListenerSets of a Gateway of which something is said, in the order in which they take turns.
    fn sets_of(&self, gateway: &ObjectRef, objects: &Objects) -> Vec<(&ObjectRef, Created, &ListenerSetVerdict)> {
        let mut sets = Vec::new();
        for (name, verdict) in &self.verdicts {
            let observed = objects.0.get(&(name.kind, name.name.clone()));
            let (Verdict::ListenerSet(verdict), Some(Observed::Facts(Facts::ListenerSet(facts)))) = (verdict, observed)
            else {
                continue;
            };
            if owner(name, &facts.parent) == *gateway {
                sets.push((name, facts.created, verdict));
            }
        }
        sets.sort_by_key(|(name, created, _)| (*created, (*name).clone()));
        sets
    }

    /// Every claim of every route, with the Gateway or ListenerSet it goes to.
    fn claims(&self) -> impl Iterator<Item = (&ObjectRef, ObjectRef, &ClaimVerdict)> {
        self.routes().flat_map(|(route, verdict)| {
            verdict.parents.iter().flat_map(move |parent| {
                let owner = owner(route, &parent.parent);
                let claims = parent.attachment.as_deref().unwrap_or_default();
                claims.iter().map(move |claim| (route, owner.clone(), claim))
            })
        })
    }

    /// The certificate that APISIX finds for a name on a data plane: that of the name, else of the longest wildcard, which must be of one label.
    fn certificate_for(&self, plane: Plane, name: &str) -> Option<serde_json::Value> {
        let ids = self.documents.keys().filter(|id| id.plane == plane && id.directory == Directory::Ssls);
        let values = ids.filter_map(|id| self.value(id));
        let of = |value: &serde_json::Value| value["snis"][0].as_str().unwrap().to_owned();
        let covers = |sni: &str| sni == name || sni.strip_prefix('*').is_some_and(|tail| name.ends_with(tail));
        let best =
            values.filter(|value| covers(&of(value))).max_by_key(|value| (of(value) == name, of(value).len()))?;
        let sni = of(&best);
        let labels = |name: &str| name.split('.').count();
        (sni == name || labels(&sni) == labels(name)).then_some(best)
    }

    /// A document's value, where there is one to put.
    fn value(&self, id: &WorkId) -> Option<serde_json::Value> {
        match self.documents.get(id) {
            Some(Wanted::Document(document) | Wanted::Kept { otherwise: Some(document) }) => {
                Some(serde_json::from_slice(&document.bytes).unwrap())
            }
            Some(Wanted::Absent | Wanted::Kept { otherwise: None } | Wanted::Refused(_)) | None => None,
        }
    }
}

fn gateway_facts(facts: &Facts) -> Option<&GatewayFacts> {
    if let Facts::Gateway(facts) = facts { Some(facts) } else { None }
}

fn class_facts(facts: &Facts) -> Option<&GatewayClassFacts> {
    if let Facts::GatewayClass(facts) = facts { Some(facts) } else { None }
}

fn plane_facts(facts: &Facts) -> Option<&DataPlaneFacts> {
    if let Facts::DataPlane(facts) = facts { Some(facts) } else { None }
}

/// The Gateway or ListenerSet that a parentRef of a route names.
fn owner(route: &ObjectRef, parent: &ParentRef) -> ObjectRef {
    let kind = if &*parent.kind == "Gateway" { Kind::Gateway } else { Kind::ListenerSet };
    let namespace = parent.namespace.as_ref().unwrap_or(&route.name.namespace);
    ObjectRef::new(kind, ObjectName::new(namespace, &parent.name))
}

/// Whether Gateway API tells two listeners of one Gateway apart, of a data plane that knows both modes of TLS.
fn told_apart(one: &ListenerFacts, other: &ListenerFacts) -> bool {
    let hostname = |listener: &ListenerFacts| listener.hostname.as_deref().and_then(ServerName::of);
    let protocols = (&*one.protocol, &*other.protocol);
    if one.port != other.port || protocols.0 == "x" || protocols.1 == "x" {
        return true;
    }
    match protocols {
        ("UDP", "UDP") => false,
        ("UDP", _) | (_, "UDP") => true,
        ("TLS", "TLS") | ("HTTP", "HTTP") => hostname(one) != hostname(other),
        _ => false,
    }
}

/// Whether listeners of a protocol take routes of a kind.
fn takes(protocol: &str, kind: Kind) -> bool {
    match kind {
        Kind::UdpRoute => protocol == "UDP",
        Kind::TlsRoute => protocol == "TLS",
        // Once TLS is ended, what is in it is a TCP connection like any other.
        Kind::TcpRoute => protocol == "TCP" || protocol == "TLS",
        Kind::DataPlane
        | Kind::GatewayClass
        | Kind::Gateway
        | Kind::ListenerSet
        | Kind::ReferenceGrant
        | Kind::BackendTlsPolicy
        | Kind::Namespace
        | Kind::Secret
        | Kind::Service
        | Kind::EndpointSlice => false,
    }
}

fn rebuilt(version: &str, changes: Vec<Change>) -> Said {
    let mut desired = Desired::new(settings(version));
    desired.apply(changes);
    Said::by(&desired)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_step_equals_a_full_rebuild_and_is_announced(
        history in history(),
        version in select(vec!["3.13.0", "3.14.0", "3.19.0", "3.19.0"]),
    ) {
        let mut desired = Desired::new(settings(version));
        let mut objects = Objects::default();
        let mut before = Said::by(&desired);
        for step in history {
            for change in &step {
                objects.take_in(change);
            }
            let affected = desired.apply(step);
            let now = Said::by(&desired);
            prop_assert_eq!(&now, &rebuilt(version, objects.changes()));
            let differs = before.difference(&now);
            let unannounced: Vec<_> = differs.documents.iter().filter(|id| !affected.documents.contains(id) && !affected.planes.contains(&id.plane)).collect();
            prop_assert!(unannounced.is_empty(), "unannounced: {unannounced:?}");
            prop_assert!(affected.verdicts.is_superset(&differs.verdicts), "unannounced: {:?}", differs.verdicts.difference(&affected.verdicts));
            before = now;
        }
    }

    #[test]
    fn the_order_in_which_objects_appear_does_not_matter(
        history in history(),
        order in any::<u64>(),
    ) {
        let mut objects = Objects::default();
        for change in history.iter().flatten() {
            objects.take_in(change);
        }
        let in_order = rebuilt("3.19.0", objects.changes());

        let mut shuffled = objects.changes();
        let mut state = order | 1;
        for at in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(at, usize::try_from(state >> 33).unwrap() % (at + 1));
        }
        let mut one_by_one = Desired::new(settings("3.19.0"));
        for change in shuffled {
            one_by_one.apply([change]);
        }
        prop_assert_eq!(in_order, Said::by(&one_by_one));
    }

    #[test]
    fn a_complete_list_equals_the_changes_it_stands_for(
        before in history(),
        after in history(),
        settled_each_time in any::<bool>(),
    ) {
        let mut desired = Desired::new(settings("3.19.0"));
        desired.apply(before.into_iter().flatten());
        // What could be read once stays in force when it cannot be read any more, so the list holds readable objects only.
        let mut objects = Objects::default();
        for change in after.iter().flatten().filter(|change| !matches!(change.observed, Some(Observed::Unreadable { .. }))) {
            objects.take_in(change);
        }
        for kind in Kind::ALL {
            let list = objects.0.iter().filter(|((of, _), _)| *of == kind);
            desired.note_list(kind, list.map(|((_, name), observed)| (name.clone(), observed.clone())).collect());
            if settled_each_time {
                desired.settle();
            }
        }
        desired.settle();
        prop_assert_eq!(Said::by(&desired), rebuilt("3.19.0", objects.changes()));
    }

    #[test]
    fn the_stream_plugins_of_a_data_plane_count_whenever_they_become_known(
        history in history(),
        switches in vec(option::of(any::<bool>()), 1..4),
    ) {
        let mut desired = Desired::new(settings("3.19.0"));
        desired.apply(history.iter().flatten().cloned());
        for enabled in switches {
            let before = Said::by(&desired);
            desired.note_traffic_split(Plane::default(), enabled);
            let affected = desired.settle();
            let now = Said::by(&desired);

            let mut known_first = Desired::new(settings("3.19.0"));
            known_first.note_traffic_split(Plane::default(), enabled);
            known_first.apply(history.iter().flatten().cloned());
            prop_assert_eq!(&now, &Said::by(&known_first));
            let differs = before.difference(&now);
            let unannounced: Vec<_> = differs.documents.iter().filter(|id| !affected.documents.contains(id) && !affected.planes.contains(&id.plane)).collect();
            prop_assert!(unannounced.is_empty(), "unannounced: {unannounced:?}");
        }
    }

    #[test]
    fn no_two_documents_can_match_one_connection_and_every_slot_has_its_pool(history in history()) {
        let mut desired = Desired::new(settings("3.19.0"));
        desired.apply(history.into_iter().flatten());
        let mut slots = BTreeSet::new();
        for (id, wanted) in Said::by(&desired).documents {
            let (Wanted::Document(document) | Wanted::Kept { otherwise: Some(document) }) = wanted else { continue };
            if id.is_placeholder() {
                continue;
            }
            let value: serde_json::Value = serde_json::from_slice(&document.bytes).unwrap();
            if id.directory == Directory::StreamRoutes {
                let matched = (id.plane, value["server_port"].as_u64().unwrap(), value["sni"].as_str().map(str::to_owned));
                prop_assert!(slots.insert(matched), "two slots of one name on one port");
            }
            if let Some(pool) = &document.pool {
                prop_assert!(
                    matches!(desired.wanted(pool), Wanted::Document(_) | Wanted::Kept { otherwise: Some(_) }),
                    "{id} names {pool}, which is not wanted"
                );
            }
        }
    }

    #[test]
    fn a_connection_gets_to_the_routes_of_the_most_specific_listener_alone(history in vec(tls_change(), 1..60)) {
        let mut desired = Desired::new(settings("3.19.0"));
        let mut objects = Objects::default();
        for change in history {
            objects.take_in(&change);
            desired.apply([change]);
        }
        let listeners = accepted_listeners(&desired, &objects);
        let documents = routes_by_port_and_name(&desired);
        for (port, asked) in listeners.keys().flat_map(|(port, _)| ASKED.map(|asked| (*port, asked))) {
            let asked = ServerName::of(asked).unwrap();
            let covering: Vec<Option<ServerName>> =
                std::iter::once(asked.clone()).chain(asked.wider()).map(Some).chain([None]).collect();
            let Some(listener) = covering.iter().find_map(|name| listeners.get(&(port, name.clone()))) else {
                continue;
            };
            // What APISIX does: the exact name, the longest wildcard, then a route without a name.
            let Some((id, held)) = covering.iter().find_map(|name| documents.get(&(port, name.clone()))) else { continue };
            prop_assert!(
                !held || claims(&desired, id).contains(listener),
                "{asked} on {port:?} is {listener:?}'s and gets to {id}, claimed through {:?}", claims(&desired, id)
            );
        }
    }

    #[test]
    fn what_a_route_holds_speaks_the_protocol_of_its_kind_and_of_the_listener(history in history()) {
        let mut objects = Objects::default();
        history.iter().flatten().for_each(|change| objects.take_in(change));
        let said = rebuilt("3.14.0", objects.changes());
        for (route, owner, claim) in said.claims() {
            let listeners = objects.listeners(&owner);
            let listener = listeners.iter().find(|listener| listener.name == claim.listener).unwrap();
            prop_assert!(takes(&listener.protocol, route.kind), "{} at {}", route, owner);
            match &claim.outcome {
                ClaimOutcome::Holds { slot, pool, certificate } => {
                    let (plane, port) = objects.place(&owner, listener.port);
                    prop_assert_eq!((slot.plane, pool.plane), (plane, plane));
                    let Some((slot, pool_value)) = said.value(slot).zip(said.value(pool)) else { continue };
                    prop_assert_eq!(slot["server_port"].as_i64(), Some(port));
                    prop_assert_eq!(slot["upstream_id"].as_str(), Some(&*pool.id));
                    let scheme = if route.kind == Kind::UdpRoute { "udp" } else { "tcp" };
                    prop_assert_eq!(pool_value["scheme"].as_str(), Some(scheme));
                    let needing = certificate.as_ref().map(|id| format!("; certificate {}", id.id)).unwrap_or_default();
                    for (desc, need) in [(&slot["desc"], &*needing), (&pool_value["desc"], "")] {
                        let of = format!("{route}{need} [");
                        prop_assert!(desc.as_str().unwrap().starts_with(&of), "{} of {}", desc, route);
                    }
                }
                ClaimOutcome::Superseded { winner } => prop_assert!(takes(&listener.protocol, winner.kind)),
                ClaimOutcome::ListenerMoreSpecific
                | ClaimOutcome::ListenerNotAccepted
                | ClaimOutcome::NoCertificate
                | ClaimOutcome::CertificateTaken
                | ClaimOutcome::NoName => {}
            }
        }
    }

    #[test]
    fn whoever_asks_for_a_name_that_a_route_holds_is_shown_a_certificate_of_its_listener(history in history()) {
        let mut objects = Objects::default();
        history.iter().flatten().for_each(|change| objects.take_in(change));
        let said = rebuilt("3.19.0", objects.changes());
        for (route, owner, claim) in said.claims() {
            let ClaimOutcome::Holds { slot, pool: _, certificate } = &claim.outcome else { continue };
            let listener = objects.listeners(&owner).iter().find(|l| l.name == claim.listener).unwrap();
            let ends = listener.tls.as_ref().filter(|tls| &*tls.mode == "Terminate");
            prop_assert_eq!(certificate.is_some(), ends.is_some(), "{} at {}", route, owner);
            let (Some(tls), Some(certificate), Some(_)) = (ends, certificate, said.value(slot)) else { continue };
            let Some(shown) = said.value(certificate) else { continue };
            let Some(name) = &claim.hostname else { continue };
            let first = said.certificate_for(certificate.plane, name.as_str()).map(|value| value["cert"].clone());
            prop_assert_eq!(first.as_ref(), Some(&shown["cert"]), "what APISIX shows for {}", name);
            let own = tls.certificates.iter().filter_map(|reference| objects.certificate(reference, &owner.name.namespace));
            prop_assert!(own.clone().any(|pair| shown["cert"] == *pair.certificate()), "{} at {}: {}", name, owner, shown);
        }
    }

    #[test]
    fn a_port_is_for_one_protocol_each_hostname_is_one_listeners_and_every_listener_counts_its_routes(history in history()) {
        let mut objects = Objects::default();
        history.iter().flatten().for_each(|change| objects.take_in(change));
        let said = rebuilt("3.14.0", objects.changes());
        let (mut protocols, mut hostnames) = (BTreeMap::new(), BTreeSet::new());
        for (name, served, listeners) in said.listeners() {
            for (listener, facts) in listeners.iter().zip(objects.listeners(name)) {
                prop_assert_eq!(&listener.name, &facts.name);
                for kind in &listener.supported_kinds {
                    let carries = Kind::ROUTES.into_iter().any(|of| of.as_str() == &*kind.kind && takes(&facts.protocol, of));
                    prop_assert!(carries, "{} carries {:?}", facts.protocol, kind);
                }
                let attached: BTreeSet<&ObjectRef> = said
                    .claims()
                    .filter(|(_, owner, claim)| owner == name && claim.listener == listener.name)
                    .map(|(route, _, _)| route)
                    .collect();
                prop_assert_eq!(usize::try_from(listener.attached_routes).unwrap(), attached.len());
                if listener.refusal.is_none() && served {
                    let place = objects.place(name, facts.port);
                    let protocol = protocols.entry(place).or_insert(&facts.protocol);
                    prop_assert_eq!(*protocol, &facts.protocol, "port {}", facts.port);
                    let hostname = facts.hostname.as_deref().and_then(ServerName::of);
                    prop_assert!(hostnames.insert((place, hostname)), "port {} has two listeners", facts.port);
                }
            }
        }
        // A refusal is of the whole parent: no listener there of this name and port is for the kind and the namespace.
        for (route, verdict) in said.routes() {
            for parent in verdict.parents.iter().filter(|parent| parent.attachment == Err(AttachmentRefusal::NotAllowedByListeners)) {
                let owner = owner(route, &parent.parent);
                let open = objects.listeners(&owner).iter().any(|listener| {
                    (&*listener.protocol == "TCP" && route.kind == Kind::TcpRoute
                            || takes(&listener.protocol, route.kind) && route.kind != Kind::TcpRoute)
                        && listener.namespaces == FromNamespaces::All
                        && listener.kinds.is_empty()
                        && parent.parent.section_name.as_ref().is_none_or(|section| *section == listener.name)
                        && parent.parent.port.is_none_or(|port| port == listener.port)
                });
                prop_assert!(!open, "{} is not allowed at {:?}", route, owner);
            }
        }
    }

    #[test]
    fn a_listener_set_stands_and_falls_with_its_gateway_and_is_counted_there(history in history()) {
        let mut objects = Objects::default();
        history.iter().flatten().for_each(|change| objects.take_in(change));
        let said = rebuilt("3.19.0", objects.changes());
        for (gateway, verdict) in &said.verdicts {
            let Verdict::Gateway(verdict) = verdict else { continue };
            let sets = said.sets_of(gateway, &objects);
            let accepted = sets.iter().filter(|(_, _, set)| set.is_accepted()).count();
            prop_assert_eq!(usize::try_from(verdict.listener_sets).unwrap(), accepted);
            for (name, _, set) in &sets {
                let fell = set.reception == Reception::ParentNotAccepted;
                prop_assert!(!fell || !verdict.is_accepted(), "{} of {}", name, gateway);
                prop_assert!(!set.is_accepted() || verdict.is_accepted(), "{} of {}", name, gateway);
                let programmed = set.is_accepted() && set.reception == Reception::Taken;
                prop_assert!(!programmed || verdict.address.is_none(), "{} of {}", name, gateway);
            }
        }
    }

    #[test]
    fn of_a_gateways_listeners_and_its_sets_the_first_of_those_that_clash_stands(history in history()) {
        let mut objects = Objects::default();
        history.iter().flatten().for_each(|change| objects.take_in(change));
        let said = rebuilt("3.19.0", objects.changes());
        for (gateway, verdict) in &said.verdicts {
            let Verdict::Gateway(verdict) = verdict else { continue };
            let mut first: Vec<&ListenerFacts> = Vec::new();
            let sets = if verdict.is_accepted() { said.sets_of(gateway, &objects) } else { Vec::new() };
            let sets = sets.iter().filter(|(_, _, set)| !set.listeners.is_empty());
            let own = (gateway, verdict.listeners.as_slice());
            let objects_in_turn = [own].into_iter().chain(sets.map(|(name, _, set)| (*name, set.listeners.as_slice())));
            for (owner, listeners) in objects_in_turn {
                let facts = objects.listeners(owner);
                for (listener, facts) in listeners.iter().zip(facts) {
                    let conflicts = matches!(
                        listener.refusal,
                        Some(ListenerRefusal::ProtocolConflict | ListenerRefusal::HostnameConflict | ListenerRefusal::Hostname(_))
                    );
                    let earlier = first.iter().any(|earlier| !told_apart(earlier, facts));
                    let clashes = matches!(listener.refusal, Some(ListenerRefusal::Earlier(_)));
                    if conflicts || facts.port < 1 || facts.port > 65_535 {
                        continue;
                    }
                    prop_assert_eq!(clashes, earlier, "{} of {}", listener.name, owner);
                    if !clashes {
                        first.push(facts);
                    }
                }
            }
        }
    }

    #[test]
    fn where_tls_is_ended_no_backend_is_reached_that_a_policy_wants_with_tls(history in history()) {
        let mut objects = Objects::default();
        history.iter().flatten().for_each(|change| objects.take_in(change));
        let said = rebuilt("3.19.0", objects.changes());
        for (route, verdict) in said.routes() {
            let ended = said.claims().any(|(of, owner, claim)| {
                let listener = objects.listeners(&owner).iter().find(|listener| listener.name == claim.listener).unwrap();
                let ends = listener.tls.as_ref().is_some_and(|tls| &*tls.mode == "Terminate");
                of == route && ends && claim.outcome != ClaimOutcome::ListenerNotAccepted
            });
            for (index, backend) in objects.route(route).backends.iter().enumerate() {
                let namespace = backend.namespace.as_ref().unwrap_or(&route.name.namespace);
                let service = ObjectName::new(namespace, &backend.name);
                let problem = verdict.backends.problems.iter().find(|problem| problem.index == index);
                let for_tls = problem.is_some_and(|problem| {
                    matches!(problem.fault, BackendFault::TlsDemanded { .. } | BackendFault::TlsProtocol { .. })
                });
                prop_assert!(ended || !for_tls, "no TLS is ended for {}", route);
                let demanded = &*backend.kind == "Service" && objects.demand_tls(&service);
                prop_assert!(!(ended && demanded) || problem.is_some(), "{} reaches {}", route, service);
            }
        }
    }

    #[test]
    fn listeners_of_one_gateway_and_port_are_told_of_each_other_when_their_hostnames_overlap(
        history in history(),
        tls in vec(tls_change(), 0..40),
    ) {
        let mut objects = Objects::default();
        history.iter().flatten().chain(&tls).for_each(|change| objects.take_in(change));
        let mut desired = Desired::new(settings("3.19.0"));
        desired.apply(history.into_iter().flatten());
        for change in tls {
            let before = Said::by(&desired);
            let affected = desired.apply([change]);
            let differs = before.difference(&Said::by(&desired));
            prop_assert!(affected.verdicts.is_superset(&differs.verdicts), "unannounced: {:?}", differs.verdicts);
        }
        let said = Said::by(&desired);
        let mut serving = Vec::new();
        for (owner, verdict) in &said.verdicts {
            let (gateway, listeners) = match (verdict, objects.0.get(&(owner.kind, owner.name.clone()))) {
                (Verdict::Gateway(verdict), _) if verdict.refusal.is_none() => (owner.clone(), &verdict.listeners),
                (Verdict::ListenerSet(verdict), Some(Observed::Facts(Facts::ListenerSet(facts))))
                    if matches!(verdict.reception, Reception::Taken | Reception::ParentNotProgrammed) =>
                {
                    (self::owner(owner, &facts.parent), &verdict.listeners)
                }
                _ => continue,
            };
            for (verdict, facts) in listeners.iter().zip(objects.listeners(owner)) {
                if verdict.refusal.is_none() && &*facts.protocol == "TLS" {
                    let hostname = facts.hostname.as_deref().and_then(ServerName::of);
                    serving.push((gateway.clone(), facts.port, hostname, verdict.overlap.is_some()));
                }
            }
        }
        for (at, (gateway, port, hostname, told)) in serving.iter().enumerate() {
            let overlaps = |(other, (of, on, name, _)): (usize, &(ObjectRef, i64, Option<ServerName>, bool))| {
                let both = match (hostname, name) {
                    (Some(one), Some(other)) => one.intersection(other).is_some(),
                    (None, _) | (_, None) => true,
                };
                at != other && of == gateway && on == port && both
            };
            prop_assert_eq!(*told, serving.iter().enumerate().any(overlaps), "{} {} {:?}", gateway, port, hostname);
        }
    }

    #[test]
    fn no_route_refers_to_another_namespace_by_a_grant_for_another_kind(history in history()) {
        let mut objects = Objects::default();
        history.iter().flatten().for_each(|change| objects.take_in(change));
        let said = rebuilt("3.14.0", objects.changes());
        // Of a route without parents of ours nothing is worked out.
        for (route, verdict) in said.routes().filter(|(_, verdict)| !verdict.parents.is_empty()) {
            for (index, backend) in objects.route(route).backends.iter().enumerate() {
                let Some(namespace) = backend.namespace.as_ref().filter(|namespace| **namespace != route.name.namespace) else {
                    continue;
                };
                let problem = verdict.backends.problems.iter().find(|problem| problem.index == index);
                let stopped = problem.is_some_and(|problem| {
                    matches!(problem.fault, BackendFault::NotPermitted(_) | BackendFault::UnknownKind { .. })
                });
                prop_assert!(stopped || objects.grant_for(route, namespace), "{} refers to {}", route, namespace);
            }
        }
    }
}

/// Names that a client may ask for.
const ASKED: [&str; 6] = ["a.example", "b.a.example", "x.a.example", "x.example", "c.test", "d.test"];

/// A data plane, a port of it, and a server name.
type Named = ((Plane, i64), Option<ServerName>);

/// Every listener that is accepted, by port and hostname, as its Gateway or ListenerSet and its name.
fn accepted_listeners(desired: &Desired, objects: &Objects) -> BTreeMap<Named, (ObjectRef, Arc<str>)> {
    let mut accepted = BTreeMap::new();
    for (owner, served, listeners) in Said::by(desired).listeners() {
        for (verdict, facts) in listeners.iter().zip(objects.listeners(owner)) {
            if served && verdict.refusal.is_none() && &*facts.protocol == "TLS" {
                let hostname = facts.hostname.as_deref().and_then(ServerName::of);
                accepted.insert((objects.place(owner, facts.port), hostname), (owner.clone(), facts.name.clone()));
            }
        }
    }
    accepted
}

/// Every stream_route that is wanted, by port and server name, and whether it leads anywhere.
fn routes_by_port_and_name(desired: &Desired) -> BTreeMap<Named, (WorkId, bool)> {
    let mut routes = BTreeMap::new();
    for id in
        desired.documents().into_iter().filter(|id| id.directory == Directory::StreamRoutes && !id.is_placeholder())
    {
        let Wanted::Document(document) = desired.wanted(&id) else { continue };
        let value: serde_json::Value = serde_json::from_slice(&document.bytes).unwrap();
        let name = value["sni"].as_str().map(|name| ServerName::of(name).unwrap());
        routes.insert(((id.plane, value["server_port"].as_i64().unwrap()), name), (id, document.pool.is_some()));
    }
    routes
}

/// The listeners through which the holder of a slot claims it.
fn claims(desired: &Desired, slot: &WorkId) -> BTreeSet<(ObjectRef, Arc<str>)> {
    let mut claims = BTreeSet::new();
    for route in desired.users(slot) {
        let Some(Verdict::Route(verdict)) = desired.verdict(&route) else { continue };
        for parent in &verdict.parents {
            let owner = owner(&route, &parent.parent);
            for claim in parent.attachment.iter().flatten() {
                if matches!(&claim.outcome, ClaimOutcome::Holds { slot: held, .. } if held == slot) {
                    claims.insert((owner.clone(), claim.listener.clone()));
                }
            }
        }
    }
    claims
}
