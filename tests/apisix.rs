//! The check against everything that APISIX's own validator said: `tests/apisix/documents.jsonl`, 1,014 documents, each with the
//! releases that take it (`accepted`). They were made by generating and mutating documents and running the schema and the
//! checker of each release over them. The keys in them were made for that file and open nothing.
//!
//! The check must never take what APISIX refuses. Where it refuses what APISIX takes, [`STRICTER`] says why, and how often.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "the helpers are parts of tests, too")]

use apisix_etcd_controller::{
    apisix::{
        check::{
            certificates,
            json::{DocumentKind, Release, document},
        },
        documents::{self, Closed, Node, Scheme, Split, To},
        ids,
    },
    cluster::manifests::{File, Manifests},
    model::{
        facts::{Facts, Observed},
        names::Kind,
        places::{Directory, Plane, Port, ServerName, Slot, WorkId},
    },
};
use proptest::prelude::*;
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::LazyLock,
};

const RELEASES: [&str; 8] = ["3.2.2", "3.6.0", "3.8.0", "3.11.0", "3.13.0", "3.14.1", "3.16.0", "3.18.0"];

/// What every refusal of a group has in it, how many of documents times releases are in the group, and why the check is
/// stricter there than APISIX.
const STRICTER: &[(&str, usize, &str)] = &[
    (
        "ends with a line break",
        111,
        "`$` of a pattern fits before a last line break; nothing looks such an id, name or address up",
    ),
    (
        "cannot balance streams",
        95,
        "the type names a Lua module: others than the three fail with every connection of a stream",
    ),
    ("is no HOST:PORT", 63, "keys of nodes are not looked at; without a port that there is, every connection fails"),
    ("has no port", 6, "the port may be left out since 3.8; a stream then fails, or connects to port 0"),
    ("in brackets", 36, "host and port are put together as they are, so IPv6 without brackets has no port"),
    (
        "would take its place",
        8,
        "nodes are kept by host and port, so the last of equal ones counts, and the others are lost",
    ),
    (
        "all have the weight 0",
        8,
        "they get connections all the same, and a consistent hash over them reads out of bounds",
    ),
    (
        "comes with no stream plugin",
        60,
        "a plugin that the data plane lacks is passed over, and what it should do is not done",
    ),
    (
        "gives this share to the route's own",
        8,
        "before 3.18 a share of traffic-split that names an upstream goes to the route's own",
    ),
    ("names no upstream", 15, "every connection is closed, as by a mistake (3.2.2 ignores service_id)"),
    (
        "fails after the first connection",
        17,
        "in 3.7 to 3.9 a matcher is gone after its first use, and the next connection fails",
    ),
    ("must be lower-case", 8, "the name is compared with the client's in lower case, and never matches"),
    ("ends with '.'", 8, "the name is compared with the client's without the dot, and never matches"),
    ("the key is not that of the certificate", 16, "each is parsed alone, and handshakes fail"),
];

#[derive(serde::Deserialize)]
struct Line {
    n: usize,
    kind: String,
    accepted: Vec<String>,
    document: Value,
}

static LINES: LazyLock<Vec<Line>> = LazyLock::new(|| {
    let text = include_str!("apisix/documents.jsonl");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
});

fn kind(name: &str) -> DocumentKind {
    match name {
        "stream_route" | "stream_routes" => DocumentKind::StreamRoute,
        "upstream" | "upstreams" => DocumentKind::Upstream,
        "ssl" | "ssls" => DocumentKind::Ssl,
        name => panic!("no kind {name}"),
    }
}

fn release(text: &str) -> Release {
    text.parse().unwrap()
}

/// Why `value` is refused.
fn refusal(kind: DocumentKind, release: Release, value: &Value) -> Option<String> {
    document(kind, release, value.to_string().as_bytes()).err().map(|refusal| refusal.to_string())
}

