//! Types made from `proto/*.proto` at build time, as they are on the wire. Whoever owns a message turns it into a type of
//! its own and checks it there; nothing else uses these.

/// `proto/checkpoint.proto`; the checkpoint's own room checks it.
#[allow(clippy::pedantic, unreachable_pub, reason = "generated")]
pub(crate) mod checkpoint {
    include!(concat!(env!("OUT_DIR"), "/apisix_etcd_controller.checkpoint.rs"));
}
