//! Following a store in memory: what is told, and what is found out when a watch does not tell it.

use super::{
    KeyEvent, PlaneEvent, Reread, Snapshot, StoreEvent,
    control::{ControlEvent, follow_control},
    follow, key_event,
    list::list,
};
use crate::{
    apisix::stored::inspect,
    model::places::{Directory, Plane, WorkId},
    retry::RetryLimits,
    store::{
        Content, KeyChange, Page, PagePlace, ReadError, Scope, Store, StoreId, Watch, WatchBatch,
        audit::differences,
        control::{ControlKey, ControlKeys, Purpose},
        memory::{Image, MemoryStore, MemoryWatch},
        mirror::Mirror,
        txn::{Commit, CommitError, Revision, Txn},
    },
};
use parking_lot::Mutex;
use std::{collections::HashSet, future::pending, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A store whose watches lose events, or do not notice that they have ended.
#[derive(Clone, Default)]
struct Unreliable {
    store: MemoryStore,
    /// Keys of which watches tell nothing.
    lost: Arc<Mutex<HashSet<Vec<u8>>>>,
    /// Whether a watch that ended falls silent instead of saying so.
    silent: bool,
    /// Whether reads fail.
    down: Arc<Mutex<bool>>,
    /// Whether watches do not begin for now.
    hold: Arc<Mutex<bool>>,
    /// Whether every store has the same id.
    nameless: bool,
}

struct UnreliableWatch {
    watch: MemoryWatch,
    of: Unreliable,
}

impl Unreliable {
    fn up(&self) -> Result<(), ReadError> {
        if *self.down.lock() { Err(ReadError::TimedOut { waited: Duration::from_secs(5) }) } else { Ok(()) }
    }
}

impl Store for Unreliable {
    type Watch = UnreliableWatch;

    async fn commit(&self, txn: Txn) -> Result<Commit, CommitError> {
        self.store.commit(txn).await
    }

    async fn page(&self, scope: &Scope, content: Content, place: PagePlace) -> Result<Page, ReadError> {
        self.up()?;
        let mut page = self.store.page(scope, content, place).await?;
        if self.nameless {
            page.store = StoreId::default();
        }
        Ok(page)
    }

    async fn watch(&self, scope: &Scope, from: Revision) -> Result<UnreliableWatch, ReadError> {
        self.up()?;
        while *self.hold.lock() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(UnreliableWatch { watch: self.store.watch(scope, from).await?, of: self.clone() })
    }
}

impl Watch for UnreliableWatch {
    async fn next(&mut self) -> Result<WatchBatch, ReadError> {
        match self.watch.next().await {
            Ok(mut batch) => {
                batch.changes.retain(|change| !self.of.lost.lock().contains(&change.key));
                Ok(batch)
            }
            Err(_) if self.of.silent => pending().await,
            Err(error) => Err(error),
        }
    }
}

struct Following {
    events: mpsc::Receiver<PlaneEvent>,
    /// Everything up to here was told; what comes again after a reading or a resumed watch is passed over.
    told: Revision,
    reread: Reread,
    _stop: DropGuard,
}

impl Following {
    fn start(store: &Unreliable) -> Self {
        let (sender, events) = mpsc::channel(1);
        let (reread, stop) = (Reread::default(), CancellationToken::new());
        let store = Arc::new(store.clone());
        tokio::spawn(follow(store, Plane::of("/p"), sender, reread.clone(), RetryLimits::STORE, stop.clone()));
        Self { events, told: Revision::ABSENT, reread, _stop: stop.drop_guard() }
    }

    async fn next(&mut self) -> StoreEvent {
        loop {
            let told = tokio::time::timeout(Duration::from_mins(10), self.events.recv()).await;
            let event = told.expect("an event").unwrap().event;
            match event {
                StoreEvent::Changed { revision, .. } if revision <= self.told => continue,
                StoreEvent::Snapshot(Snapshot { revision, .. }) | StoreEvent::Changed { revision, .. } => {
                    self.told = revision;
                }
                StoreEvent::Disconnected | StoreEvent::Reconnected => {}
            }
            return event;
        }
    }

    /// Whether nothing more is told, however long one waits.
    async fn is_silent(&mut self) -> bool {
        loop {
            match tokio::time::timeout(Duration::from_hours(1), self.events.recv()).await {
                Ok(Some(PlaneEvent { event: StoreEvent::Changed { revision, .. }, .. })) if revision <= self.told => {}
                Ok(_) => return false,
                Err(_) => return true,
            }
        }
    }

    async fn snapshot(&mut self) -> Snapshot {
        let event = self.next().await;
        let StoreEvent::Snapshot(snapshot) = event else { panic!("{event:?}") };
        snapshot
    }
}

fn pool(id: &str) -> WorkId {
    WorkId::new(Plane::of("/p"), Directory::Upstreams, id)
}

fn key(id: &str) -> String {
    pool(id).key()
}

fn ids(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.documents.iter().map(|(id, ..)| &*id.id).collect()
}

/// Takes an event into a mirror.
fn learn(mirror: &mut Mirror, event: StoreEvent) {
    match event {
        StoreEvent::Snapshot(snapshot) => drop(mirror.take_snapshot(snapshot)),
        StoreEvent::Changed { revision, events } => {
            for event in events {
                if let KeyEvent::Document { id, revision, stored } = event {
                    mirror.learn(id, revision, stored);
                }
            }
            mirror.passed(revision);
        }
        StoreEvent::Disconnected | StoreEvent::Reconnected => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_mirror_that_missed_an_event_is_found_out_and_put_right_by_reading_anew() {
    let store = Unreliable::default();
    for id in ["edited", "deleted", "same"] {
        store.store.put(&key(id), "{}");
    }
    let mut following = Following::start(&store);
    let mut mirror = Mirror::new(Plane::of("/p"), "us".into());
    learn(&mut mirror, following.next().await);
    let lost: HashSet<_> = ["edited", "deleted", "put"].map(|id| key(id).into_bytes()).into();
    *store.lost.lock() = lost;
    store.store.put(&key("edited"), "edited");
    store.store.put(&key("put"), "{}");
    store.store.delete(&key("deleted"));
    store.store.put(&key("heard"), "{}");

    let (_, listing) = list(&store, Plane::of("/p")).await.unwrap();
    let all = ["deleted", "edited", "heard", "put"].map(pool);
    assert_eq!(differences(&mirror, &listing), all.into(), "nothing was heard yet: this may be lag");
    while mirror.stored(&pool("heard")).is_none() {
        learn(&mut mirror, following.next().await);
    }
    let missed = ["deleted", "edited", "put"].map(pool);
    assert_eq!(differences(&mirror, &listing), missed.into(), "what is still missed is lost");

    following.reread.ask();
    let snapshot = following.snapshot().await;
    assert!(!snapshot.begins_anew);
    mirror.take_snapshot(snapshot);
    assert_eq!(differences(&mirror, &list(&store, Plane::of("/p")).await.unwrap().1), [].into());
}

#[tokio::test(start_paused = true)]
async fn reading_anew_is_followed_by_the_changes_after_it() {
    let store = Unreliable::default();
    let mut following = Following::start(&store);
    assert_eq!(ids(&following.snapshot().await), [""; 0]);
    following.reread.ask();
    following.reread.ask();
    assert_eq!(ids(&following.snapshot().await), [""; 0], "asked twice, and told once");
    let at = store.store.put(&key("a"), "{}");
    let StoreEvent::Changed { revision, events } = following.next().await else { panic!("no change") };
    assert_eq!((revision, events.len()), (at, 1));
    following.reread.ask();
    assert_eq!(ids(&following.snapshot().await), ["a"]);
    assert!(following.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn a_wish_to_read_anew_is_kept_until_the_store_is_back() {
    let store = Unreliable::default();
    let mut following = Following::start(&store);
    following.snapshot().await;
    *store.down.lock() = true;
    store.store.end_watches();
    assert_eq!(following.next().await, StoreEvent::Disconnected);
    following.reread.ask();
    assert!(following.is_silent().await);
    *store.down.lock() = false;
    assert_eq!(following.next().await, StoreEvent::Reconnected);
    assert!(!following.snapshot().await.begins_anew);
}

#[tokio::test(start_paused = true)]
async fn a_lost_watch_goes_on_and_nothing_is_said_to_begin_anew() {
    let store = Unreliable::default();
    let mut following = Following::start(&store);
    following.snapshot().await;
    let first = store.store.put(&key("a"), "1");
    assert!(matches!(following.next().await, StoreEvent::Changed { revision, .. } if revision == first));
    store.store.end_watches();
    let second = store.store.put(&key("b"), "1");
    assert_eq!(following.next().await, StoreEvent::Disconnected);
    assert_eq!(following.next().await, StoreEvent::Reconnected);
    assert!(matches!(following.next().await, StoreEvent::Changed { revision, .. } if revision == second));
}

#[tokio::test(start_paused = true)]
async fn what_was_compacted_is_read_anew() {
    let store = Unreliable::default();
    let mut following = Following::start(&store);
    following.snapshot().await;
    *store.down.lock() = true;
    store.store.end_watches();
    assert_eq!(following.next().await, StoreEvent::Disconnected);
    store.store.put(&key("a"), "1");
    let at = store.store.put(&key("b"), "1");
    store.store.compact(at);
    *store.down.lock() = false;
    assert_eq!(following.next().await, StoreEvent::Reconnected);
    let snapshot = following.snapshot().await;
    assert_eq!((ids(&snapshot), snapshot.begins_anew), (vec!["a", "b"], false));
}

async fn replaced(store: &Unreliable, following: &mut Following) -> (Snapshot, StoreId) {
    let before = following.snapshot().await.store;
    for id in ["a", "b"] {
        store.store.put(&key(id), "{}");
        following.next().await;
    }
    let image = store.store.image();
    store.store.put(&key("lost"), "{}");
    following.next().await;
    store.store.restore(image);
    if store.silent {
        assert!(following.is_silent().await, "nobody notices");
        assert_ne!(list(store, Plane::of("/p")).await.unwrap().0, before, "but a listing says it");
        following.reread.ask();
    } else {
        assert_eq!(following.next().await, StoreEvent::Disconnected);
    }
    (following.snapshot().await, before)
}

#[tokio::test(start_paused = true)]
async fn a_restored_store_begins_anew_at_once_when_the_watch_ends() {
    let store = Unreliable::default();
    let (snapshot, before) = replaced(&store, &mut Following::start(&store)).await;
    assert_eq!((snapshot.begins_anew, ids(&snapshot)), (true, vec!["a", "b"]));
    assert_ne!(snapshot.store, before);
}

#[tokio::test(start_paused = true)]
async fn a_restored_store_begins_anew_when_asked_although_the_watch_goes_on() {
    let store = Unreliable { silent: true, ..Unreliable::default() };
    let mut following = Following::start(&store);
    let (snapshot, _) = replaced(&store, &mut following).await;
    assert_eq!((snapshot.begins_anew, ids(&snapshot)), (true, vec!["a", "b"]));
    following.reread.ask();
    assert!(!following.snapshot().await.begins_anew, "it began anew once");
}

#[tokio::test(start_paused = true)]
async fn a_wiped_store_is_known_by_its_name_although_its_revision_is_ahead() {
    let store = Unreliable::default();
    let mut following = Following::start(&store);
    following.snapshot().await;
    store.store.put(&key("a"), "{}");
    following.next().await;
    *store.down.lock() = true;
    store.store.restore(Image::default());
    assert_eq!(following.next().await, StoreEvent::Disconnected);
    for n in 0..20 {
        store.store.put(&key("b"), n.to_string());
    }
    *store.down.lock() = false;
    let snapshot = following.snapshot().await;
    assert_eq!((snapshot.begins_anew, ids(&snapshot)), (true, vec!["b"]));
    assert!(following.is_silent().await);
}

/// An etcd that was wiped has the same id as before, unless its members' names or addresses changed. Memory stores always
/// have another, so this one's are made equal.
async fn overtaken(key_before: &str, key_after: &str) -> (Following, Unreliable) {
    let store = Unreliable { nameless: true, ..Unreliable::default() };
    let mut following = Following::start(&store);
    following.snapshot().await;
    let last = store.store.put(key_before, "1");
    following.next().await;
    *store.down.lock() = true;
    store.store.restore(Image::default());
    assert_eq!(following.next().await, StoreEvent::Disconnected);
    store.store.put(&key("first"), "1");
    while store.store.revision() <= last {
        store.store.put(key_after, "2");
    }
    *store.down.lock() = false;
    (following, store)
}

#[tokio::test(start_paused = true)]
async fn a_wiped_store_of_the_same_name_that_is_ahead_is_known_by_what_it_has_forgotten() {
    let (mut following, _store) = overtaken(&key("a"), &key("b")).await;
    let snapshot = following.snapshot().await;
    assert_eq!((snapshot.begins_anew, ids(&snapshot)), (true, vec!["b", "first"]));
    assert!(following.is_silent().await);

    let (mut following, _store) = overtaken(&key("a"), &key("a")).await;
    let snapshot = following.snapshot().await;
    assert_eq!((snapshot.begins_anew, ids(&snapshot)), (true, vec!["a", "first"]));
}

/// Where no key was told, there is only the store itself to know it by.
#[tokio::test(start_paused = true)]
async fn a_wiped_store_is_known_where_there_were_no_keys() {
    for nameless in [true, false] {
        let store = Unreliable { nameless, ..Unreliable::default() };
        let last = store.store.put("/elsewhere", "1");
        let mut following = Following::start(&store);
        assert_eq!(following.snapshot().await.revision, last);
        *store.down.lock() = true;
        store.store.restore(Image::default());
        assert_eq!(following.next().await, StoreEvent::Disconnected);
        if !nameless {
            store.store.put("/elsewhere", "1");
            store.store.put("/elsewhere", "2");
        }
        *store.down.lock() = false;
        assert!(following.snapshot().await.begins_anew, "nameless: {nameless}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_written_since_it_was_told_does_not_make_it_another_store() {
    let store = Unreliable::default();
    let mut following = Following::start(&store);
    following.snapshot().await;
    for (n, name) in ["a", "zz"].into_iter().enumerate() {
        store.store.put("/p/upstreams/`", "just before a");
        following.next().await;
        store.store.put(&key(name), "1");
        following.next().await;
        *store.down.lock() = true;
        store.store.end_watches();
        assert_eq!(following.next().await, StoreEvent::Disconnected);
        let last = if n == 0 { store.store.put(&key(name), "2") } else { store.store.delete(&key(name)) };
        *store.down.lock() = false;
        assert_eq!(following.next().await, StoreEvent::Reconnected);
        assert!(matches!(following.next().await, StoreEvent::Changed { revision, .. } if revision == last));
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_a_compaction_hides_is_not_missed() {
    let store = Unreliable::default();
    store.store.put(&key("a"), "1");
    *store.hold.lock() = true;
    let mut following = Following::start(&store);
    assert_eq!(ids(&following.snapshot().await), ["a"]);
    // Between the reading and the watch.
    let gone = store.store.delete(&key("a"));
    store.store.compact(gone);
    *store.hold.lock() = false;
    assert_eq!(ids(&following.snapshot().await), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_does_not_keep_up_loses_nothing() {
    let store = Unreliable::default();
    let mut following = Following::start(&store);
    following.snapshot().await;
    let n_changes = 5_000;
    for n in 0..n_changes {
        store.store.put(&key("a"), n.to_string());
        // The follower has its turn, and finds its receiver busy.
        tokio::task::yield_now().await;
    }
    let mut revisions = Vec::new();
    while revisions.len() < n_changes {
        let StoreEvent::Changed { events, .. } = following.next().await else { panic!("no change") };
        revisions.extend(events.into_iter().map(|event| match event {
            KeyEvent::Document { revision, .. } => revision,
            other @ KeyEvent::TrafficSplit(_) => panic!("{other:?}"),
        }));
    }
    assert!(revisions.is_sorted_by(|a, b| a < b));
}

#[tokio::test(start_paused = true)]
async fn control_keys_of_every_instance_are_told_with_their_values_and_others_are_not() {
    let store = Unreliable::default();
    let memory = store.store.clone();
    let keys = ControlKeys::new("/control".into(), "us".into());
    let theirs = ControlKeys::new("/control".into(), "them".into());
    let leader = memory.put(&keys.leader(), "a");
    let lane = memory.put(&theirs.lane(3), "record");
    memory.put("/control/us/what", "?");
    let (sender, mut events) = mpsc::channel(4);
    let (reread, stop) = (Reread::default(), CancellationToken::new());
    let scope = keys.everyone();
    let (store, limits) = (Arc::new(store), RetryLimits::STORE);
    tokio::spawn(follow_control(store, keys.clone(), scope, sender, reread.clone(), limits, stop.clone()));

    let key = |instance: &str, purpose| ControlKey { instance: instance.into(), purpose };
    let (us, them) = (key("us", Purpose::Leader), key("them", Purpose::Lane(3)));
    let told = vec![(them.clone(), lane, b"record".to_vec()), (us.clone(), leader, b"a".to_vec())];
    let revision = memory.revision();
    assert_eq!(events.recv().await, Some(ControlEvent::Snapshot { revision, keys: told, begins_anew: false }));

    // The newest revision of a reading is told again.
    let ControlEvent::Changed { changes, .. } = events.recv().await.unwrap() else { panic!("no change") };
    assert_eq!(changes, []);
    memory.put("/control/us/what", "!");
    let ControlEvent::Changed { changes, .. } = events.recv().await.unwrap() else { panic!("no change") };
    assert_eq!(changes, []);
    let revision = memory.delete(&keys.leader());
    let changes = vec![(us, revision, None)];
    assert_eq!(events.recv().await, Some(ControlEvent::Changed { revision, changes }));
    let revision = memory.put(&keys.release("gateway/a/b"), "");
    let changes = vec![(key("us", Purpose::Release("gateway/a/b".into())), revision, Some(vec![]))];
    assert_eq!(events.recv().await, Some(ControlEvent::Changed { revision, changes }));

    memory.restore(Image::default());
    assert_eq!(events.recv().await, Some(ControlEvent::Disconnected));
    let anew = ControlEvent::Snapshot { revision: memory.revision(), keys: vec![], begins_anew: true };
    assert_eq!(events.recv().await, Some(anew));
    stop.cancel();
    assert_eq!(events.recv().await, None);
}

fn event(key: &[u8], value: Option<&str>) -> Option<KeyEvent> {
    let change = KeyChange { key: key.to_vec(), revision: Revision(5), value: value.map(Into::into) };
    key_event(Plane::default(), &change)
}

#[test]
fn documents_of_our_directories_are_inspected_whoever_wrote_them() {
    let id = WorkId::new(Plane::default(), Directory::Upstreams, "theirs");
    let stored = inspect(&id, "/apisix/upstreams/theirs", b"{}");
    assert_eq!(
        event(b"/apisix/upstreams/theirs", Some("{}")),
        Some(KeyEvent::Document { id: id.clone(), revision: Revision(5), stored: Some(stored) })
    );
    assert_eq!(
        event(b"/apisix/upstreams/theirs", None),
        Some(KeyEvent::Document { id, revision: Revision(5), stored: None })
    );
}

#[test]
fn the_list_of_plugins_is_told_as_one_fact() {
    let listed = r#"[{"name": "traffic-split", "stream": true}]"#;
    assert_eq!(event(b"/apisix/plugins", Some(listed)), Some(KeyEvent::TrafficSplit(Some(true))));
    assert_eq!(event(b"/apisix/plugins", Some("[]")), Some(KeyEvent::TrafficSplit(Some(false))));
    assert_eq!(event(b"/apisix/plugins", None), Some(KeyEvent::TrafficSplit(None)));
}

#[test]
fn other_keys_do_not_matter() {
    for key in [&b"/apisix/routes/1"[..], b"/apisix/plugins/1", b"/apisix/upstreams", b"/apisix/upstreams/\xff"] {
        assert_eq!(event(key, Some("{}")), None, "{key:?}");
    }
}
