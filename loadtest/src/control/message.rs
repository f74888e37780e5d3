//! What the controller and a worker process say to each other.
//!
//! *Run time* is µs since the controller began, on the controller's monotonic clock; a worker adds the offset that it is
//! told to its own monotonic clock. A worker's connection to its controller is ordered; if it breaks, the run fails.

use std::net::SocketAddr;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::scenario::Scenario;

/// Which messages belong together: those of one kind from or to one device. Sequence numbers count from 0 within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Stream {
    /// 0: telemetry of the device. `1 + i`: commands number i of the scenario to the device. [`BACKEND`]: see there.
    pub(crate) kind: u8,
    /// Device number.
    pub(crate) device: u32,
}

/// In a finding: nothing of a device, but a connection of the back end. `device` is that connection's number, and `detail`
/// begins with its client id.
pub(crate) const BACKEND: u8 = u8::MAX;

/// From the controller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum ToWorker {
    /// First of all. Answered with `Ready`.
    Begin(Box<Assignment>),
    /// Clock exchange: answered at once with the worker's own clock.
    Clock {
        /// Given back as it is.
        sent_us: u64,
    },
    /// What to add to the own clock to have run time.
    Offset {
        /// µs.
        us: i64,
    },
    /// The run goes on to this phase of the scenario at this time.
    Phase {
        /// Index.
        index: u16,
        /// Run time.
        at_us: u64,
    },
    /// A phase ends: rates that it set go back.
    PhaseEnd {
        /// Index.
        index: u16,
    },
    /// Messages that this worker has sent have arrived at another worker.
    Receipts(Vec<Receipt>),
    /// What became of devices that this worker sends commands to.
    Presence(Vec<Presence>),
    /// Close the accounts, leave in good order, send what was found and then `Final`, end.
    Finish,
}

/// What a worker is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Assignment {
    /// The scenario.
    pub(crate) scenario: Scenario,
    /// Makes topics, client ids and stamps of this run its own.
    pub(crate) run: u32,
    /// Which worker this is.
    pub(crate) worker: u16,
    /// Where devices connect, plain and with TLS; device n begins at number n modulo the length.
    pub(crate) targets: Vec<SocketAddr>,
    /// The same for populations with TLS.
    pub(crate) tls_targets: Vec<SocketAddr>,
    /// Certificates that TLS targets are trusted by, PEM, and the name that must be in them.
    pub(crate) tls: Option<TlsTrust>,
    /// Devices of each worker; worker 0 has none but all consumers and commands (the back end).
    pub(crate) shares: Vec<Range<u32>>,
}

/// What devices with TLS believe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TlsTrust {
    /// PEM.
    pub(crate) ca_pem: String,
    /// Server name.
    pub(crate) name: String,
}

/// See [`FromWorker::PhaseDone`]. Worker 0 connects as soon as it knows run time.
pub(crate) const BACKEND_UP: u16 = u16::MAX;

/// A message has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// Which one.
    pub(crate) stream: Stream,
    /// And of these.
    pub(crate) seq: u32,
    /// For the first time, or again.
    pub(crate) seen: Seen,
}

/// Which arrival of a message a receipt is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Seen {
    /// The first one.
    First,
    /// The first one, but behind a later message of its stream: the sender's worker knows whether that can be.
    Behind {
        /// `QoS` at which it was delivered.
        qos: u8,
    },
    /// Another one, that is allowed only if the sender has sent the message more than once: the sender's worker knows.
    Again {
        /// `QoS` at which it was delivered.
        qos: u8,
    },
}

/// What became of a device, for those who send to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Presence {
    /// Device number.
    pub(crate) device: u32,
    /// Run time. Of a session that has ended: since when nothing could reach the device.
    pub(crate) at_us: u64,
    /// True: its subscriptions are acknowledged, and what is sent from now on is owed to it. False: its session ended with
    /// its connection, and nothing that was under way is owed any more.
    pub(crate) subscribed: bool,
}

/// From a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum FromWorker {
    /// It knows what to do. `process`: its process id, for measuring it where it is on the controller's machine.
    Ready {
        /// Process id.
        process: u32,
    },
    /// Answer to `Clock`.
    Clock {
        /// From the question.
        sent_us: u64,
        /// The worker's monotonic clock.
        own_us: u64,
    },
    /// Once a second.
    Sample(Box<Sample>),
    /// Messages of worker `of` have arrived here.
    Receipts {
        /// Who sent them.
        of: u16,
        /// Which.
        receipts: Vec<Receipt>,
    },
    /// What became of devices here; goes to worker 0.
    Presence(Vec<Presence>),
    /// Broken promises, as they are found; at most `FINDINGS_MAX` of a worker, all are counted in `Sample`.
    Findings(Vec<Finding>),
    /// The worker's part of a ramp, storm or drain is done (its devices are up, back, or nothing is owed any more). Right
    /// before it comes a `Sample`, so that the figures of the phase are whole. Worker 0 says it too. (The controller ends
    /// steady phases by the clock, and restarts when samples younger than the last restarted node show all devices back.)
    /// Before all phases worker 0 says [`BACKEND_UP`]: its consumers are subscribed and its senders connected. No device is
    /// to connect earlier.
    PhaseDone {
        /// Index, or [`BACKEND_UP`].
        index: u16,
    },
    /// The last message; the sample covers the rest.
    Final(Box<Sample>),
    /// The run cannot go on.
    Failed(String),
}

