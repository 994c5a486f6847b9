//! Places in etcd: directories, document ids and work ids.

use std::{fmt, sync::Arc};

/// A directory of APISIX's configuration that this controller writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Directory {
    /// `/upstreams`.
    Upstreams,
    /// `/stream_routes`.
    StreamRoutes,
}

impl Directory {
    /// Every directory, in the order in which documents must appear.
    pub const ALL: [Self; 2] = [Self::Upstreams, Self::StreamRoutes];

    /// The directory's name under the prefix.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upstreams => "upstreams",
            Self::StreamRoutes => "stream_routes",
        }
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A document by directory and id: the unit of work of the reconcile loop, and of the mirror.
///
/// An empty id is the directory's placeholder, the key `{prefix}/{directory}/` with the bare bytes `init_dir`, which older
/// data planes need before they read the directory at all (APISIX `core/config_etcd.lua`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkId {
    /// The directory.
    pub directory: Directory,
    /// The id inside it.
    pub id: Arc<str>,
}

impl WorkId {
    /// A document's work id.
    #[must_use]
    pub fn new(directory: Directory, id: &str) -> Self {
        Self { directory, id: id.into() }
    }

    /// The placeholder of a directory.
    #[must_use]
    pub fn placeholder(directory: Directory) -> Self {
        Self::new(directory, "")
    }

    /// Whether this is a directory's placeholder.
    #[must_use]
    pub fn is_placeholder(&self) -> bool {
        self.id.is_empty()
    }

    /// The full etcd key under `prefix` (which has no trailing slash).
    #[must_use]
    pub fn key(&self, prefix: &str) -> String {
        format!("{prefix}/{}/{}", self.directory, self.id)
    }

    /// Reads a full etcd key back; `None` for keys outside the directories this controller writes.
    #[must_use]
    pub fn from_key(prefix: &str, key: &str) -> Option<Self> {
        let rest = key.strip_prefix(prefix)?.strip_prefix('/')?;
        Directory::ALL.into_iter().find_map(|directory| {
            let id = rest.strip_prefix(directory.as_str())?.strip_prefix('/')?;
            Some(Self::new(directory, id))
        })
    }
}

impl fmt::Display for WorkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.directory, self.id)
    }
}

/// A TCP port a data plane can listen on; never 0.
pub type Port = std::num::NonZeroU16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_as_the_work_id_it_was_made_from() {
        for id in [WorkId::new(Directory::Upstreams, "a.b"), WorkId::placeholder(Directory::StreamRoutes)] {
            assert_eq!(WorkId::from_key("/apisix", &id.key("/apisix")), Some(id));
        }
    }

    #[test]
    fn keys_outside_our_directories_are_not_ours_to_name() {
        for key in ["/apisix/routes/1", "/apisix/stream_routes_meta/1", "/apisixes/upstreams/1", "/apisix"] {
            assert_eq!(WorkId::from_key("/apisix", key), None, "{key}");
        }
    }
}
