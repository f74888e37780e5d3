//! Every limit of the load simulator, with its reason.

use std::time::Duration;

/// Bytes one read may return. All links of a thread share one block, so an idle link owns none.
pub(crate) const READ_BLOCK_BYTES: usize = 64 * 1024;

/// A packet longer than this is taken for a broker that lost its framing.
pub(crate) const PACKET_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Unsent bytes a link may hold before its publisher waits for the socket (open loop: the
/// messages stay due, and their latency counts from when they should have left).
pub(crate) const UNSENT_BYTES_MAX: usize = 256 * 1024;

/// Payload bytes the oracle needs: sender `u32`, sequence `u64`, time `u64`.
pub(crate) const STAMP_BYTES: usize = 20;

/// Largest payload that `--size` takes; one packet must fit well into [`PACKET_BYTES_MAX`].
pub(crate) const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

/// Largest `--window`. Packet ids are taken in turn, so the window stays far below 65,535.
pub(crate) const WINDOW_MAX: u32 = 16_384;

/// Messages at `QoS` 1 and 2 that an open-loop publisher may have unacknowledged.
pub(crate) const OPEN_LOOP_UNACKED_MAX: u32 = 32_768;

/// How many windows a publisher at `QoS` 1 or 2 may run ahead of its slowest subscriber.
pub(crate) const AHEAD_WINDOWS: u64 = 4;

/// A publisher refills when this part of its window is free, so that messages travel in batches.
pub(crate) const REFILL_PART: u64 = 4;

/// Gaps remembered per stream. Beyond it the oldest gap is lost for good: what still arrives from
/// it counts as duplicated.
pub(crate) const GAPS_MAX: usize = 4_096;

/// Connections in one run. The table of devices is allocated up front.
pub(crate) const CONNECTIONS_MAX: usize = 1_000_000;

/// Connections on their way at once, unless asked otherwise. Brokers with a backlog of 100 exist
/// (mosquitto); beyond it the kernel drops a SYN and the connection takes a second.
pub(crate) const OUTSTANDING: usize = 80;

/// The same in a storm, which is to hurt.
pub(crate) const STORM_OUTSTANDING: usize = 1_000;

/// Descriptors the process needs beside its connections.
pub(crate) const SPARE_DESCRIPTORS: u64 = 64;

/// Connections from one source address. There are about 28,000 ephemeral ports, but Linux searches
/// one half of them first, in line, and gets slow long before that half is full.
pub(crate) const PER_SOURCE_MAX: usize = 6_000;

/// Loopback source addresses to rotate through, 127.0.0.2 and up.
pub(crate) const SOURCES_MAX: usize = 250;

/// Readiness events taken per poll.
pub(crate) const EVENTS_PER_POLL: usize = 1_024;

/// Time a connection may take from `connect` to its last answer.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(15);

/// How often timers (keepalive, dial timeout, stalled windows) are looked at.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// A `QoS` 0 window that saw no delivery for this long is written off as lost and opened again.
pub(crate) const STALL: Duration = Duration::from_secs(1);

/// Wait for stragglers after the publishers stopped, from the last one that came.
pub(crate) const DRAIN_QUIET: Duration = Duration::from_secs(5);

/// Wait for stragglers in all, however many still come.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(60);

/// Shortest step of the open-loop schedule: one wake-up per step.
pub(crate) const PACE_STEP_MIN: Duration = Duration::from_millis(1);

/// Below this rate (messages per second) one thread paces everything: a second one would only
/// add wake-ups.
pub(crate) const ONE_THREAD_RATE_MAX: f64 = 100_000.0;

/// Messages that worker threads may have under way to the main thread.
pub(crate) const REPORTS_MAX: usize = 64;

/// endure, run: messages that a publisher with a persistent session may have open, counted from the oldest one. What
/// falls due beyond waits and counts as late. Brokers commonly grant this much as Receive Maximum.
pub(crate) const OPEN_MAX: usize = 1_024;

/// endure: ranges of message numbers one stream of the oracle may keep: half a MiB of gaps. Beyond
/// it the run fails, because nothing could be said about what comes.
pub(crate) const RANGES_MAX: usize = 16_384;

/// endure, backlog: filters of one subscriber. They travel in one SUBSCRIBE, and brokers bound the filters of a
/// session.
pub(crate) const FILTERS_MAX: usize = 1_000;

/// endure: shortest and longest wait before a connection is tried again.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// See [`BACKOFF_MIN`].
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// endure: time from a dial to the answer of CONNECT (and SUBSCRIBE). Then the next address is
/// tried. A fleet may take 10 s to answer a SUBSCRIBE when a group is away.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(12);

/// endure: a message that left this much after its time counts as late.
pub(crate) const LATE: Duration = Duration::from_millis(50);

/// fight: how often a client looks, after the fight, whether its client id is still taken.
pub(crate) const REST: Duration = Duration::from_millis(200);

/// fight: clients with one client id.
pub(crate) const CONTENDERS: usize = 3;

/// backlog: publishers. Enough to share syncs of the disk among them.
pub(crate) const BACKLOG_PUBLISHERS: usize = 16;

/// backlog: bytes of a payload that say whose it is (`u32`) and its number (`u64`).
pub(crate) const BACKLOG_STAMP_BYTES: usize = 12;

/// backlog: sessions on their way at once. All of them come back at a broker that has just started.
pub(crate) const BACKLOG_OUTSTANDING: usize = 200;

/// backlog: bytes of the name of a run. Client ids stay below the 256 bytes that brokers commonly take.
pub(crate) const RUN_BYTES_MAX: usize = 64;

/// backlog: wait before a connection that failed is dialed again.
pub(crate) const DIAL_AGAIN: Duration = Duration::from_millis(100);

const _: () = assert!(BACKLOG_STAMP_BYTES <= STAMP_BYTES);

/// endure and backlog: wait after everything has arrived for what should not come any more.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// Longest message between controller and worker. The longest are samples with the filled buckets of all histograms, and
/// receipts by the thousand: tens of KiB.
pub(crate) const CONTROL_FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What either end of a control connection keeps for the other one. It is reached only by an end that does not read at all.
pub(crate) const CONTROL_UNSENT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What may wait for a worker before the controller keeps back what other workers have for it.
pub(crate) const CONTROL_BACKLOG_BYTES: usize = 1024 * 1024;

/// How long an end of a control connection may read nothing while something waits for it. A machine that is short of CPU
/// makes a worker's turns seconds long, but not this long.
pub(crate) const CONTROL_STALL_MAX: Duration = Duration::from_secs(60);

/// Devices that keep about one core busy at most, with their telemetry, pings and commands: so many get a worker of their
/// own where there is a core for it.
pub(crate) const DEVICES_PER_CORE: u32 = 10_000;

/// Worker processes of one run, worker 0 counted: each costs the controller a socket and the machine a few MiB.
pub(crate) const WORKERS_MAX: usize = 1_024;

/// Questions in one exchange of clocks. The quickest answer counts, and most of them come through empty queues.
pub(crate) const CLOCK_ROUNDS: u32 = 8;

/// µs a phase is announced ahead of its beginning, so that it begins for all workers at the same time.
pub(crate) const PHASE_LEAD_US: u64 = 200_000;

/// µs until all workers must be ready: they start, read certificates, and worker 0 connects and subscribes.
pub(crate) const READY_MAX_US: u64 = 60_000_000;

/// µs from the end of the drain to the end of the run: for receipts of what arrived last, which workers send each second,
/// and for repetitions that brokers should not send.
pub(crate) const SETTLE_US: u64 = 2_500_000;

/// µs until all workers must have ended: a million devices leave in good order, those of 3.1.1 after one more connection.
pub(crate) const FINISH_MAX_US: u64 = 600_000_000;

/// How long a worker may take from its last message to its end: the kernel closes what it still has.
pub(crate) const WORKER_END_MAX: Duration = Duration::from_secs(20);

/// Rows of figures over time in a report: more than a screen has columns.
pub(crate) const SERIES_POINTS_MAX: usize = 2_000;

/// Findings in words in a report. All are counted.
pub(crate) const EXAMPLES_MAX: usize = 200;

/// Time between two looks at the processes.
pub(crate) const LOOK_US: u64 = 1_000_000;

/// The same with more than [`LOOK_PROCESSES`]: the controller's CPU counts as the simulator's.
pub(crate) const LOOK_MANY_US: u64 = 2_000_000;
/// See [`LOOK_MANY_US`].
pub(crate) const LOOK_PROCESSES: usize = 60;

/// µs between two exchanges of clocks with a worker: two quartzes may drift apart by 50 µs a second.
pub(crate) const CLOCK_EVERY_US: u64 = 60_000_000;

/// How long either end of an agent's handshake waits for the other one's next message.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections of an agent that have not proven yet that they know the secret: each has a thread.
pub(crate) const AGENT_HANDSHAKES_MAX: usize = 64;

/// Worker processes of an agent, of all runs together.
pub(crate) const AGENT_WORKERS_MAX: usize = WORKERS_MAX;

const _: () =
    assert!(CONTROL_BACKLOG_BYTES + 2 * CONTROL_FRAME_BYTES_MAX < CONTROL_UNSENT_BYTES_MAX);

/// run: messages of one worker that are sent and not both acknowledged and received. At 1,000,000 devices that is one
/// each and as many again; about 100 bytes each. Beyond it the run fails.
pub(crate) const LEDGER_MAX: usize = 1 << 21;

/// run: messages of one worker that were sent more than once and are remembered, because a repetition at the receiver may
/// be due to that. 40 bytes each. Beyond it the run fails.
pub(crate) const RESENT_MAX: usize = 1 << 20;

/// run: how long that is remembered: as long as the sessions of consumers last.
pub(crate) const RESENT_KEPT: Duration = Duration::from_secs(3_600);

/// run: gaps in the numbers that one worker has received, of all its receivers. 24 bytes each. Beyond it the run fails.
pub(crate) const STREAM_GAPS_MAX: usize = 1 << 20;

/// run: a `QoS` 0 message that has not come by then has not come: brokers drop it rather than keep it.
pub(crate) const QOS0_PATIENCE: Duration = Duration::from_secs(10);

/// run: how long a message to a session that has ended stays in the ledger, in case that it came all the same.
pub(crate) const EXCUSED_KEPT: Duration = Duration::from_secs(60);

/// run: a message that was acknowledged this long before its receiver's session ended was not under way any more, but lost:
/// the receiver had been connected all the time.
pub(crate) const UNDER_WAY_MAX: Duration = Duration::from_secs(60);

/// run: a first arrival this much after its due time is late. That does not fail a run: devices may have been away.
pub(crate) const ARRIVAL_LATE: Duration = Duration::from_secs(10);

/// run: receipts that travel together: about 40 KiB on the control socket.
pub(crate) const RECEIPTS_BATCH: usize = 4_096;

/// run: time that a broker has to answer CONNECT, SUBSCRIBE and PINGREQ of the back end.
pub(crate) const BACKEND_ANSWER_MAX: Duration = Duration::from_secs(15);

/// run: longest first wait before a lost connection of the back end is tried again; it doubles with each failure.
pub(crate) const BACKEND_BACKOFF_MIN: Duration = Duration::from_millis(100);
/// See [`BACKEND_BACKOFF_MIN`].
pub(crate) const BACKEND_BACKOFF_MAX: Duration = Duration::from_secs(2);

/// run: how often timers of the back end are looked at.
pub(crate) const BACKEND_TICK: Duration = Duration::from_millis(50);

/// run: the same while commands leave by the clock.
pub(crate) const BACKEND_STEP: Duration = Duration::from_millis(2);

/// run: how long the back end waits for brokers to close after its DISCONNECT.
pub(crate) const BACKEND_LEAVE_MAX: Duration = Duration::from_secs(5);

/// run: reasons of lost connections that the back end tells apart. The rest counts as `other`.
pub(crate) const BACKEND_REASONS_MAX: usize = 64;

/// run: findings of one worker that are told in words, the same number of each kind; all are counted.
pub(crate) const FINDINGS_MAX: usize = 1_000;

/// Scenarios: devices of all populations. Device numbers are `u32`; ten machines with a million each are more than anybody
/// has tried.
pub(crate) const DEVICES_MAX: u32 = 10_000_000;

/// Scenarios: populations. Reports list them; a fleet has a few kinds of devices.
pub(crate) const POPULATIONS_MAX: usize = 64;

/// Scenarios: subscriptions of a device. They travel in one SUBSCRIBE, and each is memory in the broker.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 32;

/// Scenarios: consumers, and commands. The kind of a message is a byte: 0 for telemetry, then the commands.
pub(crate) const BACKENDS_MAX: usize = 64;

/// Scenarios: connections of one consumer or of one sender of commands. All of them are in one process.
pub(crate) const BACKEND_CONNECTIONS_MAX: u64 = 1_000;

/// Scenarios: phases. A report has a row for each.
pub(crate) const PHASES_MAX: usize = 1_000;

/// Scenarios: bytes of a client id, with its number, without what tells runs apart. Brokers commonly take 256 in all.
pub(crate) const CLIENT_ID_BYTES_MAX: usize = 200;

/// Scenarios: proxies, groups and threads of each proxy of a fleet that is started: what `mqtt-fleet cluster` takes.
pub(crate) const FLEET_PROXIES_MAX: u64 = 100;
/// See [`FLEET_PROXIES_MAX`].
pub(crate) const FLEET_GROUPS_MAX: u64 = 64;
/// See [`FLEET_PROXIES_MAX`].
pub(crate) const FLEET_SHARDS_MAX: u64 = 256;

const _: () = assert!(BACKENDS_MAX < u8::MAX as usize && PHASES_MAX <= u16::MAX as usize);
const _: () = assert!(OPEN_MAX < 65_535 && BACKOFF_MIN.as_nanos() < BACKOFF_MAX.as_nanos());
const _: () = assert!(BACKEND_STEP.as_nanos() < BACKEND_TICK.as_nanos());
const _: () = assert!(WINDOW_MAX < 65_535 / 2 && OPEN_LOOP_UNACKED_MAX < 65_535 / 2 + 2);
const _: () = assert!(PAYLOAD_BYTES_MAX + 1024 < PACKET_BYTES_MAX);

/// Latencies of one kind that are kept one by one before they are counted by buckets: 8 KiB.
pub(crate) const SPREAD_PENDING_MAX: usize = 1_024;

/// run: slots of a worker's timer wheel. With ticks of 10 ms that is 41 s; timers further off are looked at once a turn.
pub(crate) const SIM_WHEEL_SLOTS: usize = 4_096;

/// run: source ports on loopback. Below them servers listen.
pub(crate) const SIM_SOURCE_PORTS: std::ops::Range<u16> = 10_000..60_000;

/// run: ports that a connection may find taken, by whatever else runs on the machine, before that counts as an error.
pub(crate) const SIM_BIND_TRIES: u32 = 1_000;

/// run: connections of one worker between dial and last answer; further ones wait, and their latency counts. Together
/// with other workers that fills the backlog of a listener (4,096 by default) but rarely overflows it.
pub(crate) const SIM_DIALING_MAX: usize = 512;

/// run: time a device gives a broker to answer CONNECT, SUBSCRIBE, PINGREQ and its messages. Longer than brokers need to settle after
/// one of them was restarted.
pub(crate) const SIM_ANSWER_MAX: Duration = Duration::from_secs(30);

/// run: devices of one worker that have sent DISCONNECT and wait for the broker to close.
pub(crate) const SIM_LEAVING_MAX: usize = 64;

/// run: how long they wait before they close themselves.
pub(crate) const SIM_LEAVE_MAX: Duration = Duration::from_secs(5);

/// run: telemetry that a device may have unacknowledged. What falls due beyond it waits and counts as late.
pub(crate) const SIM_OPEN_MAX: usize = 32;

/// run: unsent bytes at which a device's telemetry waits for its socket.
pub(crate) const SIM_UNSENT_BYTES_MAX: usize = 64 * 1024;

/// run: devices that a presence message is about; a second's worth is split so that none is too long.
pub(crate) const SIM_PRESENCE_MAX: usize = 4_096;

/// run: reasons for lost connections that are told apart. The rest counts as `other`.
pub(crate) const SIM_REASONS_MAX: usize = 64;

/// run: how long a worker waits at the end of a run for what is under way, before its devices leave.
pub(crate) const SIM_FINISH_QUIET_MAX: Duration = Duration::from_secs(5);

/// run: TLS records that are read at once: the longest (RFC 8446, 5.2) and the start of the next one.
pub(crate) const SIM_RECORDS_BYTES_MAX: usize = 18 * 1024;
