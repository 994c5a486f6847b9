//! Places in etcd: data planes, directories, document ids and work ids.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// A data plane: all APISIX instances that read one prefix of etcd, known by that prefix, which has no trailing slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Plane(&'static str);

impl Plane {
    /// The data plane that reads `prefix`.
    #[must_use]
    pub fn of(prefix: &str) -> Self {
        // Kept for as long as the process runs, so that every id that names it is as cheap to copy as a number: prefixes are few, and
        // only those that administrators chose come here.
        static MET: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
        let mut met = MET.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = met.get(prefix) {
            return Self(known);
        }
        let kept: &'static str = Box::leak(prefix.into());
        met.insert(kept);
        Self(kept)
    }

    /// Its prefix in etcd.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        self.0
    }
}

/// The one that reads APISIX's own default prefix.
impl Default for Plane {
    fn default() -> Self {
        Self("/apisix")
    }
}

impl fmt::Display for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A directory of APISIX's configuration that this controller writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Directory {
    /// `/upstreams`.
    Upstreams,
    /// `/ssls`: certificates.
    Ssls,
    /// `/stream_routes`.
    StreamRoutes,
}

impl Directory {
    /// Every directory, in the order in which documents must appear.
    pub const ALL: [Self; 3] = [Self::Upstreams, Self::Ssls, Self::StreamRoutes];

    /// The directory's name under the prefix.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upstreams => "upstreams",
            Self::Ssls => "ssls",
            Self::StreamRoutes => "stream_routes",
        }
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A document by data plane, directory and id: the unit of work of the reconcile loop, and of the mirror.
///
/// An empty id is the directory's placeholder, the key `{prefix}/{directory}/` with the bare bytes `init_dir`, which older
/// data planes need before they read the directory at all (APISIX `core/config_etcd.lua`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkId {
    /// The data plane.
    pub plane: Plane,
    /// The directory.
    pub directory: Directory,
    /// The id inside it.
    pub id: Arc<str>,
}

impl WorkId {
    /// A document's work id.
    #[must_use]
    pub fn new(plane: Plane, directory: Directory, id: &str) -> Self {
        Self { plane, directory, id: id.into() }
    }

    /// The placeholder of a directory.
    #[must_use]
    pub fn placeholder(plane: Plane, directory: Directory) -> Self {
        Self::new(plane, directory, "")
    }

    /// Whether this is a directory's placeholder.
    #[must_use]
    pub fn is_placeholder(&self) -> bool {
        self.id.is_empty()
    }

    /// The full etcd key.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.plane, self.directory, self.id)
    }

    /// Reads a full etcd key of a data plane back; `None` for keys outside the directories this controller writes.
    #[must_use]
    pub fn from_key(plane: Plane, key: &str) -> Option<Self> {
        let rest = key.strip_prefix(plane.prefix())?.strip_prefix('/')?;
        Directory::ALL.into_iter().find_map(|directory| {
            let id = rest.strip_prefix(directory.as_str())?.strip_prefix('/')?;
            Some(Self::new(plane, directory, id))
        })
    }
}

impl fmt::Display for WorkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.directory, self.id)
    }
}

/// What is wrong with a prefix of etcd keys, ours or a data plane's; `None` where nothing is. A prefix begins with a slash, ends
/// without one, and has segments of plain characters between.
#[must_use]
pub fn prefix_fault(prefix: &str) -> Option<&'static str> {
    match prefix.strip_prefix('/') {
        None => Some("does not begin with '/'"),
        Some(_) if prefix.ends_with('/') => Some("ends with '/'"),
        Some(rest) if rest.split('/').any(str::is_empty) => Some("has an empty segment"),
        Some(rest) if !rest.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/')) => {
            Some("has characters other than letters, digits, '_', '.', '-' and '/'")
        }
        Some(_) => None,
    }
}

/// Whether one prefix begins with the other. APISIX reads and watches every key that begins with the text of its prefix, slash
/// or not: `/apisix` brings `/apisix2/…` too.
#[must_use]
pub fn prefixes_overlap(one: &str, other: &str) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// A TCP or UDP port a data plane can listen on; never 0.
pub type Port = std::num::NonZeroU16;

/// The name of a server, as a TLS client asks for it: in lower case, without a trailing dot; `*.example.com` stands for every
/// name that ends in `.example.com`, however many labels it has in front (Gateway API, `Hostname`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerName(Arc<str>);

