//! Reading documents back from etcd: whose they are, whether they are as written, and what they name.

use crate::model::places::WorkId;
use std::sync::Arc;

/// What can be told of a stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Who wrote it, if its seal is whole.
    pub seal: Seal,
    /// A hash of the whole value.
    pub hash: ValueHash,
    /// The upstream a stream_route names by `upstream_id`, whoever wrote it.
    pub pool: Option<WorkId>,
}

/// The state of a stored value's seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seal {
    /// The value is as the controller instance of this name wrote it.
    Intact {
        /// The instance.
        instance: Arc<str>,
    },
    /// There is no seal, or the value was changed after it was sealed.
    Broken,
}

/// A hash of a whole value, to compare a wanted document with a stored one without holding either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ValueHash([u8; 16]);

impl ValueHash {
    /// The hash of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; 16];
        blake3::Hasher::new().update(bytes).finalize_xof().fill(&mut hash);
        Self(hash)
    }
}

/// Looks at the value stored at `key`, which is the full key of `id`.
#[must_use]
pub fn inspect(id: &WorkId, key: &str, bytes: &[u8]) -> Inspected {
    let _ = (id, key);
    Inspected { seal: Seal::Broken, hash: ValueHash::of(bytes), pool: None }
}
