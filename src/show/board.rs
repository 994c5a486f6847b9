//! What `run` shows when it follows a folder: everything once, then only what changed.
//!
//! The translation and how its documents stand in etcd come in from the reconcile loop, whenever it has nothing left to do,
//! and what happened as soon as it does; text goes to standard output. Nothing is written back into manifests.

use super::{
    overview::{Overview, Part},
    print, table,
};
use crate::{
    apisix::documents,
    model::{
        names::ObjectRef,
        places::{Directory, Plane, WorkId},
        verdicts::Standing,
    },
    status::{
        events::{NOTICES_WAITING, Notice},
        queue::{StatusSink, StatusUpdate},
    },
    translate::desired::{Desired, Settings},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write as _,
};
use tokio::{sync::watch, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

/// Nodes named in one line about an upstream.
const NODES_SHOWN: usize = 4;

/// Hands on how everything stands, each time the loop has nothing left to do, and what happened.
///
/// Only the newest state is kept for whoever prints it: a slow terminal misses what was in between, and holds up nothing. It
/// misses the oldest of many notices, too.
///
/// Clones share where it goes: the loop has one as its sink of statuses, and tells another when it is idle.
#[derive(Clone, Debug)]
pub struct FolderSink {
    settings: Settings,
    news: watch::Sender<News>,
}

/// What there is to show.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// How everything stands; `None` until the loop has had nothing left to do for the first time.
    overview: Option<Overview>,
    /// What happened, oldest first, each with its number.
    notices: VecDeque<(u64, Notice)>,
    n_notices: u64,
}

impl FolderSink {
    /// A sink, and where its news come out.
    #[must_use]
    pub fn new(settings: Settings) -> (Self, watch::Receiver<News>) {
        let (news, receiver) = watch::channel(News::default());
        (Self { settings, news }, receiver)
    }

    /// Hands on how everything stands: documents that are in etcd, and what is said of each object.
    pub fn show(&self, desired: &Desired, standing: &dyn Fn(&WorkId) -> Standing) {
        let overview = Overview::standing(desired, &self.settings, standing);
        self.news.send_modify(|news| news.overview = Some(overview));
    }
}

/// Manifests have no status to write to: what is said of objects is shown with everything else.
impl StatusSink for FolderSink {
    fn publish(&mut self, _: StatusUpdate) {}

    fn forget(&mut self, _: &ObjectRef) {}

    fn announce(&mut self, notice: Notice) {
        self.news.send_modify(|news| {
            if news.notices.len() >= NOTICES_WAITING {
                news.notices.pop_front();
            }
            news.n_notices += 1;
            news.notices.push_back((news.n_notices, notice));
        });
    }
}

/// Prints news as they come, until `stop` or the end of the loop they come from. Dropping it loses at most one print.
pub async fn print_overviews(mut news: watch::Receiver<News>, plane: Plane, stop: CancellationToken) {
    let mut board = Board::new(plane);
    while let Some(Ok(())) = stop.run_until_cancelled(news.changed()).await {
        let newest = news.borrow_and_update().clone();
        let text = board.news(newest, table::terminal_width());
        // A terminal may be stopped (Ctrl-S) for as long as its user likes.
        let printed = spawn_blocking(move || print(&text));
        if !matches!(stop.run_until_cancelled(printed).await, Some(Ok(()))) {
            return;
        }
    }
}

/// What was shown last.
#[derive(Debug)]
pub struct Board {
    plane: Plane,
    shown: Option<Overview>,
    /// The number of the last notice shown.
    n_notices: u64,
}

impl Board {
    /// Of the documents of `plane`; nothing was shown yet.
    #[must_use]
    pub fn new(plane: Plane) -> Self {
        Self { plane, shown: None, n_notices: 0 }
    }

    /// The text to print next: a line for each notice that was not shown yet, then what [`Board::next`] says.
    #[must_use]
    pub fn news(&mut self, news: News, width: Option<u16>) -> String {
        let News { overview, notices, n_notices } = news;
        let mut text = String::new();
        for (_, notice) in notices.iter().filter(|(number, _)| *number > self.n_notices) {
            line(&mut text, format_args!("{notice}"));
        }
        self.n_notices = n_notices;
        if let Some(overview) = overview {
            text.push_str(&self.next(overview, width));
        }
        text
    }

