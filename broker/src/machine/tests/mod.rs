//! Tests of the machine through its commands and effects only.

mod codec;
mod determinism;
mod guests;
mod held;
mod limits;
mod model;
mod publish;
mod retained;
mod sessions;
mod shared;
mod shared_model;
mod topology;
mod wills;
mod world;
