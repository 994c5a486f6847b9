//! Tables for people: where every route stands, what every listener carries, and what was refused and why.
//!
//! An [`Overview`] goes in, text comes out. Rows stay short however large the cluster is: messages stand in a section of
//! their own, and long lists of nodes are cut (the JSON output has them all).

use super::overview::{Overview, Part, Places, ShownCondition, attached_routes, parts};
use crate::{
    apisix::documents::{DEAD_NODE, Node},
    model::{
        names::{Kind, ObjectRef},
        places::WorkId,
    },
    status::reasons::ConditionStatus,
};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

/// Nodes shown of one upstream.
const NODES_SHOWN: usize = 6;

/// Columns of output that goes to a file or another program, where nothing should be wrapped.
const UNWRAPPED: Option<u16> = None;

/// Every section that has something in it, each under its heading. `width` is how many columns there are to write in; `None`
/// wraps nothing.
#[must_use]
pub fn render(overview: &Overview, width: Option<u16>) -> String {
    let places = overview.places();
    let mut routes = table(width, &["ROUTE", "PARENT", "SLOT", "NODES (WEIGHT)", "CONDITIONS"]);
    let mut gateways = table(width, &["GATEWAY", "LISTENER", "ROUTES", "CONDITIONS"]);
    let mut policies = table(width, &["POLICY", "GATEWAY", "CONDITIONS"]);
    let mut classes = table(width, &["CLASS", "CONDITIONS"]);
    let mut planes = table(width, &["DATA PLANE", "CONDITIONS"]);
    for (object, status) in &overview.statuses {
        match object.kind {
            Kind::TcpRoute | Kind::UdpRoute | Kind::TlsRoute => {
                add_route(&mut routes, object, status, places.get(object));
            }
            Kind::Gateway | Kind::ListenerSet => add_gateway(&mut gateways, object, status),
            Kind::DataPlane => add_class(&mut planes, object, status),
            Kind::BackendTlsPolicy => add_policy(&mut policies, object, status),
            Kind::GatewayClass => add_class(&mut classes, object, status),
            // These have no status of ours.
            Kind::ReferenceGrant | Kind::Namespace | Kind::Secret | Kind::Service | Kind::EndpointSlice => {}
        }
    }
    let sections =
        [routes, gateways, policies, classes, planes, refusals(overview, width)].map(|table| finished(&table));
    sections.into_iter().filter(|section| !section.is_empty()).collect::<Vec<_>>().join("\n")
}

/// How wide standard output is, if it is a terminal.
#[must_use]
pub fn terminal_width() -> Option<u16> {
    terminal_size::terminal_size_of(std::io::stdout()).map_or(UNWRAPPED, |(width, _)| Some(width.0))
}

