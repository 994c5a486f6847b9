//! The key `{prefix}/plugins`: which plugins the data planes run, where somebody wrote it.

use serde::Deserialize;

/// The stream plugin that gives a share of connections to another upstream.
const TRAFFIC_SPLIT: &str = "traffic-split";

#[derive(Deserialize)]
struct Plugin {
    name: String,
    #[serde(default)]
    stream: bool,
}

/// Whether a plugin of this name is the one that gives a share of connections to another upstream.
#[must_use]
pub fn is_traffic_split(name: &str) -> bool {
    name == TRAFFIC_SPLIT
}

/// Whether the value of `{prefix}/plugins` lists `traffic-split` as a stream plugin (`stream` absent: an HTTP plugin).
///
/// A value that cannot be read counts as "no": what is written then works with and without the plugin.
#[must_use]
pub fn lists_stream_traffic_split(value: &[u8]) -> bool {
    serde_json::from_slice::<Vec<Plugin>>(value)
        .is_ok_and(|plugins| plugins.iter().any(|plugin| plugin.stream && is_traffic_split(&plugin.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_split_counts_only_as_a_stream_plugin() {
        let check = |value: &str, want| assert_eq!(lists_stream_traffic_split(value.as_bytes()), want, "{value}");
        check(r#"[{"name": "mqtt-proxy", "stream": true}, {"name": "traffic-split", "stream": true}]"#, true);
        check(r#"[{"name": "traffic-split"}]"#, false);
        check(r#"[{"name": "traffic-split", "stream": false}]"#, false);
        check("[]", false);
        check("{}", false);
        check("init_dir", false);
    }
}
