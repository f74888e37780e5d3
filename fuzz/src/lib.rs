//! Fuzz targets for every decoder.
//!
//! Without a nightly compiler: `cargo run --release --manifest-path fuzz/Cargo.toml -- TARGET
//! --seconds N`, a loop of random changes that starts from the vectors of the protocol tests and
//! keeps what behaves in a new way. With cargo-fuzz: `cargo fuzz run --features libfuzzer TARGET`.
//!
//! Both check the same: no panic, no packet that is complete and yet not answered, no memory held
//! beyond a multiple of the packet, and what was read means the same when it was written again.

pub mod allocation;
pub mod mutation;
pub mod targets;