impl ServerName {
    /// Reads a hostname of Gateway API; `None` for what is none: an empty label, a star anywhere but as the first label, an IP
    /// address, letters that no hostname has.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let host = name.strip_prefix("*.").unwrap_or(&name);
        let label = |label: &str| {
            let letters = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            letters && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
        };
        let an_address = host.parse::<std::net::IpAddr>().is_ok();
        (name.len() <= 253 && !an_address && host.split('.').all(label)).then(|| Self(name.into()))
    }

    /// The name as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for many names.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// The wildcards that cover this name, the most specific first.
    pub fn wider(&self) -> impl Iterator<Item = Self> {
        let own = self.0.strip_prefix("*.").unwrap_or(&self.0);
        own.match_indices('.').map(|(dot, _)| Self(format!("*{}", own.get(dot..).unwrap_or_default()).into()))
    }

    /// Whether every name this one stands for is one of `other`'s.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self == other || self.wider().any(|wider| wider == *other)
    }

    /// The names that both stand for; `None` if there is none.
    #[must_use]
    pub fn intersection<'a>(&'a self, other: &'a Self) -> Option<&'a Self> {
        if self.is_within(other) {
            Some(self)
        } else if other.is_within(self) {
            Some(other)
        } else {
            None
        }
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a route can hold: the connections of a port, or those of a port that ask for a server name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    /// The port.
    pub port: Port,
    /// The server name; `None` for connections without one, or with one that nobody holds.
    pub name: Option<ServerName>,
}

impl Slot {
    /// The slot of a port without server names.
    #[must_use]
    pub fn of_port(port: Port) -> Self {
        Self { port, name: None }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{}/{name}", self.port),
            None => self.port.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_as_the_work_id_it_was_made_from() {
        for id in [
            WorkId::new(Plane::default(), Directory::Upstreams, "a.b"),
            WorkId::placeholder(Plane::default(), Directory::StreamRoutes),
        ] {
            assert_eq!(WorkId::from_key(Plane::default(), &id.key()), Some(id));
        }
    }

    fn name(text: &str) -> ServerName {
        ServerName::of(text).unwrap()
    }

    #[test]
    fn names_are_told_apart_whatever_their_case_and_last_dot() {
        assert_eq!(name("Db.Example.COM."), name("db.example.com"));
        assert!(name("*.example.com").is_wildcard() && !name("example.com").is_wildcard());
        let long = format!("{}.example", "a".repeat(63));
        assert_eq!(name(&long).as_str(), long);
    }

    #[test]
    fn what_is_no_hostname_is_no_name() {
        let labels = "a.".repeat(127) + "com";
        let too_long = format!("{}.example", "a".repeat(64));
        for text in [
            "", ".", "a..b", "*", "*.", "a.*.b", "**.b", "*a.b", "-a.b", "a-.b", "a_b.c", "10.0.0.1", "ü.de", &labels,
            &too_long,
        ] {
            assert_eq!(ServerName::of(text), None, "{text}");
        }
    }

    #[test]
    fn a_wildcard_covers_any_depth_and_not_its_own_apex() {
        assert_eq!(name("a.b.c").wider().map(|name| name.to_string()).collect::<Vec<_>>(), ["*.b.c", "*.c"]);
        assert_eq!(name("*.b.c").wider().map(|name| name.to_string()).collect::<Vec<_>>(), ["*.c"]);
        assert!(name("a.b.example.com").is_within(&name("*.example.com")));
        assert!(name("*.b.example.com").is_within(&name("*.example.com")));
        assert!(!name("example.com").is_within(&name("*.example.com")));
        assert!(!name("*.example.com").is_within(&name("a.example.com")));
    }

    #[test]
    fn two_names_share_the_narrower_of_them_or_nothing() {
        let both = |one: &str, other: &str| name(one).intersection(&name(other)).map(ToString::to_string);
        assert_eq!(both("a.example.com", "*.example.com").as_deref(), Some("a.example.com"));
        assert_eq!(both("*.com", "*.example.com").as_deref(), Some("*.example.com"));
        assert_eq!(both("a.example.com", "a.example.com").as_deref(), Some("a.example.com"));
        assert_eq!(both("a.example.com", "b.example.com"), None);
        assert_eq!(both("example.com", "*.example.com"), None);
    }

    #[test]
    fn keys_outside_our_directories_are_not_ours_to_name() {
        for key in ["/apisix/routes/1", "/apisix/stream_routes_meta/1", "/apisixes/upstreams/1", "/apisix"] {
            assert_eq!(WorkId::from_key(Plane::default(), key), None, "{key}");
        }
    }
}
