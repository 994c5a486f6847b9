//! The parts of DataPlanes that are read, as they stand in JSON: text and 64-bit numbers, so that a folder's odd value gets a
//! verdict instead of hiding its object.

use super::Text;
use serde::Deserialize;

/// `spec` of a DataPlane.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cluster) struct DataPlaneSpec {
    pub(in crate::cluster) etcd_prefix: Text,
    pub(in crate::cluster) apisix_version: Option<Text>,
    pub(in crate::cluster) listen: Option<Vec<Listen>>,
    pub(in crate::cluster) port_mapping: Option<Vec<PortMapping>>,
    pub(in crate::cluster) stream_plugins: Option<Vec<Text>>,
    pub(in crate::cluster) addresses: Option<Vec<Text>>,
    pub(in crate::cluster) publish_service: Option<ServiceName>,
}

/// `spec.listen[]` of a DataPlane.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cluster) struct Listen {
    pub(in crate::cluster) protocol: Text,
    pub(in crate::cluster) port: i64,
    pub(in crate::cluster) end_port: Option<i64>,
}

/// `spec.portMapping[]` of a DataPlane.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cluster) struct PortMapping {
    pub(in crate::cluster) gateway_port: i64,
    pub(in crate::cluster) apisix_port: i64,
}

/// `spec.publishService` of a DataPlane.
#[derive(Debug, Deserialize)]
pub(in crate::cluster) struct ServiceName {
    pub(in crate::cluster) namespace: Text,
    pub(in crate::cluster) name: Text,
}
