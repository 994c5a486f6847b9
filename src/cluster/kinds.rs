//! Where the kinds live in the Kubernetes API: the versions this controller reads, in order of preference, and their paths.
//!
//! Constants in, strings out; it asks no server (what a server serves is found by `discovery.rs`).

use crate::model::{certificates::TLS_SECRET, names::Kind};

/// Whether this kind comes from a CRD that may be missing, appear, change versions and vanish. The others are part of
/// every Kubernetes this controller runs on.
#[must_use]
pub fn from_crd(kind: Kind) -> bool {
    match kind {
        Kind::DataPlane
        | Kind::GatewayClass
        | Kind::Gateway
        | Kind::ListenerSet
        | Kind::TcpRoute
        | Kind::UdpRoute
        | Kind::TlsRoute
        | Kind::ReferenceGrant
        | Kind::BackendTlsPolicy => true,
        Kind::Namespace | Kind::Secret | Kind::Service | Kind::EndpointSlice => false,
    }
}

/// The versions a kind is read at from an API server, the preferred one first.
#[must_use]
pub fn versions(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::DataPlane => &["v1alpha1"],
        Kind::TcpRoute | Kind::UdpRoute => &["v1", "v1alpha2"],
        Kind::ReferenceGrant => &["v1", "v1beta1"],
        Kind::GatewayClass
        | Kind::Gateway
        | Kind::ListenerSet
        | Kind::TlsRoute
        | Kind::BackendTlsPolicy
        | Kind::Namespace
        | Kind::Secret
        | Kind::Service
        | Kind::EndpointSlice => &["v1"],
    }
}

/// The versions a manifest may state. Wider than [`versions`]: a `v1beta1` Gateway has the shape of a `v1` one, and a
/// cluster would take it.
#[must_use]
pub fn manifest_versions(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::GatewayClass | Kind::Gateway => &["v1", "v1beta1"],
        Kind::DataPlane
        | Kind::ListenerSet
        | Kind::TcpRoute
        | Kind::UdpRoute
        | Kind::TlsRoute
        | Kind::ReferenceGrant
        | Kind::BackendTlsPolicy
        | Kind::Namespace
        | Kind::Secret
        | Kind::Service
        | Kind::EndpointSlice => versions(kind),
    }
}

/// Which objects of a kind are asked for, as field and value; all of them if this is `None`.
#[must_use]
pub fn selected(kind: Kind) -> Option<(&'static str, &'static str)> {
    match kind {
        Kind::Secret => Some(("type", TLS_SECRET)),
        Kind::DataPlane
        | Kind::GatewayClass
        | Kind::Gateway
        | Kind::ListenerSet
        | Kind::TcpRoute
        | Kind::UdpRoute
        | Kind::TlsRoute
        | Kind::ReferenceGrant
        | Kind::BackendTlsPolicy
        | Kind::Namespace
        | Kind::Service
        | Kind::EndpointSlice => None,
    }
}

/// Whether the other kinds are served although this one was never listed and may not be: who has no TLS listeners need not
/// let anybody read Secrets. What the checkpoint says of the kind guards what was written when it could be read.
#[must_use]
pub fn may_be_withheld(kind: Kind) -> bool {
    match kind {
        Kind::Secret => true,
        Kind::DataPlane
        | Kind::GatewayClass
        | Kind::Gateway
        | Kind::ListenerSet
        | Kind::BackendTlsPolicy
        | Kind::TcpRoute
        | Kind::UdpRoute
        | Kind::TlsRoute
        | Kind::ReferenceGrant
        | Kind::Namespace
        | Kind::Service
        | Kind::EndpointSlice => false,
    }
}

/// Whether most clusters do without this kind, so that nobody waits for its CRD and no line is logged while it is missing.
#[must_use]
pub fn is_extra(kind: Kind) -> bool {
    match kind {
        Kind::DataPlane => true,
        Kind::GatewayClass
        | Kind::Gateway
        | Kind::ListenerSet
        | Kind::TcpRoute
        | Kind::UdpRoute
        | Kind::TlsRoute
        | Kind::ReferenceGrant
        | Kind::BackendTlsPolicy
        | Kind::Namespace
        | Kind::Secret
        | Kind::Service
        | Kind::EndpointSlice => false,
    }
}

/// The kind that a manifest of this API group and kind is of; `None` for everything this controller does not read.
#[must_use]
pub fn named(group: &str, kind: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|known| known.group() == group && known.as_str() == kind)
}

/// The path of the whole collection, over all namespaces.
#[must_use]
pub fn path(kind: Kind, version: &str) -> String {
    let plural = kind.plural();
    match kind.group() {
        "" => format!("/api/{version}/{plural}"),
        group => format!("/apis/{group}/{version}/{plural}"),
    }
}

/// The name of the CRD of a kind.
#[must_use]
pub fn crd_name(kind: Kind) -> String {
    format!("{}.{}", kind.plural(), kind.group())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_core_and_grouped_kinds() {
        assert_eq!(path(Kind::Service, "v1"), "/api/v1/services");
        assert_eq!(path(Kind::EndpointSlice, "v1"), "/apis/discovery.k8s.io/v1/endpointslices");
        assert_eq!(path(Kind::TcpRoute, "v1alpha2"), "/apis/gateway.networking.k8s.io/v1alpha2/tcproutes");
        assert_eq!(crd_name(Kind::TcpRoute), "tcproutes.gateway.networking.k8s.io");
    }

    #[test]
    fn a_kind_is_known_by_group_and_kind_together() {
        assert_eq!(named("gateway.networking.k8s.io", "Gateway"), Some(Kind::Gateway));
        assert_eq!(named("networking.istio.io", "Gateway"), None);
        assert_eq!(named("", "Service"), Some(Kind::Service));
        assert_eq!(named("serving.knative.dev", "Service"), None);
    }

    #[test]
    fn the_stable_version_is_preferred_everywhere() {
        for kind in Kind::ALL {
            // A kind of our own has no stable version.
            let first = if kind == Kind::DataPlane { "v1alpha1" } else { "v1" };
            assert_eq!(versions(kind).first(), Some(&first), "{kind}");
            assert!(versions(kind).iter().all(|version| manifest_versions(kind).contains(version)), "{kind}");
        }
    }
}
