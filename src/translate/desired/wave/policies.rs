//! The wave where it reaches BackendTLSPolicies: whose pools and what other policies one touches.

use super::Wave;
use crate::{
    model::names::{Kind, ObjectName, RouteRef},
    translate::{desired::Desired, known::Known, policies},
};

/// What hangs on an object by way of policies.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Routes whose pools a policy may bear on.
    routes: Vec<RouteRef>,
    /// Policies of which something else may be said.
    policies: Vec<ObjectName>,
}

/// What hangs on an object by way of policies, as all is known now: to be asked before a change and after.
pub(super) fn touched(known: &Known, kind: Kind, name: &ObjectName) -> Touched {
    match kind {
        Kind::BackendTlsPolicy => {
            let services = policies::services_concerned(known, name);
            let routes = services.iter().flat_map(|service| known.routes_by_service.of(service));
            // Of policies with one target the oldest has it.
            let policies = services.iter().flat_map(|service| known.policies_by_service.of(service));
            Touched { routes: routes.cloned().collect(), policies: policies.cloned().collect() }
        }
        Kind::TcpRoute | Kind::UdpRoute | Kind::TlsRoute => {
            let route = RouteRef::new(kind, name.clone());
            Touched { routes: Vec::new(), policies: policies::about(known, &route).cloned().collect() }
        }
        Kind::DataPlane
        | Kind::GatewayClass
        | Kind::Gateway
        | Kind::ListenerSet
        | Kind::ReferenceGrant
        | Kind::Namespace
        | Kind::Secret
        | Kind::Service
        | Kind::EndpointSlice => Touched::default(),
    }
}

impl Wave {
    pub(super) fn touch(&mut self, touched: Touched) {
        self.pools.extend(touched.routes);
        for policy in &touched.policies {
            self.verdict(Kind::BackendTlsPolicy, policy);
        }
    }

    /// Marks the policies that are about a backend of a route.
    pub(super) fn policies_about(&mut self, desired: &Desired, route: &RouteRef) {
        for policy in policies::about(&desired.known, route) {
            self.verdict(Kind::BackendTlsPolicy, policy);
        }
    }
}
