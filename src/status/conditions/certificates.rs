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

/// Why a route is not served through a listener that has no certificate.
pub(super) const NONE: &str = "the listener has no certificate that can be used";
/// Why a route is not served for a name that another listener's certificate has.
pub(super) const TAKEN: &str = "an earlier listener of the data plane has another certificate for this name, and APISIX takes \
                                one for each name, whatever the port";
/// Why a route is not served for want of a name.
pub(super) const NO_NAME: &str = "the listener has no hostname, and its certificates name none that it can have, while APISIX \
                                  finds a certificate only by name";

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::places::Plane;
    use crate::model::{
        certificates::{CertificateFault, SecretField},
        names::ObjectName,
        places::{Directory, ServerName},
        verdicts::Occupant,
    };

    fn id() -> WorkId {
        WorkId::new(Plane::default(), Directory::Ssls, "gateway-api.x")
    }

    fn usable() -> CertificatesVerdict {
        CertificatesVerdict { usable: true, documents: vec![id()], ..CertificatesVerdict::default() }
    }

    #[track_caller]
    fn check_obstacle(verdict: &CertificatesVerdict, standing: &Standing, want: Option<(Reason, &str)>) {
        let said = obstacle(verdict, &|_| standing.clone());
        let said = said.map(|condition| {
            assert!(!condition.is_true() && condition.r#type == ConditionType::Programmed);
            (condition.reason, condition.message)
        });
        match want {
            None => assert_eq!(said, None),
            Some((reason, part)) => {
                let said = said.unwrap();
                assert!(said.0 == reason && said.1.contains(part), "{said:?}");
            }
        }
    }

    #[test]
    fn a_listener_waits_for_its_certificate_to_stand() {
        check_obstacle(&usable(), &Standing::Programmed, None);
        check_obstacle(&usable(), &Standing::Pending, Some((Reason::Pending, "not yet in etcd")));
        let name = "start".into();
        check_obstacle(&usable(), &Standing::Held { name }, Some((Reason::Pending, "release start")));
        check_obstacle(&usable(), &Standing::Refused("bad.".into()), Some((Reason::Invalid, "(bad).")));
        let by = Occupant::Instance("them".into());
        check_obstacle(&usable(), &Standing::Occupied { by }, Some((Reason::Invalid, "instance them")));
        check_obstacle(&usable(), &Standing::Edited, Some((Reason::Invalid, "edited by somebody else")));
    }

    #[test]
    fn a_listener_without_a_certificate_or_whose_name_is_taken_is_not_programmed() {
        let none = CertificatesVerdict::default();
        check_obstacle(&none, &Standing::Programmed, Some((Reason::Invalid, "see ResolvedRefs")));
        let taken = CertificatesVerdict { taken: ServerName::of("a.example"), ..usable() };
        check_obstacle(&taken, &Standing::Programmed, Some((Reason::Invalid, "another certificate for a.example")));
    }

    #[track_caller]
    fn check_resolved(
        verdict: &CertificatesVerdict,
        otherwise: Condition,
        holds: bool,
        reason: Reason,
        parts: &[&str],
    ) {
        let said = resolved(verdict, otherwise);
        assert_eq!((said.is_true(), said.reason), (holds, reason));
        assert!(parts.iter().all(|part| said.message.contains(part)), "{}", said.message);
    }

    fn good() -> Condition {
        Condition::holds(ConditionType::ResolvedRefs, Reason::ResolvedRefs, "All.")
    }

    fn bad() -> Condition {
        Condition::fails(ConditionType::ResolvedRefs, Reason::InvalidRouteKinds, "Kinds.")
    }

    fn with(faults: impl IntoIterator<Item = ReferenceFault>) -> CertificatesVerdict {
        let problems = faults.into_iter().enumerate().map(|(index, fault)| ReferenceProblem { index, fault }).collect();
        CertificatesVerdict { problems, ..usable() }
    }

    #[test]
    fn when_a_certificate_is_valid_is_told_and_decides_nothing() {
        let validity = vec![Validity { not_before: 0, not_after: i64::MAX }];
        let verdict = CertificatesVerdict { validity, ..usable() };
        let parts = ["All. Its certificate is valid from 1970-01-01T00:00:00Z to a time without end."];
        check_resolved(&verdict, good(), true, Reason::ResolvedRefs, &parts);
        check_resolved(&verdict, bad(), false, Reason::InvalidRouteKinds, &["Kinds. Its certificate"]);
    }

    #[test]
    fn every_reference_that_cannot_be_used_is_named_and_the_first_gives_the_reason() {
        let secret = ObjectName::new("ns", "s");
        let unusable =
            ReferenceFault::Unusable { secret: secret.clone(), fault: CertificateFault::Missing(SecretField::Key) };
        let kind = |group: &str| ReferenceFault::UnknownKind { group: group.into(), kind: "ConfigMap".into() };
        for (fault, reason, part) in [
            (ReferenceFault::NotPermitted(secret.clone()), Reason::RefNotPermitted, "no ReferenceGrant there"),
            (ReferenceFault::NotFound(secret.clone()), Reason::InvalidCertificateRef, "there is no Secret ns/s"),
            (ReferenceFault::Unreadable(secret.clone()), Reason::InvalidCertificateRef, "What etcd holds is kept."),
            (unusable, Reason::InvalidCertificateRef, "Secret ns/s cannot be used: tls.key is missing or empty."),
            (kind(""), Reason::InvalidCertificateRef, "kind ConfigMap is"),
            (kind("x.y"), Reason::InvalidCertificateRef, "kind x.y/ConfigMap is"),
        ] {
            let later = ReferenceFault::NotFound(ObjectName::new("ns", "later"));
            check_resolved(&with([fault, later]), bad(), false, reason, &[part, "certificateRefs[1]: ", "Kinds."]);
        }
    }

    #[test]
    fn no_reference_at_all_is_told() {
        let none = CertificatesVerdict::default();
        check_resolved(&none, good(), false, Reason::InvalidCertificateRef, &["tls.certificateRefs is empty"]);
    }
}
