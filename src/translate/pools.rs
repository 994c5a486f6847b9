//! Tier 5: a route's backends, with Services, EndpointSlices and grants, give its pool: nodes, weights and refused share.

use super::{
    grants::{self, Referrer},
    known::{Known, service_name},
    policies::{self, Bearing},
    weights::{self, Share},
};
use crate::{
    apisix::documents::{DEAD_NODE, Node, Split},
    model::{
        facts::{BackendRef, IpFamily, RouteFacts, ServiceFacts, ServicePortFacts, SlicePortFacts, Transport},
        names::{Kind, ObjectName, RouteRef},
        verdicts::{BackendFault, BackendProblem, BackendsVerdict, RefusedShare},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

/// The weighted backends of a route's rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Nodes in the order of their addresses, each once.
    pub nodes: Vec<Node>,
    /// The split that refuses the share of bad backends, where the data plane can do that.
    pub split: Option<Split>,
    /// What is said of the backends.
    pub verdict: BackendsVerdict,
    /// Whether an object this was computed over exists but could never be read: then what etcd holds is kept.
    pub unreadable: bool,
    /// BackendTLSPolicies that bear on a backend; none where TLS is not ended for the route.
    pub policies: BTreeSet<Bearing>,
}

/// Computes the pool of `route`.
///
/// A backend that is invalid or has no endpoint keeps its share, and that share is refused, never given to the others
/// (Gateway API, `BackendRef`). With `split` the refusing is done beside the pool, otherwise by a dead node in it.
///
/// `ends_tls` says that TLS is ended for the route by some listener: then a backend that wants TLS is as good as invalid, for
/// every listener, because a route has one pool.
#[must_use]
pub fn pool(route: &RouteRef, facts: &RouteFacts, known: &Known, split: bool, ends_tls: bool) -> Pool {
    let mut pool = Pool::default();
    let mut good = Vec::new();
    let (mut refused, mut total) = (0, 0);
    for (index, backend) in facts.backends.iter().enumerate() {
        let weight = u64::try_from(backend.weight).unwrap_or(0).min(weights::WEIGHT_MAX);
        let resolved = resolve(route, backend, known, ends_tls);
        pool.unreadable |= resolved.unreadable;
        pool.policies.extend(resolved.policies);
        if let Some(fault) = resolved.fault {
            pool.verdict.problems.push(BackendProblem { index, fault });
        }
        total += weight;
        if resolved.endpoints.is_empty() {
            refused += weight;
        } else if weight > 0 {
            good.push(Share { weight, nodes: resolved.endpoints });
        }
    }
    if good.is_empty() {
        pool.verdict.refused = Some(RefusedShare::All);
        return pool;
    }
    if refused > 0 {
        pool.verdict.refused = Some(RefusedShare::Part { refused, total });
        if split {
            let fitted = fit_split(refused, total - refused);
            pool.verdict.rounded |= fitted.1;
            pool.split = Some(fitted.0);
        } else {
            good.push(Share { weight: refused, nodes: vec![DEAD_NODE] });
        }
    }
    let fitted = weights::fit(&good);
    pool.verdict.rounded |= fitted.rounded;
    pool.nodes = fitted.nodes.into_iter().map(|(address, weight)| Node { address, weight }).collect();
    pool
}

/// The two weights of a split, fitted like those of two nodes, and whether they are rounded by more than a point.
fn fit_split(refused: u64, served: u64) -> (Split, bool) {
    let [refusing, serving] = [1, 2].map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port));
    let fitted = weights::fit(&[
        Share { weight: refused, nodes: vec![refusing] },
        Share { weight: served, nodes: vec![serving] },
    ]);
    let weight = |node| fitted.nodes.get(&node).copied().unwrap_or(1);
    (Split { refused: weight(refusing), served: weight(serving) }, fitted.rounded)
}

#[derive(Default)]
struct Resolved {
    endpoints: Vec<SocketAddr>,
    fault: Option<BackendFault>,
    unreadable: bool,
    policies: BTreeSet<Bearing>,
}

impl Resolved {
    fn faulty(fault: BackendFault) -> Self {
        Self { fault: Some(fault), ..Self::default() }
    }
}