#[test]
fn nothing_is_taken_that_apisix_refuses() {
    let mut wrong = Vec::new();
    let mut taken = 0;
    for Line { n, kind: name, accepted, document } in LINES.iter() {
        for text in RELEASES.into_iter().filter(|text| refusal(kind(name), release(text), document).is_none()) {
            taken += 1;
            if !accepted.iter().any(|accepted| accepted == text) {
                wrong.push(format!("{name} {n} with APISIX {text}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // A check that refuses everything would pass, too.
    assert!(taken > 2_000, "only {taken} are taken");
}

#[test]
fn what_apisix_takes_is_refused_only_for_reasons_that_are_listed() {
    let mut counts: BTreeMap<&str, usize> = STRICTER.iter().map(|(part, _, _)| (*part, 0)).collect();
    for Line { n, kind: name, accepted, document } in LINES.iter() {
        for text in accepted {
            let Some(why) = refusal(kind(name), release(text), document) else { continue };
            let groups: Vec<_> = STRICTER.iter().filter(|(part, _, _)| why.contains(part)).collect();
            let [(part, _, _)] = &groups[..] else {
                panic!("{name} {n} with APISIX {text}, in {}: {why}", groups.len())
            };
            *counts.get_mut(part).unwrap() += 1;
        }
    }
    let listed: BTreeMap<&str, usize> = STRICTER.iter().map(|(part, count, _)| (*part, *count)).collect();
    assert_eq!(counts, listed);
    let docs = include_str!("../docs/validate.md");
    let (taken, refused): (usize, usize) =
        (LINES.iter().map(|line| line.accepted.len()).sum(), counts.values().copied().sum());
    assert!(docs.contains(&format!("{refused} are refused")), "{refused}");
    assert!(docs.contains(&format!("Of the {},{:03} verdicts", taken / 1_000, taken % 1_000)), "{taken}");
}

#[test]
fn releases_between_those_that_were_tried_follow_the_one_before() {
    for (one, other) in [("3.9.1", "3.8.0"), ("3.14.0", "3.14.1"), ("3.99.0", "3.19.0"), ("3.13", "3.13.0")] {
        for Line { n, kind: name, document, .. } in LINES.iter() {
            let taken = |text| refusal(kind(name), release(text), document).is_none();
            assert_eq!(taken(one), taken(other), "{n} with APISIX {one} and {other}");
        }
    }
}

/// The versions that the DataPlanes of a golden case say, by prefix.
fn versions_said(path: String, text: String) -> BTreeMap<String, String> {
    let manifests = Manifests::of(&[File { path: path.into(), text }], "example.com/any").unwrap();
    let planes = manifests.objects.into_iter().filter(|(kind, _)| *kind == Kind::DataPlane).flat_map(|(_, of)| of);
    let said = planes.filter_map(|object| match object.observed {
        Observed::Facts(Facts::DataPlane(facts)) => {
            Some((facts.etcd_prefix.to_string(), facts.apisix_version?.to_string()))
        }
        Observed::Facts(_) | Observed::Unreadable { .. } => None,
    });
    said.collect()
}

/// Documents of every golden case, with the version that the case is for, or its DataPlane.
fn golden() -> Vec<(PathBuf, Release, String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut all = Vec::new();
    for area in fs::read_dir(folder).unwrap() {
        for file in fs::read_dir(area.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let Some(stem) = path.to_str().unwrap().strip_suffix(".out.json") else { continue };
            let input = fs::read_to_string(format!("{stem}.in.yaml")).unwrap();
            let version = input.lines().find_map(|line| line.strip_prefix("# apisix-version: ")).unwrap_or("3.13.0");
            let said = versions_said(format!("{stem}.in.yaml"), input.clone());
            let output: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            for (key, document) in output["documents"].as_object().unwrap() {
                let of_plane = said.iter().find(|(prefix, _)| key.starts_with(&format!("{prefix}/")));
                let version = of_plane.map_or(version.trim(), |(_, version)| version);
                all.push((path.clone(), release(version), key.clone(), document.clone()));
            }
        }
    }
    all
}

/// Puts the keys of the input where the output leaves them out.
fn put_keys_back(output: &Path, document: &mut Value) {
    let input = fs::read_to_string(output.to_str().unwrap().replace(".out.json", ".in.yaml")).unwrap();
    let lines: Vec<&str> = input.lines().map(str::trim).collect();
    let block = |from: usize| {
        let length = lines[from..].iter().position(|line| line.starts_with("-----END ")).unwrap();
        lines[from..=from + length].join("\n") + "\n"
    };
    let begins = |line: &str| line.starts_with("-----BEGIN ") && line.ends_with("PRIVATE KEY-----");
    let keys: Vec<String> = (0..lines.len()).filter(|at| begins(lines[*at])).map(block).collect();
    let key_of = |certificate: &Value| {
        let certificate = certificate.as_str().unwrap();
        keys.iter().find(|key| certificates::check_pair(certificate, key).is_ok()).unwrap().clone()
    };
    assert_eq!(document["key"], "(redacted)");
    document["key"] = key_of(&document["cert"]).into();
    if let Some(certificates) = document.get("certs") {
        document["keys"] = certificates.as_array().unwrap().iter().map(key_of).collect();
    }
}

#[test]
fn whatever_translation_makes_is_taken() {
    let documents = golden();
    assert!(documents.len() > 100, "only {} documents", documents.len());
    for (path, release, key, mut document) in documents {
        let directory = key.rsplit('/').nth(1).unwrap();
        if directory == "ssls" {
            put_keys_back(&path, &mut document);
        }
        assert_eq!(refusal(kind(directory), release, &document), None, "{key} of {}", path.display());
    }
}

#[test]
fn bytes_that_are_no_json_object_are_refused_each_with_a_reason() {
    let deep = "[".repeat(100_000);
    let nested = format!("{{\"desc\":{}{}}}", "[".repeat(500), "]".repeat(500));
    let huge = format!("{{\"desc\":\"{}\"}}", "x".repeat(2_000_000));
    let lines: [(&[u8], &str); 14] = [
        (b"", "is empty"),
        (b" \t\r\n", "is empty"),
        (b"init_dir", "no JSON"),
        (b"{\"id\":\"\xff\"}", "is not UTF-8"),
        (b"{\"id\":", "no whole JSON"),
        (b"{\"id\":1}{}", "no JSON"),
        (b"{\"id\":NaN}", "no JSON"),
        (b"{\"id\":1e999}", "no JSON"),
        (b"{\"desc\":\"\\ud800\"}", "JSON"),
        (b"null", "is not a JSON object"),
        (b"[1]", "is not a JSON object"),
        (deep.as_bytes(), "no JSON"),
        (nested.as_bytes(), "no JSON"),
        (huge.as_bytes(), "desc: has 2000000 characters, must have at most 256"),
    ];
    for (line, why) in lines {
        for kind in [DocumentKind::StreamRoute, DocumentKind::Upstream, DocumentKind::Ssl] {
            let refused = document(kind, release("3.13.0"), line).unwrap_err().to_string();
            // A certificate has no desc before 3.13, and this is 3.13.
            assert!(refused.contains(why), "{refused}");
        }
    }
}

#[test]
fn the_last_of_equal_keys_counts_as_it_does_for_apisix() {
    let good = br#"{"server_port":0,"server_port":9100,"upstream_id":"a"}"#;
    let bad = br#"{"server_port":9100,"server_port":0,"upstream_id":"a"}"#;
    assert_eq!(document(DocumentKind::StreamRoute, release("3.13"), good), Ok(()));
    assert!(document(DocumentKind::StreamRoute, release("3.13"), bad).is_err());
}

#[test]
fn a_refusal_never_repeats_a_certificate_or_a_key() {
    for Line { kind: name, document, .. } in LINES.iter().filter(|line| line.kind == "ssl") {
        for text in RELEASES {
            let why = refusal(kind(name), release(text), document).unwrap_or_default();
            assert!(!why.contains("MII") && !why.contains("BEGIN") && !why.contains('\n'), "{why}");
        }
    }
}

/// Any JSON, made of words that mean something to APISIX where possible.
fn any_json() -> impl Strategy<Value = Value> {
    const WORDS: &[&str] = &[
        "id",
        "server_port",
        "sni",
        "snis",
        "remote_addr",
        "upstream",
        "upstream_id",
        "plugins",
        "nodes",
        "host",
        "port",
        "weight",
        "type",
        "key",
        "hash_on",
        "tls",
        "client_cert",
        "client_key",
        "checks",
        "active",
        "healthy",
        "cert",
        "keys",
        "certs",
        "client",
        "ca",
        "traffic-split",
        "rules",
        "match",
        "vars",
        "weighted_upstreams",
        "ip-restriction",
        "whitelist",
        "_meta",
        "labels",
        "timeout",
        "chash",
        "10.0.0.1",
        "::1/200",
        "[::1]:80",
        "a:b",
        "AND",
        "ipmatch",
        "",
    ];
    let word = prop_oneof![
        proptest::sample::select(WORDS).prop_map(str::to_owned),
        any::<String>(),
        "-----BEGIN [A-Z ]{0,12}-----\n[A-Za-z0-9+/=\n]{0,80}-----END CERTIFICATE-----",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0u16..300).prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((word.clone(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Puts `with` in the place of the `n`th value in `value`, counted from the outside in.
fn replace(value: &mut Value, n: &mut usize, with: &Value) {
    if *n == 0 {
        *value = with.clone();
    }
    *n = n.wrapping_sub(1);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, n, with)),
        Value::Object(fields) => fields.values_mut().for_each(|field| replace(field, n, with)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A verdict is one line, for every kind and release, and there is one.
fn judge(bytes: &[u8]) {
    for kind in [DocumentKind::StreamRoute, DocumentKind::Upstream, DocumentKind::Ssl] {
        for text in RELEASES {
            if let Err(refusal) = document(kind, release(text), bytes) {
                let text = refusal.to_string();
                assert!(!text.is_empty() && !text.contains(['\n', '\r']), "{text:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_json_gets_a_verdict(value in any_json()) {
        judge(value.to_string().as_bytes());
    }

    #[test]
    fn a_document_with_any_of_its_values_replaced_gets_a_verdict(
        line in 0usize..1_000, n in 0usize..20, with in any_json(),
    ) {
        let mut document = LINES[line].document.clone();
        replace(&mut document, &mut { n }, &with);
        judge(document.to_string().as_bytes());
    }

    #[test]
    fn a_document_with_any_of_its_bytes_changed_gets_a_verdict(
        line in 0usize..1_000, at in any::<proptest::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut bytes = LINES[line].document.to_string().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        judge(&bytes);
    }

    /// The check in front of what this controller writes sees less than the other, and must not let more through.
    #[test]
    fn what_this_controller_writes_is_taken_from_the_oldest_release_on(
        port in 1u16.., split in proptest::option::of((1u32..1_000_000, 1u32..1_000_000)), name in "[a-z0-9.-]{1,60}",
        provenance in "\\PC{0,400}", passthrough in any::<bool>(),
        sni in proptest::option::of(proptest::sample::select(vec!["a.example", "*.a.example", "A.Example.", "x"])),
        // Few of each, so that some are equal, and some 0.
        nodes in proptest::collection::vec(
            ((proptest::sample::select(vec!["10.0.0.1", "::1", "::ffff:1.2.3.4"]), 0u16..4), 0u32..3), 0..6,
        ),
    ) {
        let sealing = "default";
        let slot = Slot { port: Port::new(port).unwrap(), name: sni.and_then(ServerName::of) };
        let id = ids::slot(Plane::default(), &slot);
        let pool = WorkId::new(Plane::default(), Directory::Upstreams, &name);
        let split = split.map(|(refused, served)| Split { refused, served });
        let nodes: Vec<_> = nodes
            .into_iter()
            .map(|((host, port), weight)| Node { address: (host.parse::<IpAddr>().unwrap(), port).into(), weight })
            .collect();
        let to = To { pool: &pool, certificate: None, split, passthrough };
        let route = documents::stream_route(sealing, &id, &slot, to, &provenance);
        let why = if port % 2 == 0 { Closed::NoRoute } else { Closed::NotItsCertificate };
        let closing = documents::closing(sealing, &id, &slot, why, passthrough);
        let scheme = if passthrough { Scheme::Udp } else { Scheme::Tcp };
        let upstream = documents::upstream(sealing, &pool, scheme, &nodes, &provenance);
        for text in ["3.8.0", "3.9.1", "3.10.0", "3.13.0", "3.14.0", "3.16.0", "3.18.0", "3.19.0"] {
            let release = release(text);
            let since = |text: &str| release >= text.parse().unwrap();
            if let Ok(route) = &route && (split.is_none() || since("3.14")) && (!passthrough || since("3.19")) {
                prop_assert_eq!(document(DocumentKind::StreamRoute, release, route.as_bytes()), Ok(()));
            }
            if let Ok(closing) = &closing && (!passthrough || since("3.19")) {
                prop_assert_eq!(document(DocumentKind::StreamRoute, release, closing.as_bytes()), Ok(()));
            }
            if let Ok(upstream) = &upstream {
                prop_assert_eq!(document(DocumentKind::Upstream, release, upstream.as_bytes()), Ok(()));
            }
        }
    }
}
