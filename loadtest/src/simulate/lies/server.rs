//! A small MQTT 5 server on an independent codec. It is truthful but for the lies that it is told to tell, each once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use mqttbytes::Error as Malformed;
use mqttbytes::v5::{self, Packet};

use crate::account::Stamp;
use crate::control::message::Stream;

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

#[derive(Debug, Clone)]
struct Message {
    topic: String,
    payload: Bytes,
    qos: u8,
}

#[derive(Debug)]
struct Filter {
    text: String,
    share: Option<String>,
    qos: u8,
}

#[derive(Debug, Default)]
struct Session {
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

    /// Messages that were acknowledged when nobody was subscribed to them.
    pub(super) fn unwanted(&self) -> u64 {
        self.lock().unwanted
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    fn serve(&self, mut socket: TcpStream) {
        let (mut bytes, mut block) = (BytesMut::new(), [0; 16_384]);
        let mut client = None;
        loop {
            match v5::read(&mut bytes, 1 << 20) {
                Ok(Packet::Connect(connect)) => {
                    let id = connect.client_id.clone();
                    let number = self.lock().connect(&connect, &socket);
                    client = Some((id, number));
                    continue;
                }
                Ok(packet) => {
                    let (id, number) = client.as_ref().expect("CONNECT comes first");
                    if self.lock().take(id, *number, packet, &mut socket) {
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
    fn connect(&mut self, connect: &v5::Connect, socket: &TcpStream) -> u64 {
        if connect.clean_session {
            self.sessions.remove(&connect.client_id);
        }
        let present = self.sessions.contains_key(&connect.client_id);
        let session = self.sessions.entry(connect.client_id.clone()).or_default();
        let properties = connect.properties.as_ref();
        let expiry = properties.and_then(|given| given.session_expiry_interval);
        session.ends_with_connection = expiry.unwrap_or(0) == 0;
        self.connections += 1;
        let handle = socket.try_clone().expect("a second handle");
        session.online = Some((self.connections, handle));
        session.late_answer = None;
        session.write(&[0x20, 3, u8::from(present), 0, 0]);
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
    fn take(&mut self, id: &str, number: u64, packet: Packet, socket: &mut TcpStream) -> bool {
        let session = self.sessions.get_mut(id);
        let current = |session: &Session| session.online.as_ref().is_some_and(|on| on.0 == number);
        let Some(session) = session.filter(|session| current(session)) else {
            return false; // Cut off, or forgotten.
        };
        match packet {
            Packet::Subscribe(subscribe) => session.subscribe(subscribe),
            Packet::Publish(publish) => return self.publish(id, publish),
            Packet::PubAck(ack) => session.flights.retain(|_, flight| flight.id != ack.pkid),
            Packet::PubComp(ack) => session.flights.retain(|_, flight| flight.id != ack.pkid),
            Packet::PubRec(ack) => session.release(ack.pkid),
            Packet::PubRel(release) => {
                session.taken.remove(&release.pkid);
                session.write(&ack(0x70, release.pkid));
            }
            Packet::PingReq => session.write(&[0xD0, 0]),
            Packet::Disconnect(disconnect) => {
                let properties = disconnect.properties;
                if properties.is_some_and(|given| given.session_expiry_interval == Some(0)) {
                    session.ends_with_connection = true;
                }
                return false;
            }
            other => panic!("the load simulator sent {other:?} to {socket:?}"),
        }
        true
    }

    fn publish(&mut self, id: &str, publish: v5::Publish) -> bool {
        let (qos, packet_id) = (publish.qos as u8, publish.pkid);
        let message = Message {
            topic: publish.topic,
            payload: publish.payload,
            qos,
        };
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
    fn subscribe(&mut self, subscribe: v5::Subscribe) {
        let mut answer = vec![0x90, 3 + subscribe.filters.len() as u8];
        answer.extend_from_slice(&subscribe.pkid.to_be_bytes());
        answer.push(0);
        for asked in subscribe.filters {
            let shared = asked
                .path
                .strip_prefix("$share/")
                .and_then(|rest| rest.split_once('/'));
            let (share, text) = match shared {
                Some((share, text)) => (Some(share.to_owned()), text.to_owned()),
                None => (None, asked.path.clone()),
            };
            let qos = asked.qos as u8;
            self.filters.push(Filter { text, share, qos });
            answer.push(qos);
        }
        self.write(&answer);
    }

    fn deliver(&mut self, order: u64, message: Message) {
        let online = self.online.is_some();
        if message.qos == 0 {
            return self.write(&publish(&message, 0, false));
        }
        self.last_id = self.last_id % u16::MAX + 1;
        let id = self.last_id;
        self.write(&publish(&message, id, false));
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
                out.extend(publish(&flight.message, flight.id, flight.sent));
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

fn ack(first: u8, id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [first, 2, high, low]
}

fn publish(message: &Message, id: u16, dup: bool) -> Vec<u8> {
    let mut body = (message.topic.len() as u16).to_be_bytes().to_vec();
    body.extend_from_slice(message.topic.as_bytes());
    if message.qos > 0 {
        body.extend_from_slice(&id.to_be_bytes());
    }
    body.push(0);
    body.extend_from_slice(&message.payload);
    let first = 0x30 | (u8::from(dup) << 3) | (message.qos << 1);
    let mut packet = match body.len() {
        short @ 0..128 => vec![first, short as u8],
        long => vec![
            first,
            (long % 128) as u8 | 0x80,
            u8::try_from(long / 128).expect("short payloads"),
        ],
    };
    packet.extend(body);
    packet
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
