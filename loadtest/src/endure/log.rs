//! What happened to all connections of one thread, counted by kind.

use crate::latency::Latency;
use crate::traffic::Errors;

/// Why a connection came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Loss {
    /// A system call said so, or SUBSCRIBE was refused.
    Error(String),
    /// The other side closed.
    Closed,
    /// No answer in time.
    Silent,
    /// CONNACK with this code.
    Refused(u8),
    /// DISCONNECT with this reason (MQTT 5).
    Goodbye(u8),
    /// The broker did what a broker must not do.
    Fault(String),
}

/// Counters of one thread.
#[derive(Debug)]
pub(crate) struct Log {
    /// What may happen to a connection while brokers come and go.
    pub(crate) errors: Errors,
    /// What a broker must not do.
    pub(crate) violations: Errors,
    /// CONNACKs that refused, by code.
    pub(crate) connect_refused: Errors,
    pub(crate) connects: u64,
    pub(crate) reconnects: u64,
    /// Connections that found no session where there must be one.
    pub(crate) session_lost: u64,
    /// fight: connections that were closed because another client took the client id over.
    pub(crate) taken_over: u64,
    /// Subscribers that left to come back.
    pub(crate) churned: u64,
    /// Time from a dial to the CONNACK that said the session is there.
    pub(crate) resume: Latency,
    /// Time from the loss of a connection until the next one was up.
    pub(crate) reconnect: Latency,
    /// From the time a message should have left to its first arrival.
    pub(crate) latency: Latency,
}

impl Log {
    /// Nothing happened yet.
    pub(crate) fn new() -> Self {
        Self {
            errors: Errors::new(),
            violations: Errors::new(),
            connect_refused: Errors::new(),
            connects: 0,
            reconnects: 0,
            session_lost: 0,
            taken_over: 0,
            churned: 0,
            resume: Latency::new(),
            reconnect: Latency::new(),
            latency: Latency::new(),
        }
    }

    /// Counts the end of a connection.
    pub(crate) fn loss(&mut self, loss: Loss) {
        match loss {
            Loss::Error(what) => count(&mut self.errors, what),
            Loss::Closed => count(&mut self.errors, "closed by the broker".to_owned()),
            Loss::Silent => count(&mut self.errors, "no answer in time".to_owned()),
            Loss::Refused(code) => count(&mut self.connect_refused, format!("0x{code:02x}")),
            Loss::Goodbye(reason) => {
                count(
                    &mut self.errors,
                    format!("DISCONNECT with reason 0x{reason:02x}"),
                );
            }
            Loss::Fault(what) => count(&mut self.violations, what),
        }
    }

    /// Counts a PUBLISH that was answered with a refusal.
    pub(crate) fn publish_refused(&mut self, reason: u8) {
        count(
            &mut self.errors,
            format!("publish refused with reason 0x{reason:02x}"),
        );
    }
}

fn count(errors: &mut Errors, kind: String) {
    *errors.entry(kind).or_default() += 1;
}
