//! The fields of a TLS Secret become facts: parsed, compared, and written anew as PEM.
//!
//! What `tls.crt` and `tls.key` hold goes in, [`SecretFacts`] come out, whatever it is: a bad Secret is a verdict on that
//! Secret. Nothing here reads a clock, and no error of a parser is passed on, because those quote what they parsed.

use crate::model::{
    certificates::{
        CertificateFault, KeyPair, KeyType, PEM_BYTES_MAX, SecretFacts,
        SecretField::{self, Certificate, Key},
        Validity,
    },
    places::ServerName,
};
use data_encoding::BASE64;
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{
        PrivateKeyDer,
        pem::{PemObject, SectionKind},
    },
};
use std::{fmt::Write as _, sync::Arc};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _, public_key::PublicKey,
    x509::SubjectPublicKeyInfo,
};

/// One field of a Secret as its object holds it.
#[cfg_attr(test, derive(Clone, Debug))]
pub(super) enum Held {
    /// Of `stringData`: the text itself.
    Text(String),
    /// Of `data`: in base64.
    Base64(String),
    /// Not even a string.
    Malformed,
}

/// The facts of a Secret whose fields are these; `None` for one that is not there.
pub(super) fn secret(certificate: Option<Held>, key: Option<Held>) -> SecretFacts {
    let both = content(Certificate, certificate).and_then(|certificate| Ok((certificate, content(Key, key)?)));
    SecretFacts { pair: both.and_then(|(certificate, key)| pair(&certificate, &key)).map(Arc::new) }
}

/// The bytes of a field. Lines may be broken in base64, as the API server's own reader takes it.
fn content(field: SecretField, held: Option<Held>) -> Result<Vec<u8>, CertificateFault> {
    let bytes = match held {
        None => Vec::new(),
        Some(Held::Text(text)) => text.into_bytes(),
        Some(Held::Base64(text)) => {
            let letters: Vec<u8> = text.bytes().filter(|letter| !matches!(letter, b'\r' | b'\n')).collect();
            BASE64.decode(&letters).map_err(|_| CertificateFault::NotBase64(field))?
        }
        Some(Held::Malformed) => return Err(CertificateFault::NotBase64(field)),
    };
    if bytes.trim_ascii().is_empty() { Err(CertificateFault::Missing(field)) } else { Ok(bytes) }
}

fn pair(certificate: &[u8], key: &[u8]) -> Result<KeyPair, CertificateFault> {
    let chain = chain(certificate)?;
    let mut chain_pem = String::new();
    let mut leaf = None;
    for (index, der) in chain.iter().enumerate() {
        let unreadable = CertificateFault::UnreadableCertificate { position: index + 1 };
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| unreadable)?;
        if !rest.is_empty() {
            return Err(unreadable);
        }
        leaf.get_or_insert(certificate);
        push_pem(&mut chain_pem, "CERTIFICATE", der);
    }
    let leaf = leaf.ok_or(CertificateFault::NoCertificate)?;
    let key = private_key(key)?;
    let key_pem = matching_key(&leaf, &key)?;
    for (field, pem) in [(Certificate, &chain_pem), (Key, &key_pem)] {
        if pem.len() > PEM_BYTES_MAX {
            return Err(CertificateFault::TooLarge { field, bytes: pem.len() });
        }
    }
    let validity = leaf.validity();
    let validity = Validity { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() };
    Ok(KeyPair::new(&chain_pem, &key_pem, validity).for_names(names(&leaf)))
}

/// The DNS names of a certificate that are names a client can ask for. The common name is not looked at, as clients do not
/// either (RFC 9525).
fn names(leaf: &X509Certificate<'_>) -> Vec<ServerName> {
    let alternatives = leaf.subject_alternative_name().ok().flatten();
    let names = alternatives.iter().flat_map(|extension| &extension.value.general_names);
    let dns = names.filter_map(|name| if let GeneralName::DNSName(name) = name { ServerName::of(name) } else { None });
    dns.collect()
}

/// The certificates of `tls.crt`, in their order. Blocks of other kinds beside them are left out.
fn chain(pem: &[u8]) -> Result<Vec<Vec<u8>>, CertificateFault> {
    let blocks = blocks(Certificate, pem)?;
    let is_certificate = |(kind, der)| (kind == SectionKind::Certificate).then_some(der);
    let chain: Vec<Vec<u8>> = blocks.into_iter().filter_map(is_certificate).collect();
    if chain.is_empty() { Err(CertificateFault::NoCertificate) } else { Ok(chain) }
}

