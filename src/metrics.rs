//! The registry of metrics and its text form.
//!
//! Each room registers and counts its own (`Metrics::register` there); this file makes the registry they share, with the
//! prefix `apisix_etcd_controller`, and renders it. It never counts anything itself but `build_info`.

use crate::apisix::version::ApisixVersion;
use prometheus_client::{encoding::text, metrics::info::Info, registry::Registry};
use std::fmt;

/// What `/metrics` answers with: OpenMetrics text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A registry that holds `build_info` alone.
#[must_use]
pub fn registry(target: ApisixVersion) -> Registry {
    let mut registry = Registry::with_prefix("apisix_etcd_controller");
    let labels = vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("apisix_version", target.to_string())];
    registry.register("build", "This build, and the APISIX version it writes for", Info::new(labels));
    registry
}

/// Every metric of `registry` now.
pub fn render(registry: &Registry) -> Result<String, fmt::Error> {
    let mut text = String::new();
    text::encode(&mut text, registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_is_a_metric() {
        let text = render(&registry(ApisixVersion::DEFAULT)).unwrap();
        assert!(text.contains("apisix_etcd_controller_build_info{version="), "{text}");
        assert!(text.contains("apisix_version=\"3.13.0\"} 1"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
