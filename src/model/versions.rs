//! How new a state of the cluster is.

use std::fmt;

/// Up to which change of the cluster a kind is known: a `resourceVersion`.
///
/// Those of one kind can be compared: Kubernetes makes them of decimal digits, growing with each change (KEP-5504).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheVersion(pub u64);

impl CacheVersion {
    /// Reads a `resourceVersion`; `None` where the source has no versions that can be compared.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

impl fmt::Display for CacheVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
