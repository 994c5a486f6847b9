//! Packing: writes in, transactions within the store's limits out. Pure.

use super::{DocumentWrite, Need};
use crate::{
    model::places::{Plane, WorkId},
    store::txn::{Condition, Fence, Revision, Txn, Write, condition_bytes, fence_bytes, write_bytes},
};
use std::collections::BTreeMap;

/// How large a transaction may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest of its lists of compares, writes and reads.
    pub operations_max: usize,
    /// Its bytes, as encoded.
    pub bytes_max: usize,
}

impl Limits {
    /// etcd's own limits are 128 operations and 1.5 MiB; its administrator may have set others. 1 MiB leaves room for
    /// what etcd wraps a request in.
    pub const DEFAULT: Self = Self { operations_max: 128, bytes_max: 1024 * 1024 };
}

/// What every transaction holds before any document: its fence, and the record of its lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Who must be leading.
    pub fence: Fence,
    /// The lane and its record.
    pub lane: Write,
}

impl Envelope {
    /// A compare and a read of the fence, and the same of the lane beside its put.
    const OPERATIONS: usize = 2;

    /// What it takes of a transaction's bytes.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        fence_bytes(&self.fence.key) + write_bytes(&self.lane.key, &self.lane.action)
    }
}

/// A transaction being filled.
#[derive(Debug)]
pub struct Packer {
    limits: Limits,
    writes: Vec<DocumentWrite>,
    conditions: BTreeMap<WorkId, Revision>,
    n_bytes: usize,
}

/// What became of writes that were to travel together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packed {
    /// These are in the transaction; the others have to come again.
    In(Vec<WorkId>),
    /// There is no room for all of them beside what is in already; none is in.
    Full,
    /// This one is too large for any transaction; none is in.
    TooLarge(WorkId),
}

/// A filled transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// The documents it writes, in order.
    pub writes: Vec<DocumentWrite>,
    /// The pools and certificates it relies on without writing them.
    pub conditions: BTreeMap<WorkId, Revision>,
}

impl Packet {
    /// The transaction itself; the documents are its first writes.
    #[must_use]
    pub fn txn(&self, envelope: Envelope) -> Txn {
        let Envelope { fence, lane } = envelope;
        let conditions = self.conditions.iter().map(|(id, &expected)| Condition { key: id.key().into(), expected });
        let writes = self.writes.iter().map(|DocumentWrite { id, expected, action, needs: _ }| Write {
            key: id.key().into(),
            expected: *expected,
            action: action.clone(),
        });
        Txn { fence, conditions: conditions.collect(), writes: writes.chain([lane]).collect() }
    }
}

impl Packer {
    /// An empty transaction, whose [`Envelope`] takes `envelope_bytes`.
    #[must_use]
    pub fn new(limits: Limits, envelope_bytes: usize) -> Self {
        Self { limits, writes: Vec::new(), conditions: BTreeMap::new(), n_bytes: envelope_bytes }
    }

    /// Whether nothing is in yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The data plane of what is in.
    #[must_use]
    pub fn plane(&self) -> Option<Plane> {
        self.writes.first().map(|write| write.id.plane)
    }

    /// Puts `writes` in, all of them or none; into an empty transaction, as many from the front as fit.
    pub fn add(&mut self, writes: Vec<DocumentWrite>) -> Packed {
        let alone = self.is_empty();
        let mark = (self.writes.len(), self.conditions.clone(), self.n_bytes);
        let mut ids = Vec::with_capacity(writes.len());
        for write in writes {
            let id = write.id.clone();
            if self.push(write) {
                ids.push(id);
                continue;
            }
            if alone && !ids.is_empty() {
                break;
            }
            (_, self.conditions, self.n_bytes) = mark;
            self.writes.truncate(mark.0);
            return if alone { Packed::TooLarge(id) } else { Packed::Full };
        }
        Packed::In(ids)
    }

    /// The filled transaction; `None` if nothing is in.
    #[must_use]
    pub fn finish(self) -> Option<Packet> {
        (!self.writes.is_empty()).then_some(Packet { writes: self.writes, conditions: self.conditions })
    }

