//! A Gateway's addresses as its `status.addresses`, and what is missing of them as its `Programmed`.
//!
//! Messages name the addresses of the data plane, which every Gateway of it shows anyway, and the Service that is to say them;
//! nothing of another Gateway.

use super::{Condition, enumerate};
use crate::{
    model::{
        addresses::Address,
        verdicts::{AddressProblem, NoAddress},
    },
    status::reasons::{ConditionType, Reason},
};
use serde_json::{Value, json};

/// `status.addresses`.
pub(super) fn render(addresses: &[Address]) -> Value {
    let entry = |address: &Address| json!({"type": address.kind().as_str(), "value": address.to_string()});
    addresses.iter().map(entry).collect()
}

/// `Programmed` of a Gateway that lacks an address.
pub(super) fn missing(problem: &AddressProblem) -> Condition {
    let (reason, message) = match problem {
        AddressProblem::NotUsable { asked, instead, why } => {
            let why = match why {
                Some(why) => format!("{} Otherwise", because(why)),
                None => format!("the data plane has {}. Ask for one of these, or", enumerate(instead)),
            };
            (Reason::AddressNotUsable, format!("Address {asked} cannot be had: {why} remove it from spec.addresses."))
        }
        AddressProblem::NotAssigned { kind, why } => {
            let why = match why {
                Some(why) => format!("{} Otherwise remove", because(why)),
                None => "the data plane has no other of this type. Remove".to_owned(),
            };
            (
                Reason::AddressNotAssigned,
                format!("There is no address of type {kind} to give: {why} the request from spec.addresses."),
            )
        }
        AddressProblem::NoneToGive(why) => {
            (Reason::AddressNotAssigned, format!("There is no address to give: {}", because(why)))
        }
    };
    Condition::fails(ConditionType::Programmed, reason, message)
}

/// Why there is none, and in a sentence of its own what would help.
fn because(why: &NoAddress) -> String {
    match why {
        NoAddress::Unsaid => {
            "this controller is told of no addresses. Have it started with --address or --publish-service.".to_owned()
        }
        NoAddress::ServiceAbsent(service) => {
            format!("Service {service}, which is to say them, does not exist. Create it.")
        }
        NoAddress::ServiceUnreadable(service) => {
            format!("Service {service}, which is to say them, cannot be read. Correct it.")
        }
        NoAddress::ServiceWithout(service) => format!(
            "Service {service}, which is to say them, has none yet. Its load balancer writes them to its status; one of type \
             ClusterIP or NodePort may have externalIPs."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::ObjectName;

    #[track_caller]
    fn says(problem: &AddressProblem, reason: &str, message: &str) {
        let condition = missing(problem).render(1);
        assert_eq!((condition["status"].as_str(), condition["reason"].as_str()), (Some("False"), Some(reason)));
        assert_eq!(condition["message"].as_str(), Some(message));
    }

    #[test]
    fn an_address_has_its_type_and_value() {
        let addresses = ["192.0.2.1", "2001:db8::1", "edge.example.com"].map(|text| Address::of(text).unwrap());
        let entry = |r#type: &str, value: &str| json!({"type": r#type, "value": value});
        assert_eq!(
            render(&addresses),
            json!([
                entry("IPAddress", "192.0.2.1"),
                entry("IPAddress", "2001:db8::1"),
                entry("Hostname", "edge.example.com")
            ])
        );
    }

    #[test]
    fn what_is_missing_is_named_with_what_would_help() {
        let asked = || "198.51.100.7".into();
        let instead = vec!["192.0.2.1".into(), "edge.example.com".into()];
        says(
            &AddressProblem::NotUsable { asked: asked(), instead, why: None },
            "AddressNotUsable",
            "Address 198.51.100.7 cannot be had: the data plane has 192.0.2.1 and edge.example.com. Ask for one of these, or \
             remove it from spec.addresses.",
        );
        says(
            &AddressProblem::NotUsable { asked: asked(), instead: Vec::new(), why: Some(NoAddress::Unsaid) },
            "AddressNotUsable",
            "Address 198.51.100.7 cannot be had: this controller is told of no addresses. Have it started with --address or \
             --publish-service. Otherwise remove it from spec.addresses.",
        );
        says(
            &AddressProblem::NotAssigned { kind: "Hostname".into(), why: None },
            "AddressNotAssigned",
            "There is no address of type Hostname to give: the data plane has no other of this type. Remove the request from \
             spec.addresses.",
        );
        let service = || ObjectName::new("infra", "apisix");
        says(
            &AddressProblem::NoneToGive(NoAddress::ServiceAbsent(service())),
            "AddressNotAssigned",
            "There is no address to give: Service infra/apisix, which is to say them, does not exist. Create it.",
        );
        says(
            &AddressProblem::NoneToGive(NoAddress::ServiceUnreadable(service())),
            "AddressNotAssigned",
            "There is no address to give: Service infra/apisix, which is to say them, cannot be read. Correct it.",
        );
        says(
            &AddressProblem::NoneToGive(NoAddress::ServiceWithout(service())),
            "AddressNotAssigned",
            "There is no address to give: Service infra/apisix, which is to say them, has none yet. Its load balancer writes \
             them to its status; one of type ClusterIP or NodePort may have externalIPs.",
        );
    }
}
