//! When pools and certificates lost their last users. Departures in; out comes, for a while, when each was. Pure.
//!
//! However many leave at once, taking one in costs what it costs for a single one: each is forgotten once, in its turn.

use crate::model::places::WorkId;
use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// When pools and certificates lost their last users, as long as that matters.
#[derive(Debug, Default)]
pub(super) struct Departures {
    at: HashMap<WorkId, Instant>,
    /// Oldest first. One that was left twice is in twice.
    order: VecDeque<(Instant, WorkId)>,
}

impl Departures {
    /// `id` has just lost its last user. What happened longer than `linger` ago is forgotten.
    pub(super) fn left(&mut self, id: WorkId, now: Instant, linger: Duration) {
        while let Some((at, _)) = self.order.front()
            && now.saturating_duration_since(*at) >= linger
        {
            let Some((at, id)) = self.order.pop_front() else { break };
            if self.at.get(&id) == Some(&at) {
                self.at.remove(&id);
            }
        }
        self.order.push_back((now, id.clone()));
        self.at.insert(id, now);
    }

    /// When `id` lost its last user, if that was not long ago.
    pub(super) fn at(&self, id: &WorkId) -> Option<Instant> {
        self.at.get(id).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock,
        model::places::{Directory, Plane},
    };

    const LINGER: Duration = Duration::from_secs(1);

    fn pool(name: &str) -> WorkId {
        WorkId::new(Plane::default(), Directory::Upstreams, name)
    }

    #[test]
    fn a_departure_is_remembered_while_it_matters_and_then_forgotten() {
        let (mut departures, begin) = (Departures::default(), clock::now());
        departures.left(pool("a"), begin, LINGER);
        departures.left(pool("b"), begin + LINGER / 2, LINGER);
        assert_eq!(departures.at(&pool("a")), Some(begin));
        departures.left(pool("c"), begin + LINGER, LINGER);
        assert_eq!((departures.at(&pool("a")), departures.at(&pool("b"))), (None, Some(begin + LINGER / 2)));
        departures.left(pool("d"), begin + LINGER * 3, LINGER);
        assert_eq!((departures.at.len(), departures.order.len()), (1, 1));
    }

    #[test]
    fn a_pool_that_is_left_again_is_remembered_from_then_on() {
        let (mut departures, begin) = (Departures::default(), clock::now());
        departures.left(pool("a"), begin, LINGER);
        departures.left(pool("a"), begin + LINGER / 2, LINGER);
        departures.left(pool("b"), begin + LINGER, LINGER);
        assert_eq!(departures.at(&pool("a")), Some(begin + LINGER / 2));
    }
}
