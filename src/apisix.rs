//! APISIX's side: documents as its data planes read them from etcd, their ids, seals and checks. Pure.
//!
//! APISIX's field names stop here.

pub mod plugins;
pub mod stored;
pub mod version;

/// The bytes of a directory's placeholder, as `apisix init_etcd` writes them. No data plane reads them as a document.
pub const PLACEHOLDER: &[u8] = b"init_dir";
