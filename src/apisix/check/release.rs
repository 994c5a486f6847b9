//! Versions of APISIX as the check knows them: also those for which this controller does not write.

use std::{fmt, str::FromStr};

/// A version of APISIX whose rules are known: 3.2.2 and later 3.x. One that was never read counts as the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    minor: u16,
    patch: u16,
}

/// Why the rules of a version are not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// Not of the form `3.13` or `3.13.0`.
    #[error("APISIX version {0:?} is not of the form 3.13 or 3.13.0")]
    Malformed(String),
    /// Older or newer than what was read.
    #[error("the rules of APISIX {0} are not known: those of 3.2.2 and later 3.x are")]
    Unknown(String),
}

impl Release {
    /// The oldest version whose rules are known.
    pub const OLDEST: Self = Self { minor: 2, patch: 2 };

    /// The first release of 3.`minor`.
    pub(super) const fn first_of(minor: u16) -> Self {
        Self { minor, patch: 0 }
    }
}

impl FromStr for Release {
    type Err = ReleaseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || ReleaseError::Malformed(text.to_owned());
        let parts = text.split('.').map(|part| part.parse::<u16>().map_err(|_| malformed()));
        let (release, major) = match *parts.collect::<Result<Vec<_>, _>>()? {
            [major, minor] => (Self::first_of(minor), major),
            [major, minor, patch] => (Self { minor, patch }, major),
            _ => return Err(malformed()),
        };
        if major == 3 && release >= Self::OLDEST { Ok(release) } else { Err(ReleaseError::Unknown(text.to_owned())) }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "3.{}.{}", self.minor, self.patch)
    }
}

/// In which releases something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    from: Release,
    before: Option<Release>,
}

impl Span {
    pub(super) const ALWAYS: Self = Self::since(0);

    pub(super) const fn since(minor: u16) -> Self {
        Self { from: Release::first_of(minor), before: None }
    }

    pub(super) const fn before(minor: u16) -> Self {
        Self::between(0, minor)
    }

    /// From 3.`minor` on, and no more in 3.`end`.
    pub(super) const fn between(minor: u16, end: u16) -> Self {
        Self { from: Release::first_of(minor), before: Some(Release::first_of(end)) }
    }

    pub(super) fn has(self, release: Release) -> bool {
        self.from <= release && self.before.is_none_or(|before| release < before)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.before {
            None => write!(f, "since {}", self.from),
            Some(before) if self.from <= Release::OLDEST => write!(f, "before {before}"),
            Some(before) => write!(f, "from {} to before {before}", self.from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_with_and_without_a_patch_level() {
        assert_eq!("3.13".parse::<Release>().unwrap().to_string(), "3.13.0");
        assert_eq!("3.2.2".parse(), Ok(Release::OLDEST));
        assert!("3.9.1".parse::<Release>().unwrap() < "3.10".parse().unwrap());
    }

    #[test]
    fn versions_whose_rules_are_not_known_are_refused_by_name() {
        for text in ["3.2.1", "3.2", "2.15.3", "4.0.0"] {
            assert_eq!(text.parse::<Release>(), Err(ReleaseError::Unknown(text.to_owned())));
        }
        for text in ["", "3", "3.x", "3.13.0.1", "v3.13", "3.13.0-rc1"] {
            assert_eq!(text.parse::<Release>(), Err(ReleaseError::Malformed(text.to_owned())));
        }
    }

    #[test]
    fn a_span_begins_with_its_first_release_and_ends_before_its_last() {
        let span = Span::between(6, 14);
        let has = |text: &str| span.has(text.parse().unwrap());
        assert!(!has("3.5.9") && has("3.6.0") && has("3.13.9") && !has("3.14.0"));
    }
}
