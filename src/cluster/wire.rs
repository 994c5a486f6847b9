//! The parts of Kubernetes objects that are read, as they stand in JSON.
//!
//! Only what becomes facts is named here; everything else (managedFields, other annotations, fields of newer API versions)
//! is skipped unread. Wider than the generated types of `gateway_api` and `k8s_openapi` in two ways that matter: numbers are
//! 64 bits wide and closed sets are plain text, so that one odd value gets a verdict instead of hiding its whole object.
//! A test in [`super::decode`] holds these shapes to the generated types, which are used as they are where they fit.

pub(super) mod data_planes;

mod policies;

use crate::model::names::{Created, GATEWAY_GROUP};
use jiff::Timestamp;
pub(super) use policies::{BackendTlsPolicySpec, PolicyTarget};
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;
use std::{
    borrow::Borrow,
    collections::BTreeMap,
    fmt,
    sync::{Arc, LazyLock},
};

/// Text that is kept: one allocation, and none for words that nearly every object repeats.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Text(pub(super) Arc<str>);

/// Words that stand in nearly every object, most often because the API server fills them in.
static COMMON: LazyLock<Vec<Arc<str>>> =
    LazyLock::new(|| ["", GATEWAY_GROUP, "Gateway", "Service", "TCP", "TCPRoute", "default"].map(Arc::from).to_vec());

/// `text` to keep, shared with all others of its kind where it is a common word.
pub(super) fn shared(text: &str) -> Arc<str> {
    COMMON.iter().find(|common| &***common == text).map_or_else(|| text.into(), Arc::clone)
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(shared(text)))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// `metadata.creationTimestamp`.
#[derive(Clone, Copy, Debug)]
pub(super) struct CreationTimestamp(pub(super) Created);

impl<'de> Deserialize<'de> for CreationTimestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let at: Timestamp =
            text.parse().map_err(|error| de::Error::custom(format_args!("creationTimestamp {text:?}: {error}")))?;
        Ok(Self(Created(at.as_second())))
    }
}

/// `metadata`, with `L` for what is read of its labels.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata<L> {
    pub(super) name: Text,
    pub(super) namespace: Option<Text>,
    pub(super) generation: Option<i64>,
    pub(super) creation_timestamp: Option<CreationTimestamp>,
    pub(super) resource_version: Option<String>,
    pub(super) labels: Option<L>,
    pub(super) annotations: Option<Annotations>,
}

/// The annotations that are ours to read.
#[derive(Debug, Deserialize)]
pub(super) struct Annotations {
    #[serde(rename = "apisix-etcd.io/drift")]
    pub(super) drift: Option<Text>,
}

/// An object with a `spec`; `status` is only looked at where a part of it is ours.
#[derive(Deserialize)]
pub(super) struct Specified<'a, S> {
    pub(super) metadata: Metadata<de::IgnoredAny>,
    pub(super) spec: S,
    #[serde(borrow)]
    pub(super) status: Option<&'a RawValue>,
}

/// The least that names an object, for those whose other parts cannot be read.
#[derive(Deserialize)]
pub(super) struct Named<'a> {
    pub(super) metadata: NamedMetadata,
    #[serde(borrow)]
    pub(super) status: Option<&'a RawValue>,
}

/// `metadata` of [`Named`].
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NamedMetadata {
    pub(super) name: Text,
    pub(super) namespace: Option<Text>,
    pub(super) resource_version: Option<String>,
}

/// `spec` of a Gateway.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GatewaySpec {
    pub(super) gateway_class_name: Text,
    pub(super) infrastructure: Option<Infrastructure>,
    pub(super) addresses: Option<Vec<Address>>,
    pub(super) listeners: Vec<Listener>,
    pub(super) allowed_listeners: Option<AllowedListeners>,
}

/// `spec.allowedListeners`.
#[derive(Debug, Deserialize)]
pub(super) struct AllowedListeners {
    pub(super) namespaces: Option<AllowedNamespaces>,
}

/// `spec` of a ListenerSet.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListenerSetSpec {
    pub(super) parent_ref: Parent,
    pub(super) listeners: Vec<Listener>,
}

/// `spec.infrastructure`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Infrastructure {
    pub(super) parameters_ref: Option<gateway_api::gateways::GatewayInfrastructureParametersRef>,
}

/// `spec.addresses[]`.
#[derive(Debug, Deserialize)]
pub(super) struct Address {
    #[serde(rename = "type")]
    pub(super) kind: Option<Text>,
    pub(super) value: Option<Text>,
}

/// `spec.listeners[]`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listener {
    pub(super) name: Text,
    pub(super) port: i64,
    pub(super) protocol: Text,
    pub(super) hostname: Option<Text>,
    pub(super) tls: Option<Tls>,
    pub(super) allowed_routes: Option<AllowedRoutes>,
}

/// `spec.listeners[].tls`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tls {
    pub(super) mode: Option<Text>,
    pub(super) certificate_refs: Option<Vec<SecretRef>>,
}

/// `tls.certificateRefs[]`.
#[derive(Debug, Deserialize)]
pub(super) struct SecretRef {
    pub(super) group: Option<Text>,
    pub(super) kind: Option<Text>,
    pub(super) namespace: Option<Text>,
    pub(super) name: Text,
}

/// `spec.listeners[].allowedRoutes`.
#[derive(Debug, Deserialize)]
pub(super) struct AllowedRoutes {
    pub(super) namespaces: Option<AllowedNamespaces>,
    pub(super) kinds: Option<Vec<AllowedKind>>,
}

/// `allowedRoutes.namespaces` and `allowedListeners.namespaces`.
#[derive(Debug, Deserialize)]
pub(super) struct AllowedNamespaces {
    pub(super) from: Option<Text>,
    pub(super) selector: Option<Selector>,
}

