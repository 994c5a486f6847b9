//! A GatewayClass's verdict as its conditions and supported features.

use super::{Condition, enumerate, render_all};
use crate::{
    model::{
        names::Kind,
        verdicts::{ClassVerdict, ParametersProblem, Served, Source},
    },
    status::reasons::{ConditionType, Reason},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// `supportedFeatures`, ascending as Gateway API asks; the conformance suite reads them to choose its tests.
const FEATURES: [&str; 7] =
    ["Gateway", "ListenerSet", "ReferenceGrant", "TCPRoute", "TLSRoute", "TLSRouteModeTerminate", "UDPRoute"];

/// The one among them that takes a data plane which passes TLS through.
const MIXED: &str = "TLSRouteModeMixed";

/// The minor releases of Gateway API 1 whose objects we read.
const SUPPORTED_MINORS: std::ops::RangeInclusive<u32> = 4..=6;

const SUPPORTED: &str = "Gateway API v1.4 to v1.6 are supported.";

pub(super) fn render(verdict: &ClassVerdict) -> Value {
    let ClassVerdict { generation, unusable_parameters, served, in_use: _, passes_tls_through } = verdict;
    let mut features: Vec<&str> = FEATURES.into_iter().chain(passes_tls_through.then_some(MIXED)).collect();
    features.sort_unstable();
    let features: Vec<Value> = features.iter().map(|name| json!({ "name": name })).collect();
    json!({
        "conditions": render_all([accepted(unusable_parameters.as_ref(), served), supported_version(served)], *generation),
        "supportedFeatures": features,
    })
}

fn accepted(unusable_parameters: Option<&ParametersProblem>, served: &Served) -> Condition {
    match unusable_parameters {
        Some(problem) => Condition::fails(
            ConditionType::Accepted,
            Reason::InvalidParameters,
            format!("{problem}{}", versions(served)),
        ),
        None => Condition::holds(
            ConditionType::Accepted,
            Reason::Accepted,
            format!("Gateways of this class are served.{}", versions(served)),
        ),
    }
}

/// The kinds whose CRDs may be missing or come in several versions while Gateways are served.
const OPTIONAL: [Kind; 5] = [Kind::ListenerSet, Kind::TcpRoute, Kind::UdpRoute, Kind::TlsRoute, Kind::ReferenceGrant];

/// Which versions are read, so that a missing or outdated CRD is seen where users look first. A folder needs no CRDs: a
/// kind without a version has no manifest there, which is nobody's mistake.
fn versions(served: &Served) -> String {
    let read: Vec<String> =
        OPTIONAL.iter().filter_map(|kind| Some(format!("{kind} is read at {}", served.version(*kind)?))).collect();
    let missing = OPTIONAL.iter().filter(|kind| served.source == Source::Cluster && served.version(**kind).is_none());
    let missing: Vec<String> = missing.map(ToString::to_string).collect();
    let read = if read.is_empty() { String::new() } else { format!(" {}.", read.join(", ")) };
    if missing.is_empty() {
        return read;
    }
    format!("{read} Not served yet: {}; install the CRDs to use these.", missing.join(", "))
}

fn supported_version(served: &Served) -> Condition {
    let Served { source, versions: _, bundles } = served;
    let bundles = match (source, bundles.as_deref()) {
        (Source::Folder, _) => {
            return Condition::holds(
                ConditionType::SupportedVersion,
                Reason::SupportedVersion,
                format!("Manifests are read from a folder, where no CRDs are installed. {SUPPORTED}"),
            );
        }
        // Neither True nor False would be honest: the CRDs may be of any release. What the API server serves and we read
        // is in the message of Accepted, and does not depend on this.
        (Source::Cluster, None | Some([])) => {
            return Condition::unknown(
                ConditionType::SupportedVersion,
                Reason::Pending,
                format!(
                    "The release of the installed CRDs could not be read: allow this controller to get and list \
                     customresourcedefinitions. {SUPPORTED}"
                ),
            );
        }
        (Source::Cluster, Some(bundles)) => bundles,
    };
    let found = found(bundles);
    if bundles.iter().all(|bundle| is_supported(bundle)) {
        Condition::holds(
            ConditionType::SupportedVersion,
            Reason::SupportedVersion,
            format!("The installed CRDs are of {found}. {SUPPORTED}"),
        )
    } else {
        Condition::fails(
            ConditionType::SupportedVersion,
            Reason::UnsupportedVersion,
            format!(
                "The installed CRDs are of {found}. {SUPPORTED} Objects are served as far as they can be read: install the \
                 CRDs of a supported release."
            ),
        )
    }
}

/// `Gateway API v1.5.1 and v1.6.1` and CRDs that do not say, in words.
fn found(bundles: &[Arc<str>]) -> String {
    let named: Vec<&Arc<str>> = bundles.iter().filter(|bundle| !bundle.is_empty()).collect();
    let unnamed = named.len() < bundles.len();
    match (named.is_empty(), unnamed) {
        (true, _) => "an unknown release (no annotation gateway.networking.k8s.io/bundle-version)".to_owned(),
        (false, false) => format!("Gateway API {}", enumerate(&named)),
        (false, true) => format!(
            "Gateway API {}, and some of an unknown release (no annotation gateway.networking.k8s.io/bundle-version)",
            enumerate(&named)
        ),
    }
}

fn is_supported(bundle: &str) -> bool {
    let mut parts = bundle.splitn(3, '.');
    let (major, minor, patch) = (parts.next(), parts.next(), parts.next());
    let minor = minor.and_then(|minor| minor.parse::<u32>().ok());
    major == Some("v1") && minor.is_some_and(|minor| SUPPORTED_MINORS.contains(&minor)) && patch.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::facts::ParametersRef;

    fn class(source: Source, bundles: Option<&[&str]>) -> ClassVerdict {
        ClassVerdict {
            generation: 3,
            unusable_parameters: None,
            in_use: false,
            served: Served {
                source,
                versions: [
                    (Kind::ListenerSet, "v1".into()),
                    (Kind::TcpRoute, "v1".into()),
                    (Kind::UdpRoute, "v1alpha2".into()),
                    (Kind::ReferenceGrant, "v1beta1".into()),
                ]
                .into(),
                bundles: bundles.map(|bundles| bundles.iter().map(|&bundle| bundle.into()).collect()),
            },
            passes_tls_through: false,
        }
    }

    #[track_caller]
    fn check(verdict: &ClassVerdict, index: usize, status_and_reason: &str, message_part: &str) {
        let status = render(verdict);
        let condition = &status["conditions"][index];
        let text = |field: &str| condition[field].as_str().unwrap().to_owned();
        assert_eq!(
            format!("{} {} {}", text("type"), text("status"), text("reason")),
            format!("{} {status_and_reason}", ["Accepted", "SupportedVersion"][index])
        );
        assert!(text("message").contains(message_part), "{}", text("message"));
        assert_eq!(condition["observedGeneration"], 3);
    }

    #[test]
    fn a_class_is_accepted_and_says_which_versions_are_read() {
        let verdict = class(Source::Cluster, Some(&["v1.6.1"]));
        check(
            &verdict,
            0,
            "True Accepted",
            "ListenerSet is read at v1, TCPRoute is read at v1, UDPRoute is read at v1alpha2, ReferenceGrant is read at",
        );
    }

    #[test]
    fn a_kind_that_is_not_served_is_named() {
        let mut verdict = class(Source::Cluster, None);
        verdict.served.versions.remove(&Kind::TcpRoute);
        let message = "UDPRoute is read at v1alpha2, ReferenceGrant is read at v1beta1. Not served yet: TCPRoute, TLSRoute; install";
        check(&verdict, 0, "True Accepted", message);
        verdict.served.versions.clear();
        check(
            &verdict,
            0,
            "True Accepted",
            "served. Not served yet: ListenerSet, TCPRoute, UDPRoute, TLSRoute, ReferenceGrant;",
        );
    }

    #[test]
    fn parameters_are_refused_by_name() {
        let mut verdict = class(Source::Folder, None);
        let parameters =
            ParametersRef { group: "example.com".into(), kind: "Tuning".into(), namespace: None, name: "fast".into() };
        verdict.unusable_parameters = Some(ParametersProblem::Strange(parameters));
        check(&verdict, 0, "False InvalidParameters", "parametersRef example.com/Tuning fast is of no kind");
        verdict.unusable_parameters = Some(ParametersProblem::Missing("edge".into()));
        check(&verdict, 0, "False InvalidParameters", "There is no DataPlane edge: create it");
    }

    #[test]
    fn known_releases_are_supported() {
        for bundles in [&["v1.4.0"][..], &["v1.5.1", "v1.6.1"], &["v1.6.0-rc.1"]] {
            check(&class(Source::Cluster, Some(bundles)), 1, "True SupportedVersion", bundles[0]);
        }
    }

    #[test]
    fn unknown_releases_are_named_beside_the_supported_ones() {
        for bundle in ["v1.3.0", "v1.7.0", "v0.8.1", "v2.4.0", "v1.6", "1.6.1", "main"] {
            let verdict = class(Source::Cluster, Some(&[bundle, "v1.6.1"]));
            check(
                &verdict,
                1,
                "False UnsupportedVersion",
                &format!("Gateway API {bundle} and v1.6.1. Gateway API v1.4 to v1.6"),
            );
        }
        check(
            &class(Source::Cluster, Some(&["", "v1.6.1"])),
            1,
            "False UnsupportedVersion",
            "v1.6.1, and some of an unknown",
        );
        check(&class(Source::Cluster, Some(&[""])), 1, "False UnsupportedVersion", "an unknown release");
    }

    #[test]
    fn releases_that_could_not_be_read_are_not_guessed() {
        for bundles in [None, Some(&[][..])] {
            check(&class(Source::Cluster, bundles), 1, "Unknown Pending", "could not be read");
        }
    }

    #[test]
    fn a_folder_has_no_crds_to_be_of_any_release() {
        let mut verdict = class(Source::Folder, None);
        check(&verdict, 1, "True SupportedVersion", "from a folder");
        verdict.served.versions.clear();
        check(&verdict, 0, "True Accepted", "Gateways of this class are served.");
        assert!(!render(&verdict)["conditions"][0].to_string().contains("install"));
    }

    #[test]
    fn features_are_listed_in_ascending_order() {
        let names = |passes_tls_through| -> Vec<String> {
            let status = render(&ClassVerdict { passes_tls_through, ..class(Source::Folder, None) });
            let features = status["supportedFeatures"].as_array().unwrap().iter();
            features.map(|feature| feature["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(false), FEATURES);
        let with: Vec<String> = names(true);
        assert!(with.is_sorted() && with.len() == 8 && with.contains(&"TLSRouteModeMixed".to_owned()));
    }
}
