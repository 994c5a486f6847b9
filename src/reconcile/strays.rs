//! Strays: documents at ids of our shape with nobody's seal that are not wanted. What is about to be written comes in; out comes
//! whether a deletion among it has to wait. Nothing is deleted here.
//!
//! Whose a stray is hangs on which instances have a checkpoint. Documents and checkpoints are told by two watches, and the one may be
//! ahead of the other: an instance that has just begun may have written a document, and somebody edited it, before we have heard of
//! its first record. So a stray is deleted only once the control keys have been read at its revision or a later one. An instance
//! records itself in the transaction of its first document, so that reading shows whoever can have written it, and the
//! deletion compares that revision.

use super::State;
use crate::{
    apisix::stored::Seal,
    model::places::WorkId,
    plan::DocumentWrite,
    status::queue::StatusSink,
    store::{follow::control::ControlEvent, txn::Action},
};

impl<K: StatusSink> State<K> {
    /// Whether these writes delete a stray of which it cannot be said yet whose it is.
    pub(super) fn unjudged(&self, writes: &[DocumentWrite]) -> bool {
        let read_at = self.control.read_at();
        let unsealed = |id: &WorkId| self.mirror.stored(id).is_some_and(|stored| stored.inspected.seal == Seal::Broken);
        writes.iter().any(|write| match write.action {
            Action::Delete => write.expected > read_at && unsealed(&write.id),
            Action::Put(_) => false,
        })
    }

    /// Looks at `id` again when the control keys have been read.
    pub(super) fn judge_when_read(&mut self, id: WorkId) {
        self.reread_control();
        self.unjudged.insert(id);
    }

    /// The control keys have told something.
    pub(super) fn judge_strays(&mut self, event: &ControlEvent) {
        match event {
            ControlEvent::Snapshot { .. } => {
                for id in std::mem::take(&mut self.unjudged) {
                    self.work.add(id);
                }
            }
            ControlEvent::Changed { .. } | ControlEvent::Disconnected | ControlEvent::Reconnected => {}
        }
    }
}
