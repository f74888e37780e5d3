//! A small server of MQTT 3.1.1 and 5. It is truthful but for the lies that it is told to tell, each once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::BytesMut;
use mqttbytes::Error as Malformed;

use super::packet::{self, Connect, Message, Packet, ack};
use crate::account::Stamp;
use crate::control::message::Stream;
use crate::wire::Version;

/// What to do to one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lie {
    pub(super) stream: Stream,
    pub(super) seq: u32,
    pub(super) kind: LieKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LieKind {
    /// It is acknowledged and goes nowhere.
    Drop,
    /// It is delivered twice.
    Repeat,
    /// The next one of its stream is delivered first.
    Swap,
    /// A byte of its payload is another one.
    Alter,
    /// It is delivered at the next lower `QoS`.
    Lower,
    /// It is acknowledged behind the next one of its connection.
    AnswerLate,
    /// It goes to this client, and to nobody else.
    Misdeliver(String),
    /// This client's connection is closed and its session forgotten; the message is taken as if nothing were.
    Forget(String),
    /// This client's connection is closed, after the message has come and before anything is answered.
    Cut(String),
}

/// A lie that was told.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) lie: Lie,
    /// From the message's stamp.
    pub(super) due_us: u64,
}

/// A running server; it lives as long as the test process.
#[derive(Debug, Clone)]
pub(in crate::simulate) struct Server {
    pub(in crate::simulate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    lies: Vec<Lie>,
    told: Vec<Told>,
    sessions: HashMap<String, Session>,
    /// Messages that wait for the next one of their stream.
    held: HashMap<Stream, (Message, Told)>,
    /// The message that is being taken is to be acknowledged late.
    answer_late: Option<Told>,
    /// Messages that were acknowledged when nobody was subscribed to them.
    unwanted: u64,
    connections: u64,
    turns: usize,
}

#[derive(Debug)]
struct Filter {
    text: String,
    share: Option<String>,
    qos: u8,
}

#[derive(Debug)]
struct Session {
    /// Of the newest connection.
    version: Version,
    /// Which connection, and its socket.
    online: Option<(u64, TcpStream)>,
    filters: Vec<Filter>,
    ends_with_connection: bool,
    last_id: u16,
    /// In the order in which they were to be delivered.
    flights: BTreeMap<u64, Flight>,
    /// `QoS` 2 packet ids that were taken and not released.
    taken: HashSet<u16>,
    /// An acknowledgement that waits for the next one.
    late_answer: Option<([u8; 4], Told)>,
}

/// A message that is not acknowledged by its receiver.
#[derive(Debug)]
struct Flight {
    id: u16,
    message: Message,
    sent: bool,
    released: bool,
}

impl Server {
    /// One that tells no lies.
    pub(in crate::simulate) fn truthful() -> Self {
        Self::start(Vec::new())
    }