/// `allowedRoutes.namespaces.selector`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Selector {
    pub(super) match_labels: Option<BTreeMap<Text, Text>>,
    pub(super) match_expressions: Option<Vec<Expression>>,
}

/// `selector.matchExpressions[]`.
#[derive(Debug, Deserialize)]
pub(super) struct Expression {
    pub(super) key: Text,
    pub(super) operator: Text,
    pub(super) values: Option<Vec<Text>>,
}

/// `allowedRoutes.kinds[]`.
#[derive(Debug, Deserialize)]
pub(super) struct AllowedKind {
    pub(super) group: Option<Text>,
    pub(super) kind: Text,
}

/// `spec` of a layer-4 route, the same at v1 and v1alpha2.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RouteSpec {
    pub(super) parent_refs: Option<Vec<Parent>>,
    pub(super) hostnames: Option<Vec<Text>>,
    pub(super) rules: Vec<Rule>,
}

/// `spec.parentRefs[]`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Parent {
    pub(super) group: Option<Text>,
    pub(super) kind: Option<Text>,
    pub(super) namespace: Option<Text>,
    pub(super) name: Text,
    pub(super) section_name: Option<Text>,
    pub(super) port: Option<i64>,
}

/// `spec.rules[]`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rule {
    pub(super) backend_refs: Option<Vec<Backend>>,
}

/// `spec.rules[].backendRefs[]`.
#[derive(Debug, Deserialize)]
pub(super) struct Backend {
    pub(super) group: Option<Text>,
    pub(super) kind: Option<Text>,
    pub(super) namespace: Option<Text>,
    pub(super) name: Text,
    pub(super) port: Option<i64>,
    pub(super) weight: Option<i64>,
}

/// A Namespace: nothing of it but its metadata.
#[derive(Debug, Deserialize)]
pub(super) struct Namespace {
    pub(super) metadata: Metadata<BTreeMap<Text, Text>>,
}

/// The finalizers of an object.
#[derive(Deserialize)]
pub(super) struct Finalized {
    pub(super) metadata: FinalizedMetadata,
}

/// `metadata` of [`Finalized`].
#[derive(Deserialize)]
pub(super) struct FinalizedMetadata {
    pub(super) finalizers: Option<Vec<String>>,
}

/// A Service.
#[derive(Debug, Deserialize)]
pub(super) struct Service {
    pub(super) metadata: Metadata<de::IgnoredAny>,
    pub(super) spec: ServiceSpec,
    pub(super) status: Option<ServiceStatus>,
}

/// `status` of a Service.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceStatus {
    pub(super) load_balancer: Option<LoadBalancer>,
}

/// `status.loadBalancer` of a Service.
#[derive(Debug, Deserialize)]
pub(super) struct LoadBalancer {
    pub(super) ingress: Option<Vec<Ingress>>,
}

/// `status.loadBalancer.ingress[]` of a Service.
#[derive(Debug, Deserialize)]
pub(super) struct Ingress {
    pub(super) ip: Option<String>,
    pub(super) hostname: Option<String>,
}

/// A Secret. Its fields are looked at one by one, so that no error quotes what they hold.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Secret<'a> {
    pub(super) metadata: Metadata<de::IgnoredAny>,
    #[serde(borrow)]
    pub(super) data: Option<&'a RawValue>,
    /// Only in manifests: an API server moves it into `data`.
    #[serde(borrow)]
    pub(super) string_data: Option<&'a RawValue>,
}

/// `data` or `stringData` of a TLS Secret.
#[derive(Default, Deserialize)]
pub(super) struct SecretFields<'a> {
    #[serde(rename = "tls.crt", borrow)]
    pub(super) certificate: Option<&'a RawValue>,
    #[serde(rename = "tls.key", borrow)]
    pub(super) key: Option<&'a RawValue>,
}

/// `spec` of a Service.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceSpec {
    #[serde(rename = "type")]
    pub(super) kind: Option<Text>,
    #[serde(rename = "externalIPs")]
    pub(super) external_ips: Option<Vec<String>>,
    pub(super) ip_families: Option<Vec<Text>>,
    pub(super) ports: Option<Vec<ServicePort>>,
}

/// `spec.ports[]` of a Service.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServicePort {
    pub(super) name: Option<Text>,
    pub(super) port: i64,
    pub(super) protocol: Option<Text>,
    pub(super) app_protocol: Option<Text>,
}

/// An EndpointSlice.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointSlice {
    pub(super) metadata: Metadata<SliceLabels>,
    pub(super) address_type: Text,
    pub(super) ports: Option<Vec<SlicePort>>,
    pub(super) endpoints: Option<Vec<Endpoint>>,
}

/// The one label of an EndpointSlice that is read.
#[derive(Debug, Deserialize)]
pub(super) struct SliceLabels {
    #[serde(rename = "kubernetes.io/service-name")]
    pub(super) service_name: Option<Text>,
}

/// `ports[]` of an EndpointSlice.
#[derive(Debug, Deserialize)]
pub(super) struct SlicePort {
    pub(super) name: Option<Text>,
    pub(super) port: Option<i64>,
    pub(super) protocol: Option<Text>,
}

/// `endpoints[]` of an EndpointSlice.
#[derive(Debug, Deserialize)]
pub(super) struct Endpoint {
    pub(super) addresses: Option<Vec<String>>,
    pub(super) conditions: Option<EndpointConditions>,
}

/// `endpoints[].conditions`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct EndpointConditions {
    pub(super) ready: Option<bool>,
    pub(super) serving: Option<bool>,
    pub(super) terminating: Option<bool>,
}
