//! Data planes: what each DataPlane comes to, and to which one the parameters of a GatewayClass lead.
//!
//! The facts of every DataPlane and the data plane of the settings go in; checked settings, or all that is wrong, come out.
//! Nothing here knows a Gateway or a document, and it never fails.

use super::known::{
    Known,
    shelf::{Presence, Shelf},
};
use crate::{
    apisix::{plugins::is_traffic_split, version::ApisixVersion},
    model::{
        addresses::{ADDRESSES_MAX, Address, AddressSource, distinct},
        facts::{
            GatewayClassFacts, ParametersRef,
            data_planes::{DataPlaneFacts, ListenFacts, PortMappingFacts},
        },
        names::{Kind, ObjectName},
        places::{Plane, Port, prefix_fault, prefixes_overlap},
        sockets::{Inventory, PortRange, Socket, Sockets, StreamProxy},
        verdicts::{DataPlaneVerdict, ParametersProblem, PlaneFault, PrefixHolder},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What one data plane is: whatever is in here can be used as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaneSettings {
    /// The prefix it reads.
    pub plane: Plane,
    /// The oldest APISIX that reads it.
    pub version: ApisixVersion,
    /// Where APISIX listens, and what it runs there.
    pub stream: StreamProxy,
    /// The port that APISIX listens on for a Gateway's port, where it is another one; no two lead to one.
    pub ports: BTreeMap<Port, Port>,
    /// Who says where clients reach it.
    pub addresses: AddressSource,
}

impl PlaneSettings {
    /// Of a data plane of which nothing more is said: every port is taken on trust, and clients know its addresses from elsewhere.
    #[must_use]
    pub fn new(plane: Plane, version: ApisixVersion) -> Self {
        let (stream, addresses) = (StreamProxy::default(), AddressSource::Nobody);
        Self { plane, version, stream, ports: BTreeMap::new(), addresses }
    }

    /// The port that APISIX listens on for a port of a Gateway.
    #[must_use]
    pub fn apisix_port(&self, asked: Port) -> Port {
        self.ports.get(&asked).copied().unwrap_or(asked)
    }

    /// The ports of Gateways that are this port of APISIX.
    pub(super) fn gateway_ports(&self, port: Port) -> impl Iterator<Item = Port> {
        let own = (!self.ports.contains_key(&port)).then_some(port);
        self.ports.iter().filter(move |(_, of_apisix)| **of_apisix == port).map(|(asked, _)| *asked).chain(own)
    }
}

/// Every DataPlane there is, by name: what it is, or why it cannot be used.
pub type DataPlanes = BTreeMap<Arc<str>, Result<Arc<PlaneSettings>, PlaneFault>>;

/// To which data plane the parameters of a GatewayClass lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaneOf {
    /// That of the settings: there are no parameters.
    Default,
    /// That of the DataPlane of this name.
    Named(Arc<str>, Arc<PlaneSettings>),
    /// To none.
    Unusable(ParametersProblem),
}

/// Settles which DataPlanes can be used. `default` is the data plane of the settings: what a DataPlane does not say of the
/// version of APISIX is as there; `control_prefix` is where the controller keeps its own keys, if it keeps any.
///
/// Of DataPlanes that are right by themselves and overlap, the oldest has its prefix, by time, then name, whether or not a
/// class names it. One that is refused holds nothing against the others.
#[must_use]
pub fn settle(default: &PlaneSettings, control_prefix: Option<&str>, planes: &Shelf<DataPlaneFacts>) -> DataPlanes {
    let mut settled = DataPlanes::new();
    let mut valid = Vec::new();
    for (object, presence) in planes.in_namespace(&"".into()) {
        let name = Arc::clone(&object.name);
        match presence {
            Presence::Unreadable => {
                settled.insert(name, Err(PlaneFault::Unreadable));
            }
            Presence::Readable(facts) => match read(default, facts) {
                Ok(plane) => valid.push((facts.created, name, Arc::new(plane))),
                Err(faults) => {
                    settled.insert(name, Err(PlaneFault::Invalid(faults.join("; ").into())));
                }
            },
        }
    }
    valid.sort_by(|(created, name, _), (other_created, other, _)| (created, name).cmp(&(other_created, other)));
    let control = control_prefix.map(|prefix| (Arc::from(prefix), PrefixHolder::Controller));
    let mut held: Vec<(Arc<str>, PrefixHolder)> = control.into_iter().collect();
    held.push((Arc::from(default.plane.prefix()), PrefixHolder::Default));
    for (_, name, plane) in valid {
        let overlapped = held.iter().find(|(other, _)| prefixes_overlap(plane.plane.prefix(), other));
        let prefix: Arc<str> = plane.plane.prefix().into();
        let outcome = if let Some((other, holder)) = overlapped {
            Err(PlaneFault::Overlaps { prefix, other: Arc::clone(other), holder: holder.clone() })
        } else {
            held.push((prefix, PrefixHolder::First(Arc::clone(&name))));
            Ok(plane)
        };
        settled.insert(name, outcome);
    }
    settled
}

/// To which data plane `parameters` lead.
#[must_use]
pub fn of_class(parameters: Option<&ParametersRef>, settled: &DataPlanes) -> PlaneOf {
    let Some(parameters) = parameters else { return PlaneOf::Default };
    let Some(name) = plane_named(parameters) else {
        return PlaneOf::Unusable(ParametersProblem::Strange(parameters.clone()));
    };
    if parameters.namespace.is_some() {
        return PlaneOf::Unusable(ParametersProblem::Namespaced(parameters.clone()));
    }
    let name = Arc::clone(name);
    match settled.get(&name) {
        None => PlaneOf::Unusable(ParametersProblem::Missing(name)),
        Some(Ok(plane)) => PlaneOf::Named(name, Arc::clone(plane)),
        Some(Err(fault)) => PlaneOf::Unusable(ParametersProblem::Unusable { name, fault: fault.clone() }),
    }
}

/// The DataPlane that `parameters` name, whether or not it exists; `None` if they name something else.
#[must_use]
pub fn plane_named(parameters: &ParametersRef) -> Option<&Arc<str>> {
    let ParametersRef { group, kind, namespace: _, name } = parameters;
    let named = &**group == Kind::DataPlane.group() && &**kind == Kind::DataPlane.as_str();
    named.then_some(name)
}

/// The readable classes that name a DataPlane: `plane`, or any if it is `None`. There are few classes.
pub fn classes_naming<'a>(
    known: &'a Known,
    plane: Option<&'a Arc<str>>,
) -> impl Iterator<Item = (&'a ObjectName, &'a GatewayClassFacts)> {
    let classes = known.classes.names().filter_map(|name| Some((name, known.classes.get(name)?)));
    classes.filter(move |(_, class)| {
        let named = class.parameters.as_ref().and_then(plane_named);
        named.is_some_and(|named| plane.is_none_or(|plane| plane == named))
    })
}

