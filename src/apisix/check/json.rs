//! Any JSON against everything that a data plane of one version holds a document to.

pub use super::{
    release::{Release, ReleaseError},
    rule::Refusal,
};

use super::{
    fields, meaning,
    rule::{At, Shape, check, shape},
};
use serde_json::{Map, Value};

/// What kind of document it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentKind {
    /// A value of the directory `stream_routes`.
    StreamRoute,
    /// A value of the directory `upstreams`.
    Upstream,
    /// A value of the directory `ssls`.
    Ssl,
}

/// Refuses `value`, the bytes as they would stand in etcd, unless every data plane of `release` takes them and does
/// with them what they say.
pub fn document(kind: DocumentKind, release: Release, value: &[u8]) -> Result<(), Refusal> {
    let refuse = |why: &str| Refusal::new(At::Top, why);
    if value.trim_ascii().is_empty() {
        return Err(refuse("is empty, which APISIX takes for a deletion"));
    }
    let text = str::from_utf8(value).map_err(|_| refuse("is not UTF-8"))?;
    let value: Value = serde_json::from_str(text).map_err(|error| refuse(&unreadable(&error)))?;
    let empty = Map::new();
    let fields = match shape(&value) {
        Shape::Table(fields) => fields,
        Shape::Empty => &empty,
        Shape::List(_) | Shape::Other => return Err(refuse("is not a JSON object")),
    };
    match kind {
        DocumentKind::StreamRoute => {
            check(&fields::STREAM_ROUTE, &value, release, At::Top)?;
            meaning::stream_route(fields, release)
        }
        DocumentKind::Upstream => {
            check(&fields::UPSTREAM, &value, release, At::Top)?;
            meaning::upstream(fields, release)
        }
        DocumentKind::Ssl => {
            check(&fields::SSL, &value, release, At::Top)?;
            meaning::ssl(fields, release)
        }
    }
}

/// Where it stops being JSON. What the parser quotes of the document is left out, for it may be a key.
fn unreadable(error: &serde_json::Error) -> String {
    let column = error.column();
    match error.classify() {
        serde_json::error::Category::Eof => format!("is no whole JSON document: it ends at character {column}"),
        serde_json::error::Category::Syntax | serde_json::error::Category::Data | serde_json::error::Category::Io => {
            format!(
                "is no JSON that can be read, from character {column} on (or nested deeper than 128, or a number too large)"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn route(release: &str, fields: &str) -> Result<(), String> {
        let value = format!(r#"{{"server_port":9100,"upstream_id":"u",{fields}}}"#);
        document(DocumentKind::StreamRoute, release.parse().unwrap(), value.as_bytes()).map_err(|why| why.to_string())
    }

    #[track_caller]
    fn upstream(release: &str, fields: &str) -> Result<(), String> {
        let value = format!(r#"{{"nodes":[],{fields}}}"#);
        document(DocumentKind::Upstream, release.parse().unwrap(), value.as_bytes()).map_err(|why| why.to_string())
    }

    #[test]
    fn a_field_is_there_in_its_releases_only_and_the_refusal_says_which() {
        assert_eq!(route("3.13", r#""name":"a""#), Ok(()));
        assert_eq!(
            route("3.12", r#""name":"a""#),
            Err(r#"APISIX 3.12.0 has no field "name" here: it is there from 3.13.0 to before 3.15.0"#.to_owned())
        );
        assert_eq!(route("3.5", r#""name":5"#), Ok(()), "unknown fields are not looked at before 3.6");
        assert!(route("3.18", r#""tls_passthrough":true"#).is_err());
        assert_eq!(route("3.19", r#""tls_passthrough":true,"sni":"A.b""#), Ok(()));
        assert!(route("3.19", r#""sni":"a","snis":["b"]"#).is_err());
        assert!(route("3.18", r#""protocol":{"name":"redis"}"#).unwrap_err().contains("xRPC"));
    }

    #[test]
    fn an_empty_list_is_an_empty_object_and_null_is_neither() {
        for empty in ["[]", "{}"] {
            assert_eq!(route("3.13", &format!(r#""labels":{empty},"plugins":{empty}"#)), Ok(()));
        }
        for settings in ["ip-restriction", "limit-conn", "syslog"] {
            assert!(route("3.13", &format!(r#""plugins":{{"{settings}":[]}}"#)).is_err(), "{settings} needs more");
        }
        assert!(upstream("3.13", r#""timeout":[]"#).is_err());
        assert!(route("3.13", r#""labels":null"#).is_err());
        assert!(route("3.13", r#""labels":[1]"#).is_err());
        assert_eq!(upstream("3.13", r#""retries":2.0"#), Ok(()));
        assert!(upstream("3.13", r#""retries":2.5"#).is_err());
    }

    #[test]
    fn a_route_that_would_take_everything_is_refused() {
        let everything = br#"{"upstream_id":"u"}"#;
        let refused = document(DocumentKind::StreamRoute, "3.13".parse().unwrap(), everything).unwrap_err();
        assert!(refused.to_string().contains("every port"), "{refused}");
    }

    #[test]
    fn an_inline_upstream_is_held_to_what_a_document_is_held_to() {
        let inline = |upstream: &str| route("3.16", &format!(r#""upstream":{upstream}"#));
        assert_eq!(inline(r#"{"type":"roundrobin","nodes":[]}"#), Ok(()), "a slot that is closed");
        assert!(inline(r#"{"type":"chash","nodes":[]}"#).unwrap_err().starts_with("upstream: lacks key"));
        let v6 = r#"{"nodes":[{"host":"::1","port":1,"weight":1}]}"#;
        assert!(inline(v6).unwrap_err().starts_with("upstream.nodes[0]: must have its IPv6 address in brackets"));
        assert_eq!(route("3.18", &format!(r#""upstream":{v6}"#)), Ok(()));
        assert_eq!(upstream("3.15", &v6[1..v6.len() - 1]), Ok(()));
    }

    #[test]
    fn a_share_is_split_off_only_where_apisix_does_so() {
        let split = |release, share: &str| {
            let rules = format!(r#"[{{"weighted_upstreams":[{share},{{"weight":7}}]}}]"#);
            route(release, &format!(r#""plugins":{{"traffic-split":{{"rules":{rules}}}}}"#))
        };
        let empty = r#"{"upstream":{"type":"roundrobin","nodes":[]},"weight":3}"#;
        assert!(split("3.13", empty).unwrap_err().contains("no stream plugin \"traffic-split\""));
        assert_eq!(split("3.14", empty), Ok(()));
        assert!(split("3.16", r#"{"upstream_id":"a"}"#).is_err());
        assert_eq!(split("3.18", r#"{"upstream_id":"a"}"#), Ok(()));
    }

    #[test]
    fn settings_of_a_plugin_that_is_turned_off_are_looked_at() {
        let refused = route("3.18", r#""plugins":{"mqtt-proxy":{"_meta":{"disable":true}}}"#).unwrap_err();
        assert_eq!(refused, "plugins.mqtt-proxy: lacks protocol_level");
    }

    #[test]
    fn names_in_a_refusal_stay_on_its_line() {
        let refused = route("3.13", r#""labels":{"a\nb":5}"#).unwrap_err();
        assert_eq!(
            refused,
            r#"labels["a\nb"]: is 5, must be a text of 1 to 256 characters that is without white space"#
        );
        let long = format!(r#""{}":1"#, "x".repeat(500));
        assert!(route("3.13", &long).unwrap_err().len() < 200);
    }
}
