//! What the log says while etcd refuses, or does not answer.

use super::*;
use crate::store::txn::Ground;
use parking_lot::Mutex;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::with_default,
};

/// Level and message of each line.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(Level, String)>>>);

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message::default();
        event.record(&mut message);
        self.0.lock().push((*event.metadata().level(), message.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

/// What is logged while `work` is done.
fn logged(work: impl FnOnce()) -> Vec<(Level, String)> {
    let log = Log::default();
    with_default(log.clone(), work);
    std::mem::take(&mut log.0.lock())
}

fn count(log: &[(Level, String)], level: Level, text: &str) -> usize {
    log.iter().filter(|(at, line)| *at == level && line.contains(text)).count()
}

impl Table {
    /// Tries for so long, and is refused each time; gives how often.
    fn refused_for(&mut self, time: Duration, full: bool) -> usize {
        let (end, mut n_refused) = (self.now + time, 0);
        while self.now < end {
            self.pass();
            for (number, txn) in std::mem::take(&mut self.sent) {
                n_refused += 1;
                let error = CommitError::Refused {
                    n_operations: txn.n_operations(),
                    ground: if full { Ground::Full } else { Ground::Other },
                    source: "no space".into(),
                };
                self.state.answered(number, Err(error), self.now);
            }
            self.now = self.state.next_wake(self.now).unwrap_or(end);
        }
        n_refused
    }
}

#[test]
fn an_outage_is_warned_of_once_and_its_end_is_told() {
    let log = logged(|| {
        let mut table = Table::settled();
        for last in [101, 102] {
            table.changed(Kind::EndpointSlice, &endpoints(last));
            assert!(table.refused_for(Duration::from_secs(30), true) > 4);
            table.work_off();
            while !table.state.work.settled() {
                table.now = table.state.next_wake(table.now).unwrap();
                table.work_off();
            }
        }
    });
    let refused = "etcd refused a transaction, as it is full; trying again";
    assert_eq!(count(&log, Level::WARN, refused), 2, "two outages: {log:#?}");
    assert!(count(&log, Level::DEBUG, refused) > 4, "{log:#?}");
    assert_eq!(count(&log, Level::INFO, "etcd takes writes again"), 2, "{log:#?}");
}

#[test]
fn an_outage_that_turns_into_another_is_warned_of_again() {
    let log = logged(|| {
        let mut table = Table::settled();
        table.changed(Kind::EndpointSlice, &endpoints(101));
        table.refused_for(Duration::from_secs(10), true);
        table.refused_for(Duration::from_secs(10), false);
        table.refused_for(Duration::from_secs(10), true);
    });
    assert_eq!(
        (count(&log, Level::WARN, "as it is full"), count(&log, Level::WARN, "transaction; trying")),
        (1, 1),
        "{log:#?}"
    );
}
