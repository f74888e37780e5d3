//! A member on a thread of its own, with calls over TCP.

use super::change::{Change, ChangeError};
use super::clocks::WallClock;
use super::config::seed;
use super::handle::Handle;
use super::journal::DiskMoved;
use super::limits::KEPT_ENTRIES;
use super::peers::{self, Answerer, Credentials, TcpPeers};
use super::recovered::Recovered;
use super::replica::{Replica, Settings, StartError};
use super::status::MemberStatus;
use crate::log::{LogHandle, SnapshotStore};
use crate::transfer::StoredSnapshots;
use bytes::Bytes;
use cluster::slots::GroupNo;
use cluster::topology::{HostPort, NodeName};
use cluster::transport::LinkTls;
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// How a member is started.
#[derive(Debug)]
pub struct Options {
    /// Its name.
    pub name: NodeName,
    /// Its group.
    pub group: GroupNo,
    /// The members that the group begins with, this one among them, and where each takes calls of the others.
    pub members: Vec<(NodeName, HostPort)>,
    /// Takes the calls of the others.
    pub listener: TcpListener,
    /// The secret of the fleet.
    pub secret: Arc<[u8]>,
    /// Certificates, if members are to show each other theirs.
    pub tls: Option<Arc<LinkTls>>,
}

/// What a member is started with besides.
#[derive(Debug)]
pub struct Found {
    /// Its log, of which nothing was appended yet.
    pub log: LogHandle,
    /// Its snapshots.
    pub files: SnapshotStore,
    /// What the log's wake function tells.
    pub moved: DiskMoved,
    /// What was in the log.
    pub recovered: Recovered,
}

/// A member that runs. Any thread may ask it; clones are the same member.
#[derive(Clone, Debug)]
pub struct Member {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    replica: Replica<LogHandle, TcpPeers, StoredSnapshots>,
    runtime: tokio::runtime::Handle,
    thread: Mutex<Option<Thread>>,
}

#[derive(Debug)]
struct Thread {
    stop: oneshot::Sender<()>,
    handle: JoinHandle<()>,
}

type Started = Result<Parts, StartError>;

/// What the member's thread makes.
struct Parts {
    replica: Replica<LogHandle, TcpPeers, StoredSnapshots>,
    runtime: tokio::runtime::Handle,
    handle: Handle,
}

