//! What a status says, in the form `True/Accepted`.
//!
//! In: an object as the API server shows it. Out: whether its conditions say what is expected, about the object as it is now:
//! an `observedGeneration` that lags behind is as if nothing was said.

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// Our own condition of a route at a parent.
pub(crate) const PROGRAMMED: &str = "apisix-etcd.io/Programmed";

/// Text at a JSON pointer; empty if there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The elements of the list at a JSON pointer; none if there is none.
pub(crate) fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether the conditions of `part` of `object` say `claims`: types with `STATUS/REASON`.
pub(crate) fn says(object: &Value, part: &Value, claims: &[(&str, &str)]) -> anyhow::Result<()> {
    let generation = object.pointer("/metadata/generation").context("an object has a generation")?;
    for (kind, claim) in claims {
        let condition = condition(part, kind)?;
        let said = format!("{}/{}", text(condition, "/status"), text(condition, "/reason"));
        ensure!(
            said == *claim && condition["observedGeneration"] == *generation,
            "generation {generation}, {condition}"
        );
    }
    Ok(())
}

/// The condition of a type.
pub(crate) fn condition<'a>(part: &'a Value, kind: &str) -> anyhow::Result<&'a Value> {
    let conditions = items(part, "/conditions");
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    found.with_context(|| format!("no condition {kind} in {part}"))
}

/// The message of a condition.
pub(crate) fn message<'a>(part: &'a Value, kind: &str) -> anyhow::Result<&'a str> {
    condition(part, kind).map(|condition| text(condition, "/message"))
}

/// The entry of a controller for a parentRef of that `sectionName` in a route's status.
pub(crate) fn entry<'a>(route: &'a Value, controller_name: &str, section_name: &str) -> anyhow::Result<&'a Value> {
    let ours = |entry: &&Value| {
        entry["controllerName"] == controller_name && text(entry, "/parentRef/sectionName") == section_name
    };
    let found = items(route, "/status/parents").iter().find(ours);
    found.with_context(|| format!("no entry of {controller_name} for {section_name} in {}", route["status"]))
}

/// The status of a Gateway's listener.
pub(crate) fn listener<'a>(gateway: &'a Value, name: &str) -> anyhow::Result<&'a Value> {
    let found = items(gateway, "/status/listeners").iter().find(|listener| listener["name"] == name);
    found.with_context(|| format!("no listener {name} in {}", gateway["status"]))
}
