//! Replacing the checkpoint: lead, write one record that any cluster may follow, delete the others, give the lead back.
//!
//! No document is touched. The record keeps the prefixes that were known, so that what belongs to the instance stays its own.

use crate::{
    clock,
    command::lead::{LeadError, Turn, lead},
    retry::{Retry, RetryLimits},
    store::{
        ReadError, Store,
        checkpoint::Checkpoint,
        control::ControlKeys,
        lanes::{LaneAnswer, LaneId, Lanes},
        lease::Leases,
        records::{Records, read_records},
        txn::{Commit, CommitError, Txn, Write},
    },
};
use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// How many lanes are gone.
    pub n_deleted: usize,
    /// How many records could not be read.
    pub n_unread: usize,
}

/// The checkpoint was not reset.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// This process did not come to lead.
    #[error("nothing was reset")]
    NotLed(#[source] LeadError),
    /// The lanes cannot be read.
    #[error("nothing was reset: the checkpoint cannot be read")]
    Unreadable(#[source] ReadError),
    /// There is none.
    #[error("there is no checkpoint of this instance to reset: check --instance and --control-prefix")]
    Nothing,
    /// Somebody took the lead.
    #[error("another replica leads by now, and what was reset may be written over: run it again")]
    Fenced,
    /// Somebody else writes these keys.
    #[error("somebody else writes the lanes of this instance at the same time: find out who, and run it again")]
    Stolen,
    /// etcd did not write.
    #[error("nothing was reset: etcd refused")]
    Refused(#[source] CommitError),
    /// etcd did not say.
    #[error("etcd did not say whether the record was written: look with `checkpoint show`, and run it again")]
    Unanswered(#[source] CommitError),
}

impl ResetError {
    /// Whether nothing could be asked of etcd at all.
    #[must_use]
    pub fn unreachable(&self) -> bool {
        matches!(self, Self::Unreadable(_) | Self::NotLed(LeadError::Unreadable(_)))
    }
}

/// What the leader key says while this runs.
const HOLDER: &str = "checkpoint-reset";

/// How often etcd is asked again that gave no answer: half a minute, and what the requests take.
const TRIES_MAX: u32 = 10;

/// Resets the checkpoint. `waiting` is called with whoever leads; for that to end it waits up to `patience`. Dropping it
/// half-way may leave the checkpoint reset or not, and the leader key there for as long as a command's lease lasts.
pub async fn reset<S: Store + Leases>(
    store: &S,
    keys: &ControlKeys,
    patience: Duration,
    waiting: impl FnMut(&str),
) -> Result<Reset, ResetError> {
    if read_records(store, keys).await.map_err(ResetError::Unreadable)?.lanes.is_empty() {
        return Err(ResetError::Nothing);
    }
    let turn = lead(store, keys, HOLDER, patience, waiting).await.map_err(ResetError::NotLed)?;
    let reset = replace(store, keys, &turn).await;
    if let Err(error) = turn.end().await {
        tracing::debug!(%error, "the leader key stays until its lease ends");
    }
    reset
}

/// Writes the record over lane 0, whatever is in it, and deletes all other lanes.
async fn replace<S: Store + Leases>(store: &S, keys: &ControlKeys, turn: &Turn<'_, S>) -> Result<Reset, ResetError> {
    // Again: who led until then may have written.
    let records = read_records(store, keys).await.map_err(ResetError::Unreadable)?;
    let newest = records.newest_readable();
    let lanes = Lanes::new(keys, NonZeroU32::MIN, &records.found(), newest.map_or(0, |newest| newest.sequence));
    let n_unread = records.lanes.iter().filter(|lane| lane.record.is_err()).count();
    let mut writer = Writer { store, turn, lanes, retry: Retry::new(RetryLimits::STORE) };
    writer.rewrite(|sequence| fresh(keys, &records, sequence).encode()).await?;
    let n_deleted = writer.tidy().await?;
    Ok(Reset { n_deleted, n_unread })
}

/// A record that any cluster may follow.
fn fresh(keys: &ControlKeys, records: &Records, sequence: u64) -> Checkpoint {
    Checkpoint {
        instance: Arc::clone(keys.instance()),
        cluster: "".into(),
        prefixes: records.newest_readable().map_or_else(BTreeMap::new, |newest| newest.prefixes.clone()),
        versions: BTreeMap::new(),
        sequence,
        holder: HOLDER.into(),
        written_at: clock::unix_seconds(),
    }
}

struct Writer<'a, S> {
    store: &'a S,
    turn: &'a Turn<'a, S>,
    lanes: Lanes,
    retry: Retry,
}

impl<S: Store + Leases> Writer<'_, S> {
    /// Puts a record into the only lane, for certain.
    async fn rewrite(&mut self, record: impl Fn(u64) -> Vec<u8>) -> Result<(), ResetError> {
        let Some((lane, write)) = self.lanes.begin(&record) else { return Err(ResetError::Stolen) };
        let mut write = write;
        loop {
            match self.ask(lane, write).await {
                // A settling that won is as good: its record says the same.
                LaneAnswer::Applied(_) | LaneAnswer::Void => return Ok(()),
                LaneAnswer::Refused(error) => return Err(ResetError::Refused(error)),
                LaneAnswer::Fenced => return Err(ResetError::Fenced),
                LaneAnswer::Conflicted { .. } | LaneAnswer::Stolen => return Err(ResetError::Stolen),
                LaneAnswer::Open(error) => self.wait(error).await?,
            }
            write = self.lanes.settle(lane, &record).ok_or(ResetError::Stolen)?;
        }
    }

    async fn ask(&mut self, lane: LaneId, write: Write) -> LaneAnswer {
        let answer = self.commit(vec![write]).await;
        self.lanes.answered(lane, answer)
    }

    /// Deletes all lanes but the first; how many.
    async fn tidy(&mut self) -> Result<usize, ResetError> {
        let mut n_deleted = 0;
        loop {
            let writes = self.lanes.surplus();
            let n = writes.len();
            if n == 0 {
                return Ok(n_deleted);
            }
            match self.commit(writes).await {
                Ok(Commit::Applied(_)) => {}
                // An earlier try was applied, and its answer lost.
                Ok(Commit::Conflicted { current, .. }) if current.iter().all(|key| key.value.is_none()) => {}
                Ok(Commit::Conflicted { .. }) => return Err(ResetError::Stolen),
                Ok(Commit::Fenced) => return Err(ResetError::Fenced),
                Err(error @ CommitError::Refused { .. }) => return Err(ResetError::Refused(error)),
                Err(error @ CommitError::Unanswered { .. }) => {
                    self.wait(error).await?;
                    continue;
                }
            }
            self.lanes.surplus_gone();
            n_deleted += n;
        }
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Commit, CommitError> {
        self.store.commit(Txn { fence: self.turn.fence.clone(), conditions: Vec::new(), writes }).await
    }

    async fn wait(&mut self, error: CommitError) -> Result<(), ResetError> {
        if self.retry.n_tries() >= TRIES_MAX {
            return Err(ResetError::Unanswered(error));
        }
        tokio::time::sleep(self.retry.next_delay()).await;
        self.turn.prolong().await;
        Ok(())
    }
}
