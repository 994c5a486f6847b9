//! BackendTLSPolicies: which of them bear on a backend, and what each Gateway says of one.
//!
//! A policy demands that a backend is connected to by TLS, and that its certificate is verified. APISIX's stream proxy verifies
//! none, so a policy is never honoured: where we end TLS, and so would have to begin it again, the backend is refused and the
//! policy told. Where bytes are passed on as they come, TLS among them, policies do not concern us.
//!
//! Facts, attachments and pools in; bearings and verdicts out. Nothing here decides how a share is refused.

use super::{attachments::Attachments, known::Known, pools::Pool};
use crate::model::{
    facts::{
        ServiceFacts, ServicePortFacts,
        policies::{BackendTlsPolicyFacts, PolicyTarget},
    },
    names::{ObjectName, RouteRef},
    verdicts::{AncestorVerdict, PolicyRefusal, PolicyVerdict, ancestor_ref},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// That a policy targets the Service of a backend. Orders by policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bearing {
    /// The policy.
    pub policy: ObjectName,
    /// The Service.
    pub service: ObjectName,
    /// The name of the port it targets; `None` for every port.
    pub port: Option<Arc<str>>,
    /// Whether the Service has such a port. The backend is the whole Service's, or of that port.
    pub found: bool,
}

/// The Services that a policy targets, as it is known now.
#[must_use]
pub fn services_of(known: &Known, policy: &ObjectName) -> Vec<ObjectName> {
    known.policies.get(policy).into_iter().flat_map(|facts| targeted(facts, policy)).collect()
}

/// The Services that a policy of this name targets with these facts.
pub fn targeted(facts: &BackendTlsPolicyFacts, policy: &ObjectName) -> impl Iterator<Item = ObjectName> {
    facts.targets.iter().filter_map(|target| service_named(target, policy))
}

/// The Services that a policy may be about: those it targets, and of one that could never be read, any of its namespace.
#[must_use]
pub fn services_concerned(known: &Known, policy: &ObjectName) -> Vec<ObjectName> {
    let mut services = services_of(known, policy);
    if known.policies.is_unreadable(policy) {
        services.extend(known.services.in_namespace(&policy.namespace).map(|(service, _)| service.clone()));
    }
    services
}

/// The policies that target a Service of a route's backends, as both are known now.
pub fn about<'a>(known: &'a Known, route: &'a RouteRef) -> impl Iterator<Item = &'a ObjectName> {
    let services = known.services_named_by(route);
    services.into_iter().flat_map(|service| known.policies_by_service.of(&service).collect::<Vec<_>>())
}

/// The policies that bear on connections to a port of a Service, in order.
#[must_use]
pub fn bearings(
    service: &ObjectName,
    facts: &ServiceFacts,
    port: &ServicePortFacts,
    known: &Known,
) -> BTreeSet<Bearing> {
    let of_policy = |policy: &ObjectName| {
        let targets = known.policies.get(policy).map(|facts| facts.targets.as_slice()).unwrap_or_default();
        let bearing = |target: &PolicyTarget| {
            let section = target.section_name.as_ref();
            let found = section.is_none_or(|section| facts.ports.iter().any(|of_service| of_service.name == *section));
            let of_this_port = section.is_none_or(|section| *section == port.name);
            let bears = service_named(target, policy).as_ref() == Some(service) && (of_this_port || !found);
            bears.then(|| Bearing { policy: policy.clone(), service: service.clone(), port: section.cloned(), found })
        };
        targets.iter().filter_map(bearing).collect::<Vec<_>>()
    };
    known.policies_by_service.of(service).flat_map(of_policy).collect()
}

