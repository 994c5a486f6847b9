//! What happened, in order: every revision with who wrote it, every status with who said it. For the checker, and to be read
//! when a seed fails.

use super::known::Known;
use apisix_etcd_controller::{
    apisix::stored::ValueHash,
    status::queue::StatusUpdate,
    store::{
        KeyChange,
        checkpoint::Checkpoint,
        memory::MemoryStore,
        txn::{Revision, Txn},
    },
};
use serde_json::Value;
use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};
use tokio::time::Instant;

/// A transaction of a replica that was applied.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) replica: usize,
    pub(crate) txn: Arc<Txn>,
    /// What the replica knew when it sent it.
    pub(crate) known: Known,
}

/// What happened.
pub(crate) struct History {
    began: Instant,
    store: MemoryStore,
    /// Revisions up to here have been taken in.
    taken: Revision,
    /// Transactions of replicas that were applied, until their revision is taken in.
    commits: BTreeMap<Revision, Written>,
    events: Vec<(u128, Event)>,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The store came to a revision.
    Revision { revision: Revision, changes: Vec<KeyChange>, by: Option<Written> },
    /// A replica said this of an object.
    Status { replica: usize, update: StatusUpdate, known: Known },
    /// The store went back in time.
    StoreRestored,
    /// A person accepted the cluster as it is.
    Reset,
    /// Something that must not be, in words, was seen where it was done.
    Breach(String),
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
    pub(crate) fn committed(&mut self, revision: Revision, replica: usize, txn: Txn, known: Known) {
        self.commits.insert(revision, Written { replica, txn: Arc::new(txn), known });
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

    pub(crate) fn said(&mut self, replica: usize, update: StatusUpdate, known: Known) {
        self.take();
        self.push(Event::Status { replica, update, known });
    }

    pub(crate) fn done(&mut self, what: String) {
        self.take();
        self.push(Event::Done(what));
    }

    /// Something was seen that must not be.
    pub(crate) fn breach(&mut self, what: String) {
        self.take();
        self.push(Event::Breach(what));
    }

    /// A person accepted the cluster as it is.
    pub(crate) fn reset(&mut self) {
        self.take();
        self.push(Event::Reset);
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

    pub(crate) fn events(&self) -> &[(u128, Event)] {
        &self.events
    }

    /// The first of it, for people.
    pub(crate) fn readable(&self, n_events: usize) -> String {
        let mut text = String::new();
        for (at, event) in self.events.iter().take(n_events) {
            let _ = writeln!(text, "{:>5}.{:03} s  {}", at / 1000, at % 1000, line(event));
        }
        text
    }
}

fn line(event: &Event) -> String {
    match event {
        Event::Revision { revision, changes, by } => {
            let by = by.as_ref().map_or("somebody".to_owned(), |written| {
                let Written { replica, txn, known } = written;
                format!("replica {replica} (term {}, told {})", txn.fence.created, known.told)
            });
            let changes: Vec<String> = changes.iter().map(change).collect();
            format!("revision {revision} by {by}: {}", changes.join(" "))
        }
        Event::Status { replica, update, known } => {
            let conditions = update.status.pointer("/parents").unwrap_or(&update.status);
            format!("replica {replica} (told {}) says of {}: {}", known.told, update.object, brief(conditions))
        }
        Event::StoreRestored => "etcd was restored to what follows".to_owned(),
        Event::Reset => "a person accepted the cluster".to_owned(),
        Event::Breach(what) | Event::Done(what) => what.clone(),
    }
}

fn change(change: &KeyChange) -> String {
    let key = String::from_utf8_lossy(&change.key);
    let Some(value) = &change.value else { return format!("-{key}") };
    let what = if let Ok(record) = Checkpoint::decode(value) {
        let newest = record.versions.values().max().map_or(0, |version| version.0);
        format!("#{} at {newest}", record.sequence)
    } else {
        let hash = format!("{:?}", ValueHash::of(value));
        let letters: String = hash.chars().filter(char::is_ascii_digit).take(6).collect();
        match serde_json::from_slice::<Value>(value).ok().and_then(|value| value.get("upstream_id").cloned()) {
            Some(pool) => format!("{letters} names {pool}"),
            None => letters,
        }
    };
    format!("+{key} ({what})")
}

/// Reasons alone.
fn brief(status: &Value) -> String {
    match status {
        Value::Array(items) => items.iter().map(brief).collect::<Vec<_>>().join("; "),
        Value::Object(fields) => {
            if let (Some(kind), Some(state), Some(reason)) =
                (fields.get("type"), fields.get("status"), fields.get("reason"))
            {
                return format!("{kind}={state}/{reason}").replace('"', "");
            }
            let section = fields.get("parentRef").and_then(|parent| parent.get("sectionName")).map(ToString::to_string);
            let conditions = fields.get("conditions").map(brief).unwrap_or_default();
            format!("{}[{conditions}]", section.unwrap_or_default())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => status.to_string(),
    }
}
