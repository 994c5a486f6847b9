//! What there is to show: documents and statuses side by side, and how to find one's way in them.
//!
//! Wanted documents of a translation or stored ones of an etcd go in, with the statuses rendered for them; what tables and
//! change lines are made of comes out. Nothing is decided here: it reads back what others said.

use crate::{
    apisix::{documents, ids},
    model::{
        names::{Kind, ObjectRef},
        places::{Directory, Plane, WorkId},
        verdicts::Standing,
    },
    status::{
        conditions,
        reasons::{ConditionStatus, ConditionType},
    },
    translate::desired::{Desired, Settings, Wanted},
};
use serde::Deserialize;
use serde_json::Value;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

/// Documents and statuses, as they are wanted or as they stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overview {
    /// The instance whose documents these are.
    pub instance: Arc<str>,
    /// Values by place, as they may be shown: private keys are left out. No placeholders.
    pub documents: BTreeMap<WorkId, Arc<[u8]>>,
    /// The part of each `.status` that is ours, in the order of kinds, namespaces and names.
    pub statuses: BTreeMap<ObjectRef, Value>,
}

/// One condition of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownCondition {
    /// Which part of the object it is about.
    pub part: Part,
    /// `type`.
    pub r#type: String,
    /// `status`.
    pub status: String,
    /// `reason`.
    pub reason: String,
    /// `message`.
    pub message: String,
}

/// A part of an object that has conditions of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// All of it.
    Whole,
    /// A listener of a Gateway or a ListenerSet.
    Listener(String),
    /// A route at one parent, or a policy at one ancestor.
    Parent(String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Listener(name) => write!(f, ", listener {name}"),
            Self::Parent(name) => write!(f, " at {name}"),
        }
    }
}

impl ShownCondition {
    /// Whether it says that something of the object's is not served. `Conflicted` is not looked at: it comes with an
    /// `Accepted` that is False.
    #[must_use]
    pub fn refuses(&self) -> bool {
        const POSITIVE: [ConditionType; 5] = [
            ConditionType::Accepted,
            ConditionType::Programmed,
            ConditionType::ResolvedRefs,
            ConditionType::SupportedVersion,
            ConditionType::RouteProgrammed,
        ];
        self.status == ConditionStatus::False.as_str()
            && POSITIVE.iter().any(|positive| positive.as_str() == self.r#type)
    }
}

/// The parts of a status that hold conditions, of every kind alike.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    conditions: Vec<Condition>,
    #[serde(default)]
    listeners: Vec<Listener>,
    #[serde(default)]
    parents: Vec<Parent>,
    #[serde(default)]
    ancestors: Vec<Parent>,
}

