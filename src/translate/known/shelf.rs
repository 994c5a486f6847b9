//! What facts and references are kept in: objects of one kind by name, and who refers to what.

use crate::model::names::ObjectName;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    sync::Arc,
};

/// One object: its facts, or the knowledge that it exists and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence<F> {
    /// It could be read.
    Readable(F),
    /// It exists, but could never be read.
    Unreadable,
}

impl<F> Presence<F> {
    /// The facts, if it could be read.
    #[must_use]
    pub fn readable(&self) -> Option<&F> {
        match self {
            Self::Readable(facts) => Some(facts),
            Self::Unreadable => None,
        }
    }
}

/// All objects of one kind.
#[derive(Clone, Debug)]
pub struct Shelf<F> {
    objects: BTreeMap<ObjectName, Presence<F>>,
    /// Those that could never be read: asked for at every backend, and nearly always none.
    unreadable: BTreeSet<ObjectName>,
}

// Not derived: that would ask for `F: Default`.
impl<F> Default for Shelf<F> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), unreadable: BTreeSet::new() }
    }
}

impl<F: PartialEq> Shelf<F> {
    /// The facts of an object that could be read.
    #[must_use]
    pub fn get(&self, name: &ObjectName) -> Option<&F> {
        self.objects.get(name)?.readable()
    }

    /// Whether the object exists but could never be read.
    #[must_use]
    pub fn is_unreadable(&self, name: &ObjectName) -> bool {
        self.unreadable.contains(name)
    }

    /// Whether any object in `namespace` exists but could never be read.
    #[must_use]
    pub fn any_unreadable_in(&self, namespace: &Arc<str>) -> bool {
        let first = ObjectName { namespace: Arc::clone(namespace), name: "".into() };
        self.unreadable.range(first..).next().is_some_and(|name| name.namespace == *namespace)
    }

    /// Whether any object exists but could never be read.
    #[must_use]
    pub fn any_unreadable(&self) -> bool {
        !self.unreadable.is_empty()
    }

    /// The readable objects of a namespace, by name.
    pub fn readable_in(&self, namespace: &Arc<str>) -> impl Iterator<Item = &F> {
        self.in_namespace(namespace).filter_map(|(_, presence)| presence.readable())
    }

    /// Every name, readable or not, in order.
    pub fn names(&self) -> impl Iterator<Item = &ObjectName> {
        self.objects.keys()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The objects of a namespace, by name.
    pub fn in_namespace<'a>(&'a self, namespace: &Arc<str>) -> impl Iterator<Item = (&'a ObjectName, &'a Presence<F>)> {
        let namespace = Arc::clone(namespace);
        let first = ObjectName { namespace: Arc::clone(&namespace), name: "".into() };
        self.objects.range(first..).take_while(move |(name, _)| name.namespace == namespace)
    }

    /// Says whether anything differs now. What cannot be read keeps the facts there are.
    pub(in crate::translate) fn set(&mut self, name: &ObjectName, presence: Option<Presence<F>>) -> bool {
        match presence {
            None => {
                self.unreadable.remove(name);
                self.objects.remove(name).is_some()
            }
            Some(Presence::Unreadable) if self.get(name).is_some() => false,
            Some(presence) => {
                if self.objects.get(name) == Some(&presence) {
                    return false;
                }
                match &presence {
                    Presence::Readable(_) => self.unreadable.remove(name),
                    Presence::Unreadable => self.unreadable.insert(name.clone()),
                };
                self.objects.insert(name.clone(), presence);
                true
            }
        }
    }
}

/// Many-to-many from a reference to those who refer.
#[derive(Clone, Debug)]
pub struct Index<K, V> {
    entries: HashMap<K, BTreeSet<V>>,
}

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new() }
    }
}

impl<K: Hash + Eq, V: Ord + Clone> Index<K, V> {
    /// Those who refer to `key`, in order.
    pub fn of(&self, key: &K) -> impl Iterator<Item = &V> {
        self.entries.get(key).into_iter().flatten()
    }

    /// Everything that is referred to, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.entries.keys()
    }

    pub(super) fn add(&mut self, keys: impl IntoIterator<Item = K>, value: &V) {
        for key in keys {
            self.entries.entry(key).or_default().insert(value.clone());
        }
    }

    pub(super) fn remove(&mut self, keys: impl IntoIterator<Item = K>, value: &V) {
        for key in keys {
            if let Some(values) = self.entries.get_mut(&key) {
                values.remove(value);
                if values.is_empty() {
                    self.entries.remove(&key);
                }
            }
        }
    }
}
