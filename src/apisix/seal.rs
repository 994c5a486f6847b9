//! The seal in a document's `desc`: who wrote the document, and whether it is as written.
//!
//! `desc` is the only free field that every supported version of APISIX accepts, at most 256 bytes. It holds readable
//! provenance, of a stream_route that needs one `; certificate {id}`, a space, and `[gateway-api:{instance}:{26 letters}]`. The letters are a hash over the key and the whole value
//! with the letters themselves left out, byte for byte: whatever is edited, copied to another key or reformatted breaks it.

use super::ids::{HASH_LETTERS, hash_letters, is_our_shape};
use crate::model::places::{Directory, Plane, WorkId};
use std::sync::Arc;

/// `desc`'s limit in APISIX's schema (`apisix/schema_def.lua`).
const DESC_BYTES_MAX: usize = 256;

const OPENING: &str = "[gateway-api:";

/// What stands between provenance and the id of the certificate that a stream_route needs.
const CERTIFICATE: &str = "; certificate ";

/// `desc` with a seal whose letters are still missing. Provenance that does not fit is cut and ends in `...`.
pub(super) fn unsealed_desc(provenance: &str, instance: &str) -> String {
    desc(provenance, "", instance)
}

/// The same of a stream_route that needs a certificate, which stands between provenance and seal and is never cut.
pub(super) fn unsealed_desc_needing(provenance: &str, certificate: &WorkId, instance: &str) -> String {
    desc(provenance, &format!("{CERTIFICATE}{}", certificate.id), instance)
}

fn desc(provenance: &str, need: &str, instance: &str) -> String {
    let seal_bytes = need.len() + 1 + OPENING.len() + instance.len() + 1 + HASH_LETTERS + 1;
    let room = DESC_BYTES_MAX.saturating_sub(seal_bytes);
    let mut desc = String::with_capacity(DESC_BYTES_MAX);
    if provenance.len() <= room {
        desc.push_str(provenance);
    } else {
        let end = (0..=room.saturating_sub(3)).rev().find(|&end| provenance.is_char_boundary(end)).unwrap_or(0);
        desc.push_str(provenance.get(..end).unwrap_or_default());
        desc.push_str("...");
    }
    desc.push_str(need);
    desc.push(' ');
    desc.push_str(OPENING);
    desc.push_str(instance);
    desc.push_str(":]");
    desc
}

/// Puts the letters into a value whose `desc` came from [`unsealed_desc`].
///
/// `instance` must be one that JSON does not escape; the settings see to it.
pub(super) fn complete(key: &str, mut value: String, instance: &str) -> String {
    let Some(at) = letters_place(&value, instance) else { return value };
    let Some((before, after)) = value.split_at_checked(at) else { return value };
    let letters = hash_of(key, before, after);
    value.insert_str(at, &letters);
    value
}

/// The hash a seal holds: of the key and of the value as it was sealed, whatever became of that since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SealHash([u8; 16]);

/// The instance that wrote `value` at `key`, if its seal is whole.
pub(super) fn verify(key: &str, value: &[u8]) -> Option<Arc<str>> {
    let Found { instance, letters, before, after } = find(value)?;
    (hash_of(key, before, after) == letters).then(|| instance.into())
}

/// The certificate named in front of the seal of `value`, on the data plane that reads it. Worth something only where the seal is whole: nobody else's words
/// are ours.
pub(super) fn certificate(plane: Plane, value: &[u8]) -> Option<WorkId> {
    let (before, _) = find(value)?.before.rsplit_once(OPENING)?;
    let (_, id) = before.strip_suffix(' ')?.rsplit_once(CERTIFICATE)?;
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (is_our_shape(id) && id.bytes().all(letters)).then(|| WorkId::new(plane, Directory::Ssls, id))
}

/// The hash in the seal of `value`, whole or broken, as far as its letters can still be read.
#[must_use]
pub fn sealed_hash(value: &[u8]) -> Option<SealHash> {
    let letters = find(value)?.letters;
    // Only how they are written counts as a seal.
    let lower = letters.bytes().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit());
    let bits = data_encoding::BASE32_NOPAD.decode(letters.to_ascii_uppercase().as_bytes()).ok().filter(|_| lower)?;
    bits.try_into().ok().map(SealHash)
}

/// A seal, and what stands on both sides of its letters.
struct Found<'a> {
    instance: &'a str,
    letters: &'a str,
    before: &'a str,
    after: &'a str,
}

fn find(value: &[u8]) -> Option<Found<'_>> {
    let text = std::str::from_utf8(value).ok()?;
    let instance_at = text.rfind(OPENING)? + OPENING.len();
    let instance = text.get(instance_at..)?.split(':').next()?;
    let (before, rest) = text.split_at_checked(instance_at + instance.len() + 1)?;
    let (letters, after) = rest.split_at_checked(HASH_LETTERS)?;
    after.starts_with(']').then_some(Found { instance, letters, before, after })
}

fn letters_place(value: &str, instance: &str) -> Option<usize> {
    let opening = format!("{OPENING}{instance}:");
    value.rfind(&opening).map(|at| at + opening.len())
}

