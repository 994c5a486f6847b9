//! Certificates and private keys as PEM: they can be parsed, and belong together.
//!
//! APISIX has OpenSSL parse both when a document comes in, and finds out with a client's handshake whether the key is
//! that of the certificate. Here it is found out before. Dates are not looked at. Nothing of a key is ever repeated.
//!
//! Stricter than OpenSSL: lines of 64 characters, as every tool writes them; certificates of X.509 version 3, whose names
//! are ASCII or UTF-8; no other blocks beside them; keys of the kinds that rustls can sign with (RSA from 2048 bits, ECDSA on P-256, P-384 and P-521,
//! Ed25519), for only they can be compared with a certificate. A key that APISIX itself encrypted cannot be read here.

mod x509;

use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::ParsedCertificate,
    sign::{CertifiedKey, SigningKey},
};
use std::sync::Arc;

/// Why a certificate or a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("the certificate is not PEM in lines of 64 characters")]
    CertificatePem,
    #[error("the certificate's PEM holds no certificate")]
    NoCertificate,
    #[error("the certificate's PEM holds something else than certificates")]
    NotOnlyCertificates,
    #[error("a certificate cannot be parsed as X.509, version 3, with names in ASCII or UTF-8")]
    Certificate,
    #[error(
        "the key is not PEM that begins with \"---\", in lines of 64 characters (one encrypted by APISIX cannot be read here)"
    )]
    KeyPem,
    #[error("the key's PEM must hold one private key, not encrypted, and nothing else")]
    NotOneKey,
    #[error("the key cannot be parsed, or is not RSA from 2048 bits, ECDSA on P-256, P-384 or P-521, or Ed25519")]
    Key,
    #[error("the key is not that of the certificate")]
    Mismatch,
}

/// The first certificate of `chain` is that of `key`, and the others can be parsed.
pub(super) fn check_pair(chain: &str, key: &str) -> Result<(), Fault> {
    let chain = certificates(chain)?;
    CertifiedKey::new(chain, signing_key(key)?).keys_match().map_err(|_| Fault::Mismatch)
}

/// Certificates can be parsed.
pub(super) fn check_chain(chain: &str) -> Result<(), Fault> {
    certificates(chain).map(drop)
}

/// A private key can be parsed.
pub(super) fn check_key(key: &str) -> Result<(), Fault> {
    signing_key(key).map(drop)
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let blocks = blocks(pem).ok_or(Fault::CertificatePem)?;
    if blocks.is_empty() {
        return Err(Fault::NoCertificate);
    }
    let certificate = |block: Block<'_>| {
        if block.label != "CERTIFICATE" {
            return Err(Fault::NotOnlyCertificates);
        }
        let der = CertificateDer::from(block.der);
        // Two readers must agree: that of rustls for what can be compared with a key, ours for what OpenSSL looks at besides.
        if x509::is_certificate(&der) && ParsedCertificate::try_from(&der).is_ok() {
            Ok(der)
        } else {
            Err(Fault::Certificate)
        }
    };
    blocks.into_iter().map(certificate).collect()
}

fn signing_key(pem: &str) -> Result<Arc<dyn SigningKey>, Fault> {
    // Anything else counts as encrypted with a key of the data plane.
    if !pem.starts_with("---") {
        return Err(Fault::KeyPem);
    }
    let mut blocks = blocks(pem).ok_or(Fault::KeyPem)?;
    // `openssl ecparam` names the curve once more in front, and OpenSSL passes over that.
    if blocks.first().is_some_and(|block| block.label == "EC PARAMETERS") {
        blocks.remove(0);
    }
    let Ok([Block { label, der }]) = <[_; 1]>::try_from(blocks) else { return Err(Fault::NotOneKey) };
    let key = match label {
        "PRIVATE KEY" => PrivateKeyDer::Pkcs8(der.into()),
        "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(der.into()),
        "EC PRIVATE KEY" => PrivateKeyDer::Sec1(der.into()),
        _ => return Err(Fault::NotOneKey),
    };
    any_supported_type(&key).map_err(|_| Fault::Key)
}

struct Block<'a> {
    label: &'a str,
    der: Vec<u8>,
}

const LINE: usize = 64;

/// The blocks of a PEM text. Lines between them are no matter.
fn blocks(pem: &str) -> Option<Vec<Block<'_>>> {
    let mut lines = pem.lines();
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) else {
            continue;
        };
        let mut body = String::new();
        loop {
            let line = lines.next()?;
            if line.strip_prefix("-----END ").and_then(|rest| rest.strip_suffix("-----")) == Some(label) {
                break;
            }
            // A line that is not full is the last one.
            if line.is_empty() || line.len() > LINE || body.len() % LINE != 0 {
                return None;
            }
            body.push_str(line);
        }
        let der = data_encoding::BASE64.decode(body.as_bytes()).ok()?;
        blocks.push(Block { label, der });
    }
    Some(blocks)
}
