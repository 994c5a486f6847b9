//! Listeners for TLS of one Gateway and port whose hostnames overlap: one within the other, or one of them none.
//!
//! Only listeners that have the port count: of two that cannot be told apart neither has, or the first, and the conditions of
//! the refused ones say so already. Hostnames decide alone, not what is done with the TLS.

use super::{Held, Holder, ListenerRef, Ports, covering};
use crate::model::{
    names::ObjectRef,
    places::{Port, ServerName},
    verdicts::Overlap,
};
use std::{collections::BTreeSet, sync::Arc};

impl Ports {
    /// The listeners of the same Gateway whose hostnames overlap with that of a listener; `None` if there is none, or the
    /// listener does not have the port.
    #[must_use]
    pub fn overlap(
        &self,
        port: Port,
        hostname: Option<&ServerName>,
        owner: &ObjectRef,
        listener: &Arc<str>,
    ) -> Option<Overlap> {
        let held = self.held.get(&port)?;
        let own = held.by_hostname.get(&hostname.cloned())?;
        let ListenerRef { owner: its_owner, name } = &own.listener;
        if its_owner != owner || name != listener || !own.protocol.is_tls() {
            return None;
        }
        let (mut names, mut others) = (BTreeSet::new(), false);
        for holder in overlapping(held, hostname).filter(|holder| holder.gateway == own.gateway) {
            if holder.listener.owner == *owner {
                names.insert(Arc::clone(&holder.listener.name));
            } else {
                others = true;
            }
        }
        (!names.is_empty() || others).then(|| Overlap { own: names.into_iter().collect(), others })
    }
}

/// Whose listeners may be told of another overlap than before, now that another listener has `hostname`, or none has.
pub(super) fn told(now: &Held, hostname: Option<&ServerName>, changed: [Option<&Holder>; 2]) -> BTreeSet<ObjectRef> {
    let kin = |holder: &&Holder| changed.iter().flatten().any(|changed| changed.gateway == holder.gateway);
    overlapping(now, hostname).filter(kin).map(|holder| holder.listener.owner.clone()).collect()
}

/// Who has a hostname that overlaps with `hostname`, besides whoever has that.
fn overlapping<'a>(held: &'a Held, hostname: Option<&'a ServerName>) -> impl Iterator<Item = &'a Holder> {
    let wider = hostname.into_iter().flat_map(covering).filter_map(|wider| held.by_hostname.get(&wider));
    // Most hostnames stand for one name, and nothing is within that.
    let may_have_within = hostname.is_none_or(ServerName::is_wildcard);
    let all = may_have_within.then_some(&held.by_hostname).into_iter().flatten();
    let is_within = move |name: &ServerName| hostname.is_none_or(|wider| name != wider && name.is_within(wider));
    let within = all.filter(move |(name, _)| name.as_ref().is_some_and(is_within)).map(|(_, holder)| holder);
    wider.chain(within)
}
