//! Both ends of a link over a wire that breaks, with a clock that the tests turn.

mod handshake;
mod loss;
mod search;
mod steady;
mod topology;
mod world;
