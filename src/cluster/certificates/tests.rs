//! `fixtures/` holds what rcgen does not make: keys in their older forms, and of kinds that are not served. They were made
//! with OpenSSL for these tests and open nothing.

use super::*;
use crate::model::certificates::CertificateFault as Fault;
use proptest::prelude::*;
use rcgen::{
    CertificateParams, Issuer, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519,
    PKCS_RSA_SHA256, SignatureAlgorithm, date_time_ymd,
};

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("fixtures/", $name))
    };
}

/// A certificate and its key, as rcgen makes them.
fn made(algorithm: &'static SignatureAlgorithm) -> (String, String) {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let certificate = params().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn params() -> CertificateParams {
    let mut params = CertificateParams::new(["a.example.com".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 2), date_time_ymd(2021, 1, 2));
    params
}

fn p256() -> (String, String) {
    made(&PKCS_ECDSA_P256_SHA256)
}

fn facts(certificate: &str, key: &str) -> Result<Arc<KeyPair>, Fault> {
    let base64 = |text: &str| Some(Held::Base64(BASE64.encode(text.as_bytes())));
    let facts = secret(base64(certificate), base64(key)).pair;
    let plain = secret(Some(Held::Text(certificate.to_owned())), Some(Held::Text(key.to_owned()))).pair;
    assert_eq!(facts, plain);
    facts
}

#[track_caller]
fn is(certificate: &str, key: &str, fault: Fault) {
    assert_eq!(facts(certificate, key).map(drop), Err(fault));
}

/// `text` with the line breaks that rcgen leaves to the platform.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n")
}

#[test]
fn every_kind_of_key_that_is_served_is_taken_as_it_is() {
    let algorithms =
        [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ECDSA_P521_SHA512, &PKCS_ED25519, &PKCS_RSA_SHA256];
    for algorithm in algorithms {
        let (certificate, key) = made(algorithm);
        let pair = facts(&certificate, &key).unwrap();
        assert_eq!((pair.certificate(), pair.reveal_key()), (&*lines(&certificate), &*lines(&key)), "{algorithm:?}");
    }
}

#[test]
fn keys_in_their_older_forms_are_taken_and_what_stands_around_them_is_left_out() {
    let pair = facts(fixture!("rsa2048.crt"), fixture!("rsa2048.key")).unwrap();
    assert_eq!(pair.reveal_key(), fixture!("rsa2048.key"));
    let pair = facts(fixture!("p256.crt"), fixture!("p256.key")).unwrap();
    let (_parameters, key) = fixture!("p256.key").split_once("-----END EC PARAMETERS-----\n").unwrap();
    assert_eq!(pair.reveal_key(), key);
    assert!(facts(fixture!("v1.crt"), fixture!("p256.key")).is_ok(), "an X.509 certificate of version 1");
}

#[test]
fn text_around_pem_and_other_line_breaks_change_nothing() {
    let (certificate, key) = p256();
    let pair = facts(&certificate, &key).unwrap();
    let (certificate, key) = (lines(&certificate), lines(&key));
    let spellings: [&dyn Fn(&str) -> String; 6] = [
        &|pem| pem.replace('\n', "\r\n"),
        &|pem| pem.replace('\n', "\r"),
        &|pem| format!("Bag Attributes\n    friendlyName: a\n\n{pem}"),
        &|pem| format!("\n\n   \n{pem}\n\nmore text\n"),
        &|pem| pem.trim_end().to_owned(),
        &|pem| pem.replace('\n', "  \n"),
    ];
    for (number, spelled) in spellings.iter().enumerate() {
        assert_eq!(facts(&spelled(&certificate), &spelled(&key)).as_ref(), Ok(&pair), "spelling {number}");
    }
    assert!(pair.reveal_key().starts_with("-----BEGIN PRIVATE KEY-----\n"));
}

#[test]
fn both_halves_may_stand_in_one_file() {
    let (certificate, key) = p256();
    let whole = format!("{key}{certificate}");
    assert_eq!(facts(&whole, &whole), facts(&certificate, &key));
}