/// What is said of a DataPlane; `None` if no class of `controller_name` names it: then it is another controller's, or nobody's.
#[must_use]
pub fn verdict(
    known: &Known,
    name: &ObjectName,
    planes: &DataPlanes,
    controller_name: &str,
) -> Option<DataPlaneVerdict> {
    let facts = known.data_planes.get(name)?;
    let ours = classes_naming(known, Some(&name.name)).any(|(_, class)| &*class.controller_name == controller_name);
    let settled = planes.get(&name.name).filter(|_| ours)?;
    Some(DataPlaneVerdict { generation: facts.generation, fault: settled.as_ref().err().cloned() })
}

/// Reads one DataPlane; every fault in it at once, each with the field it is about, in the order of the fields.
fn read(default: &PlaneSettings, facts: &DataPlaneFacts) -> Result<PlaneSettings, Vec<String>> {
    let DataPlaneFacts {
        generation: _,
        created: _,
        etcd_prefix,
        apisix_version,
        listen,
        port_mapping,
        stream_plugins,
        addresses,
        publish_service,
    } = facts;
    let mut faults = Vec::new();
    if let Some(fault) = prefix_fault(etcd_prefix) {
        faults.push(format!("etcdPrefix {etcd_prefix:?} {fault}"));
    }
    let version = apisix_version.as_ref().map_or(Ok(default.version), |text| text.parse::<ApisixVersion>());
    let version = version.map_err(|error| faults.push(format!("apisixVersion: {error}"))).ok();
    let sockets =
        listen.as_ref().map_or(Inventory::Unknown, |entries| Inventory::Known(read_sockets(entries, &mut faults)));
    let ports = read_mapping(port_mapping, &mut faults);
    let traffic_split = stream_plugins.as_ref().map(|names| names.iter().any(|name| is_traffic_split(name)));
    let addresses = read_addresses(addresses, publish_service.as_ref(), &mut faults);
    match version.filter(|_| faults.is_empty()) {
        Some(version) => Ok(PlaneSettings {
            plane: Plane::of(etcd_prefix),
            version,
            stream: StreamProxy { sockets, traffic_split },
            ports,
            addresses,
        }),
        None => Err(faults),
    }
}

