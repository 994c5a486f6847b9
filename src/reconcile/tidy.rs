//! Control keys that have done their work: releases that were heard, and lanes that are not used any more. Deleted in
//! transactions of their own, through a lane like everything else.

use super::{State, control::Release};
use crate::{
    model::places::Plane,
    plan::{
        order::TxnNumber,
        pack::{Envelope, Packet},
    },
    status::queue::StatusSink,
    store::{
        checkpoint::Checkpoint,
        txn::{Action, Txn, Write},
    },
};
use std::collections::{BTreeSet, HashMap};

/// At most so many control keys are deleted at once; far below etcd's limit of operations.
const DELETES_MAX: usize = 64;

/// What became of a transaction that tidied up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tidied {
    Applied,
    Lost,
}

/// A transaction that tidies up and is not answered yet.
#[derive(Debug)]
pub(super) struct Tidying {
    pub(super) number: TxnNumber,
    releases: BTreeSet<Release>,
}

impl<K: StatusSink> State<K> {
    /// The next transaction that tidies up, if there is anything to tidy and nobody does it.
    pub(super) fn tidy(&mut self) -> Option<(TxnNumber, Txn)> {
        let leading = self.leading()?;
        if leading.tidying.is_some() || leading.lanes.n_free() == 0 || self.outage.is_some() {
            return None;
        }
        let surplus = leading.lanes.surplus();
        let heard = self.control.releases().into_iter().filter(|release| !self.cleared.contains(release));
        let releases: BTreeSet<Release> = heard.take(DELETES_MAX.saturating_sub(surplus.len())).collect();
        if surplus.is_empty() && releases.is_empty() && !self.names_emptied() {
            return None;
        }
        let clear = |release: &Release| Write {
            key: self.settings.control.release(&release.name),
            expected: release.revision,
            action: Action::Delete,
        };
        let deletes: Vec<Write> = surplus.into_iter().chain(releases.iter().map(clear)).collect();
        let number = self.work.next_txn();
        let envelope = self.envelope(number)?;
        let mut txn = Packet::default().txn(envelope);
        txn.writes.splice(0..0, deletes);
        self.work.sent(number, Packet::default(), HashMap::new());
        if let Some(leading) = self.leading_mut() {
            leading.tidying = Some(Tidying { number, releases });
        }
        Some((number, txn))
    }

    /// Whether the record names a data plane that has been emptied, and nothing is under way that would say so.
    fn names_emptied(&self) -> bool {
        let record = self.leading().and_then(|leading| leading.record.as_ref());
        let more = record.filter(|record| record.prefixes.len() > self.desired.planes().count());
        more.is_some_and(|record| self.work.n_in_flight() == 0 && record.prefixes != self.prefixes())
    }

    /// A transaction that tidied up was applied, or lost (then what is left of releases is told by the watch); `None`: it has
    /// to be sent again.
    pub(super) fn tidied(&mut self, outcome: Option<Tidied>) {
        let Some(leading) = self.leading_mut() else { return };
        let tidying = leading.tidying.take();
        match outcome {
            // Whoever deleted a surplus lane, or goes on writing it, does not keep us from forgetting it.
            Some(Tidied::Lost) => leading.lanes.surplus_gone(),
            Some(Tidied::Applied) => {
                leading.lanes.surplus_gone();
                // Gone from etcd; the watch has yet to say so.
                self.cleared.extend(tidying.into_iter().flat_map(|tidying| tidying.releases));
                self.forget_cleared();
            }
            None => {}
        }
    }

    /// Forgets of releases that they were cleared once the watch has said so.
    pub(super) fn forget_cleared(&mut self) {
        if !self.cleared.is_empty() {
            let told = self.control.releases();
            self.cleared.retain(|release| told.contains(release));
        }
    }

    /// Fence and lane of the transaction `number`; `None` without leading, and when every lane is in use.
    pub(super) fn envelope(&mut self, number: TxnNumber) -> Option<Envelope> {
        let checkpoint = self.checkpoint();
        let leading = self.leading_mut()?;
        let recorded = checkpoint.prefixes.keys().map(|prefix| Plane::of(prefix)).collect();
        let mut sent = None;
        let (lane, write) = leading.lanes.begin(|sequence| {
            let record = Checkpoint { sequence, ..checkpoint };
            let bytes = record.encode();
            sent = Some(record);
            bytes
        })?;
        leading.record = sent;
        leading.in_lane.insert(number, (lane, recorded));
        Some(Envelope { fence: leading.term.fence.clone(), lane: write })
    }

    /// The transaction that settles an open one.
    pub(super) fn settling(&mut self, number: TxnNumber) -> Option<Txn> {
        let checkpoint = self.checkpoint();
        let leading = self.leading_mut()?;
        let lane = leading.in_lane.get(&number)?.0;
        let write = leading.lanes.settle(lane, |sequence| Checkpoint { sequence, ..checkpoint }.encode())?;
        leading.open.remove(&number);
        let fence = leading.term.fence.clone();
        Some(Txn { fence, conditions: Vec::new(), writes: vec![write] })
    }
}
