//! Worker processes: devices, and the back end that they talk to.
//!
//! | module    | what it holds                                                         |
//! |-----------|-----------------------------------------------------------------------|
//! | `backend` | worker 0: consumers and senders of commands                            |
//! | `dice`    | chance                                                                |
//! | `devices` | the others: devices                                                    |
//! | `names`   | client ids and topics of a run                                        |
//! | `spread`  | latencies of one second, compact                                      |
//! | `usage`   | CPU time and memory of this process                                   |

pub(crate) mod backend;
pub(crate) mod devices;
pub(crate) mod dice;
pub(crate) mod names;
pub(crate) mod spread;
pub(crate) mod usage;

#[cfg(test)]
mod lies;

use std::os::fd::{AsFd as _, OwnedFd};

use crate::Error;
use crate::control::desk::Desk;

/// Is a worker process until its controller, at the other end of standard input, has no more need of it.
pub fn work() -> Result<(), Error> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned();
    serve(socket.map_err(Error::system("cannot take standard input"))?)
}

/// A worker process: takes its assignment from the controller at the other end of `socket`, and does it.
pub(crate) fn serve(socket: impl Into<OwnedFd>) -> Result<(), Error> {
    let (desk, assignment) = Desk::attach(socket)?;
    if assignment.worker == 0 {
        backend::run(desk, assignment)
    } else {
        devices::run(desk, assignment)
    }
}
