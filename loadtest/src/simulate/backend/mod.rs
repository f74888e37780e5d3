//! Worker 0: the back end that devices talk to.
//!
//! | file       | what it holds                                                              |
//! |------------|----------------------------------------------------------------------------|
//! | `worker`   | the loop: orders of the controller, phases, the figures of each second     |
//! | `lines`    | the connections: sockets, packets, what leaves on them                     |
//! | `client`   | one connection's handshake, keepalive and way back (pure)                  |
//! | `consumer` | what arrives from devices, and what it means (pure)                        |
//! | `sender`   | which command is due, on which connection, to whom (pure)                  |
//! | `window`   | commands that are sent and not acknowledged (pure)                         |
//! | `books`    | counters, latencies, findings, receipts                                    |
//! | `plan`     | the scenario as the back end sees it                                       |

mod books;
mod client;
mod consumer;
mod lines;
mod plan;
mod sender;
mod worker;

pub(crate) use worker::run;
