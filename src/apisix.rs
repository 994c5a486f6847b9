//! APISIX's side: documents as its data planes read them from etcd, their ids, seals and checks. Pure.
//!
//! APISIX's field names stop here.

pub mod check;
pub mod documents;
pub mod ids;
pub mod plugins;
pub mod routing;
pub mod seal;
pub mod stored;
pub mod version;
mod wire;
