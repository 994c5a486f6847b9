//! Lanes: how several transactions may be on their way at once, and how one whose answer was lost is settled. Pure.
//!
//! A lane is one key. Every transaction rewrites the key of the lane it travels in, if it is as this leader left it, so of all
//! transactions ever sent in a lane on one state of its key at most one is applied. After a lost answer that key alone is
//! rewritten on the same state, again and again until an answer comes: if the rewrite wins, the lost transaction can never
//! be applied; if it loses, the record found says by its sequence who won.
//!
//! Lane keys as found and answers come in; writes and what became of each transaction come out. It sends nothing and never
//! says that a transaction was not applied while it still may be.

use super::{
    checkpoint::Checkpoint,
    control::ControlKeys,
    txn::{Action, Commit, CommitError, Current, Revision, Write},
};
use std::{num::NonZeroU32, sync::Arc};

/// One lane of a leader: the number in its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub u32);

/// The lanes of one leader, for one term.
#[derive(Clone, Debug)]
pub struct Lanes {
    /// By number.
    all: Vec<Lane>,
    /// Lane keys beyond the number of lanes, with their revisions.
    surplus: Vec<(Arc<str>, Revision)>,
    /// The highest sequence recorded or given out.
    sequence: u64,
    /// A record of this leader is in the store, so that the found ones are not the newest any more.
    renewed: bool,
    /// Nothing more can be sent under this term.
    over: bool,
}

#[derive(Clone, Debug)]
struct Lane {
    key: Arc<str>,
    /// What the key's revision is, if nothing on its way was applied.
    known: Revision,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Free,
    /// A transaction is on its way, with this sequence.
    Sent(u64),
    /// A transaction got no answer.
    Open(Open),
}

/// A lane to be settled.
#[derive(Clone, Debug)]
struct Open {
    /// The sequence of the transaction without an answer.
    lost: u64,
    /// Those of settlings without an answer: each may be applied, too. One number for each try since etcd went silent, so
    /// the retry's longest delay keeps it short: a day's silence at one try a second is 700 KB.
    silent: Vec<u64>,
    /// That of the settling on its way.
    sent: Option<u64>,
}

/// What became of a lane's transaction.
#[derive(Debug)]
pub enum LaneAnswer {
    /// Its writes are in the store since this revision (also when a settling found that out); the lane is free.
    Applied(Revision),
    /// Nothing was written; the lane is free.
    Conflicted {
        /// The revision at which the keys were read.
        at: Revision,
        /// The transaction's keys without the lane's own.
        current: Vec<Current>,
    },
    /// The store refused; nothing was and nothing will be applied, and the lane is free.
    Refused(CommitError),
    /// No answer: the transaction may be applied at any time until the lane is settled. Send what [`Lanes::settle`] gives, in
    /// a transaction of its own, until it is.
    Open(CommitError),
    /// After settling: the lost transaction was not applied and never will be; the lane is free.
    Void,
    /// Somebody else leads. These lanes are over; what became of the transaction only the next leader sees.
    Fenced,
    /// Somebody else writes our control keys. These lanes are over: give up leading and begin anew.
    Stolen,
}

/// How many surplus keys one transaction deletes: with the fence about half of what etcd allows by default, and as many as
/// there can be lanes.
const SURPLUS_MAX: usize = 64;

impl Lanes {
    /// The lanes of a new leader: `n` of them. `found` is every lane key of the instance that exists (number and modification
    /// revision), read after the leader key existed; `sequence` the highest one recorded in them, 0 if none is.
    #[must_use]
    pub fn new(keys: &ControlKeys, n: NonZeroU32, found: &[(u32, Revision)], sequence: u64) -> Self {
        let lane = |number| {
            let known = found.iter().find(|(found, _)| *found == number).map_or(Revision::ABSENT, |(_, known)| *known);
            Lane { key: keys.lane(number), known, state: State::Free }
        };
        let surplus = found.iter().filter(|(number, _)| *number >= n.get());
        Self {
            all: (0..n.get()).map(lane).collect(),
            surplus: surplus.map(|(number, known)| (keys.lane(*number), *known)).collect(),
            sequence,
            renewed: false,
            over: false,
        }
    }

    /// How many transactions more may be on their way.
    #[must_use]
    pub fn n_free(&self) -> usize {
        if self.over { 0 } else { self.all.iter().filter(|lane| lane.is_free()).count() }
    }

    /// The highest sequence recorded or given out.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Takes a free lane for a transaction. The write goes last among the transaction's writes; its value is what `record`
    /// makes of the sequence, a [`Checkpoint`] as encoded. `None` when all lanes are in use, or over.
    pub fn begin(&mut self, record: impl FnOnce(u64) -> Vec<u8>) -> Option<(LaneId, Write)> {
        if self.over {
            return None;
        }
        let (number, lane) = (0..).zip(&mut self.all).find(|(_, lane)| lane.is_free())?;
        self.sequence += 1;
        lane.state = State::Sent(self.sequence);
        Some((LaneId(number), lane.rewrite(record(self.sequence))))
    }

    /// The only write of the next settling of a lane that is open: on the same state of its key, with a new sequence. `None`
    /// for a lane that is not open or whose settling is on its way, and when the lanes are over.
    pub fn settle(&mut self, lane: LaneId, record: impl FnOnce(u64) -> Vec<u8>) -> Option<Write> {
        if self.over {
            return None;
        }
        let lane = self.all.get_mut(usize::try_from(lane.0).ok()?)?;
        let State::Open(open @ Open { sent: None, .. }) = &mut lane.state else { return None };
        self.sequence += 1;
        open.sent = Some(self.sequence);
        Some(lane.rewrite(record(self.sequence)))
    }

