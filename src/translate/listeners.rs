//! Tier 1: a Gateway's facts and its class give its listeners and what each admits; [`super::sets`] does the same for
//! ListenerSets.

mod protocol;

use super::{addresses, grants::Referrer, known::Known, planes::PlaneSettings, secrets};
use crate::{
    apisix::version::ApisixVersion,
    model::{
        certificates::KeyPairs,
        facts::{FromNamespaces, GatewayFacts, LabelRequirement, LabelSelector, ListenerFacts, RouteKind},
        names::{Created, Kind, ObjectName},
        places::{Plane, Port, ServerName},
        sockets::Footing,
        verdicts::{GatewayRefusal, ListenerRefusal},
    },
};
pub use protocol::{Protocol, Told};
use std::{collections::BTreeMap, sync::Arc};

/// Whose a GatewayClass is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClassState {
    /// It names our controller, and this data plane.
    Ours(Arc<PlaneSettings>),
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
    /// Its data plane; `None` of one that is frozen, as its class is absent or unusable.
    pub plane: Option<Plane>,
    /// Why the Gateway as a whole is not accepted.
    pub refusal: Option<GatewayRefusal>,
    /// In the order of the spec.
    pub listeners: Vec<Listener>,
    /// From where ListenerSets may add to it.
    pub allowed_listeners: FromNamespaces,
}

/// One listener, before ports are settled between Gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: Arc<str>,
    /// The port as the spec has it.
    pub port_asked: i64,
    /// The port that APISIX listens on for it, if it asks for one.
    pub port: Option<Port>,
    /// What it carries.
    pub protocol: Protocol,
    /// The server name it is for; `None` for every connection of the port.
    pub hostname: Option<ServerName>,
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
    /// What it has to end TLS with; `None` if it does not end it.
    pub certificates: Option<KeyPairs>,
}

impl Listener {
    /// The port it asks for, if that is one.
    #[must_use]
    pub fn asked_port(&self) -> Option<Port> {
        port_of(self.port_asked)
    }

    /// Whether it has to end TLS and has nothing to do that with.
    #[must_use]
    pub fn lacks_certificate(&self) -> bool {
        self.certificates.as_ref().is_some_and(|certificates| !certificates.usable())
    }

    /// The port it takes part in, if any: that of a listener whose protocol Gateway API knows and which its own object does not
    /// contradict. Whether the data plane can serve it does not matter: HTTP listeners take part, too.
    #[must_use]
    pub fn contends_for(&self) -> Option<Port> {
        match &self.refusal {
            Some(
                ListenerRefusal::Hostname(_) | ListenerRefusal::ProtocolConflict | ListenerRefusal::HostnameConflict,
            ) => None,
            Some(_) | None if self.protocol == Protocol::Unknown => None,
            Some(_) | None => self.port,
        }
    }

    /// Whether a route of `kind` in `namespace` may attach, the listener's own object being in `home`.
    #[must_use]
    pub fn admits(&self, kind: Kind, namespace: &Arc<str>, home: &Arc<str>, known: &Known) -> bool {
        self.supported_kinds.iter().any(|supported| &*supported.kind == kind.as_str())
            && includes(&self.namespaces, namespace, home, known)
    }
}

/// Whether `namespace` is among those that an object in `home` names.
#[must_use]
pub fn includes(from: &FromNamespaces, namespace: &Arc<str>, home: &Arc<str>, known: &Known) -> bool {
    match from {
        FromNamespaces::Same => namespace == home,
        FromNamespaces::All => true,
        FromNamespaces::Selector(selector) => selects(selector, namespace, known),
        FromNamespaces::Nobody => false,
    }
}

/// Whether namespace labels decide who may attach to any of these.
#[must_use]
pub fn select_by_label(listeners: &[Listener]) -> bool {
    listeners.iter().any(|listener| matches!(listener.namespaces, FromNamespaces::Selector(_)))
}

/// Reads a Gateway; `None` if its class is another controller's. The listeners of a frozen one are read as those of `default`.
#[must_use]
pub fn gateway(
    name: &ObjectName,
    facts: &GatewayFacts,
    class: &ClassState,
    known: &Known,
    default: &PlaneSettings,
) -> Option<Gateway> {
    let settings = match class {
        ClassState::Foreign => return None,
        ClassState::Ours(settings) => Some(&**settings),
        ClassState::Frozen => None,
    };
    let from = Referrer { kind: Kind::Gateway, namespace: &name.namespace };
    let listeners = listeners(from, &facts.listeners, known, settings.unwrap_or(default));
    let parameters = facts.parameters.clone().map(GatewayRefusal::Parameters);
    let refusal = parameters.or_else(|| addresses::refusal(&facts.addresses));
    let allowed_listeners = facts.allowed_listeners.clone();
    let (generation, created) = (facts.generation, facts.created);
    let plane = settings.map(|settings| settings.plane);
    Some(Gateway { generation, created, plane, refusal, listeners, allowed_listeners })
}