    /// Puts one write in if it fits.
    fn push(&mut self, write: DocumentWrite) -> bool {
        let more = write.needs.iter().filter_map(Need::condition).filter(|(id, _)| !self.conditions.contains_key(id));
        // Each key once, within the write as well.
        let more: BTreeMap<WorkId, Revision> = more.map(|(id, expected)| (id.clone(), expected)).collect();
        let n_compares = Envelope::OPERATIONS + self.writes.len() + self.conditions.len() + 1 + more.len();
        let n_bytes = self.n_bytes
            + write_bytes(&write.id.key(), &write.action)
            + more.keys().map(|id| condition_bytes(&id.key())).sum::<usize>();
        // Every compare has a read in the other branch, and writes are fewer: compares are the longest list.
        if n_compares > self.limits.operations_max || n_bytes > self.limits.bytes_max {
            return false;
        }
        self.n_bytes = n_bytes;
        self.conditions.extend(more);
        self.writes.push(write);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::places::{Directory, Plane},
        store::txn::Action,
    };
    use std::sync::Arc;

    const SMALL: Limits = Limits { operations_max: 6, bytes_max: 100_000 };

    fn envelope() -> Envelope {
        let lane = Write { key: "/c/us/lanes/0".into(), expected: Revision(2), action: Action::Put([b'r'; 50].into()) };
        Envelope { fence: Fence { key: "/c/us/leader".into(), created: Revision(1) }, lane }
    }

    fn pool(name: &str, n_bytes: usize) -> DocumentWrite {
        let id = WorkId::new(Plane::default(), Directory::Upstreams, name);
        DocumentWrite { id, expected: Revision(3), action: Action::Put(vec![b'x'; n_bytes].into()), needs: Vec::new() }
    }

    fn slot(name: &str, pool: &str, pool_at: Option<i64>) -> DocumentWrite {
        let pool =
            Need { id: WorkId::new(Plane::default(), Directory::Upstreams, pool), expected: pool_at.map(Revision) };
        let id = WorkId::new(Plane::default(), Directory::StreamRoutes, name);
        DocumentWrite { id, expected: Revision::ABSENT, action: Action::Put([b'y'; 10].into()), needs: vec![pool] }
    }

    /// The put of a slot that needs a certificate, too, which is expected at revision 9.
    fn secured(name: &str, pool: &str, pool_at: Option<i64>, certificate: &str) -> DocumentWrite {
        let mut write = slot(name, pool, pool_at);
        write.needs.push(Need {
            id: WorkId::new(Plane::default(), Directory::Ssls, certificate),
            expected: Some(Revision(9)),
        });
        write
    }

    fn packed(names: &[&DocumentWrite]) -> Packed {
        Packed::In(names.iter().map(|write| write.id.clone()).collect())
    }

    fn packer(limits: Limits) -> Packer {
        Packer::new(limits, envelope().n_bytes())
    }

    #[test]
    fn an_empty_transaction_is_none() {
        assert_eq!(packer(SMALL).finish(), None);
    }

    #[test]
    fn operations_fit_up_to_the_limit_and_not_one_more() {
        let mut packer = packer(SMALL);
        for name in ["a", "b", "c", "d"] {
            assert_eq!(packer.add(vec![pool(name, 1)]), packed(&[&pool(name, 1)]));
        }
        assert_eq!(packer.add(vec![pool("e", 1)]), Packed::Full);
        assert_eq!(packer.finish().unwrap().txn(envelope()).n_operations(), 6);
    }

    #[test]
    fn a_condition_costs_an_operation_once_per_pool() {
        let mut packer = packer(SMALL);
        for name in ["a", "b", "c"] {
            assert_eq!(packer.add(vec![slot(name, "p", Some(7))]), packed(&[&slot(name, "p", Some(7))]));
        }
        assert_eq!(packer.add(vec![slot("d", "p", Some(7))]), Packed::Full);
        let txn = packer.finish().unwrap().txn(envelope());
        assert_eq!(txn.n_operations(), 6);
        assert_eq!(txn.conditions, [Condition { key: "/apisix/upstreams/p".into(), expected: Revision(7) }]);
    }

    #[test]
    fn a_certificate_costs_an_operation_once_however_many_slots_need_it() {
        let mut filled = packer(SMALL);
        for name in ["a", "b"] {
            let secured = secured(name, "p", Some(7), "c");
            assert_eq!(filled.add(vec![secured.clone()]), packed(&[&secured]));
        }
        assert_eq!(filled.add(vec![pool("e", 1)]), Packed::Full);
        let txn = filled.finish().unwrap().txn(envelope());
        assert_eq!(txn.n_operations(), 6);
        let keys: Vec<_> = txn.conditions.iter().map(|condition| (&*condition.key, condition.expected)).collect();
        assert_eq!(keys, [("/apisix/upstreams/p", Revision(7)), ("/apisix/ssls/c", Revision(9))]);
    }

