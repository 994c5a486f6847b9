//! Counts of what the status writer does.

use crate::model::names::Kind;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// How one attempt to write a status ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The API server took it.
    Written,
    /// The object says it already.
    Unchanged,
    /// The object is newer than what the status was computed from.
    Stale,
    /// Somebody else wrote the object in between; it is tried again at once.
    Conflicted,
    /// The object no longer exists.
    Gone,
    /// The API server did not take it, or did not answer; it is tried again later.
    Failed,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Unchanged => "unchanged",
            Self::Stale => "stale",
            Self::Conflicted => "conflicted",
            Self::Gone => "gone",
            Self::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

/// The status writer's metrics; clones share their values.
#[derive(Clone, Debug)]
pub struct Metrics {
    writes: Family<WriteLabels, Counter>,
    unplaced: Family<KindLabels, Counter>,
    queue_depth: Gauge,
}

impl Metrics {
    /// Registers `status_writes_total{kind,outcome}`, `status_unplaced_total{kind}` and `status_queue_depth`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self { writes: Family::default(), unplaced: Family::default(), queue_depth: Gauge::default() };
        registry.register("status_writes", "Attempts to write an object's status", metrics.writes.clone());
        registry.register(
            "status_unplaced",
            "Status entries left out because other controllers' entries fill the list",
            metrics.unplaced.clone(),
        );
        registry.register(
            "status_queue_depth",
            "Objects whose status waits to be written or is being written",
            metrics.queue_depth.clone(),
        );
        metrics
    }

    pub(super) fn attempted(&self, kind: Kind, outcome: Outcome) {
        self.writes.get_or_create(&WriteLabels { kind: kind.as_str(), outcome: outcome.as_str() }).inc();
    }

    pub(super) fn left_out(&self, kind: Kind, n_entries: usize) {
        let n_entries = u64::try_from(n_entries).unwrap_or(u64::MAX);
        self.unplaced.get_or_create(&KindLabels { kind: kind.as_str() }).inc_by(n_entries);
    }

    pub(super) fn queued(&self, n_objects: usize) {
        self.queue_depth.set(i64::try_from(n_objects).unwrap_or(i64::MAX));
    }
}
