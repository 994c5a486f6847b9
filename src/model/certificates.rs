//! Certificates out of Secrets: a chain and the key that belongs to it, or what is wrong with them.
//!
//! Made where a Secret comes in (`cluster/certificates.rs`), which parses and compares; put into documents by
//! [`crate::apisix::documents::ssl`]. Nothing here parses anything, judges a date or shows a private key.

use super::{link::Secret, names::ObjectName, places::ServerName};
use std::{fmt, sync::Arc};

/// The type of the Secrets that are read; others are never asked for.
pub const TLS_SECRET: &str = "kubernetes.io/tls";

/// The largest `cert` and `key` that a data plane takes, in bytes (`apisix/schema_def.lua`).
pub const PEM_BYTES_MAX: usize = 65_536;

/// Of a Secret of type [`TLS_SECRET`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFacts {
    /// What can be served with it, or why nothing can.
    pub pair: Result<Arc<KeyPair>, CertificateFault>,
}

/// A certificate chain and the private key of its first certificate, both PEM as they are written into documents.
///
/// Equal when chain and key are, byte for byte. Its `Debug` shows the hash of both and the dates, and there is no `Display`.
#[derive(Clone)]
pub struct KeyPair {
    certificate: Box<str>,
    key: Secret,
    validity: Validity,
    names: Box<[ServerName]>,
    hash: blake3::Hash,
}

/// When a certificate may be used, in whole seconds since the Unix epoch, both ends included. To be reported only: it
/// decides no document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Validity {
    /// Not before.
    pub not_before: i64,
    /// Not after.
    pub not_after: i64,
}

impl KeyPair {
    /// Of a chain and a key that were seen to belong together, and of the dates of the chain's first certificate.
    #[must_use]
    pub fn new(certificate: &str, key: &str, validity: Validity) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in [certificate, key] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        let (certificate, key, names) = (certificate.into(), Secret::new(key), Box::default());
        Self { certificate, key, validity, names, hash: hasher.finalize() }
    }

    /// The same with the server names that the chain's first certificate is for.
    #[must_use]
    pub fn for_names(self, names: impl IntoIterator<Item = ServerName>) -> Self {
        Self { names: names.into_iter().collect(), ..self }
    }

    /// The server names that the server's own certificate says it is for, in its order.
    #[must_use]
    pub fn names(&self) -> &[ServerName] {
        &self.names
    }

    /// The chain, the server's own certificate first.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The private key, for the one who must write it.
    #[must_use]
    pub fn reveal_key(&self) -> &str {
        self.key.reveal()
    }

    /// When the server's own certificate may be used.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }
}

impl PartialEq for KeyPair {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for KeyPair {}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { certificate: _, key: _, validity, names: _, hash } = self;
        write!(f, "KeyPair({:.8}, {}..={})", hash.to_hex(), validity.not_before, validity.not_after)
    }
}

/// A field of a TLS Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecretField {
    /// `tls.crt`.
    Certificate,
    /// `tls.key`.
    Key,
}

impl SecretField {
    /// The field's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "tls.crt",
            Self::Key => "tls.key",
        }
    }
}

