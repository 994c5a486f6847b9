//! Where clients reach the default data plane, said by flags: `--address` and `--publish-service`.
//!
//! Text goes in; addresses, or the name of the Service that has them, come out. Whether the Service exists is for
//! translation to see, again and again.

use crate::model::{
    addresses::{ADDRESSES_MAX, Address, AddressSource, distinct},
    names::ObjectName,
};

/// Addresses that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Neither an IP address nor a hostname.
    #[error(
        "--address: {0:?} is neither an IP address to connect to nor a hostname: write for example 203.0.113.7, 2001:db8::7 \
         or edge.example.com, without a port"
    )]
    Address(String),
    /// More than a Gateway's status can hold.
    #[error("--address: there are {0} addresses, and the status of a Gateway holds {ADDRESSES_MAX}: name fewer")]
    TooMany(usize),
    /// No namespace and name.
    #[error("--publish-service: {0:?} is not NAMESPACE/NAME: write for example apisix/apisix-gateway")]
    Service(String),
    /// Both flags.
    #[error("--address and --publish-service: both say the addresses of the data plane: leave one out")]
    Both,
}

/// Reads both flags. Blank texts say nothing.
pub fn source(addresses: &[String], service: Option<&str>) -> Result<AddressSource, AddressError> {
    let said: Vec<&str> = addresses.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect();
    let service = service.map(str::trim).filter(|text| !text.is_empty());
    match (said.is_empty(), service) {
        (true, None) => Ok(AddressSource::Nobody),
        (true, Some(service)) => read_service(service).map(AddressSource::Service),
        (false, None) => read_addresses(&said).map(|addresses| AddressSource::Said(addresses.into())),
        (false, Some(_)) => Err(AddressError::Both),
    }
}

fn read_addresses(said: &[&str]) -> Result<Vec<Address>, AddressError> {
    let read = |text: &&str| Address::of(text).ok_or_else(|| AddressError::Address((*text).to_owned()));
    let addresses: Vec<Address> = said.iter().map(read).collect::<Result<_, _>>()?;
    let kept = distinct(addresses.iter().cloned());
    if addresses.iter().any(|address| !kept.contains(address)) {
        return Err(AddressError::TooMany(addresses.len()));
    }
    Ok(kept)
}

fn read_service(text: &str) -> Result<ObjectName, AddressError> {
    let named = text.split_once('/').filter(|(namespace, name)| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        [namespace, name].into_iter().all(|part| !part.is_empty() && part.chars().all(plain))
    });
    let (namespace, name) = named.ok_or_else(|| AddressError::Service(text.to_owned()))?;
    Ok(ObjectName::new(namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(addresses: &str, service: Option<&str>) -> Result<String, String> {
        let entries: Vec<String> = addresses.split(',').map(str::to_owned).collect();
        match source(&entries, service).map_err(|error| error.to_string())? {
            AddressSource::Nobody => Ok("nobody".to_owned()),
            AddressSource::Said(addresses) => {
                Ok(addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
            }
            AddressSource::Service(name) => Ok(format!("Service {name}")),
        }
    }

    #[test]
    fn addresses_are_kept_in_their_order_each_once() {
        let shown = "203.0.113.7 edge.example.com 2001:db8::7";
        assert_eq!(read("203.0.113.7, Edge.example.com ,2001:DB8::7,203.0.113.7", None), Ok(shown.to_owned()));
    }

    #[test]
    fn nothing_said_is_nobody() {
        for (addresses, service) in [("", None), (" ,", None), ("", Some("")), ("", Some("  "))] {
            assert_eq!(read(addresses, service), Ok("nobody".to_owned()));
        }
    }

    #[test]
    fn a_service_is_a_namespace_and_a_name() {
        assert_eq!(read("", Some("apisix/gateway-1")), Ok("Service apisix/gateway-1".to_owned()));
        for bad in ["apisix", "/apisix", "apisix/", "a/b/c", "A/b", "a b/c"] {
            let error = read("", Some(bad)).unwrap_err();
            assert!(error.contains(&format!("{bad:?}")) && error.contains("for example apisix/"), "{error}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_examples() {
        for bad in ["203.0.113.7:80", "0.0.0.0", "*.example.com", "[2001:db8::7]", "http://edge"] {
            let error = read(bad, None).unwrap_err();
            assert!(error.contains(&format!("{bad:?}")) && error.contains("for example 203.0.113.7"), "{error}");
        }
        let many: Vec<String> = (1..=17).map(|last| format!("192.0.2.{last}")).collect();
        assert!(read(&many.join(","), None).unwrap_err().contains("there are 17 addresses"));
        assert!(read(&many[1..].join(","), None).is_ok());
    }

    #[test]
    fn both_flags_contradict_each_other() {
        assert!(read("203.0.113.7", Some("a/b")).unwrap_err().contains("leave one out"));
        assert_eq!(read("203.0.113.7", Some("")), Ok("203.0.113.7".to_owned()));
    }
}