#[derive(Deserialize)]
struct Condition {
    r#type: String,
    status: String,
    reason: String,
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listener {
    name: String,
    #[serde(default)]
    attached_routes: u64,
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parent {
    #[serde(alias = "ancestorRef")]
    parent_ref: ParentRef,
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ParentRef {
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    name: String,
    #[serde(default)]
    section_name: Option<String>,
    #[serde(default)]
    port: Option<i64>,
}

impl ParentRef {
    /// `gateway/listener`, with the namespace in front where it is not the route's own, and the kind where it is no Gateway.
    fn shown(&self, route: &ObjectRef) -> String {
        let Self { kind, namespace, name, section_name, port } = self;
        let mut text = match kind.as_deref() {
            None | Some("Gateway") => String::new(),
            Some(kind) => format!("{kind} "),
        };
        if let Some(namespace) = namespace.as_ref().filter(|namespace| ***namespace != *route.name.namespace) {
            text.push_str(namespace);
            text.push('/');
        }
        text.push_str(name);
        if let Some(section) = section_name {
            text.push('/');
            text.push_str(section);
        }
        if let Some(port) = port {
            text.push(':');
            text.push_str(&port.to_string());
        }
        text
    }
}

/// The parts of `object`'s status, in their order, each with its conditions.
#[must_use]
pub fn parts(object: &ObjectRef, status: &Value) -> Vec<(Part, Vec<ShownCondition>)> {
    let Ok(Status { conditions, listeners, parents, ancestors }) = Status::deserialize(status) else {
        return Vec::new();
    };
    let whole = if conditions.is_empty() { None } else { Some((Part::Whole, conditions)) };
    let listeners = listeners.into_iter().map(|listener| (Part::Listener(listener.name), listener.conditions));
    let parents = parents
        .into_iter()
        .chain(ancestors)
        .map(|parent| (Part::Parent(parent.parent_ref.shown(object)), parent.conditions));
    whole
        .into_iter()
        .chain(listeners)
        .chain(parents)
        .map(|(part, conditions)| {
            let shown = conditions.into_iter().map(|condition| shown(&part, condition)).collect();
            (part, shown)
        })
        .collect()
}

/// `attachedRoutes` by listener.
#[must_use]
pub fn attached_routes(status: &Value) -> BTreeMap<String, u64> {
    let Ok(Status { conditions: _, listeners, parents: _, ancestors: _ }) = Status::deserialize(status) else {
        return BTreeMap::new();
    };
    listeners.into_iter().map(|listener| (listener.name, listener.attached_routes)).collect()
}

fn shown(part: &Part, condition: Condition) -> ShownCondition {
    let Condition { r#type, status, reason, message } = condition;
    ShownCondition { part: part.clone(), r#type, status, reason, message }
}

impl Overview {
    /// What is wanted: documents as etcd would hold them, without private keys, and statuses as they would be then.
    #[must_use]
    pub fn wanted(desired: &Desired, settings: &Settings) -> Self {
        Self::standing(desired, settings, &|id| match desired.wanted(id) {
            Wanted::Refused(why) => Standing::Refused(why),
            Wanted::Absent | Wanted::Document(_) | Wanted::Kept { .. } => Standing::Programmed,
        })
    }

    /// Of a translation whose documents stand in etcd as `standing` says: only those that are there as wanted are shown.
    #[must_use]
    pub fn standing(desired: &Desired, settings: &Settings, standing: &dyn Fn(&WorkId) -> Standing) -> Self {
        let status = |object: ObjectRef| {
            let verdict = desired.verdict(&object)?;
            let status = conditions::render(&object, &verdict, &settings.controller_name, standing);
            (!says_nothing(&object, &status)).then_some((object, status))
        };
        let there = |id: &WorkId| !id.is_placeholder() && standing(id) == Standing::Programmed;
        let documents = desired.documents().into_iter().filter(there);
        Self {
            instance: Arc::clone(&settings.instance),
            documents: documents.filter_map(|id| document(desired, &id).map(|bytes| (id, bytes))).collect(),
            statuses: desired.verdicts().into_iter().filter_map(status).collect(),
        }
    }

    /// Every condition of every object, in their order.
    pub fn conditions(&self) -> impl Iterator<Item = (&ObjectRef, ShownCondition)> {
        self.statuses.iter().flat_map(|(object, status)| {
            parts(object, status)
                .into_iter()
                .flat_map(|(_, conditions)| conditions)
                .map(move |condition| (object, condition))
        })
    }

    fn planes(&self) -> BTreeSet<Plane> {
        self.documents.keys().map(|id| id.plane).collect()
    }

    /// The upstream of each route that has one, on the first of its data planes, and the stream_routes of all that name it, in order.
    #[must_use]
    pub fn places(&self) -> BTreeMap<&ObjectRef, Places> {
        let mut slots: BTreeMap<WorkId, Vec<WorkId>> = BTreeMap::new();
        for (id, value) in self.documents.iter().filter(|(id, _)| id.directory == Directory::StreamRoutes) {
            if let Some(pool) = documents::named_pool(id.plane, value) {
                slots.entry(pool).or_default().push(id.clone());
            }
        }
        let routes = self.statuses.keys().filter(|object| Kind::ROUTES.contains(&object.kind));
        routes
            .filter_map(|route| {
                let of = |plane| ids::pool(plane, &self.instance, route.kind, &route.name);
                let pools = self.planes().into_iter().map(of).filter(|pool| self.documents.contains_key(pool));
                let pools: Vec<WorkId> = pools.collect();
                let slots = pools.iter().filter_map(|pool| slots.remove(pool)).flatten().collect();
                let pool = pools.into_iter().next()?;
                let nodes = documents::nodes(self.documents.get(&pool)?);
                Some((route, Places { slots, pool, nodes }))
            })
            .collect()
    }
}

/// The bytes that are put at `id` where etcd holds nothing, as they may be shown.
fn document(desired: &Desired, id: &WorkId) -> Option<Arc<[u8]>> {
    let (Wanted::Document(document) | Wanted::Kept { otherwise: Some(document) }) = desired.wanted(id) else {
        return None;
    };
    // A slot is not written while its pool or certificate cannot be.
    let led_nowhere = document.needs().any(|need| matches!(desired.wanted(need), Wanted::Refused(_)));
    (!led_nowhere).then(|| match documents::shown(id, &document.bytes) {
        Cow::Borrowed(_) => Arc::clone(&document.bytes),
        Cow::Owned(shown) => shown.into(),
    })
}

/// Whether a status only says that there is nothing of ours in it: a route none of whose parents is ours, a
/// policy that concerns no Gateway of ours.
fn says_nothing(object: &ObjectRef, status: &Value) -> bool {
    match object.kind {
        Kind::TcpRoute | Kind::UdpRoute | Kind::TlsRoute => {
            status.get("parents").and_then(Value::as_array).is_none_or(Vec::is_empty)
        }
        Kind::BackendTlsPolicy => status.get("ancestors").and_then(Value::as_array).is_none_or(Vec::is_empty),
        Kind::DataPlane
        | Kind::GatewayClass
        | Kind::Gateway
        | Kind::ListenerSet
        | Kind::ReferenceGrant
        | Kind::Namespace
        | Kind::Secret
        | Kind::Service
        | Kind::EndpointSlice => false,
    }
}

/// Where a route stands in etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The stream_routes that lead to it.
    pub slots: Vec<WorkId>,
    /// Its upstream.
    pub pool: WorkId,
    /// The nodes of its upstream.
    pub nodes: Vec<documents::Node>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::ObjectName;
    use serde_json::json;

    fn condition(r#type: &str, status: &str) -> Value {
        json!({"type": r#type, "status": status, "reason": "R", "message": "m"})
    }

    #[test]
    fn every_part_of_a_status_is_found() {
        let gateway = ObjectRef::new(Kind::Gateway, ObjectName::new("a", "gw"));
        let status = json!({
            "conditions": [condition("Accepted", "True")],
            "listeners": [{"name": "foo", "attachedRoutes": 2, "conditions": [condition("Programmed", "False")]}],
        });
        let found: Vec<_> = parts(&gateway, &status).into_iter().map(|(part, all)| (part, all.len())).collect();
        assert_eq!(found, [(Part::Whole, 1), (Part::Listener("foo".to_owned()), 1)]);
        assert_eq!(attached_routes(&status).get("foo"), Some(&2));
    }

    #[test]
    fn parents_are_named_from_where_the_route_stands() {
        let route = ObjectRef::new(Kind::TcpRoute, ObjectName::new("a", "r"));
        let parent = |reference: Value| json!({"parentRef": reference, "conditions": []});
        let status = json!({"parents": [
            parent(json!({"name": "gw"})),
            parent(json!({"namespace": "a", "name": "gw", "sectionName": "foo"})),
            parent(json!({"namespace": "b", "name": "gw", "sectionName": "foo", "port": 9100})),
        ]});
        let names: Vec<_> = parts(&route, &status).into_iter().map(|(part, _)| part.to_string()).collect();
        assert_eq!(names, [" at gw", " at gw/foo", " at b/gw/foo:9100"]);
    }

    #[test]
    fn only_positive_conditions_that_are_false_refuse() {
        let refuses = |r#type: &str, status: &str| {
            let condition: Condition = serde_json::from_value(condition(r#type, status)).unwrap();
            shown(&Part::Whole, condition).refuses()
        };
        assert!(refuses("Accepted", "False"));
        assert!(refuses("apisix-etcd.io/Programmed", "False"));
        assert!(!refuses("Accepted", "True"));
        assert!(!refuses("Accepted", "Unknown"));
        assert!(!refuses("Conflicted", "False"));
    }
}
