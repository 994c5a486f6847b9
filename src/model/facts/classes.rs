//! Facts of GatewayClasses: whose they are, and what their parameters name. Whether that exists is for translation to say.

use std::{fmt, sync::Arc};

/// Of a GatewayClass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayClassFacts {
    /// `metadata.generation`; 1 where a manifest does not say.
    pub generation: i64,
    /// `spec.controllerName`.
    pub controller_name: Arc<str>,
    /// `spec.parametersRef`, if there is one.
    pub parameters: Option<ParametersRef>,
}

/// `spec.parametersRef` of a GatewayClass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParametersRef {
    /// `group`; the core group where empty.
    pub group: Arc<str>,
    /// `kind`.
    pub kind: Arc<str>,
    /// `namespace`; `None` where absent, as for an object that has none.
    pub namespace: Option<Arc<str>>,
    /// `name`.
    pub name: Arc<str>,
}

/// `group/kind name`, or `kind name` for the core group; the name with its namespace, if it has one.
impl fmt::Display for ParametersRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, kind, namespace, name } = self;
        if !group.is_empty() {
            write!(f, "{group}/")?;
        }
        write!(f, "{kind} ")?;
        if let Some(namespace) = namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(name)
    }
}
