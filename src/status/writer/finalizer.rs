//! The finalizer that keeps a GatewayClass while a Gateway uses it (Gateway API, `GatewayClass`).
//!
//! The class as it was just read and whether it is in use go in; the finalizers to write come out, if any are to be written.
//! Those of others stay as and where they are. The caller guards the write by the version that was read.

use crate::model::names::GATEWAY_EXISTS_FINALIZER;
use kube::api::DynamicObject;
use serde_json::Value;

/// What `metadata.finalizers` is to be; `None` where it is right already, or not for us to say: a class that names another
/// controller by now, or one that is being deleted without the finalizer, to which the API server lets none be added.
pub(super) fn wanted(class: &DynamicObject, in_use: bool, controller_name: &str) -> Option<Vec<String>> {
    let named = class.data.pointer("/spec/controllerName").and_then(Value::as_str);
    let finalizers = class.metadata.finalizers.as_deref().unwrap_or_default();
    let ours = |finalizer: &&String| *finalizer == GATEWAY_EXISTS_FINALIZER;
    let carried = finalizers.iter().any(|finalizer| ours(&finalizer));
    let may_add = class.metadata.deletion_timestamp.is_none();
    match (carried, in_use) {
        _ if named != Some(controller_name) => None,
        (false, true) if may_add => {
            Some(finalizers.iter().cloned().chain([GATEWAY_EXISTS_FINALIZER.to_owned()]).collect())
        }
        (true, false) => Some(finalizers.iter().filter(|finalizer| !ours(finalizer)).cloned().collect()),
        (false, true | false) | (true, true) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CONTROLLER: &str = "a/b";
    const THEIRS: &str = "example.com/other";

    fn class(finalizers: &[&str], controller_name: &str, deleted: bool) -> DynamicObject {
        let mut class = json!({
            "metadata": {"name": "c", "finalizers": finalizers},
            "spec": {"controllerName": controller_name},
        });
        if deleted {
            class["metadata"]["deletionTimestamp"] = json!("2026-11-21T20:00:00Z");
        }
        serde_json::from_value(class).unwrap()
    }

    fn check(finalizers: &[&str], in_use: bool, deleted: bool, want: Option<&[&str]>) {
        let wanted = wanted(&class(finalizers, CONTROLLER, deleted), in_use, CONTROLLER);
        let want = want.map(|want| want.iter().map(|&finalizer| finalizer.to_owned()).collect());
        assert_eq!(wanted, want, "{finalizers:?}, in use {in_use}, deleted {deleted}");
    }

    #[test]
    fn it_comes_with_the_first_gateway_and_goes_with_the_last_and_others_stay() {
        let ours = GATEWAY_EXISTS_FINALIZER;
        for deleted in [false, true] {
            check(&[THEIRS, ours, "z/z"], false, deleted, Some(&[THEIRS, "z/z"]));
            check(&[ours], false, deleted, Some(&[]));
            check(&[ours, THEIRS], true, deleted, None);
            check(&[THEIRS], false, deleted, None);
            check(&[], false, deleted, None);
        }
        check(&[THEIRS], true, false, Some(&[THEIRS, ours]));
        check(&[], true, false, Some(&[ours]));
    }

    #[test]
    fn nothing_is_added_to_a_class_that_is_being_deleted() {
        check(&[], true, true, None);
        check(&[THEIRS], true, true, None);
    }

    #[test]
    fn a_class_of_another_controller_is_left_alone() {
        for finalizers in [&[][..], &[GATEWAY_EXISTS_FINALIZER]] {
            for in_use in [false, true] {
                assert_eq!(wanted(&class(finalizers, "someone/else", false), in_use, CONTROLLER), None);
            }
        }
    }
}
