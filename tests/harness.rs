//! What the other tests stand on holds: the servers are real, separate, and gone afterwards.

mod support;

use anyhow::ensure;
use std::time::Duration;
use support::{
    binaries::Binary,
    etcd::{Etcd, shared_etcd},
    kubernetes::{Crds, Named},
    process::{Ending, Process, folder},
    servers::{fresh, shared},
    wait::{PATIENCE, wait_until},
};

#[tokio::test]
async fn a_key_put_into_the_machines_etcd_is_read_back() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let mut client = etcd.client().await?;
    client.put("/round-trip/one", "1", None).await?;
    client.put("/round-trip/one", "2", None).await?;
    let held = etcd.under("/round-trip/").await?;
    assert_eq!(held.keys().collect::<Vec<_>>(), ["/round-trip/one"]);
    assert_eq!((held["/round-trip/one"].value.as_str(), held["/round-trip/one"].version), ("2", 2));
    Ok(())
}

#[tokio::test]
async fn etcd_3_6_keeps_a_round_trip_too_and_is_gone_when_dropped() -> anyhow::Result<()> {
    let etcd = Etcd::start(Binary::Etcd36).await?;
    etcd.client().await?.put("/a", "1", None).await?;
    assert_eq!(etcd.under("/a").await?["/a"].value, "1");
    let (pid, folder) = (etcd.process().pid(), etcd.process().folder().to_owned());
    drop(etcd);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "process {pid} still runs");
    assert!(!folder.exists(), "{} is still there", folder.display());
    Ok(())
}

#[tokio::test]
async fn gateway_api_1_6_standard_serves_tcproutes_at_v1_only() -> anyhow::Result<()> {
    let servers = shared().await?;
    assert_eq!(servers.kubernetes.versions_served("tcproutes").await?, ["v1"]);
    assert_eq!(servers.kubernetes.versions_served("referencegrants").await?, ["v1", "v1beta1"]);
    Ok(())
}

#[tokio::test]
async fn gateway_api_1_4_experimental_serves_tcproutes_at_v1alpha2_only() -> anyhow::Result<()> {
    let servers = fresh(Crds::Experimental141).await?;
    assert_eq!(servers.kubernetes.versions_served("tcproutes").await?, ["v1alpha2"]);
    assert_eq!(servers.kubernetes.versions_served("referencegrants").await?, ["v1beta1"]);
    Ok(())
}

#[tokio::test]
async fn objects_are_applied_patched_and_deleted() -> anyhow::Result<()> {
    let kubernetes = shared().await?.kubernetes;
    let place = shared().await?.place("objects").await?;
    let namespace = place.namespace.as_str();
    let manifests = format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {{name: route, namespace: {namespace}}}
spec:
  parentRefs: [{{name: gateway}}]
  rules: [{{backendRefs: [{{name: service, port: 80, weight: 1}}]}}]
---
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: beside, namespace: {namespace}}}
"
    );
    kubernetes.apply(&manifests).await?;
    kubernetes.apply(&manifests).await?;
    let route = Named { api_version: "gateway.networking.k8s.io/v1", kind: "TCPRoute", namespace, name: "route" };
    assert_eq!(kubernetes.list("v1", "ConfigMap", namespace).await?.len(), 1);

    kubernetes.patch(&route, serde_json::json!({"metadata": {"labels": {"a": "b"}}})).await?;
    kubernetes.patch(&route, serde_json::json!({"status": {"parents": []}})).await?;
    let stored = kubernetes.get(&route).await?.unwrap_or_default();
    assert_eq!(
        (&stored["metadata"]["labels"]["a"], &stored["status"]["parents"]),
        (&"b".into(), &serde_json::json!([]))
    );

    kubernetes.delete(&route).await?;
    assert_eq!(kubernetes.get(&route).await?, None);
    Ok(())
}

#[tokio::test]
async fn a_wait_that_fails_says_what_was_awaited_and_what_was_seen() {
    let waited: anyhow::Result<()> =
        wait_until("the moon", Duration::from_millis(1), async || anyhow::bail!("clouds")).await;
    let error = format!("{:#}", waited.unwrap_err());
    assert_eq!(error, "waited 1ms for the moon; seen last: clouds");
}

#[tokio::test]
async fn a_process_that_ends_early_ends_the_wait_with_its_log() -> anyhow::Result<()> {
    let script = ["-c".to_owned(), "echo no such flag; exit 7".to_owned()];
    let process = Process::start("it", folder()?, "/bin/sh".as_ref(), &script, &[], Ending::AtOnce)?;
    let waited: anyhow::Result<()> = process.wait_until("a sign", PATIENCE, async || anyhow::bail!("nothing")).await;
    let error = format!("{:#}", waited.unwrap_err());
    assert_eq!(error, "it ended with status 7 while a sign was awaited; the end of its log:\nno such flag\n");
    Ok(())
}

#[tokio::test]
async fn a_process_is_asked_to_end_before_it_is_killed() -> anyhow::Result<()> {
    // The folder goes with it, so what it did on SIGTERM is shown by a file elsewhere.
    let elsewhere = tempfile::tempdir()?;
    let sign = elsewhere.path().join("sign");
    let script = format!("trap 'touch {}; exit' TERM; echo up; while :; do sleep 0.01; done", sign.display());
    let process =
        Process::start("it", folder()?, "/bin/sh".as_ref(), &["-c".to_owned(), script], &[], Ending::Gracefully)?;
    process
        .wait_until("it to be up", PATIENCE, async || {
            ensure!(process.log() == "up\n", "log {:?}", process.log());
            Ok(())
        })
        .await?;
    drop(process);
    assert!(sign.exists());
    Ok(())
}
