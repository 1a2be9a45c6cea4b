//! The one integration test binary. Modules are `cfg(test)`, so that lints treat their helpers as tests.

#[cfg(test)]
mod cli;
#[cfg(test)]
mod deploy;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod floods;
#[cfg(test)]
mod framing;
#[cfg(test)]
mod listener;
#[cfg(test)]
mod ops;
#[cfg(test)]
mod predictions;
#[cfg(test)]
mod registry;
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
