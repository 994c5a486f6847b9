//! Translation: facts in, wanted documents and verdicts out. Pure and incremental; never fails, never reads a clock.
//!
//! [`desired`] drives the tiers in their order; each tier is a function of its inputs, and a tier whose output is equal
//! stops the wave:
//!
//! | tier | from | to |
//! |---|---|---|
//! | [`listeners`] | a Gateway, its class, Secrets and grants | its listeners and what each admits |
//! | [`sets`] | a ListenerSet and its Gateway | the same of the set, and whether it is allowed |
//! | [`ports`] | every listener of the data plane on one port | who holds the port |
//! | [`attachments`] | a route, the listeners of its parents, namespace labels | parents' verdicts and claims |
//! | [`slots`] | the claims on one slot | the holder |
//! | [`certificates`] | listeners that end TLS and the slots held through them | who has each server name's certificate |
//! | [`pools`] | a route's backends, Services, EndpointSlices, grants, policies | nodes, weights, refused share |
//! | [`policies`] | a BackendTLSPolicy, and the routes and pools that it bears on | what each Gateway says of it |
//! | [`addresses`] | the data plane's addresses, those a Gateway asks for | those it has, and what it lacks |
//! | [`verdicts`] | all of these | what is said of each object |

pub mod addresses;
pub mod attachments;
pub mod certificates;
pub mod desired;
pub mod grants;
pub mod known;
pub mod listeners;
pub mod planes;
pub mod policies;
pub mod pools;
pub mod ports;
pub mod secrets;
pub mod sets;
pub mod slots;
pub mod verdicts;
pub mod weights;