#[test]
fn a_chain_is_kept_in_its_order_and_its_first_certificate_decides() {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca_params = CertificateParams::new([]).unwrap();
    ca_params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = ca_params.self_signed(&ca_key).unwrap().pem();
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = params().signed_by(&key, &Issuer::new(ca_params, &ca_key)).unwrap().pem();
    let key = key.serialize_pem();

    let pair = facts(&format!("{leaf}\n{ca}"), &key).unwrap();
    assert_eq!(pair.certificate(), lines(&leaf) + &lines(&ca));
    assert_eq!(pair.validity(), facts(&leaf, &key).unwrap().validity());
    is(&format!("{ca}{leaf}"), &key, Fault::KeyMismatch);

    let second = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    is(&format!("{leaf}{second}{ca}"), &key, Fault::UnreadableCertificate { position: 2 });
}

#[test]
fn a_certificate_that_has_expired_is_served_and_its_dates_are_known() {
    let (certificate, key) = p256();
    let Validity { not_before, not_after } = facts(&certificate, &key).unwrap().validity();
    assert_eq!((not_before, not_after), (1_577_923_200, 1_609_545_600));
}

#[test]
fn a_key_of_another_certificate_does_not_fit() {
    for other in [&PKCS_ECDSA_P256_SHA256, &PKCS_ED25519, &PKCS_RSA_SHA256] {
        is(&p256().0, &made(other).1, Fault::KeyMismatch);
    }
}

#[test]
fn halves_that_were_swapped_are_called_that() {
    let (certificate, key) = p256();
    is(&key, &certificate, Fault::NoCertificate);
    is(&certificate, &certificate, Fault::NoKey);
}

#[test]
fn what_is_missing_or_empty_is_named() {
    let (certificate, key) = p256();
    let (certificate, key) = (|| Some(Held::Text(certificate.clone())), || Some(Held::Text(key.clone())));
    let empty = || Some(Held::Base64(" \n".to_owned().replace(' ', "")));
    assert_eq!(secret(None, key()).pair, Err(Fault::Missing(Certificate)));
    assert_eq!(secret(empty(), key()).pair, Err(Fault::Missing(Certificate)));
    assert_eq!(secret(certificate(), None).pair, Err(Fault::Missing(Key)));
    assert_eq!(secret(certificate(), Some(Held::Text("\n ".to_owned()))).pair, Err(Fault::Missing(Key)));
}

#[test]
fn base64_may_be_broken_into_lines_and_nothing_else_may_be_wrong_with_it() {
    let (certificate, key) = p256();
    let wrapped = BASE64.encode(certificate.as_bytes()).replace('A', "\r\nA\n");
    let key = || Some(Held::Text(key.clone()));
    assert!(secret(Some(Held::Base64(wrapped)), key()).pair.is_ok());
    for held in [Held::Base64("%%%".to_owned()), Held::Base64("AAA".to_owned()), Held::Malformed] {
        assert_eq!(secret(Some(held), key()).pair, Err(Fault::NotBase64(Certificate)));
    }
}

#[test]
fn what_is_not_pem_is_named() {
    let (certificate, key) = p256();
    is("garbage", &key, Fault::NotPem(Certificate));
    is(&certificate, "garbage", Fault::NotPem(Key));
    // All in one line, as a careless template makes it; torn; with letters that base64 does not have.
    is(&lines(&certificate).replace('\n', " "), &key, Fault::NotPem(Certificate));
    is(&certificate[..certificate.len() / 2], &key, Fault::NotPem(Certificate));
    is(&certificate, &key.replace('M', "*"), Fault::NotPem(Key));
}

#[test]
fn pem_without_what_is_looked_for_is_named() {
    let (certificate, key) = p256();
    let block = |label: &str, der: &[u8]| {
        let mut text = String::new();
        push_pem(&mut text, label, der);
        text
    };
    is(&block("CERTIFICATE", b"no certificate"), &key, Fault::UnreadableCertificate { position: 1 });
    is(&block("TRUSTED CERTIFICATE", b"x"), &key, Fault::NoCertificate);
    is(&certificate, &block("PUBLIC KEY", b"x"), Fault::NoKey);
    is(&certificate, &block("PRIVATE KEY", b"no key"), Fault::UnreadableKey);
    is(&certificate, &block("EC PRIVATE KEY", b"no key"), Fault::UnreadableKey);
}

