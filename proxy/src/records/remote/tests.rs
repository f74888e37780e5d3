use super::super::limits::STORE_WRITES_MAX;
use super::super::{Connected, Held, What};
use super::*;
use cluster::ids::Handle;
use cluster::slots::GroupNo;
use protocol::Version;
use session_store::limits::WRITES_FEW;
use session_store::{EventKind, RedisConfig};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;

const CLIENTS: u64 = 1_000;
/// Longer than anything takes.
const A_WHILE: Duration = Duration::from_secs(60);

fn change(n: u64, what: What) -> RecordChange {
    RecordChange {
        client_id: n.to_string().into(),
        epoch: 2,
        what,
    }
}

fn connected(n: u64, resumed: Option<Held>) -> RecordChange {
    let connected = Connected {
        version: Version::V311,
        user: None,
        address: None,
        clean_start: false,
        expiry_s: 60,
        resumed: resumed.map(Box::new),
    };
    change(n, What::Connected(Box::new(connected)))
}

fn resumed(n: u64) -> RecordChange {
    let held = Held {
        handle: Handle {
            index: 0,
            generation: 0,
        },
        groups: Box::default(),
    };
    connected(n, Some(held))
}

/// The system accepts connections for it.
#[test]
fn a_server_that_never_answers_holds_nobody_up() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("its own");
    let config = RedisConfig::new([format!("redis://{address}")]);
    let store = RedisStore::start(config).expect("a store");
    let routing = Arc::new(Routing::one_group(GroupNo(0)));
    let mut records =
        RemoteRecords::new(store.clone(), "node".to_owned(), routing, Box::new(|| {}));
    let counters = ProxyCounters::default();
    let started = Instant::now();
    for n in 0..CLIENTS {
        records.take(n, resumed(n), &counters);
        records.flush_due(n, &counters);
    }
    let one_wait = Duration::from_millis(STORE_WAIT_MS);
    let all = started.elapsed();
    assert!(all < one_wait * 50, "{all:?} for {CLIENTS} clients");
    assert!(records.has_waiting());
    let stopping = Instant::now();
    records.flush(&counters);
    let end = stopping.elapsed();
    assert!(end < LAST_LOADS_WAIT * 10, "{end:?} for the last of them");
    assert!(!records.has_waiting());
    assert_eq!(counters.store_writes_dropped.get(), CLIENTS);
    store.close(Duration::ZERO);
}

/// A server that stores nothing and says that it has. It answers writes as soon as there is something at the gate.
fn yes_man(listener: &TcpListener, gate: &mpsc::Receiver<()>) -> io::Result<u64> {
    let (mut socket, _) = listener.accept()?;
    let mut commands = BufReader::new(socket.try_clone()?);
    let mut writes = 0;
    let mut is_open = false;
    while let Some(command) = read_command(&mut commands)? {
        if command == b"EVALSHA" {
            is_open = is_open || gate.recv().is_ok();
            writes += 1;
        }
        let answer: &[u8] = match &*command {
            b"EVALSHA" => b":0\r\n",
            b"HGETALL" | b"HMGET" => b"*0\r\n",
            _ => b"+OK\r\n",
        };
        socket.write_all(answer)?;
    }
    Ok(writes)
}

/// The name of the next command; `None`: there is none any more.
fn read_command(from: &mut BufReader<TcpStream>) -> io::Result<Option<Vec<u8>>> {
    let mut line = String::new();
    let mut number = |from: &mut BufReader<TcpStream>| {
        line.clear();
        from.read_line(&mut line)?;
        let number = line
            .get(1..)
            .and_then(|digits| digits.trim_end().parse().ok());
        Ok::<Option<usize>, io::Error>(number)
    };
    let Some(words) = number(from)? else {
        return Ok(None);
    };
    let mut name = None;
    for _ in 0..words {
        let Some(len) = number(from)? else {
            return Ok(None);
        };
        let mut word = vec![0; len + 2];
        from.read_exact(&mut word)?;
        word.truncate(len);
        name.get_or_insert(word);
    }
    Ok(name)
}

/// A store on that server, connected.
fn slow_store(gate: mpsc::Receiver<()>) -> (RedisStore, JoinHandle<io::Result<u64>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its own");
    let server = std::thread::spawn(move || yes_man(&listener, &gate));
    let mut config = RedisConfig::new([format!("redis://{address}")]);
    config.response_timeout = A_WHILE;
    let store = RedisStore::start(config).expect("a store");
    let deadline = Instant::now() + A_WHILE;
    while store.stats().up.load(Ordering::Relaxed) == 0 {
        assert!(Instant::now() < deadline, "no connection to the server");
        std::thread::yield_now();
    }
    (store, server)
}

/// All clients come back at once.
#[test]
fn few_clients_wait_for_their_records_and_the_others_as_they_are() {
    let (_open, gate) = mpsc::sync_channel(1);
    let (store, _server) = slow_store(gate);
    let routing = Arc::new(Routing::one_group(GroupNo(0)));
    let mut records = RemoteRecords::new(store, "node".to_owned(), routing, Box::new(|| {}));
    let counters = ProxyCounters::default();
    let clients = 4 * STORE_WRITES_MAX as u64;
    for n in 0..clients {
        records.take(n, resumed(n), &counters);
    }
    // No load has been asked for before this.
    records.flush_due(0, &counters);
    let waiting = counters.store_changes_waiting.get();
    assert_eq!(waiting, clients - STORE_WRITES_MAX as u64);
}

/// All clients lose their connections at once, while the store takes its time.
#[test]
fn few_writes_wait_in_a_store_that_is_slow_and_all_arrive() {
    let (open, gate) = mpsc::sync_channel(1);
    let (store, server) = slow_store(gate);
    let waiting = || store.stats().writes_waiting.load(Ordering::Relaxed) as usize;
    let routing = Arc::new(Routing::one_group(GroupNo(0)));
    let (ring, bell) = mpsc::sync_channel(1);
    // Who has been rung for, or listens no more, needs no second one.
    let wake: Wake = Box::new(move || ring.try_send(()).unwrap_or_default());
    let mut records = RemoteRecords::new(store.clone(), "node".to_owned(), routing, wake);
    let counters = ProxyCounters::default();
    let clients = 4 * STORE_WRITES_MAX as u64;
    for n in 0..clients {
        records.take(n, connected(n, None), &counters);
        let lost = What::Ended {
            expiry_s: 60,
            how: EventKind::Lost,
        };
        records.take(n, change(n, lost), &counters);
        records.flush_due(n, &counters);
        assert!(waiting() <= STORE_WRITES_MAX, "{} writes", waiting());
    }
    assert!(waiting() > WRITES_FEW);
    assert!(counters.store_changes_waiting.get() > clients);
    open.send(()).expect("the server waits for it");
    while records.has_waiting() {
        bell.recv_timeout(A_WHILE)
            .expect("the store has room again");
        records.flush_due(0, &counters);
        assert!(waiting() <= STORE_WRITES_MAX, "{} writes", waiting());
    }
    assert_eq!(counters.store_changes_waiting.get(), 0);
    assert_eq!(counters.store_writes_dropped.get(), 0);
    assert_eq!(store.close(A_WHILE), 0);
    let writes = server.join().expect("no panic").expect("a connection");
    assert_eq!(writes, clients, "one for each of them");
}
