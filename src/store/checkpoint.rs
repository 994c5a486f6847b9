//! The checkpoint: from which state of which cluster the store was last written. Pure.
//!
//! Every transaction rewrites its lane's key with it; the record with the highest sequence is the newest. Here it becomes
//! bytes and is read back; [`judge`] says what a new leader makes of one. Nothing is ever read half: a record is whole, of a
//! newer format, or broken.

pub mod judge;

use crate::{model::versions::CacheVersion, proto::checkpoint as wire};
use prost::Message as _;
use std::{collections::BTreeMap, sync::Arc};

/// What is known of the last transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Who wrote it: the instance named in its seals.
    pub instance: Arc<str>,
    /// Which cluster it was computed from: the UID of namespace `kube-system`, or `folder`. Empty after a reset: whichever
    /// cluster comes next may follow.
    pub cluster: Arc<str>,
    /// Every prefix that holds documents of the instance, with the name of its data plane (empty: the one of the settings).
    pub prefixes: BTreeMap<Arc<str>, Arc<str>>,
    /// Up to which version each resource (`group/resource`) was known. Resources that are not served any more are carried on.
    pub versions: BTreeMap<Arc<str>, CacheVersion>,
    /// Grows with each record of the instance, whoever leads and in whatever lane. 1 to [`SEQUENCE_MAX`].
    pub sequence: u64,
    /// The replica that wrote it.
    pub holder: Arc<str>,
    /// When, in seconds since the Unix epoch. For people; nothing is decided by it.
    pub written_at: i64,
}

/// A record cannot be used. Nothing may be written until a person has looked at it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Written by a newer controller.
    #[error("the checkpoint has format {found}, and this controller knows formats up to {known}")]
    NewerFormat {
        /// Its format.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// No record of ours.
    #[error("the checkpoint is broken: {reason}")]
    Broken {
        /// What reading it said.
        reason: Arc<str>,
    },
}

/// The highest sequence of a sound record. A million records a second reach it in 290,000 years, and whoever adds one to a
/// sequence that was read needs no check.
pub const SEQUENCE_MAX: u64 = u64::MAX / 2;

/// The format written here, and the newest that is read.
const FORMAT: u32 = 1;

/// What tells a record from other bytes: "CHPK" as stored.
const MAGIC: u32 = u32::from_le_bytes(*b"CHPK");

impl Checkpoint {
    /// The record's bytes, as `proto/checkpoint.proto` lays them down; equal checkpoints give equal bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self { instance, cluster, prefixes, versions, sequence, holder, written_at } = self;
        let prefix = |(prefix, data_plane): (&Arc<str>, &Arc<str>)| wire::Prefix {
            prefix: prefix.to_string(),
            data_plane: data_plane.to_string(),
        };
        let version = |(resource, version): (&Arc<str>, &CacheVersion)| wire::Version {
            resource: resource.to_string(),
            version: version.0,
        };
        let record = wire::Record {
            magic: MAGIC,
            format: FORMAT,
            instance: instance.to_string(),
            cluster: cluster.to_string(),
            prefixes: prefixes.iter().map(prefix).collect(),
            versions: versions.iter().map(version).collect(),
            sequence: *sequence,
            holder: holder.to_string(),
            written_at: *written_at,
        };
        record.encode_to_vec()
    }

    /// Reads a record. Fields that its format did not have when this was written are skipped.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let header = wire::Header::decode(bytes).map_err(|error| broken(format!("it is no record: {error}")))?;
        if header.magic != MAGIC {
            return Err(broken("it is no record of this controller"));
        }
        if header.format > FORMAT {
            return Err(CheckpointError::NewerFormat { found: header.format, known: FORMAT });
        }
        if header.format == 0 {
            return Err(broken("it has no format"));
        }
        let record = wire::Record::decode(bytes).map_err(|error| broken(format!("it cannot be read: {error}")))?;
        Self::checked(record)
    }

    fn checked(record: wire::Record) -> Result<Self, CheckpointError> {
        let wire::Record { magic: _, format: _, instance, cluster, prefixes, versions, sequence, holder, written_at } =
            record;
        if instance.is_empty() {
            return Err(broken("it names no instance"));
        }
        if sequence == 0 || sequence > SEQUENCE_MAX {
            return Err(broken(format!("{sequence} is no sequence")));
        }
        if cluster.is_empty() && !versions.is_empty() {
            return Err(broken("it has versions and names no cluster"));
        }
        let prefixes = prefixes.into_iter().map(|wire::Prefix { prefix, data_plane }| (prefix, data_plane.into()));
        let versions =
            versions.into_iter().map(|wire::Version { resource, version }| (resource, CacheVersion(version)));
        Ok(Self {
            instance: instance.into(),
            cluster: cluster.into(),
            prefixes: each_once(prefixes)?,
            versions: each_once(versions)?,
            sequence,
            holder: holder.into(),
            written_at,
        })
    }
}

/// A map of pairs whose names are there, and differ.
fn each_once<V>(pairs: impl Iterator<Item = (String, V)>) -> Result<BTreeMap<Arc<str>, V>, CheckpointError> {
    let mut map = BTreeMap::new();
    for (name, value) in pairs {
        if name.is_empty() {
            return Err(broken("a prefix or resource has no name"));
        }
        let name: Arc<str> = name.into();
        if map.insert(Arc::clone(&name), value).is_some() {
            return Err(broken(format!("it names {name} twice")));
        }
    }
    Ok(map)
}

