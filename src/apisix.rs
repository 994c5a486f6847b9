//! APISIX's side: documents as its data planes read them from etcd, their ids, seals and checks. Pure.
//!
//! APISIX's field names stop here.

pub mod plugins;
pub mod stored;
pub mod version;
