//! Conditions on variables (`resty.expr`), as `traffic-split` has them: a list of `[NAME, OPERATOR, VALUE]`, of
//! `[NAME, "!", OPERATOR, VALUE]`, and of lists that begin with `AND`, `OR`, `!AND` or `!OR`.
//!
//! Only the plain forms are taken. APISIX also reads shorter ones and names that are no texts, and fails on some.

use super::super::forms::Form;
use serde_json::Value;

const LOGIC: &[&str] = &["AND", "OR", "!AND", "!OR"];
const OPERATORS: &[&str] = &["==", "~=", ">", ">=", "<", "<=", "~~", "~*", "in", "has", "ipmatch"];

/// `vars` as a whole.
pub(super) fn check(vars: &Value) -> Result<(), &'static str> {
    match vars.as_array().map_or(&[][..], Vec::as_slice) {
        [] => Ok(()),
        [Value::String(first), ..] if !is_logic(first) => Err(NEITHER),
        [Value::String(_), ..] => group(vars),
        conditions => conditions.iter().try_for_each(group),
    }
}

const NEITHER: &str = "must be a list of [NAME, OPERATOR, VALUE], or begin with AND, OR, !AND or !OR";

/// Conditions under one logic operator, or a single one.
fn group(value: &Value) -> Result<(), &'static str> {
    match value.as_array().ok_or(NEITHER)?.as_slice() {
        [Value::String(first), conditions @ ..] if is_logic(first) => match conditions {
            [] | [_] => Err("has an operator that needs two conditions at least"),
            conditions => conditions.iter().try_for_each(group),
        },
        [Value::String(_), Value::String(operator), value] => operation(operator, value),
        [Value::String(_), Value::String(not), Value::String(operator), value] if not == "!" => {
            operation(operator, value)
        }
        [] | [_, ..] => Err(NEITHER),
    }
}

fn is_logic(word: &str) -> bool {
    LOGIC.contains(&&*word.to_ascii_uppercase())
}

fn operation(operator: &str, value: &Value) -> Result<(), &'static str> {
    let operator = operator.to_ascii_lowercase();
    if !OPERATORS.contains(&&*operator) {
        return Err("has an operator that APISIX does not know");
    }
    if operator != "ipmatch" {
        return Ok(());
    }
    let addresses = match value {
        Value::Array(addresses) => addresses.as_slice(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            std::slice::from_ref(value)
        }
    };
    let good = |address: &Value| address.as_str().is_some_and(|address| Form::Cidr.fits(address));
    if !addresses.is_empty() && addresses.iter().all(good) { Ok(()) } else { Err("has no IP address for ipmatch") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_conditions_are_taken() {
        for vars in [
            json!([]),
            json!([["remote_addr", "==", "1.1.1.1"]]),
            json!([["a", "!", "in", ["b"]], ["c", "~*", "^x"]]),
            json!([["a", "IPMATCH", ["10.0.0.0/8", "::1"]], ["a", "ipmatch", "::/0"]]),
            json!(["OR", ["a", "==", 1], ["!and", ["b", "has", 2], ["c", "<", null]]]),
        ] {
            assert_eq!(check(&vars), Ok(()), "{vars}");
        }
    }

    #[test]
    fn what_apisix_would_refuse_or_fail_on_is_not() {
        for vars in [
            json!(["a", "==", "b"]),
            json!([["a"]]),
            json!([[]]),
            json!([[1, "==", 1]]),
            json!([["a", "=", "b"]]),
            json!([["a", "not", "==", "b"]]),
            json!([["a", "ipmatch", "x"]]),
            json!([["a", "ipmatch", []]]),
            json!([["a", "ipmatch", ["10.0.0.0/33"]]]),
            json!(["OR", ["a", "==", 1]]),
            json!(["OR"]),
            json!(["XOR", ["a", "==", 1], ["a", "==", 2]]),
            json!([1]),
            json!(["OR", 1, 2]),
        ] {
            assert!(check(&vars).is_err(), "{vars}");
        }
    }
}
