//! Every small world: a slot, two pools and two certificates, each wanted and stored in every way that matters. What is
//! written keeps a slot from ever being without its pool or certificate, and comes to an end that is as it is wanted.

use super::*;
use crate::store::txn::Action;

/// What is wanted and stored of each id of a world, by index into the lists below.
#[derive(Clone, Copy, Debug)]
struct World {
    slot: (usize, usize),
    pool: (usize, usize),
    other_pool: (usize, usize),
    certificate: (usize, usize),
    other_certificate: (usize, usize),
}

const N_SLOT_WANTED: usize = 4;
const N_SLOT_STORED: usize = 6;
const N_NEED_WANTED: usize = 4;
const N_NEED_STORED: usize = 5;

fn certificate(name: &str) -> WorkId {
    WorkId::new(Plane::default(), Directory::Ssls, &format!("gateway-api.{name}"))
}

/// The slot's document: for pool `p` and certificate `c`, or for the others.
fn document(pool_name: &str, certificate_name: Option<&str>) -> Document {
    let content = format!("{pool_name} {certificate_name:?}");
    Document { certificate: certificate_name.map(certificate), ..doc(&content, Some(pool(pool_name))) }
}

fn put_in(table: &mut Table, id: &WorkId, document: &Document, at: i64) {
    let Document { bytes, pool, certificate } = document.clone();
    let (seal, hash) = (Seal::Intact { instance: "us".into() }, ValueHash::of(&bytes));
    let stored = Inspected { seal, hash, sealed_as: None, pool, certificate, reach: Reach::Nothing };
    table.stored.insert(id.clone(), (Revision(at), stored));
}

impl World {
    fn every() -> impl Iterator<Item = Self> {
        let needs = || (0..N_NEED_WANTED).flat_map(|wanted| (0..N_NEED_STORED).map(move |stored| (wanted, stored)));
        let slots = || (0..N_SLOT_WANTED).flat_map(|wanted| (0..N_SLOT_STORED).map(move |stored| (wanted, stored)));
        // The other two are there, or come, or go: what else may befall them befalls `p` and `c`.
        let others = || [(0, 0), (0, 1), (1, 0), (1, 1)].into_iter();
        slots().flat_map(move |slot| {
            needs().flat_map(move |pool| {
                needs().flat_map(move |certificate| {
                    others().flat_map(move |other_pool| {
                        others().map(move |other_certificate| Self {
                            slot,
                            pool,
                            other_pool,
                            certificate,
                            other_certificate,
                        })
                    })
                })
            })
        })
    }

    fn table(self) -> Table {
        let mut table = Table::default();
        let of = slot_document;
        table.wanted.insert(slot("1"), of(self.slot.0).map_or(Wanted::Absent, Wanted::Document));
        if let Some(stored) = of(self.slot.1) {
            put_in(&mut table, &slot("1"), &stored, 1);
        }
        for (id, (wanted, stored)) in [
            (pool("p"), self.pool),
            (pool("q"), self.other_pool),
            (certificate("c"), self.certificate),
            (certificate("d"), self.other_certificate),
        ] {
            let wanted = match wanted {
                0 => Wanted::Absent,
                1 => Wanted::Document(doc("wanted", None)),
                2 => Wanted::Refused("why".into()),
                _ => Wanted::Kept { otherwise: None },
            };
            table.wanted.insert(id.clone(), wanted);
            match stored {
                0 => {}
                1 => put_in(&mut table, &id, &doc("wanted", None), 2),
                2 => put_in(&mut table, &id, &doc("older", None), 2),
                3 => {
                    put_in(&mut table, &id, &doc("theirs", None), 2);
                    table = table.sealed_by(&id, "them");
                }
                _ => {
                    put_in(&mut table, &id, &doc("edited", None), 2);
                    table = table.edited(&id);
                }
            }
        }
        table
    }
}

fn every_id() -> [WorkId; 5] {
    [slot("1"), certificate("d"), certificate("c"), pool("q"), pool("p")]
}

/// What the slot can be, wanted or stored; 0 is nothing.
fn slot_document(n: usize) -> Option<Document> {
    match n {
        1 => Some(document("p", None)),
        2 => Some(document("p", Some("c"))),
        3 => Some(document("q", Some("d"))),
        4 => Some(document("q", Some("c"))),
        5 => Some(document("p", Some("d"))),
        _ => None,
    }
}

/// Whether a pool or certificate of ours is in etcd.
fn stands(table: &Table, id: &WorkId) -> bool {
    table.stored.get(id).is_some_and(|(_, stored)| match &stored.seal {
        Seal::Intact { instance } => **instance == *"us",
        Seal::Broken => true,
    })
}