fn broken(reason: impl Into<Arc<str>>) -> CheckpointError {
    CheckpointError::Broken { reason: reason.into() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record with something in every field.
    pub(crate) fn sample(sequence: u64) -> Checkpoint {
        Checkpoint {
            instance: "blue".into(),
            cluster: "f0e1".into(),
            prefixes: [("/b".into(), "second".into()), ("/a".into(), "".into())].into(),
            versions: [
                ("services".into(), CacheVersion(7)),
                ("gateway.networking.k8s.io/gateways".into(), CacheVersion(u64::MAX)),
            ]
            .into(),
            sequence,
            holder: "blue-0".into(),
            written_at: 1_700_000_000,
        }
    }

    fn record() -> wire::Record {
        wire::Record::decode(&*sample(9).encode()).unwrap()
    }

    #[track_caller]
    fn is_broken(record: &wire::Record, part: &str) {
        let error = Checkpoint::decode(&record.encode_to_vec()).unwrap_err();
        assert!(matches!(&error, CheckpointError::Broken { reason } if reason.contains(part)), "{error}");
    }

    #[test]
    fn what_is_written_is_read_back() {
        for sequence in [1, 9, SEQUENCE_MAX] {
            assert_eq!(Checkpoint::decode(&sample(sequence).encode()), Ok(sample(sequence)));
        }
        let reset = Checkpoint { cluster: "".into(), versions: BTreeMap::new(), written_at: -1, ..sample(3) };
        assert_eq!(Checkpoint::decode(&reset.encode()), Ok(reset));
    }

    /// Other programs, and other versions of this one, read these bytes.
    #[test]
    fn the_bytes_of_a_record_stay_as_they_are() {
        let small = Checkpoint {
            instance: "a".into(),
            cluster: "c".into(),
            prefixes: [("/p".into(), "".into())].into(),
            versions: [("services".into(), CacheVersion(300))].into(),
            sequence: 2,
            holder: "h".into(),
            written_at: 1,
        };
        let bytes = b"\x0dCHPK\x10\x01\x1a\x01a\x22\x01c\x2a\x04\x0a\x02/p\x32\x0d\x0a\x08services\x10\xac\x02\x38\x02\x42\x01h\x48\x01";
        assert_eq!(small.encode(), bytes);
        assert_eq!(Checkpoint::decode(bytes), Ok(small));
    }

    #[test]
    fn lists_are_sorted_whatever_the_order_they_came_in() {
        let names: Vec<_> = record().prefixes.into_iter().map(|prefix| prefix.prefix).collect();
        assert_eq!(names, ["/a", "/b"]);
        let resources: Vec<_> = record().versions.into_iter().map(|version| version.resource).collect();
        assert_eq!(resources, ["gateway.networking.k8s.io/gateways", "services"]);
    }

    #[test]
    fn fields_from_later_are_skipped() {
        let mut bytes = sample(9).encode();
        // Field 1000, a text.
        bytes.extend(b"\xc2\x3e\x05later");
        assert_eq!(Checkpoint::decode(&bytes), Ok(sample(9)));
    }

    #[test]
    fn a_newer_format_is_told_from_a_broken_record() {
        // Whatever else it holds: field 3 is a number here.
        let newer = b"\x0dCHPK\x10\x02\x18\x07";
        assert_eq!(Checkpoint::decode(newer), Err(CheckpointError::NewerFormat { found: 2, known: 1 }));
        let same = b"\x0dCHPK\x10\x01\x18\x07";
        assert!(matches!(Checkpoint::decode(same), Err(CheckpointError::Broken { .. })));
    }

    #[test]
    fn other_bytes_are_broken() {
        for bytes in [&b""[..], b"{}", b"blue-0", b"\x0dCHPX\x10\x01", b"\x0dCHPK", &sample(9).encode()[1..]] {
            assert!(matches!(Checkpoint::decode(bytes), Err(CheckpointError::Broken { .. })), "{bytes:?}");
        }
    }

    #[test]
    fn no_part_of_a_record_is_taken_for_the_whole() {
        let whole = sample(9).encode();
        for end in 0..whole.len() {
            let part = Checkpoint::decode(&whole[..end]);
            // What comes last are the holder and the time, which are for people only.
            assert!(part.is_err() || part.is_ok_and(|part| part.versions == sample(9).versions), "{end} bytes");
        }
    }

    #[test]
    fn a_record_that_breaks_a_rule_is_broken() {
        is_broken(&wire::Record { instance: String::new(), ..record() }, "no instance");
        is_broken(&wire::Record { sequence: 0, ..record() }, "0 is no sequence");
        is_broken(&wire::Record { sequence: SEQUENCE_MAX + 1, ..record() }, "is no sequence");
        is_broken(&wire::Record { cluster: String::new(), ..record() }, "names no cluster");
        let prefix = wire::Prefix { prefix: "/a".to_owned(), data_plane: String::new() };
        is_broken(&wire::Record { prefixes: vec![prefix.clone(), prefix], ..record() }, "/a twice");
        let nameless = wire::Version { resource: String::new(), version: 1 };
        is_broken(&wire::Record { versions: vec![nameless], ..record() }, "has no name");
    }
}
