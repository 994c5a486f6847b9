//! Listeners that end TLS: certificates out of Secrets, as etcd and users see them.

use super::{
    claims::{PROGRAMMED, listener, message, says},
    documents::{Documents, value},
    objects::{CLASS, service},
    scene::{Scene, keys},
};
use anyhow::{Context as _, ensure};
use data_encoding::BASE64;
use serde_json::Value;

const SERVED: &[(&str, &str)] =
    &[("Accepted", "True/Accepted"), ("ResolvedRefs", "True/ResolvedRefs"), (PROGRAMMED, "True/Programmed")];
const READY: &[(&str, &str)] =
    &[("Accepted", "True/Accepted"), ("Programmed", "True/Programmed"), ("ResolvedRefs", "True/ResolvedRefs")];
const WITHOUT: &[(&str, &str)] =
    &[("Accepted", "True/Accepted"), ("Programmed", "False/Invalid"), ("ResolvedRefs", "False/InvalidCertificateRef")];

const NAME: &str = "a.example.com";

/// A Secret with a new certificate for `NAME`: its manifest, the certificate, and the key.
pub(super) fn secret(name: &str) -> anyhow::Result<(String, String, String)> {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let (certificate, key) = (cert.pem().replace("\r\n", "\n"), signing_key.serialize_pem().replace("\r\n", "\n"));
    let [crt, pem] = [&certificate, &key].map(|text| BASE64.encode(text.as_bytes()));
    let manifest = format!(
        "
---
apiVersion: v1
kind: Secret
metadata: {{name: {name}, namespace: $NS}}
type: kubernetes.io/tls
data: {{tls.crt: {crt}, tls.key: {pem}}}
"
    );
    Ok((manifest, certificate, key))
}

pub(super) const GATEWAY: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: $NS}
spec:
  gatewayClassName: $CLASS
  listeners:
  - name: tls
    protocol: TLS
    port: 9443
    hostname: a.example.com
    tls: {mode: Terminate, certificateRefs: [{name: cert}]}
";

pub(super) const ROUTE: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: app, namespace: $NS}
spec:
  parentRefs: [{name: edge, sectionName: tls}]
  hostnames: [a.example.com]
  rules: [{backendRefs: [{name: web, port: 8080}]}]
";

/// The only certificate, its key in etcd with it.
fn certificate(documents: &Documents) -> anyhow::Result<(String, Value)> {
    let mut found = documents.0.iter().filter(|(key, _)| key.starts_with("/ssls/gateway-api."));
    let (key, held) = found.next().context("there is no certificate")?;
    ensure!(found.next().is_none(), "{:?}", documents.0.keys());
    Ok((key.clone(), value(held)?))
}

/// The only stream_route with a server name.
fn named_slot(documents: &Documents) -> anyhow::Result<(String, Value)> {
    let (key, held) = documents
        .0
        .iter()
        .find(|(key, _)| key.starts_with("/stream_routes/gateway-api.9443."))
        .with_context(|| format!("{:?}", documents.0.keys()))?;
    Ok((key.clone(), value(held)?))
}

/// Waits until the certificate in etcd is this one.
async fn shows(scene: &Scene, pem: &str) -> anyhow::Result<Documents> {
    scene
        .until("the certificate to be in etcd", async || {
            let documents = scene.documents().await?;
            ensure!(certificate(&documents)?.1["cert"] == pem, "another one");
            Ok(documents)
        })
        .await
}

