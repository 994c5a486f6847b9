//! The checkpoint of an instance, for people and for programs: what each lane holds, which record is the newest, who leads.
//!
//! Records go in, a [`ShownCheckpoint`] comes out, which serialises as the object that `--output json` prints, or is made
//! into tables.

use super::table;
use crate::store::{
    checkpoint::Checkpoint,
    records::{LaneRecord, LeaderRecord, Records},
};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// What is known of an instance's checkpoint.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShownCheckpoint {
    /// Of which instance.
    pub instance: String,
    /// Where its keys are.
    pub control_prefix: String,
    /// Who leads; null if nobody does.
    pub leader: Option<ShownLeader>,
    /// The lane with the newest record; null without lanes, and while one of them cannot be used.
    pub newest: Option<u32>,
    /// By number.
    pub lanes: Vec<ShownLane>,
    /// Keys among the lanes that are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strangers: Vec<String>,
}

/// Who leads.
#[derive(Debug, Serialize)]
pub struct ShownLeader {
    /// What it calls itself.
    pub holder: String,
    /// Since which revision of etcd.
    pub since: i64,
}

/// What a lane holds: a record, or why there is none that can be used.
#[derive(Debug, Serialize)]
pub struct ShownLane {
    /// Its number.
    pub lane: u32,
    /// The revision that wrote it last.
    pub revision: i64,
    /// What it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<ShownRecord>,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One record.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShownRecord {
    /// Whose.
    pub instance: String,
    /// From which cluster; empty after a reset.
    pub cluster: String,
    /// Its place among all records of the instance.
    pub sequence: u64,
    /// The replica that wrote it.
    pub holder: String,
    /// When.
    pub written_at: String,
    /// Prefixes with documents of the instance, and their data planes.
    pub prefixes: BTreeMap<String, String>,
    /// Up to which version each resource was known.
    pub versions: BTreeMap<String, u64>,
}

impl ShownCheckpoint {
    /// Of `instance`, whose keys are below `control_prefix`.
    #[must_use]
    pub fn new(instance: &str, control_prefix: &str, leader: Option<&LeaderRecord>, records: &Records) -> Self {
        let Records { revision: _, lanes, strangers } = records;
        let newest =
            records.newest().ok().flatten().and_then(|newest| {
                lanes.iter().find(|lane| lane.record.as_ref() == Ok(&newest)).map(|lane| lane.number)
            });
        Self {
            instance: instance.to_owned(),
            control_prefix: control_prefix.to_owned(),
            leader: leader
                .map(|LeaderRecord { holder, created }| ShownLeader { holder: holder.to_string(), since: created.0 }),
            newest,
            lanes: lanes.iter().map(ShownLane::new).collect(),
            strangers: strangers.iter().map(ToString::to_string).collect(),
        }
    }

    /// Whether a controller would stop here, whatever its cluster.
    #[must_use]
    pub fn unusable(&self) -> bool {
        self.lanes.iter().any(|lane| lane.error.is_some())
    }
}

