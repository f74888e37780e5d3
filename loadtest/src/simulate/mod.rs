//! Worker processes: devices, and the back end that they talk to.
//!
//! | module    | what it holds                                                         |
//! |-----------|-----------------------------------------------------------------------|
//! | `names`   | client ids and topics of a run                                        |
//! | `spread`  | latencies of one second, compact                                      |
//! | `usage`   | CPU time and memory of this process                                   |

pub(crate) mod names;
pub(crate) mod spread;
pub(crate) mod usage;