#[tokio::test]
async fn a_certificate_comes_before_its_slot_follows_its_secret_alone_and_goes_after_it() -> anyhow::Result<()> {
    let mut scene = Scene::open("tls-life").await?;
    let (first, pem, key) = secret("cert")?;
    let start = scene.revision().await?;
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"]) + GATEWAY + ROUTE + &first).await?;

    // It comes.
    scene.route_at_says(&scene.object("TLSRoute", "app"), "tls", SERVED).await?;
    let documents = shows(&scene, &pem).await?;
    let (ssl_key, ssl) = certificate(&documents)?;
    assert_eq!((&ssl["snis"], &ssl["key"]), (&serde_json::json!([NAME]), &Value::from(key)));
    let (slot_key, slot) = named_slot(&documents)?;
    assert_eq!((&slot["sni"], &slot["server_port"]), (&Value::from(NAME), &Value::from(9443)));
    let gateway = scene.gateway_says("edge", &[("Programmed", "True/Programmed")], &[("tls", 1)]).await?;
    says(&gateway, listener(&gateway, "tls")?, READY)?;
    let history = scene.history_to_fence(start).await?;
    let first_of = |key: &str| history.iter().position(|written| written.key == key);
    assert!(first_of(&ssl_key) < first_of(&slot_key), "{:?}", keys(&history));

    // It is rotated: nothing else is written.
    let revision = scene.revision().await?;
    let (second, pem, _) = secret("cert")?;
    scene.apply(second).await?;
    shows(&scene, &pem).await?;
    let history = scene.history_to_fence(revision).await?;
    assert_eq!(keys(&history), [ssl_key.as_str()]);

    // What somebody breaks is not served, and says so without a word of what it holds.
    let broken = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: cert, namespace: $NS}\ntype: kubernetes.io/tls\ndata: {tls.crt: czNjcmV0Cg==, tls.key: czNjcmV0Cg==}\n";
    scene.apply(broken).await?;
    let gateway = scene.gateway_says("edge", &[("Programmed", "False/Invalid")], &[("tls", 1)]).await?;
    let said = listener(&gateway, "tls")?;
    says(&gateway, said, WITHOUT)?;
    assert!(message(said, "ResolvedRefs")?.contains("tls.crt is not PEM") && !said.to_string().contains("s3cret"));
    scene
        .route_at_says(&scene.object("TLSRoute", "app"), "tls", &[(PROGRAMMED, "False/ListenerNotProgrammed")])
        .await?;

    // It is put right, and goes with its Secret; the slot first.
    scene.apply(secret("cert")?.0).await?;
    scene.route_at_says(&scene.object("TLSRoute", "app"), "tls", SERVED).await?;
    let revision = scene.revision().await?;
    scene.delete("Secret", "cert").await?;
    scene
        .until("slot and certificate to go", async || {
            let documents = scene.documents().await?;
            ensure!(certificate(&documents).is_err() && named_slot(&documents).is_err(), "{:?}", documents.0.keys());
            Ok(())
        })
        .await?;
    let history = scene.history_to_fence(revision).await?;
    let gone: Vec<&str> =
        history.iter().filter(|written| written.value.is_none()).map(|written| written.key.as_str()).collect();
    let place = |key: &str| gone.iter().position(|gone| *gone == key);
    assert!(place(&slot_key).is_some() && place(&slot_key) < place(&ssl_key), "{gone:?}");
    let gateway = scene.gateway_says("edge", &[("Programmed", "False/Invalid")], &[("tls", 1)]).await?;
    says(&gateway, listener(&gateway, "tls")?, WITHOUT)
}

#[tokio::test]
async fn a_secret_elsewhere_is_used_while_a_grant_permits_it() -> anyhow::Result<()> {
    let scene = Scene::open("tls-grant").await?;
    let other = "$NS-secrets";
    let elsewhere = |text: &str| text.replace("namespace: $NS}", &format!("namespace: {other}}}"));
    let (manifest, pem, _) = secret("cert")?;
    let namespace = format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {other}}}\n");
    let gateway = GATEWAY.replace("{name: cert}", &format!("{{name: cert, namespace: {other}}}"));
    let all = CLASS.to_owned() + &namespace + &elsewhere(&manifest) + &service("web", &["10.0.0.1"]) + &gateway + ROUTE;
    scene.apply(all).await?;
    let not_permitted = &[("Accepted", "True/Accepted"), ("ResolvedRefs", "False/RefNotPermitted")];
    let gateway = scene.gateway_says("edge", &[("Programmed", "False/Invalid")], &[("tls", 1)]).await?;
    says(&gateway, listener(&gateway, "tls")?, not_permitted)?;

    let grant = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: grant, namespace: $NS}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: $HOME}]
  to: [{group: '', kind: Secret}]
";
    scene.apply(elsewhere(grant).replace("$HOME", "$NS")).await?;
    scene.route_at_says(&scene.object("TLSRoute", "app"), "tls", SERVED).await?;
    shows(&scene, &pem).await?;

    let name = format!("{}-secrets", scene.place.namespace);
    let grant = super::support::kubernetes::Named { namespace: &name, ..scene.object("ReferenceGrant", "grant") };
    scene.servers.kubernetes.delete(&grant).await?;
    let gateway = scene.gateway_says("edge", &[("Programmed", "False/Invalid")], &[("tls", 1)]).await?;
    says(&gateway, listener(&gateway, "tls")?, not_permitted)?;
    scene
        .until("slot and certificate to go", async || {
            let documents = scene.documents().await?;
            ensure!(certificate(&documents).is_err() && named_slot(&documents).is_err(), "{:?}", documents.0.keys());
            Ok(())
        })
        .await
}
