//! Manifests of as many routes as a test wants.
//!
//! In: how many, and which generation of them. Out: YAML. Another generation changes every upstream, and nothing else.

use std::fmt::Write as _;

/// As many as Gateway API allows.
const LISTENERS_A_GATEWAY: u16 = 64;

/// The port of the first route; the others follow.
pub(crate) const FIRST_PORT: u16 = 10_000;

/// So many routes, each at a port of its own, all to one Service, whose endpoint's address ends in `generation`.
pub(crate) fn fleet(n_routes: u16, generation: u8) -> String {
    fleet_at(FIRST_PORT, n_routes, generation)
}

/// [`fleet`] with another first port.
pub(crate) fn fleet_at(first_port: u16, n_routes: u16, generation: u8) -> String {
    let mut yaml = format!(
        "\
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: apisix}}
spec: {{controllerName: apisix-etcd.io/gateway-controller}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: default}}
spec: {{ports: [{{port: 80, protocol: TCP}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, namespace: default, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: '', port: 8080, protocol: TCP}}]
endpoints: [{{addresses: [192.0.2.{generation}]}}]
"
    );
    for number in 0..n_routes {
        let (gateway, port) = (number / LISTENERS_A_GATEWAY, first_port + number);
        if number % LISTENERS_A_GATEWAY == 0 {
            let _ = write!(
                yaml,
                "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: gateway-{gateway}, namespace: default, creationTimestamp: '2026-01-01T00:00:00Z'}}
spec:
  gatewayClassName: apisix
  listeners:
"
            );
            let last = n_routes.min(number + LISTENERS_A_GATEWAY);
            for port in (number..last).map(|number| first_port + number) {
                let _ = writeln!(yaml, "  - {{name: p{port}, port: {port}, protocol: TCP}}");
            }
        }
        let _ = write!(
            yaml,
            "---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {{name: route-{port}, namespace: default, creationTimestamp: '2026-01-01T00:00:00Z'}}
spec:
  parentRefs: [{{name: gateway-{gateway}, sectionName: p{port}}}]
  rules: [{{backendRefs: [{{name: web, port: 80}}]}}]
"
        );
    }
    yaml
}
