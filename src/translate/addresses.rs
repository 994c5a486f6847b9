//! Which addresses a Gateway has: what its data plane has against what it asks for.
//!
//! `spec.addresses`, the source of addresses and the Services go in; what `status.addresses` is to say, and what is missing,
//! comes out. It never fails, and chooses the same whatever other Gateways ask for: every Gateway of a data plane has all of
//! its addresses, because APISIX listens on each of them for everybody.

use super::known::shelf::Shelf;
use crate::model::{
    addresses::{Address, AddressKind, AddressSource},
    facts::{AddressFacts, ServiceFacts},
    names::ObjectName,
    verdicts::{AddressProblem, GatewayRefusal, NoAddress},
};
use std::sync::Arc;

/// What a Gateway has of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assigned {
    /// Its addresses: those it asks for where it asks for any, else all there are.
    pub addresses: Vec<Address>,
    /// The first that it asks for and cannot have, or that it has none.
    pub problem: Option<AddressProblem>,
}

/// Why a Gateway is not accepted for what it asks for: a type that cannot be had, whatever the data plane has.
#[must_use]
pub fn refusal(asked: &[AddressFacts]) -> Option<GatewayRefusal> {
    let strange = asked.iter().find(|asked| AddressKind::of(&asked.kind).is_none());
    strange.map(|asked| GatewayRefusal::AddressType(Arc::clone(&asked.kind)))
}

/// What a Gateway that asks for `asked` has.
#[must_use]
pub fn assign(asked: &[AddressFacts], source: &AddressSource, services: &Shelf<ServiceFacts>) -> Assigned {
    let (ours, why) = match source {
        AddressSource::Nobody => (&[][..], Some(NoAddress::Unsaid)),
        AddressSource::Said(addresses) => (&**addresses, None),
        AddressSource::Service(name) => of_service(name, services),
    };
    if asked.is_empty() {
        // Where nobody says what addresses there are, nothing is missing: clients know them from elsewhere.
        let problem = why.filter(|why| *why != NoAddress::Unsaid).map(AddressProblem::NoneToGive);
        return Assigned { addresses: ours.to_vec(), problem };
    }
    chosen(asked, ours, why.as_ref())
}

/// What a Service says of its addresses, or why it says none.
fn of_service<'a>(name: &ObjectName, services: &'a Shelf<ServiceFacts>) -> (&'a [Address], Option<NoAddress>) {
    match services.get(name).map(|service| &*service.addresses) {
        Some([]) => (&[], Some(NoAddress::ServiceWithout(name.clone()))),
        Some(addresses) => (addresses, None),
        None if services.is_unreadable(name) => (&[], Some(NoAddress::ServiceUnreadable(name.clone()))),
        None => (&[], Some(NoAddress::ServiceAbsent(name.clone()))),
    }
}

