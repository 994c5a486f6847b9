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
pub enum Fault {
    /// Not PEM, or its lines are longer or shorter.
    #[error("the certificate is not PEM in lines of 64 characters")]
    CertificatePem,
    /// No block at all.
    #[error("the certificate's PEM holds no certificate")]
    NoCertificate,
    /// A block that is no certificate, for example a key.
    #[error("the certificate's PEM holds something else than certificates")]
    NotOnlyCertificates,
    /// A block that is no certificate inside.
    #[error("a certificate cannot be parsed as X.509, version 3, with names in ASCII or UTF-8")]
    Certificate,
    /// Not PEM, or encrypted by APISIX.
    #[error(
        "the key is not PEM that begins with \"---\", in lines of 64 characters (one encrypted by APISIX cannot be read here)"
    )]
    KeyPem,
    /// No block, more than one, or one that is encrypted.
    #[error("the key's PEM must hold one private key, not encrypted, and nothing else")]
    NotOneKey,
    /// A block that is no key inside, or one of a kind that cannot be compared with a certificate.
    #[error("the key cannot be parsed, or is not RSA from 2048 bits, ECDSA on P-256, P-384 or P-521, or Ed25519")]
    Key,
    /// Each is good, and they do not belong together.
    #[error("the key is not that of the certificate")]
    Mismatch,
}

/// The first certificate of `chain` is that of `key`, and the others can be parsed. Both are PEM.
pub fn check_pair(chain: &str, key: &str) -> Result<(), Fault> {
    let chain = certificates(chain)?;
    CertifiedKey::new(chain, signing_key(key)?).keys_match().map_err(|_| Fault::Mismatch)
}

/// Certificates can be parsed.
pub fn check_chain(chain: &str) -> Result<(), Fault> {
    certificates(chain).map(drop)
}

/// A private key can be parsed.
pub fn check_key(key: &str) -> Result<(), Fault> {
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
            if line.is_empty() || line.len() > LINE || !body.len().is_multiple_of(LINE) {
                return None;
            }
            body.push_str(line);
        }
        let der = data_encoding::BASE64.decode(body.as_bytes()).ok()?;
        blocks.push(Block { label, der });
    }
    Some(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        Certificate, CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    };

    fn pair_of(algorithm: &'static rcgen::SignatureAlgorithm) -> (Certificate, KeyPair) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        (CertificateParams::new(["db.example.com".to_owned()]).unwrap().self_signed(&key).unwrap(), key)
    }

    fn pair() -> (String, String) {
        let (certificate, key) = pair_of(&PKCS_ECDSA_P256_SHA256);
        (certificate.pem(), key.serialize_pem())
    }

    /// The same bytes but one, as PEM.
    fn damaged(der: &[u8], at: usize, bit: u32) -> String {
        let mut der = der.to_vec();
        der[at] ^= 1 << bit;
        let body = data_encoding::BASE64.encode(&der);
        let lines: Vec<_> = body.as_bytes().chunks(LINE).map(|line| str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    }

    #[test]
    fn a_certificate_goes_with_its_own_key_only() {
        for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
            let (certificate, key) = pair_of(algorithm);
            assert_eq!(check_pair(&certificate.pem(), &key.serialize_pem()), Ok(()));
            assert_eq!(check_pair(&certificate.pem(), &pair().1), Err(Fault::Mismatch));
        }
    }

    #[test]
    fn a_chain_may_follow_and_words_may_stand_between() {
        let (certificate, key) = pair();
        let chain = format!("subject: a\n{certificate}\nissuer: b\n{}", pair().0);
        assert_eq!(check_pair(&chain, &key), Ok(()));
        assert_eq!(check_chain(&chain.replace('\n', "\r\n")), Ok(()));
        assert_eq!(check_chain(&format!("{chain}{key}")), Err(Fault::NotOnlyCertificates));
    }

    #[test]
    fn what_is_no_pem_says_so() {
        let (certificate, key) = pair();
        assert_eq!(check_chain("certificate"), Err(Fault::NoCertificate));
        for broken in [
            certificate.replace("-----END", "----END"),
            certificate.replace("MII", "M II"),
            certificate.replace("MII", "M=I"),
            certificate.replacen('\n', "\n\n", 1),
        ] {
            assert_eq!(check_chain(&broken), Err(Fault::CertificatePem), "{broken}");
        }
        assert_eq!(check_key(&format!("\n{key}")), Err(Fault::KeyPem));
        assert_eq!(check_key("TUlJ"), Err(Fault::KeyPem));
        assert_eq!(check_key(&key.replace("PRIVATE", "ENCRYPTED PRIVATE")), Err(Fault::NotOneKey));
        assert_eq!(check_key(&format!("{key}{key}")), Err(Fault::NotOneKey));
        assert_eq!(check_key(&certificate), Err(Fault::NotOneKey));
        assert_eq!(check_key(&key.replacen("MI", "MA", 1)), Err(Fault::Key));
    }

    #[test]
    fn every_byte_that_says_how_long_something_is_counts() {
        let (certificate, key) = pair_of(&PKCS_ECDSA_P256_SHA256);
        let der = certificate.der();
        assert_eq!(check_pair(&damaged(der, 0, 0), &key.serialize_pem()), Err(Fault::Certificate));
        let taken = (0..der.len()).filter(|at| check_chain(&damaged(der, *at, 6)).is_ok()).count();
        // Numbers, dates, keys and signatures may be others; names of things and lengths may not.
        assert!(taken < der.len() * 3 / 4, "{taken} of {}", der.len());
    }

    #[test]
    fn names_that_openssl_cannot_read_are_refused() {
        let (certificate, _) = pair_of(&PKCS_ECDSA_P256_SHA256);
        let der = certificate.der();
        // rcgen names a certificate itself, as UTF-8, twice: issuer and subject.
        let name = b"rcgen self signed cert";
        let at = der.windows(name.len()).position(|window| window == name).unwrap();
        for (at, bit) in [(at, 7), (at - 1, 0), (at - 2, 0), (at - 3, 7)] {
            assert_eq!(check_chain(&damaged(der, at, bit)), Err(Fault::Certificate), "{at}");
        }
        // What rustls alone would let through.
        assert!(ParsedCertificate::try_from(&CertificateDer::from(der.to_vec())).is_ok());
    }
}
