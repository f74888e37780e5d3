//! The load simulator: real connections, an oracle that counts, latency histograms.
