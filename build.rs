//! Compiles `proto/` with protox (no `protoc` on the machine) into `OUT_DIR`, together with the file descriptor set
//! that server reflection and the `config.pbtxt` reader use. Run by cargo.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 2] = ["grpc_service.proto", "model_config.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("inference.fds"), descriptors.encode_to_vec())?;
    if env::var_os("CARGO_FEATURE_SERVER").is_some() {
        // `.bytes(".")`: raw tensors stay slices of the one receive buffer instead of being copied.
        tonic_prost_build::configure().bytes(".").build_transport(false).compile_fds(descriptors)?;
    }
    Ok(())
}