#[test]
fn a_key_behind_a_password_is_called_that() {
    is(fixture!("rsa2048.crt"), fixture!("old.enc"), Fault::EncryptedKey);
    is(fixture!("p256.crt"), fixture!("new.enc"), Fault::EncryptedKey);
}

#[test]
fn keys_of_kinds_and_sizes_that_are_not_served_are_called_that() {
    is(fixture!("rsa1024.crt"), fixture!("rsa1024.key"), Fault::UnusableKey(KeyType::Rsa(1024)));
    is(fixture!("k256.crt"), fixture!("k256.key"), Fault::UnusableKey(KeyType::EllipticCurve));
    is(fixture!("ed448.crt"), fixture!("ed448.key"), Fault::UnusableKey(KeyType::Other));
    assert_eq!([bits(&[]), bits(&[0, 0]), bits(&[0, 0x80]), bits(&[1, 0])], [0, 0, 8, 9]);
}

#[test]
fn a_chain_that_apisix_would_refuse_for_its_size_is_called_that() {
    let (certificate, key) = p256();
    let n_most = PEM_BYTES_MAX / lines(&certificate).len();
    assert!(facts(&certificate.repeat(n_most), &key).is_ok());
    let bytes = lines(&certificate).len() * (n_most + 1);
    is(&certificate.repeat(n_most + 1), &key, Fault::TooLarge { field: Certificate, bytes });
}

/// What a message could give away: the letters of a private key, line by line.
fn letters(key: &str) -> impl Iterator<Item = &str> {
    key.lines().filter(|line| !line.starts_with("-----") && line.len() > 16)
}

#[test]
fn no_message_about_a_key_shows_it() {
    let (certificate, key) = p256();
    let broken = [
        (&*certificate, key.replace("-----END", "----END")),
        (&*certificate, key.replace("PRIVATE KEY", "PRIVATE THING")),
        (&*certificate, key.replace('\n', " ")),
        (&*key, key.clone()),
        (fixture!("rsa2048.crt"), key.clone()),
    ];
    for (certificate, broken) in broken {
        let fault = facts(certificate, &broken).unwrap_err();
        let shown = format!("{fault} {fault:?} {fault:#?}");
        assert!(letters(&key).all(|line| !shown.contains(line)), "{shown}");
    }
}

fn held() -> impl Strategy<Value = Option<Held>> {
    let pem = fixture!("p256.key").to_owned() + fixture!("p256.crt");
    let spoiled = (any::<prop::sample::Index>(), any::<u8>(), 0..40_usize).prop_map(move |(at, byte, n_cut)| {
        let mut bytes = pem.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.drain(at..(at + n_cut).min(pem.len()));
        String::from_utf8_lossy(&bytes).into_owned()
    });
    // Whole blocks whose content is spoiled: past PEM, into the parsers of certificates and keys.
    let der = (any::<prop::sample::Index>(), any::<u8>(), prop::sample::select(vec!["CERTIFICATE", "EC PRIVATE KEY"]));
    let der = der.prop_map(|(at, byte, label)| {
        let blocks = blocks(Key, (fixture!("p256.key").to_owned() + fixture!("p256.crt")).as_bytes()).unwrap();
        let of_certificate = label == "CERTIFICATE";
        let (_, mut der) =
            blocks.into_iter().find(|(kind, _)| (*kind == SectionKind::Certificate) == of_certificate).unwrap();
        let at = at.index(der.len());
        der[at] = byte;
        let mut text = String::new();
        push_pem(&mut text, label, &der);
        text
    });
    let any_bytes = any::<Vec<u8>>().prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let whole = Just(fixture!("p256.key").to_owned() + fixture!("p256.crt"));
    let text = prop_oneof![any_bytes, spoiled, der, whole];
    prop_oneof![
        Just(None),
        Just(Some(Held::Malformed)),
        text.clone().prop_map(|text| Some(Held::Base64(text))),
        text.prop_map(|text| Some(Held::Text(text))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_secret_holds_becomes_facts(certificate in held(), key in held()) {
        let _ = secret(certificate, key);
    }
}
