//! A store under test, and what a person may do to it behind the controller's back.
//!
//! In: which store, and the test's name, below which its keys are. Out: [`Ground`]: the store, hands on it, a fence that stands.

use super::support::{
    binaries::Binary,
    etcd::{Etcd, shared_etcd},
    wait::PATIENCE,
};
use anyhow::{Context as _, bail, ensure};
use apisix_etcd_controller::store::{
    KeyChange, Scope, Store, Watch as _, WatchBatch,
    etcd::{EtcdSettings, EtcdStore},
    lease::Leases,
    memory::{self, MemoryStore},
    txn::{Action, Commit, CommitError, Condition, Current, Fence, Revision, Txn, Write},
};
use etcd_client::{AlarmAction, AlarmType, Client, ResponseHeader};
use std::{
    future::Future,
    sync::{Arc, LazyLock},
};
use tokio::sync::OnceCell;

/// One kind of store, with hands on it.
pub(crate) trait Hands: Sized {
    type Store: Store + Leases;

    /// One that other tests use as well.
    async fn shared(test: &str) -> anyhow::Result<Ground<Self>>;
    /// One that nobody else uses.
    async fn alone(test: &str) -> anyhow::Result<Ground<Self>>;

    async fn put(&self, key: &str, value: &str) -> anyhow::Result<Revision>;
    async fn delete(&self, key: &str) -> anyhow::Result<Revision>;
    async fn held(&self, key: &str) -> anyhow::Result<Option<Held>>;
    async fn compact(&self, at: Revision) -> anyhow::Result<()>;
    async fn full(&self, full: bool) -> anyhow::Result<()>;
}

/// A key as it is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) value: String,
    pub(crate) created: Revision,
    pub(crate) mod_revision: Revision,
    pub(crate) version: u64,
    pub(crate) leased: bool,
}

/// What a test stands on.
pub(crate) struct Ground<H: Hands> {
    pub(crate) store: H::Store,
    pub(crate) hands: H,
    /// All keys of the test are below.
    pub(crate) root: String,
    /// Stands as long as nobody touches its key, `leader`.
    pub(crate) fence: Fence,
}

impl<H: Hands> Ground<H> {
    async fn new(store: H::Store, hands: H, test: &str) -> anyhow::Result<Self> {
        let root = format!("/contract/{test}");
        let key: Arc<str> = format!("{root}-leader").into();
        let created = hands.put(&key, "test").await?;
        Ok(Self { store, hands, root, fence: Fence { key, created } })
    }

    pub(crate) fn key(&self, name: &str) -> Arc<str> {
        format!("{}/{name}", self.root).into()
    }

    /// Everything of the test.
    pub(crate) fn below(&self) -> Scope {
        Scope::Below(self.root.as_str().into())
    }

    pub(crate) async fn put(&self, name: &str, value: &str) -> anyhow::Result<Revision> {
        self.hands.put(&self.key(name), value).await
    }

    pub(crate) async fn delete(&self, name: &str) -> anyhow::Result<Revision> {
        self.hands.delete(&self.key(name)).await
    }

    pub(crate) async fn held(&self, name: &str) -> anyhow::Result<Option<Held>> {
        self.hands.held(&self.key(name)).await
    }

    /// A write that puts.
    pub(crate) fn puts(&self, name: &str, expected: Revision, value: &str) -> Write {
        Write { key: self.key(name), expected, action: Action::Put(value.as_bytes().into()) }
    }

    /// A write that deletes.
    pub(crate) fn deletes(&self, name: &str, expected: Revision) -> Write {
        Write { key: self.key(name), expected, action: Action::Delete }
    }

    pub(crate) fn condition(&self, name: &str, expected: Revision) -> Condition {
        Condition { key: self.key(name), expected }
    }

    pub(crate) fn txn(&self, writes: Vec<Write>) -> Txn {
        Txn { fence: self.fence.clone(), conditions: vec![], writes }
    }

    pub(crate) async fn applied(&self, txn: Txn) -> anyhow::Result<Revision> {
        match self.store.commit(txn).await? {
            Commit::Applied(revision) => Ok(revision),
            other @ (Commit::Fenced | Commit::Conflicted { .. }) => bail!("not applied but {other:?}"),
        }
    }

