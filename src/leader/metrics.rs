//! What the campaign counts: terms and renewals in, Prometheus metrics out.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// The metrics of the campaign.
#[derive(Clone, Debug)]
pub struct Metrics {
    leader: Gauge,
    leadership_changes: Counter,
    lease_renewals_failed: Counter,
}

impl Metrics {
    /// Adds them to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            leader: Gauge::default(),
            leadership_changes: Counter::default(),
            lease_renewals_failed: Counter::default(),
        };
        registry.register("leader", "1 while this replica leads, as far as it knows", metrics.leader.clone());
        registry.register(
            "leadership_changes",
            "Times this replica began or ceased to lead",
            metrics.leadership_changes.clone(),
        );
        registry.register(
            "lease_renewals_failed",
            "Renewals of the leader's lease that were refused or not answered",
            metrics.lease_renewals_failed.clone(),
        );
        metrics
    }

    pub(super) fn began(&self) {
        self.leader.set(1);
        self.leadership_changes.inc();
    }

    pub(super) fn ceased(&self) {
        self.leader.set(0);
        self.leadership_changes.inc();
    }

    pub(super) fn renewal_failed(&self) {
        self.lease_renewals_failed.inc();
    }
}
