//! Versions of APISIX, and what each can do.

use std::{fmt, str::FromStr};

/// A released version of APISIX, 3.8.0 or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApisixVersion {
    major: u16,
    minor: u16,
    patch: u16,
}

/// Why a version cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not of the form `3.13` or `3.13.0`.
    #[error("APISIX version {0:?} is not of the form 3.13 or 3.13.0")]
    Malformed(String),
    /// Older or newer than what is supported.
    #[error("APISIX version {0} is not supported: 3.8.0 and later 3.x are")]
    Unsupported(String),
}

impl ApisixVersion {
    /// The default of `--apisix-version`.
    pub const DEFAULT: Self = Self { major: 3, minor: 13, patch: 0 };
    /// The oldest supported version: older ones refuse `labels`, or load directories as empty.
    pub const OLDEST: Self = Self { major: 3, minor: 8, patch: 0 };

    /// Whether a TLS listener may hand connections on as they come, by the server name alone (3.19).
    #[must_use]
    pub fn has_tls_passthrough(self) -> bool {
        self >= Self { major: 3, minor: 19, patch: 0 }
    }

    /// Whether the stream plugin `traffic-split` exists and is enabled unless configured away (3.14).
    #[must_use]
    pub fn has_stream_traffic_split(self) -> bool {
        self >= Self { major: 3, minor: 14, patch: 0 }
    }
}

impl FromStr for ApisixVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || VersionError::Malformed(text.to_owned());
        let mut parts = text.split('.').map(|part| part.parse::<u16>().map_err(|_| malformed()));
        let major = parts.next().ok_or_else(malformed)??;
        let minor = parts.next().ok_or_else(malformed)??;
        let patch = parts.next().transpose()?.unwrap_or(0);
        if parts.next().is_some() {
            return Err(malformed());
        }
        let version = Self { major, minor, patch };
        if version < Self::OLDEST || major > 3 { Err(VersionError::Unsupported(text.to_owned())) } else { Ok(version) }
    }
}

impl fmt::Display for ApisixVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_with_and_without_a_patch_level() {
        assert_eq!("3.13".parse(), Ok(ApisixVersion::DEFAULT));
        assert_eq!("3.13.0".parse(), Ok(ApisixVersion::DEFAULT));
        assert_eq!("3.8".parse::<ApisixVersion>().unwrap().to_string(), "3.8.0");
    }

    #[test]
    fn versions_that_cannot_be_served_are_refused_by_name() {
        for text in ["3.7.9", "2.15.0", "4.0.0"] {
            assert_eq!(text.parse::<ApisixVersion>(), Err(VersionError::Unsupported(text.to_owned())));
        }
        for text in ["", "3", "3.x", "3.13.0.1", "v3.13"] {
            assert_eq!(text.parse::<ApisixVersion>(), Err(VersionError::Malformed(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn stream_traffic_split_begins_with_3_14() {
        assert!(!"3.13.9".parse::<ApisixVersion>().unwrap().has_stream_traffic_split());
        assert!("3.14.0".parse::<ApisixVersion>().unwrap().has_stream_traffic_split());
    }
}
