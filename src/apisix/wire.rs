//! The fields of `stream_route`, `upstream` and `ssl` documents, in the order in which they are written: the shape of their JSON.
//!
//! Only what this controller writes; names and types are those of `apisix/schema_def.lua`.

use serde::Serialize;
use std::borrow::Cow;

#[derive(Serialize)]
pub(super) struct StreamRoute<'a> {
    pub(super) id: &'a str,
    pub(super) desc: String,
    pub(super) server_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sni: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls_passthrough: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) upstream: Option<EmptyUpstream>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) upstream_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) plugins: Option<Plugins>,
}

#[derive(Serialize)]
pub(super) struct Plugins {
    #[serde(rename = "traffic-split")]
    pub(super) traffic_split: TrafficSplit,
}

#[derive(Serialize)]
pub(super) struct TrafficSplit {
    pub(super) rules: [SplitRule; 1],
}

#[derive(Serialize)]
pub(super) struct SplitRule {
    pub(super) weighted_upstreams: [WeightedUpstream; 2],
}

#[derive(Serialize)]
pub(super) struct WeightedUpstream {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) upstream: Option<EmptyUpstream>,
    pub(super) weight: u32,
}

/// Inline, because data planes before 3.18 ignore an `upstream_id` here.
#[derive(Serialize)]
pub(super) struct EmptyUpstream {
    pub(super) r#type: &'static str,
    pub(super) nodes: [UpstreamNode; 0],
}

#[derive(Serialize)]
pub(super) struct Upstream<'a> {
    pub(super) id: &'a str,
    pub(super) desc: String,
    pub(super) r#type: &'static str,
    pub(super) scheme: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retries: Option<u32>,
    pub(super) nodes: Vec<UpstreamNode>,
}

#[derive(Serialize)]
pub(super) struct UpstreamNode {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) weight: u32,
}

#[derive(Serialize)]
pub(super) struct Ssl<'a> {
    pub(super) id: &'a str,
    pub(super) desc: String,
    pub(super) snis: [&'a str; 1],
    pub(super) cert: &'a str,
    pub(super) key: Cow<'a, str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) certs: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) keys: Vec<Cow<'a, str>>,
}
