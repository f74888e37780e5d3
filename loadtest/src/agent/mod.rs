//! An agent: lends its machine to controllers that know the secret, as worker processes whose control connection is the
//! controller's TCP connection.
//!
//! | file        | what it holds                             |
//! |-------------|-------------------------------------------|
//! | `handshake` | how both ends prove that they know it     |

pub(crate) mod handshake;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::Error;
use crate::controller::{Secret, Worker, WorkerProgram, own_place};
use crate::limits::{AGENT_HANDSHAKES_MAX, AGENT_WORKERS_MAX, HANDSHAKE_TIMEOUT};
use crate::signals::stop_on_signal;
use handshake::{Facts, Want};

/// How often ended workers are looked for.
const LOOK: Duration = Duration::from_millis(500);

/// What an agent needs.
#[derive(Debug)]
pub struct AgentOptions {
    /// Where controllers connect.
    pub listen: SocketAddr,
    /// What they must know.
    pub secret: Secret,
    /// How workers are started.
    pub worker: WorkerProgram,
}

/// Waits for controllers until SIGINT or SIGTERM; then the workers end, and with them the runs that they belong to. `listening` is
/// told the address as soon as there is one. It needs Linux.
pub fn run_agent(options: AgentOptions, listening: impl FnOnce(SocketAddr)) -> Result<(), Error> {
    let enough = stop_on_signal()?;
    let place = own_place()?;
    let listener = TcpListener::bind(options.listen);
    let listener = listener.map_err(|source| Error::Listen {
        addr: options.listen,
        source,
    })?;
    let failed = "cannot wait for controllers";
    listener
        .set_nonblocking(true)
        .map_err(Error::system(failed))?;
    listening(listener.local_addr().map_err(Error::system(failed))?);
    let agent = Arc::new(Agent {
        secret: options.secret,
        program: options.worker,
        facts: Facts {
            cores: place.cores,
            descriptors: place.descriptors,
        },
        workers: Mutex::new(Some(Vec::new())),
        handshakes: AtomicUsize::new(0),
    });
    let served = agent.serve(&listener, &enough);
    drop(agent.workers().take());
    served
}

struct Agent {
    secret: Secret,
    program: WorkerProgram,
    facts: Facts,
    /// Each with the controller that it is for; `None` when the agent ends.
    workers: Mutex<Option<Vec<(Worker, SocketAddr)>>>,
    /// Connections that have proven nothing yet.
    handshakes: AtomicUsize,
}

impl Agent {
    fn serve(self: &Arc<Self>, listener: &TcpListener, enough: &AtomicBool) -> Result<(), Error> {
        let failed = "cannot wait for controllers";
        let mut poll = Poll::new().map_err(Error::system(failed))?;
        poll.registry()
            .register(
                &mut SourceFd(&listener.as_raw_fd()),
                Token(0),
                Interest::READABLE,
            )
            .map_err(Error::system(failed))?;
        let mut events = Events::with_capacity(4);
        while !enough.load(Ordering::Relaxed) {
            match poll.poll(&mut events, Some(LOOK)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => other.map_err(Error::system(failed))?,
            }
            self.accept(listener);
            self.bury();
        }
        Ok(())
    }

    /// Takes all connections that wait.
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            match listener.accept() {
                Ok((stream, peer)) => self.greet(stream, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // One that was gone before it was taken, or no descriptor at the moment: the next look tries again.
                Err(error) => return eprintln!("cannot take a connection: {error}"),
            }
        }
    }

    /// A stranger gets a thread for as long as a handshake may take.
    fn greet(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let before = self.handshakes.fetch_add(1, Ordering::Relaxed);
        if before >= AGENT_HANDSHAKES_MAX {
            self.handshakes.fetch_sub(1, Ordering::Relaxed);
            return eprintln!(
                "{peer} is turned away: {before} others have not proven themselves yet"
            );
        }
        let agent = Arc::clone(self);
        let started = thread::Builder::new()
            .name("handshake".to_owned())
            .spawn(move || {
                if let Err(error) = agent.meet(stream, peer) {
                    eprintln!("{peer} got nothing: {error}");
                }
                agent.handshakes.fetch_sub(1, Ordering::Relaxed);
            });
        if let Err(error) = started {
            self.handshakes.fetch_sub(1, Ordering::Relaxed);
            eprintln!("{peer} is turned away: {error}");
        }
    }

    fn meet(&self, mut stream: TcpStream, peer: SocketAddr) -> Result<(), String> {
        prepare(&stream).map_err(|error| error.to_string())?;
        let want = handshake::receive(&mut stream, &self.secret, self.facts);
        match want.map_err(|error| error.to_string())? {
            Want::Facts => Ok(()),
            Want::Worker => self.lend(stream, peer),
        }
    }

    fn lend(&self, stream: TcpStream, peer: SocketAddr) -> Result<(), String> {
        let mut workers = self.workers();
        let workers = workers.as_mut().ok_or("this agent is about to end")?;
        if workers.len() >= AGENT_WORKERS_MAX {
            return Err(format!("{AGENT_WORKERS_MAX} workers run already"));
        }
        let worker = Worker::start_on(&self.program, stream.into());
        let worker = worker.map_err(|error| error.to_string())?;
        eprintln!("{peer} has worker process {}", worker.id());
        workers.push((worker, peer));
        Ok(())
    }

    fn workers(&self) -> MutexGuard<'_, Option<Vec<(Worker, SocketAddr)>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of workers that have ended.
    fn bury(&self) {
        let mut workers = self.workers();
        let Some(workers) = workers.as_mut() else {
            return;
        };
        workers.retain_mut(|(worker, peer)| match worker.ended() {
            Ok(None) => true,
            Ok(Some(status)) => {
                eprintln!("worker process {} of {peer} ended: {status}", worker.id());
                false
            }
            Err(error) => {
                eprintln!("worker process {} of {peer}: {error}", worker.id());
                false
            }
        });
    }
}

/// Both ends of a control connection over TCP begin like this.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
    stream.set_write_timeout(Some(HANDSHAKE_TIMEOUT))
}