impl Member {
    /// Starts the member's thread. `wake` is called, from any thread, when there is something for the group to take
    /// from the [`Handle`].
    pub fn start(
        options: Options,
        found: Found,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<(Self, Handle), StartError> {
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = sync_channel(1);
        let run = move || run(options, found, Box::new(wake), &tell, stopped);
        let thread = std::thread::Builder::new().name("raft".into()).spawn(run);
        let thread = thread.map_err(|error| StartError::System(error.to_string()))?;
        let Parts {
            replica,
            runtime,
            handle,
        } = receive(&told)?;
        let thread = Mutex::new(Some(Thread {
            stop,
            handle: thread,
        }));
        let shared = Arc::new(Shared {
            replica,
            runtime,
            thread,
        });
        Ok((Self { shared }, handle))
    }

    /// What is known of the member and its group.
    pub fn status(&self) -> MemberStatus {
        self.shared.replica.status()
    }

    /// The same, with the bytes that members lack; see [`Replica::detailed_status`].
    pub fn detailed_status(&self) -> MemberStatus {
        self.shared.replica.detailed_status()
    }

    /// Says where members take calls now; see [`Replica::set_addresses`].
    pub fn set_addresses(&self, members: &[(NodeName, HostPort)]) {
        self.shared.replica.set_addresses(members);
    }

    /// Changes the members of the group that this one leads, and waits for that; see [`Replica::change`]. Not for the
    /// member's own thread.
    pub fn change(&self, change: Change, patience: Duration) -> Result<(), ChangeError> {
        let change = self.shared.replica.change(change, patience);
        self.shared.runtime.block_on(change)
    }

    /// Has another member lead, if this one does, before it is stopped as planned; see [`Replica::hand_over`]. Not for the
    /// member's own thread.
    pub fn hand_over(&self) {
        // How it went is in the log of the process.
        let _to = self
            .shared
            .runtime
            .block_on(self.shared.replica.hand_over());
    }

    /// Whether another member may come into the group, which this one leads; see [`Replica::check`]. Not for the member's
    /// own thread.
    pub fn check(
        &self,
        name: &NodeName,
        address: &HostPort,
        replaced: Option<&NodeName>,
    ) -> Result<(), ChangeError> {
        let check = self.shared.replica.check(name, address, replaced);
        self.shared.runtime.block_on(check)
    }

    /// Whether the group, which this member leads, has everything without another one; see [`Replica::can_spare`]. Not
    /// for the member's own thread.
    pub fn can_spare(&self, name: &NodeName) -> Result<(), ChangeError> {
        let spare = self.shared.replica.can_spare(name);
        self.shared.runtime.block_on(spare)
    }

    /// Ends the member's work and waits for its thread. The log may be closed after that.
    pub fn stop(&self) {
        let mut thread = self
            .shared
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(Thread { stop, handle }) = thread.take() else {
            return;
        };
        // It may have ended by itself.
        let _ended = stop.send(());
        if handle.join().is_err() {
            tracing::error!("the member's thread has panicked");
        }
    }
}

fn receive(told: &Receiver<Started>) -> Started {
    told.recv().unwrap_or_else(|_| {
        let why = "the member's thread has ended".into();
        Err(StartError::System(why))
    })
}

fn run(
    options: Options,
    found: Found,
    wake: Box<dyn Fn() + Send + Sync>,
    tell: &SyncSender<Started>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(work(options, found, wake, tell, stopped)),
        Err(error) => Err(StartError::System(error.to_string())),
    };
    if let Err(error) = result {
        // Whoever starts it waits for the first word.
        let _told = tell.send(Err(error));
    }
}

async fn work(
    options: Options,
    found: Found,
    wake: Box<dyn Fn() + Send + Sync>,
    tell: &SyncSender<Started>,
    stopped: oneshot::Receiver<()>,
) -> Result<(), StartError> {
    let system = |error: String| StartError::System(error);
    let random = || getrandom::u64().map_err(|error| system(error.to_string()));
    seed(random()?);
    let settings = Settings {
        group: options.group,
        name: options.name,
        members: options.members,
        run: random()?,
        wall: WallClock::default(),
        kept_entries: KEPT_ENTRIES,
    };
    let credentials = Arc::new(Credentials {
        group: options.group,
        secret: options.secret,
        tls: options.tls,
    });
    let listener = options.listener.set_nonblocking(true);
    let listener = listener.and_then(|()| tokio::net::TcpListener::from_std(options.listener));
    let listener = listener.map_err(|error| system(error.to_string()))?;
    let peers = TcpPeers::new(Arc::clone(&credentials));
    let (log, moved) = (found.log, found.moved);
    let snapshots = StoredSnapshots {
        files: found.files,
        log: log.clone(),
    };
    let (replica, handle) = Replica::start(
        settings,
        log,
        moved,
        found.recovered,
        peers,
        snapshots,
        wake,
    )?;
    let answering = replica.clone();
    let answer: Answerer = Arc::new(move |call: Bytes| {
        let replica = answering.clone();
        Box::pin(async move { replica.answer(call).await })
    });
    let listening = tokio::spawn(peers::listen(listener, credentials, answer));
    let parts = Parts {
        replica: replica.clone(),
        runtime: tokio::runtime::Handle::current(),
        handle,
    };
    if tell.send(Ok(parts)).is_ok() {
        // A sender that is dropped ends it as well.
        let _stop = stopped.await;
    }
    listening.abort();
    replica.stop().await;
    Ok(())
}