/// Reads the listeners of one object, whose references are `from` it.
#[must_use]
pub fn listeners(
    from: Referrer<'_>,
    facts: &[ListenerFacts],
    known: &Known,
    settings: &PlaneSettings,
) -> Vec<Listener> {
    let read = |(facts, conflict): (&ListenerFacts, _)| {
        let mut listener = listener(facts, conflict, settings);
        listener.certificates = key_pairs(from, facts, listener.protocol, known);
        listener
    };
    facts.iter().zip(conflicts(facts, settings.version)).map(read).collect()
}

fn port_of(number: i64) -> Option<Port> {
    u16::try_from(number).ok().and_then(Port::new)
}

fn listener(facts: &ListenerFacts, conflict: Option<ListenerRefusal>, settings: &PlaneSettings) -> Listener {
    let protocol = Protocol::of(facts);
    // Names mean nothing to a protocol that does not carry them.
    let asked = facts.hostname.as_deref().filter(|_| protocol.has_hostnames());
    let hostname = asked.and_then(ServerName::of);
    let port = port_of(facts.port).map(|asked| settings.apisix_port(asked));
    let refusal = match (port, conflict, protocol) {
        (None, _, _) => Some(ListenerRefusal::PortOutOfRange(facts.port)),
        (Some(_), Some(conflict), _) => Some(conflict),
        (Some(_), None, _) if asked.is_some() && hostname.is_none() => {
            asked.map(|name| ListenerRefusal::Hostname(name.into()))
        }
        (Some(_), None, Protocol::Tcp | Protocol::Udp | Protocol::TlsTerminate) => None,
        (Some(_), None, Protocol::TlsPassthrough) if settings.version.has_tls_passthrough() => None,
        (Some(_), None, Protocol::TlsPassthrough | Protocol::TlsUnknown) => {
            let mode = facts.tls.as_ref().map_or_else(|| "Terminate".into(), |tls| Arc::clone(&tls.mode));
            Some(ListenerRefusal::TlsMode(mode))
        }
        (Some(_), None, Protocol::Http | Protocol::Https | Protocol::Unknown) => {
            Some(ListenerRefusal::UnsupportedProtocol(Arc::clone(&facts.protocol)))
        }
    };
    let (refusal, footing) = match (refusal, port, protocol.need()) {
        (None, Some(port), Some(need)) => match settings.stream.sockets.serves(port, need) {
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
        protocol,
        hostname,
        refusal,
        footing,
        supported_kinds,
        invalid_kinds,
        namespaces: facts.namespaces.clone(),
        certificates: None,
    }
}

fn key_pairs(from: Referrer<'_>, facts: &ListenerFacts, protocol: Protocol, known: &Known) -> Option<KeyPairs> {
    let references = facts.tls.as_ref().map(|tls| tls.certificates.as_slice()).unwrap_or_default();
    protocol.ends_tls().then(|| secrets::key_pairs(from, references, known))
}

/// For each listener, whether another one of the same object cannot be told apart from it (Gateway API, "distinct
/// listeners"). Nobody wins: both are refused.
fn conflicts(listeners: &[ListenerFacts], version: ApisixVersion) -> Vec<Option<ListenerRefusal>> {
    let mut by_port: BTreeMap<i64, Vec<&ListenerFacts>> = BTreeMap::new();
    for listener in listeners {
        by_port.entry(listener.port).or_default().push(listener);
    }
    let conflict_of = |listener: &ListenerFacts| {
        let others = by_port.get(&listener.port).into_iter().flatten();
        let clashes =
            others.filter(|other| !std::ptr::eq(**other, listener)).filter_map(|other| clash(listener, other, version));
        // A clash of protocols says more than one of names.
        clashes.max_by_key(|clash| matches!(clash, ListenerRefusal::ProtocolConflict))
    };
    listeners.iter().map(conflict_of).collect()
}

fn clash(one: &ListenerFacts, other: &ListenerFacts, version: ApisixVersion) -> Option<ListenerRefusal> {
    match Protocol::of(one).told_from(Protocol::of(other), version) {
        Told::Apart => None,
        Told::ByName => (one.hostname == other.hostname).then_some(ListenerRefusal::HostnameConflict),
        Told::Never => Some(ListenerRefusal::ProtocolConflict),
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
