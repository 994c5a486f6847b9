//! The CustomResourceDefinition of DataPlane, as a type: what `deploy/kubernetes/data-planes.yaml` is generated from.
//!
//! Only the shape and what it says of each field; objects are decoded by `cluster::decode`, which takes what no schema lets
//! through (a folder has none) so that translation can say what is wrong with it.

// The derived schemas are made from copies of these types, inside functions.
#![allow(unreachable_pub, reason = "a copy within a function is reachable from nowhere")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// One group of APISIX instances that read the same prefix of etcd. A GatewayClass names it in `spec.parametersRef`; its
/// Gateways are then served there.
#[allow(clippy::duplicated_attributes, reason = "each column has a type of its own")]
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[kube(
    group = "apisix-etcd.io",
    version = "v1alpha1",
    kind = "DataPlane",
    plural = "dataplanes",
    status = "DataPlaneStatus",
    doc = "A group of APISIX instances that read the same prefix of etcd. A GatewayClass names it in spec.parametersRef, and the Gateways of that class are served there.",
    printcolumn(name = "Prefix", type_ = "string", json_path = ".spec.etcdPrefix"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.apisixVersion"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Accepted")].status"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.addresses) && has(self.publishService))").message("addresses and publishService both say the addresses: leave one out"))]
pub struct DataPlaneSpec {
    /// The prefix in etcd that these instances read, as in `etcd.prefix` of APISIX's config.yaml, for example /edge. No prefix
    /// may begin with another's, with that of --etcd-prefix or of --control-prefix, nor the other way round: of two
    /// DataPlanes the younger is refused.
    #[schemars(regex(pattern = r"^(/[A-Za-z0-9_.-]+)+$"), length(max = 253))]
    pub etcd_prefix: String,
    /// The oldest version of APISIX among these instances, for example 3.18.0. What --apisix-version says if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    #[schemars(regex(pattern = r"^3\.([89]|[1-9][0-9]{1,3})(\.[0-9]{1,4})?$"))]
    pub apisix_version: Option<String>,
    /// Where these instances listen below HTTP, as `stream_proxy` in APISIX's config.yaml says. A listener of a Gateway
    /// elsewhere is refused. If absent, every port is taken on trust; an empty list is no port at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Listen>")]
    #[schemars(length(max = 1024))]
    pub listen: Option<Vec<Listen>>,
    /// Ports of Gateways that APISIX takes on another port, for example 443 on 9443. A port that is not here is the same on
    /// both sides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<PortMapping>")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["gatewayPort"]))]
    #[x_kube(validation = Rule::new("self.all(one, self.exists_one(other, other.apisixPort == one.apisixPort))").message("two gatewayPorts are mapped to the same apisixPort"))]
    pub port_mapping: Option<Vec<PortMapping>>,
    /// The stream plugins that these instances run, as `stream_plugins` in APISIX's config.yaml lists them. Only whether
    /// traffic-split is among them matters. If absent, they are APISIX's default; an empty list is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>")]
    #[schemars(length(max = 256))]
    pub stream_plugins: Option<Vec<String>>,
    /// Where clients reach these instances: IP addresses and hostnames, which the status of each Gateway shows. Not together
    /// with publishService.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>")]
    #[schemars(length(min = 1, max = 16))]
    pub addresses: Option<Vec<String>>,
    /// The Service in front of these instances, whose load balancer says where clients reach them. Not together with
    /// addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PublishService")]
    pub publish_service: Option<PublishService>,
}

/// Ports on which APISIX listens for one protocol.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.endPort) || self.endPort >= self.port").message("endPort comes before port"))]
pub struct Listen {
    /// What APISIX does with what arrives: TCP, taken as it is; TLS, which it ends (`tls: true`); TLSPassthrough, of which it
    /// reads the server name alone; TLSEither, where the route decides; UDP.
    pub protocol: Protocol,
    /// The port, or the first of several.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// The last port of a range that begins with port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32")]
    #[schemars(range(min = 1, max = 65_535))]
    pub end_port: Option<i32>,
}

/// What APISIX does with what arrives on a socket.
#[derive(schemars::JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[allow(missing_docs, reason = "a text at each word would make the schema one of alternatives instead of words")]
pub enum Protocol {
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "TLS")]
    Tls,
    #[serde(rename = "TLSPassthrough")]
    TlsPassthrough,
    #[serde(rename = "TLSEither")]
    TlsEither,
    #[serde(rename = "UDP")]
    Udp,
}

/// A port of Gateways, and the port on which APISIX takes it.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// The port that a listener of a Gateway states.
    #[schemars(range(min = 1, max = 65_535))]
    pub gateway_port: i32,
    /// The port on which APISIX listens for it. No two gatewayPorts may lead to one.
    #[schemars(range(min = 1, max = 65_535))]
    pub apisix_port: i32,
}

/// A Service by name.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct PublishService {
    /// Its namespace.
    #[schemars(length(max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

/// What the controller says of a DataPlane that one of its GatewayClasses names.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct DataPlaneStatus {
    /// Accepted: whether the DataPlane can be used, and what to do if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Condition>")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Option<Vec<Condition>>,
}
