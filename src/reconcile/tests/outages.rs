//! What the log says while etcd refuses, or does not answer.

use super::*;
use tempfile::NamedTempFile;

/// What is logged while `work` is done.
fn logged(work: impl FnOnce()) -> Vec<String> {
    let file = NamedTempFile::new().unwrap();
    let lines = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .without_time()
        .with_writer(file.reopen().unwrap());
    tracing::subscriber::with_default(lines.finish(), work);
    std::fs::read_to_string(file.path()).unwrap().lines().map(|line| line.trim().to_owned()).collect()
}

fn count(log: &[String], level: &str, text: &str) -> usize {
    log.iter().filter(|line| line.starts_with(level) && line.contains(text)).count()
}

impl Table {
    /// Tries for so long, and is refused each time; gives how often.
    fn refused_for(&mut self, time: Duration, full: bool) -> usize {
        let (end, mut n_refused) = (self.now + time, 0);
        while self.now < end {
            self.pass();
            for (number, txn) in std::mem::take(&mut self.sent) {
                n_refused += 1;
                let error = CommitError::Refused { n_operations: txn.n_operations(), full, source: "no space".into() };
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
    assert_eq!(count(&log, "WARN", refused), 2, "two outages: {log:#?}");
    assert!(count(&log, "DEBUG", refused) > 4, "{log:#?}");
    assert_eq!(count(&log, "INFO", "etcd takes writes again"), 2, "{log:#?}");
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
    assert_eq!((count(&log, "WARN", "as it is full"), count(&log, "WARN", "transaction; trying")), (1, 1), "{log:#?}");
}
