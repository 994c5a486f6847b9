//! What there can be in the cluster: each thing in variants drawn by chance, read as manifests are.

use super::{CONTROLLER, dice::Dice};
use apisix_etcd_controller::{
    cluster::manifests::{File, Manifests},
    model::{
        facts::Observed,
        names::{Kind, ObjectRef},
    },
};
use std::{collections::BTreeMap, fmt::Write as _, sync::OnceLock};

/// What there can be: each thing in some variants, one of which it is, or it is absent.
pub(crate) const THINGS: &[&str] = &[
    "class", "g1", "g2", "r1", "r2", "r3", "r4", "r5", "r6", "s1", "s2", "s3", "e1", "e2", "e3", "grant", "default",
    "other",
];

fn meta(name: &str, namespace: &str, day: u64) -> String {
    format!("metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '2026-01-{day:02}T00:00:00Z'}}")
}

/// One variant of a thing.
fn yaml(thing: &str, dice: &Dice) -> String {
    let number: u64 = thing.chars().last().and_then(|c| c.to_digit(10)).map_or(0, u64::from);
    let (gateway_api, kind) = ("apiVersion: gateway.networking.k8s.io/v1", thing.chars().next().unwrap_or_default());
    match (thing, kind) {
        ("class", _) => {
            let controller = if dice.chance(10) { "example.com/other" } else { CONTROLLER };
            format!(
                "{gateway_api}\nkind: GatewayClass\nmetadata: {{name: apisix}}\nspec: {{controllerName: {controller}}}\n"
            )
        }
        ("grant", _) => format!(
            "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\n{}\nspec:\n  from: [{{group: \
             gateway.networking.k8s.io, kind: TCPRoute, namespace: default}}]\n  to: [{{group: '', kind: Service}}]\n",
            meta("grant", "other", 1)
        ),
        ("default" | "other", _) => format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {thing}}}\n"),
        (_, 'g') => {
            let mut text = format!(
                "{gateway_api}\nkind: Gateway\n{}\nspec:\n  gatewayClassName: apisix\n  listeners:\n",
                meta(thing, "default", number)
            );
            let first = dice.number(0..=1);
            for port in (9100 + first)..=(9101 + first + number) {
                let _ = writeln!(text, "  - {{name: p{port}, port: {port}, protocol: TCP}}");
            }
            text
        }
        (_, 'r') => {
            let mut text = format!("{gateway_api}\nkind: TCPRoute\n{}\n", meta(thing, "default", number));
            if dice.chance(20) {
                text = text.replace("metadata: {", "metadata: {annotations: {apisix-etcd.io/drift: report}, ");
            }
            text += "spec:\n  parentRefs:\n";
            for _ in 0..dice.number(1..=2) {
                let (gateway, port) = (dice.number(1..=2), dice.number(9100..=9103));
                let _ = writeln!(text, "  - {{name: g{gateway}, sectionName: p{port}}}");
            }
            text += "  rules:\n  - backendRefs:\n";
            for _ in 0..dice.number(1..=2) {
                let service = dice.number(1..=3);
                let namespace = if service == 3 { ", namespace: other" } else { "" };
                let _ =
                    writeln!(text, "    - {{name: s{service}{namespace}, port: 80, weight: {}}}", dice.number(0..=3));
            }
            text
        }
        (_, 's') => format!(
            "apiVersion: v1\nkind: Service\n{}\nspec: {{ports: [{{port: 80, protocol: TCP}}]}}\n",
            meta(thing, if number == 3 { "other" } else { "default" }, 1)
        ),
        (_, _) => {
            let namespace = if number == 3 { "other" } else { "default" };
            let endpoints: Vec<String> = (0..dice.number(0..=2))
                .map(|_| format!("{{addresses: [10.0.{number}.{}]}}", dice.number(1..=9)))
                .collect();
            format!(
                "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {thing}, namespace: {namespace}, \
                 labels: {{kubernetes.io/service-name: s{number}}}}}\naddressType: IPv4\nports: [{{name: '', port: 8080, \
                 protocol: TCP}}]\nendpoints: [{}]\n",
                endpoints.join(", ")
            )
        }
    }
}

/// One variant of a thing, read.
pub(crate) fn draw(thing: &str, dice: &Dice) -> (ObjectRef, Observed) {
    let text = yaml(thing, dice);
    read(&text).unwrap_or_else(|| panic!("cannot read {text}"))
}

/// What a thing is called, in all its variants.
pub(crate) fn name(thing: &str) -> ObjectRef {
    static NAMES: OnceLock<BTreeMap<&str, ObjectRef>> = OnceLock::new();
    let names = NAMES.get_or_init(|| THINGS.iter().map(|thing| (*thing, draw(thing, &Dice::new(0)).0)).collect());
    names.get(thing).cloned().unwrap_or_else(|| panic!("there is no {thing}"))
}

/// Reads one object. Its namespace is told besides, and is not what is asked for.
fn read(text: &str) -> Option<(ObjectRef, Observed)> {
    let file = File { path: "object.yaml".into(), text: text.to_owned() };
    let manifests = Manifests::of(&[file], CONTROLLER).ok()?;
    let asked = |kind: &Kind| *kind != Kind::Namespace || text.contains("kind: Namespace");
    manifests.objects.into_iter().filter(|(kind, _)| asked(kind)).find_map(|(kind, objects)| {
        let object = objects.into_iter().next()?;
        Some((ObjectRef::new(kind, object.name), object.observed))
    })
}
