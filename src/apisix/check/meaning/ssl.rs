//! What a certificate document means: its certificates and keys can be used, and are for some name.

use super::{
    super::{
        certificates::{self, Fault},
        release::{Release, Span},
        rule::{At, Refusal},
    },
    Fields, list, table, text,
};
use serde_json::Value;

/// Since when a reference may stand in the place of `cert` and `key`, of those in `certs` and `keys`, and of `ca`.
const REFERENCES: Span = Span::since(3);
const REFERENCES_IN_LISTS: Span = Span::since(10);
const REFERENCED_AUTHORITIES: Span = Span::since(18);

pub(in super::super) fn ssl(fields: &Fields, release: Release) -> Result<(), Refusal> {
    let refuse = |why| Err(Refusal::new(At::Top, why));
    let of_client = text(fields, "type") == Some("client");
    if !of_client {
        match (fields.contains_key("sni"), fields.contains_key("snis")) {
            (true, true) => return refuse("has both sni and snis"),
            (false, false) => return refuse("has neither sni nor snis"),
            (true, false) | (false, true) => {}
        }
    }
    check_pair(text(fields, "cert"), text(fields, "key"), REFERENCES.has(release))
        .map_err(|fault| Refusal::new(At::Top, fault.to_string()))?;
    if of_client {
        return Ok(());
    }
    let (certs, keys) = (list(fields, "certs"), list(fields, "keys"));
    if certs.len() != keys.len() {
        return refuse("has not as many keys as certs");
    }
    for (i, (cert, key)) in certs.iter().zip(keys).enumerate() {
        let at = At::Field(&At::Top, "certs");
        check_pair(cert.as_str(), key.as_str(), REFERENCES_IN_LISTS.has(release))
            .map_err(|fault| Refusal::new(At::Item(&at, i), fault.to_string()))?;
    }
    let Some(authority) = table(fields, "client").and_then(|client| client.get("ca")).and_then(Value::as_str) else {
        return Ok(());
    };
    if is_reference(authority) && REFERENCED_AUTHORITIES.has(release) {
        return Ok(());
    }
    let at = At::Field(&At::Top, "client");
    certificates::check_chain(authority).map_err(|fault| Refusal::new(At::Field(&at, "ca"), fault.to_string()))
}

/// What can be looked at is: APISIX looks at neither when one of them is a reference.
fn check_pair(certificate: Option<&str>, key: Option<&str>, references: bool) -> Result<(), Fault> {
    let (certificate, key) = (certificate.unwrap_or_default(), key.unwrap_or_default());
    match (references && is_reference(certificate), references && is_reference(key)) {
        (true, true) => Ok(()),
        (true, false) => certificates::check_key(key),
        (false, true) => certificates::check_chain(certificate),
        (false, false) => certificates::check_pair(certificate, key),
    }
}

/// To a secret or to the environment. Which forms a release has, the field says.
fn is_reference(text: &str) -> bool {
    let env = text.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("$env://"));
    env || text.starts_with("$secret://")
}
