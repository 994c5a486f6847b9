//! What the lanes of an instance hold, and who leads it: read whole from the store, judged by nobody here. Never writes.

use super::{
    Content, PagePlace, ReadError, Scope, Store,
    checkpoint::{Checkpoint, CheckpointError, judge},
    control::{ControlKeys, Purpose},
    txn::Revision,
};
use std::sync::Arc;

/// Every lane key of an instance that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// The revision of the whole store that was read.
    pub revision: Revision,
    /// By number, in order.
    pub lanes: Vec<LaneRecord>,
    /// Keys among the lanes that are none.
    pub strangers: Vec<Arc<str>>,
}

/// What one lane holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneRecord {
    /// Which lane.
    pub number: u32,
    /// When its key was last written.
    pub mod_revision: Revision,
    /// What it says.
    pub record: Result<Checkpoint, CheckpointError>,
}

/// Who leads an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderRecord {
    /// What the leader calls itself.
    pub holder: Arc<str>,
    /// When its key was created; nobody writes it a second time.
    pub created: Revision,
}

impl Records {
    /// Every lane's number and revision.
    #[must_use]
    pub fn found(&self) -> Vec<(u32, Revision)> {
        self.lanes.iter().map(|lane| (lane.number, lane.mod_revision)).collect()
    }

    /// The checkpoint, as [`judge::newest`] has it.
    pub fn newest(&self) -> Result<Option<Checkpoint>, CheckpointError> {
        judge::newest(self.lanes.iter().map(|lane| lane.record.clone()))
    }

    /// The newest of the records that can be read, also beside others that cannot.
    #[must_use]
    pub fn newest_readable(&self) -> Option<&Checkpoint> {
        self.lanes.iter().filter_map(|lane| lane.record.as_ref().ok()).max_by_key(|record| record.sequence)
    }
}

/// Reads every lane of an instance, at one revision. Dropping it is safe.
///
/// A new leader calls it when its leader key exists: then what an earlier leader sent is in the lanes or never will be.
pub async fn read_records<S: Store>(store: &S, keys: &ControlKeys) -> Result<Records, ReadError> {
    let mut records = Records::default();
    let mut place = Some(PagePlace::First);
    while let Some(from) = place {
        let page = store.page(&keys.lanes(), Content::Values, from).await?;
        records.revision = page.revision;
        for entry in page.entries {
            match lane(keys, &entry.key) {
                Some(number) => records.lanes.push(LaneRecord {
                    number,
                    mod_revision: entry.mod_revision,
                    record: Checkpoint::decode(&entry.value),
                }),
                None => records.strangers.push(String::from_utf8_lossy(&entry.key).into()),
            }
        }
        place = page.next;
    }
    records.lanes.sort_by_key(|lane| lane.number);
    Ok(records)
}

/// Who leads, and the revision at which that was read. Dropping it is safe.
pub async fn read_leader<S: Store>(
    store: &S,
    keys: &ControlKeys,
) -> Result<(Option<LeaderRecord>, Revision), ReadError> {
    let page = store.page(&Scope::Key(keys.leader()), Content::Values, PagePlace::First).await?;
    let leader = page.entries.first().map(|entry| LeaderRecord {
        holder: String::from_utf8_lossy(&entry.value).into(),
        created: entry.mod_revision,
    });
    Ok((leader, page.revision))
}

/// The lane's number, if the key is a lane's of this instance.
fn lane(keys: &ControlKeys, key: &[u8]) -> Option<u32> {
    match keys.read(key)?.purpose {
        Purpose::Lane(number) if keys.lane(number).as_bytes() == key => Some(number),
        Purpose::Lane(_) | Purpose::Leader | Purpose::Release(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::checkpoint::tests::sample, *};

    #[test]
    fn a_number_written_in_another_way_is_no_lane() {
        let keys = ControlKeys::new("/control".into(), "blue".into());
        assert_eq!(lane(&keys, b"/control/blue/lanes/7"), Some(7));
        for other in ["lanes/07", "lanes/+7", "lanes/x", "lanes/", "leader"] {
            assert_eq!(lane(&keys, format!("/control/blue/{other}").as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_record_that_cannot_be_read_hides_the_newest_but_not_the_newest_that_can() {
        let broken = Err(CheckpointError::Broken { reason: "x".into() });
        let lane = |number, record| LaneRecord { number, mod_revision: Revision(5), record };
        let mut records = Records {
            lanes: vec![lane(0, Ok(sample(4))), lane(1, Ok(sample(9))), lane(2, Ok(sample(7)))],
            ..Records::default()
        };
        assert_eq!(records.newest().unwrap().unwrap().sequence, 9);
        records.lanes.push(lane(3, broken.clone()));
        assert_eq!(records.newest().map(drop), broken.map(drop));
        assert_eq!(records.newest_readable().unwrap().sequence, 9);
        assert_eq!(records.found().len(), 4);
    }
}
