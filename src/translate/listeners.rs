//! Tier 1: a Gateway's facts and its class give its listeners and what each admits.

use super::known::Known;
use crate::model::{
    facts::{FromNamespaces, GatewayFacts, LabelRequirement, LabelSelector, ListenerFacts, RouteKind},
    names::{Created, Kind, ObjectName},
    places::Port,
    sockets::{Footing, Inventory, Need},
    verdicts::{AddressProblem, GatewayRefusal, ListenerRefusal},
};
use std::{collections::BTreeMap, sync::Arc};

/// Whose a GatewayClass is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassState {
    /// It names our controller, and we can honour it.
    Ours,
    /// It names another controller.
    Foreign,
    /// It does not exist, or cannot be honoured: its Gateways are frozen. What they have in etcd stays as it is, nothing
    /// new comes about through them.
    Frozen,
}

/// A Gateway that is ours or frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// `metadata.generation`.
    pub generation: i64,
    /// Decides between Gateways that want one port.
    pub created: Created,
    /// Whether its class is absent or unusable.
    pub frozen: bool,
    /// Why the Gateway as a whole is not accepted.
    pub refusal: Option<GatewayRefusal>,
    /// Why an address it asks for cannot be had.
    pub address: Option<AddressProblem>,
    /// In the order of the spec.
    pub listeners: Vec<Listener>,
}

/// One listener, before ports are settled between Gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: Arc<str>,
    /// The port as the spec has it.
    pub port_asked: i64,
    /// The port, if it is one.
    pub port: Option<Port>,
    /// Why it cannot be accepted whatever other Gateways want.
    pub refusal: Option<ListenerRefusal>,
    /// Why it may have its port, unless it is refused.
    pub footing: Footing,
    /// Route kinds that it can carry and allows.
    pub supported_kinds: Vec<RouteKind>,
    /// Route kinds that it allows but cannot carry.
    pub invalid_kinds: Vec<RouteKind>,
    /// From where routes may attach.
    pub namespaces: FromNamespaces,
}

impl Gateway {
    /// The ports this Gateway contends for: those of listeners that are acceptable in themselves.
    pub fn contended_ports(&self) -> impl Iterator<Item = Port> {
        let contends = !self.frozen && self.refusal.is_none();
        self.listeners.iter().filter(move |listener| contends && listener.refusal.is_none()).filter_map(|l| l.port)
    }

    /// The ports whose slots must not be cleared away while this Gateway is frozen.
    pub fn frozen_ports(&self) -> impl Iterator<Item = Port> {
        self.listeners.iter().filter(|_| self.frozen).filter_map(|listener| listener.port)
    }

    /// Whether namespace labels decide who may attach anywhere on it.
    #[must_use]
    pub fn selects_by_label(&self) -> bool {
        self.listeners.iter().any(|listener| matches!(listener.namespaces, FromNamespaces::Selector(_)))
    }
}

impl Listener {
    /// Whether a route of `kind` in `namespace` may attach, `gateway` being in `home`.
    #[must_use]
    pub fn admits(&self, kind: Kind, namespace: &Arc<str>, home: &Arc<str>, known: &Known) -> bool {
        self.supported_kinds.iter().any(|supported| &*supported.kind == kind.as_str())
            && match &self.namespaces {
                FromNamespaces::Same => namespace == home,
                FromNamespaces::All => true,
                FromNamespaces::Selector(selector) => selects(selector, namespace, known),
                FromNamespaces::Nobody => false,
            }
    }
}

/// Whose the class `name` is.
#[must_use]
pub fn class_state(known: &Known, name: &Arc<str>, controller_name: &str) -> ClassState {
    match known.classes.get(&ObjectName::cluster(name)) {
        None => ClassState::Frozen,
        Some(class) if &*class.controller_name != controller_name => ClassState::Foreign,
        Some(class) if class.parameters.is_some() => ClassState::Frozen,
        Some(_) => ClassState::Ours,
    }
}

