//! The link server: a thread that carries the links of proxies in other processes over TCP.
//!
//! It is to a group what shards are in one process: it puts frames into bags and takes frames out of bags, and runs
//! the group's turn itself if nobody else does. What may be said on a connection is decided in
//! [`cluster::link::GroupSession`]; here are the sockets and the clock.

mod connection;
mod counters;
mod limits;
mod refusal;
mod server;

pub use counters::LinkServerCounters;

use crate::group::{AbortOnPanic, GroupLinks, GroupWaker};
use cluster::link::GroupIdentity;
use cluster::topology::SharedTopology;
use cluster::transport::LinkTls;
use mio::{Poll, Waker};
use server::Server;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A running link server.
#[derive(Debug)]
pub struct LinkServer {
    address: SocketAddr,
    counters: Arc<LinkServerCounters>,
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
    thread: JoinHandle<io::Result<()>>,
}

impl LinkServer {
    /// Starts the thread. `wake_group` is the waker of the opened group and `links` what it got when it was started.
    /// Proxies are told of the newest topology, and told what they know of a newer one. With `tls`, links are taken with
    /// mutual TLS only. Fails if the process is out of descriptors or threads.
    pub fn start(
        listener: TcpListener,
        identity: GroupIdentity,
        topology: &Arc<SharedTopology>,
        tls: Option<Arc<LinkTls>>,
        links: GroupLinks,
        wake_group: GroupWaker,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), server::WAKER)?);
        let counters = Arc::<LinkServerCounters>::default();
        let stop = Arc::new(AtomicBool::new(false));
        let watch = topology.watch(server::wake(&waker));
        let server = Server::new(
            poll,
            listener,
            watch,
            server::Shared {
                identity,
                tls,
                links,
                wake_group,
                waker: Arc::clone(&waker),
                counters: Arc::clone(&counters),
                stop: Arc::clone(&stop),
            },
        )?;
        let body = move || {
            let _abort = AbortOnPanic;
            server.run()
        };
        let thread = std::thread::Builder::new()
            .name("links".into())
            .spawn(body)?;
        Ok(Self {
            address,
            counters,
            stop,
            waker,
            thread,
        })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it counts.
    pub fn counters(&self) -> Arc<LinkServerCounters> {
        Arc::clone(&self.counters)
    }

    /// Closes all connections and ends the thread. An error is one of the poll itself, after which nothing was served.
    pub fn stop(self) -> io::Result<()> {
        self.stop.store(true, Ordering::Release);
        self.waker.wake()?;
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
