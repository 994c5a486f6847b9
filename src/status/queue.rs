//! The statuses that wait to be written: for each object only the newest.
//!
//! Updates go in at any pace and never block; the writer takes them out at its own. What an update says replaces what an
//! older one of the same object said, wherever that one is: waiting, being written, or set aside after a failure. So the
//! queue holds at most one update for each object and needs no other bound.

use super::{events::Notice, print::StatusPrint};
use crate::{
    model::{facts::ParentRef, names::ObjectRef, verdicts::Served},
    retry::Retry,
};
use parking_lot::Mutex;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};
use tokio::sync::Notify;

/// What an object's status should say of us.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusUpdate {
    /// The object.
    pub object: ObjectRef,
    /// The part of its `.status` that is ours, as [`super::conditions::render`] makes it.
    pub status: Value,
    /// parentRefs of a route, or ancestors of a policy, whose entries of ours are left as they are.
    pub frozen_parents: Vec<ParentRef>,
    /// Whether a GatewayClass is to carry the finalizer that keeps it while a Gateway uses it. Of other kinds `false`, and
    /// not looked at.
    pub finalizer: bool,
}

impl StatusUpdate {
    /// What the object's print is once this is written.
    #[must_use]
    pub fn print(&self, controller_name: &str) -> StatusPrint {
        StatusPrint::of(self.object.kind, &self.status, controller_name).with_finalizer(self.finalizer)
    }
}

/// Where statuses go.
pub trait StatusSink: Send {
    /// Says what an object's status should be from now on. Never blocks; the newest update of an object wins.
    fn publish(&mut self, update: StatusUpdate);

    /// Says that an object is gone, or that nothing more is to be written to it.
    fn forget(&mut self, object: &ObjectRef);

    /// Drops everything that waits to be written: somebody else says it from now on. Gives the objects it was about.
    fn clear(&mut self) -> Vec<ObjectRef> {
        Vec::new()
    }

    /// Says what the source of objects serves from now on: which version of a kind can be written.
    fn served(&mut self, served: &Served) {
        let _ = served;
    }

    /// Says that something happened. Never blocks; nothing rests on its being heard.
    fn announce(&mut self, notice: Notice) {
        let _ = notice;
    }
}

/// A queue of statuses, keyed by object. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct StatusQueue {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    published: Notify,
}

/// An update taken out of the queue, with what earlier attempts at its object left behind.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) update: StatusUpdate,
    /// Conflicts in a row.
    pub(super) n_conflicts: u32,
    /// Set once an attempt has failed.
    pub(super) retry: Option<Retry>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<ObjectRef, Entry>,
    /// Tickets of entries that are [`Place::Queued`].
    order: BTreeMap<u64, ObjectRef>,
    /// When entries that are [`Place::SetAside`] come back.
    set_aside: BTreeSet<(Instant, ObjectRef)>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Entry {
    ticket: u64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Queued(Job),
    SetAside(Job, Instant),
    Taken { newer: Newer },
}

/// What was said of an object while its status was being written.
#[derive(Debug)]
enum Newer {
    Nothing,
    Update(StatusUpdate),
    Forgotten,
}

impl StatusSink for StatusQueue {
    fn publish(&mut self, update: StatusUpdate) {
        self.shared.state.lock().publish(update);
        self.shared.published.notify_one();
    }

    fn forget(&mut self, object: &ObjectRef) {
        self.shared.state.lock().forget(object);
        self.shared.published.notify_one();
    }

    fn clear(&mut self) -> Vec<ObjectRef> {
        let mut state = self.shared.state.lock();
        let objects: Vec<ObjectRef> = state.entries.keys().cloned().collect();
        for object in &objects {
            state.forget(object);
        }
        drop(state);
        self.shared.published.notify_one();
        objects
    }
}

impl StatusQueue {
    /// Objects whose status waits to be written, is set aside after a failure, or is being written.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.shared.state.lock().entries.len()
    }

    /// The update that has waited longest, if one is due. Its object is not given out again before it is
    /// [`finish`](Self::finish)ed or put back.
    pub(super) fn take(&self, now: Instant) -> Option<Job> {
        self.shared.state.lock().take(now)
    }

    /// When the first update that is set aside comes back.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.shared.state.lock().set_aside.first().map(|(due, _)| *due)
    }

    /// Says that an object's update needs no further attempt; a newer one that came meanwhile does.
    pub(super) fn finish(&self, object: &ObjectRef) {
        self.shared.state.lock().put_back(object, None);
    }

    /// Puts an update back, to be tried before those that came after it, or what came meanwhile in its stead.
    pub(super) fn put_back(&self, job: Job) {
        let object = job.update.object.clone();
        self.shared.state.lock().put_back(&object, Some((job, None)));
    }

    /// Puts an update aside until `due`. What came meanwhile is tried at once instead: it may fare better.
    pub(super) fn set_aside(&self, job: Job, due: Instant) {
        let object = job.update.object.clone();
        self.shared.state.lock().put_back(&object, Some((job, Some(due))));
    }

    /// Waits until something was published or forgotten. Dropping the future half-way loses nothing.
    pub(super) async fn changed(&self) {
        self.shared.published.notified().await;
    }
}

