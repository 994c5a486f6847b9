//! What a listener has to end TLS with, as parts of its conditions.

use super::{Condition, add_sentence, route::Obstacle, route::standing_obstacle};
use crate::{
    model::{
        certificates::{ReferenceFault, ReferenceProblem, Validity},
        places::WorkId,
        verdicts::{CertificatesVerdict, Standing},
    },
    status::reasons::{ConditionType, Reason},
};
use jiff::Timestamp;

/// Why an accepted listener is not programmed, if it is its certificates that stand in the way.
pub(super) fn obstacle(verdict: &CertificatesVerdict, standing: &dyn Fn(&WorkId) -> Standing) -> Option<Condition> {
    let CertificatesVerdict { problems: _, usable, taken, documents, validity: _ } = verdict;
    let fails = |reason, message: String| Some(Condition::fails(ConditionType::Programmed, reason, message));
    if !usable {
        return fails(Reason::Invalid, "There is no certificate that can be used: see ResolvedRefs.".to_owned());
    }
    if let Some(name) = taken {
        let message = format!(
            "An earlier listener of the data plane has another certificate for {name}, and APISIX takes one for each name, \
             whatever the port: use the same certificate, or another hostname."
        );
        return fails(Reason::Invalid, message);
    }
    let obstacles = documents.iter().filter_map(|id| standing_obstacle(standing(id)));
    let (obstacle, why) = obstacles.min_by_key(|(obstacle, _)| *obstacle)?;
    let reason = match obstacle {
        Obstacle::Refused | Obstacle::Occupied | Obstacle::Edited => Reason::Invalid,
        Obstacle::Held
        | Obstacle::Contended
        | Obstacle::Pending
        | Obstacle::Superseded
        | Obstacle::ListenerNotProgrammed => Reason::Pending,
    };
    fails(reason, format!("Its certificate: {why}."))
}

/// `ResolvedRefs` of a listener, given what it would be without certificates. The reason is that of the first problem in the
/// spec, the message names all of them.
pub(super) fn resolved(verdict: &CertificatesVerdict, otherwise: Condition) -> Condition {
    let CertificatesVerdict { problems, usable, taken: _, documents: _, validity } = verdict;
    let reason = match problems.first() {
        Some(ReferenceProblem { index: _, fault: ReferenceFault::NotPermitted(_) }) => Reason::RefNotPermitted,
        Some(_) => Reason::InvalidCertificateRef,
        None if !usable => Reason::InvalidCertificateRef,
        None => {
            let Condition { r#type, status, reason, mut message } = otherwise;
            describe(validity, &mut message);
            return Condition { r#type, status, reason, message };
        }
    };
    let mut message = String::new();
    for ReferenceProblem { index, fault } in problems {
        add_sentence(&mut message, format_args!("certificateRefs[{index}]: {}", fault_of(fault)));
    }
    if problems.is_empty() {
        add_sentence(&mut message, format_args!("tls.certificateRefs is empty: name a Secret."));
    }
    if !otherwise.is_true() {
        add_sentence(&mut message, format_args!("{}", otherwise.message));
    }
    describe(validity, &mut message);
    Condition::fails(ConditionType::ResolvedRefs, reason, message)
}

fn fault_of(fault: &ReferenceFault) -> String {
    match fault {
        ReferenceFault::UnknownKind { group, kind } if group.is_empty() => {
            format!("kind {kind} is not served: use a Secret.")
        }
        ReferenceFault::UnknownKind { group, kind } => format!("kind {group}/{kind} is not served: use a Secret."),
        // Nothing may depend on whether the Secret exists.
        ReferenceFault::NotPermitted(secret) => {
            format!("Secret {secret} is in another namespace, and no ReferenceGrant there permits this reference.")
        }
        ReferenceFault::NotFound(secret) => {
            format!("there is no Secret {secret} of type kubernetes.io/tls, or this controller may not read Secrets.")
        }
        ReferenceFault::Unreadable(secret) => {
            format!("Secret {secret} cannot be read: the controller's log says why. What etcd holds is kept.")
        }
        ReferenceFault::Unusable { secret, fault } => format!("Secret {secret} cannot be used: {fault}."),
    }
}

/// When certificates may be used, which decides nothing. What the time is now is left to the reader: a message that came true
/// by itself would have to be written by itself.
fn describe(validity: &[Validity], message: &mut String) {
    let time = |at| Timestamp::from_second(at).map_or_else(|_| "a time without end".to_owned(), |at| at.to_string());
    for Validity { not_before, not_after } in validity {
        let (from, to) = (time(*not_before), time(*not_after));
        add_sentence(message, format_args!("Its certificate is valid from {from} to {to}."));
    }
}
