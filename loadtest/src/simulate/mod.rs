//! Worker processes: devices, and the back end that they talk to.
//!
//! | module    | what it holds                                                         |
//! |-----------|-----------------------------------------------------------------------|
//! | `backend` | worker 0: consumers and senders of commands                            |
//! | `dice`    | chance                                                                |
//! | `names`   | client ids and topics of a run                                        |
//! | `spread`  | latencies of one second, compact                                      |
//! | `usage`   | CPU time and memory of this process                                   |

#[allow(
    dead_code,
    unused_imports,
    reason = "the worker process that runs it follows"
)]
pub(crate) mod backend;
pub(crate) mod dice;
pub(crate) mod names;
pub(crate) mod spread;
pub(crate) mod usage;
