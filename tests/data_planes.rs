//! The CustomResourceDefinition of DataPlane: `deploy/kubernetes/data-planes.yaml` is what the type says (BLESS=1 writes it).

use apisix_etcd_controller::cluster::data_plane::DataPlane;
use kube::CustomResourceExt as _;
use std::{env, fs, path::Path};

const HEAD: &str = "# The kind DataPlane. Generated from src/cluster/data_plane.rs: `BLESS=1 cargo test --test data_planes` writes it.\n";

#[test]
fn the_definition_is_what_the_type_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes/data-planes.yaml");
    let generated = format!("{HEAD}{}", serde_yaml_ng::to_string(&DataPlane::crd()).unwrap());
    if env::var_os("BLESS").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == generated,
        "deploy/kubernetes/data-planes.yaml is not what the type says: run this again with BLESS=1"
    );
}