impl Job {
    fn fresh(update: StatusUpdate) -> Self {
        Self { update, n_conflicts: 0, retry: None }
    }
}

impl State {
    fn publish(&mut self, update: StatusUpdate) {
        let object = update.object.clone();
        match self.entries.remove(&object) {
            None => {
                let ticket = self.ticket();
                self.queue(ticket, object, Job::fresh(update));
            }
            Some(Entry { ticket, place: Place::Queued(job) }) => self.queue(ticket, object, Job { update, ..job }),
            Some(Entry { ticket, place: Place::SetAside(job, due) }) => {
                self.set_aside.remove(&(due, object.clone()));
                self.queue(ticket, object, Job { update, ..job });
            }
            Some(Entry { ticket, place: Place::Taken { newer: _ } }) => {
                let place = Place::Taken { newer: Newer::Update(update) };
                self.entries.insert(object, Entry { ticket, place });
            }
        }
    }

    fn forget(&mut self, object: &ObjectRef) {
        match self.entries.remove(object) {
            None => {}
            Some(Entry { ticket, place: Place::Queued(_) }) => {
                self.order.remove(&ticket);
            }
            Some(Entry { ticket: _, place: Place::SetAside(_, due) }) => {
                self.set_aside.remove(&(due, object.clone()));
            }
            Some(Entry { ticket, place: Place::Taken { newer: _ } }) => {
                let place = Place::Taken { newer: Newer::Forgotten };
                self.entries.insert(object.clone(), Entry { ticket, place });
            }
        }
    }

    fn take(&mut self, now: Instant) -> Option<Job> {
        while self.set_aside.first().is_some_and(|(due, _)| *due <= now) {
            let (_, object) = self.set_aside.pop_first()?;
            if let Some(Entry { ticket, place: Place::SetAside(job, _) }) = self.entries.remove(&object) {
                self.queue(ticket, object, job);
            }
        }
        let (ticket, object) = self.order.pop_first()?;
        let place = Place::Taken { newer: Newer::Nothing };
        match self.entries.insert(object, Entry { ticket, place })?.place {
            Place::Queued(job) => Some(job),
            Place::SetAside(..) | Place::Taken { .. } => None,
        }
    }

    /// Ends an object's being taken. `left` is the job that still has to be done and until when it is set aside.
    fn put_back(&mut self, object: &ObjectRef, left: Option<(Job, Option<Instant>)>) {
        let Some(Entry { ticket, place: Place::Taken { newer } }) = self.entries.remove(object) else {
            return;
        };
        match (newer, left) {
            (Newer::Update(update), Some((job, _))) => self.queue(ticket, object.clone(), Job { update, ..job }),
            (Newer::Update(update), None) => {
                let ticket = self.ticket();
                self.queue(ticket, object.clone(), Job::fresh(update));
            }
            (Newer::Nothing, Some((job, None))) => self.queue(ticket, object.clone(), job),
            (Newer::Nothing, Some((job, Some(due)))) => {
                self.set_aside.insert((due, object.clone()));
                let place = Place::SetAside(job, due);
                self.entries.insert(object.clone(), Entry { ticket, place });
            }
            (Newer::Nothing, None) | (Newer::Forgotten, _) => {}
        }
    }

