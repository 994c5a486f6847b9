//! Facts of DataPlanes: what is written, not judged. Whether a DataPlane can be used is for translation to say.

use crate::model::names::{Created, ObjectName};
use std::sync::Arc;

/// Of a DataPlane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataPlaneFacts {
    /// `metadata.generation`; 1 where a manifest does not say.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Created,
    /// `spec.etcdPrefix`, as written.
    pub etcd_prefix: Arc<str>,
    /// `spec.apisixVersion`, as written.
    pub apisix_version: Option<Arc<str>>,
    /// `spec.listen`, in its order. Absent is not the same as empty.
    pub listen: Option<Vec<ListenFacts>>,
    /// `spec.portMapping`, in its order.
    pub port_mapping: Vec<PortMappingFacts>,
    /// `spec.streamPlugins`. Absent is not the same as empty.
    pub stream_plugins: Option<Vec<Arc<str>>>,
    /// `spec.addresses`, in their order, as written.
    pub addresses: Vec<Arc<str>>,
    /// `spec.publishService`.
    pub publish_service: Option<ObjectName>,
}

/// One entry of `spec.listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenFacts {
    /// `protocol`, as written.
    pub protocol: Arc<str>,
    /// `port`, not checked.
    pub port: i64,
    /// `endPort`, not checked.
    pub end_port: Option<i64>,
}

/// One entry of `spec.portMapping`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortMappingFacts {
    /// `gatewayPort`, not checked.
    pub gateway_port: i64,
    /// `apisixPort`, not checked.
    pub apisix_port: i64,
}
