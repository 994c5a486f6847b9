//! Bytes whose content nobody needs to see in a log or an error: how long they are, and which they are.
//!
//! Values of etcd hold private keys, so every type that carries one has a `Debug` of its own made with this. Nothing here
//! shows the bytes themselves.

use std::fmt;

/// Shows `{n} bytes` and 8 digits of their hash, enough to tell two values apart.
#[derive(Clone, Copy)]
pub struct Opaque<'a>(pub &'a [u8]);

impl fmt::Debug for Opaque<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = blake3::hash(self.0);
        write!(f, "{} bytes {:.8}", self.0.len(), hash.to_hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_apart_without_being_shown() {
        let shown = |bytes: &[u8]| format!("{:?}", Opaque(bytes));
        assert!(shown(b"hunter2").starts_with("7 bytes ") && shown(b"hunter2").len() == "7 bytes ".len() + 8);
        assert_ne!(shown(b"hunter2"), shown(b"hunter3"));
    }
}
