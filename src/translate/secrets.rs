//! A part of tier 1: the certificateRefs of a terminating listener, with Secrets and grants, give what it can end TLS with.

use super::{
    grants::{self, Referrer},
    known::{Known, secret_name},
    listeners::{Gateway, Listener},
    sets::ListenerSet,
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

/// Whether nothing differs between a Gateway and what it was before but which certificates its listeners have.
pub(super) fn differ_alone(before: &Gateway, now: &Gateway) -> bool {
    let bare = |gateway: &Gateway| Gateway { listeners: bare(&gateway.listeners), ..gateway.clone() };
    bare(before) == bare(now)
}

/// The same of a ListenerSet.
pub(super) fn differ_alone_in(before: &ListenerSet, now: &ListenerSet) -> bool {
    let bare = |set: &ListenerSet| ListenerSet { listeners: bare(&set.listeners), ..set.clone() };
    bare(before) == bare(now)
}

/// Listeners with no more said of their certificates than whether any can be used.
fn bare(listeners: &[Listener]) -> Vec<Listener> {
    let bare = |listener: &Listener| {
        let usable = listener.certificates.as_ref().map(KeyPairs::usable);
        let certificates = usable.map(|unreadable| KeyPairs { unreadable, ..KeyPairs::default() });
        Listener { certificates, ..listener.clone() }
    };
    listeners.iter().map(bare).collect()
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
