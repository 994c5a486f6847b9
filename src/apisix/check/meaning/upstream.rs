//! What an upstream means: where its nodes are, how it is hashed, and its client certificate.

use super::{
    super::{
        certificates,
        forms::Form,
        release::{Release, Span},
        rule::{At, Refusal, Rule, Shape, Text, check, quoted, shape},
    },
    Fields, list, table, text,
};
use serde_json::Value;
use std::{collections::BTreeSet, net::Ipv6Addr};

/// Data planes bracket IPv6 themselves from here on: first in documents, later everywhere.
const BRACKETS_UPSTREAMS: Span = Span::since(15);
const BRACKETS_ALL: Span = Span::since(18);

/// This release alone lacks `mqtt_client_id`.
const NO_MQTT: Span = Span::between(3, 4);

/// APISIX has more, which fail with every connection of a stream, and calls whatever it is given a module's name.
const TYPES: &[&str] = &["roundrobin", "chash", "least_conn"];

/// An upstream inside another document. APISIX itself looks at its fields only; whatever is wrong shows with the first
/// connection, so it is held to what a document is held to.
pub(super) fn inline(value: &Value, release: Release, at: At<'_>) -> Result<(), Refusal> {
    match shape(value) {
        Shape::Table(fields) => of(fields, release, at, BRACKETS_ALL.has(release)),
        Shape::Empty | Shape::List(_) | Shape::Other => Err(Refusal::new(at, NO_SOURCE)),
    }
}

/// An upstream that is a document.
pub(in super::super) fn upstream(fields: &Fields, release: Release) -> Result<(), Refusal> {
    of(fields, release, At::Top, BRACKETS_UPSTREAMS.has(release))
}

const NO_SOURCE: &str = "must have either nodes, or service_name and discovery_type";

fn of(fields: &Fields, release: Release, at: At<'_>, brackets: bool) -> Result<(), Refusal> {
    let refuse = |name, why: &str| Err(Refusal::new(At::Field(&at, name), why));
    let discovered = fields.contains_key("service_name") && fields.contains_key("discovery_type");
    if fields.contains_key("nodes") == discovered {
        return Err(Refusal::new(at, NO_SOURCE));
    }
    if let Some(kind) = text(fields, "type").filter(|kind| !TYPES.contains(kind)) {
        let kind = quoted(kind);
        return refuse("type", &format!("{kind} cannot balance streams: only {} can", TYPES.join(", ")));
    }
    if text(fields, "pass_host") == Some("rewrite") && text(fields, "upstream_host").unwrap_or_default().is_empty() {
        return refuse("upstream_host", "must be there when pass_host is rewrite");
    }
    check_hash(fields, release, at)?;
    if let Some(tls) = table(fields, "tls") {
        check_tls(tls, At::Field(&at, "tls"))?;
    }
    let at = At::Field(&at, "nodes");
    match fields.get("nodes").map(shape) {
        Some(Shape::Table(weights)) => check_weights(weights, at),
        Some(Shape::List(_)) => check_nodes(list(fields, "nodes"), brackets, at),
        // No nodes: whoever comes is refused, as it should be.
        Some(Shape::Empty | Shape::Other) | None => Ok(()),
    }
}

fn check_hash(fields: &Fields, release: Release, at: At<'_>) -> Result<(), Refusal> {
    if text(fields, "type") != Some("chash") {
        return Ok(());
    }
    let variable = if NO_MQTT.has(release) { Form::VariableOf33 } else { Form::Variable };
    let form = match text(fields, "hash_on") {
        Some("consumer") => return Ok(()),
        Some("header" | "cookie") => Form::Header,
        Some("vars_combinations") => Form::Any,
        Some(_) | None => variable,
    };
    match fields.get("key") {
        None => Err(Refusal::new(at, "lacks key, which type chash needs")),
        Some(key) => {
            let rule = Rule::Text(Text { least: 0, most: usize::MAX, form });
            check(&rule, key, release, At::Field(&at, "key"))
        }
    }
}

fn check_tls(tls: &Fields, at: At<'_>) -> Result<(), Refusal> {
    match (text(tls, "client_cert"), text(tls, "client_key")) {
        (None, None) => Ok(()),
        (Some(_), Some(_)) if tls.contains_key("client_cert_id") => {
            Err(Refusal::new(at, "has client_cert_id beside client_cert and client_key"))
        }
        (Some(certificate), Some(key)) => {
            certificates::check_pair(certificate, key).map_err(|fault| Refusal::new(at, fault.to_string()))
        }
        (Some(_), None) => Err(Refusal::new(at, "has client_cert without client_key")),
        (None, Some(_)) => Err(Refusal::new(at, "has client_key without client_cert")),
    }
}

const NO_BRACKETS: &str = "must have its IPv6 address in brackets: data planes before 3.15 (3.18 inside other documents) put the \
                           port behind it as it is";
const NO_PORT: &str = "has no port, and a stream needs one";
const ALL_ZERO: &str = "all have the weight 0, which APISIX does not take for \"no connections\"";

fn check_nodes(nodes: &[Value], brackets: bool, at: At<'_>) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    let mut weighs = false;
    for (i, node) in nodes.iter().filter_map(Value::as_object).enumerate() {
        let at = At::Item(&at, i);
        let host = text(node, "host").unwrap_or_default();
        if host.parse::<Ipv6Addr>().is_ok() && !brackets {
            return Err(Refusal::new(at, NO_BRACKETS));
        }
        let Some(port) = whole(node, "port") else { return Err(Refusal::new(at, NO_PORT)) };
        let priority = whole(node, "priority").unwrap_or_default();
        if !seen.insert((priority, host, port)) {
            return Err(Refusal::new(at, "has the host and port of one before it, and would take its place"));
        }
        weighs |= whole(node, "weight") != Some(0);
    }
    if weighs { Ok(()) } else { Err(Refusal::new(at, ALL_ZERO)) }
}

/// A whole number, cut off where it is larger than any that matters.
#[expect(clippy::cast_possible_truncation, reason = "a number that does not fit is cut to the nearest that does")]
fn whole(fields: &Fields, name: &str) -> Option<i64> {
    fields.get(name)?.as_f64().map(|number| number as i64)
}

fn check_weights(weights: &Fields, at: At<'_>) -> Result<(), Refusal> {
    for address in weights.keys() {
        let wrong = || Refusal::new(At::Field(&at, address), "is no HOST:PORT with a port from 1 to 65535");
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let host_fits = Form::Host.fits(host) && !host.contains(':') || is_bracketed_ipv6(host);
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        if !host_fits || !digits || !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err(wrong());
        }
    }
    let weighs = weights.keys().any(|address| whole(weights, address) != Some(0));
    if weighs { Ok(()) } else { Err(Refusal::new(at, ALL_ZERO)) }
}

fn is_bracketed_ipv6(host: &str) -> bool {
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inside.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}
