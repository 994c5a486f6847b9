//! Whether this process does its work yet, and if not, what it waits for.
//!
//! A list of what is waited for goes in, again and again; the two forms of the answer come out. Who is waited for is decided
//! by whoever keeps the list: nothing is known of that here.

use serde::Serialize;
use std::{fmt, sync::Arc};

/// The question whether this process is ready, to be asked at any time. Clones ask the same.
#[derive(Clone)]
pub struct Readiness {
    waiting_for: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

impl Readiness {
    /// Ready whenever `waiting_for` returns nothing. It is called for every question, and must not block.
    pub fn new(waiting_for: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Self {
        Self { waiting_for: Arc::new(waiting_for) }
    }

    /// The answer as of now.
    #[must_use]
    pub fn report(&self) -> Report {
        let waiting_for = (self.waiting_for)();
        Report { ready: waiting_for.is_empty(), waiting_for }
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness").field(&self.report()).finish()
    }
}

/// Whether this process is ready. Displays as `ok`, or as one line for each thing waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether it is.
    pub ready: bool,
    /// What is waited for; empty when ready.
    pub waiting_for: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ready {
            return f.write_str("ok\n");
        }
        self.waiting_for.iter().try_for_each(|what| writeln!(f, "waiting for {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_that_nothing_is_waited_for() {
        assert_eq!(Readiness::new(Vec::new).report().to_string(), "ok\n");
        let waiting = Readiness::new(|| vec!["a list of Service".to_owned(), "etcd".to_owned()]).report();
        assert!(!waiting.ready);
        assert_eq!(waiting.to_string(), "waiting for a list of Service\nwaiting for etcd\n");
    }
}
