//! What is said of DataPlanes, and of the parameters of GatewayClasses that lead to them.
//!
//! The texts are for people: they say what is wrong and what to do.

use crate::model::{
    facts::ParametersRef,
    names::{Kind, OWN_GROUP},
};
use std::sync::Arc;

/// Of a DataPlane that a GatewayClass of ours names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataPlaneVerdict {
    /// The generation this was computed from.
    pub generation: i64,
    /// Why it cannot be used, if so.
    pub fault: Option<PlaneFault>,
}

/// Why a DataPlane cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaneFault {
    /// Fields that mean nothing, every one of them in words.
    #[error("{0}.")]
    Invalid(Arc<str>),
    /// APISIX would read what is written for somebody else, or the other way round.
    #[error(
        "The etcd prefix {prefix} overlaps {other}, {holder}: one begins with the other, and APISIX reads whatever begins with \
         its prefix. Choose another etcdPrefix."
    )]
    Overlaps {
        /// Its own prefix.
        prefix: Arc<str>,
        /// The prefix it overlaps.
        other: Arc<str>,
        /// Whose that is.
        holder: PrefixHolder,
    },
    /// It exists, and was never of a form that can be read.
    #[error(
        "It cannot be read: apply the CustomResourceDefinition that belongs to this controller, and the DataPlane again."
    )]
    Unreadable,
}

/// Whose a prefix is that a DataPlane may not overlap.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixHolder {
    /// That of the keys the controller keeps for itself.
    #[error("where the controller keeps keys of its own (--control-prefix)")]
    Controller,
    /// That of the data plane of the settings.
    #[error("the prefix of GatewayClasses without parameters (--etcd-prefix)")]
    Default,
    /// That of a DataPlane that comes first.
    #[error("the prefix of DataPlane {0}, which comes first by age and name")]
    First(Arc<str>),
}

/// Why the parameters of a GatewayClass cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParametersProblem {
    /// They are of another kind.
    #[error("parametersRef {0} is of no kind that this controller knows: name a {kind} of {OWN_GROUP}, or remove it.", kind = Kind::DataPlane)]
    Strange(ParametersRef),
    /// They are said to be in a namespace, and a DataPlane is in none.
    #[error("parametersRef {0} has a namespace, and a {kind} is in none: remove it.", kind = Kind::DataPlane)]
    Namespaced(ParametersRef),
    /// There is no such DataPlane.
    #[error("There is no {kind} {0}: create it, or correct parametersRef.", kind = Kind::DataPlane)]
    Missing(Arc<str>),
    /// The DataPlane is there and cannot be used.
    #[error("{kind} {name} cannot be used. {fault}", kind = Kind::DataPlane)]
    Unusable {
        /// Its name.
        name: Arc<str>,
        /// Why.
        fault: PlaneFault,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_with_what_to_do() {
        let overlap = |holder| PlaneFault::Overlaps { prefix: "/edge".into(), other: "/e".into(), holder }.to_string();
        assert_eq!(
            overlap(PrefixHolder::First("west".into())),
            "The etcd prefix /edge overlaps /e, the prefix of DataPlane west, which comes first by age and name: one begins with the other, and \
             APISIX reads whatever begins with its prefix. Choose another etcdPrefix."
        );
        assert!(overlap(PrefixHolder::Default).contains("(--etcd-prefix): one begins"));
        assert!(overlap(PrefixHolder::Controller).contains("(--control-prefix): one begins"));
        let unusable =
            ParametersProblem::Unusable { name: "edge".into(), fault: PlaneFault::Invalid("a is b; c is d".into()) };
        assert_eq!(unusable.to_string(), "DataPlane edge cannot be used. a is b; c is d.");
    }
}
