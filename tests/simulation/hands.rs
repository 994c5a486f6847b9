//! What hands other than ours do in etcd: people who edit and delete, other programs, another instance. The state of the world
//! goes in; the keys are written as they would write them.

use super::{INSTANCE, PREFIX, heal::OTHER_LANE, link::Weather, replica::translation, script::World};
use apisix_etcd_controller::{
    apisix::ids,
    model::places::{Directory, Plane, WorkId},
    store::{Content, PagePlace, Scope, Store as _, checkpoint::Checkpoint},
    translate::desired::{self, Desired, Wanted},
};
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::sleep;

/// What another instance that writes the same prefix has recorded.
pub(crate) fn other_checkpoint() -> Vec<u8> {
    let record = Checkpoint {
        instance: "another".into(),
        cluster: "another cluster".into(),
        prefixes: [(PREFIX.into(), "".into())].into(),
        versions: BTreeMap::new(),
        sequence: 1,
        holder: "another replica".into(),
        written_at: 0,
    };
    record.encode()
}

impl World {
    /// An id that a document of ours has, or could have.
    pub(crate) fn some_id(&self) -> WorkId {
        let desired = self.desired(INSTANCE);
        let ids: Vec<WorkId> = desired.documents().into_iter().filter(|id| !id.is_placeholder()).collect();
        match self.dice.pick(&ids) {
            Some(id) if !self.dice.chance(20) => id.clone(),
            Some(_) | None => {
                let port = self.dice.number(9100..=9104);
                WorkId::new(Plane::of(PREFIX), Directory::StreamRoutes, &format!("gateway-api.{port}"))
            }
        }
    }

    fn desired(&self, instance: &str) -> Desired {
        let mut desired = Desired::new(desired::Settings { instance: instance.into(), ..translation() });
        for (kind, objects) in self.cluster.objects() {
            desired.note_list(kind, objects);
        }
        desired.settle();
        desired
    }

    /// A key that is there, of our shape or not.
    pub(crate) async fn some_key(&self, ours: bool) -> Option<String> {
        let scope = Scope::Below(PREFIX.into());
        let page = self.store.page(&scope, Content::KeysOnly, PagePlace::First).await.ok()?;
        let keys = page.entries.into_iter().map(|entry| String::from_utf8_lossy(&entry.key).into_owned());
        let keys: Vec<String> =
            keys.filter(|key| (key.contains("gateway-api.") || key.ends_with('/')) == ours).collect();
        self.dice.pick(&keys).cloned()
    }

    pub(crate) async fn edit(&self) {
        let Some(key) = self.some_key(true).await else { return };
        let Some(held) = self.store.get(&key) else { return };
        let text = String::from_utf8_lossy(&held.value).into_owned();
        let edited = match self.dice.number(0..=4) {
            0 => text.replace("\"port\":8080", "\"port\":8081"),
            1 => text.replace("\"server_port\":91", "\"server_port\":92"),
            2 => text.replace(":9101", ":9102"),
            3 => "{}".to_owned(),
            _ => format!(" {text}"),
        };
        self.say(format!("somebody edits {key}"));
        self.store.put(&key, edited);
    }

    /// A stream_route or something else that nobody sealed.
    pub(crate) fn stranger(&self) -> String {
        let pools = self.desired(INSTANCE).documents().into_iter().filter(|id| id.directory == Directory::Upstreams);
        let pools: Vec<WorkId> = pools.filter(|id| !id.is_placeholder()).collect();
        let upstream = self.dice.pick(&pools).map_or("1".to_owned(), |pool| pool.id.to_string());
        let port = self.dice.number(9100..=9104);
        match self.dice.number(0..=5) {
            0 => json!({"id": "1", "upstream_id": upstream}).to_string(),
            1 => json!({"id": "1", "server_port": port, "sni": "a.example", "upstream_id": upstream}).to_string(),
            2 => "not json".to_owned(),
            _ => json!({"id": "1", "server_port": port, "upstream_id": upstream}).to_string(),
        }
    }

