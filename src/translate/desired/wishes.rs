//! What tests of the loop want in the place of what translation says: documents of a kind that their cluster does not have.
//! Outside of tests there is nothing here.

/// By document.
#[cfg(test)]
pub(crate) type Wishes = std::collections::BTreeMap<crate::model::places::WorkId, super::Wanted>;
/// None.
#[cfg(not(test))]
pub(crate) type Wishes = ();

#[cfg(test)]
mod in_tests {
    use super::super::{Desired, Wanted, reach::Serves};
    use crate::model::places::WorkId;

    impl Desired {
        pub(in super::super) fn wished_to_serve(&self, slot: &WorkId) -> Option<Serves> {
            self.wishes.get(slot).map(|wanted| match wanted {
                Wanted::Absent => Serves::Absent,
                Wanted::Document(_) => Serves::Nodes(1),
                Wanted::Kept { otherwise: _ } => Serves::Kept,
                Wanted::Refused(_) => Serves::Refused,
            })
        }

        pub(in super::super) fn wished_slots(&self, need: &WorkId) -> impl Iterator<Item = WorkId> {
            self.wishes.iter().filter_map(move |(slot, wanted)| match wanted {
                Wanted::Document(document) if document.needs().any(|id| id == need) => Some(slot.clone()),
                Wanted::Document(_) | Wanted::Absent | Wanted::Kept { otherwise: _ } | Wanted::Refused(_) => None,
            })
        }
    }
}