    /// On a free port.
    pub(super) fn start(lies: Vec<Lie>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = State {
            lies,
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let server = Self { address, state };
        let accepting = server.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (server, socket) = (accepting.clone(), socket.expect("accepted"));
                std::thread::spawn(move || server.serve(socket));
            }
        });
        server
    }

    /// The lies told so far.
    pub(super) fn told(&self) -> Vec<Told> {
        self.lock().told.clone()
    }

    /// How many sessions there are.
    pub(super) fn sessions(&self) -> usize {
        self.lock().sessions.len()
    }

    /// Messages that were acknowledged when nobody was subscribed to them.
    pub(super) fn unwanted(&self) -> u64 {
        self.lock().unwanted
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    fn serve(&self, mut socket: TcpStream) {
        let (mut bytes, mut block) = (BytesMut::new(), [0; 16_384]);
        let (mut client, mut version) = (None, None);
        loop {
            version = version.or_else(|| packet::version(&bytes));
            let read = version.ok_or(Malformed::InsufficientBytes(1));
            match read.and_then(|version| packet::read(&mut bytes, version)) {
                Ok(Packet::Connect(connect)) => {
                    let id = connect.client_id.clone();
                    let version = version.expect("it was read by it");
                    let number = self.lock().connect(connect, version, &socket);
                    client = Some((id, number));
                    continue;
                }
                Ok(packet) => {
                    let (id, number) = client.as_ref().expect("CONNECT comes first");
                    if self.lock().take(id, *number, packet) {
                        continue;
                    }
                    break;
                }
                Err(Malformed::InsufficientBytes(_)) => {}
                Err(error) => panic!("the load simulator sent nonsense: {error:?}"),
            }
            match socket.read(&mut block) {
                Ok(0) => break,
                Ok(len) => bytes.extend_from_slice(&block[..len]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("{error}"),
            }
        }
        if let Some((id, number)) = client {
            self.lock().gone(&id, number);
        }
        drop(socket.shutdown(Shutdown::Both)); // It may be gone already.
    }
}

impl State {
    fn connect(&mut self, connect: Connect, version: Version, socket: &TcpStream) -> u64 {
        if connect.clean {
            self.sessions.remove(&connect.client_id);
        }
        let present = self.sessions.contains_key(&connect.client_id);
        let session = self.sessions.entry(connect.client_id);
        let session = session.or_insert_with(|| Session::new(version));
        session.version = version;
        session.ends_with_connection = connect.ends_with_connection;
        self.connections += 1;
        let handle = socket.try_clone().expect("a second handle");
        session.online = Some((self.connections, handle));
        session.late_answer = None;
        session.write(&packet::connack(version, present));
        session.resume();
        self.connections
    }

    /// The connection is at its end.
    fn gone(&mut self, id: &str, number: u64) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        if session
            .online
            .as_ref()
            .is_some_and(|(own, _)| *own == number)
        {
            session.online = None;
            if session.ends_with_connection {
                self.sessions.remove(id);
            }
        }
    }

    /// Takes a packet; false ends the connection.
    fn take(&mut self, client: &str, number: u64, packet: Packet) -> bool {
        let session = self.sessions.get_mut(client);
        let current = |session: &Session| session.online.as_ref().is_some_and(|on| on.0 == number);
        let Some(session) = session.filter(|session| current(session)) else {
            return false; // Cut off, or forgotten.
        };
        match packet {
            Packet::Subscribe { id, filters } => session.subscribe(id, filters),
            Packet::Publish { id, message } => return self.publish(client, id, message),
            Packet::Flow(0x50, id) => session.release(id),
            Packet::Flow(0x60, id) => {
                session.taken.remove(&id);
                session.write(&ack(0x70, id));
            }
            Packet::Flow(_, id) => session.flights.retain(|_, flight| flight.id != id),
            Packet::PingReq => session.write(&[0xD0, 0]),
            Packet::Disconnect { ends_session } => {
                session.ends_with_connection |= ends_session;
                return false;
            }
            Packet::Connect(_) => panic!("{client} sent a second CONNECT"),
        }
        true
    }

    fn publish(&mut self, id: &str, packet_id: u16, message: Message) -> bool {
        let qos = message.qos;
        let session = self.sessions.get_mut(id).expect("it is connected");
        let fresh = qos < 2 || session.taken.insert(packet_id);
        if fresh {
            self.judge(message);
        }
        let Some(session) = self
            .sessions
            .get_mut(id)
            .filter(|session| session.online.is_some())
        else {
            return false;
        };
        let answer = match qos {
            0 => return true,
            1 => ack(0x40, packet_id),
            _ => ack(0x50, packet_id),
        };
        if let Some(told) = self.answer_late.take() {
            session.late_answer = Some((answer, told));
            return true;
        }
        session.write(&answer);
        if let Some((late, told)) = session.late_answer.take() {
            session.write(&late);
            self.told.push(told);
        }
        true
    }

    /// Tells the lie that there is for a message, or the truth.
    fn judge(&mut self, message: Message) {
        let stamp = Stamp::read(&message.payload).expect("nobody alters what is sent");
        let is_it = |lie: &Lie| lie.stream == stamp.stream && lie.seq == stamp.seq;
        let Some(at) = self.lies.iter().position(is_it) else {
            self.route(&message);
            if let Some((held, told)) = self.held.remove(&stamp.stream) {
                self.route(&held);
                self.told.push(told);
            }
            return;
        };
        let lie = self.lies.remove(at);
        let due_us = stamp.due_us;
        let told = Told {
            lie: lie.clone(),
            due_us,
        };
        if lie.kind == LieKind::Swap {
            // It is told when the next message comes.
            self.held.insert(stamp.stream, (message, told));
            return;
        }
        if lie.kind == LieKind::AnswerLate {
            self.route(&message);
            self.answer_late = Some(told);
            return;
        }
        self.told.push(told);
        match &lie.kind {
            LieKind::Drop | LieKind::Swap | LieKind::AnswerLate => {}
            LieKind::Repeat => {
                self.route(&message);
                self.route(&message);
            }
            LieKind::Alter => {
                let mut payload = message.payload.to_vec();
                *payload.last_mut().expect("stamps are longer") ^= 0x10;
                let payload = payload.into();
                self.route(&Message { payload, ..message });
            }
            LieKind::Lower => {
                let qos = message.qos - 1;
                self.route(&Message { qos, ..message });
            }
            LieKind::Misdeliver(to) => self.deliver(to, message.qos, &message),
            LieKind::Forget(whom) => {
                self.cut(whom);
                self.sessions.remove(whom);
                self.route(&message);
            }
            LieKind::Cut(whom) => {
                self.route(&message);
                self.cut(whom);
            }
        }
    }

    /// What was written to it before still arrives.
    fn cut(&mut self, whom: &str) {
        let session = self.sessions.get_mut(whom).expect("it has a session");
        if let Some((_, socket)) = session.online.take() {
            drop(socket.shutdown(Shutdown::Write)); // It may be gone already.
        }
    }

    fn route(&mut self, message: &Message) {
        let mut receivers: Vec<(String, u8)> = Vec::new();
        let mut shares: BTreeMap<String, Vec<(String, u8)>> = BTreeMap::new();
        for (id, session) in &self.sessions {
            let wanted = session
                .filters
                .iter()
                .filter(|filter| matches(&filter.text, &message.topic));
            for filter in wanted {
                let receiver = (id.clone(), filter.qos);
                match &filter.share {
                    None => receivers.push(receiver),
                    Some(share) => shares.entry(share.clone()).or_default().push(receiver),
                }
            }
        }
        for mut share in shares.into_values() {
            share.sort_unstable();
            self.turns += 1;
            receivers.push(share.swap_remove(self.turns % share.len()));
        }
        self.unwanted += u64::from(receivers.is_empty());
        for (id, qos) in receivers {
            self.deliver(&id, qos, message);
        }
    }

    fn deliver(&mut self, id: &str, qos: u8, message: &Message) {
        let qos = qos.min(message.qos);
        let message = Message {
            qos,
            ..message.clone()
        };
        self.turns += 1;
        let session = self.sessions.get_mut(id).expect("it has a session");
        session.deliver(self.turns as u64, message);
    }
}