    /// Somebody puts or deletes what only the leader may.
    pub(crate) async fn meddle_with_control(&self) {
        let scope = Scope::Below("/control/default".into());
        let Ok(page) = self.store.page(&scope, Content::Values, PagePlace::First).await else { return };
        let Some(entry) = self.dice.pick(&page.entries) else { return };
        let key = String::from_utf8_lossy(&entry.key).into_owned();
        // A leader key without a lease would stay until a person takes it away. Nonsense in a lane that the leader does not
        // use stops the standbys, and a reset waits for the leader: that is left out.
        let least = if key.ends_with("leader") { 5 } else { 1 };
        match self.dice.number(least..=9) {
            0 => {
                self.say(format!("somebody puts nonsense into {key}"));
                self.store.put(&key, "nonsense");
            }
            1..=4 => {
                self.say(format!("somebody puts {key} once more"));
                self.store.put(&key, &entry.value);
            }
            _ => {
                self.say(format!("somebody deletes {key}"));
                self.store.delete(&key);
            }
        }
    }

    /// Another instance of the controller writes one of its documents, or goes.
    pub(crate) fn other_instance(&self) {
        let desired = self.desired("another");
        let ids: Vec<WorkId> = desired.documents().into_iter().filter(|id| !id.is_placeholder()).collect();
        let Some(id) = self.dice.pick(&ids) else { return };
        let key = id.key();
        if self.dice.chance(30) {
            self.say(format!("another instance deletes {key}"));
            self.store.delete(&key);
        } else if let Wanted::Document(document) = desired.wanted(id) {
            self.say(format!("another instance puts {key}"));
            self.store.put(&key, document.bytes);
        }
    }

    /// Another instance begins: it records itself, writes one of its documents, and somebody edits that at once.
    pub(crate) fn other_begins(&self) {
        let desired = self.desired("another");
        let ids: Vec<WorkId> = desired.documents().into_iter().filter(|id| !id.is_placeholder()).collect();
        let Some(id) = self.dice.pick(&ids) else { return };
        let Wanted::Document(document) = desired.wanted(id) else { return };
        let key = id.key();
        if self.store.get(OTHER_LANE).is_some() || self.store.get(&key).is_some() {
            return;
        }
        self.say(format!("another instance begins with {key}, which somebody edits"));
        self.store.put(OTHER_LANE, other_checkpoint());
        self.store.put(&key, &document.bytes);
        self.store.put(&key, [b" ", &*document.bytes].concat());
    }

    /// Somebody puts a stream_route of a port of his own that names a pool that is there, and one replica's watch loses that: a
    /// pool that the others keep for it looks unused to this one.
    pub(crate) async fn squat(&self) {
        let Some(pool) = self.some_pool().await else { return };
        let replica = self.someone();
        let Some(link) = self.links.get(replica) else { return };
        let before = link.weather();
        link.set(Weather { forgetful: 100, ..before });
        let key = format!("{PREFIX}/stream_routes/{}", self.dice.number(5..=6));
        self.say(format!("somebody puts {key} that names {pool}, and replica {replica} does not hear of it"));
        self.store.put(&key, json!({"id": "5", "server_port": 9199, "upstream_id": pool}).to_string());
        sleep(Duration::from_millis(before.slow.max(before.behind) + 1)).await;
        link.set(before);
    }

    async fn some_pool(&self) -> Option<String> {
        let pools = format!("{PREFIX}/upstreams");
        let page =
            self.store.page(&Scope::Below(pools.as_str().into()), Content::KeysOnly, PagePlace::First).await.ok()?;
        let keys = page.entries.into_iter().map(|entry| String::from_utf8_lossy(&entry.key).into_owned());
        let ids: Vec<String> =
            keys.filter_map(|key| Some(key.strip_prefix(&pools)?.strip_prefix('/')?.to_owned())).collect();
        self.dice.pick(&ids).filter(|id| ids::is_our_shape(id)).cloned()
    }
}