    pub(crate) async fn conflicted(&self, txn: Txn) -> anyhow::Result<(Revision, Vec<Current>)> {
        match self.store.commit(txn).await? {
            Commit::Conflicted { at, current } => Ok((at, current)),
            other @ (Commit::Applied(_) | Commit::Fenced) => bail!("not conflicted but {other:?}"),
        }
    }

    pub(crate) async fn fenced(&self, txn: Txn) -> anyhow::Result<()> {
        let answer = self.store.commit(txn).await?;
        ensure!(answer == Commit::Fenced, "not fenced but {answer:?}");
        Ok(())
    }

    pub(crate) async fn refused(&self, txn: Txn) -> anyhow::Result<()> {
        let expected = txn.n_operations();
        match self.store.commit(txn).await {
            Err(CommitError::Refused { n_operations, .. }) if n_operations == expected => Ok(()),
            other => bail!("not refused but {other:?}"),
        }
    }

    pub(crate) fn present(&self, name: &str, at: Revision, value: &str) -> Current {
        Current { key: self.key(name), value: Some((at, value.as_bytes().to_vec())) }
    }

    pub(crate) fn absent(&self, name: &str) -> Current {
        Current { key: self.key(name), value: None }
    }

    pub(crate) async fn watch(&self, from: Revision) -> anyhow::Result<<H::Store as Store>::Watch> {
        Ok(self.store.watch(&self.below(), from).await?)
    }

    /// A change as `name=value`, or `name` when it was deleted.
    pub(crate) fn told(&self, change: &KeyChange) -> anyhow::Result<String> {
        let key = std::str::from_utf8(&change.key)?;
        let name = key.strip_prefix(&self.root).with_context(|| format!("{key} is no key of this test"))?;
        let value = change.value.as_deref().map(std::str::from_utf8).transpose()?;
        Ok(name.trim_start_matches('/').to_owned() + &value.map(|value| format!("={value}")).unwrap_or_default())
    }

    /// What a watch tells up to and including revision `until`: each revision with its changes, in the order in which they
    /// came. Every revision must come in one batch.
    pub(crate) async fn hear(
        &self,
        watch: &mut <H::Store as Store>::Watch,
        until: Revision,
    ) -> anyhow::Result<Vec<(Revision, Vec<String>)>> {
        let mut heard: Vec<(Revision, Vec<String>)> = Vec::new();
        while heard.last().is_none_or(|(revision, _)| *revision < until) {
            let WatchBatch { revision, changes } = soon("a batch", watch.next()).await??;
            let last = changes.last().context("only changes are told so soon")?;
            ensure!(revision == last.revision, "{revision} is not that of {last:?}");
            for (n, change) in changes.iter().enumerate() {
                match heard.last_mut() {
                    Some((revision, told)) if *revision == change.revision => {
                        ensure!(n > 0, "revision {revision} was parted");
                        told.push(self.told(change)?);
                    }
                    _ => heard.push((change.revision, vec![self.told(change)?])),
                }
            }
        }
        Ok(heard)
    }
}

pub(crate) async fn soon<T>(what: &str, awaited: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(PATIENCE, awaited).await.with_context(|| format!("waiting for {what}"))
}

/// The store in memory.
pub(crate) struct Memory(MemoryStore);

impl Hands for Memory {
    type Store = MemoryStore;

    async fn shared(test: &str) -> anyhow::Result<Ground<Self>> {
        static SHARED: LazyLock<MemoryStore> = LazyLock::new(MemoryStore::new);
        Ground::new(SHARED.clone(), Self(SHARED.clone()), test).await
    }

    async fn alone(test: &str) -> anyhow::Result<Ground<Self>> {
        let store = MemoryStore::new();
        Ground::new(store.clone(), Self(store), test).await
    }

    async fn put(&self, key: &str, value: &str) -> anyhow::Result<Revision> {
        Ok(self.0.put(key, value))
    }

    async fn delete(&self, key: &str) -> anyhow::Result<Revision> {
        Ok(self.0.delete(key))
    }

