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
