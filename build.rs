//! Makes Rust types of `proto/*.proto`; `src/proto.rs` includes them. Needs `protoc` (or its path in `PROTOC`).

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=proto/checkpoint.proto");
    prost_build::compile_protos(&["proto/checkpoint.proto"], &["proto"])
}
