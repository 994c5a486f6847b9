//! Values by their path, with the environment put in as APISIX does it.
//!
//! APISIX parses the YAML first and then replaces `${{NAME}}` and `${{NAME:=default}}` inside texts and keys
//! (`var_sub` and `resolve_conf_var` in `apisix/cli/file.lua`). A text in which it replaced something becomes a number or a
//! boolean if it looks like one, quotes or not.

use super::{ApisixConfig, ApisixConfigError, Environment, NOTHING};
use serde_yaml_ng::{Mapping, Value};
use std::borrow::Cow;

/// A single value, after that. Every number of Lua is one of these.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    Bool(bool),
    Number(f64),
    Text(String),
}

/// A variable that is neither set nor has a default.
#[derive(Debug, PartialEq, Eq)]
struct Unset(String);

impl ApisixConfig {
    /// The value at a path of keys with dots between them; `None` where nothing is, or `null`.
    pub(super) fn at(&self, path: &str, instead: &'static str) -> Result<Option<&Value>, ApisixConfigError> {
        let value = self.at_or_null(path, instead)?;
        Ok(value.filter(|value| !value.is_null()))
    }

    /// The same, but a `null` that somebody wrote is one.
    pub(super) fn at_or_null(&self, path: &str, instead: &'static str) -> Result<Option<&Value>, ApisixConfigError> {
        let mut mapping = &self.root;
        let mut end = 0;
        loop {
            let rest = path.get(end..).unwrap_or_default();
            let key = rest.split('.').next().unwrap_or_default();
            let walked = end + key.len();
            let place = path.get(..walked).unwrap_or(path);
            let found = self.entry(mapping, key, place, instead)?;
            if walked == path.len() {
                return Ok(found);
            }
            mapping = match found.map(untagged) {
                None | Some(Value::Null) => return Ok(None),
                Some(Value::Mapping(inner)) => inner,
                Some(_) => return Err(self.wrong(place, "is not a mapping: APISIX has keys below it")),
            };
            end = walked + 1;
        }
    }

    /// The value of a key, `path` being what the whole is called.
    pub(super) fn entry<'v>(
        &self,
        mapping: &'v Mapping,
        key: &str,
        path: &str,
        instead: &'static str,
    ) -> Result<Option<&'v Value>, ApisixConfigError> {
        if let Some(value) = mapping.get(key) {
            return Ok(Some(value));
        }
        for (name, value) in mapping {
            let Some(name) = name.as_str().filter(|name| name.contains(OPENING)) else { continue };
            let (name, _) = expand(name, &self.environment).map_err(|Unset(name)| self.unset(path, name, instead))?;
            if name == key {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// A text; numbers and booleans are refused, as APISIX does.
    pub(super) fn text(&self, path: &str, instead: &'static str) -> Result<Option<String>, ApisixConfigError> {
        self.at(path, instead)?.map(|value| self.text_of(value, path, instead)).transpose()
    }

    pub(super) fn text_of(
        &self,
        value: &Value,
        path: &str,
        instead: &'static str,
    ) -> Result<String, ApisixConfigError> {
        match self.scalar_of(value, path, instead)? {
            Scalar::Text(text) => Ok(text),
            Scalar::Bool(_) | Scalar::Number(_) => Err(self.wrong(
                path,
                "is not a text to APISIX: it must not look like a number or a boolean, not even in quotes where it comes \
                 from an environment variable",
            )),
        }
    }

    /// True or false; `None` where it is not said.
    pub(super) fn boolean_of(
        &self,
        value: Option<&Value>,
        path: &str,
        instead: &'static str,
    ) -> Result<Option<bool>, ApisixConfigError> {
        let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(None) };
        let boolean = match self.scalar_of(value, path, instead)? {
            Scalar::Bool(boolean) => Some(boolean),
            // APISIX's parser of YAML is one of version 1.1, to which these are booleans.
            Scalar::Text(text) => match &*text.to_ascii_lowercase() {
                "yes" | "y" | "on" => Some(true),
                "no" | "n" | "off" => Some(false),
                _ => None,
            },
            Scalar::Number(_) => None,
        };
        boolean.map(Some).ok_or_else(|| self.wrong(path, "is neither true nor false"))
    }

    pub(super) fn scalar_of(
        &self,
        value: &Value,
        path: &str,
        instead: &'static str,
    ) -> Result<Scalar, ApisixConfigError> {
        match untagged(value) {
            Value::Bool(boolean) => Ok(Scalar::Bool(*boolean)),
            Value::Number(number) => Ok(Scalar::Number(number.as_f64().unwrap_or(f64::NAN))),
            Value::String(text) => {
                let (text, replaced) =
                    expand(text, &self.environment).map_err(|Unset(name)| self.unset(path, name, instead))?;
                Ok(if replaced { typed(text) } else { Scalar::Text(text.into_owned()) })
            }
            Value::Null | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => {
                Err(self.wrong(path, "is not a single value"))
            }
        }
    }

    /// The elements of a list with at least one; `None` where there is no list.
    pub(super) fn list(&self, path: &str, instead: &'static str) -> Result<Option<&[Value]>, ApisixConfigError> {
        match self.at(path, instead)?.map(untagged) {
            None => Ok(None),
            Some(Value::Sequence(list)) if !list.is_empty() => Ok(Some(list)),
            Some(Value::Sequence(_)) => {
                Err(self.wrong(path, "is an empty list, which APISIX refuses: leave it out, or put something in"))
            }
            Some(_) => Err(self.wrong(path, "is not a list: begin each entry with '- ', also if there is only one")),
        }
    }

    /// A text as it stands in the file: what a variable holds may be secret.
    pub(super) fn written(&self, path: &str) -> &str {
        self.at(path, NOTHING).ok().flatten().map(untagged).and_then(Value::as_str).unwrap_or_default()
    }

    fn unset(&self, path: &str, variable: String, instead: &'static str) -> ApisixConfigError {
        ApisixConfigError::Variable { file: self.file.clone(), path: path.to_owned(), variable, instead }
    }
}