/// Reads a Gateway; `None` if its class is another controller's.
#[must_use]
pub fn gateway(facts: &GatewayFacts, class: ClassState, sockets: &Inventory) -> Option<Gateway> {
    let frozen = match class {
        ClassState::Foreign => return None,
        ClassState::Ours => false,
        ClassState::Frozen => true,
    };
    let conflicts = conflicts(&facts.listeners);
    let mut listeners: Vec<Listener> =
        facts.listeners.iter().zip(conflicts).map(|(facts, conflict)| listener(facts, conflict, sockets)).collect();
    share_out_ports(&mut listeners, &facts.listeners);
    let (refusal, address) = addresses(facts);
    let refusal = facts.parameters.clone().map(GatewayRefusal::Parameters).or(refusal);
    Some(Gateway { generation: facts.generation, created: facts.created, frozen, refusal, address, listeners })
}

fn listener(facts: &ListenerFacts, conflict: Option<ListenerRefusal>, sockets: &Inventory) -> Listener {
    let protocol = Protocol::of(&facts.protocol);
    let port = u16::try_from(facts.port).ok().and_then(Port::new);
    let refusal = match (port, conflict, protocol) {
        (None, _, _) => Some(ListenerRefusal::PortOutOfRange(facts.port)),
        (Some(_), Some(conflict), _) => Some(conflict),
        (Some(_), None, Protocol::Tcp | Protocol::Udp) => None,
        (Some(_), None, Protocol::Tls | Protocol::Http | Protocol::Https | Protocol::Unknown) => {
            Some(ListenerRefusal::UnsupportedProtocol(Arc::clone(&facts.protocol)))
        }
    };
    let (refusal, footing) = match (refusal, port, protocol.need()) {
        (None, Some(port), Some(need)) => match sockets.serves(port, need) {
            Ok(footing) => (None, footing),
            Err(fault) => (Some(ListenerRefusal::NoSocket { port, need, fault }), Footing::OnTrust),
        },
        (refusal, _, _) => (refusal, Footing::OnTrust),
    };
    let carried = protocol.route_kinds();
    let (supported_kinds, invalid_kinds) = if facts.kinds.is_empty() {
        (carried, Vec::new())
    } else {
        let mut kinds = facts.kinds.clone();
        let mut seen = Vec::new();
        kinds.retain(|kind| {
            !seen.contains(kind) && {
                seen.push(kind.clone());
                true
            }
        });
        kinds.into_iter().partition(|kind| carried.contains(kind))
    };
    Listener {
        name: Arc::clone(&facts.name),
        port_asked: facts.port,
        port,
        refusal,
        footing,
        supported_kinds,
        invalid_kinds,
        namespaces: facts.namespaces.clone(),
    }
}

fn addresses(facts: &GatewayFacts) -> (Option<GatewayRefusal>, Option<AddressProblem>) {
    // Types that Gateway API defines are supported in principle; there is no source of addresses yet to honour them from.
    let strange = facts.addresses.iter().find(|address| !matches!(&*address.kind, "IPAddress" | "Hostname"));
    let problem = facts.addresses.first().map(|address| {
        if address.value.is_empty() {
            AddressProblem::NotAssigned
        } else {
            AddressProblem::NotUsable(Arc::clone(&address.value))
        }
    });
    (strange.map(|address| GatewayRefusal::AddressType(Arc::clone(&address.kind))), problem)
}

/// Protocols as far as conflicts and route kinds go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
    Tls,
    Http,
    Https,
    Unknown,
}

impl Protocol {
    fn of(text: &str) -> Self {
        match text {
            "TCP" => Self::Tcp,
            "UDP" => Self::Udp,
            "TLS" => Self::Tls,
            "HTTP" => Self::Http,
            "HTTPS" => Self::Https,
            _ => Self::Unknown,
        }
    }

    /// What a data plane must listen for, so that such a listener can be served.
    fn need(self) -> Option<Need> {
        match self {
            Self::Tcp => Some(Need::Tcp),
            Self::Udp => Some(Need::Udp),
            Self::Tls | Self::Http | Self::Https | Self::Unknown => None,
        }
    }

