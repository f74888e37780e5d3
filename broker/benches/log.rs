//! Figures of the log.

fn main() {}
