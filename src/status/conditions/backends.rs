//! What is said of a route's backends: `ResolvedRefs`, the same at each parent.

use super::{Condition, add_sentence, route::Carried};
use crate::{
    model::{
        names::ObjectRef,
        verdicts::{BackendFault, BackendProblem},
    },
    status::reasons::{ConditionType, Reason},
};

/// The reason is that of the first problem in the spec, the message names all of them.
pub(super) fn resolved_refs(route: &ObjectRef, problems: &[BackendProblem]) -> Condition {
    let Some(first) = problems.first() else {
        return Condition::holds(ConditionType::ResolvedRefs, Reason::ResolvedRefs, "All backends are resolved.");
    };
    let mut message = String::new();
    for BackendProblem { index, fault } in problems {
        add_sentence(&mut message, format_args!("backendRefs[{index}]: {}", describe(route, fault)));
    }
    Condition::fails(ConditionType::ResolvedRefs, reason(&first.fault), message)
}

fn reason(fault: &BackendFault) -> Reason {
    match fault {
        BackendFault::UnknownKind { .. } | BackendFault::ExternalName(_) => Reason::InvalidKind,
        BackendFault::NotPermitted(_) => Reason::RefNotPermitted,
        BackendFault::NotFound(_)
        | BackendFault::Unreadable(_)
        | BackendFault::PortMissing(_)
        | BackendFault::PortNotFound { .. } => Reason::BackendNotFound,
        BackendFault::OtherTransport { .. } | BackendFault::TlsDemanded { .. } | BackendFault::TlsProtocol { .. } => {
            Reason::UnsupportedProtocol
        }
    }
}

fn describe(route: &ObjectRef, fault: &BackendFault) -> String {
    match fault {
        BackendFault::UnknownKind { group, kind } if group.is_empty() => {
            format!("kind {kind} is not served: use a Service.")
        }
        BackendFault::UnknownKind { group, kind } => format!("kind {group}/{kind} is not served: use a Service."),
        // Nothing may depend on whether the Service exists.
        BackendFault::NotPermitted(service) => {
            format!("Service {service} is in another namespace, and no ReferenceGrant there permits this reference.")
        }
        BackendFault::NotFound(service) => format!("Service {service} does not exist."),
        BackendFault::Unreadable(service) => {
            format!("Service {service} cannot be read: the controller's log says why. What etcd holds is kept.")
        }
        BackendFault::PortMissing(service) => format!("a port of Service {service} must be named."),
        BackendFault::PortNotFound { service, port } => format!("Service {service} has no port {port}."),
        BackendFault::OtherTransport { service, port } => {
            format!("port {port} of Service {service} is not a {} port.", Carried::by(route.kind).protocol)
        }
        BackendFault::ExternalName(service) => {
            format!("Service {service} is of type ExternalName, which is not served.")
        }
        BackendFault::TlsDemanded { service, policy } => {
            let which = if service.namespace == route.name.namespace {
                format!("BackendTLSPolicy {}/{policy}", service.namespace)
            } else {
                "a BackendTLSPolicy".to_owned()
            };
            format!(
                "{which} demands verified TLS to Service {service}, and APISIX ends the TLS of this route's connections and \
                 begins none: use a listener of mode Passthrough, or remove the policy."
            )
        }
        BackendFault::TlsProtocol { service, port, protocol } => format!(
            "port {port} of Service {service} is for TLS (appProtocol {protocol}), and APISIX ends the TLS of this route's \
             connections and begins none: use a listener of mode Passthrough, or a port without TLS."
        ),
    }
}