/// Of ours, those that are asked for: by value first, so that no choice of ours takes what another entry names; then, for
/// each entry without a value, the first of its type that is left.
fn chosen(asked: &[AddressFacts], ours: &[Address], why: Option<&NoAddress>) -> Assigned {
    let mut taken = vec![false; ours.len()];
    let mut problem = None;
    let mut take = |wanted: &dyn Fn(&Address) -> bool, again: bool| {
        let mut candidates = ours.iter().zip(&mut taken);
        let found = candidates.find(|(address, taken)| (again || !**taken) && wanted(address));
        found.map(|(_, taken)| *taken = true).is_some()
    };
    for asked in asked.iter().filter(|asked| !asked.value.is_empty()) {
        let wanted = match AddressKind::of(&asked.kind) {
            Some(AddressKind::IpAddress) => Address::ip(&asked.value),
            Some(AddressKind::Hostname) => Address::hostname(&asked.value),
            None => None,
        };
        let have = wanted.is_some_and(|wanted| take(&|address| *address == wanted, true));
        if !have && problem.is_none() {
            problem = Some(AddressProblem::NotUsable {
                asked: Arc::clone(&asked.value),
                instead: ours.iter().map(|address| address.to_string().into()).collect(),
                why: why.cloned(),
            });
        }
    }
    for asked in asked.iter().filter(|asked| asked.value.is_empty()) {
        let kind = AddressKind::of(&asked.kind);
        let have = take(&|address| Some(address.kind()) == kind, false);
        if !have && problem.is_none() {
            problem = Some(AddressProblem::NotAssigned { kind: Arc::clone(&asked.kind), why: why.cloned() });
        }
    }
    let addresses = ours.iter().zip(taken).filter(|(_, taken)| *taken).map(|(address, _)| address.clone()).collect();
    Assigned { addresses, problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::known::shelf::Presence;

    fn said(addresses: &[&str]) -> AddressSource {
        AddressSource::Said(addresses.iter().map(|text| Address::of(text).unwrap()).collect())
    }

    /// `TYPE=VALUE` for each entry.
    fn asked(entries: &[&str]) -> Vec<AddressFacts> {
        let entry = |text: &&str| {
            let (kind, value) = text.split_once('=').unwrap();
            AddressFacts { kind: kind.into(), value: value.into() }
        };
        entries.iter().map(entry).collect()
    }

    fn assigned(entries: &[&str], source: &AddressSource) -> (Vec<String>, Option<AddressProblem>) {
        let Assigned { addresses, problem } = assign(&asked(entries), source, &Shelf::default());
        (addresses.iter().map(ToString::to_string).collect(), problem)
    }

    const OURS: [&str; 4] = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "edge.example.com"];

    #[test]
    fn a_gateway_that_asks_for_nothing_has_all_there_are() {
        assert_eq!(assigned(&[], &said(&OURS)), (OURS.map(str::to_owned).to_vec(), None));
        assert_eq!(assigned(&[], &AddressSource::Nobody), (vec![], None));
    }

    #[test]
    fn a_gateway_has_only_what_it_asks_for_in_the_order_of_ours() {
        let (addresses, problem) = assigned(&["Hostname=edge.example.com", "IPAddress=192.0.2.2"], &said(&OURS));
        assert_eq!((addresses, problem), (vec!["192.0.2.2".to_owned(), "edge.example.com".to_owned()], None));
    }

    #[test]
    fn values_are_compared_by_what_they_mean() {
        let (addresses, problem) =
            assigned(&["IPAddress=2001:0DB8:0:0::0001", "Hostname=Edge.Example.COM"], &said(&OURS));
        assert_eq!((addresses, problem), (vec!["2001:db8::1".to_owned(), "edge.example.com".to_owned()], None));
        // One address twice is one address.
        let (addresses, problem) = assigned(&["IPAddress=2001:db8::1", "IPAddress=2001:DB8::1"], &said(&OURS));
        assert_eq!((addresses.len(), problem), (1, None));
    }

    #[test]
    fn an_address_of_the_other_type_is_not_the_one_asked_for() {
        for entry in ["Hostname=192.0.2.1", "IPAddress=edge.example.com"] {
            let (addresses, problem) = assigned(&[entry], &said(&OURS));
            assert!(addresses.is_empty() && matches!(problem, Some(AddressProblem::NotUsable { .. })), "{entry}");
        }
    }

    #[test]
    fn the_first_that_cannot_be_had_is_named_and_the_others_are_had() {
        let entries = ["IPAddress=", "IPAddress=198.51.100.7", "IPAddress=192.0.2.1", "IPAddress=198.51.100.8"];
        let (addresses, problem) = assigned(&entries, &said(&OURS));
        assert_eq!(addresses, ["192.0.2.1", "192.0.2.2"]);
        let Some(AddressProblem::NotUsable { asked, instead, why: None }) = problem else { panic!("{problem:?}") };
        assert_eq!((&*asked, instead.len()), ("198.51.100.7", 4));
    }

    #[test]
    fn entries_without_a_value_get_one_address_each_and_never_one_that_is_named() {
        let (addresses, problem) = assigned(&["IPAddress=", "IPAddress=192.0.2.1"], &said(&OURS));
        assert_eq!((addresses, problem), (vec!["192.0.2.1".to_owned(), "192.0.2.2".to_owned()], None));
        let (addresses, problem) = assigned(&["Hostname=", "Hostname="], &said(&OURS));
        assert_eq!(addresses, ["edge.example.com"]);
        assert_eq!(problem, Some(AddressProblem::NotAssigned { kind: "Hostname".into(), why: None }));
    }

    #[test]
    fn a_type_that_nobody_knows_is_refused_whatever_there_is() {
        assert_eq!(refusal(&asked(&["IPAddress=192.0.2.1", "Hostname="])), None);
        let refused = refusal(&asked(&["IPAddress=192.0.2.1", "NamedAddress=a", "b/c=d"]));
        assert_eq!(refused, Some(GatewayRefusal::AddressType("NamedAddress".into())));
    }

    #[test]
    fn a_service_says_its_addresses_or_why_there_are_none() {
        let name = ObjectName::new("infra", "apisix");
        let source = AddressSource::Service(name.clone());
        let with = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|text| Address::of(text).unwrap()).collect();
            Some(Presence::Readable(ServiceFacts { external_name: false, family: None, ports: vec![], addresses }))
        };
        let mut services = Shelf::default();
        let none = |why| Assigned { addresses: vec![], problem: Some(AddressProblem::NoneToGive(why)) };
        assert_eq!(assign(&[], &source, &services), none(NoAddress::ServiceAbsent(name.clone())));
        services.set(&name, Some(Presence::Unreadable));
        assert_eq!(assign(&[], &source, &services), none(NoAddress::ServiceUnreadable(name.clone())));
        services.set(&name, with(&[]));
        assert_eq!(assign(&[], &source, &services), none(NoAddress::ServiceWithout(name.clone())));
        services.set(&name, with(&["192.0.2.9"]));
        let have = Assigned { addresses: vec![Address::of("192.0.2.9").unwrap()], problem: None };
        assert_eq!(assign(&[], &source, &services), have);
        assert_eq!(assign(&asked(&["IPAddress=192.0.2.9"]), &source, &services), have);
    }
}
