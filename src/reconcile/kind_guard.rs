//! After a restart, what was written for a kind of object that is not served any more stays. Pure.
//!
//! The kinds of the checkpoint, those that were listed since the start and those that were released come in; out comes for
//! each document whether it stays as it is. A kind that vanishes while the controller runs needs no guard: its facts are
//! still known. Nothing is guarded that is not in etcd: what is new takes nothing from anybody.

use crate::{
    apisix::stored::Inspected,
    model::{names::Kind, versions::CacheVersion},
    translate::desired::Wanted,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How the name begins by which a kind is released; its group and resource follow, as in
/// `kind/gateway.networking.k8s.io/tcproutes`, for the core group the resource alone.
const NAME: &str = "kind/";

/// Kinds that documents in etcd may have come of, and of which nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KindGuard {
    /// By resource (`group/resource`), also of kinds that only another version of this controller reads.
    missing: BTreeSet<Arc<str>>,
    released: BTreeSet<Arc<str>>,
}

impl KindGuard {
    /// With the versions of a checkpoint, by resource, and the kinds that have had a complete list in this process, whether
    /// they are still served or not.
    #[must_use]
    pub fn new(versions: &BTreeMap<Arc<str>, CacheVersion>, listed: &BTreeSet<Kind>) -> Self {
        let is_listed = |resource: &&Arc<str>| Kind::of_resource(resource).is_some_and(|kind| listed.contains(&kind));
        let missing = versions.keys().filter(|resource| !is_listed(resource)).cloned().collect();
        Self { missing, released: BTreeSet::new() }
    }

    /// A kind is served after all, and its complete list has come. Gives whether the guard is lifted by that.
    pub fn listed(&mut self, kind: Kind) -> bool {
        self.missing.remove(&*kind.resource()) && self.missing.is_empty()
    }

    /// A kind is gone for good, a person says. Gives whether `name` is one that is missing.
    pub fn release(&mut self, name: &str) -> bool {
        let Some(resource) = name.strip_prefix(NAME) else { return false };
        let Some(resource) = self.missing.take(resource) else { return false };
        self.released.insert(resource);
        true
    }

