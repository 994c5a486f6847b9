//! The controller's own keys in etcd: who leads, what the lanes last wrote, what was released. Pure.
//!
//! They lie outside every data plane's prefix, so that no APISIX ever reads them:
//!
//! | key | value |
//! |---|---|
//! | `{control prefix}/{instance}/leader` | the leader's name; hangs on its lease |
//! | `{control prefix}/{instance}/lanes/{n}` | the checkpoint as of the lane's last transaction |
//! | `{control prefix}/{instance}/releases/{name}` | a request to let a held change go; the leader clears it |

use super::Scope;
use std::sync::Arc;

/// Where an instance's own keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlKeys {
    prefix: Arc<str>,
    instance: Arc<str>,
}

/// One key below the control prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ControlKey {
    /// Whose.
    pub instance: Arc<str>,
    /// What it is for.
    pub purpose: Purpose,
}

/// What a key below the control prefix is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Who leads.
    Leader,
    /// What this lane last wrote.
    Lane(u32),
    /// What is to be let go, by name.
    Release(Arc<str>),
}

impl ControlKeys {
    /// Of `instance`; `prefix` has no trailing slash, and `instance` has none at all.
    #[must_use]
    pub fn new(prefix: Arc<str>, instance: Arc<str>) -> Self {
        Self { prefix, instance }
    }

    /// The instance.
    #[must_use]
    pub fn instance(&self) -> &Arc<str> {
        &self.instance
    }

    /// The leader key.
    #[must_use]
    pub fn leader(&self) -> Arc<str> {
        format!("{}/{}/leader", self.prefix, self.instance).into()
    }

    /// A lane's key.
    #[must_use]
    pub fn lane(&self, number: u32) -> Arc<str> {
        format!("{}/{}/lanes/{number}", self.prefix, self.instance).into()
    }

    /// The key that asks to let `name` go.
    #[must_use]
    pub fn release(&self, name: &str) -> Arc<str> {
        format!("{}/{}/releases/{name}", self.prefix, self.instance).into()
    }

    /// All lanes of this instance.
    #[must_use]
    pub fn lanes(&self) -> Scope {
        Scope::Below(format!("{}/{}/lanes", self.prefix, self.instance).into())
    }

    /// The keys of every instance.
    #[must_use]
    pub fn everyone(&self) -> Scope {
        Scope::Below(Arc::clone(&self.prefix))
    }

    /// Reads a full key back; `None` for keys that are none of ours.
    #[must_use]
    pub fn read(&self, key: &[u8]) -> Option<ControlKey> {
        let rest = std::str::from_utf8(key).ok()?.strip_prefix(&*self.prefix)?.strip_prefix('/')?;
        let (instance, rest) = rest.split_once('/')?;
        let purpose = match rest.split_once('/') {
            None if rest == "leader" => Purpose::Leader,
            // "07" and "+7" parse too, but are not how we spell it.
            Some(("lanes", text)) => {
                Purpose::Lane(text.parse().ok().filter(|number: &u32| number.to_string() == text)?)
            }
            Some(("releases", name)) => Purpose::Release(name.into()),
            Some(_) | None => return None,
        };
        Some(ControlKey { instance: instance.into(), purpose })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read_back_as_what_it_was_made_for() {
        let keys = ControlKeys::new("/control".into(), "blue".into());
        let read = |key: &str| keys.read(key.as_bytes());
        let of = |purpose| Some(ControlKey { instance: "blue".into(), purpose });
        assert_eq!(read(&keys.leader()), of(Purpose::Leader));
        assert_eq!(read(&keys.lane(3)), of(Purpose::Lane(3)));
        assert_eq!(read(&keys.release("gateway/a/b")), of(Purpose::Release("gateway/a/b".into())));
    }

    #[test]
    fn what_is_not_ours_is_nothing() {
        let keys = ControlKeys::new("/control".into(), "blue".into());
        for key in [
            "/control/blue",
            "/control/blue/lanes/x",
            "/control/blue/lanes/07",
            "/control/blue/leader/x",
            "/controls/blue/leader",
            "/x",
        ] {
            assert_eq!(keys.read(key.as_bytes()), None, "{key}");
        }
        assert_eq!(keys.read(b"/control/\xff/leader"), None);
    }
}
