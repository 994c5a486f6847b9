//! How APISIX's validator (`api7/jsonschema`) looks at a value: a rule and a value go in, the first thing that is wrong
//! comes out. The rules themselves are data, in [`super::fields`].
//!
//! As in Lua, an empty list and an empty table are one and the same, a number without a fraction is an integer, and null
//! is a value of no type. Never repeats a text that it was given, for it may be a key; names of fields it does repeat.

use super::{
    forms::Form,
    release::{Release, Span},
};
use serde_json::{Map, Value};
use std::{collections::BTreeSet, fmt};

/// What a value must be.
pub(super) enum Rule {
    Boolean,
    Integer(Range),
    Number(Range),
    Text(Text),
    /// One of these texts.
    Word(&'static [&'static str]),
    /// One of these numbers.
    Figure(&'static [u16]),
    List(List),
    /// An object with fields of its own.
    Table(Table),
    /// An object with any keys.
    Map(&'static Rule),
    /// At least one of them.
    Either(&'static [Rule]),
    /// Exactly one of them.
    OneOf(&'static [Rule]),
    /// The first for an object, the second for a list.
    TableOrList(&'static Rule, &'static Rule),
    Any,
    /// Whatever it is, it is refused, with this reason.
    Never(&'static str),
}

/// Bounds of a number; not there means unbounded.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) least: Option<f64>,
    /// It must be greater than this.
    pub(super) above: Option<f64>,
    pub(super) most: Option<f64>,
}

/// Bounds in characters, and what the text must look like.
pub(super) struct Text {
    pub(super) least: usize,
    pub(super) most: usize,
    pub(super) form: Form,
}

pub(super) struct List {
    pub(super) each: &'static Rule,
    pub(super) least: usize,
    pub(super) most: usize,
    /// No two are equal.
    pub(super) unique: bool,
}

pub(super) struct Table {
    pub(super) fields: &'static [Field],
    pub(super) required: &'static [Required],
    /// When other fields are refused; otherwise they are not looked at.
    pub(super) closed: Option<Span>,
}

/// A field may be listed several times, with spans that do not overlap.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) rule: &'static Rule,
    pub(super) span: Span,
}

pub(super) struct Required {
    pub(super) name: &'static str,
    pub(super) span: Span,
}

pub(super) const UNBOUNDED: Range = Range { least: None, above: None, most: None };

pub(super) const fn field(name: &'static str, rule: &'static Rule) -> Field {
    Field { name, rule, span: Span::ALWAYS }
}

pub(super) const fn field_in(span: Span, name: &'static str, rule: &'static Rule) -> Field {
    Field { name, rule, span }
}

pub(super) const fn required(name: &'static str) -> Required {
    Required { name, span: Span::ALWAYS }
}

/// Where in a document a value stands.
#[derive(Clone, Copy)]
pub(super) enum At<'a> {
    Top,
    Field(&'a At<'a>, &'a str),
    Item(&'a At<'a>, usize),
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top => Ok(()),
            Self::Item(parent, item) => write!(f, "{parent}[{item}]"),
            Self::Field(parent, name) if !is_plain(name) => write!(f, "{parent}[{}]", quoted(name)),
            Self::Field(Self::Top, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
        }
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

/// A name that a document uses, on one line and not too long.
pub(super) fn quoted(name: &str) -> String {
    match name.char_indices().nth(NAME_MAX) {
        None => format!("{name:?}"),
        Some((end, _)) => format!("{:?}…", name.get(..end).unwrap_or_default()),
    }
}

const NAME_MAX: usize = 100;

/// What is wrong with a document, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    at: String,
    why: String,
}

impl Refusal {
    pub(super) fn new(at: At<'_>, why: impl Into<String>) -> Self {
        Self { at: at.to_string(), why: why.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, why } = self;
        if at.is_empty() { f.write_str(why) } else { write!(f, "{at}: {why}") }
    }
}

impl std::error::Error for Refusal {}

/// A value as Lua sees it.
pub(super) enum Shape<'a> {
    Table(&'a Map<String, Value>),
    List(&'a [Value]),
    /// Table and list at once.
    Empty,
    Other,
}

pub(super) fn shape(value: &Value) -> Shape<'_> {
    match value {
        Value::Object(map) if map.is_empty() => Shape::Empty,
        Value::Object(map) => Shape::Table(map),
        Value::Array(items) if items.is_empty() => Shape::Empty,
        Value::Array(items) => Shape::List(items),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Shape::Other,
    }
}

/// Holds `value`, which stands at `at`, to `rule` as `release` has it.
pub(super) fn check(rule: &Rule, value: &Value, release: Release, at: At<'_>) -> Result<(), Refusal> {
    let wrong = || Err(Refusal::new(at, why_not(rule, value)));
    let hold = |holds: bool| if holds { Ok(()) } else { wrong() };
    match rule {
        Rule::Any => Ok(()),
        Rule::Never(why) => Err(Refusal::new(at, *why)),
        Rule::Boolean => hold(value.is_boolean()),
        Rule::Integer(range) => hold(value.as_f64().is_some_and(|number| number.fract() == 0.0 && range.has(number))),
        Rule::Number(range) => hold(value.as_f64().is_some_and(|number| range.has(number))),
        Rule::Text(text) => hold(value.as_str().is_some_and(|value| text.fits(value))),
        Rule::Word(words) => hold(value.as_str().is_some_and(|word| words.contains(&word))),
        Rule::Figure(figures) => {
            let is = |figure: &u16| value.as_f64() == Some(f64::from(*figure));
            hold(figures.iter().any(is))
        }
        Rule::List(list) => match shape(value) {
            Shape::List(items) => list.check(items, release, at),
            Shape::Empty => list.check(&[], release, at),
            Shape::Table(_) | Shape::Other => wrong(),
        },
        Rule::Table(table) => match shape(value) {
            Shape::Table(map) => table.check(map, release, at),
            Shape::Empty => table.check_required(None, release, at),
            Shape::List(_) | Shape::Other => wrong(),
        },
        Rule::Map(each) => match shape(value) {
            Shape::Table(map) => {
                map.iter().try_for_each(|(name, value)| check(each, value, release, At::Field(&at, name)))
            }
            Shape::Empty => Ok(()),
            Shape::List(_) | Shape::Other => wrong(),
        },
        Rule::TableOrList(table, list) => match shape(value) {
            Shape::Table(_) => check(table, value, release, at),
            Shape::List(_) => check(list, value, release, at),
            Shape::Empty => Ok(()),
            Shape::Other => wrong(),
        },
        Rule::Either(rules) => hold(rules.iter().any(|rule| check(rule, value, release, at).is_ok())),
        Rule::OneOf(rules) => hold(rules.iter().filter(|rule| check(rule, value, release, at).is_ok()).count() == 1),
    }
}

/// Why `value` does not follow `rule`, which is not one of parts.
fn why_not(rule: &Rule, value: &Value) -> String {
    if let Some(text) = value.as_str() {
        if rule.takes_line_break(text) {
            return "ends with a line break: APISIX takes that, but nothing that is looked up by it has one".to_owned();
        }
        if let Rule::Text(Text { least, most, form: _ }) = rule {
            let length = text.chars().count();
            if !(*least..=*most).contains(&length) {
                return format!("has {length} characters, must have {}", counted(*least, *most));
            }
        }
    }
    format!("is {}, must be {rule}", described(value))
}

impl Rule {
    /// Whether APISIX takes `text`, but for the line break at its end.
    fn takes_line_break(&self, text: &str) -> bool {
        match self {
            Self::Text(Text { least, most, form }) => {
                let fits = |without: &str| form.fits(without) && form.takes_line_break(without);
                (*least..=*most).contains(&text.chars().count()) && text.strip_suffix('\n').is_some_and(fits)
            }
            Self::Either(rules) => rules.iter().any(|rule| rule.takes_line_break(text)),
            Self::Any
            | Self::Boolean
            | Self::Integer(_)
            | Self::Number(_)
            | Self::Word(_)
            | Self::Figure(_)
            | Self::List(_)
            | Self::Table(_)
            | Self::Map(_)
            | Self::OneOf(_)
            | Self::TableOrList(..)
            | Self::Never(_) => false,
        }
    }
}

impl Range {
    fn has(self, number: f64) -> bool {
        self.least.is_none_or(|least| number >= least)
            && self.above.is_none_or(|above| number > above)
            && self.most.is_none_or(|most| number <= most)
    }
}

impl Text {
    fn fits(&self, text: &str) -> bool {
        let Self { least, most, form } = self;
        (*least..=*most).contains(&text.chars().count()) && form.fits(text)
    }
}

impl List {
    fn check(&self, items: &[Value], release: Release, at: At<'_>) -> Result<(), Refusal> {
        let Self { each, least, most, unique } = self;
        if items.len() < *least || items.len() > *most {
            return Err(Refusal::new(at, format!("has {} items, must have {}", items.len(), counted(*least, *most))));
        }
        let mut seen = BTreeSet::new();
        for (i, item) in items.iter().enumerate() {
            check(each, item, release, At::Item(&at, i))?;
            if *unique && !seen.insert(alike(item)) {
                return Err(Refusal::new(At::Item(&at, i), "is the same as one before it"));
            }
        }
        Ok(())
    }
}

/// Alike for what Lua compares as equal: 200 is 200.0.
fn alike(value: &Value) -> String {
    value.as_f64().map_or_else(|| value.to_string(), |number| number.to_string())
}

impl Table {
    fn check(&self, map: &Map<String, Value>, release: Release, at: At<'_>) -> Result<(), Refusal> {
        for (name, value) in map {
            let known = self.fields.iter().find(|field| field.name == name && field.span.has(release));
            match known {
                Some(field) => check(field.rule, value, release, At::Field(&at, name))?,
                None if self.closed.is_some_and(|span| span.has(release)) => {
                    return Err(Refusal::new(at, self.unknown(name, release)));
                }
                None => {}
            }
        }
        self.check_required(Some(map), release, at)
    }

    fn check_required(&self, map: Option<&Map<String, Value>>, release: Release, at: At<'_>) -> Result<(), Refusal> {
        for Required { name, span } in self.required {
            if span.has(release) && !map.is_some_and(|map| map.contains_key(*name)) {
                return Err(Refusal::new(at, format!("lacks {name}")));
            }
        }
        Ok(())
    }

    fn unknown(&self, name: &str, release: Release) -> String {
        let quoted = quoted(name);
        match self.fields.iter().find(|field| field.name == name) {
            Some(Field { span, .. }) => format!("APISIX {release} has no field {quoted} here: it is there {span}"),
            None => format!("APISIX {release} has no field {quoted} here"),
        }
    }
}

fn counted(least: usize, most: usize) -> String {
    match (least, most) {
        (least, usize::MAX) => format!("at least {least}"),
        (0, most) => format!("at most {most}"),
        (least, most) => format!("{least} to {most}"),
    }
}

/// What a value is. Numbers are repeated; texts are not.
fn described(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(_) => "a text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("anything"),
            Self::Never(_) => f.write_str("absent"),
            Self::Boolean => f.write_str("true or false"),
            Self::Integer(range) => write!(f, "an integer{range}"),
            Self::Number(range) => write!(f, "a number{range}"),
            Self::Text(Text { least, most, form }) => {
                match (least, most) {
                    (0, &usize::MAX) => f.write_str("a text")?,
                    (least, most) => write!(f, "a text of {} characters", counted(*least, *most))?,
                }
                if *form == Form::Any { Ok(()) } else { write!(f, " that is {form}") }
            }
            Self::Word(words) => write!(f, "one of {}", words.join(", ")),
            Self::Figure(figures) => {
                write!(f, "one of {}", figures.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            }
            Self::List(_) => f.write_str("a list"),
            Self::Table(_) | Self::Map(_) => f.write_str("an object"),
            Self::TableOrList(..) => f.write_str("an object or a list"),
            Self::Either(rules) => alternatives(f, rules, "or"),
            Self::OneOf(rules) => alternatives(f, rules, "or, but not both,"),
        }
    }
}

fn alternatives(f: &mut fmt::Formatter<'_>, rules: &[Rule], or: &str) -> fmt::Result {
    rules
        .iter()
        .enumerate()
        .try_for_each(|(i, rule)| if i == 0 { write!(f, "{rule}") } else { write!(f, " {or} {rule}") })
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self { least: Some(least), most: Some(most), .. } => write!(f, " from {least} to {most}"),
            Self { least: Some(least), .. } => write!(f, " of at least {least}"),
            Self { above: Some(above), .. } => write!(f, " greater than {above}"),
            Self { most: Some(most), .. } => write!(f, " of at most {most}"),
            Self { least: None, above: None, most: None } => Ok(()),
        }
    }
}
