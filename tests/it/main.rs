//! The one integration test binary. Modules are `cfg(test)`, so that lints treat their helpers as tests.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod array;
#[cfg(test)]
mod ask;
#[cfg(test)]
mod broken;
#[cfg(test)]
mod cascade;
#[cfg(test)]
mod choice;
#[cfg(test)]
mod class_names;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod client;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod deploy;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod encodings;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod errors_state;
#[cfg(test)]
mod errors_wire;
#[cfg(test)]
mod failing;
#[cfg(test)]
mod floods;
#[cfg(test)]
mod framing;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod listener;
#[cfg(test)]
mod load_probe;
#[cfg(test)]
mod merging;
#[cfg(test)]
mod mixed;
#[cfg(test)]
mod onnx;
#[cfg(test)]
mod ops;
#[cfg(test)]
mod ops_routes;
#[cfg(test)]
mod predictions;
#[cfg(test)]
mod readme;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod rpc;
#[cfg(test)]
mod site;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod transport;
#[cfg(test)]
mod wire;
