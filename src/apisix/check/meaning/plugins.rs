//! What the settings of stream plugins mean.
//!
//! Settings are looked at also of a plugin that `_meta.disable` turns off: since 3.18 APISIX forgives those, before it
//! does not, and settings that nobody could turn on again help nobody.

use super::{
    super::{
        fields,
        release::{Release, Span},
        rule::{At, Refusal, check, quoted},
    },
    Fields, expression, list,
    upstream::inline,
};
use serde_json::Value;

/// Before, a share of a split that names its upstream goes to the route's own.
const SPLITS_BY_ID: Span = Span::since(18);

pub(super) fn plugins(plugins: &Fields, release: Release, at: At<'_>) -> Result<(), Refusal> {
    for (name, settings) in plugins {
        let Some(rule) = fields::plugin(name, release) else {
            let name = quoted(name);
            let why = format!("APISIX {release} comes with no stream plugin {name}; one that it lacks is passed over");
            return Err(Refusal::new(at, why));
        };
        let at = At::Field(&at, name);
        check(rule, settings, release, at)?;
        let none = Fields::new();
        let settings = settings.as_object().unwrap_or(&none);
        match &**name {
            "ip-restriction" => check_restriction(settings, at)?,
            "traffic-split" => check_split(settings, release, at)?,
            _ => {}
        }
    }
    Ok(())
}

fn check_restriction(settings: &Fields, at: At<'_>) -> Result<(), Refusal> {
    match (settings.contains_key("whitelist"), settings.contains_key("blacklist")) {
        (true, true) => Err(Refusal::new(at, "has both whitelist and blacklist")),
        (false, false) => Err(Refusal::new(at, "has neither whitelist nor blacklist")),
        (true, false) | (false, true) => Ok(()),
    }
}

fn check_split(settings: &Fields, release: Release, at: At<'_>) -> Result<(), Refusal> {
    let at = At::Field(&at, "rules");
    for (i, rule) in list(settings, "rules").iter().enumerate() {
        let Some(rule) = rule.as_object() else { continue };
        let at = At::Item(&at, i);
        for (i, matched) in list(rule, "match").iter().enumerate() {
            let at = At::Field(&at, "match");
            check_match(matched, At::Item(&at, i))?;
        }
        for (i, share) in list(rule, "weighted_upstreams").iter().enumerate() {
            let at = At::Field(&at, "weighted_upstreams");
            check_share(share, release, At::Item(&at, i))?;
        }
    }
    Ok(())
}

fn check_match(matched: &Value, at: At<'_>) -> Result<(), Refusal> {
    match matched.get("vars") {
        None => Err(Refusal::new(at, "lacks vars")),
        Some(vars) => expression::check(vars).map_err(|why| Refusal::new(At::Field(&at, "vars"), why)),
    }
}

fn check_share(share: &Value, release: Release, at: At<'_>) -> Result<(), Refusal> {
    if share.get("upstream_id").is_some() && !SPLITS_BY_ID.has(release) {
        let why =
            format!("APISIX {release} gives this share to the route's own upstream: only one that stands here counts");
        return Err(Refusal::new(At::Field(&at, "upstream_id"), why));
    }
    match share.get("upstream") {
        Some(upstream) => inline(upstream, release, At::Field(&at, "upstream")),
        None => Ok(()),
    }
}
