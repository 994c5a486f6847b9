use super::*;
use crate::model::names::Created;

fn settings() -> PlaneSettings {
    PlaneSettings {
        plane: Plane::default(),
        version: "3.16.0".parse().unwrap(),
        stream: StreamProxy::default(),
        ports: BTreeMap::new(),
        addresses: AddressSource::Nobody,
    }
}

fn facts(prefix: &str) -> DataPlaneFacts {
    DataPlaneFacts {
        generation: 1,
        created: Created(1),
        etcd_prefix: prefix.into(),
        apisix_version: None,
        listen: None,
        port_mapping: Vec::new(),
        stream_plugins: None,
        addresses: Vec::new(),
        publish_service: None,
    }
}

fn listen(protocol: &str, port: i64, end_port: Option<i64>) -> ListenFacts {
    ListenFacts { protocol: protocol.into(), port, end_port }
}

fn mapping(pairs: &[(i64, i64)]) -> Vec<PortMappingFacts> {
    pairs.iter().map(|&(gateway_port, apisix_port)| PortMappingFacts { gateway_port, apisix_port }).collect()
}

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

/// What these come to.
fn settled(planes: &[(&str, DataPlaneFacts)]) -> DataPlanes {
    let mut shelf = Shelf::default();
    for (name, facts) in planes {
        shelf.set(&ObjectName::cluster(name), Some(Presence::Readable(facts.clone())));
    }
    settle(&settings(), Some("/gateway-api-etcd"), &shelf)
}

/// What one alone comes to.
fn alone(facts: DataPlaneFacts) -> Result<Arc<PlaneSettings>, PlaneFault> {
    settled(&[("edge", facts)]).remove("edge").unwrap()
}

#[track_caller]
fn invalid(facts: DataPlaneFacts, faults: &str) {
    assert_eq!(alone(facts), Err(PlaneFault::Invalid(faults.into())));
}

/// Of DataPlanes with these prefixes and times of creation: name, and whom each that is refused overlaps.
fn overlaps(planes: &[(&str, &str, Created)]) -> Vec<(String, Option<(String, PrefixHolder)>)> {
    let planes: Vec<(&str, DataPlaneFacts)> = planes
        .iter()
        .map(|(name, prefix, created)| (*name, DataPlaneFacts { created: *created, ..facts(prefix) }))
        .collect();
    let outcome = |outcome| match outcome {
        Ok(_) => None,
        Err(PlaneFault::Overlaps { prefix: _, other, holder }) => Some((other.to_string(), holder)),
        Err(fault) => panic!("{fault}"),
    };
    settled(&planes).into_iter().map(|(name, plane)| (name.to_string(), outcome(plane))).collect()
}

#[test]
fn a_prefix_is_enough_and_everything_else_is_as_if_nobody_told() {
    let plane = alone(facts("/edge")).unwrap();
    assert_eq!(*plane, PlaneSettings { plane: Plane::of("/edge"), ..settings() });
    assert_eq!(plane.apisix_port(port(443)), port(443));
}

