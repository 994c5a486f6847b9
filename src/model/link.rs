//! How etcd is reached: plain values that the settings make and the store uses. No file is read here.

use std::{fmt, path::PathBuf, sync::Arc};

/// A text that nobody may see: its `Debug` shows nothing of it, not even its length, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one who must send it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A user of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub user: Arc<str>,
    /// The password, or where it is.
    pub password: Password,
}

/// A password, or where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// This one, as long as the process runs.
    Text(Secret),
    /// Whatever the file holds when a token is asked for; one newline at its end is not part of it.
    File(PathBuf),
}

/// The files of a TLS connection, all PEM. They may be replaced at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of those who may vouch for etcd; at least one.
    pub ca: PathBuf,
    /// What we show of ourselves, if anything.
    pub identity: Option<IdentityFiles>,
    /// The name that etcd's certificate must have; that of each endpoint if there is none.
    pub server_name: Option<Arc<str>>,
}

/// A client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificate, then those between it and the one that etcd trusts.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let login = Login { user: "us".into(), password: Password::Text(Secret::new("hunter2")) };
        assert!(!format!("{login:?} {login:#?}").contains("hunter2"));
        assert_eq!(Secret::new("hunter2").reveal(), "hunter2");
    }
}