    fn queue(&mut self, ticket: u64, object: ObjectRef, job: Job) {
        self.order.insert(ticket, object.clone());
        self.entries.insert(object, Entry { ticket, place: Place::Queued(job) });
    }

    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock,
        model::names::{Kind, ObjectName},
    };
    use serde_json::json;
    use std::time::Duration;

    fn object(name: &str) -> ObjectRef {
        ObjectRef::new(Kind::TcpRoute, ObjectName::new("default", name))
    }

    #[test]
    fn a_cleared_queue_gives_nothing_out_and_says_whom_it_was_about() {
        let (mut queue, now) = (StatusQueue::default(), clock::now());
        queue.publish(update("taken", 1));
        let taken = queue.take(now).unwrap();
        queue.publish(update("taken", 2));
        queue.publish(update("waiting", 1));
        let mut cleared = queue.clear();
        cleared.sort();
        assert_eq!(cleared, [object("taken"), object("waiting")]);
        queue.put_back(taken);
        assert!(queue.take(now).is_none() && queue.depth() == 0);
    }

    fn update(name: &str, version: u32) -> StatusUpdate {
        StatusUpdate { object: object(name), status: json!(version), frozen_parents: Vec::new(), finalizer: false }
    }

    /// Name and version of the next update that is due.
    fn take(queue: &StatusQueue, now: Instant) -> Option<String> {
        queue.take(now).map(|job| format!("{} {}", job.update.object.name.name, job.update.status))
    }

    #[test]
    fn updates_leave_in_the_order_in_which_their_objects_came_and_only_the_newest_of_each() {
        let now = clock::now();
        let mut queue = StatusQueue::default();
        for (name, version) in [("a", 1), ("b", 1), ("a", 2)] {
            queue.publish(update(name, version));
        }
        assert_eq!(queue.depth(), 2);
        assert_eq!(take(&queue, now).as_deref(), Some("a 2"));
        assert_eq!(take(&queue, now).as_deref(), Some("b 1"));
        assert_eq!(take(&queue, now), None);
    }

    #[test]
    fn an_object_being_written_is_not_given_out_twice_and_what_came_meanwhile_follows() {
        let now = clock::now();
        let mut queue = StatusQueue::default();
        queue.publish(update("a", 1));
        assert_eq!(take(&queue, now).as_deref(), Some("a 1"));
        queue.publish(update("a", 2));
        queue.publish(update("a", 3));
        assert_eq!(take(&queue, now), None);
        queue.finish(&object("a"));
        assert_eq!(take(&queue, now).as_deref(), Some("a 3"));
        queue.finish(&object("a"));
        assert_eq!(queue.depth(), 0);
    }

    #[test]
    fn an_update_put_back_goes_before_those_that_came_after_it() {
        let now = clock::now();
        let mut queue = StatusQueue::default();
        queue.publish(update("a", 1));
        queue.publish(update("b", 1));
        let job = queue.take(now).unwrap();
        queue.put_back(job);
        assert_eq!(take(&queue, now).as_deref(), Some("a 1"));
    }

    #[test]
    fn an_update_set_aside_comes_back_when_due_and_not_before() {
        let now = clock::now();
        let due = now + Duration::from_secs(5);
        let mut queue = StatusQueue::default();
        queue.publish(update("a", 1));
        queue.set_aside(queue.take(now).unwrap(), due);
        assert_eq!((take(&queue, now), queue.next_due(), queue.depth()), (None, Some(due), 1));
        assert_eq!(take(&queue, due).as_deref(), Some("a 1"));
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn the_newest_truth_wins_over_a_retry_and_goes_at_once() {
        let now = clock::now();
        let due = now + Duration::from_secs(5);
        let mut queue = StatusQueue::default();
        queue.publish(update("a", 1));
        queue.set_aside(queue.take(now).unwrap(), due);
        queue.publish(update("a", 2));
        assert_eq!(queue.next_due(), None);
        let job = queue.take(now).unwrap();
        assert_eq!(job.update, update("a", 2));
        queue.publish(update("a", 3));
        queue.set_aside(job, due);
        assert_eq!(take(&queue, now).as_deref(), Some("a 3"));
    }

    #[test]
    fn a_forgotten_object_leaves_wherever_it_is() {
        let now = clock::now();
        let mut queue = StatusQueue::default();
        queue.publish(update("waiting", 1));
        queue.forget(&object("waiting"));
        queue.publish(update("aside", 1));
        queue.set_aside(queue.take(now).unwrap(), now);
        queue.forget(&object("aside"));
        assert_eq!((take(&queue, now), queue.depth(), queue.next_due()), (None, 0, None));
        queue.publish(update("taken", 1));
        let job = queue.take(now).unwrap();
        queue.forget(&object("taken"));
        queue.put_back(job);
        assert_eq!((take(&queue, now), queue.depth()), (None, 0));
    }

    #[test]
    fn an_object_that_comes_again_after_it_was_forgotten_is_written_again() {
        let now = clock::now();
        let mut queue = StatusQueue::default();
        queue.publish(update("a", 1));
        let job = queue.take(now).unwrap();
        queue.forget(&object("a"));
        queue.publish(update("a", 2));
        queue.set_aside(job, now + Duration::from_secs(5));
        assert_eq!(take(&queue, now).as_deref(), Some("a 2"));
    }
}