impl fmt::Display for SecretField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why nothing can be served with a TLS Secret. Each says what to put right, continuing "Secret x cannot be used: ", and
/// none shows anything of what the Secret holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum CertificateFault {
    /// The field is not there, or empty.
    #[error("{0} is missing or empty")]
    Missing(SecretField),
    /// The field is not base64. Only in a folder: an API server takes no such Secret.
    #[error("{0} is not base64")]
    NotBase64(SecretField),
    /// The field is not PEM, or a block in it begins and does not end, or holds what is not base64.
    #[error("{0} is not PEM")]
    NotPem(SecretField),
    /// `tls.crt` has no block `CERTIFICATE`.
    #[error("tls.crt holds no certificate")]
    NoCertificate,
    /// `tls.key` has no block of a private key.
    #[error("tls.key holds no private key")]
    NoKey,
    /// A block `CERTIFICATE` holds no X.509 certificate.
    #[error("certificate number {position} in tls.crt cannot be read")]
    UnreadableCertificate {
        /// Which, counted from 1.
        position: usize,
    },
    /// The private key can only be read with a password.
    #[error("the private key in tls.key is encrypted; store it without a password")]
    EncryptedKey,
    /// The private key cannot be read.
    #[error("the private key in tls.key cannot be read")]
    UnreadableKey,
    /// The certificate is for a key of a kind or size that is not served.
    #[error(
        "the certificate is for {0}; served are RSA keys of 2048 to 8192 bits, ECDSA keys on P-256, P-384 and P-521, \
         and Ed25519"
    )]
    UnusableKey(KeyType),
    /// The private key is not that of the first certificate.
    #[error("the private key in tls.key does not belong to the first certificate in tls.crt")]
    KeyMismatch,
    /// A data plane would refuse the field for its size.
    #[error("{field} is {bytes} bytes of PEM, more than the {PEM_BYTES_MAX} that APISIX takes")]
    TooLarge {
        /// The field.
        field: SecretField,
        /// Its size as it would be written.
        bytes: usize,
    },
}

/// The kind of a certificate's key, as far as a message needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// RSA with a modulus of so many bits.
    Rsa(usize),
    /// A point on an elliptic curve.
    EllipticCurve,
    /// Anything else: DSA, Ed448, RSA that is for PSS only.
    Other,
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "an RSA key of {bits} bits"),
            Self::EllipticCurve => f.write_str("a key on another elliptic curve"),
            Self::Other => f.write_str("a key of another kind"),
        }
    }
}

/// One certificate reference of a listener that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceProblem {
    /// Its place in `certificateRefs`.
    pub index: usize,
    /// What is wrong.
    pub fault: ReferenceFault,
}

/// What is wrong with a certificate reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReferenceFault {
    /// Not a core Secret.
    UnknownKind {
        /// `group`.
        group: Arc<str>,
        /// `kind`.
        kind: Arc<str>,
    },
    /// In another namespace that grants nothing; whether it exists is not said.
    NotPermitted(ObjectName),
    /// No such Secret of type [`TLS_SECRET`].
    NotFound(ObjectName),
    /// The Secret exists, but could never be read.
    Unreadable(ObjectName),
    /// Nothing can be served with what it holds.
    Unusable {
        /// The Secret.
        secret: ObjectName,
        /// Why.
        fault: CertificateFault,
    },
}

/// What a terminating listener has to end TLS with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPairs {
    /// Those that can be used, in the order of the spec, each once.
    pub pairs: Vec<Arc<KeyPair>>,
    /// References that cannot be used, in the order of the spec.
    pub problems: Vec<ReferenceProblem>,
    /// Whether an object that decides this exists but could never be read: then what etcd holds is kept.
    pub unreadable: bool,
}

impl KeyPairs {
    /// Whether anything can be served with it, or could be if it could be read.
    #[must_use]
    pub fn usable(&self) -> bool {
        !self.pairs.is_empty() || self.unreadable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALIDITY: Validity = Validity { not_before: 1, not_after: 2 };

    #[test]
    fn pairs_are_equal_when_chain_and_key_are() {
        let pair = KeyPair::new("chain", "key", VALIDITY);
        assert_eq!(pair, KeyPair::new("chain", "key", VALIDITY));
        for (certificate, key) in [("chain", "kex"), ("chaim", "key"), ("chaink", "ey")] {
            assert_ne!(pair, KeyPair::new(certificate, key, VALIDITY));
        }
    }

    #[test]
    fn the_key_is_shown_to_nobody_who_does_not_ask_for_it() {
        let pair = KeyPair::new("chain", "hunter2", VALIDITY);
        let facts = SecretFacts { pair: Ok(Arc::new(pair.clone())) };
        let shown = format!("{pair:?} {pair:#?} {facts:?} {facts:#?}");
        assert!(!shown.contains("hunter2") && shown.contains("KeyPair("), "{shown}");
        assert_eq!((pair.reveal_key(), pair.certificate()), ("hunter2", "chain"));
    }
}
