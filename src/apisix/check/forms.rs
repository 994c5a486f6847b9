//! What texts in APISIX's documents must look like.
//!
//! These are the patterns of `apisix/schema_def.lua`, as functions. A pattern there may be followed by one line break,
//! because that is what `$` means to PCRE; here it may not: an id, a name or an address with a line break at its end is
//! equal to nothing that anybody looks it up by.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

/// A form of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Any,
    /// Of ids: letters, digits, `-`, `_` and `.`.
    Id,
    /// Of host names and addresses, as before 3.15: a `*` may stand first if something follows.
    Host,
    /// The same, or `*` alone.
    HostOrAll,
    /// Of values of labels: no white space.
    Solid,
    /// An IP address or a range of them.
    Cidr,
    /// What a consistent hash may be made of, in `vars`.
    Variable,
    /// The same in 3.3, which lacks one name.
    VariableOf33,
    /// Of names of headers and cookies.
    Header,
    /// A reference to a secret, as before 3.10.
    Reference,
    /// The same since 3.10.
    ReferenceOrEnv,
}

impl Form {
    pub(super) fn fits(self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Id => all(text, |byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)),
            Self::Host => is_host(text),
            Self::HostOrAll => text == "*" || is_host(text),
            Self::Solid => all(text, |byte| !byte.is_ascii_whitespace() && byte != VERTICAL_TAB),
            Self::Cidr => is_cidr(text),
            Self::Variable => VARIABLES.contains(&text) || is_argument(text),
            Self::VariableOf33 => text != MQTT_CLIENT_ID && Self::Variable.fits(text),
            Self::Header => all(text, |byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
            Self::Reference => has_prefix(text, &["$secret://", "$env://"]),
            Self::ReferenceOrEnv => has_prefix(text, &["$secret://", "$env://", "$ENV://"]),
        }
    }

    /// Whether APISIX takes `text`, which fits, with a line break at its end, too: where it uses a pattern that ends in `$`.
    pub(super) fn takes_line_break(self, text: &str) -> bool {
        match self {
            Self::Any | Self::Reference | Self::ReferenceOrEnv => false,
            Self::Cidr => text.contains('/'),
            Self::Id
            | Self::Host
            | Self::HostOrAll
            | Self::Solid
            | Self::Variable
            | Self::VariableOf33
            | Self::Header => true,
        }
    }
}

const VERTICAL_TAB: u8 = 0x0b;
const MQTT_CLIENT_ID: &str = "mqtt_client_id";

const VARIABLES: &[&str] = &[
    "uri",
    "server_name",
    "server_addr",
    "request_uri",
    "remote_port",
    "remote_addr",
    "query_string",
    "host",
    "hostname",
    MQTT_CLIENT_ID,
];

fn all(text: &str, fits: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(fits)
}

fn has_prefix(text: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| text.starts_with(prefix))
}

fn is_host(text: &str) -> bool {
    all(text.strip_prefix('*').unwrap_or(text), |byte| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte))
}

/// `A-z` stands in APISIX's pattern, so the signs between `Z` and `a` fit, too.
fn is_argument(text: &str) -> bool {
    let fits = |byte: u8| matches!(byte, b'0'..=b'9' | b'A'..=b'z' | b'-');
    text.strip_prefix("arg_").is_some_and(|name| all(name, fits))
}

/// Pattern and `core.ip.validate_cidr_or_ip` together.
fn is_cidr(text: &str) -> bool {
    match text.split_once('/') {
        None => text.parse::<Ipv4Addr>().is_ok() || text.parse::<Ipv6Addr>().is_ok(),
        Some((address, bits)) if address.contains(':') => {
            // An IPv4 address inside an IPv6 one has no range in the pattern.
            !address.contains('.') && address.parse::<Ipv6Addr>().is_ok() && is_number(bits, 3) && at_most(bits, 128)
        }
        Some((address, bits)) => {
            address.parse::<Ipv4Addr>().is_ok()
                && is_number(bits, 2)
                && (bits.len() == 1 || !bits.starts_with('0'))
                && at_most(bits, 32)
        }
    }
}

fn is_number(text: &str, digits: usize) -> bool {
    text.len() <= digits && all(text, |byte| byte.is_ascii_digit())
}

fn at_most(number: &str, most: u16) -> bool {
    number.parse::<u16>().is_ok_and(|number| number <= most)
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any text",
            Self::Id => "letters, digits, '-', '_' and '.'",
            Self::Host => "a host name or an address, with a '*' at most in front (alone only since 3.15)",
            Self::HostOrAll => "a host name or an address, with a '*' at most in front, or '*' alone",
            Self::Solid => "without white space",
            Self::Cidr => "an IP address, or one with /BITS; IPv6 not in brackets",
            Self::Variable => "a variable that APISIX hashes by, such as remote_addr, mqtt_client_id or arg_NAME",
            Self::VariableOf33 => "a variable that APISIX 3.3 hashes by, such as remote_addr or arg_NAME",
            Self::Header => "letters, digits, '-' and '_'",
            Self::Reference => "$secret://… or $env://…",
            Self::ReferenceOrEnv => "$secret://…, $env://… or $ENV://…",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn only(form: Form, fit: &[&str], others: &[&str]) {
        for text in fit {
            assert!(form.fits(text), "{form:?} does not take {text:?}");
        }
        for text in others {
            assert!(!form.fits(text), "{form:?} takes {text:?}");
        }
    }

    #[test]
    fn ids_hosts_and_labels_are_told_from_what_only_looks_like_them() {
        only(Form::Id, &["a", "A-z_0.9"], &["", "a b", "a/b", "ü", "a\n"]);
        only(Form::Host, &["a.b", "*.a", "*a", "[::1]", "::", "a_b"], &["", "*", "**", "a.*", "a/b", "a%b", "a\n"]);
        only(Form::HostOrAll, &["*", "*.a", "A"], &["", "**", "*\n"]);
        only(Form::Solid, &["a", "ü", "a\u{a0}b"], &["", "a b", "a\u{b}b", "a\n"]);
    }

    #[test]
    fn ranges_of_addresses_have_as_many_bits_as_addresses() {
        only(
            Form::Cidr,
            &["1.2.3.4", "1.2.3.4/0", "1.2.3.4/32", "::", "::ffff:1.2.3.4", "::/128", "fd00::/064", "1::/0"],
            &[
                "",
                "/8",
                "1.2.3",
                "01.2.3.4",
                "1.2.3.4/33",
                "1.2.3.4/08",
                "1.2.3.4/",
                "::/129",
                "::/",
                "::/1000",
                "::ffff:1.2.3.4/96",
                "[::1]",
                "::1%eth0",
                "1.2.3.4/8/8",
                "1.2.3.4/+8",
                "1.2.3.4\n",
                ":/8",
            ],
        );
    }

    #[test]
    fn what_can_be_hashed_by_has_a_name() {
        only(Form::Variable, &["remote_addr", "mqtt_client_id", "arg_x", "arg_^"], &["", "arg_", "http_x", "uri2"]);
        only(Form::VariableOf33, &["remote_addr"], &["mqtt_client_id"]);
        only(Form::Header, &["x-y_1"], &["", "x.y"]);
        only(Form::Reference, &["$secret://", "$env://x"], &["$ENV://x", "secret://"]);
    }
}