fn hash_of(key: &str, before: &str, after: &str) -> String {
    hash_letters(&[key.as_bytes(), before.as_bytes(), after.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::places::Plane;

    fn sealed(key: &str, provenance: &str) -> String {
        let value = serde_json::json!({"desc": unsealed_desc(provenance, "blue"), "n": 1}).to_string();
        complete(key, value, "blue")
    }

    #[test]
    fn a_sealed_value_names_its_instance() {
        let value = sealed("/apisix/upstreams/a", "TCPRoute default/app");
        assert_eq!(verify("/apisix/upstreams/a", value.as_bytes()).as_deref(), Some("blue"));
    }

    #[test]
    fn any_edit_breaks_the_seal() {
        let value = sealed("/k", "TCPRoute default/app");
        for at in 0..value.len() {
            let mut edited = value.clone().into_bytes();
            edited[at] ^= 1;
            assert_eq!(verify("/k", &edited), None, "byte {at}");
        }
        assert_eq!(verify("/k", format!("{value} ").as_bytes()), None);
        assert_eq!(verify("/other", value.as_bytes()), None);
    }

    #[test]
    fn an_edited_value_still_says_what_it_was_sealed_as() {
        let value = sealed("/k", "TCPRoute default/app");
        let hash = sealed_hash(value.as_bytes()).unwrap();
        let reformatted = format!("{{ {}", value.trim_start_matches('{').replace("\"n\":1", "\"n\": 2, \"m\": []"));
        assert_eq!(verify("/k", reformatted.as_bytes()), None);
        assert_eq!(sealed_hash(reformatted.as_bytes()), Some(hash));
        assert_ne!(sealed_hash(sealed("/k", "TCPRoute default/other").as_bytes()), Some(hash));
        assert_ne!(sealed_hash(sealed("/other", "TCPRoute default/app").as_bytes()), Some(hash));
    }

    #[test]
    fn letters_that_are_not_as_we_write_them_are_no_hash() {
        let value = sealed("/k", "");
        let at = value.find("blue:").unwrap() + "blue:".len();
        for letters in ["", "abc", &"A".repeat(26), &"0".repeat(26), &"é".repeat(13), &"z".repeat(26)] {
            let edited = format!("{}{letters}{}", &value[..at], &value[at + HASH_LETTERS..]);
            assert_eq!(sealed_hash(edited.as_bytes()), None, "{letters}");
        }
        assert_eq!(sealed_hash(&[0xff]), None);
    }

    #[test]
    fn values_without_a_seal_have_none() {
        for value in
            ["", "{}", "init_dir", "[gateway-api:", "[gateway-api:x:", "[gateway-api:x:abc]", "\u{fffd}[gateway-api:é:"]
        {
            assert_eq!(verify("/k", value.as_bytes()), None, "{value}");
        }
        assert_eq!(verify("/k", &[0xff, 0xfe]), None);
    }

    fn needing(provenance: &str, instance: &str) -> (WorkId, String) {
        let certificate =
            WorkId::new(Plane::default(), Directory::Ssls, &format!("gateway-api.{}", "a".repeat(HASH_LETTERS)));
        let desc = unsealed_desc_needing(provenance, &certificate, instance);
        (certificate, complete("/k", serde_json::json!({"desc": desc, "n": 1}).to_string(), instance))
    }

    #[test]
    fn the_certificate_in_front_of_a_seal_is_read_back_however_long_provenance_is() {
        for length in [0, 20, 100, 150, 200, 400] {
            for instance in ["blue", &"b".repeat(63)] {
                let provenance = "é".repeat(length / 2);
                let (id, value) = needing(&provenance, instance);
                let read: serde_json::Value = serde_json::from_str(&value).unwrap();
                let desc = read["desc"].as_str().unwrap();
                assert!(desc.len() <= DESC_BYTES_MAX, "{length}: {}", desc.len());
                let room =
                    DESC_BYTES_MAX - CERTIFICATE.len() - id.id.len() - " [gateway-api::]".len() - instance.len() - 26;
                assert_eq!(desc.contains("..."), length > room, "{length}");
                assert_eq!(verify("/k", value.as_bytes()).as_deref(), Some(instance));
                assert_eq!(certificate(Plane::default(), value.as_bytes()), Some(id), "{length}");
            }
        }
        let (_, value) = needing("TLSRoute default/db", "blue");
        let begins =
            "{\"desc\":\"TLSRoute default/db; certificate gateway-api.aaaaaaaaaaaaaaaaaaaaaaaaaa [gateway-api:blue:";
        assert!(value.starts_with(begins), "{value}");
    }

    #[test]
    fn other_words_in_front_of_a_seal_name_no_certificate() {
        for provenance in [
            "",
            "TCPRoute a/b",
            "; certificate ",
            "; certificate x",
            "; certificate gateway-api.a b",
            "certificate gateway-api.a",
        ] {
            assert_eq!(certificate(Plane::default(), sealed("/k", provenance).as_bytes()), None, "{provenance}");
        }
        for value in ["", "init_dir", "; certificate gateway-api.a [gateway-api:", "; certificate gateway-api.a"] {
            assert_eq!(certificate(Plane::default(), value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn long_provenance_is_cut_at_a_character_and_desc_stays_within_apisix_limit() {
        for length in [100, 200, 212, 213, 214, 400] {
            let provenance = "é".repeat(length / 2) + &"x".repeat(length % 2);
            let value: serde_json::Value = serde_json::from_str(&sealed("/k", &provenance)).unwrap();
            let desc = value["desc"].as_str().unwrap();
            assert!(desc.len() <= DESC_BYTES_MAX, "{length}: {}", desc.len());
            assert_eq!(desc.starts_with(&provenance), length <= 210, "{length}");
        }
    }
}