    /// The text to print next: tables and documents the first time, then a line for each document and condition that is not
    /// as it was shown.
    #[must_use]
    pub fn next(&mut self, overview: Overview, width: Option<u16>) -> String {
        let text = match &self.shown {
            None => self.everything(&overview, width),
            Some(shown) => changes(shown, &overview),
        };
        self.shown = Some(overview);
        text
    }

    fn everything(&self, overview: &Overview, width: Option<u16>) -> String {
        let mut text = table::render(overview, width);
        for (id, value) in &overview.documents {
            let value = serde_json::from_slice(value).unwrap_or(Value::Null);
            line(&mut text, format_args!("\n{}\n{value:#}", id.key()));
        }
        if overview.documents.is_empty() {
            line(&mut text, format_args!("\nno documents of ours under {}", self.plane));
        }
        text
    }
}

/// What differs between two overviews, line by line.
fn changes(shown: &Overview, overview: &Overview) -> String {
    let mut text = String::new();
    let ids: BTreeSet<&WorkId> = shown.documents.keys().chain(overview.documents.keys()).collect();
    for id in ids {
        let key = id.key();
        match (shown.documents.get(id), overview.documents.get(id)) {
            (None, Some(value)) => line(&mut text, format_args!("created {key}{}", nodes(id, value))),
            (Some(_), None) => line(&mut text, format_args!("deleted {key}")),
            (Some(old), Some(new)) if old != new => {
                line(&mut text, format_args!("changed {key}{}", nodes(id, new)));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
    let before = conditions(shown);
    for (place, said) in conditions(overview) {
        if before.get(&place) != Some(&said) {
            let (Place { object, part, r#type }, Said { status, reason, message }) = (place, said);
            let r#type = table::short(&r#type);
            line(&mut text, format_args!("{object}{part}: {type} {status} ({reason}): {message}"));
        }
    }
    for object in shown.statuses.keys().filter(|object| !overview.statuses.contains_key(object)) {
        line(&mut text, format_args!("{object}: gone, or not ours any more"));
    }
    text
}

/// Which condition.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    object: &'a ObjectRef,
    part: Part,
    r#type: String,
}

/// What it says.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    status: String,
    reason: String,
    message: String,
}

fn conditions(overview: &Overview) -> BTreeMap<Place<'_>, Said> {
    let placed = overview.conditions().map(|(object, condition)| {
        let super::overview::ShownCondition { part, r#type, status, reason, message } = condition;
        (Place { object, part, r#type }, Said { status, reason, message })
    });
    placed.collect()
}

/// The nodes of an upstream, as the end of a line.
fn nodes(id: &WorkId, value: &[u8]) -> String {
    match id.directory {
        Directory::StreamRoutes | Directory::Ssls => String::new(),
        Directory::Upstreams => {
            let nodes = documents::nodes(value);
            let more = nodes.len().saturating_sub(NODES_SHOWN);
            let named = nodes.iter().take(NODES_SHOWN).map(table::node);
            let named: Vec<String> = named.chain((more > 0).then(|| format!("{more} more"))).collect();
            if named.is_empty() { ": no nodes".to_owned() } else { format!(": {}", named.join(", ")) }
        }
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        apisix::documents::{Node, Scheme, upstream},
        model::names::{Kind, ObjectName},
        status::events::Severity,
        translate::planes::PlaneSettings,
    };
    use serde_json::json;

    fn overview(last: &[u8], accepted: &str) -> Overview {
        let id = WorkId::new(Plane::default(), Directory::Upstreams, "gateway-api.x");
        let nodes: Vec<_> =
            last.iter().map(|last| Node { address: ([192, 0, 2, *last], 80).into(), weight: 1 }).collect();
        let value = upstream("default", &id, Scheme::Tcp, &nodes, "").unwrap();
        let status = json!({"parents": [{"parentRef": {"name": "gw"}, "conditions": [
            {"type": "Accepted", "status": accepted, "reason": "R", "message": "Because."}]}]});
        Overview {
            instance: "default".into(),
            documents: [(id, value.into_bytes().into())].into(),
            statuses: [(ObjectRef::new(Kind::TcpRoute, ObjectName::new("a", "r")), status)].into(),
        }
    }

    #[test]
    fn everything_is_shown_once_and_then_only_changes() {
        let mut board = Board::new(Plane::default());
        let first = board.next(overview(&[1], "True"), None);
        assert!(first.contains("ROUTE") && first.contains("\n/apisix/upstreams/gateway-api.x\n{\n"), "{first}");
        assert_eq!(board.next(overview(&[1], "True"), None), "");
        assert_eq!(
            board.next(overview(&[1, 2], "True"), None),
            "changed /apisix/upstreams/gateway-api.x: 192.0.2.1:80 (1), 192.0.2.2:80 (1)\n"
        );
        assert_eq!(board.next(overview(&[1, 2], "False"), None), "TCPRoute a/r at gw: Accepted False (R): Because.\n");
        assert_eq!(
            board.next(Overview::default(), None),
            "deleted /apisix/upstreams/gateway-api.x\nTCPRoute a/r: gone, or not ours any more\n"
        );
        let back = board.next(overview(&[], "False"), None);
        assert!(back.starts_with("created /apisix/upstreams/gateway-api.x: no nodes\nTCPRoute a/r at gw: "), "{back}");
    }

    #[test]
    fn a_line_names_a_few_nodes_and_counts_the_rest() {
        let mut board = Board::new(Plane::default());
        let _ = board.next(Overview::default(), None);
        let text = board.next(overview(&[1, 2, 3, 4, 5, 6], "True"), None);
        assert!(text.contains("192.0.2.4:80 (1), 2 more\n"), "{text}");
    }

    #[test]
    fn each_notice_is_a_line_once_whether_or_not_everything_was_shown() {
        let translation = Settings {
            controller_name: "a/b".into(),
            instance: "default".into(),
            plane: PlaneSettings::new(Plane::default(), crate::apisix::version::ApisixVersion::DEFAULT).into(),
        };
        let (mut sink, mut news) = FolderSink::new(translation.clone());
        let mut board = Board::new(Plane::default());
        let mut shown = || board.news(news.borrow_and_update().clone(), None);
        let mut announce = |n: usize| {
            sink.announce(Notice {
                about: ObjectRef::new(Kind::Gateway, ObjectName::new("ns", "edge")),
                reason: "Tested",
                note: format!("Number {n}."),
                severity: Severity::Warning,
            });
        };
        announce(1);
        assert_eq!(shown(), "Gateway ns/edge: Warning (Tested): Number 1.\n");
        assert_eq!(shown(), "");

        announce(2);
        sink.show(&Desired::new(translation), &|_| Standing::Programmed);
        let text = shown();
        assert!(text.starts_with("Gateway ns/edge: Warning (Tested): Number 2.\n") && text.contains("no documents"));
        assert_eq!(shown(), "");
    }

    #[test]
    fn of_many_notices_a_slow_terminal_misses_the_oldest() {
        let (mut sink, news) = FolderSink::new(Settings {
            controller_name: "a/b".into(),
            instance: "default".into(),
            plane: PlaneSettings::new(Plane::default(), crate::apisix::version::ApisixVersion::DEFAULT).into(),
        });
        for n in 0..=NOTICES_WAITING {
            sink.announce(Notice {
                about: ObjectRef::new(Kind::Gateway, ObjectName::new("ns", "edge")),
                reason: "Tested",
                note: format!("Number {n}."),
                severity: Severity::Normal,
            });
        }
        let text = Board::new(Plane::default()).news(news.borrow().clone(), None);
        assert_eq!(text.lines().count(), NOTICES_WAITING);
        assert!(text.starts_with("Gateway ns/edge: Normal (Tested): Number 1.\n"), "{text}");
    }

    #[test]
    fn nothing_of_ours_is_said_too() {
        let text = Board::new(Plane::default()).next(Overview::default(), None);
        assert_eq!(text, "\nno documents of ours under /apisix\n");
    }
}