/// Where a worker stands. Counters count from the start of the run; latencies are those since the sample before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Run time.
    pub(crate) at_us: u64,
    /// Devices with a CONNACK (and SUBACK).
    pub(crate) connected: u64,
    /// Devices on their way, of worker 0: its connections that are not up.
    pub(crate) connecting: u64,
    /// Counters.
    pub(crate) counts: Counts,
    /// Latencies since the last sample.
    pub(crate) latencies: Vec<(LatencyKind, Spread)>,
    /// Connections lost and refused since the start, by reason in words; at most `REASONS_MAX` reasons.
    pub(crate) errors: Vec<(String, u64)>,
    /// CPU time used, µs.
    pub(crate) cpu_us: u64,
    /// Resident memory, bytes.
    pub(crate) rss_bytes: u64,
}

/// Counters of a worker. All only grow but for `owed`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// CONNACKs with success.
    pub(crate) connects: u64,
    /// Of these, those that came back after a loss.
    pub(crate) reconnects: u64,
    /// Connections lost after their CONNACK (those that a storm dropped are not among them).
    pub(crate) connections_lost: u64,
    /// Sockets dropped by a storm.
    pub(crate) dropped: u64,
    /// PINGRESPs.
    pub(crate) pings: u64,
    /// Messages sent, by QoS (first time each).
    pub(crate) sent: [u64; 3],
    /// Acknowledged to the sender (QoS 0: written).
    pub(crate) acknowledged: [u64; 3],
    /// First arrivals.
    pub(crate) received: [u64; 3],
    /// Messages acknowledged and owed to somebody that have not arrived yet, at this moment.
    pub(crate) owed: u64,
    /// What the oracle found, see [`FindingKind`], in its order.
    pub(crate) findings: [u64; FindingKind::COUNT],
    /// Repetitions that QoS 1 allows.
    pub(crate) repeated: u64,
    /// Messages lost with a session that was to end (clean session, device was away).
    pub(crate) excused: u64,
    /// Messages never acknowledged by the end.
    pub(crate) unacknowledged: u64,
    /// Messages that left more than `LATE` after their time.
    pub(crate) left_late: u64,
    /// Messages that fell due while their sender or all of their receivers were away, and were never sent.
    pub(crate) not_sent: u64,
    /// Payload bytes sent and received.
    pub(crate) bytes: [u64; 2],
}

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum LatencyKind {
    /// From the dial (due time) to CONNACK.
    Connect,
    /// From SUBSCRIBE to SUBACK.
    Subscribe,
    /// From PINGREQ to PINGRESP.
    Ping,
    /// Telemetry, from its due time to its first arrival.
    Telemetry,
    /// Telemetry, from its due time to PUBACK or PUBCOMP.
    TelemetryAck,
    /// Commands, from their due time to the first arrival.
    Command,
    /// Commands, from their due time to PUBACK or PUBCOMP.
    CommandAck,
}

/// The filled buckets of a histogram (µs): value and count, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spread(pub(crate) Vec<(u64, u64)>);

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// What.
    pub(crate) kind: FindingKind,
    /// Which device and kind of message.
    pub(crate) stream: Stream,
    /// Sequence number, where there is one.
    pub(crate) seq: Option<u32>,
    /// Run time: when the message was due, or when it was found.
    pub(crate) at_us: u64,
    /// QoS of the message, or 0.
    pub(crate) qos: u8,
    /// More, in words; may be empty.
    pub(crate) detail: String,
}

/// Kinds of broken promises, and what only looks like one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// Acknowledged, owed, never arrived (QoS 1, 2).
    Lost,
    /// QoS 0, written, subscriber there, never arrived. Not a broken promise.
    LostQos0,
    /// QoS 2: arrived again. QoS 1: arrived again on the same connection without DUP, and the sender sent it once.
    Duplicated,
    /// QoS 0 arrived more than once. The standard allows at most once.
    DuplicatedQos0,
    /// First arrival behind a later message of its stream.
    Reordered,
    /// Arrived more than `ARRIVAL_LATE` after its due time. Not a broken promise: its receiver may have been away.
    Late,
    /// CONNACK without a session where there had to be one.
    SessionLost,
    /// CONNACK with a session where there could be none.
    SessionUnexpected,
    /// A packet that a broker must not send, or bytes that are none.
    Violation,
    /// A message of this run at a device that it was not for, or altered.
    Misdelivered,
}

impl FindingKind {
    /// How many there are.
    pub const COUNT: usize = 10;

    /// All, in order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Lost,
        Self::LostQos0,
        Self::Duplicated,
        Self::DuplicatedQos0,
        Self::Reordered,
        Self::Late,
        Self::SessionLost,
        Self::SessionUnexpected,
        Self::Violation,
        Self::Misdelivered,
    ];

    /// In words, behind a count.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::LostQos0 => "lost at QoS 0",
            Self::Duplicated => "duplicated",
            Self::DuplicatedQos0 => "duplicated at QoS 0",
            Self::Reordered => "reordered",
            Self::Late => "late",
            Self::SessionLost => "sessions lost",
            Self::SessionUnexpected => "sessions where there could be none",
            Self::Violation => "violations of the standard",
            Self::Misdelivered => "misdelivered or altered",
        }
    }

    /// Whether it fails a run whose promises are judged.
    #[must_use]
    pub fn breaks_a_promise(self) -> bool {
        !matches!(self, Self::LostQos0 | Self::Late)
    }
}
