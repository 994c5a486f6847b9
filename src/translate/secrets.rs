//! A part of tier 1: the certificateRefs of a terminating listener, with Secrets and grants, give what it can end TLS with.

use super::{
    grants::{self, Referrer},
    known::{Known, secret_name},
    listeners::Listener,
};
use crate::model::{
    certificates::{KeyPair, KeyPairs, ReferenceFault, ReferenceProblem},
    facts::SecretRef,
    names::Kind,
};
use std::sync::Arc;

/// What `references` of `from` come to. Dates are not looked at, nor whether a certificate is for the listener's hostname.
#[must_use]
pub fn key_pairs(from: Referrer<'_>, references: &[SecretRef], known: &Known) -> KeyPairs {
    let mut all = KeyPairs::default();
    for (index, reference) in references.iter().enumerate() {
        match resolve(from, reference, known) {
            // The same twice is the same once.
            Ok(pair) if all.pairs.contains(&pair) => {}
            Ok(pair) => all.pairs.push(pair),
            Err((fault, unreadable)) => {
                all.unreadable |= unreadable;
                all.problems.push(ReferenceProblem { index, fault });
            }
        }
    }
    all
}

/// Whether nothing differs between a Gateway or ListenerSet and what it was before but which certificates its listeners have,
/// other than whether any can be used.
pub(super) fn differ_alone<T: Clone + PartialEq>(
    before: &T,
    now: &T,
    listeners: fn(&mut T) -> &mut [Listener],
) -> bool {
    let bare = |object: &T| {
        let mut object = object.clone();
        for listener in listeners(&mut object) {
            let usable = listener.certificates.as_ref().map(KeyPairs::usable);
            listener.certificates = usable.map(|unreadable| KeyPairs { unreadable, ..KeyPairs::default() });
        }
        object
    };
    bare(before) == bare(now)
}

/// The checks stand in this order so that a reference nobody permitted does not reveal whether its target exists. With a
/// fault comes whether it hangs on an object that could never be read.
fn resolve(from: Referrer<'_>, reference: &SecretRef, known: &Known) -> Result<Arc<KeyPair>, (ReferenceFault, bool)> {
    let Some(secret) = secret_name(reference, from.namespace) else {
        let (group, kind) = (Arc::clone(&reference.group), Arc::clone(&reference.kind));
        return Err((ReferenceFault::UnknownKind { group, kind }, false));
    };
    if !grants::permitted(from, Kind::Secret, &secret, known) {
        let unreadable = known.grants.any_unreadable_in(&secret.namespace);
        return Err((ReferenceFault::NotPermitted(secret), unreadable));
    }
    match known.secrets.get(&secret) {
        Some(facts) => facts.pair.clone().map_err(|fault| (ReferenceFault::Unusable { secret, fault }, false)),
        None if known.secrets.is_unreadable(&secret) => Err((ReferenceFault::Unreadable(secret), true)),
        None => Err((ReferenceFault::NotFound(secret), false)),
    }
}
