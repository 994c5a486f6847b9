//! How an API server is followed: patience and names, each with a default that says why.

use std::{sync::Arc, time::Duration};

/// How an API server is followed.
#[derive(Clone, Debug)]
pub struct FollowSettings {
    /// `spec.controllerName` of the GatewayClasses that are ours: it says which parts of a status are.
    pub controller_name: Arc<str>,
    /// How long the API server keeps one watch open, in whole seconds; 295 s at most.
    pub watch_max: Duration,
    /// How long nothing may arrive before a connection is taken for dead and the watch is taken up anew from where it was.
    pub silence_max: Duration,
}

impl FollowSettings {
    /// With everything that has a default at it.
    #[must_use]
    pub fn new(controller_name: Arc<str>) -> Self {
        Self {
            controller_name,
            // Client libraries stay below 295, above which proxies and API servers cut connections off.
            watch_max: Duration::from_secs(290),
            // API servers send a bookmark about every minute to watches that ask for them, so two of them are missing then.
            // They send none while nothing has happened in a kind since they started; then one request is made in vain.
            silence_max: Duration::from_secs(135),
        }
    }
}
