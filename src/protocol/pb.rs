//! The messages and service traits generated from `proto/`, and the descriptor set that server reflection and the JSON of the
//! model configuration are read from. Nothing here is written by hand.

pub use generated::*;

/// The encoded `FileDescriptorSet` of `proto/` with everything it imports.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/inference.fds"));

#[expect(missing_docs, clippy::allow_attributes, reason = "generated: the protocol's documentation is in proto/")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/inference.rs"));
}
