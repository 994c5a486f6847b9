//! What is counted about reading objects, from an API server or from a folder.
//!
//! Events in, numbers out. Labels are kinds and API versions, never names of objects.

use crate::model::names::Kind;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// A label set of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// A label set of one kind and the version it is read at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabel {
    kind: &'static str,
    version: &'static str,
}

/// Counters of this room. Clones count into the same numbers.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    objects_unreadable: Family<KindLabel, Counter>,
    lists: Family<KindLabel, Counter>,
    read_failures: Family<KindLabel, Counter>,
    watches_silent: Family<KindLabel, Counter>,
    manifest_errors: Gauge,
    served_version: Family<VersionLabel, Gauge>,
}

impl Metrics {
    /// Registers every metric of this room in `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "objects_unreadable",
            "Times an object came in that could not be read, by kind",
            metrics.objects_unreadable.clone(),
        );
        registry.register("lists", "Complete lists taken in, by kind", metrics.lists.clone());
        registry.register(
            "read_failures",
            "Lists and watches of the Kubernetes API that failed and are tried again, by kind",
            metrics.read_failures.clone(),
        );
        registry.register(
            "watches_silent",
            "Watches of the Kubernetes API in which nothing came for so long that they were taken up anew, by kind",
            metrics.watches_silent.clone(),
        );
        registry.register(
            "manifest_errors",
            "Errors in the manifests as they are now; while there are any, older manifests stay in force",
            metrics.manifest_errors.clone(),
        );
        registry.register(
            "served_version",
            "1 for the API version a kind is read at, absent while the kind is not served",
            metrics.served_version.clone(),
        );
        metrics
    }

    /// An object of `kind` could not be read.
    pub(super) fn unreadable(&self, kind: Kind) {
        self.objects_unreadable.get_or_create(&KindLabel { kind: kind.as_str() }).inc();
    }

    /// A complete list of `kind` came in.
    pub(super) fn listed(&self, kind: Kind) {
        self.lists.get_or_create(&KindLabel { kind: kind.as_str() }).inc();
    }

    /// A list or watch of `kind` failed.
    pub(super) fn read_failed(&self, kind: Kind) {
        self.read_failures.get_or_create(&KindLabel { kind: kind.as_str() }).inc();
    }

    /// A watch of `kind` fell silent.
    pub(super) fn watch_silent(&self, kind: Kind) {
        self.watches_silent.get_or_create(&KindLabel { kind: kind.as_str() }).inc();
    }

    /// The manifests hold this many errors.
    pub(super) fn manifest_errors(&self, errors: usize) {
        self.manifest_errors.set(i64::try_from(errors).unwrap_or(i64::MAX));
    }

    /// `kind` is now read at `now` and no longer at `before`.
    pub(super) fn served(&self, kind: Kind, before: Option<&'static str>, now: Option<&'static str>) {
        let kind = kind.as_str();
        if let Some(version) = before {
            self.served_version.remove(&VersionLabel { kind, version });
        }
        if let Some(version) = now {
            self.served_version.get_or_create(&VersionLabel { kind, version }).set(1);
        }
    }

    /// How many errors the manifests hold.
    #[cfg(test)]
    pub(super) fn manifest_errors_now(&self) -> i64 {
        self.manifest_errors.get()
    }

    /// How many objects of `kind` could not be read so far.
    #[cfg(test)]
    pub(super) fn unreadable_so_far(&self, kind: Kind) -> u64 {
        self.objects_unreadable.get_or_create(&KindLabel { kind: kind.as_str() }).get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exposed(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn a_version_that_is_no_longer_read_leaves_no_series() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.served(Kind::TcpRoute, None, Some("v1alpha2"));
        assert!(exposed(&registry).contains(r#"served_version{kind="TCPRoute",version="v1alpha2"} 1"#));
        metrics.served(Kind::TcpRoute, Some("v1alpha2"), Some("v1"));
        let text = exposed(&registry);
        assert!(text.contains(r#"served_version{kind="TCPRoute",version="v1"} 1"#), "{text}");
        assert!(!text.contains("v1alpha2"), "{text}");
    }

    #[test]
    fn unreadable_objects_are_counted_by_kind() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.unreadable(Kind::Gateway);
        metrics.unreadable(Kind::Gateway);
        assert!(exposed(&registry).contains(r#"objects_unreadable_total{kind="Gateway"} 2"#));
        assert_eq!(metrics.unreadable_so_far(Kind::Gateway), 2);
    }
}