impl ShownLane {
    fn new(lane: &LaneRecord) -> Self {
        let LaneRecord { number, mod_revision, record } = lane;
        let (record, error) = match record {
            Ok(record) => (Some(ShownRecord::new(record)), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self { lane: *number, revision: mod_revision.0, record, error }
    }
}

impl ShownRecord {
    fn new(record: &Checkpoint) -> Self {
        let Checkpoint { instance, cluster, prefixes, versions, sequence, holder, written_at } = record;
        Self {
            instance: instance.to_string(),
            cluster: cluster.to_string(),
            sequence: *sequence,
            holder: holder.to_string(),
            written_at: Timestamp::from_second(*written_at)
                .map_or_else(|_| written_at.to_string(), |at| at.to_string()),
            prefixes: prefixes.iter().map(|(prefix, plane)| (prefix.to_string(), plane.to_string())).collect(),
            versions: versions.iter().map(|(resource, version)| (resource.to_string(), version.0)).collect(),
        }
    }
}

/// Tables: every lane, what the newest record says, and what cannot be used. `width` is how many columns there are to write
/// in; `None` wraps nothing.
#[must_use]
pub fn render(shown: &ShownCheckpoint, width: Option<u16>) -> String {
    let ShownCheckpoint { instance, control_prefix, leader, newest, lanes, strangers } = shown;
    let leader = match leader {
        Some(ShownLeader { holder, since }) => format!("{holder} leads it since revision {since}."),
        None => "Nobody leads it.".to_owned(),
    };
    let mut sections = vec![format!("Instance {instance} below {control_prefix}. {leader}\n")];
    if lanes.is_empty() {
        sections.push("It has no checkpoint: nothing was written yet.\n".to_owned());
    }
    let mut table = table::table(width, &["LANE", "SEQUENCE", "WRITTEN", "BY", "CLUSTER"]);
    for lane in lanes {
        let Some(record) = &lane.record else { continue };
        let number = if Some(lane.lane) == *newest { format!("{} (newest)", lane.lane) } else { lane.lane.to_string() };
        let cluster = if record.cluster.is_empty() { "any may follow (reset)" } else { &*record.cluster };
        let [sequence, written, by] = [&record.sequence.to_string(), &*record.written_at, &*record.holder];
        table.add_row([&*number, sequence, written, by, cluster]);
    }
    sections.push(table::finished(&table));
    let newest = lanes.iter().find(|lane| Some(lane.lane) == *newest).and_then(|lane| lane.record.as_ref());
    if let Some(ShownRecord { prefixes, versions, .. }) = newest {
        let mut table = table::table(width, &["PREFIX WITH DOCUMENTS", "DATA PLANE"]);
        for (prefix, data_plane) in prefixes {
            table.add_row([&**prefix, if data_plane.is_empty() { "-" } else { &**data_plane }]);
        }
        sections.push(table::finished(&table));
        let mut table = table::table(width, &["RESOURCE", "KNOWN UP TO VERSION"]);
        for (resource, version) in versions {
            table.add_row([resource.clone(), version.to_string()]);
        }
        sections.push(table::finished(&table));
    }
    sections.push(unusable(lanes, strangers, width));
    sections.retain(|section| !section.is_empty());
    sections.join("\n")
}

fn unusable(lanes: &[ShownLane], strangers: &[String], width: Option<u16>) -> String {
    let mut table = table::table(width, &["UNUSABLE", "WHY"]);
    for lane in lanes {
        if let Some(error) = &lane.error {
            let why = format!("{error}; nothing is written while it is there");
            table.add_row([format!("lane {}", lane.lane), why]);
        }
    }
    for stranger in strangers {
        table.add_row([&**stranger, "it is no lane's key, and nobody reads it"]);
    }
    table::finished(&table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::versions::CacheVersion,
        store::{checkpoint::CheckpointError, txn::Revision},
    };

    fn record(sequence: u64, cluster: &str) -> Result<Checkpoint, CheckpointError> {
        Ok(Checkpoint {
            instance: "blue".into(),
            cluster: cluster.into(),
            prefixes: [("/apisix".into(), "".into())].into(),
            versions: [("services".into(), CacheVersion(7))].into(),
            sequence,
            holder: "blue-0".into(),
            written_at: 1_700_000_000,
        })
    }

    fn shown(records: Vec<Result<Checkpoint, CheckpointError>>) -> ShownCheckpoint {
        let lane = |(number, record)| LaneRecord { number, mod_revision: Revision(5), record };
        let lanes = (0..).zip(records).map(lane).collect();
        let records = Records { revision: Revision(9), lanes, strangers: vec!["/control/blue/lanes/x".into()] };
        let leader = LeaderRecord { holder: "blue-1".into(), created: Revision(3) };
        ShownCheckpoint::new("blue", "/control", Some(&leader), &records)
    }

    fn squeezed(text: &str) -> Vec<String> {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn the_newest_record_is_marked_and_shown_whole() {
        let shown = shown(vec![record(11, "f0e1"), record(12, "f0e1")]);
        assert!(!shown.unusable());
        let want = [
            "Instance blue below /control. blue-1 leads it since revision 3.",
            "",
            "LANE SEQUENCE WRITTEN BY CLUSTER",
            "0 11 2023-11-14T22:13:20Z blue-0 f0e1",
            "1 (newest) 12 2023-11-14T22:13:20Z blue-0 f0e1",
            "",
            "PREFIX WITH DOCUMENTS DATA PLANE",
            "/apisix -",
            "",
            "RESOURCE KNOWN UP TO VERSION",
            "services 7",
            "",
            "UNUSABLE WHY",
            "/control/blue/lanes/x it is no lane's key, and nobody reads it",
        ];
        assert_eq!(squeezed(&render(&shown, None)), want);
    }

    #[test]
    fn a_record_that_cannot_be_used_is_named_and_leaves_no_newest() {
        let newer = CheckpointError::NewerFormat { found: 2, known: 1 };
        let shown = shown(vec![record(11, ""), Err(newer)]);
        assert!(shown.unusable() && shown.newest.is_none());
        let text = render(&shown, None);
        assert!(text.contains("any may follow (reset)") && text.contains("the checkpoint has format 2"), "{text}");
        let json = serde_json::to_value(&shown).unwrap();
        assert_eq!(json["lanes"][0]["record"]["writtenAt"], "2023-11-14T22:13:20Z");
        assert_eq!(json["lanes"][0]["record"]["versions"]["services"], 7);
        assert!(json["lanes"][1]["error"].as_str().unwrap().contains("format 2"), "{json}");
    }

    #[test]
    fn nothing_is_shown_of_what_was_never_written() {
        let text = render(&ShownCheckpoint { leader: None, strangers: vec![], ..shown(vec![]) }, None);
        assert_eq!(
            squeezed(&text)[..3],
            ["Instance blue below /control. Nobody leads it.", "", "It has no checkpoint: nothing was written yet."]
        );
    }
}
