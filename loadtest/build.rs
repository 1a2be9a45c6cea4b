//! Compiles the protocol files of the repository with protox (no `protoc` needed) into `OUT_DIR`. Run by cargo.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../proto");
    let descriptors = protox::compile(["grpc_service.proto"], ["../proto"])?;
    // The client frames its requests itself; only the echo server needs a generated service, and of that one method.
    tonic_prost_build::configure()
        .bytes(".")
        .build_client(false)
        .build_transport(false)
        .generate_default_stubs(true)
        .compile_fds(descriptors)?;
    Ok(())
}