    /// Takes in the answer to the lane's transaction, or to its settling. A transaction whose future was dropped half-way
    /// counts as unanswered.
    pub fn answered(&mut self, lane: LaneId, answer: Result<Commit, CommitError>) -> LaneAnswer {
        let lane = usize::try_from(lane.0).ok().and_then(|number| self.all.get_mut(number));
        let answer = match lane {
            Some(lane) => lane.answered(answer),
            None => unasked(),
        };
        match &answer {
            LaneAnswer::Applied(_) | LaneAnswer::Void => self.renewed = true,
            LaneAnswer::Fenced | LaneAnswer::Stolen => self.over = true,
            LaneAnswer::Conflicted { .. } | LaneAnswer::Refused(_) | LaneAnswer::Open(_) => {}
        }
        answer
    }

    /// Deletions of lane keys beyond the number of lanes, for one transaction without a lane; none before a record of this
    /// leader is in the store, for one of them may be the newest. Lost answers need no settling: send the same again.
    #[must_use]
    pub fn surplus(&self) -> Vec<Write> {
        if !self.renewed || self.over {
            return Vec::new();
        }
        let delete = |(key, known): &(Arc<str>, Revision)| Write {
            key: Arc::clone(key),
            expected: *known,
            action: Action::Delete,
        };
        self.surplus.iter().take(SURPLUS_MAX).map(delete).collect()
    }

    /// What [`Lanes::surplus`] gave was applied, or lost to keys that do not exist any more.
    pub fn surplus_gone(&mut self) {
        self.surplus.drain(..self.surplus.len().min(SURPLUS_MAX));
    }
}

impl Lane {
    fn is_free(&self) -> bool {
        matches!(self.state, State::Free)
    }

    fn rewrite(&self, record: Vec<u8>) -> Write {
        Write { key: Arc::clone(&self.key), expected: self.known, action: Action::Put(record.into()) }
    }

    fn answered(&mut self, answer: Result<Commit, CommitError>) -> LaneAnswer {
        match &mut self.state {
            State::Sent(sequence) => {
                let sequence = *sequence;
                self.sent_answered(sequence, answer)
            }
            State::Open(open) => match open.sent.take() {
                Some(sequence) => self.settling_answered(sequence, answer),
                None => unasked(),
            },
            State::Free => unasked(),
        }
    }

    fn sent_answered(&mut self, sequence: u64, answer: Result<Commit, CommitError>) -> LaneAnswer {
        match answer {
            Ok(Commit::Applied(at)) => self.applied(at),
            Ok(Commit::Conflicted { at, mut current }) => match self.take_own(&mut current) {
                Some(own) if own.revision() == self.known => {
                    self.state = State::Free;
                    LaneAnswer::Conflicted { at, current }
                }
                // SUBTLE: something on the way delivered it twice, and the answer is the second one's.
                Some(own) if sequence_of(&own) == Some(sequence) => self.applied(own.revision()),
                Some(_) | None => LaneAnswer::Stolen,
            },
            Ok(Commit::Fenced) => LaneAnswer::Fenced,
            Err(error @ CommitError::Refused { .. }) => {
                self.state = State::Free;
                LaneAnswer::Refused(error)
            }
            Err(error @ CommitError::Unanswered { .. }) => {
                self.state = State::Open(Open { lost: sequence, silent: Vec::new(), sent: None });
                LaneAnswer::Open(error)
            }
        }
    }

    fn settling_answered(&mut self, sequence: u64, answer: Result<Commit, CommitError>) -> LaneAnswer {
        let State::Open(open) = &mut self.state else { return unasked() };
        match answer {
            Ok(Commit::Applied(at)) => self.void(at),
            Ok(Commit::Conflicted { at: _, mut current }) => {
                let settlings = [open.silent.as_slice(), &[sequence]].concat();
                let lost = open.lost;
                let Some(own) = self.take_own(&mut current) else { return LaneAnswer::Stolen };
                match sequence_of(&own) {
                    Some(found) if found == lost => self.applied(own.revision()),
                    Some(found) if settlings.contains(&found) => self.void(own.revision()),
                    Some(_) | None => LaneAnswer::Stolen,
                }
            }
            Ok(Commit::Fenced) => LaneAnswer::Fenced,
            Err(error @ CommitError::Refused { .. }) => LaneAnswer::Open(error),
            Err(error @ CommitError::Unanswered { .. }) => {
                open.silent.push(sequence);
                LaneAnswer::Open(error)
            }
        }
    }

    fn applied(&mut self, at: Revision) -> LaneAnswer {
        (self.known, self.state) = (at, State::Free);
        LaneAnswer::Applied(at)
    }

    fn void(&mut self, at: Revision) -> LaneAnswer {
        (self.known, self.state) = (at, State::Free);
        LaneAnswer::Void
    }

    /// This lane's key among the keys of a conflict.
    fn take_own(&self, current: &mut Vec<Current>) -> Option<Current> {
        let place = current.iter().position(|current| current.key == self.key)?;
        Some(current.remove(place))
    }
}

fn sequence_of(own: &Current) -> Option<u64> {
    let (_, value) = own.value.as_ref()?;
    Checkpoint::decode(value).ok().map(|record| record.sequence)
}

/// An answer to nothing that was sent: no state can be trusted any more, and beginning anew is always right.
fn unasked() -> LaneAnswer {
    debug_assert!(false, "a lane got an answer to nothing");
    LaneAnswer::Stolen
}

#[cfg(test)]
mod tests;
