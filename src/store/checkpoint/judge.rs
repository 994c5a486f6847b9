//! What a new leader makes of the checkpoint it found: go on, list anew, or stop. Pure.
//!
//! Records, the cluster's identity and the versions of the caches come in; a judgement comes out. A [`Stop`] is final until a
//! person did something: whoever gets one writes nothing.

use super::{Checkpoint, CheckpointError};
use crate::model::{names::Kind, versions::CacheVersion};
use std::{collections::BTreeMap, sync::Arc};

/// Why nothing may be written. Each says what happened and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The documents were computed from another cluster.
    #[error(
        "etcd was last written from cluster {recorded}, and this controller follows cluster {ours}. Two clusters must not \
         share one instance: give this controller an --instance or a --control-prefix of its own. If this cluster replaces \
         the other one, run `checkpoint reset` (`checkpoint show` says what is recorded)"
    )]
    OtherCluster {
        /// The one in the checkpoint.
        recorded: Arc<str>,
        /// The one followed here.
        ours: Arc<str>,
    },
    /// The cluster has gone back in time.
    #[error(
        "the {} of the cluster were listed anew and are at version {listed}, but etcd was last written from version \
         {recorded}: the cluster was restored from a backup, or its API server answers with an old state. If what the \
         cluster has is what should be served, run `checkpoint reset` (`checkpoint show` says what is recorded)",
        kind.resource()
    )]
    Restored {
        /// Of what.
        kind: Kind,
        /// The version in the checkpoint.
        recorded: CacheVersion,
        /// That of a list newer than the checkpoint's reading.
        listed: CacheVersion,
    },
    /// A newer controller was here.
    #[error(
        "etcd was last written by a newer controller: the checkpoint has format {found}, and this one knows formats up to \
         {known}. Upgrade this controller, or run it with another --instance or --control-prefix"
    )]
    NewerFormat {
        /// Its format.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// A record cannot be read.
    #[error(
        "the checkpoint is broken ({reason}): somebody else writes the keys of this instance, or something damaged them. \
         `checkpoint show` says which; give the instance a --control-prefix of its own, or run `checkpoint reset` to replace \
         the record"
    )]
    Broken {
        /// What reading it said.
        reason: Arc<str>,
    },
}

impl From<CheckpointError> for Stop {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::NewerFormat { found, known } => Self::NewerFormat { found, known },
            CheckpointError::Broken { reason } => Self::Broken { reason },
        }
    }
}

/// The checkpoint among the records of all lanes: the one with the highest sequence; `None` if there are none. One record
/// that cannot be used spoils all, because it may be the newest.
pub fn newest(
    records: impl IntoIterator<Item = Result<Checkpoint, CheckpointError>>,
) -> Result<Option<Checkpoint>, CheckpointError> {
    let mut newest: Option<Checkpoint> = None;
    for record in records {
        let record = record?;
        if newest.as_ref().is_none_or(|newest| newest.sequence < record.sequence) {
            newest = Some(record);
        }
    }
    Ok(newest)
}

impl Checkpoint {
    /// Whether a controller that follows `cluster` may go on from here.
    pub fn acceptable(&self, cluster: &str) -> Result<(), Stop> {
        if self.accepts_any() || *self.cluster == *cluster {
            return Ok(());
        }
        Err(Stop::OtherCluster { recorded: Arc::clone(&self.cluster), ours: cluster.into() })
    }

    /// Whether any cluster may follow, in any state: what a reset leaves.
    #[must_use]
    pub fn accepts_any(&self) -> bool {
        self.cluster.is_empty()
    }

    /// The kinds whose cache is older than recorded, with the version recorded; in the order of [`Kind::ALL`]. Kinds that
    /// `versions` lacks are not judged: the caller knows whether they are served.
    #[must_use]
    pub fn behind(&self, versions: &BTreeMap<Kind, CacheVersion>) -> Vec<(Kind, CacheVersion)> {
        Kind::ALL
            .into_iter()
            .filter_map(|kind| {
                let recorded = *self.versions.get(kind.resource().as_str())?;
                (*versions.get(&kind)? < recorded).then_some((kind, recorded))
            })
            .collect()
    }

