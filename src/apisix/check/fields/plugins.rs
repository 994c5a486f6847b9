//! The settings of the stream plugins that come with APISIX (`apisix/stream/plugins`).

use super::{
    super::{
        forms::Form,
        release::{Release, Span},
        rule::{Field, List, Required, Rule, Table, field, field_in, required},
    },
    ADDRESS, ANY_LIST, ANY_TABLE, ANY_TEXT, BOOLEAN, COUNT, ID, INTEGER, POSITIVE, UPSTREAM, above, at_least, from_to,
    list, table, text,
};

/// The settings of `name`, if `release` has such a stream plugin.
pub(in super::super) fn plugin(name: &str, release: Release) -> Option<&'static Rule> {
    PLUGINS.iter().find(|plugin| plugin.name == name && plugin.span.has(release)).map(|plugin| plugin.rule)
}

static PLUGINS: [Field; 6] = [
    field("ip-restriction", &IP_RESTRICTION),
    field("limit-conn", &LIMIT_CONN),
    field("mqtt-proxy", &MQTT_PROXY),
    field("prometheus", &PROMETHEUS),
    field("syslog", &SYSLOG),
    field_in(Span::since(14), "traffic-split", &TRAFFIC_SPLIT),
];

/// What every plugin takes, whatever else it does.
static META: Rule = Rule::Table(Table {
    fields: &[
        field("disable", &BOOLEAN),
        field("error_response", &ERROR_RESPONSE),
        field("priority", &INTEGER),
        field("filter", &ANY_LIST),
        field_in(Span::since(12), "pre_function", &ANY_TEXT),
    ],
    required: &[],
    closed: Some(Span::since(12)),
});

const ERROR_TEXT: Rule = text(0, usize::MAX, Form::Any);
static ERROR_RESPONSE: Rule = Rule::OneOf(&[ERROR_TEXT, table(&[])]);

// Which of the two lists there is, and what `match` says, is no matter of fields.
static IP_RESTRICTION: Rule = table(&[
    field("_meta", &META),
    field("message", &MESSAGE),
    field_in(Span::since(13), "response_code", &RESPONSE_CODE),
    field("whitelist", &ADDRESSES),
    field("blacklist", &ADDRESSES),
]);

static MESSAGE: Rule = text(1, 1024, Form::Any);
static RESPONSE_CODE: Rule = Rule::Integer(from_to(403.0, 404.0));
static ADDRESSES: Rule = Rule::List(List { each: &ADDRESS, least: 1, most: usize::MAX, unique: false });

static LIMIT_CONN: Rule = Rule::Table(Table {
    fields: &[
        field("_meta", &META),
        field("conn", &Rule::Integer(above(0.0))),
        field("burst", &COUNT),
        field("default_conn_delay", &Rule::Number(above(0.0))),
        field("only_use_default_delay", &BOOLEAN),
        field("key", &ANY_TEXT),
        field("key_type", &Rule::Word(&["var", "var_combination"])),
    ],
    required: &[required("conn"), required("burst"), required("default_conn_delay"), required("key")],
    closed: None,
});

static MQTT_PROXY: Rule = Rule::Table(Table {
    fields: &[field("_meta", &META), field("protocol_name", &ANY_TEXT), field("protocol_level", &INTEGER)],
    required: &[Required { name: "protocol_name", span: Span::before(15) }, required("protocol_level")],
    closed: None,
});

static PROMETHEUS: Rule = table(&[field("_meta", &META), field("prefer_name", &BOOLEAN)]);

static SYSLOG: Rule = Rule::Table(Table {
    fields: &[
        field("_meta", &META),
        field("host", &ANY_TEXT),
        field("port", &INTEGER),
        field("flush_limit", &POSITIVE),
        field("drop_limit", &INTEGER),
        field("timeout", &POSITIVE),
        field("log_format", &ANY_TABLE),
        field("sock_type", &Rule::Word(&["tcp", "udp"])),
        field("pool_size", &Rule::Integer(at_least(5.0))),
        field("tls", &BOOLEAN),
        field("name", &ANY_TEXT),
        field("max_retry_count", &COUNT),
        field("retry_delay", &COUNT),
        field("buffer_duration", &POSITIVE),
        field("inactive_timeout", &POSITIVE),
        field("batch_max_size", &POSITIVE),
    ],
    required: &[required("host"), required("port")],
    closed: None,
});

static TRAFFIC_SPLIT: Rule = table(&[field("_meta", &META), field("rules", &RULES)]);
static RULES: Rule = list(&RULE);
static RULE: Rule = table(&[field("match", &MATCHES), field("weighted_upstreams", &WEIGHTED_UPSTREAMS)]);
static MATCHES: Rule = list(&MATCH);
static MATCH: Rule = table(&[field("vars", &ANY_LIST)]);
static WEIGHTED_UPSTREAMS: Rule = Rule::List(List { each: &WEIGHTED_UPSTREAM, least: 1, most: 20, unique: false });
static WEIGHTED_UPSTREAM: Rule =
    table(&[field("upstream_id", &ID), field("upstream", &UPSTREAM), field("weight", &COUNT)]);
