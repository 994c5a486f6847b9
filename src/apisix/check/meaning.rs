//! What fields mean together: the checks that APISIX makes in code, and documents that it accepts and then serves wrongly.
//!
//! Called once every field by itself is known to be good. Each refusal of the second sort says what APISIX would do.

mod expression;
mod plugins;
mod ssl;
mod upstream;

pub(super) use ssl::ssl;
pub(super) use upstream::upstream;

use super::{
    release::{Release, Span},
    rule::{At, Refusal, Shape, shape},
};
use serde_json::{Map, Value};

type Fields = Map<String, Value>;

/// The object at `name`; one without fields counts as not there.
fn table<'a>(fields: &'a Fields, name: &str) -> Option<&'a Fields> {
    match shape(fields.get(name)?) {
        Shape::Table(table) => Some(table),
        Shape::List(_) | Shape::Empty | Shape::Other => None,
    }
}

fn list<'a>(fields: &'a Fields, name: &str) -> &'a [Value] {
    match fields.get(name).map(shape) {
        Some(Shape::List(items)) => items,
        Some(Shape::Table(_) | Shape::Empty | Shape::Other) | None => &[],
    }
}

fn text<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.get(name)?.as_str()
}

/// APISIX takes away what it matched by in the matchers, and then fails.
const ADDRESSES_FAIL: Span = Span::between(7, 10);
/// There are lists of names, and a filter makes names lower-case.
const SNIS: Span = Span::since(19);

pub(super) fn stream_route(fields: &Fields, release: Release) -> Result<(), Refusal> {
    let at = |name| At::Field(&At::Top, name);
    let narrows = |name: &&str| fields.contains_key(*name) && (*name != "snis" || SNIS.has(release));
    if !["server_port", "sni", "snis", "remote_addr", "server_addr"].iter().any(narrows) {
        return Err(Refusal::new(At::Top, "has no server_port, so it would take the connections of every port"));
    }
    for name in ["remote_addr", "server_addr"].into_iter().filter(|name| fields.contains_key(*name)) {
        if ADDRESSES_FAIL.has(release) {
            return Err(Refusal::new(
                at(name),
                format!("APISIX {release} fails after the first connection that matched by it"),
            ));
        }
    }
    if let Some(sni) = text(fields, "sni") {
        check_sni(sni, release).map_err(|why| Refusal::new(at("sni"), why))?;
    }
    if fields.contains_key("sni") && fields.contains_key("snis") && SNIS.has(release) {
        return Err(Refusal::new(At::Top, "has both sni and snis"));
    }
    for (i, sni) in list(fields, "snis").iter().enumerate().filter(|_| SNIS.has(release)) {
        check_sni(sni.as_str().unwrap_or_default(), release)
            .map_err(|why| Refusal::new(At::Item(&at("snis"), i), why))?;
    }
    if let Some(inline) = fields.get("upstream") {
        upstream::inline(inline, release, at("upstream"))?;
    }
    if let Some(all) = table(fields, "plugins") {
        plugins::plugins(all, release, at("plugins"))?;
    }
    let serves = |name: &str| fields.contains_key(name);
    let splits = table(fields, "plugins").is_some_and(|plugins| plugins.contains_key("traffic-split"));
    if serves("upstream") || serves("upstream_id") || (serves("service_id") && SERVICES.has(release)) || splits {
        Ok(())
    } else {
        Err(Refusal::new(
            At::Top,
            "names no upstream, so its connections would be closed: an empty one says that openly",
        ))
    }
}

const SERVICES: Span = Span::since(7);

fn check_sni(sni: &str, release: Release) -> Result<(), String> {
    if sni.bytes().any(|byte| byte.is_ascii_uppercase()) && !SNIS.has(release) {
        return Err(format!("must be lower-case: APISIX {release} compares it with the lower-case name of the client"));
    }
    if sni.ends_with('.') {
        return Err("ends with '.', and the name of a client that it is compared with never does".to_owned());
    }
    Ok(())
}
