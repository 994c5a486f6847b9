//! `release`: asks the leader to let go what it holds back. The request is one key; the leader carries it out and clears it.
//!
//! The key is put under the fence of whoever leads at that moment, or of nobody, so what is said about a leader was true when
//! the request was made.

use super::{Outcome, complain, with_store};
use crate::{
    clock,
    config::settings::control::{ControlSettings, ReleaseSettings},
    show::print,
    store::{
        Content, PagePlace, ReadError, Store,
        control::{ControlKeys, Purpose},
        records::{LeaderRecord, read_leader},
        txn::{Action, Commit, CommitError, Fence, Revision, Txn, Write},
    },
};
use std::sync::Arc;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Who leads and will see it; `None`: nobody at the moment.
    pub leader: Option<Arc<str>>,
    /// It had been asked for before, and is not taken up yet.
    pub before: bool,
}

/// Nothing was asked.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// etcd cannot be read.
    #[error("cannot ask etcd who leads")]
    Unreadable(#[source] ReadError),
    /// etcd did not write.
    #[error("nothing was asked for: etcd refused")]
    Refused(#[source] CommitError),
    /// etcd did not say.
    #[error("etcd did not say whether the request was written: look with `release --list`, or run it again")]
    Unanswered(#[source] CommitError),
    /// Leaders come and go.
    #[error("nothing was asked for: the leader changed {TRIES_MAX} times meanwhile; run it again")]
    Unsteady,
}

/// How often it is tried while the leader changes or etcd gives no answer. More is a matter for the person who waits.
const TRIES_MAX: usize = 5;

/// Asks, or lists what was asked for.
#[must_use]
pub fn execute(settings: &ReleaseSettings) -> Outcome {
    let ReleaseSettings { control, name } = settings;
    let ControlSettings { etcd, control_prefix, instance } = control;
    let keys = ControlKeys::new(Arc::clone(control_prefix), Arc::clone(instance));
    with_store(etcd, async |store| match name {
        Some(name) => match ask(&store, &keys, name).await {
            Ok(asked) => {
                print(&said(name, instance, &asked));
                Outcome::Done
            }
            Err(error) => {
                complain(&error);
                if matches!(error, ReleaseError::Unreadable(_)) { Outcome::Unusable } else { Outcome::Refused }
            }
        },
        None => match asked_for(&store, &keys).await {
            Ok(names) => {
                print(&names.iter().flat_map(|name| [&**name, "\n"]).collect::<String>());
                Outcome::Done
            }
            Err(error) => {
                complain(&error);
                Outcome::Unusable
            }
        },
    })
}

fn said(name: &str, instance: &str, asked: &Asked) -> String {
    let Asked { leader, before } = asked;
    let asked = if *before { "was asked for before and is not taken up yet" } else { "is asked for" };
    match leader {
        Some(leader) => format!("The release of {name} {asked}; {leader} leads instance {instance} and will see it.\n"),
        None => format!(
            "The release of {name} {asked}. Nobody leads instance {instance} at the moment: the next leader will see it.\n"
        ),
    }
}

/// Puts the request. Dropping it half-way leaves it unknown whether it was put.
pub async fn ask<S: Store>(store: &S, keys: &ControlKeys, name: &str) -> Result<Asked, ReleaseError> {
    let mut failed = ReleaseError::Unsteady;
    for _ in 0..TRIES_MAX {
        let (leader, _) = read_leader(store, keys).await.map_err(ReleaseError::Unreadable)?;
        let txn = request(keys, name, leader.as_ref());
        let leader = leader.map(|leader| leader.holder);
        failed = match store.commit(txn).await {
            Ok(Commit::Applied(_)) => return Ok(Asked { leader, before: false }),
            Ok(Commit::Conflicted { .. }) => return Ok(Asked { leader, before: true }),
            Ok(Commit::Fenced) => ReleaseError::Unsteady,
            Err(error @ CommitError::Refused { .. }) => return Err(ReleaseError::Refused(error)),
            Err(error @ CommitError::Unanswered { .. }) => ReleaseError::Unanswered(error),
        };
    }
    Err(failed)
}

fn request(keys: &ControlKeys, name: &str, leader: Option<&LeaderRecord>) -> Txn {
    // SUBTLE: a leader key that was created at no revision is one that does not exist.
    let created = leader.map_or(Revision::ABSENT, |leader| leader.created);
    let value = clock::unix_seconds().to_string();
    Txn {
        fence: Fence { key: keys.leader(), created },
        conditions: Vec::new(),
        writes: vec![Write {
            key: keys.release(name),
            expected: Revision::ABSENT,
            action: Action::Put(value.into_bytes().into()),
        }],
    }
}

/// Names that were asked for and are not taken up yet, in order.
async fn asked_for<S: Store>(store: &S, keys: &ControlKeys) -> Result<Vec<Arc<str>>, ReadError> {
    let mut names = Vec::new();
    let mut place = Some(PagePlace::First);
    while let Some(from) = place {
        let page = store.page(&keys.everyone(), Content::KeysOnly, from).await?;
        for entry in page.entries {
            let Some(key) = keys.read(&entry.key) else { continue };
            match key.purpose {
                Purpose::Release(name) if key.instance == *keys.instance() => names.push(name),
                Purpose::Release(_) | Purpose::Leader | Purpose::Lane(_) => {}
            }
        }
        place = page.next;
    }
    Ok(names)
}
