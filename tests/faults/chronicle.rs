//! What etcd was told from its beginning, and whether that was in order.
//!
//! In: a watch over everything that one test wrote, documents and control keys alike. Out: who led, one after another, or the
//! first write that should not have been. It knows nothing of the controller's memory, only of what stands in etcd.

use super::support::wait::PATIENCE;
use anyhow::{Context as _, ensure};
use apisix_etcd_controller::store::checkpoint::Checkpoint;
use etcd_client::{Client, EventType, WatchOptions};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// What one transaction, or one hand, wrote: keys, and what was put or `None`.
type Writes = Vec<(String, Option<Vec<u8>>)>;

/// Everything written below one root, by revision.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chronicle(BTreeMap<i64, Writes>);

/// What a chronicle in order tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The leaders by name, in their order, each term once.
    pub(crate) leaders: Vec<String>,
    /// How many documents each of them put or deleted.
    pub(crate) n_writes: BTreeMap<String, usize>,
    /// The highest sequence that was recorded.
    pub(crate) sequence: u64,
}

impl Chronicle {
    /// What was written below `root` after `revision` until now. Puts one key there, to know where now is.
    pub(crate) async fn after(client: &mut Client, root: &str, revision: i64) -> anyhow::Result<Self> {
        let end = format!("{root}/end-of-chronicle");
        let until = client.put(end.as_str(), "", None).await.context("putting a key")?;
        let until = until.header().context("an answer has a header")?.revision();
        let options = WatchOptions::new().with_prefix().with_fragment().with_start_revision(revision + 1);
        let mut watch = client.watch(format!("{root}/"), Some(options)).await.context("watching keys")?;
        let mut chronicle = Self::default();
        loop {
            let message = tokio::time::timeout(PATIENCE, watch.message()).await.context("waiting for a watch")??;
            let message = message.context("a watch goes on")?;
            ensure!(!message.canceled(), "the watch was ended: {}", message.cancel_reason());
            for event in message.events() {
                let kv = event.kv().context("an event has a key")?;
                if kv.mod_revision() >= until {
                    return Ok(chronicle);
                }
                let value = match event.event_type() {
                    EventType::Put => Some(kv.value().to_owned()),
                    EventType::Delete => None,
                };
                // That of an earlier call.
                if kv.key_str()? != end {
                    chronicle.0.entry(kv.mod_revision()).or_default().push((kv.key_str()?.to_owned(), value));
                }
            }
        }
    }

    /// This one, and what came after it.
    pub(crate) fn and(mut self, later: Self) -> Self {
        self.0.extend(later.0);
        self
    }

    /// Goes through it from its beginning: of every document written by a controller, the record in the same transaction says
    /// by whom. That one must hold the leader key at that moment; what it knew of the cluster must be no older than what any
    /// leader before it had written from; sequences must grow; and no document may come back that was replaced, be written
    /// anew as it is, or name an upstream that is not there.
    pub(crate) fn judge(&self, documents: &str) -> anyhow::Result<Told> {
        let mut judge = Judge { documents: format!("{documents}/"), ..Judge::default() };
        for (revision, writes) in &self.0 {
            judge.transaction(writes).with_context(|| format!("at revision {revision}"))?;
        }
        Ok(judge.told)
    }
}

/// A document as it stands.
struct Document {
    value: Vec<u8>,
    by_hand: bool,
}

/// What is known of one instance so far.
#[derive(Default)]
struct Term {
    leader: Option<String>,
    /// The last sequence of each lane.
    lanes: HashMap<String, u64>,
    /// The highest one of earlier leaders, and of this one.
    before: u64,
    highest: u64,
    /// What earlier leaders have written from, and this one.
    versions_before: BTreeMap<Arc<str>, u64>,
    versions: BTreeMap<Arc<str>, u64>,
}

#[derive(Default)]
struct Judge {
    documents: String,
    terms: HashMap<String, Term>,
    now: HashMap<String, Document>,
    /// Values that each document had and has no more, because a controller replaced them.
    replaced: HashMap<String, BTreeSet<Vec<u8>>>,
    told: Told,
}

