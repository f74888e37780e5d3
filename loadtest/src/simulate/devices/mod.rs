//! The worker that holds devices: as many as it has descriptors for, in one thread.
//!
//! | module      | what it holds                                                           |
//! |-------------|-------------------------------------------------------------------------|
//! | `plan`      | what all devices have in common: the scenario, made ready               |
//! | `device`    | one device (pure): when it connects, pings, comes back                  |
//! | `handshake` | its CONNECT and SUBSCRIBE                                                |
//! | `session`   | what of its session is under way (pure): messages out, messages in      |
//! | `loss`      | why connections come to their end                                       |
//! | `chance`    | chance without a state                                                  |
//! | `tally`     | counters, latencies, findings, receipts, presence                       |
//! | `crowd`     | all devices, and what they act with                                     |
//! | `wheel`     | their timers                                                            |
//! | `channel`   | one socket, and its bytes                                               |
//! | `tls`       | its TLS                                                                 |
//! | `source`    | source addresses on loopback                                            |
//! | `phases`    | ramp, storm, drain, finish                                              |
//! | `worker`    | the loop                                                                |

mod chance;
mod channel;
mod crowd;
mod device;
mod handshake;
mod loss;
mod phases;
mod plan;
mod session;
mod source;
mod tally;
mod tls;
mod wheel;
mod worker;

#[cfg(test)]
mod bench;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod live_tests;

use crate::Error;
use crate::control::desk::Desk;
use crate::control::message::{Assignment, FromWorker};

/// Runs the devices of `assignment` until the controller says that it is over. The controller is told if it cannot.
pub(crate) fn run(mut desk: Desk, assignment: Assignment) -> Result<(), Error> {
    let worked = worker::Worker::new(&mut desk, assignment).and_then(|mut worker| worker.run());
    if let Err(error) = &worked {
        // Where the controller is gone itself, nobody is there to be told.
        let told = desk.send(&FromWorker::Failed(error.to_string()));
        drop(told.and_then(|()| desk.flush()));
    }
    worked
}
