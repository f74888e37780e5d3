//! Members on threads of their own, with calls over TCP.

use crate::consensus::{Consensus, Event, Payload, Position};
use crate::group::GROUP_STREAM;
use crate::log::{Log, LogOptions, SnapshotStore};
use crate::raft::{DiskMoved, Found, Handle, Member, Options, Outsider, Recovered, Role};
use cluster::slots::GroupNo;
use cluster::topology::{HostPort, NodeName};
use std::net::TcpListener;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const SECRET: &[u8] = b"sixteen bytes and more";

/// Told by all members when there is something to take.
#[derive(Default)]
struct Bell(Mutex<u64>, Condvar);

impl Bell {
    fn ring(&self) {
        *self.0.lock().expect("no panic") += 1;
        self.1.notify_all();
    }
}

struct Three {
    bell: Arc<Bell>,
    members: Vec<(Member, Handle, Vec<Vec<u8>>)>,
    addresses: Vec<(NodeName, HostPort)>,
    _folder: tempfile::TempDir,
}

impl Three {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listeners: Vec<_> = (0..3)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
            .collect();
        let members: Vec<_> = listeners
            .iter()
            .enumerate()
            .map(|(at, listener)| {
                let address = listener.local_addr().expect("bound").to_string();
                let name: NodeName = format!("member-{at}").parse().expect("a name");
                (name, address.parse().expect("an address"))
            })
            .collect();
        let bell = Arc::<Bell>::default();
        let started = listeners.into_iter().enumerate().map(|(at, listener)| {
            let moved = DiskMoved::default();
            let told = moved.clone();
            let dir = folder.path().join(at.to_string());
            let opened = Log::open(&dir, LogOptions::default(), Box::new(move || told.tell()));
            let (log, mut records) = opened.expect("a log");
            records.start_at(GROUP_STREAM, 1);
            assert_eq!(records.count(), 0);
            let options = Options {
                name: members[at].0.clone(),
                group: GroupNo(2),
                members: members.clone(),
                listener,
                secret: SECRET.into(),
                tls: None,
            };
            let recovered = Recovered::at(Position::default());
            let found = Found {
                log,
                files: SnapshotStore::open(&dir).expect("a folder"),
                moved,
                recovered,
            };
            let rung = Arc::clone(&bell);
            let started = Member::start(options, found, move || rung.ring());
            let (member, handle) = started.expect("a member");
            (member, handle, Vec::new())
        });
        Self {
            members: started.collect(),
            bell,
            addresses: members,
            _folder: folder,
        }
    }

    fn take(&mut self) {
        for (_, handle, bodies) in &mut self.members {
            while let Some(event) = handle.next() {
                let Event::Entry(entry) = event else {
                    continue;
                };
                if let Payload::Commands { body, .. } = entry.payload {
                    bodies.push(body.to_vec());
                }
            }
        }
    }

    /// Takes what comes until this holds.
    fn until<T>(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Option<T>) -> T {
        let begun = Instant::now();
        let mut seen = 0;
        loop {
            self.take();
            if let Some(found) = look(self) {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}");
            let rung = self.bell.0.lock().expect("no panic");
            // Leases end without a bell.
            let waited = Duration::from_millis(50);
            let rung = self
                .bell
                .1
                .wait_timeout_while(rung, waited, |rung| *rung == seen);
            seen = *rung.expect("no panic").0;
        }
    }
}

#[test]
fn three_members_agree_over_tcp() {
    let mut three = Three::start();
    let leader = three.until("a leader", |three| {
        three
            .members
            .iter()
            .position(|(_, handle, _)| handle.leads_until().is_some())
    });
    for n in 0..100_u8 {
        let size = 1 + usize::from(n) * 1_000;
        three.members[leader].1.propose(vec![n; size]);
    }
    three.until("all have all", |three| {
        three
            .members
            .iter()
            .all(|(_, _, bodies)| bodies.len() == 100)
            .then_some(())
    });
    for (_, _, bodies) in &three.members {
        let right = |(n, body): (usize, &Vec<u8>)| *body == vec![n as u8; 1 + n * 1_000];
        assert!(bodies.iter().enumerate().all(right));
    }
    let status = three.members[leader].0.status();
    assert_eq!(status.role, Role::Leader);
    assert_eq!(status.members.len(), 3);
    assert!(status.members.iter().all(|peer| peer.votes));
    // One without a part in the group is told by the leader alone that it leads.
    let name = three.addresses[leader].0.clone();
    three.until("it says so", |three| {
        let leader = leader_by(SECRET, three.addresses.clone())?;
        assert_eq!(leader, name);
        Some(())
    });
    assert_eq!(
        leader_by(b"another secret than theirs", three.addresses.clone()),
        None
    );
    let mut others = three.addresses.clone();
    others.remove(leader);
    assert_eq!(leader_by(SECRET, others.clone()), None);
    three.members[leader].0.stop();
    three.members.remove(leader);
    three.until("another leader", |three| {
        three
            .members
            .iter()
            .position(|(_, handle, _)| handle.leads_until().is_some())
    });
    three.until("the other says so", |_| leader_by(SECRET, others.clone()));
    three.members[0].0.stop();
    three.until("the last one is not sure any more", |three| {
        let is_sure = |(_, handle, _): &(Member, Handle, _)| {
            handle
                .leads_until()
                .is_some_and(|until| until > Instant::now())
        };
        (!three.members.iter().any(is_sure)).then_some(())
    });
    assert_eq!(leader_by(SECRET, others), None, "it has no majority");
    three.members[1].0.stop();
}

fn leader_by(secret: &[u8], members: Vec<(NodeName, HostPort)>) -> Option<NodeName> {
    let outsider = Outsider::new(GroupNo(2), secret.into(), None);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(outsider.leader_among(members))
}