/// Tags mean nothing to APISIX beyond what the value already is.
pub(super) fn untagged(mut value: &Value) -> &Value {
    while let Value::Tagged(tagged) = value {
        value = &tagged.value;
    }
    value
}

const OPENING: &str = "${{";

/// Puts variables in. Also says whether there were any: only then the type is guessed anew.
///
/// The same as the Lua pattern `%$%{%{%s*([%w_]+[%:%=]?.-)%s*%}%}`, oddities included: what stands between the braces is the
/// name up to the first `:=`, whatever it is, as long as it begins like a name; a variable that is set and empty is not
/// replaced by the default; what was put in is not looked at again.
fn expand<'t>(text: &'t str, environment: &Environment) -> Result<(Cow<'t, str>, bool), Unset> {
    let Some(mut at) = text.find(OPENING) else { return Ok((text.into(), false)) };
    let (mut out, mut rest, mut replaced) = (String::new(), text, false);
    loop {
        let (before, after) = rest.split_at(at);
        let inside = after.strip_prefix(OPENING).unwrap_or_default().trim_start_matches(is_space);
        match inside.find("}}") {
            Some(end) if inside.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') => {
                let (body, closing) = inside.split_at(end);
                out.push_str(before);
                out.push_str(&value_of(body.trim_end_matches(is_space), environment)?);
                replaced = true;
                rest = closing.strip_prefix("}}").unwrap_or_default();
                at = 0;
            }
            // Not one; the next may begin one character on.
            Some(_) | None => at += 1,
        }
        match rest.get(at..).and_then(|rest| rest.find(OPENING)) {
            Some(next) => at += next,
            None => break,
        }
    }
    out.push_str(rest);
    Ok((out.into(), replaced))
}

fn value_of(body: &str, environment: &Environment) -> Result<String, Unset> {
    let (name, default) = match body.split_once(":=") {
        Some((name, default)) => (name, Some(default.trim_matches(is_space))),
        None => (body, None),
    };
    environment(name).or_else(|| default.map(str::to_owned)).ok_or_else(|| Unset(name.to_owned()))
}

/// `%s` of Lua.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

/// What Lua's `tonumber` makes of a text, then the words for booleans.
fn typed(text: Cow<'_, str>) -> Scalar {
    match (number(text.trim_matches(is_space)), &*text) {
        (Some(number), _) => Scalar::Number(number),
        (None, "true") => Scalar::Bool(true),
        (None, "false") => Scalar::Bool(false),
        (None, _) => Scalar::Text(text.into_owned()),
    }
}