/// Applies a transaction as etcd would, and checks what each of its writes leaves.
fn apply(table: &mut Table, writes: &[DocumentWrite], at: i64) {
    let put: Vec<&WorkId> =
        writes.iter().filter(|write| write.action != Action::Delete).map(|write| &write.id).collect();
    for write in writes {
        let revision = table.stored.get(&write.id).map_or(Revision::ABSENT, |(revision, _)| *revision);
        assert_eq!(revision, write.expected, "{}", write.id);
        for need in &write.needs {
            if let Some(expected) = need.expected {
                assert_eq!(table.stored[&need.id].0, expected, "{} relies on {}", write.id, need.id);
            } else {
                assert!(put.contains(&&need.id), "{} counts on the put of {}", write.id, need.id);
                assert_eq!(need.id.directory, Directory::Upstreams, "a certificate travels with a slot");
            }
        }
    }
    for write in writes {
        match &write.action {
            Action::Delete => drop(table.stored.remove(&write.id)),
            Action::Put(bytes) => {
                let plain = Document { bytes: bytes.clone(), pool: None, certificate: None };
                let known = (1..N_SLOT_STORED)
                    .filter_map(slot_document)
                    .find(|document| document.bytes == *bytes)
                    .unwrap_or(plain);
                assert_eq!(
                    known.needs().collect::<Vec<_>>(),
                    write.needs.iter().map(|need| &need.id).collect::<Vec<_>>()
                );
                put_in(table, &write.id, &known, at);
            }
        }
    }
    for write in writes {
        match (&write.action, write.id.directory) {
            (Action::Put(_), Directory::StreamRoutes) => {
                for need in &write.needs {
                    assert!(stands(table, &need.id), "{} was put without {}", write.id, need.id);
                }
            }
            (Action::Delete, Directory::Upstreams | Directory::Ssls) => {
                assert_eq!(table.users(&write.id), [], "{} was deleted", write.id);
            }
            (Action::Put(_), Directory::Upstreams | Directory::Ssls) | (Action::Delete, Directory::StreamRoutes) => {}
        }
    }
}

/// Works off a world, as the loop would with one transaction at a time; gives what is left in etcd.
fn work_off(world: World) -> Table {
    let mut table = world.table();
    for round in 0..12 {
        let mut wrote = false;
        for id in every_id() {
            match next(&id, &table) {
                Next::Settled { .. } => {}
                Next::Write(writes) => {
                    apply(&mut table, &writes, 10 + round);
                    wrote = true;
                }
                other @ (Next::After(_) | Next::NotBefore(_)) => panic!("{other:?}: nothing is in flight or rests"),
            }
        }
        if !wrote {
            return table;
        }
    }
    panic!("it has no end");
}

#[test]
fn every_world_comes_to_an_end_where_each_slot_has_what_it_needs() {
    let mut n_worlds = 0;
    for world in World::every() {
        let before = world.table();
        let after = std::panic::catch_unwind(|| work_off(world)).unwrap_or_else(|_| panic!("{world:?}"));
        let slot_stored = after.stored.get(&slot("1")).map(|(_, stored)| stored);
        let can_be = |id: &WorkId| stands(&after, id) && after.wanted[id] != Wanted::Absent;
        let kept = before.stored.get(&slot("1")).and_then(|(_, stored)| stored.pool.as_ref());
        let kept = kept.is_some_and(|pool| matches!(before.wanted[pool], Wanted::Kept { .. }));
        match &after.wanted[&slot("1")] {
            _ if kept => assert!(slot_stored.is_some(), "{world:?}"),
            Wanted::Document(document) if document.needs().all(can_be) => {
                assert_eq!(slot_stored.map(|stored| stored.hash), Some(ValueHash::of(&document.bytes)), "{world:?}");
            }
            // What it is to need cannot be there: it is not put, and what serves does so until it is known to be lost.
            Wanted::Document(document) => {
                let as_wanted = slot_stored.is_some_and(|stored| stored.hash == ValueHash::of(&document.bytes));
                let lost = document.needs().any(|need| !stands(&after, need));
                assert!(!lost || slot_stored.is_none(), "{world:?}");
                assert!(!as_wanted || before.stored.contains_key(&slot("1")), "{world:?}");
            }
            Wanted::Absent | Wanted::Kept { .. } | Wanted::Refused(_) => assert!(slot_stored.is_none(), "{world:?}"),
        }
        for id in every_id().iter().skip(1).filter(|id| after.wanted[id] == Wanted::Absent && stands(&after, id)) {
            assert!(!after.users(id).is_empty(), "{id} stays for nobody: {world:?}");
        }
        n_worlds += 1;
    }
    assert_eq!(n_worlds, N_SLOT_WANTED * N_SLOT_STORED * (N_NEED_WANTED * N_NEED_STORED).pow(2) * 16);
}
