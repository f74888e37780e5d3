//! A wire between a proxy and a broker that can be cut, stopped, and led elsewhere.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// How long connections live, in turn. Not all the same: what one is to send again can be more than a short one
/// carries, and then nothing would ever get further.
const LIVES: [usize; 4] = [1, 2, 5, 11];

pub(crate) struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Where new connections go; `None`: nowhere, they are closed.
    target: Option<SocketAddr>,
    /// Nothing moves, and nobody hears of it.
    paused: bool,
    /// Connections are cut after so many bytes, counted over both directions, times one of [`LIVES`].
    cut_every: Option<usize>,
    left: usize,
    open: Vec<TcpStream>,
    connections: u64,
    cuts: u64,
}

impl Wire {
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::<Shared>::default();
        shared.lock().target = Some(target);
        let accepting = Arc::clone(&shared);
        // The thread ends with the process of the test.
        std::thread::spawn(move || accept(&listener, &accepting));
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn lead_to(&self, target: SocketAddr) {
        self.shared.lock().target = Some(target);
    }

    /// New connections are closed.
    pub(crate) fn lead_nowhere(&self) {
        self.shared.lock().target = None;
    }

    /// Cuts all connections now.
    pub(crate) fn cut(&self) {
        self.shared.lock().cut();
    }

    /// Cuts after `bytes`, twice that, and some more; `None`: no more.
    pub(crate) fn cut_every(&self, bytes: Option<usize>) {
        let mut state = self.shared.lock();
        state.cut_every = bytes;
        state.left = bytes.unwrap_or_default();
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.shared.lock().paused = paused;
        self.shared.changed.notify_all();
    }

    pub(crate) fn connections(&self) -> u64 {
        self.shared.lock().connections
    }

    pub(crate) fn cuts(&self) -> u64 {
        self.shared.lock().cuts
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no pump panics")
    }

    /// How many of `bytes` may pass; waits while the wire stands.
    fn pass(&self, bytes: usize) -> usize {
        let state = self.lock();
        let mut state = self
            .changed
            .wait_while(state, |state| state.paused)
            .expect("no pump panics");
        if state.cut_every.is_none() {
            return bytes;
        }
        let bytes = bytes.min(state.left);
        state.left -= bytes;
        bytes
    }

    /// Cuts if it is time.
    fn passed(&self) {
        let mut state = self.lock();
        if let Some(every) = state.cut_every
            && state.left == 0
        {
            state.cut();
            state.left = every * LIVES[state.cuts as usize % LIVES.len()];
        }
    }
}

impl State {
    fn cut(&mut self) {
        self.cuts += 1;
        for socket in self.open.drain(..) {
            let _gone_already = socket.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((proxy, _)) = listener.accept() {
        let target = shared.lock().target;
        let Some(Ok(broker)) = target.map(TcpStream::connect) else {
            continue;
        };
        let clone = |socket: &TcpStream| socket.try_clone().expect("descriptors are left");
        let mut state = shared.lock();
        state.connections += 1;
        state.open.extend([clone(&proxy), clone(&broker)]);
        drop(state);
        for (from, to) in [(clone(&proxy), clone(&broker)), (broker, proxy)] {
            let shared = Arc::clone(shared);
            std::thread::spawn(move || pump(from, to, &shared));
        }
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    to.set_nodelay(true).expect("it is connected");
    let mut block = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut block) {
        let passing = shared.pass(read);
        let written = to.write_all(&block[..passing]);
        shared.passed();
        if passing < read || written.is_err() {
            break;
        }
    }
    // This direction only: a broker that takes no more may have said why.
    let _gone_already = from.shutdown(Shutdown::Read);
    let _gone_already = to.shutdown(Shutdown::Write);
}
