//! The fields of `upstream`, which also stands inside stream_routes and inside `traffic-split`.

use super::{
    super::{
        forms::Form,
        release::Span,
        rule::{List, Required, Rule, Table, field, field_in, required},
    },
    ANY_TABLE, ANY_TEXT, BOOLEAN, CLOSED, COUNT, DESC, HOST, HOST_BEFORE_15, ID, INTEGER, LABELS, LABELS_BEFORE_4,
    NAME, NAME_BEFORE_15, NUMBER, PORT, POSITIVE, above, at_least, from_to, list,
    ssl::{CERTIFICATE, KEY, KEY_BEFORE_17},
    table, text,
};

/// `upstream`.
pub(in super::super) static UPSTREAM: Rule = Rule::Table(Table {
    fields: &[
        field("id", &ID),
        field_in(Span::before(15), "name", &NAME_BEFORE_15),
        field_in(Span::since(15), "name", &NAME),
        field("desc", &DESC),
        field_in(Span::before(4), "labels", &LABELS_BEFORE_4),
        field_in(Span::since(4), "labels", &LABELS),
        field("create_time", &INTEGER),
        field("update_time", &INTEGER),
        field("nodes", &NODES),
        field("retries", &COUNT),
        field("retry_timeout", &AT_LEAST_0),
        field("timeout", &TIMEOUT),
        field("tls", &TLS),
        field("keepalive_pool", &KEEPALIVE_POOL),
        field("type", &ANY_TEXT),
        field("checks", &CHECKS),
        field("hash_on", &Rule::Word(&["vars", "header", "cookie", "consumer", "vars_combinations"])),
        field("key", &ANY_TEXT),
        field("scheme", &Rule::Word(&["grpc", "grpcs", "http", "https", "tcp", "tls", "udp", "kafka"])),
        field("discovery_type", &ANY_TEXT),
        field("discovery_args", &DISCOVERY_ARGS),
        field("pass_host", &Rule::Word(&["pass", "node", "rewrite"])),
        field_in(Span::before(15), "upstream_host", &HOST_BEFORE_15),
        field_in(Span::since(15), "upstream_host", &HOST),
        field("service_name", &SERVICE_NAME),
    ],
    required: &[],
    closed: Some(CLOSED),
});

static AT_LEAST_0: Rule = Rule::Number(at_least(0.0));
static ABOVE_0: Rule = Rule::Number(above(0.0));
static SERVICE_NAME: Rule = text(1, 256, Form::Any);
static DISCOVERY_ARGS: Rule = table(&[field("namespace_id", &ANY_TEXT), field("group_name", &ANY_TEXT)]);

/// Weights by address, or nodes.
static NODES: Rule = Rule::TableOrList(&WEIGHTS, &NODE_LIST);
static WEIGHTS: Rule = Rule::Map(&COUNT);
static NODE_LIST: Rule = list(&NODE);

static NODE: Rule = Rule::Table(Table {
    fields: &[
        field_in(Span::before(15), "host", &HOST_BEFORE_15),
        field_in(Span::since(15), "host", &HOST),
        field_in(Span::before(10), "port", &POSITIVE),
        field_in(Span::since(10), "port", &PORT),
        field("weight", &COUNT),
        field("priority", &INTEGER),
        field("metadata", &ANY_TABLE),
    ],
    required: &[required("host"), required("weight"), Required { name: "port", span: Span::before(8) }],
    closed: None,
});

static TIMEOUT: Rule = Rule::Table(Table {
    fields: &[field("connect", &ABOVE_0), field("send", &ABOVE_0), field("read", &ABOVE_0)],
    required: &[required("connect"), required("send"), required("read")],
    closed: None,
});

static TLS: Rule = table(&[
    field("client_cert_id", &ID),
    field("client_cert", &CERTIFICATE),
    field_in(Span::before(17), "client_key", &KEY_BEFORE_17),
    field_in(Span::since(17), "client_key", &KEY),
    field("verify", &BOOLEAN),
]);

static KEEPALIVE_POOL: Rule =
    table(&[field("size", &POSITIVE), field("idle_timeout", &AT_LEAST_0), field("requests", &POSITIVE)]);

static CHECKS: Rule = Rule::Table(Table {
    fields: &[field("active", &ACTIVE), field("passive", &PASSIVE)],
    required: &[required("active")],
    closed: Some(Span::between(6, 14)),
});

static CHECK_TYPE: Rule = Rule::Word(&["http", "https", "tcp"]);
static METHOD: Rule =
    Rule::Word(&["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PURGE"]);
static STATUSES: Rule = Rule::List(List { each: &STATUS, least: 1, most: usize::MAX, unique: true });
static STATUS: Rule = Rule::Integer(from_to(200.0, 599.0));
/// How often something must happen before it counts, in active checks.
static TIMES: Rule = Rule::Integer(from_to(1.0, 254.0));
/// The same in passive checks, where 0 turns it off.
static TIMES_OR_0: Rule = Rule::Integer(from_to(0.0, 254.0));
static HEADERS: Rule = Rule::List(List { each: &ANY_TEXT, least: 1, most: usize::MAX, unique: false });

static ACTIVE: Rule = table(&[
    field("type", &CHECK_TYPE),
    field("timeout", &NUMBER),
    field("concurrency", &INTEGER),
    field_in(Span::before(15), "host", &HOST_BEFORE_15),
    field_in(Span::since(15), "host", &HOST),
    field("port", &PORT),
    field_in(Span::since(18), "http_method", &METHOD),
    field("http_path", &ANY_TEXT),
    field_in(Span::since(18), "http_req_body", &ANY_TEXT),
    field("https_verify_certificate", &BOOLEAN),
    field("healthy", &ACTIVE_HEALTHY),
    field("unhealthy", &ACTIVE_UNHEALTHY),
    field("req_headers", &HEADERS),
]);

static ACTIVE_HEALTHY: Rule =
    table(&[field("interval", &POSITIVE), field("http_statuses", &STATUSES), field("successes", &TIMES)]);

static ACTIVE_UNHEALTHY: Rule = table(&[
    field("interval", &POSITIVE),
    field("http_statuses", &STATUSES),
    field("http_failures", &TIMES),
    field("tcp_failures", &TIMES),
    field("timeouts", &TIMES),
]);

static PASSIVE: Rule =
    table(&[field("type", &CHECK_TYPE), field("healthy", &PASSIVE_HEALTHY), field("unhealthy", &PASSIVE_UNHEALTHY)]);

static PASSIVE_HEALTHY: Rule = table(&[field("http_statuses", &STATUSES), field("successes", &TIMES_OR_0)]);

static PASSIVE_UNHEALTHY: Rule = table(&[
    field("http_statuses", &STATUSES),
    field("tcp_failures", &TIMES_OR_0),
    field("timeouts", &TIMES_OR_0),
    field("http_failures", &TIMES_OR_0),
]);
