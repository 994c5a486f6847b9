//! What to say of failures that repeat: each new one once, with everything it was caused by.

use std::error::Error;

/// Says each new failure once, however often it repeats.
#[derive(Debug, Default)]
pub(super) struct Failure {
    said: Option<String>,
}

impl Failure {
    /// The whole chain of `error`, if that is not what was said last.
    pub(super) fn news(&mut self, error: &dyn Error) -> Option<&str> {
        let text = chain(error);
        if self.said.as_ref() == Some(&text) {
            return None;
        }
        Some(self.said.insert(text))
    }

    /// It works again: whether a failure had been said.
    pub(super) fn over(&mut self) -> bool {
        self.said.take().is_some()
    }
}

/// What an error and its sources say, outermost first. A source whose text its parent repeats is left out: kube's errors
/// print their sources themselves.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("listing failed")]
    struct Listing(#[source] std::io::Error);

    #[test]
    fn a_failure_is_said_once_until_it_changes_or_ends() {
        let mut failure = Failure::default();
        let refused = || Listing(std::io::Error::other("refused"));
        assert_eq!(failure.news(&refused()), Some("listing failed: refused"));
        assert_eq!(failure.news(&refused()), None);
        assert_eq!(failure.news(&Listing(std::io::Error::other("reset"))), Some("listing failed: reset"));
        assert!(failure.over());
        assert!(!failure.over());
        assert!(failure.news(&refused()).is_some());
    }
}
