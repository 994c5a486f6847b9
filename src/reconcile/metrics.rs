//! What the reconcile loop counts: events in, Prometheus metrics out.

use crate::{
    model::{names::Kind, places::Directory},
    plan::order::Left,
    store::txn::{Commit, CommitError},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectoryLabel {
    directory: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DriftLabel {
    what: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LeftLabel {
    why: &'static str,
}

/// What somebody else did to a document of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drift {
    /// Changed or replaced it, or put one where an id is ours.
    Edited,
    /// Deleted it.
    Deleted,
}

/// The metrics of the reconcile loop.
#[derive(Clone, Debug)]
pub struct Metrics {
    objects: Family<KindLabel, Gauge>,
    documents: Family<DirectoryLabel, Gauge>,
    transactions: Family<OutcomeLabel, Counter>,
    transaction_operations: Histogram,
    propagation: Histogram,
    drift_detected: Family<DriftLabel, Counter>,
    drift_repaired: Counter,
    halted: Gauge,
    store_full: Gauge,
    audits_failed: Counter,
    left: Family<LeftLabel, Gauge>,
    overlapped: Gauge,
    held: Gauge,
    kinds_missing: Gauge,
}

impl Metrics {
    /// Adds them to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            objects: Family::default(),
            documents: Family::default(),
            transactions: Family::default(),
            // 1 to 128, etcd's default limit, and what a raised limit may bring.
            transaction_operations: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            // A transaction takes half a millisecond at best; 2^15 times that is 16 s.
            propagation: Histogram::new(exponential_buckets(0.0005, 2.0, 16)),
            drift_detected: Family::default(),
            drift_repaired: Counter::default(),
            halted: Gauge::default(),
            store_full: Gauge::default(),
            audits_failed: Counter::default(),
            left: Family::default(),
            overlapped: Gauge::default(),
            held: Gauge::default(),
            kinds_missing: Gauge::default(),
        };
        registry.register("objects", "Objects known of each kind", metrics.objects.clone());
        registry.register("documents", "Documents in etcd as this instance wrote them", metrics.documents.clone());
        registry.register("transactions", "Transactions by what the store answered", metrics.transactions.clone());
        registry.register(
            "transaction_operations",
            "Operations of each transaction sent, as etcd counts them",
            metrics.transaction_operations.clone(),
        );
        registry.register(
            "propagation_seconds",
            "From the arrival of a change of an object to the commit of a document it affects",
            metrics.propagation.clone(),
        );
        registry.register(
            "drift_detected",
            "Documents of ours found edited or deleted by somebody else",
            metrics.drift_detected.clone(),
        );
        registry.register("drift_repaired", "Documents put right after that", metrics.drift_repaired.clone());
        registry.register(
            "halted",
            "1 while nothing is written until a person has decided; the log says why",
            metrics.halted.clone(),
        );
        registry.register("store_full", "1 while etcd refuses writes for want of space", metrics.store_full.clone());
        registry.register(
            "audits_failed",
            "Audits that found changes of etcd which its watch had not told",
            metrics.audits_failed.clone(),
        );
        metrics.register_what_is_not_as_wanted(registry);
        metrics
    }

    fn register_what_is_not_as_wanted(&self, registry: &mut Registry) {
        registry.register(
            "documents_left",
            "Documents at ids of ours that are not as wanted and are left so, by why",
            self.left.clone(),
        );
        registry.register(
            "slots_overlapped",
            "stream_routes as this instance wrote them beside which one of somebody else takes the same connections",
            self.overlapped.clone(),
        );
        registry.register(
            "slots_held",
            "stream_routes that are kept as they are because too many would stop at once",
            self.held.clone(),
        );
        registry.register(
            "kinds_missing",
            "Kinds that were there when etcd was last written and are not served; what may hang on them is kept",
            self.kinds_missing.clone(),
        );
    }

    pub(super) fn slots_overlapped(&self, n_slots: usize) {
        self.overlapped.set(gauge(n_slots));
    }

    pub(super) fn slots_held(&self, n_slots: usize) {
        self.held.set(gauge(n_slots));
    }

    pub(super) fn kinds_missing(&self, n_kinds: usize) {
        self.kinds_missing.set(gauge(n_kinds));
    }

    pub(super) fn documents_left<'a>(&self, left: impl Iterator<Item = &'a Left>) {
        let (mut n_edited, mut n_strays) = (0, 0);
        for left in left {
            match left {
                Left::Edited => n_edited += 1,
                Left::Stray => n_strays += 1,
            }
        }
        self.left.get_or_create(&LeftLabel { why: "edited" }).set(n_edited);
        self.left.get_or_create(&LeftLabel { why: "stray" }).set(n_strays);
    }

    pub(super) fn objects_known(&self, kind: Kind, n_objects: usize) {
        self.objects.get_or_create(&KindLabel { kind: kind.as_str() }).set(gauge(n_objects));
    }

    pub(super) fn documents_stored(&self, directory: Directory, n_documents: usize) {
        let label = DirectoryLabel { directory: directory.as_str() };
        self.documents.get_or_create(&label).set(gauge(n_documents));
    }

    #[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
    pub(super) fn sent(&self, n_operations: usize) {
        self.transaction_operations.observe(n_operations as f64);
    }

    pub(super) fn answered(&self, answer: &Result<Commit, CommitError>) {
        let outcome = match answer {
            Ok(Commit::Applied(_)) => "applied",
            Ok(Commit::Conflicted { .. }) => "conflicted",
            Ok(Commit::Fenced) => "fenced",
            Err(CommitError::Refused { .. }) => "refused",
            Err(CommitError::Unanswered { .. }) => "unanswered",
        };
        self.transactions.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub(super) fn propagated(&self, after: Duration) {
        self.propagation.observe(after.as_secs_f64());
    }

    pub(super) fn drift_detected(&self, drift: Drift) {
        let what = match drift {
            Drift::Edited => "edited",
            Drift::Deleted => "deleted",
        };
        self.drift_detected.get_or_create(&DriftLabel { what }).inc();
    }

    pub(super) fn halted(&self, halted: bool) {
        self.halted.set(i64::from(halted));
    }

    pub(super) fn store_full(&self, full: bool) {
        self.store_full.set(i64::from(full));
    }

    pub(super) fn audit_failed(&self) {
        self.audits_failed.inc();
    }

    pub(super) fn drift_repaired(&self) {
        self.drift_repaired.inc();
    }
}

fn gauge(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