    async fn held(&self, key: &str) -> anyhow::Result<Option<Held>> {
        let Some(memory::Held { value, created, mod_revision, version, lease }) = self.0.get(key) else {
            return Ok(None);
        };
        Ok(Some(Held { value: String::from_utf8(value)?, created, mod_revision, version, leased: lease.is_some() }))
    }

    async fn compact(&self, at: Revision) -> anyhow::Result<()> {
        self.0.compact(at);
        Ok(())
    }

    async fn full(&self, full: bool) -> anyhow::Result<()> {
        self.0.full(full);
        Ok(())
    }
}

/// A real etcd, kept running.
pub(crate) struct Real {
    client: Client,
    _server: Arc<Etcd>,
}

impl Real {
    async fn ground<H: Hands<Store = EtcdStore>>(
        server: Arc<Etcd>,
        hands: impl FnOnce(Self) -> H,
        test: &str,
    ) -> anyhow::Result<Ground<H>> {
        let settings = EtcdSettings { endpoints: vec![server.endpoint().to_owned()], request_timeout: PATIENCE };
        let store = EtcdStore::connect(&settings).await?;
        Ground::new(store, hands(Self { client: server.client().await?, _server: server }), test).await
    }

    async fn put(&self, key: &str, value: &str) -> anyhow::Result<Revision> {
        revision(self.client.kv_client().put(key, value, None).await?.header())
    }

    async fn delete(&self, key: &str) -> anyhow::Result<Revision> {
        revision(self.client.kv_client().delete(key, None).await?.header())
    }

    async fn held(&self, key: &str) -> anyhow::Result<Option<Held>> {
        let answer = self.client.kv_client().get(key, None).await?;
        let Some(kv) = answer.kvs().first() else { return Ok(None) };
        Ok(Some(Held {
            value: kv.value_str()?.to_owned(),
            created: Revision(kv.create_revision()),
            mod_revision: Revision(kv.mod_revision()),
            version: u64::try_from(kv.version())?,
            leased: kv.lease() != 0,
        }))
    }

    async fn compact(&self, at: Revision) -> anyhow::Result<()> {
        self.client.kv_client().compact(at.0, None).await?;
        Ok(())
    }

    async fn full(&self, full: bool) -> anyhow::Result<()> {
        let action = if full { AlarmAction::Activate } else { AlarmAction::Deactivate };
        self.client.maintenance_client().alarm(action, AlarmType::Nospace, None).await?;
        Ok(())
    }
}

fn revision(header: Option<&ResponseHeader>) -> anyhow::Result<Revision> {
    Ok(Revision(header.context("an answer has a header")?.revision()))
}

macro_rules! real {
    ($name:ident, $binary:expr, $shared:expr) => {
        impl Hands for $name {
            type Store = EtcdStore;

            async fn shared(test: &str) -> anyhow::Result<Ground<Self>> {
                Real::ground($shared, Self, test).await
            }

            async fn alone(test: &str) -> anyhow::Result<Ground<Self>> {
                Real::ground(Arc::new(Etcd::start($binary).await?), Self, test).await
            }

            async fn put(&self, key: &str, value: &str) -> anyhow::Result<Revision> {
                self.0.put(key, value).await
            }

            async fn delete(&self, key: &str) -> anyhow::Result<Revision> {
                self.0.delete(key).await
            }

            async fn held(&self, key: &str) -> anyhow::Result<Option<Held>> {
                self.0.held(key).await
            }

            async fn compact(&self, at: Revision) -> anyhow::Result<()> {
                self.0.compact(at).await
            }

            async fn full(&self, full: bool) -> anyhow::Result<()> {
                self.0.full(full).await
            }
        }
    };
}

/// The etcd of the machine, an old one.
pub(crate) struct Debian(Real);

real!(Debian, Binary::Etcd, shared_etcd().await?);

/// etcd 3.6.
pub(crate) struct Newer(Real);

real!(Newer, Binary::Etcd36, shared_newer().await?);

async fn shared_newer() -> anyhow::Result<Arc<Etcd>> {
    static SHARED: OnceCell<Arc<Etcd>> = OnceCell::const_new();
    SHARED.get_or_try_init(async || Etcd::start(Binary::Etcd36).await.map(Arc::new)).await.cloned()
}
