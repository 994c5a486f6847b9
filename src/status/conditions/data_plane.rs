//! A DataPlane's verdict as its condition.

use super::{Condition, render_all};
use crate::{
    model::verdicts::{DataPlaneVerdict, PlaneFault},
    status::reasons::{ConditionType, Reason},
};
use serde_json::{Value, json};

pub(super) fn render(verdict: &DataPlaneVerdict) -> Value {
    let DataPlaneVerdict { generation, fault } = verdict;
    json!({ "conditions": render_all([accepted(fault.as_ref())], *generation) })
}

fn accepted(fault: Option<&PlaneFault>) -> Condition {
    let Some(fault) = fault else {
        return Condition::holds(
            ConditionType::Accepted,
            Reason::Accepted,
            "Every field can be used, and no other prefix overlaps this one.",
        );
    };
    let reason = match fault {
        PlaneFault::Invalid(_) | PlaneFault::Unreadable => Reason::Invalid,
        PlaneFault::Overlaps { .. } => Reason::PrefixOverlaps,
    };
    Condition::fails(ConditionType::Accepted, reason, fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::verdicts::PrefixHolder;

    #[track_caller]
    fn check(fault: Option<PlaneFault>, status_and_reason: &str, message_part: &str) {
        let status = render(&DataPlaneVerdict { generation: 3, fault });
        let condition = &status["conditions"][0];
        let text = |field: &str| condition[field].as_str().unwrap();
        assert_eq!(
            format!("{} {} {}", text("type"), text("status"), text("reason")),
            format!("Accepted {status_and_reason}")
        );
        assert!(text("message").contains(message_part), "{}", text("message"));
        assert_eq!((&condition["observedGeneration"], status["conditions"].as_array().unwrap().len()), (&json!(3), 1));
    }

    #[test]
    fn a_data_plane_is_accepted_or_says_what_is_wrong() {
        check(None, "True Accepted", "Every field can be used");
        check(Some(PlaneFault::Invalid("etcdPrefix \"\" is none".into())), "False Invalid", "etcdPrefix \"\" is none.");
        let holder = PrefixHolder::First("west".into());
        let overlaps = PlaneFault::Overlaps { prefix: "/ab".into(), other: "/a".into(), holder };
        check(Some(overlaps), "False PrefixOverlaps", "/ab overlaps /a, the prefix of DataPlane west");
    }
}
