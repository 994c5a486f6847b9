//! One object's JSON becomes its name, its facts and the print of its status.
//!
//! Text in, [`Decoded`] out. An object that does not decode is still named, and never takes its page or stream with it.
//! The text itself is never kept.

use super::{convert, wire};
use crate::{
    model::{
        facts::{Facts, Observed},
        names::{Kind, ObjectName},
    },
    status::print::StatusPrint,
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, value::RawValue};
use wire::{Metadata, Named, Specified, Text};

/// One object, decoded as far as it could be.
#[derive(Debug)]
pub(super) struct Decoded {
    /// Its name; without a namespace for cluster-scoped kinds, whatever the object says.
    pub(super) name: ObjectName,
    /// What it is.
    pub(super) observed: Observed,
    /// What its status says of us.
    pub(super) status: StatusPrint,
    /// `metadata.resourceVersion`; empty where absent.
    pub(super) version: String,
}

/// Not even a name could be read.
#[derive(Debug, thiserror::Error)]
#[error("an object of kind {kind} has no readable metadata.name")]
pub(super) struct Nameless {
    kind: Kind,
    #[source]
    source: serde_json::Error,
}

/// Decodes one object of `kind`. `controller_name` says which parts of its status are ours.
pub(super) fn object(kind: Kind, json: &str, controller_name: &str) -> Result<Decoded, Nameless> {
    match whole(kind, json, controller_name) {
        Ok(decoded) => Ok(decoded),
        Err(error) => {
            let named: Named<'_> = serde_json::from_str(json).map_err(|source| Nameless { kind, source })?;
            Ok(Decoded {
                name: name(kind, named.metadata.namespace, named.metadata.name),
                observed: Observed::Unreadable { error: without_position(&error).into() },
                status: print(kind, named.status, controller_name),
                version: named.metadata.resource_version.unwrap_or_default(),
            })
        }
    }
}

/// Decodes as much of an object of `kind` as names it: its name and its `metadata.resourceVersion`.
pub(super) fn name_and_version(kind: Kind, json: &str) -> Result<(ObjectName, String), Nameless> {
    let named: Named<'_> = serde_json::from_str(json).map_err(|source| Nameless { kind, source })?;
    let version = named.metadata.resource_version.unwrap_or_default();
    Ok((name(kind, named.metadata.namespace, named.metadata.name), version))
}

fn whole(kind: Kind, json: &str, controller_name: &str) -> Result<Decoded, serde_json::Error> {
    match kind {
        Kind::GatewayClass => specified(kind, json, controller_name, |metadata, spec| {
            Facts::GatewayClass(convert::gateway_class(metadata, spec))
        }),
        Kind::Gateway => {
            specified(kind, json, controller_name, |metadata, spec| Facts::Gateway(convert::gateway(metadata, spec)))
        }
        Kind::TcpRoute => {
            specified(kind, json, controller_name, |metadata, spec| Facts::TcpRoute(convert::route(metadata, spec)))
        }
        Kind::ReferenceGrant => {
            specified(kind, json, controller_name, |_, spec| Facts::ReferenceGrant(convert::reference_grant(spec)))
        }
        Kind::Service => specified(kind, json, controller_name, |_, spec| Facts::Service(convert::service(spec))),
        Kind::Namespace => {
            let mut namespace: wire::Namespace = serde_json::from_str(json)?;
            let identity = identity(kind, &mut namespace.metadata);
            Ok(identity.of(Facts::Namespace(convert::namespace(namespace)), StatusPrint::default()))
        }
        Kind::EndpointSlice => {
            let mut slice: wire::EndpointSlice = serde_json::from_str(json)?;
            let identity = identity(kind, &mut slice.metadata);
            Ok(identity.of(Facts::EndpointSlice(convert::endpoint_slice(slice)), StatusPrint::default()))
        }
    }
}

fn specified<'a, S: Deserialize<'a>>(
    kind: Kind,
    json: &'a str,
    controller_name: &str,
    facts: impl FnOnce(&Metadata<IgnoredAny>, S) -> Facts,
) -> Result<Decoded, serde_json::Error> {
    let mut object: Specified<'a, S> = serde_json::from_str(json)?;
    let identity = identity(kind, &mut object.metadata);
    Ok(identity.of(facts(&object.metadata, object.spec), print(kind, object.status, controller_name)))
}

/// What `metadata` says of which object this is, and of which age.
struct Identity {
    name: ObjectName,
    version: String,
}

impl Identity {
    fn of(self, facts: Facts, status: StatusPrint) -> Decoded {
        Decoded { name: self.name, observed: Observed::Facts(facts), status, version: self.version }
    }
}

fn identity<L>(kind: Kind, metadata: &mut Metadata<L>) -> Identity {
    Identity {
        name: name(kind, metadata.namespace.take(), metadata.name.clone()),
        version: metadata.resource_version.take().unwrap_or_default(),
    }
}

fn name(kind: Kind, namespace: Option<Text>, name: Text) -> ObjectName {
    let namespace = namespace.filter(|_| kind.namespaced()).map_or_else(|| wire::shared(""), |namespace| namespace.0);
    ObjectName { namespace, name: name.0 }
}

/// The print of the kinds whose status we write; the status itself is dropped at once.
fn print(kind: Kind, status: Option<&RawValue>, controller_name: &str) -> StatusPrint {
    let ours = match kind {
        Kind::GatewayClass | Kind::Gateway | Kind::TcpRoute => status,
        Kind::ReferenceGrant | Kind::Namespace | Kind::Service | Kind::EndpointSlice => None,
    };
    let value = ours.and_then(|status| serde_json::from_str::<Value>(status.get()).ok());
    value.map_or_else(StatusPrint::default, |status| StatusPrint::of(kind, &status, controller_name))
}

/// What `error` says, less the place: objects come as one line of JSON, so that it would help nobody.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).unwrap_or(&text).to_owned()
}
