//! The parts of a BackendTLSPolicy that are read, as they stand in JSON: whom it is about, and nothing of what it demands.

use super::Text;
use serde::Deserialize;

/// `spec` of a BackendTLSPolicy.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cluster) struct BackendTlsPolicySpec {
    pub(in crate::cluster) target_refs: Vec<PolicyTarget>,
}

/// `spec.targetRefs[]`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cluster) struct PolicyTarget {
    pub(in crate::cluster) group: Text,
    pub(in crate::cluster) kind: Text,
    pub(in crate::cluster) name: Text,
    pub(in crate::cluster) section_name: Option<Text>,
}