    /// Whether anything is guarded.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.missing.is_empty()
    }

    /// The names by which the missing kinds are released, in order.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.missing.iter().map(|resource| format!("{NAME}{resource}"))
    }

    /// Whether the next checkpoint names a resource of this one that was not listed. One that was released is forgotten, or
    /// it would be asked for again after every restart.
    #[must_use]
    pub fn carries(&self, resource: &str) -> bool {
        !self.released.contains(resource)
    }

    /// Whether a document stays as it is. `stored` is what etcd holds, if it is ours; `refuses` is whether a share of the
    /// connections that come to the wanted document is refused.
    ///
    /// Nothing goes that ends a slot, refuses a share of it or gives it to another route: the objects of the missing kind may
    /// be all that speaks against it.
    #[must_use]
    pub fn keeps(&self, stored: Option<&Inspected>, wanted: &Wanted, refuses: bool) -> bool {
        let Some(stored) = stored.filter(|_| self.is_up()) else { return false };
        match wanted {
            Wanted::Absent | Wanted::Refused(_) => true,
            // A pool names none, nor does a certificate, neither in etcd nor as it is wanted.
            Wanted::Document(document) => refuses || document.pool != stored.pool,
            Wanted::Kept { otherwise: _ } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        apisix::{
            routing::Reach,
            stored::{Seal, ValueHash},
        },
        model::places::{Directory, Plane, WorkId},
        translate::desired::Document,
    };

    const ROUTES: &str = "gateway.networking.k8s.io/tcproutes";

    fn versions(resources: &[&str]) -> BTreeMap<Arc<str>, CacheVersion> {
        resources.iter().map(|resource| (Arc::from(*resource), CacheVersion(7))).collect()
    }

    fn without_routes() -> KindGuard {
        KindGuard::new(&versions(&[ROUTES, "services"]), &[Kind::Service].into())
    }

    fn pool(name: &str) -> WorkId {
        WorkId::new(Plane::default(), Directory::Upstreams, name)
    }

    fn stored(of: Option<&str>) -> Inspected {
        let seal = Seal::Intact { instance: "us".into() };
        Inspected {
            seal,
            hash: ValueHash::of(b""),
            sealed_as: None,
            pool: of.map(pool),
            certificate: None,
            reach: Reach::Nothing,
        }
    }

    fn document(of: Option<&str>) -> Wanted {
        Wanted::Document(Document { bytes: b"x".as_slice().into(), pool: of.map(pool), certificate: None })
    }

    #[track_caller]
    fn check(stored: Option<&Inspected>, wanted: &Wanted, refuses: bool, keeps: bool) {
        assert_eq!(without_routes().keeps(stored, wanted, refuses), keeps);
        assert!(!KindGuard::default().keeps(stored, wanted, refuses), "nothing is missing, and it is kept");
    }

    #[test]
    fn kinds_of_the_checkpoint_that_were_not_listed_are_missing() {
        let guard = without_routes();
        assert!(guard.is_up());
        assert_eq!(guard.names().collect::<Vec<_>>(), ["kind/gateway.networking.k8s.io/tcproutes"]);
        let none = KindGuard::new(&versions(&[ROUTES, "services"]), &[Kind::Service, Kind::TcpRoute].into());
        assert!(!none.is_up());
    }

    #[test]
    fn a_kind_never_in_the_checkpoint_is_not_missed() {
        assert!(!KindGuard::new(&versions(&["services"]), &[Kind::Service].into()).is_up());
    }

    #[test]
    fn a_kind_that_only_another_version_reads_is_missed_too() {
        let guard = KindGuard::new(&versions(&["gateway.networking.k8s.io/httproutes"]), &Kind::ALL.into());
        assert_eq!(guard.names().collect::<Vec<_>>(), ["kind/gateway.networking.k8s.io/httproutes"]);
    }

    #[test]
    fn the_guard_is_lifted_when_the_last_missing_kind_is_listed_or_released() {
        let mut guard = KindGuard::new(&versions(&[ROUTES, "services"]), &BTreeSet::new());
        assert!(!guard.listed(Kind::Gateway) && !guard.listed(Kind::Service));
        assert!(guard.is_up() && guard.listed(Kind::TcpRoute) && !guard.is_up());
        assert!(!guard.listed(Kind::TcpRoute));

        let mut guard = KindGuard::new(&versions(&[ROUTES, "services"]), &BTreeSet::new());
        assert!(guard.release("kind/services") && guard.is_up());
        assert!(guard.release("kind/gateway.networking.k8s.io/tcproutes") && !guard.is_up());
        assert!(!guard.carries("services") && !guard.carries(ROUTES) && guard.carries("namespaces"));
    }

    #[test]
    fn other_names_release_no_kind() {
        let mut guard = without_routes();
        for name in ["services", "kind/services", "kind/", "gateway/a/b", "gateway.networking.k8s.io/tcproutes"] {
            assert!(!guard.release(name), "{name}");
        }
        assert!(guard.is_up() && guard.carries(ROUTES) && guard.carries("services"));
    }

    #[test]
    fn a_slot_is_not_ended_refused_or_given_to_another_route() {
        let slot = stored(Some("p"));
        check(Some(&slot), &Wanted::Absent, false, true);
        check(Some(&slot), &Wanted::Refused("x".into()), false, true);
        check(Some(&slot), &document(Some("q")), false, true);
        check(Some(&slot), &document(Some("p")), true, true);
        check(Some(&slot), &document(Some("p")), false, false);
        check(Some(&stored(None)), &document(Some("p")), false, true);
    }

    #[test]
    fn a_pool_is_not_deleted_nor_made_to_refuse() {
        let pool = stored(None);
        check(Some(&pool), &Wanted::Absent, false, true);
        check(Some(&pool), &document(None), true, true);
        check(Some(&pool), &document(None), false, false);
    }

    #[test]
    fn a_certificate_is_not_deleted_nor_refused_and_is_renewed() {
        let certificate = stored(None);
        check(Some(&certificate), &Wanted::Absent, false, true);
        check(Some(&certificate), &Wanted::Refused("bad key".into()), false, true);
        check(Some(&certificate), &document(None), false, false);
    }

    #[test]
    fn what_is_new_is_written_and_what_is_kept_anyway_stays_so() {
        check(None, &document(Some("p")), true, false);
        check(None, &document(None), true, false);
        check(None, &Wanted::Absent, false, false);
        check(Some(&stored(Some("p"))), &Wanted::Kept { otherwise: None }, true, false);
    }
}
