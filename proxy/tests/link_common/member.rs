//! A member of a group that sends every proxy away.

use super::{SECRET, known};
use cluster::link::{GroupIdentity, GroupSession};
use cluster::topology::Announcement;
use cluster::wire::Refused;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

pub(crate) struct Refuser {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
}

struct Answer {
    refused: Refused,
    given: u64,
}

impl Refuser {
    pub(crate) fn start(name: &'static str, refused: Refused) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let answer = Arc::new(Mutex::new(Answer { refused, given: 0 }));
        let given = Arc::clone(&answer);
        // The thread ends with the process of the test.
        std::thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                refuse(socket, name, &given);
            }
        });
        Self { address, answer }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it says from now on.
    pub(crate) fn says(&self, refused: Refused) {
        self.answer.lock().expect("no panic").refused = refused;
    }

    /// How often it has said so.
    pub(crate) fn given(&self) -> u64 {
        self.answer.lock().expect("no panic").given
    }
}

/// The handshake, and the end; a proxy that goes away before is none.
fn refuse(mut socket: TcpStream, name: &str, answer: &Mutex<Answer>) {
    let identity = GroupIdentity {
        group: 0,
        name: name.into(),
        secret: Arc::from(SECRET),
    };
    let newest = Arc::new(Announcement::new(known(1, &[])));
    let mut session = GroupSession::new(identity, newest, [7; 32], Instant::now());
    let mut block = [0; 4096];
    while let Ok(read @ 1..) = socket.read(&mut block) {
        let now = Instant::now();
        let admission = session
            .receive(now, &block[..read], &mut Vec::new())
            .expect("a proxy of this fleet");
        if admission.admit.is_some() {
            let mut answer = answer.lock().expect("no panic");
            answer.given += 1;
            session.refuse(answer.refused.clone());
        }
        let outgoing = session.outgoing().to_vec();
        if socket.write_all(&outgoing).is_err() || admission.admit.is_some() {
            return;
        }
        session.written(now, outgoing.len());
    }
}