impl Judge {
    fn transaction(&mut self, writes: &Writes) -> anyhow::Result<()> {
        let mut holder = None;
        let (documents, control): (Vec<_>, Vec<_>) =
            writes.iter().partition(|(key, _)| key.starts_with(&self.documents));
        for (key, value) in control {
            if let Some(instance) = key.strip_suffix("/leader") {
                self.leader(instance, value.as_deref())?;
            }
            if let (Some((instance, _)), Some(value)) = (key.split_once("/lanes/"), value) {
                let record = Checkpoint::decode(value).with_context(|| format!("{key} holds a record"))?;
                self.record(instance, key, &record)?;
                ensure!(holder.is_none(), "two lanes in one transaction: {writes:?}");
                holder = Some((instance.to_owned(), record.holder.to_string()));
            }
        }
        if let (Some((instance, holder)), false) = (&holder, documents.is_empty()) {
            let leader = self.terms.get(instance).and_then(|term| term.leader.as_ref());
            ensure!(leader == Some(holder), "{holder} wrote {documents:?} while {leader:?} led");
            *self.told.n_writes.entry(holder.clone()).or_default() += documents.len();
        }
        for (key, value) in &documents {
            self.document(key, value.as_ref(), holder.is_none())?;
        }
        if holder.is_some() {
            documents.iter().try_for_each(|(key, value)| self.hangs_together(key, value.as_deref()))?;
        }
        Ok(())
    }

    fn leader(&mut self, instance: &str, value: Option<&[u8]>) -> anyhow::Result<()> {
        let term = self.terms.entry(instance.to_owned()).or_default();
        let name = value.map(|value| String::from_utf8(value.to_owned())).transpose()?;
        if let Some(name) = &name {
            ensure!(term.leader.is_none(), "{name} took the leader key while {:?} held it", term.leader);
            self.told.leaders.push(name.clone());
            term.before = term.highest;
            term.versions_before = term.versions.clone();
        }
        term.leader = name;
        Ok(())
    }

    fn record(&mut self, instance: &str, lane: &str, record: &Checkpoint) -> anyhow::Result<()> {
        let term = self.terms.entry(instance.to_owned()).or_default();
        let last = term.lanes.insert(lane.to_owned(), record.sequence).unwrap_or(0);
        ensure!(record.sequence > last, "{lane}: {record:?} after sequence {last}");
        ensure!(record.sequence > term.before, "{record:?} after an earlier leader's sequence {}", term.before);
        term.highest = term.highest.max(record.sequence);
        for (resource, version) in &record.versions {
            let before = term.versions_before.get(resource).copied().unwrap_or(0);
            ensure!(version.0 >= before, "{resource}: {record:?} after a leader that knew {before}");
            let known = term.versions.entry(resource.clone()).or_default();
            *known = version.0.max(*known);
        }
        self.told.sequence = self.told.sequence.max(record.sequence);
        Ok(())
    }

    fn document(&mut self, key: &str, value: Option<&Vec<u8>>, by_hand: bool) -> anyhow::Result<()> {
        let Some(value) = value.map(|value| Document { value: value.clone(), by_hand }) else {
            let before = self.now.remove(key);
            if by_hand {
                // Whoever puts it back, puts back what there was.
                self.replaced.remove(key);
            } else if let Some(before) = before {
                self.replaced.entry(key.to_owned()).or_default().insert(before.value);
            }
            return Ok(());
        };
        let text = String::from_utf8_lossy(&value.value).into_owned();
        let replaced = self.replaced.entry(key.to_owned()).or_default();
        ensure!(by_hand || !replaced.contains(&value.value), "{key} got what had been replaced: {text}");
        if let Some(before) = self.now.remove(key) {
            ensure!(by_hand || before.value != value.value, "{key} was written anew as it was: {text}");
            if !by_hand && !before.by_hand {
                replaced.insert(before.value);
            }
        }
        self.now.insert(key.to_owned(), value);
        Ok(())
    }

