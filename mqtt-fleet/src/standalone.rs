//! The whole broker in one process: start, run, drain.
//!
//! Order of the start: addresses are reserved, the admin port answers ("starting"), the data are
//! opened and replayed, and only then the MQTT port opens.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use broker::log::LogError;
use broker::raft::StartError;
use proxy::counters::ProxyCounters;
use session_store::RedisStartError;

use crate::admin::{Admin, Health, Phase};
use crate::banner::{self, Banner};
use crate::config::Settings;
use crate::engine::Engine;
use crate::exit::Exit;
use crate::figures::{self, Figures};
use crate::listen::{DevicePorts, ListenError, Place};
use crate::logging;
use crate::metrics::{self, Metrics};
use crate::node::NodeError;
use crate::reload;
use crate::stop::{self, Stop, Stopper};

/// Why the broker could not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// A port cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The data folder is locked, unwritable, full or damaged: at start, or later when a write fails.
    #[error("{error}{}", advice(error))]
    Log {
        /// What the log says.
        #[from]
        error: LogError,
    },
    /// A member cannot take part in its group.
    #[error(transparent)]
    Member(#[from] StartError),
    /// A file of the fleet.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The session store cannot be started.
    #[error(transparent)]
    Store(#[from] RedisStartError),
    /// The operating system refuses something that every start needs: a thread, a signal handler.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
}

impl RunError {
    /// The exit code that tells this error to scripts.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Listen(_) => Exit::Address,
            Self::Log { error } => match error {
                LogError::DiskFull { .. } => Exit::DiskFull,
                LogError::Damaged { .. } => Exit::Damaged,
                LogError::Unsupported { .. } => Exit::Newer,
                LogError::Locked { .. } | LogError::Unwritable { .. } | LogError::Io { .. } => {
                    Exit::Data
                }
                _ => Exit::Failed,
            },
            Self::Node(NodeError::Unwritable { .. }) => Exit::Data,
            Self::Node(_) => Exit::Usage,
            Self::Member(_) | Self::Store(_) | Self::System(_) => Exit::Failed,
        }
    }
}

/// What to do about it, as the end of the sentence.
fn advice(error: &LogError) -> &'static str {
    match error {
        LogError::Locked { .. } => {
            "; stop that process, or give this one a folder of its own with --data (data.dir)"
        }
        LogError::Unwritable { .. } => "; the folder is given by --data (data.dir)",
        LogError::DiskFull { .. } => {
            "; make room and start again, nothing that was acknowledged is lost"
        }
        LogError::Damaged { .. } => {
            "; restore the folder from a copy, or move it away to begin anew"
        }
        LogError::Unsupported { .. } => "; start that version, nothing is lost",
        _ => "",
    }
}

/// Runs the broker until a signal stops it (`Ok`) or it cannot go on.
pub(crate) fn run(settings: &Settings) -> Result<(), RunError> {
    let (stopper, reasons) = begin(settings)?;
    let admin = admin_place(settings).reserve(1)?;
    let ports = DevicePorts::reserve(settings)?;
    reload::watch(settings)?;
    let banner = Banner {
        mqtt: ports.mqtt(),
        further_ports: banner::further_ports(&ports),
        admin: admin.address(),
        data: &settings.data,
        durability: settings.log.durability,
        shards: settings.shards,
    };

    let counters: Vec<Arc<ProxyCounters>> = (0..settings.shards).map(|_| Arc::default()).collect();
    let figures = Figures::default();
    let mut metrics = Metrics::default();
    metrics::add_process(&mut metrics);
    figures::add_shards(&mut metrics, &counters);
    figures.add_group(&mut metrics);
    let health = Arc::new(Health::starting());
    let admin_listener = admin.open()?.swap_remove(0);
    let _admin = Admin::start(
        admin_listener,
        format!("MQTT on {}", ports.mqtt()),
        Arc::clone(&health),
        metrics.publish(),
        None,
        None,
    )?;

    let engine = Engine::open(settings, &stopper)?;
    figures.read_from(engine.group());
    let serving = engine
        .serve(settings, &stopper, ports, &counters)
        .map_err(|error| first_fault(&reasons).unwrap_or(error))?;
    health.enter(Phase::Ready);
    banner.show();

    end(&reasons, &health, || serving.stop())
}

/// What every process begins with: its log, its descriptors, its signals.
pub(crate) fn begin(settings: &Settings) -> Result<(Stopper, Receiver<Stop>), RunError> {
    logging::start(settings);
    raise_descriptor_limit();
    Ok(stop::watch()?)
}

/// The admin port as configured.
pub(crate) fn admin_place(settings: &Settings) -> Place {
    Place {
        address: settings.admin,
        key: "listen.admin",
        flag: "--admin",
    }
}

/// Waits for the reason to end, and ends by `stop` if it is a signal.
pub(crate) fn end(
    reasons: &Receiver<Stop>,
    health: &Health,
    stop: impl FnOnce() -> Result<(), RunError>,
) -> Result<(), RunError> {
    end_for(next(reasons), health, stop)
}

/// Waits for the reason to end.
pub(crate) fn next(reasons: &Receiver<Stop>) -> Stop {
    let reason = reasons.recv();
    reason.expect("the signal thread holds a sender for as long as we live")
}

/// Ends for this reason, by `stop` if it is a signal.
pub(crate) fn end_for(
    reason: Stop,
    health: &Health,
    stop: impl FnOnce() -> Result<(), RunError>,
) -> Result<(), RunError> {
    health.enter(Phase::Draining);
    match reason {
        Stop::Signal | Stop::Again => {
            stop()?;
            tracing::info!("stopped");
            Ok(())
        }
        Stop::Fault(fault) => Err(fault),
    }
}

/// What a thread has reported already: the cause of what was seen afterwards.
pub(crate) fn first_fault(reasons: &Receiver<Stop>) -> Option<RunError> {
    reasons.try_iter().find_map(|stop| match stop {
        Stop::Fault(fault) => Some(fault),
        Stop::Signal | Stop::Again => None,
    })
}

/// Every client is a descriptor, and the usual soft limit is 1,024; the hard limit is what the
/// administrator meant.
fn raise_descriptor_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::info!(limit, "file descriptors"),
        Err(error) => tracing::warn!(%error, "the limit of file descriptors could not be raised"),
    }
}