/// The first private key of `tls.key`; blocks of other kinds (`EC PARAMETERS`, certificates) are left out.
fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateFault> {
    const ENCRYPTED: [&[u8]; 2] = [b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED"];
    if ENCRYPTED.iter().any(|mark| pem.windows(mark.len()).any(|window| window == *mark)) {
        return Err(CertificateFault::EncryptedKey);
    }
    let mut keys = blocks(Key, pem)?.into_iter().filter_map(|(kind, der)| PrivateKeyDer::from_pem(kind, der));
    keys.next().ok_or(CertificateFault::NoKey)
}

/// Every block, up to the first that is broken, which spoils all.
fn blocks(field: SecretField, pem: &[u8]) -> Result<Vec<(SectionKind, Vec<u8>)>, CertificateFault> {
    let not_pem = CertificateFault::NotPem(field);
    let blocks = PemObject::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|_quotes_it| not_pem)?;
    let begun = pem.windows(OPENING.len()).any(|window| window == OPENING);
    if begun { Ok(blocks) } else { Err(not_pem) }
}

const OPENING: &[u8] = b"-----BEGIN ";

/// The key as PEM, if it is of a kind that is served and the one that `leaf` is for.
fn matching_key(leaf: &X509Certificate<'_>, key: &PrivateKeyDer<'_>) -> Result<String, CertificateFault> {
    let (label, der) = match key {
        PrivateKeyDer::Pkcs1(key) => ("RSA PRIVATE KEY", key.secret_pkcs1_der()),
        PrivateKeyDer::Sec1(key) => ("EC PRIVATE KEY", key.secret_sec1_der()),
        PrivateKeyDer::Pkcs8(key) => ("PRIVATE KEY", key.secret_pkcs8_der()),
        _ => return Err(CertificateFault::NoKey),
    };
    // Whether the certificate asks for a key that nobody here can use tells more than that this one cannot be loaded.
    if let Some(unusable) = unusable(leaf.public_key()) {
        return Err(CertificateFault::UnusableKey(unusable));
    }
    let loaded = any_supported_type(key).map_err(|_| CertificateFault::UnreadableKey)?;
    let public = loaded.public_key().ok_or(CertificateFault::UnreadableKey)?;
    let (_, public) = SubjectPublicKeyInfo::from_der(&public).map_err(|_| CertificateFault::UnreadableKey)?;
    // The keys themselves: how parameters are spelled beside them (RSA's with or without a NULL) says nothing.
    if public.subject_public_key.data != leaf.public_key().subject_public_key.data {
        return Err(CertificateFault::KeyMismatch);
    }
    let mut pem = String::new();
    push_pem(&mut pem, label, der);
    Ok(pem)
}

/// What kind of key a certificate is for, unless keys of that kind are served.
fn unusable(key: &SubjectPublicKeyInfo<'_>) -> Option<KeyType> {
    const ED25519: &str = "1.3.101.112";
    const CURVES: [&str; 3] = ["1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35"];
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            let bits = bits(rsa.modulus);
            (!(2048..=8192).contains(&bits)).then_some(KeyType::Rsa(bits))
        }
        Ok(PublicKey::EC(_)) => {
            let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
            let served = curve.is_some_and(|curve| CURVES.contains(&&*curve.to_id_string()));
            (!served).then_some(KeyType::EllipticCurve)
        }
        Ok(PublicKey::DSA(_) | PublicKey::GostR3410(_) | PublicKey::GostR3410_2012(_) | PublicKey::Unknown(_))
        | Err(_) => (key.algorithm.algorithm.to_id_string() != ED25519).then_some(KeyType::Other),
    }
}

/// Of a number in big-endian bytes.
fn bits(number: &[u8]) -> usize {
    let first = number.iter().position(|byte| *byte != 0);
    let digits = first.and_then(|first| number.get(first..)).unwrap_or_default();
    digits.len() * 8 - digits.first().map_or(0, |byte| byte.leading_zeros() as usize)
}

/// A PEM block as RFC 7468 has it. What stood around the original is left out: APISIX takes a `key` that does not begin with
/// dashes for an encrypted one.
fn push_pem(text: &mut String, label: &str, der: &[u8]) {
    const LINE: usize = 64;
    let letters = BASE64.encode(der);
    let mut rest = letters.as_str();
    let _ = writeln!(text, "-----BEGIN {label}-----");
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    let _ = writeln!(text, "-----END {label}-----");
}

#[cfg(test)]
mod tests;
