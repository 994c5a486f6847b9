//! Where APISIX listens for TCP and UDP, and which stream plugins it runs.

use super::{
    ApisixConfig, ApisixConfigError,
    values::{Scalar, untagged},
};
use crate::{
    apisix::version::ApisixVersion,
    model::sockets::{PortRange, Socket, Sockets},
};
use serde_yaml_ng::{Mapping, Value};

const LISTEN: &str = "--listen";

impl ApisixConfig {
    /// Whether APISIX proxies TCP and UDP at all. `apisix.proxy_mode` alone says so; without it APISIX serves HTTP only,
    /// whatever `apisix.stream_proxy` holds (its `only`, of before 3.5, is not read any more).
    pub fn proxies_streams(&self) -> Result<bool, ApisixConfigError> {
        const PATH: &str = "apisix.proxy_mode";
        match self.text(PATH, LISTEN)?.as_deref() {
            None | Some("http") => Ok(false),
            Some("stream" | "http&stream") => Ok(true),
            Some(_) => Err(self.wrong(PATH, format!("is {:?}: write http, stream or http&stream", self.written(PATH)))),
        }
    }

    /// Every socket that a data plane of this version opens for TCP and UDP.
    pub fn sockets(&self, version: ApisixVersion) -> Result<Sockets, ApisixConfigError> {
        const TCP: &str = "apisix.stream_proxy.tcp";
        const UDP: &str = "apisix.stream_proxy.udp";
        let mut sockets = Sockets::default();
        if !self.proxies_streams()? {
            return Ok(sockets);
        }
        let mut open = |range: Option<PortRange>, socket| {
            if let Some(range) = range {
                sockets.insert(range, socket);
            }
        };
        for (index, entry) in self.list(TCP, LISTEN)?.into_iter().flatten().enumerate() {
            let path = format!("{TCP}[{index}]");
            let (address, socket) = match untagged(entry).as_mapping() {
                None => (entry, Socket::Tcp),
                Some(entry) => self.marked(entry, &path, version)?,
            };
            open(self.ports(address, &path)?, socket);
        }
        for (index, entry) in self.list(UDP, LISTEN)?.into_iter().flatten().enumerate() {
            open(self.ports(entry, &format!("{UDP}[{index}]"))?, Socket::Udp);
        }
        Ok(sockets)
    }

    /// The stream plugins; `None` where nothing is said of them. APISIX takes `null` for none at all.
    pub fn stream_plugins(&self) -> Result<Option<Vec<String>>, ApisixConfigError> {
        const PATH: &str = "stream_plugins";
        const FLAG: &str = "--stream-plugins";
        let Some(value) = self.at_or_null(PATH, FLAG)? else { return Ok(None) };
        let list = match untagged(value) {
            Value::Null => return Ok(Some(Vec::new())),
            Value::Mapping(mapping) if mapping.is_empty() => return Ok(Some(Vec::new())),
            Value::Sequence(list) => list,
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Mapping(_) | Value::Tagged(_) => {
                return Err(self.wrong(PATH, "is not a list of names"));
            }
        };
        let name = |(index, name)| self.text_of(name, &format!("{PATH}[{index}]"), FLAG);
        list.iter().enumerate().map(name).collect::<Result<_, _>>().map(Some)
    }

    /// The address of an entry that is an object, and what its marks make of it.
    fn marked<'v>(
        &self,
        entry: &'v Mapping,
        path: &str,
        version: ApisixVersion,
    ) -> Result<(&'v Value, Socket), ApisixConfigError> {
        let part = |key: &str| self.entry(entry, key, &format!("{path}.{key}"), LISTEN);
        let mark = |key: &str| self.boolean_of(part(key)?, &format!("{path}.{key}"), LISTEN);
        let missing = || self.wrong(path, "has no addr: write the port, or the address and port, there");
        let address = part("addr")?.ok_or_else(missing)?;
        let (terminates, passes_through) = (mark("tls")?, mark("tls_passthrough")?);
        // Before 3.19 the mark is a key that nobody reads.
        let passes_through = passes_through == Some(true) && version.has_tls_passthrough();
        Ok((address, socket(terminates == Some(true), passes_through)))
    }

    /// The ports of one entry; `None` for a socket that has none.
    fn ports(&self, entry: &Value, path: &str) -> Result<Option<PortRange>, ApisixConfigError> {
        let text = match self.scalar_of(entry, path, LISTEN)? {
            // A port with a fraction is none, and shows so when it is written out.
            Scalar::Number(number) => number.to_string(),
            Scalar::Text(text) => text,
            Scalar::Bool(_) => return Err(self.wrong(path, "is not a port")),
        };
        let Some(ports) = ports_of(&text) else { return Ok(None) };
        ports.parse().map(Some).map_err(|fault| {
            let written = untagged(entry).as_str().unwrap_or(&text);
            self.wrong(
                path,
                format!("is {written:?}: its port {fault}; write a PORT, a range FIRST-LAST, or one of these after \"ADDRESS:\""),
            )
        })
    }
}

/// What nginx takes for the port in the first parameter of `listen`; `None` if there is none in it.
fn ports_of(address: &str) -> Option<&str> {
    if address.starts_with("unix:") {
        return None;
    }
    let after_ipv6 = address.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(_, after)| after);
    Some(match after_ipv6 {
        Some(after) => after.strip_prefix(':').unwrap_or_default(),
        None => address.rsplit_once(':').map_or(address, |(_, ports)| ports),
    })
}

fn socket(terminates: bool, passes_through: bool) -> Socket {
    match (terminates, passes_through) {
        (false, false) => Socket::Tcp,
        (true, false) => Socket::Tls,
        (false, true) => Socket::TlsPassthrough,
        (true, true) => Socket::TlsEither,
    }
}