/// The checks stand in this order so that a reference nobody permitted does not reveal whether its target exists.
fn resolve(route: &RouteRef, backend: &BackendRef, known: &Known, ends_tls: bool) -> Resolved {
    let Some(service) = service_name(backend, &route.name) else {
        let (group, kind) = (Arc::clone(&backend.group), Arc::clone(&backend.kind));
        return Resolved::faulty(BackendFault::UnknownKind { group, kind });
    };
    if !grants::permitted(Referrer::from(route), Kind::Service, &service, known) {
        let unreadable = known.grants.any_unreadable_in(&service.namespace);
        return Resolved { unreadable, ..Resolved::faulty(BackendFault::NotPermitted(service)) };
    }
    let Some(facts) = known.services.get(&service) else {
        return if known.services.is_unreadable(&service) {
            Resolved { unreadable: true, ..Resolved::faulty(BackendFault::Unreadable(service)) }
        } else {
            Resolved::faulty(BackendFault::NotFound(service))
        };
    };
    if facts.external_name {
        return Resolved::faulty(BackendFault::ExternalName(service));
    }
    let Some(port) = backend.port else { return Resolved::faulty(BackendFault::PortMissing(service)) };
    let transport = Transport::of_routes(route.kind);
    let of_number = || facts.ports.iter().filter(|of_service| of_service.port == port);
    match of_number().find(|of_service| of_service.transport == transport) {
        Some(of_service) if ends_tls => with_tls_ended(&service, facts, of_service, known),
        Some(of_service) => endpoints(&service, facts, of_service, known),
        None if of_number().next().is_some() => Resolved::faulty(BackendFault::OtherTransport { service, port }),
        None => Resolved::faulty(BackendFault::PortNotFound { service, port }),
    }
}

/// A backend that gets what is left when TLS is ended: nothing, if it wants TLS.
fn with_tls_ended(
    service: &ObjectName,
    facts: &ServiceFacts,
    of_service: &ServicePortFacts,
    known: &Known,
) -> Resolved {
    let policies = policies::bearings(service, facts, of_service, known);
    // What an unreadable policy targets cannot be told, so it stands in the way of every Service of its namespace.
    let unreadable = known.policies.any_unreadable_in(&service.namespace);
    let demanded = policies.iter().find(|bearing| bearing.found).map(|bearing| BackendFault::TlsDemanded {
        service: service.clone(),
        policy: Arc::clone(&bearing.policy.name),
    });
    let spoken = || {
        let protocol = of_service.app_protocol.as_ref().filter(|protocol| policies::speaks_tls(protocol))?;
        let (service, port, protocol) = (service.clone(), of_service.port, Arc::clone(protocol));
        Some(BackendFault::TlsProtocol { service, port, protocol })
    };
    let resolved = match demanded.or_else(spoken) {
        Some(fault) => Resolved::faulty(fault),
        None => endpoints(service, facts, of_service, known),
    };
    Resolved { unreadable: unreadable || resolved.unreadable, policies, ..resolved }
}

/// What the slices of a Service say of one address and port; several slices may name it.
#[derive(Clone, Copy, Default)]
struct State {
    ready: bool,
    leaving: bool,
}

/// The endpoints of a Service's port: the ready ones, or where there is none, those that still serve while terminating.
fn endpoints(service: &ObjectName, facts: &ServiceFacts, of_service: &ServicePortFacts, known: &Known) -> Resolved {
    let mut unreadable = false;
    let mut slices = Vec::new();
    for name in known.slices_by_service.of(service) {
        slices.extend(known.slices.get(name));
    }
    // Which Service an unreadable slice belongs to cannot be told, so it stands in the way of all in its namespace.
    unreadable |= known.slices.any_unreadable_in(&service.namespace);
    let family = facts.family.unwrap_or_else(|| {
        let has_v4 = slices.iter().any(|slice| slice.family == Some(IpFamily::V4));
        if has_v4 { IpFamily::V4 } else { IpFamily::V6 }
    });
    let mut states: BTreeMap<SocketAddr, State> = BTreeMap::new();
    for slice in slices.into_iter().filter(|slice| slice.family == Some(family)) {
        let same = |port: &&SlicePortFacts| port.name == of_service.name && port.transport == of_service.transport;
        let ports = slice.ports.iter().filter(same);
        for port in ports.filter_map(|port| u16::try_from(port.port?).ok().filter(|port| *port != 0)) {
            for endpoint in &slice.endpoints {
                let state = states.entry(SocketAddr::new(endpoint.address, port)).or_default();
                state.ready |= endpoint.ready;
                state.leaving |= endpoint.serving && endpoint.terminating;
            }
        }
    }
    let chosen = |wanted: fn(&State) -> bool| -> Vec<SocketAddr> {
        states.iter().filter(|(_, state)| wanted(state)).map(|(address, _)| *address).collect()
    };
    let mut endpoints = chosen(|state| state.ready);
    if endpoints.is_empty() {
        endpoints = chosen(|state| state.leaving);
    }
    Resolved { endpoints, unreadable, ..Resolved::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::Created;

    #[test]
    fn weights_beyond_all_bounds_are_taken_for_large_ones() {
        let backend = |name: &str| BackendRef {
            group: "".into(),
            kind: "Service".into(),
            namespace: None,
            name: name.into(),
            port: Some(80),
            weight: i64::MAX,
        };
        let facts = RouteFacts {
            generation: 1,
            created: Created::UNKNOWN,
            drift: None,
            parents: vec![],
            hostnames: Vec::new(),
            rules: 1,
            backends: ["a", "b", "c"].map(backend).to_vec(),
        };
        let pool = pool(
            &RouteRef::new(Kind::TcpRoute, ObjectName::new("ns", "route")),
            &facts,
            &Known::default(),
            false,
            false,
        );
        assert_eq!(pool.verdict.refused, Some(RefusedShare::All));
    }
}
