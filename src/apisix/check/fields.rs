//! The fields of APISIX's documents, as data: names, types, bounds, and in which releases.
//!
//! Taken from `apisix/schema_def.lua` and the plugins of each release from 3.2.2 to 3.18.0, and written in our own
//! words. What is said of 3.19 was read in changes that are merged for it, not in a release. Defaults are not here: a
//! data plane fills them in itself, and none makes a document good or bad.

mod plugins;
mod ssl;
mod upstream;

use super::{
    forms::Form,
    release::Span,
    rule::{Field, List, Range, Rule, Table, Text, UNBOUNDED, field, field_in},
};

pub(super) use plugins::plugin;
pub(super) use ssl::SSL;
pub(super) use upstream::UPSTREAM;

const CLOSED: Span = Span::since(6);

const fn text(least: usize, most: usize, form: Form) -> Rule {
    Rule::Text(Text { least, most, form })
}

const fn at_least(least: f64) -> Range {
    Range { least: Some(least), ..UNBOUNDED }
}

const fn above(above: f64) -> Range {
    Range { above: Some(above), ..UNBOUNDED }
}

const fn from_to(least: f64, most: f64) -> Range {
    Range { least: Some(least), most: Some(most), ..UNBOUNDED }
}

static ANY_TEXT: Rule = text(0, usize::MAX, Form::Any);
static BOOLEAN: Rule = Rule::Boolean;
static INTEGER: Rule = Rule::Integer(UNBOUNDED);
static NUMBER: Rule = Rule::Number(UNBOUNDED);
static COUNT: Rule = Rule::Integer(at_least(0.0));
static POSITIVE: Rule = Rule::Integer(at_least(1.0));
static PORT: Rule = Rule::Integer(from_to(1.0, 65535.0));
static ANY_TABLE: Rule = table(&[]);
static ANY_LIST: Rule = list(&Rule::Any);

static ID: Rule = Rule::Either(&[text(1, 64, Form::Id), Rule::Integer(at_least(1.0))]);
static NAME: Rule = text(1, 256, Form::Any);
static NAME_BEFORE_15: Rule = text(1, 100, Form::Any);
static DESC: Rule = text(0, 256, Form::Any);
static LABELS: Rule = Rule::Map(&LABEL);
static LABEL: Rule = text(1, 256, Form::Solid);
static LABELS_BEFORE_4: Rule = Rule::Map(&LABEL_BEFORE_4);
static LABEL_BEFORE_4: Rule = text(1, 64, Form::Solid);
static HOST: Rule = text(0, usize::MAX, Form::HostOrAll);
static HOST_BEFORE_15: Rule = text(0, usize::MAX, Form::Host);
static ADDRESS: Rule = text(0, usize::MAX, Form::Cidr);

/// Any other field is let through.
const fn table(fields: &'static [Field]) -> Rule {
    Rule::Table(Table { fields, required: &[], closed: None })
}

const fn list(each: &'static Rule) -> Rule {
    Rule::List(List { each, least: 0, most: usize::MAX, unique: false })
}

/// `protocol` needs xRPC protocols in the data plane's own configuration, and there are none by default.
const NO_XRPC: &str = "xRPC protocols must be configured in the data plane, and whether they are is not known here";

/// `stream_route`.
pub(super) static STREAM_ROUTE: Rule = Rule::Table(Table {
    fields: &[
        field("id", &ID),
        field_in(Span::between(13, 15), "name", &NAME_BEFORE_15),
        field_in(Span::since(15), "name", &NAME),
        field("desc", &DESC),
        field_in(Span::since(8), "labels", &LABELS),
        field("create_time", &INTEGER),
        field("update_time", &INTEGER),
        field("remote_addr", &ADDRESS),
        field("server_addr", &ADDRESS),
        field_in(Span::before(10), "server_port", &INTEGER),
        field_in(Span::since(10), "server_port", &PORT),
        field_in(Span::before(15), "sni", &HOST_BEFORE_15),
        field_in(Span::since(15), "sni", &HOST),
        field_in(Span::since(19), "snis", &SNIS),
        field_in(Span::since(19), "tls_passthrough", &BOOLEAN),
        field("upstream", &UPSTREAM),
        field("upstream_id", &ID),
        field_in(Span::since(7), "service_id", &ID),
        // What is inside is looked at plugin by plugin.
        field("plugins", &ANY_TABLE),
        field("protocol", &Rule::Never(NO_XRPC)),
    ],
    required: &[],
    closed: Some(CLOSED),
});

static SNIS: Rule = Rule::List(List { each: &HOST, least: 1, most: usize::MAX, unique: false });