/// LuaJIT's: decimal, hexadecimal also with a fraction and an exponent, binary.
fn number(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let based = |small, large| unsigned.strip_prefix(small).or_else(|| unsigned.strip_prefix(large));
    let magnitude = match (based("0x", "0X"), based("0b", "0B")) {
        (Some(digits), _) => hexadecimal(digits)?,
        (None, Some(digits)) => digits_of(digits, 2)?,
        (None, None) => return text.parse().ok(),
    };
    Some(if text.starts_with('-') { -magnitude } else { magnitude })
}

fn hexadecimal(digits: &str) -> Option<f64> {
    let (mantissa, exponent) = digits.split_once(['p', 'P']).unwrap_or((digits, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let scale = exponent.parse::<i32>().ok()?.checked_sub(i32::try_from(fraction.len()).ok()?.checked_mul(4)?)?;
    Some(digits_of(&format!("{whole}{fraction}"), 16)? * 2.0_f64.powi(scale))
}

fn digits_of(digits: &str, base: u32) -> Option<f64> {
    let add = |value: f64, c: char| Some(value * f64::from(base) + f64::from(c.to_digit(base)?));
    if digits.is_empty() { None } else { digits.chars().try_fold(0.0, add) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        let value = match name {
            "A" => "a",
            "PORT" => "9100",
            "EMPTY" => "",
            "NESTED" => "${{A}}",
            "TRUE" => "true",
            "A B" => "with a space",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[track_caller]
    fn expands(text: &str, to: &str) {
        let (expanded, replaced) = expand(text, &environment).unwrap();
        assert_eq!((&*expanded, replaced), (to, true), "{text}");
    }

    #[test]
    fn variables_and_defaults_are_put_in() {
        expands("${{A}}", "a");
        expands("x-${{ A }}-${{PORT}}", "x-a-9100");
        expands("${{\tA\n}}", "a");
        expands("${{UNSET:=b}}", "b");
        expands("${{UNSET:= b c }}", "b c");
        expands("${{UNSET:=}}", "");
        expands("${{A:=b}}", "a");
        expands("ä${{A}}ö", "äaö");
    }

    #[test]
    fn the_oddities_of_apisix_are_kept() {
        // Set and empty is set.
        expands("${{EMPTY:=b}}", "");
        // What was put in is not looked at again.
        expands("${{NESTED}}", "${{A}}");
        // The first closing braces end it.
        expands("${{UNSET:=${{A}}}}", "${{A}}");
        expands("${{A}}}", "a}");
        // The name goes up to the first ':=', spaces and all.
        expands("${{UNSET :=b}}", "b");
        expands("${{A B}}", "with a space");
        expands("${{UNSET:=b:=c}}", "b:=c");
        // One that is none does not hide the next.
        expands("${{ ${{A}}", "${{ a");
        expands("$${{A}}", "$a");
        expands("${{-}}${{A}}", "${{-}}a");
    }

    #[test]
    fn what_is_no_variable_stays() {
        for text in ["", "$A", "${A}", "${{", "${{A", "${{A}", "${{}}", "${{ }}", "${{-A}}", "${{ä}}", "{{A}}", "}}"] {
            assert_eq!(expand(text, &environment), Ok((text.into(), false)), "{text}");
        }
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        for (text, name) in
            [("${{UNSET}}", "UNSET"), ("${{A}}${{UNSET }}", "UNSET"), ("${{A:b}}", "A:b"), ("${{A=b}}", "A=b")]
        {
            assert_eq!(expand(text, &environment), Err(Unset(name.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_replaced_text_is_what_lua_takes_it_for() {
        for (text, number) in [
            ("9100", 9100.0),
            (" 9100 ", 9100.0),
            ("0x10", 16.0),
            ("-0X1f", -31.0),
            ("1e3", 1000.0),
            ("0x.8p4", 8.0),
            ("0B11", 3.0),
        ] {
            assert_eq!(typed(text.into()), Scalar::Number(number), "{text}");
        }
        assert_eq!(typed("true".into()), Scalar::Bool(true));
        assert_eq!(typed("false".into()), Scalar::Bool(false));
        for text in ["", "True", " true", "9100-9101", "0x", "0x.", "0xp1", "0x1p", "0b", "0b2", "1 2", "yes"] {
            assert_eq!(typed(text.into()), Scalar::Text(text.to_owned()), "{text}");
        }
    }
}
