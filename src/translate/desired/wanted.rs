//! What one document should be: of a slot, a pool, a certificate. Reads what the tiers said, and never fails.

use super::{Desired, Document, Route, Wanted};
use crate::{
    apisix::{
        check::Refused,
        documents::{self, Closed, Scheme, To},
        ids::SlotPlace,
    },
    model::{
        facts::Transport,
        names::{Kind, RouteRef},
        places::WorkId,
    },
    translate::{certificates::Ending, listeners::Protocol},
};
use std::sync::Arc;

impl Desired {
    pub(super) fn wanted_slot(&self, id: &WorkId) -> Wanted {
        let (Some(place), Some(state)) = (SlotPlace::of(id), self.planes.of(id.plane)) else { return Wanted::Absent };
        let instance = &self.settings.instance;
        let held = state.slots.of_id(id).and_then(|slot| Some((state.slots.holder(&slot)?, slot)));
        let Some((holder, slot)) = held else {
            return match state.ports.nested_at(place) {
                Some((slot, protocol)) => {
                    let through = protocol == Protocol::TlsPassthrough;
                    wanted(documents::closing(instance, id, &slot, Closed::NoRoute, through), None)
                }
                None if self.planes.is_frozen(id.plane, place.port()) => Wanted::Kept { otherwise: None },
                None => Wanted::Absent,
            };
        };
        let Some(route) = self.routes.get(holder) else { return Wanted::Absent };
        let split = self.pool(route, id.plane).and_then(|pool| pool.split);
        let passthrough = route.attachments.passes_through(id.plane, &slot);
        let certificate = match state.certificates.ending(&slot, state.view(&self.owners)) {
            Ending::No => None,
            Ending::With(name) => state.certificates.place(name),
            Ending::Taken | Ending::NoName => {
                // Nobody gets by another's certificate to what would take these connections otherwise.
                return wanted(documents::closing(instance, id, &slot, Closed::NotItsCertificate, passthrough), None);
            }
        };
        let pool = route.pool_on(id.plane);
        let to = To { pool: &pool, certificate: certificate.as_ref(), split, passthrough };
        let value = documents::stream_route(instance, id, &slot, to, &holder.to_string());
        let wanted = wanted(value, Some(pool));
        match wanted {
            Wanted::Document(document) => Wanted::Document(Document { certificate, ..document }),
            Wanted::Absent | Wanted::Kept { otherwise: _ } | Wanted::Refused(_) => wanted,
        }
    }

    pub(super) fn wanted_certificate(&self, id: &WorkId) -> Wanted {
        let Some((name, held)) = self.planes.of(id.plane).and_then(|state| state.certificates.at(id)) else {
            return Wanted::Absent;
        };
        let pairs: Vec<_> = held.pairs.iter().map(Arc::as_ref).collect();
        let provenance = format!("{}, listener {}", held.listener.owner, held.listener.name);
        let document = || wanted(documents::ssl(&self.settings.instance, id, name, &pairs, &provenance), None);
        if !held.unreadable {
            return document();
        }
        match document() {
            Wanted::Document(document) if !pairs.is_empty() => Wanted::Kept { otherwise: Some(document) },
            Wanted::Document(_) | Wanted::Absent | Wanted::Kept { otherwise: _ } | Wanted::Refused(_) => {
                Wanted::Kept { otherwise: None }
            }
        }
    }

    /// Whether a pool stays as it is, because something it is computed over exists and could never be read.
    pub(super) fn keeps_pool_of(&self, name: &RouteRef, route: &Route) -> bool {
        self.known.routes.is_unreadable(name)
            || route.attachments.parent_unreadable
            || route.any_pool().is_some_and(|pool| pool.unreadable)
    }

    pub(super) fn wanted_pool(&self, id: &WorkId) -> Wanted {
        let Some(name) = self.route_of_pool.get(&id.id) else { return Wanted::Absent };
        let Some(route) = self.routes.get(name) else { return Wanted::Absent };
        let kept = self.keeps_pool_of(name, route);
        let slots = self.planes.of(id.plane).map(|state| &state.slots);
        let held = slots.is_some_and(|slots| slots.held_by(name).next().is_some());
        let document = match self.pool(route, id.plane).filter(|_| held) {
            None => Wanted::Absent,
            Some(pool) => wanted(
                documents::upstream(&self.settings.instance, id, scheme(name.kind), &pool.nodes, &name.to_string()),
                None,
            ),
        };
        match document {
            Wanted::Absent if kept => Wanted::Kept { otherwise: None },
            Wanted::Document(document) if kept => Wanted::Kept { otherwise: Some(document) },
            Wanted::Absent | Wanted::Document(_) | Wanted::Kept { .. } | Wanted::Refused(_) => document,
        }
    }
}

fn wanted(value: Result<String, Refused>, pool: Option<WorkId>) -> Wanted {
    match value {
        Ok(value) => Wanted::Document(Document { bytes: value.into_bytes().into(), pool, certificate: None }),
        Err(why) => Wanted::Refused(why.to_string().into()),
    }
}

fn scheme(kind: Kind) -> Scheme {
    match Transport::of_routes(kind) {
        Transport::Udp => Scheme::Udp,
        Transport::Tcp | Transport::Other => Scheme::Tcp,
    }
}
