//! The fields of `ssl`: certificates, and the names that they are shown for.

use super::{
    super::{
        forms::Form,
        release::Span,
        rule::{List, Rule, Table, Text, field, field_in, required},
    },
    ANY_TEXT, CLOSED, COUNT, DESC, HOST, HOST_BEFORE_15, ID, INTEGER, LABELS, LABELS_BEFORE_4, at_least, list, text,
};

const PEM_MOST: usize = 64 * 1024;

const CERTIFICATE_TEXT: Rule = text(128, PEM_MOST, Form::Any);
const KEY_TEXT_BEFORE_17: Rule = text(128, PEM_MOST, Form::Any);
const REFERENCE: Rule = Rule::Text(Text { least: 0, most: usize::MAX, form: Form::Reference });
const REFERENCE_OR_ENV: Rule = Rule::Text(Text { least: 0, most: usize::MAX, form: Form::ReferenceOrEnv });

pub(super) static CERTIFICATE: Rule = CERTIFICATE_TEXT;
/// An Ed25519 key is shorter than that.
pub(super) static KEY_BEFORE_17: Rule = KEY_TEXT_BEFORE_17;
pub(super) static KEY: Rule = text(64, PEM_MOST, Form::Any);

// Exactly one, so a reference of 128 characters or more is refused. Since 3.17 a reference is meant to skip the bounds of
// its field. That comes with a release of the validator that was not read, so the bounds hold here.
static CERTIFICATE_OR_REFERENCE: Rule = Rule::OneOf(&[CERTIFICATE_TEXT, REFERENCE]);
static KEY_OR_REFERENCE: Rule = Rule::OneOf(&[KEY_TEXT_BEFORE_17, REFERENCE]);
static CERTIFICATE_OR_REFERENCE_OR_ENV: Rule = Rule::OneOf(&[CERTIFICATE_TEXT, REFERENCE_OR_ENV]);
static KEY_OR_REFERENCE_OR_ENV: Rule = Rule::OneOf(&[KEY_TEXT_BEFORE_17, REFERENCE_OR_ENV]);

static CERTIFICATES: Rule = list(&CERTIFICATE);
static CERTIFICATES_OR_REFERENCES: Rule = list(&CERTIFICATE_OR_REFERENCE_OR_ENV);
static KEYS_BEFORE_17: Rule = list(&KEY_BEFORE_17);
static KEYS: Rule = list(&KEY);
static KEYS_OR_REFERENCES: Rule = list(&KEY_OR_REFERENCE_OR_ENV);
static SNIS: Rule = Rule::List(List { each: &HOST, least: 1, most: usize::MAX, unique: false });
static SNIS_BEFORE_15: Rule = Rule::List(List { each: &HOST_BEFORE_15, least: 1, most: usize::MAX, unique: false });
static PROTOCOLS: Rule = Rule::List(List { each: &PROTOCOL, least: 0, most: 3, unique: true });
static PROTOCOL: Rule = Rule::Word(&["TLSv1.1", "TLSv1.2", "TLSv1.3"]);
static URI_PATTERNS: Rule = Rule::List(List { each: &ANY_TEXT, least: 1, most: usize::MAX, unique: true });
/// 2020-05-01.
static EXPIRY: Rule = Rule::Integer(at_least(1_588_262_400.0));

/// `ssl`.
pub(in super::super) static SSL: Rule = Rule::Table(Table {
    fields: &[
        field("id", &ID),
        field_in(Span::since(13), "desc", &DESC),
        field_in(Span::before(4), "labels", &LABELS_BEFORE_4),
        field_in(Span::since(4), "labels", &LABELS),
        field("create_time", &INTEGER),
        field("update_time", &INTEGER),
        field("type", &Rule::Word(&["server", "client"])),
        field_in(Span::before(3), "cert", &CERTIFICATE),
        field_in(Span::between(3, 10), "cert", &CERTIFICATE_OR_REFERENCE),
        field_in(Span::between(10, 17), "cert", &CERTIFICATE_OR_REFERENCE_OR_ENV),
        field_in(Span::since(17), "cert", &CERTIFICATE),
        field_in(Span::before(3), "key", &KEY_BEFORE_17),
        field_in(Span::between(3, 10), "key", &KEY_OR_REFERENCE),
        field_in(Span::between(10, 17), "key", &KEY_OR_REFERENCE_OR_ENV),
        field_in(Span::since(17), "key", &KEY),
        field_in(Span::before(10), "certs", &CERTIFICATES),
        field_in(Span::between(10, 17), "certs", &CERTIFICATES_OR_REFERENCES),
        field_in(Span::since(17), "certs", &CERTIFICATES),
        field_in(Span::before(10), "keys", &KEYS_BEFORE_17),
        field_in(Span::between(10, 17), "keys", &KEYS_OR_REFERENCES),
        field_in(Span::since(17), "keys", &KEYS),
        field_in(Span::before(15), "sni", &HOST_BEFORE_15),
        field_in(Span::since(15), "sni", &HOST),
        field_in(Span::before(15), "snis", &SNIS_BEFORE_15),
        field_in(Span::since(15), "snis", &SNIS),
        field("client", &CLIENT),
        field("status", &Rule::Figure(&[1, 0])),
        field_in(Span::since(5), "ssl_protocols", &PROTOCOLS),
        field_in(Span::before(7), "exptime", &EXPIRY),
        field_in(Span::before(7), "validity_start", &INTEGER),
        field_in(Span::before(7), "validity_end", &INTEGER),
    ],
    required: &[required("cert"), required("key")],
    closed: Some(CLOSED),
});

static CLIENT: Rule = Rule::Table(Table {
    fields: &[
        field("ca", &CERTIFICATE),
        field("depth", &COUNT),
        field_in(Span::since(4), "skip_mtls_uri_regex", &URI_PATTERNS),
    ],
    required: &[required("ca")],
    closed: None,
});