/// A table without lines, as kubectl prints them.
#[must_use]
pub fn table(width: Option<u16>, header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    match width {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    table
}

/// The text of a table, without blanks at the ends of lines; nothing for a table without rows.
#[must_use]
pub fn finished(table: &Table) -> String {
    if table.is_empty() {
        return String::new();
    }
    table.lines().flat_map(|line| [line.trim_end().to_owned(), "\n".to_owned()]).collect()
}

/// One row for each parent; where the route stands is said once.
fn add_route(table: &mut Table, route: &ObjectRef, status: &Value, places: Option<&Places>) {
    let mut name = route.to_string();
    let (mut slots, mut nodes) = match places {
        Some(Places { slots, pool: _, nodes }) => (lines(slots_named(slots)), lines_of(nodes)),
        None => ("-".to_owned(), "-".to_owned()),
    };
    for (part, conditions) in parts(route, status) {
        let parent = match part {
            Part::Parent(parent) => parent,
            Part::Whole | Part::Listener(_) => String::new(),
        };
        let cells = [std::mem::take(&mut name), parent, std::mem::take(&mut slots), std::mem::take(&mut nodes)];
        table.add_row(cells.into_iter().chain([summary(&conditions)]));
    }
}

/// The ids of slots, with their prefixes where these differ.
fn slots_named(slots: &[WorkId]) -> impl Iterator<Item = String> {
    let differ = slots.iter().any(|slot| slots.first().is_some_and(|first| first.plane != slot.plane));
    slots.iter().map(move |slot| if differ { format!("{} {}", slot.plane, slot.id) } else { slot.id.to_string() })
}

/// One row for the Gateway or ListenerSet, one for each listener.
fn add_gateway(table: &mut Table, gateway: &ObjectRef, status: &Value) {
    let attached = attached_routes(status);
    for (part, conditions) in parts(gateway, status) {
        let [name, listener, routes] = match part {
            Part::Whole if gateway.kind == Kind::Gateway => [gateway.name.to_string(), String::new(), String::new()],
            Part::Whole => [gateway.to_string(), String::new(), String::new()],
            Part::Listener(listener) => {
                let routes = attached.get(&listener).map(u64::to_string).unwrap_or_default();
                [String::new(), listener, routes]
            }
            Part::Parent(parent) => [String::new(), parent, String::new()],
        };
        table.add_row([name, listener, routes, summary(&conditions)]);
    }
}

/// One row for each Gateway.
fn add_policy(table: &mut Table, policy: &ObjectRef, status: &Value) {
    let mut name = policy.to_string();
    for (part, conditions) in parts(policy, status) {
        let gateway = match part {
            Part::Parent(gateway) => gateway,
            Part::Whole | Part::Listener(_) => String::new(),
        };
        table.add_row([std::mem::take(&mut name), gateway, summary(&conditions)]);
    }
}

/// One row for the GatewayClass or DataPlane.
fn add_class(table: &mut Table, class: &ObjectRef, status: &Value) {
    for (_, conditions) in parts(class, status) {
        table.add_row([class.name.to_string(), summary(&conditions)]);
    }
}

/// What is not served, with the whole reason.
fn refusals(overview: &Overview, width: Option<u16>) -> Table {
    let mut table = table(width, &["REFUSED", "CONDITION", "WHY"]);
    for (object, condition) in overview.conditions().filter(|(_, condition)| condition.refuses()) {
        let what = format!("{object}{}", condition.part);
        table.add_row([what, format!("{}: {}", short(&condition.r#type), condition.reason), condition.message]);
    }
    table
}

/// What holds, in one line; then what does not, with its reason, in a line each.
fn summary(conditions: &[ShownCondition]) -> String {
    let holds = |condition: &&ShownCondition| condition.status == ConditionStatus::True.as_str();
    let holding: Vec<&str> = conditions.iter().filter(holds).map(|condition| short(&condition.r#type)).collect();
    let holding = Some(holding.join(" ")).filter(|line| !line.is_empty());
    let failing = conditions.iter().filter(|condition| !holds(condition)).map(|condition| {
        let ShownCondition { r#type, status, reason, part: _, message: _ } = condition;
        let r#type = short(r#type);
        if status == ConditionStatus::False.as_str() {
            format!("not {type}: {reason}")
        } else {
            format!("{type} unknown: {reason}")
        }
    });
    lines(holding.into_iter().chain(failing))
}

/// A condition's type without the domain of our own ones.
pub(super) fn short(r#type: &str) -> &str {
    r#type.rsplit_once('/').map_or(r#type, |(_, name)| name)
}

fn lines_of(nodes: &[Node]) -> String {
    if nodes.is_empty() {
        return "none".to_owned();
    }
    let shown = nodes.iter().take(NODES_SHOWN).map(node);
    let more = nodes.len().saturating_sub(NODES_SHOWN);
    lines(shown.chain((more > 0).then(|| format!("and {more} more"))))
}

/// A node with its weight; the dead one by what it is for.
pub(super) fn node(node: &Node) -> String {
    let Node { address, weight } = node;
    if *address == DEAD_NODE { format!("refused ({weight})") } else { format!("{address} ({weight})") }
}

fn lines(lines: impl IntoIterator<Item = String>) -> String {
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        apisix::{
            documents::{Scheme, To, stream_route, upstream},
            ids,
        },
        model::{
            names::ObjectName,
            places::{Plane, Port, Slot},
        },
    };
    use serde_json::json;

    fn condition(r#type: &str, status: &str, reason: &str, message: &str) -> Value {
        json!({"type": r#type, "status": status, "reason": reason, "message": message})
    }

    fn overview(n_nodes: u8) -> Overview {
        let sealing = "default";
        let port = Port::new(9100).unwrap();
        let name = ObjectName::new("default", "tcp-app");
        let (slot, pool) =
            (ids::port_slot(Plane::default(), port), ids::pool(Plane::default(), "default", Kind::TcpRoute, &name));
        let nodes: Vec<_> =
            (1..=n_nodes).map(|last| Node { address: ([192, 0, 2, last], 8080).into(), weight: 1 }).collect();
        let route = stream_route(
            sealing,
            &slot,
            &Slot::of_port(port),
            To { pool: &pool, certificate: None, split: None, passthrough: false },
            "",
        )
        .unwrap();
        let upstream = upstream(sealing, &pool, Scheme::Tcp, &nodes, "").unwrap();
        let status = json!({"parents": [
            {"parentRef": {"name": "gw", "sectionName": "foo"}, "conditions": [
                condition("Accepted", "True", "Accepted", ""),
                condition("apisix-etcd.io/Programmed", "True", "Programmed", "")]},
            {"parentRef": {"name": "gw", "sectionName": "bar"}, "conditions": [
                condition("Accepted", "False", "NoMatchingParent", "There is no listener bar.")]},
        ]});
        Overview {
            instance: "default".into(),
            documents: [(slot, route.into_bytes().into()), (pool, upstream.into_bytes().into())].into(),
            statuses: [(ObjectRef::new(Kind::TcpRoute, name), status)].into(),
        }
    }

    #[test]
    fn slots_of_several_data_planes_are_told_apart() {
        let port = 9100.try_into().unwrap();
        let [one, other] = [Plane::default(), Plane::of("/edge")].map(|plane| ids::port_slot(plane, port));
        let named = |slots: &[WorkId]| slots_named(slots).collect::<Vec<_>>();
        assert_eq!(named(&[one.clone(), other.clone()]), ["/apisix gateway-api.9100", "/edge gateway-api.9100"]);
        assert_eq!(named(&[other]), ["gateway-api.9100"]);
    }

    #[test]
    fn a_route_is_shown_with_its_slot_nodes_and_conditions_and_refusals_apart() {
        let text = render(&overview(2), None);
        let want = "\
 ROUTE            PARENT  SLOT              NODES (WEIGHT)       CONDITIONS
 TCPRoute default/tcp-app  gw/foo  gateway-api.9100  192.0.2.1:8080 (1)   Accepted Programmed
                                            192.0.2.2:8080 (1)
                  gw/bar                                         not Accepted: NoMatchingParent

 REFUSED                             CONDITION                   WHY
 TCPRoute default/tcp-app at gw/bar  Accepted: NoMatchingParent  There is no listener bar.
";
        let squeeze = |text: &str| {
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(squeeze(&text), squeeze(want), "{text}");
    }

    #[test]
    fn long_lists_of_nodes_are_cut() {
        let text = render(&overview(9), None);
        assert!(text.contains("192.0.2.6:8080 (1)") && !text.contains("192.0.2.7:8080"), "{text}");
        assert!(text.contains("and 3 more"), "{text}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let text = render(&overview(2), Some(60));
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
    }

    #[test]
    fn nothing_to_show_is_no_text() {
        assert_eq!(render(&Overview::default(), None), "");
    }
}