    fn route_kinds(self) -> Vec<RouteKind> {
        match self {
            Self::Tcp => vec![route_kind(Kind::TcpRoute)],
            Self::Udp => vec![route_kind(Kind::UdpRoute)],
            Self::Tls | Self::Http | Self::Https | Self::Unknown => Vec::new(),
        }
    }
}

fn route_kind(kind: Kind) -> RouteKind {
    RouteKind { group: kind.group().into(), kind: kind.as_str().into() }
}

/// TCP and UDP listeners of one port are distinct to Gateway API, but APISIX matches a stream_route by its port alone
/// (`apisix/stream/router/ip_port.lua`): the first of the object has it.
fn share_out_ports(listeners: &mut [Listener], facts: &[ListenerFacts]) {
    let mut first: BTreeMap<Port, (Protocol, Arc<str>)> = BTreeMap::new();
    for (listener, facts) in listeners.iter_mut().zip(facts) {
        let Some(port) = listener.port.filter(|_| listener.refusal.is_none()) else { continue };
        let protocol = Protocol::of(&facts.protocol);
        let (has, name) = first.entry(port).or_insert_with(|| (protocol, Arc::clone(&listener.name)));
        if *has != protocol {
            listener.refusal = Some(ListenerRefusal::PortOfOtherTransport { port, listener: Arc::clone(name) });
        }
    }
}

/// For each listener, whether another one of the same object cannot be told apart from it (Gateway API, "distinct
/// listeners"). Nobody wins: both are refused.
fn conflicts(listeners: &[ListenerFacts]) -> Vec<Option<ListenerRefusal>> {
    let mut by_port: BTreeMap<i64, Vec<&ListenerFacts>> = BTreeMap::new();
    for listener in listeners {
        by_port.entry(listener.port).or_default().push(listener);
    }
    let conflict_of = |listener: &ListenerFacts| {
        let others = by_port.get(&listener.port).into_iter().flatten();
        let clashes =
            others.filter(|other| !std::ptr::eq(**other, listener)).filter_map(|other| clash(listener, other));
        // A clash of protocols says more than one of names.
        clashes.max_by_key(|clash| matches!(clash, ListenerRefusal::ProtocolConflict))
    };
    listeners.iter().map(conflict_of).collect()
}

fn clash(one: &ListenerFacts, other: &ListenerFacts) -> Option<ListenerRefusal> {
    use Protocol::{Http, Https, Tcp, Tls, Udp, Unknown};
    let same_name = one.hostname == other.hostname;
    match (Protocol::of(&one.protocol), Protocol::of(&other.protocol)) {
        (Unknown, _) | (_, Unknown) | (Udp, Tcp | Tls | Http | Https) | (Tcp | Tls | Http | Https, Udp) => None,
        (Tcp, Tcp | Tls | Http | Https)
        | (Tls | Http | Https, Tcp)
        | (Udp, Udp)
        | (Http, Tls | Https)
        | (Tls | Https, Http) => Some(ListenerRefusal::ProtocolConflict),
        (Http, Http) | (Tls | Https, Tls | Https) => same_name.then_some(ListenerRefusal::HostnameConflict),
    }
}

/// Every namespace has the label `kubernetes.io/metadata.name`; the API server sets it, a folder of manifests may not.
fn selects(selector: &LabelSelector, namespace: &Arc<str>, known: &Known) -> bool {
    let labels = known.namespaces.get(&ObjectName::cluster(namespace)).map(|facts| &facts.labels);
    let value_of = |label: &Arc<str>| match &**label {
        "kubernetes.io/metadata.name" => Some(namespace),
        _ => labels.and_then(|labels| labels.get(label)),
    };
    selector.requirements.iter().all(|requirement| match requirement {
        LabelRequirement::In(label, values) => value_of(label).is_some_and(|value| values.contains(value)),
        LabelRequirement::NotIn(label, values) => value_of(label).is_none_or(|value| !values.contains(value)),
        LabelRequirement::Exists(label) => value_of(label).is_some(),
        LabelRequirement::DoesNotExist(label) => value_of(label).is_none(),
        LabelRequirement::Never => false,
    })
}