    /// Of a document that a controller wrote, once everything in its transaction is there.
    fn hangs_together(&self, key: &str, value: Option<&[u8]>) -> anyhow::Result<()> {
        let upstream = |value: &[u8]| -> Option<String> {
            let slot: Value = serde_json::from_slice(value).ok()?;
            Some(format!("{}upstreams/{}", self.documents, slot["upstream_id"].as_str()?))
        };
        match value {
            Some(value) => {
                if let Some(pool) = upstream(value).filter(|_| key.contains("/stream_routes/")) {
                    ensure!(self.now.contains_key(&pool), "{key} names {pool}, which is not there");
                }
            }
            None if key.contains("/upstreams/") => {
                let user = self.now.iter().find(|(_, slot)| upstream(&slot.value).as_deref() == Some(key));
                ensure!(user.is_none(), "{key} was deleted while {:?} named it", user.map(|(slot, _)| slot));
            }
            None => {}
        }
        Ok(())
    }
}

mod tests {
    use super::*;

    const DOCUMENT: &str = "/x/apisix/upstreams/gateway-api.a";

    fn record(holder: &str, sequence: u64) -> Vec<u8> {
        Checkpoint {
            instance: "default".into(),
            cluster: "folder".into(),
            prefixes: BTreeMap::new(),
            versions: BTreeMap::new(),
            sequence,
            holder: holder.into(),
            written_at: 0,
        }
        .encode()
    }

    fn put(key: &str, value: &str) -> (String, Option<Vec<u8>>) {
        (key.to_owned(), Some(value.as_bytes().to_owned()))
    }

    /// That one takes the leader key, after whoever had it.
    fn leads(holder: &str) -> [Writes; 2] {
        let key = "/x/control/default/leader";
        [vec![(key.to_owned(), None)], vec![put(key, holder)]]
    }

    fn writes(holder: &str, sequence: u64, documents: &[(&str, &str)]) -> Writes {
        let mut writes = vec![("/x/control/default/lanes/0".to_owned(), Some(record(holder, sequence)))];
        writes.extend(documents.iter().map(|(key, value)| put(key, value)));
        writes
    }

    fn judged(transactions: &[&[Writes]]) -> anyhow::Result<Told> {
        Chronicle((1..).zip(transactions.concat()).collect()).judge("/x/apisix")
    }

    #[track_caller]
    fn is_found(transactions: &[&[Writes]], fault: &str) {
        let found = judged(transactions).map_err(|error| format!("{error:#}"));
        assert!(found.as_ref().is_err_and(|error| error.contains(fault)), "{found:?}");
    }

    #[test]
    fn a_chronicle_in_order_tells_who_led_and_how_much_each_wrote() -> anyhow::Result<()> {
        let (first, second) = (writes("a", 1, &[(DOCUMENT, "1")]), writes("b", 2, &[(DOCUMENT, "2")]));
        let told = judged(&[&leads("a"), &[first], &leads("b"), &[second]])?;
        assert_eq!(told.leaders, ["a", "b"]);
        assert_eq!(told.n_writes, BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 1)]));
        Ok(())
    }

    #[test]
    fn a_write_of_who_does_not_lead_is_found() {
        let late = writes("a", 1, &[(DOCUMENT, "1")]);
        is_found(&[&leads("a"), &leads("b"), &[late]], "while Some(\"b\") led");
    }

    #[test]
    fn what_was_replaced_and_comes_back_is_found_and_so_is_what_is_written_as_it_is() {
        let write = |sequence, value| writes("a", sequence, &[(DOCUMENT, value)]);
        is_found(&[&leads("a"), &[write(1, "1"), write(2, "2"), write(3, "1")]], "got what had been replaced");
        is_found(&[&leads("a"), &[write(1, "1"), write(2, "1")]], "written anew as it was");
    }

    #[test]
    fn a_sequence_that_does_not_grow_is_found() {
        let write = |holder, sequence| writes(holder, sequence, &[]);
        is_found(&[&leads("a"), &[write("a", 2), write("a", 2)]], "after sequence 2");
    }

    #[test]
    fn a_slot_without_its_upstream_is_found() {
        let slot = ("/x/apisix/stream_routes/gateway-api.1", r#"{"upstream_id":"gateway-api.a"}"#);
        is_found(&[&leads("a"), &[writes("a", 1, &[slot])]], "which is not there");
        let deleted = (DOCUMENT.to_owned(), None);
        let both = writes("a", 1, &[slot, (DOCUMENT, "1")]);
        is_found(&[&leads("a"), &[both, [writes("a", 2, &[]), vec![deleted]].concat()]], "named it");
    }
}
