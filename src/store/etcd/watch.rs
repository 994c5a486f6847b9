//! A running watch on etcd: its responses in, whole revisions out.

use super::{
    encode::{key_change, revision},
    errors::read_error,
};
use crate::store::{KeyChange, ReadError, Watch, WatchBatch};
use etcd_client::{WatchClient, WatchResponse, WatchStream};

/// A running watch on etcd.
pub struct EtcdWatch {
    stream: WatchStream,
    fragments: Fragments,
    /// Keeps the connection that the stream is on, after another one has taken its place.
    _connection: WatchClient,
}

impl EtcdWatch {
    pub(super) fn new(stream: WatchStream, connection: WatchClient) -> Self {
        Self { stream, fragments: Fragments::default(), _connection: connection }
    }
}

impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<WatchBatch, ReadError> {
        loop {
            // What is kept of fragments outlives this future, so dropping it here loses nothing.
            let Some(WatchResponse(response)) = self.stream.message().await.map_err(read_error)? else {
                return Err(ReadError::Failed { source: "the watch was closed".into() });
            };
            if response.compact_revision != 0 {
                return Err(ReadError::Compacted);
            }
            if response.canceled {
                return Err(ReadError::Failed { source: response.cancel_reason.into() });
            }
            let told_at = revision(response.header.as_ref().map(Into::into));
            let idle = response.events.is_empty();
            let changes = self.fragments.join(response.events.into_iter().filter_map(key_change), response.fragment);
            let revision = match changes.last() {
                Some(last) => last.revision,
                // SUBTLE: the answer that the watch was created carries the store's revision too, but says nothing about
                // how far the watch has come. Nor does one whose changes wait for the rest of their revision.
                None if response.created || !idle => continue,
                None => told_at,
            };
            return Ok(WatchBatch { revision, changes });
        }
    }
}

/// Joins what etcd parted: a response too large for it comes as several, cut anywhere.
#[derive(Default)]
struct Fragments {
    /// What was told of a revision whose rest is yet to come.
    kept: Vec<KeyChange>,
}

impl Fragments {
    /// Takes the changes of one response, in the order of their revisions, and whether its rest is yet to come. Gives back
    /// what is complete: a revision is when a change of a later one has come, so no more than one is ever kept.
    fn join(&mut self, changes: impl Iterator<Item = KeyChange>, more: bool) -> Vec<KeyChange> {
        self.kept.extend(changes);
        let last = self.kept.last().map(|change| change.revision);
        let n_complete =
            if more { self.kept.partition_point(|change| Some(change.revision) < last) } else { self.kept.len() };
        let rest = self.kept.split_off(n_complete);
        std::mem::replace(&mut self.kept, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::txn::Revision;

    fn join(fragments: &mut Fragments, revisions: &[i64], more: bool) -> Vec<i64> {
        let change = |revision: &i64| KeyChange { key: vec![], revision: Revision(*revision), value: None };
        fragments.join(revisions.iter().map(change), more).iter().map(|change| change.revision.0).collect()
    }

    #[test]
    fn a_response_that_is_whole_is_told_whole() {
        let mut fragments = Fragments::default();
        assert_eq!(join(&mut fragments, &[2, 2, 3], false), [2, 2, 3]);
        assert!(join(&mut fragments, &[], false).is_empty());
    }

    #[test]
    fn a_revision_waits_for_its_rest_and_those_before_it_do_not() {
        let mut fragments = Fragments::default();
        assert_eq!(join(&mut fragments, &[2, 3, 3], true), [2]);
        assert!(join(&mut fragments, &[3], true).is_empty());
        assert_eq!(join(&mut fragments, &[3, 4], true), [3, 3, 3, 3]);
        assert_eq!(join(&mut fragments, &[4, 5], false), [4, 4, 5]);
        assert_eq!(join(&mut fragments, &[6], false), [6]);
    }
}
