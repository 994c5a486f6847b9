//! Where APISIX listens and what it runs there, said by flags: `--listen` and `--stream-plugins`.

use crate::model::sockets::{PortRange, PortRangeError, Socket, Sockets};

/// An entry of `--listen` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The word before the colon is none of the five.
    #[error("--listen: {0:?} {WOULD_DO}")]
    Protocol(String),
    /// What follows is no port.
    #[error("--listen: {entry:?}: the port {fault}; {WOULD_DO}")]
    Ports {
        /// The entry.
        entry: String,
        /// What is wrong.
        fault: PortRangeError,
    },
    /// Sockets and none.
    #[error("--listen: {NONE} stands beside other entries: leave it or them out")]
    NoneAndSome,
}

const WOULD_DO: &str = "is not PROTOCOL:PORT or PROTOCOL:FIRST-LAST: write for example tcp:9100, tcp:9000-9010, tls:9443 or \
                        udp:9200 (also: tls-passthrough, tls-either), or none for no port at all";

/// The word for an empty list: an empty text is what a manifest's blank value comes to, and says nothing.
pub(super) const NONE: &str = "none";

/// Reads `--listen`; `None` if it says nothing.
pub fn sockets(entries: &[String]) -> Result<Option<Sockets>, ListenError> {
    let entries = said(entries);
    if entries.is_empty() {
        return Ok(None);
    }
    let mut sockets = Sockets::default();
    if entries == [NONE] {
        return Ok(Some(sockets));
    }
    for entry in entries {
        if entry == NONE {
            return Err(ListenError::NoneAndSome);
        }
        let (kind, ports) = entry.split_once(':').ok_or_else(|| ListenError::Protocol(entry.to_owned()))?;
        let kind = Socket::ALL.into_iter().find(|socket| socket.as_str() == kind);
        let kind = kind.ok_or_else(|| ListenError::Protocol(entry.to_owned()))?;
        let range: PortRange = ports.parse().map_err(|fault| ListenError::Ports { entry: entry.to_owned(), fault })?;
        sockets.insert(range, kind);
    }
    Ok(Some(sockets))
}

/// Reads `--stream-plugins`; `None` if it says nothing.
pub(super) fn stream_plugins(names: &[String]) -> Option<Vec<String>> {
    let names = said(names);
    let listed = names.iter().filter(|name| **name != NONE).map(|name| (*name).to_owned()).collect();
    (!names.is_empty()).then_some(listed)
}

fn said(entries: &[String]) -> Vec<&str> {
    entries.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<String>, String> {
        let entries: Vec<String> = text.split(',').map(str::to_owned).collect();
        sockets(&entries).map(|sockets| sockets.map(|s| s.to_string())).map_err(|error| error.to_string())
    }

    #[test]
    fn sockets_are_listed_by_protocol_and_port() {
        let text = "tcp:9100,tcp:9000-9010, tls:9443 ,udp:9200,udp:9100,tls-passthrough:8443,tls-either:7443";
        let shown = "tcp 9000-9010, 9100; tls 9443; tls-passthrough 8443; tls-either 7443; udp 9100, 9200";
        assert_eq!(read(text), Ok(Some(shown.to_owned())));
        assert_eq!(read("tcp:1-65535"), Ok(Some("tcp 1-65535".to_owned())));
    }

    #[test]
    fn nothing_said_is_not_the_same_as_none() {
        assert_eq!(read(""), Ok(None));
        assert_eq!(read(" ,"), Ok(None));
        assert_eq!(read("none"), Ok(Some("none".to_owned())));
        assert!(read("none,tcp:1").unwrap_err().contains("beside other entries"));
        assert!(read("tcp:1,none").unwrap_err().contains("beside other entries"));
    }

    #[test]
    fn what_is_no_entry_is_refused_with_examples() {
        for text in ["9100", "tcp", "TCP:9100", "sctp:9100", ":9100"] {
            let error = read(text).unwrap_err();
            assert!(error.contains(&format!("{text:?}")) && error.contains("for example tcp:9100"), "{error}");
        }
        for (text, part) in [
            ("tcp:", "neither a port nor a range"),
            ("tcp:0", "not within 1 to 65535"),
            ("tcp:9010-9000", "ends before it begins"),
            ("tcp:127.0.0.1:9100", "neither a port nor a range"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part) && error.contains("for example tcp:9100"), "{error}");
        }
    }

    #[test]
    fn plugins_are_names_or_none() {
        let read = |text: &str| stream_plugins(&text.split(',').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(read("a, b"), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(read("none"), Some(vec![]));
        assert_eq!(read(""), None);
    }
}
