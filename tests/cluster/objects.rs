//! Manifests, as users write them.
//!
//! In: the few words that a test is about. Out: YAML in which `$NS`, `$CLASS` and `$CONTROLLER` stand for the scene's own
//! namespace, GatewayClass and controller name.

/// The port of every Service and endpoint here.
pub(crate) const SERVICE_PORT: u16 = 8080;

/// The scene's GatewayClass.
pub(crate) const CLASS: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: $CLASS}
spec: {controllerName: $CONTROLLER}
";

/// A Gateway of the scene's class with these TCP listeners, by name and port.
pub(crate) fn gateway(name: &str, listeners: &[(&str, u16)]) -> String {
    let listeners: Vec<(&str, &str, u16)> = listeners.iter().map(|(name, port)| (*name, "TCP", *port)).collect();
    mixed_gateway(name, &listeners)
}

/// A Gateway of the scene's class with these listeners, by name, protocol and port.
pub(crate) fn mixed_gateway(name: &str, listeners: &[(&str, &str, u16)]) -> String {
    let listener =
        |(name, protocol, port): &(&str, &str, u16)| format!("{{name: {name}, protocol: {protocol}, port: {port}}}");
    let listeners: Vec<String> = listeners.iter().map(listener).collect();
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: $NS}}
spec: {{gatewayClassName: $CLASS, listeners: [{}]}}
",
        listeners.join(", ")
    )
}

/// A TCPRoute to Services of its own namespace, by name and weight, through one listener of a Gateway there.
pub(crate) fn route(name: &str, parent: (&str, &str), backends: &[(&str, u32)]) -> String {
    route_of("TCPRoute", name, parent, backends)
}

/// [`route`] of any kind.
pub(crate) fn route_of(kind: &str, name: &str, (gateway, listener): (&str, &str), backends: &[(&str, u32)]) -> String {
    let backend = |(name, weight): &(&str, u32)| format!("{{name: {name}, port: {SERVICE_PORT}, weight: {weight}}}");
    let backends: Vec<String> = backends.iter().map(backend).collect();
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: $NS}}
spec:
  parentRefs: [{{name: {gateway}, sectionName: {listener}}}]
  rules: [{{backendRefs: [{}]}}]
",
        backends.join(", ")
    )
}

/// A Service with ready endpoints at these addresses.
pub(crate) fn service(name: &str, addresses: &[&str]) -> String {
    service_in("$NS", name, addresses)
}

/// [`service`] in another namespace.
pub(crate) fn service_in(namespace: &str, name: &str, addresses: &[&str]) -> String {
    service_of("TCP", namespace, name, addresses)
}

/// [`service`] for `TCP` or `UDP`.
pub(crate) fn service_of(protocol: &str, namespace: &str, name: &str, addresses: &[&str]) -> String {
    let endpoint = |address: &&str| format!("{{addresses: [{address}], conditions: {{ready: true}}}}");
    let endpoints: Vec<String> = addresses.iter().map(endpoint).collect();
    format!(
        "
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{ports: [{{name: main, port: {SERVICE_PORT}, protocol: {protocol}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, namespace: {namespace}, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: main, port: {SERVICE_PORT}, protocol: {protocol}}}]
endpoints: [{}]
",
        endpoints.join(", ")
    )
}