    #[test]
    fn pool_certificate_and_slot_fit_up_to_the_limit_and_not_one_more() {
        let three = |write: DocumentWrite, n: usize| {
            let mut packer = packer(SMALL);
            let begun: Vec<_> = ["x", "y"].iter().take(n).map(|name| pool(name, 1)).collect();
            packer.add(begun);
            let packed = packer.add(vec![write]);
            (packed != Packed::Full).then(|| packer.finish().unwrap().txn(envelope()).n_operations())
        };
        assert_eq!(three(secured("s", "p", Some(7), "c"), 1), Some(6));
        assert_eq!(three(secured("s", "p", Some(7), "c"), 2), None);
        assert_eq!(three(secured("s", "p", None, "c"), 2), Some(6));
        let tiny = Limits { operations_max: 4, ..SMALL };
        let write = secured("s", "p", Some(7), "c");
        assert_eq!(packer(tiny).add(vec![write.clone()]), Packed::TooLarge(write.id));
    }

    #[test]
    fn a_need_named_twice_is_one_condition() {
        let mut write = secured("s", "p", None, "c");
        write.needs.push(Need { id: WorkId::new(Plane::default(), Directory::Ssls, "c"), expected: Some(Revision(9)) });
        let mut packer = packer(Limits::DEFAULT);
        packer.add(vec![write]);
        let n_bytes = packer.n_bytes;
        let txn = packer.finish().unwrap().txn(envelope());
        assert_eq!((txn.conditions.len(), txn.n_bytes()), (1, n_bytes));
    }

    #[test]
    fn a_pool_put_along_with_its_slot_is_no_condition() {
        let mut filled = packer(SMALL);
        filled.add(vec![pool("p", 1), slot("s", "p", None)]);
        let packet = filled.finish().unwrap();
        assert!(packet.conditions.is_empty());
        let keys: Vec<_> = packet.txn(envelope()).writes.into_iter().map(|write| write.key).collect();
        let documents_first: [Arc<str>; 3] =
            ["/apisix/upstreams/p".into(), "/apisix/stream_routes/s".into(), "/c/us/lanes/0".into()];
        assert_eq!(keys, documents_first);
    }

    #[test]
    fn what_belongs_together_is_not_parted_to_fill_a_rest() {
        let mut packer = packer(SMALL);
        packer.add(vec![pool("a", 1), pool("b", 1), pool("c", 1)]);
        assert_eq!(packer.add(vec![pool("p", 1), slot("s", "p", None)]), Packed::Full);
        assert_eq!(packer.add(vec![pool("d", 1)]), packed(&[&pool("d", 1)]), "what was refused left no trace");
    }

    #[test]
    fn what_is_too_much_for_one_transaction_goes_from_the_front() {
        let slots: Vec<_> = ["s1", "s2", "s3", "s4"].iter().map(|name| slot(name, "p", None)).collect();
        let mut together = vec![pool("p", 1)];
        together.extend(slots.clone());
        assert_eq!(packer(SMALL).add(together), packed(&[&pool("p", 1), &slots[0], &slots[1], &slots[2]]));
    }

    #[test]
    fn bytes_fit_up_to_the_limit_and_not_one_more() {
        let overhead = write_bytes("/apisix/upstreams/a", &Action::Delete) + envelope().n_bytes();
        let limits = Limits { operations_max: 128, bytes_max: 1_000 };
        let fits = pool("a", 1_000 - overhead);
        assert_eq!(packer(limits).add(vec![fits.clone()]), packed(&[&fits]));
        let too_large = pool("a", 1_001 - overhead);
        assert_eq!(packer(limits).add(vec![too_large.clone()]), Packed::TooLarge(too_large.id.clone()));
        let mut begun = packer(limits);
        begun.add(vec![pool("b", 1)]);
        assert_eq!(begun.add(vec![fits]), Packed::Full);
        assert_eq!(begun.finish().unwrap().writes.len(), 1);
    }

    #[test]
    fn what_is_reckoned_is_what_the_transaction_says_of_itself() {
        let mut packer = packer(Limits::DEFAULT);
        packer.add(vec![pool("p", 700), slot("s", "p", None)]);
        packer.add(vec![slot("t", "q", Some(9)), secured("u", "q", Some(9), "c")]);
        let n_bytes = packer.n_bytes;
        assert_eq!(packer.finish().unwrap().txn(envelope()).n_bytes(), n_bytes);
    }
}