fn read_sockets(entries: &[ListenFacts], faults: &mut Vec<String>) -> Arc<Sockets> {
    let mut sockets = Sockets::default();
    for (index, ListenFacts { protocol, port, end_port }) in entries.iter().enumerate() {
        let socket = Socket::ALL.into_iter().find(|socket| protocol_of(*socket) == &**protocol);
        if socket.is_none() {
            let known = Socket::ALL.map(protocol_of).join(", ");
            faults.push(format!("listen[{index}]: protocol {protocol:?} is none of {known}"));
        }
        let first = read_port(*port).map_err(|fault| faults.push(format!("listen[{index}]: port {fault}"))).ok();
        let last = end_port.map_or(Ok(None), |end| read_port(end).map(Some));
        let last = last.map_err(|fault| faults.push(format!("listen[{index}]: endPort {fault}"))).ok();
        let (Some(first), Some(last)) = (first, last) else { continue };
        let range = PortRange::new(first, last.unwrap_or(first));
        if range.is_none() {
            faults.push(format!("listen[{index}]: endPort comes before port {first}"));
        }
        if let (Some(socket), Some(range)) = (socket, range) {
            sockets.insert(range, socket);
        }
    }
    Arc::new(sockets)
}

/// What a DataPlane calls a socket; the words of its schema.
#[must_use]
pub fn protocol_of(socket: Socket) -> &'static str {
    match socket {
        Socket::Tcp => "TCP",
        Socket::Tls => "TLS",
        Socket::TlsPassthrough => "TLSPassthrough",
        Socket::TlsEither => "TLSEither",
        Socket::Udp => "UDP",
    }
}

fn read_port(number: i64) -> Result<Port, String> {
    let port = u16::try_from(number).ok().and_then(Port::new);
    port.ok_or_else(|| format!("{number} is not within 1 to 65535"))
}

/// Two ports of Gateways on one of APISIX would make two listeners of one Gateway contend for a port that neither names.
fn read_mapping(entries: &[PortMappingFacts], faults: &mut Vec<String>) -> BTreeMap<Port, Port> {
    let (mut ports, mut taken) = (BTreeMap::new(), BTreeSet::new());
    for (index, PortMappingFacts { gateway_port, apisix_port }) in entries.iter().enumerate() {
        let mut port = |field: &str, number| {
            read_port(number).map_err(|fault| faults.push(format!("portMapping[{index}]: {field} {fault}"))).ok()
        };
        let (Some(from), Some(to)) = (port("gatewayPort", *gateway_port), port("apisixPort", *apisix_port)) else {
            continue;
        };
        if ports.insert(from, to).is_some() {
            faults.push(format!("portMapping[{index}]: gatewayPort {from} is mapped already"));
        } else if !taken.insert(to) {
            faults.push(format!("portMapping[{index}]: another gatewayPort is mapped to apisixPort {to} already"));
        }
    }
    ports
}

fn read_addresses(said: &[Arc<str>], service: Option<&ObjectName>, faults: &mut Vec<String>) -> AddressSource {
    let mut addresses = Vec::new();
    for (index, text) in said.iter().enumerate() {
        match Address::of(text) {
            Some(address) => addresses.push(address),
            None => faults
                .push(format!("addresses[{index}]: {text:?} is neither an IP address to connect to nor a hostname")),
        }
    }
    let kept = distinct(addresses.iter().cloned());
    if addresses.iter().any(|address| !kept.contains(address)) {
        faults.push(format!("addresses: there are {}, and the status of a Gateway holds {ADDRESSES_MAX}", said.len()));
    }
    match service {
        Some(_) if !said.is_empty() => {
            faults.push("addresses and publishService both say the addresses: leave one out".to_owned());
            AddressSource::Nobody
        }
        Some(service) => {
            if !is_label(&service.namespace) || !is_label(&service.name) {
                let ObjectName { namespace, name } = service;
                faults.push(format!(
                    "publishService: namespace {namespace:?} and name {name:?} cannot be those of a Service"
                ));
            }
            AddressSource::Service(service.clone())
        }
        None if kept.is_empty() => AddressSource::Nobody,
        None => AddressSource::Said(kept.into()),
    }
}

/// What Kubernetes takes for the name of a namespace or a Service, but for its length.
fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests;