/// Whether an `appProtocol` is one of TLS from the first byte.
///
/// `kubernetes.io/wss` is of Kubernetes' standard application protocols (KEP-3726), the others are service names that IANA
/// registered for a protocol over TLS, which have no case; and `tls`, which is not registered and in use all the same.
#[must_use]
pub fn speaks_tls(app_protocol: &str) -> bool {
    const OVER_TLS: [&str; 21] = [
        "tls",
        "https",
        "wss",
        "ldaps",
        "imaps",
        "pop3s",
        "submissions",
        "nntps",
        "ftps",
        "ftps-data",
        "telnets",
        "ircs-u",
        "sips",
        "amqps",
        "secure-mqtt",
        "domain-s",
        "syslog-tls",
        "radsec",
        "diameters",
        "stuns",
        "turns",
    ];
    app_protocol == "kubernetes.io/wss" || OVER_TLS.iter().any(|name| app_protocol.eq_ignore_ascii_case(name))
}

/// What is said of a policy. `users` are the routes with a backend on a Service that it may be about, with where they attach and
/// their pools.
pub(super) fn verdict<'a>(
    policy: &ObjectName,
    facts: &BackendTlsPolicyFacts,
    users: impl Iterator<Item = (&'a Attachments, Option<&'a Pool>)>,
    known: &Known,
) -> PolicyVerdict {
    let mut concerned: BTreeMap<ObjectName, BTreeSet<&Bearing>> = BTreeMap::new();
    let mut frozen = BTreeSet::new();
    for (attachments, pool) in users {
        frozen.extend(&attachments.frozen_gateways);
        let own = || pool.into_iter().flat_map(|pool| &pool.policies).filter(|bearing| bearing.policy == *policy);
        if own().next().is_some() {
            for gateway in attachments.ending_tls() {
                concerned.entry(gateway.clone()).or_default().extend(own());
            }
        }
    }
    let ancestor = |(gateway, bearings): (ObjectName, BTreeSet<&Bearing>)| {
        let refusal = refusal(policy, facts, &bearings, known);
        AncestorVerdict { gateway, refusal }
    };
    PolicyVerdict {
        generation: facts.generation,
        frozen_ancestors: frozen
            .into_iter()
            .filter(|gateway| !concerned.contains_key(*gateway))
            .map(ancestor_ref)
            .collect(),
        ancestors: concerned.into_iter().map(ancestor).collect(),
    }
}

/// A policy loses if another has each of its targets; the winner of the first is named.
fn refusal(
    policy: &ObjectName,
    facts: &BackendTlsPolicyFacts,
    bearings: &BTreeSet<&Bearing>,
    known: &Known,
) -> PolicyRefusal {
    let winners: Vec<Option<ObjectName>> = bearings
        .iter()
        .filter(|bearing| bearing.found)
        .map(|bearing| winner(policy, facts, bearing, known).cloned())
        .collect();
    match (winners.into_iter().reduce(|first, next| next.and(first)), bearings.first()) {
        (Some(Some(winner)), _) => PolicyRefusal::Conflicted { winner },
        (None, Some(Bearing { service, port: Some(port), .. })) => {
            PolicyRefusal::NoSuchPort { service: service.clone(), port: Arc::clone(port) }
        }
        (Some(None), _) | (None, Some(_) | None) => PolicyRefusal::CannotVerify,
    }
}

/// The policy that has the target before this one: the oldest, then the first by name.
fn winner<'a>(
    policy: &ObjectName,
    facts: &BackendTlsPolicyFacts,
    bearing: &Bearing,
    known: &'a Known,
) -> Option<&'a ObjectName> {
    let has_it = |(name, facts): &(&ObjectName, &BackendTlsPolicyFacts)| {
        let same = |target: &PolicyTarget| {
            service_named(target, name).as_ref() == Some(&bearing.service) && target.section_name == bearing.port
        };
        facts.targets.iter().any(same)
    };
    let others = known.policies_by_service.of(&bearing.service);
    let others = others.filter_map(|name| Some((name, known.policies.get(name)?))).filter(has_it);
    let first = others.map(|(name, facts)| (facts.created, name)).min()?;
    (first < (facts.created, policy)).then_some(first.1)
}

fn service_named(target: &PolicyTarget, policy: &ObjectName) -> Option<ObjectName> {
    (target.group.is_empty() && &*target.kind == "Service")
        .then(|| ObjectName { namespace: Arc::clone(&policy.namespace), name: Arc::clone(&target.name) })
}
