//! What happened, in order: every revision with who wrote it, every status with who said it. For the checker, and to be read
//! when a seed fails.

use apisix_etcd_controller::{
    status::queue::StatusUpdate,
    store::{
        KeyChange,
        memory::MemoryStore,
        txn::{Revision, Txn},
    },
};
use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};
use tokio::time::Instant;

/// What happened.
pub(crate) struct History {
    began: Instant,
    store: MemoryStore,
    /// Revisions up to here have been taken in.
    taken: Revision,
    /// Transactions of replicas that were applied, until their revision is taken in.
    commits: BTreeMap<Revision, (usize, Arc<Txn>)>,
    events: Vec<(u128, Event)>,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The store came to a revision.
    Revision { revision: Revision, changes: Vec<KeyChange>, by: Option<(usize, Arc<Txn>)> },
    /// A replica said this of an object.
    Status { replica: usize, update: StatusUpdate },
    /// The store went back in time.
    StoreRestored,
    /// A person accepted the cluster as it is.
    Reset,
    /// Something else was done, in words.
    Done(String),
}

impl History {
    pub(crate) fn new(store: &MemoryStore) -> Self {
        Self {
            began: Instant::now(),
            store: store.clone(),
            taken: Revision::ABSENT,
            commits: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    /// A replica's transaction was applied.
    pub(crate) fn committed(&mut self, revision: Revision, replica: usize, txn: Txn) {
        self.commits.insert(revision, (replica, Arc::new(txn)));
        self.take();
    }

    /// Takes in what the store has come to.
    pub(crate) fn take(&mut self) {
        for (revision, changes) in self.store.history_from(Revision(self.taken.0 + 1)) {
            let by = self.commits.remove(&revision);
            self.taken = revision;
            self.push(Event::Revision { revision, changes, by });
        }
    }

    pub(crate) fn said(&mut self, replica: usize, update: StatusUpdate) {
        self.take();
        self.push(Event::Status { replica, update });
    }

    pub(crate) fn done(&mut self, what: String) {
        self.take();
        self.push(Event::Done(what));
    }

    pub(crate) fn mark(&mut self, event: Event) {
        self.take();
        if matches!(event, Event::StoreRestored) {
            self.taken = self.store.revision();
            self.commits.clear();
        }
        self.push(event);
    }

    /// What the store holds is the start of what follows: called right after a restore.
    pub(crate) fn store_restored(&mut self) {
        self.commits.clear();
        self.taken = Revision::ABSENT;
        self.push(Event::StoreRestored);
        self.take();
    }

    fn push(&mut self, event: Event) {
        self.events.push((self.began.elapsed().as_millis(), event));
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().map(|(_, event)| event)
    }

    /// For people.
    pub(crate) fn readable(&self) -> String {
        let mut text = String::new();
        for (at, event) in &self.events {
            let _ = write!(text, "{:>9.3} s  ", *at as f64 / 1000.0);
            let _ = match event {
                Event::Revision { revision, changes, by } => {
                    let by = by.as_ref().map_or("somebody".to_owned(), |(replica, _)| format!("replica {replica}"));
                    let changes: Vec<String> = changes
                        .iter()
                        .map(|change| {
                            let sign = if change.value.is_some() { '+' } else { '-' };
                            format!("{sign}{}", String::from_utf8_lossy(&change.key))
                        })
                        .collect();
                    writeln!(text, "revision {revision} by {by}: {}", changes.join(" "))
                }
                Event::Status { replica, update } => {
                    let reason = update.status.pointer("/parents/0/conditions").map(ToString::to_string);
                    writeln!(text, "replica {replica} says of {}: {}", update.object, reason.unwrap_or_default())
                }
                Event::StoreRestored => writeln!(text, "etcd was restored"),
                Event::Reset => writeln!(text, "a person accepted the cluster"),
                Event::Done(what) => writeln!(text, "{what}"),
            };
        }
        text
    }
}