impl Session {
    fn new(version: Version) -> Self {
        Self {
            version,
            online: None,
            filters: Vec::new(),
            ends_with_connection: false,
            last_id: 0,
            flights: BTreeMap::new(),
            taken: HashSet::new(),
            late_answer: None,
        }
    }

    fn subscribe(&mut self, id: u16, filters: Vec<(String, u8)>) {
        let mut granted = Vec::new();
        for (path, qos) in filters {
            let shared = path.strip_prefix("$share/");
            let (share, text) = match shared.and_then(|rest| rest.split_once('/')) {
                Some((share, text)) => (Some(share.to_owned()), text.to_owned()),
                None => (None, path),
            };
            self.filters.push(Filter { text, share, qos });
            granted.push(qos);
        }
        self.write(&packet::suback(self.version, id, &granted));
    }

    fn deliver(&mut self, order: u64, message: Message) {
        let online = self.online.is_some();
        if message.qos == 0 {
            return self.write(&packet::publish(self.version, &message, 0, false));
        }
        self.last_id = self.last_id % u16::MAX + 1;
        let id = self.last_id;
        self.write(&packet::publish(self.version, &message, id, false));
        let flight = Flight {
            id,
            message,
            sent: online,
            released: false,
        };
        self.flights.insert(order, flight);
    }

    fn release(&mut self, id: u16) {
        let flight = self.flights.values_mut().find(|flight| flight.id == id);
        flight.expect("PUBREC answers a PUBLISH").released = true;
        self.write(&ack(0x62, id));
    }

    /// What was not acknowledged on the connection before.
    fn resume(&mut self) {
        let mut out = Vec::new();
        for flight in self.flights.values_mut() {
            if flight.released {
                out.extend(ack(0x62, flight.id));
            } else {
                let Flight {
                    id, message, sent, ..
                } = &*flight;
                out.extend(packet::publish(self.version, message, *id, *sent));
                flight.sent = true;
            }
        }
        self.write(&out);
    }

    /// Writes if anybody is there.
    fn write(&mut self, bytes: &[u8]) {
        if let Some((_, socket)) = &mut self.online {
            // Whoever has gone is noticed by the thread that reads.
            drop(socket.write_all(bytes));
        }
    }
}

/// One level for each `+`, nothing else.
fn matches(filter: &str, topic: &str) -> bool {
    let (filters, topics) = (filter.split('/'), topic.split('/'));
    let levels = filters.clone().count() == topics.clone().count();
    levels
        && filters
            .zip(topics)
            .all(|(part, level)| part == "+" || part == level)
}