#[test]
fn every_field_is_taken() {
    let plane = alone(DataPlaneFacts {
        apisix_version: Some("3.19".into()),
        listen: Some(vec![
            listen("TCP", 9000, Some(9010)),
            listen("TLS", 9443, None),
            listen("TLSPassthrough", 8443, None),
            listen("TLSEither", 7443, None),
            listen("UDP", 9200, Some(9200)),
        ]),
        port_mapping: mapping(&[(443, 9443), (9443, 443), (80, 80)]),
        stream_plugins: Some(vec!["limit-conn".into(), "traffic-split".into()]),
        addresses: vec!["192.0.2.1".into(), "Edge.example.com".into(), "192.0.2.1".into()],
        ..facts("/edge")
    });
    let plane = plane.unwrap();
    assert_eq!(plane.version.to_string(), "3.19.0");
    let Inventory::Known(sockets) = &plane.stream.sockets else { panic!("{plane:?}") };
    assert_eq!(sockets.to_string(), "tcp 9000-9010; tls 9443; tls-passthrough 8443; tls-either 7443; udp 9200");
    assert_eq!(plane.stream.traffic_split, Some(true));
    assert_eq!([443, 9443, 80, 53].map(|number| plane.apisix_port(port(number)).get()), [9443, 443, 80, 53]);
    let AddressSource::Said(addresses) = &plane.addresses else { panic!("{plane:?}") };
    assert_eq!(addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.1", "edge.example.com"]);
}

#[test]
fn an_empty_list_says_none_and_an_absent_one_says_nothing() {
    let empty = alone(DataPlaneFacts { listen: Some(vec![]), stream_plugins: Some(vec![]), ..facts("/edge") }).unwrap();
    assert_eq!(empty.stream, StreamProxy { sockets: Inventory::Known(Arc::default()), traffic_split: Some(false) });
    assert_eq!(alone(facts("/edge")).unwrap().stream, StreamProxy::default());
}

#[test]
fn addresses_may_come_from_a_service() {
    let service = ObjectName::new("apisix", "gateway");
    let with = |publish_service| DataPlaneFacts { publish_service: Some(publish_service), ..facts("/edge") };
    assert_eq!(alone(with(service.clone())).unwrap().addresses, AddressSource::Service(service.clone()));
    invalid(
        DataPlaneFacts { addresses: vec!["192.0.2.1".into()], ..with(service) },
        "addresses and publishService both say the addresses: leave one out",
    );
    invalid(
        with(ObjectName::new("a/b", "")),
        "publishService: namespace \"a/b\" and name \"\" cannot be those of a Service",
    );
}

#[test]
fn a_prefix_has_the_form_that_the_flag_demands() {
    for (prefix, fault) in [
        ("", "does not begin with '/'"),
        ("edge", "does not begin with '/'"),
        ("/edge/", "ends with '/'"),
        ("/", "ends with '/'"),
        ("/a//b", "has an empty segment"),
        ("/a b", "has characters other than letters, digits, '_', '.', '-' and '/'"),
    ] {
        invalid(facts(prefix), &format!("etcdPrefix {prefix:?} {fault}"));
    }
}

#[test]
fn every_fault_is_told_at_once_in_the_order_of_the_fields() {
    let all = DataPlaneFacts {
        apisix_version: Some("2.15".into()),
        listen: Some(vec![listen("tcp", 0, Some(65_536)), listen("TCP", 9001, Some(9000))]),
        port_mapping: mapping(&[(0, 70_000), (443, 9443)]),
        addresses: vec!["*.example.com".into()],
        ..facts("edge")
    };
    invalid(
        all,
        "etcdPrefix \"edge\" does not begin with '/'; \
         apisixVersion: APISIX version 2.15 is not supported: 3.8.0 and later 3.x are; \
         listen[0]: protocol \"tcp\" is none of TCP, TLS, TLSPassthrough, TLSEither, UDP; \
         listen[0]: port 0 is not within 1 to 65535; \
         listen[0]: endPort 65536 is not within 1 to 65535; \
         listen[1]: endPort comes before port 9001; \
         portMapping[0]: gatewayPort 0 is not within 1 to 65535; \
         portMapping[0]: apisixPort 70000 is not within 1 to 65535; \
         addresses[0]: \"*.example.com\" is neither an IP address to connect to nor a hostname",
    );
}

#[test]
fn a_port_is_mapped_once_and_to_a_port_of_its_own() {
    let with = |pairs: &[(i64, i64)]| DataPlaneFacts { port_mapping: mapping(pairs), ..facts("/edge") };
    invalid(with(&[(443, 9443), (443, 8443)]), "portMapping[1]: gatewayPort 443 is mapped already");
    invalid(with(&[(443, 9443), (443, 9443)]), "portMapping[1]: gatewayPort 443 is mapped already");
    invalid(
        with(&[(443, 9443), (444, 9443)]),
        "portMapping[1]: another gatewayPort is mapped to apisixPort 9443 already",
    );
}

#[test]
fn more_addresses_than_a_gateway_can_show_are_refused() {
    let with = |n: usize| DataPlaneFacts {
        addresses: (1..=n).map(|last| format!("192.0.2.{last}").into()).collect(),
        ..facts("/edge")
    };
    assert!(alone(with(ADDRESSES_MAX)).is_ok());
    invalid(with(ADDRESSES_MAX + 1), "addresses: there are 17, and the status of a Gateway holds 16");
}

#[test]
fn of_two_prefixes_that_begin_with_each_other_the_older_has_its_own() {
    let first = |name: &str| PrefixHolder::First(name.into());
    for (one, other) in [("/x", "/xy"), ("/xy", "/x"), ("/x", "/x"), ("/x", "/x/y")] {
        // Whatever the names say.
        for (elder, younger) in [("a", "b"), ("b", "a")] {
            let outcome = overlaps(&[(elder, one, Created(1)), (younger, other, Created(2))]);
            let mut want = [(elder.to_owned(), None), (younger.to_owned(), Some((one.to_owned(), first(elder))))];
            want.sort_by(|(one, _), (other, _)| one.cmp(other));
            assert_eq!(outcome, want, "{one} {other}");
        }
    }
    // Siblings do not overlap.
    assert_eq!(overlaps(&[("a", "/x/c", Created(1)), ("b", "/x/b", Created(1))])[1].1, None);
}

#[test]
fn of_two_of_the_same_age_the_first_by_name_has_its_prefix() {
    let outcome = overlaps(&[("b", "/x", Created::UNKNOWN), ("a", "/x", Created::UNKNOWN)]);
    assert_eq!(
        outcome,
        [("a".to_owned(), None), ("b".to_owned(), Some(("/x".to_owned(), PrefixHolder::First("a".into()))))]
    );
}

#[test]
fn one_that_is_refused_holds_nothing_against_others() {
    // The second overlaps the first, the third only the second.
    let outcome = overlaps(&[("a", "/x/1", Created(1)), ("b", "/x", Created(2)), ("c", "/x/2", Created(3))]);
    let refused: Vec<bool> = outcome.iter().map(|(_, overlapped)| overlapped.is_some()).collect();
    assert_eq!(refused, [false, true, false]);
    // And one that is invalid holds nothing either.
    let bad = DataPlaneFacts { created: Created(0), apisix_version: Some("2".into()), ..facts("/x") };
    let planes = settled(&[("a", bad), ("b", facts("/x"))]);
    assert!(planes["a"].is_err() && planes["b"].is_ok());
}

#[test]
fn nobody_has_the_prefix_of_the_settings_or_of_the_controllers_own_keys() {
    for prefix in ["/apisix", "/apisix/edge", "/apisix2", "/a"] {
        let outcome = overlaps(&[("edge", prefix, Created(1))]).remove(0).1;
        assert_eq!(outcome, Some(("/apisix".to_owned(), PrefixHolder::Default)), "{prefix}");
    }
    for prefix in ["/gateway-api-etcd", "/gateway-api-etcd/x", "/g"] {
        let outcome = overlaps(&[("edge", prefix, Created(1))]).remove(0).1;
        assert_eq!(outcome, Some(("/gateway-api-etcd".to_owned(), PrefixHolder::Controller)), "{prefix}");
    }
    let mut shelf = Shelf::default();
    shelf.set(&ObjectName::cluster("edge"), Some(Presence::Readable(facts("/gateway-api-etcd"))));
    assert!(settle(&settings(), None, &shelf)["edge"].is_ok());
}

#[test]
fn one_that_could_never_be_read_is_known_and_unusable() {
    let mut shelf = Shelf::default();
    shelf.set(&ObjectName::cluster("edge"), Some(Presence::Unreadable));
    let planes = settle(&settings(), None, &shelf);
    assert_eq!(planes["edge"], Err(PlaneFault::Unreadable));
}

#[test]
fn parameters_lead_to_a_data_plane_or_say_why_not() {
    let planes = settled(&[("edge", facts("/edge")), ("bad", facts("bad"))]);
    let parameters = |group: &str, kind: &str, namespace: Option<&str>, name: &str| ParametersRef {
        group: group.into(),
        kind: kind.into(),
        namespace: namespace.map(Arc::from),
        name: name.into(),
    };
    let plane = |name: &str| parameters("apisix-etcd.io", "DataPlane", None, name);
    assert_eq!(of_class(None, &planes), PlaneOf::Default);
    assert_eq!(of_class(Some(&plane("edge")), &planes), PlaneOf::Named("edge".into(), planes["edge"].clone().unwrap()));
    let why = |parameters: &ParametersRef| match of_class(Some(parameters), &planes) {
        PlaneOf::Unusable(problem) => problem.to_string(),
        other @ (PlaneOf::Default | PlaneOf::Named(..)) => panic!("{other:?}"),
    };
    for (parameters, part) in [
        (
            parameters("example.com", "DataPlane", None, "edge"),
            "parametersRef example.com/DataPlane edge is of no kind",
        ),
        (parameters("", "ConfigMap", Some("ns"), "edge"), "parametersRef ConfigMap ns/edge is of no kind"),
        (parameters("apisix-etcd.io", "DataPlane", Some("ns"), "edge"), "DataPlane ns/edge has a namespace"),
        (plane("gone"), "There is no DataPlane gone: create it"),
        (plane("bad"), "DataPlane bad cannot be used. etcdPrefix \"bad\" does not begin with '/'."),
    ] {
        assert!(why(&parameters).contains(part), "{}", why(&parameters));
    }
}