    /// Whether the cluster has gone back in time, as far as `listed` shows: versions of complete lists that were begun after
    /// this record was read. With caches that were listed earlier, ask [`Checkpoint::behind`] first, and list those anew.
    pub fn not_restored(&self, listed: &BTreeMap<Kind, CacheVersion>) -> Result<(), Stop> {
        let behind = self.behind(listed);
        match behind.into_iter().find_map(|(kind, recorded)| Some((kind, recorded, *listed.get(&kind)?))) {
            Some((kind, recorded, listed)) => Err(Stop::Restored { kind, recorded, listed }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::sample, *};

    fn broken() -> CheckpointError {
        CheckpointError::Broken { reason: "it is no record".into() }
    }

    fn recorded(versions: &[(&str, u64)]) -> Checkpoint {
        let versions = versions.iter().map(|(resource, version)| ((*resource).into(), CacheVersion(*version)));
        Checkpoint { versions: versions.collect(), ..sample(1) }
    }

    #[test]
    fn the_highest_sequence_is_the_newest_wherever_it_stands() {
        for sequences in [[1, 2, 3], [3, 1, 2], [2, 3, 1]] {
            let newest = newest(sequences.map(|sequence| Ok(sample(sequence)))).unwrap().unwrap();
            assert_eq!(newest.sequence, 3);
        }
        assert_eq!(newest([]), Ok(None));
    }

    #[test]
    fn one_record_that_cannot_be_used_spoils_all() {
        assert_eq!(newest([Ok(sample(9)), Err(broken()), Ok(sample(10))]), Err(broken()));
        let newer = CheckpointError::NewerFormat { found: 3, known: 1 };
        assert_eq!(newest([Err(newer.clone()), Ok(sample(9))]), Err(newer));
    }

    #[test]
    fn another_cluster_may_not_follow() {
        assert_eq!(sample(1).acceptable("f0e1"), Ok(()));
        let stop = sample(1).acceptable("folder").unwrap_err();
        assert_eq!(stop, Stop::OtherCluster { recorded: "f0e1".into(), ours: "folder".into() });
    }

    #[test]
    fn after_a_reset_any_cluster_in_any_state_may_follow() {
        let reset = Checkpoint { cluster: "".into(), versions: BTreeMap::new(), ..sample(1) };
        assert_eq!(reset.acceptable("anything"), Ok(()));
        assert_eq!(reset.not_restored(&[(Kind::Service, CacheVersion(0))].into()), Ok(()));
    }

    #[test]
    fn a_kind_is_behind_when_its_cache_is_older_than_recorded() {
        let recorded = recorded(&[
            ("services", 7),
            ("namespaces", 5),
            ("gateway.networking.k8s.io/gateways", 9),
            ("example.com/unknown", 99),
        ]);
        let versions = |service, gateway| {
            BTreeMap::from([(Kind::Service, CacheVersion(service)), (Kind::Gateway, CacheVersion(gateway))])
        };
        assert_eq!(recorded.behind(&versions(7, 10)), []);
        assert_eq!(recorded.behind(&versions(6, 9)), [(Kind::Service, CacheVersion(7))]);
        let both = [(Kind::Gateway, CacheVersion(9)), (Kind::Service, CacheVersion(7))];
        assert_eq!(recorded.behind(&versions(6, 8)), both);
        let stop = recorded.not_restored(&versions(6, 9)).unwrap_err();
        let restored = Stop::Restored { kind: Kind::Service, recorded: CacheVersion(7), listed: CacheVersion(6) };
        assert_eq!(stop, restored);
        assert_eq!(recorded.not_restored(&versions(7, 9)), Ok(()));
    }

    #[test]
    fn a_kind_that_was_never_recorded_is_not_behind() {
        assert_eq!(recorded(&[]).behind(&[(Kind::Service, CacheVersion(0))].into()), []);
    }

    #[test]
    fn every_stop_says_what_to_do() {
        let stops = [
            (sample(1).acceptable("x").unwrap_err(), "checkpoint reset"),
            (Stop::from(broken()), "checkpoint reset"),
            (Stop::from(CheckpointError::NewerFormat { found: 2, known: 1 }), "Upgrade this controller"),
            (
                Stop::Restored { kind: Kind::TcpRoute, recorded: CacheVersion(7), listed: CacheVersion(6) },
                "the gateway.networking.k8s.io/tcproutes of the cluster",
            ),
        ];
        for (stop, part) in stops {
            assert!(stop.to_string().contains(part), "{stop}");
        }
    }
}
