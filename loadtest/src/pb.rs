//! The protocol's messages and service, generated from `proto/`. Used by `wire_grpc` and the echo server.
#![expect(clippy::all, clippy::allow_attributes, unreachable_pub, reason = "generated code")]

tonic::include_proto!("inference");
