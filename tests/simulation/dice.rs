//! Chance, from one seed. Every part that draws has dice of its own, so that drawing more often in one changes nothing in
//! another.

use parking_lot::Mutex;
use std::{ops::RangeInclusive, sync::Arc, time::Duration};

/// A source of chance. Clones draw from the same one.
#[derive(Clone)]
pub(crate) struct Dice(Arc<Mutex<fastrand::Rng>>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    /// Dice for another part.
    pub(crate) fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().fork())))
    }

    /// True once in a hundred times `percent`.
    pub(crate) fn chance(&self, percent: u32) -> bool {
        self.0.lock().u32(0..100) < percent
    }

    pub(crate) fn number(&self, range: RangeInclusive<u64>) -> u64 {
        self.0.lock().u64(range)
    }

    pub(crate) fn index(&self, length: usize) -> usize {
        self.0.lock().usize(0..length)
    }

    pub(crate) fn pick<'a, T>(&self, among: &'a [T]) -> Option<&'a T> {
        if among.is_empty() { None } else { among.get(self.index(among.len())) }
    }

    /// A whole number of milliseconds within these.
    pub(crate) fn time(&self, milliseconds: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.number(milliseconds))
    }
}
