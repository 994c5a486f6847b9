//! What tests of the loop want in the place of what translation says: documents of a kind that their cluster does not have.

use super::{Desired, Wanted, reach::Serves};
use crate::model::places::WorkId;

impl Desired {
    pub(super) fn wished_to_serve(&self, slot: &WorkId) -> Option<Serves> {
        self.wishes.get(slot).map(|wanted| match wanted {
            Wanted::Absent => Serves::Absent,
            Wanted::Document(_) => Serves::Nodes(1),
            Wanted::Kept { otherwise: _ } => Serves::Kept,
            Wanted::Refused(_) => Serves::Refused,
        })
    }

    pub(super) fn wished_slots(&self, need: &WorkId) -> impl Iterator<Item = WorkId> {
        self.wishes.iter().filter_map(move |(slot, wanted)| match wanted {
            Wanted::Document(document) if document.needs().any(|id| id == need) => Some(slot.clone()),
            Wanted::Document(_) | Wanted::Absent | Wanted::Kept { otherwise: _ } | Wanted::Refused(_) => None,
        })
    }
}
