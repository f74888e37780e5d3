//! The mqtt-fleet binary.

fn main() {}
