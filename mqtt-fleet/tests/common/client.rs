//! An MQTT client for tests: blocking, and it does exactly what it is told, including what no client should do.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::broker::Broker;
use super::wire::{self, Packet, Props, Publish, Version, prop};

/// How long an answer may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long a group may be without a leader before the test fails.
const LEADERLESS_MAX: Duration = Duration::from_secs(40);

/// What a CONNECT says.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) client_id: String,
    pub(crate) clean: bool,
    pub(crate) keep_alive_s: u16,
    pub(crate) props: Props,
    pub(crate) will: Option<Publish>,
}

impl Connect {
    /// MQTT 5, clean start, session ends with the connection.
    pub(crate) fn v5(client_id: &str) -> Self {
        Self {
            version: Version::V5,
            client_id: client_id.into(),
            clean: true,
            keep_alive_s: 60,
            props: Props::new(),
            will: None,
        }
    }

    /// MQTT 3.1.1, clean session.
    pub(crate) fn v311(client_id: &str) -> Self {
        Self {
            version: Version::V311,
            ..Self::v5(client_id)
        }
    }

    pub(crate) fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// A session that outlives the connection, resumed if it exists (expiry of one hour in MQTT 5).
    pub(crate) fn persistent(self) -> Self {
        let v5 = self.version == Version::V5;
        let resumed = self.resume();
        if v5 {
            resumed.prop_four(prop::SESSION_EXPIRY, 3600)
        } else {
            resumed
        }
    }

    /// Clean start 0.
    pub(crate) fn resume(mut self) -> Self {
        self.clean = false;
        self
    }

    pub(crate) fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive_s = seconds;
        self
    }

    pub(crate) fn prop_four(mut self, id: u8, v: u32) -> Self {
        self.props = self.props.four(id, v);
        self
    }

    pub(crate) fn prop_two(mut self, id: u8, v: u16) -> Self {
        self.props = self.props.two(id, v);
        self
    }

    /// A will; the properties of `will` are the will's properties.
    pub(crate) fn will(mut self, will: Publish) -> Self {
        self.will = Some(will);
        self
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let (name, level) = match self.version {
            Version::V31 => ("MQIsdp", 3),
            Version::V311 => ("MQTT", 4),
            Version::V5 => ("MQTT", 5),
        };
        wire::put_bytes(&mut body, name.as_bytes());
        body.push(level);
        let will = self
            .will
            .as_ref()
            .map_or(0, |w| 4 | w.qos << 3 | u8::from(w.retain) << 5);
        body.push(u8::from(self.clean) << 1 | will);
        body.extend(self.keep_alive_s.to_be_bytes());
        if self.version == Version::V5 {
            self.props.encode(&mut body);
        }
        wire::put_bytes(&mut body, self.client_id.as_bytes());
        if let Some(will) = &self.will {
            if self.version == Version::V5 {
                will.props.encode(&mut body);
            }
            wire::put_bytes(&mut body, will.topic.as_bytes());
            wire::put_bytes(&mut body, &will.payload);
        }
        wire::frame(0x10, &body)
    }

    /// Connects, and panics unless the broker accepts. As long as a group has no leader it asks devices to come again.
    pub(crate) fn open(&self, broker: &Broker) -> Client {
        self.open_at(broker.addr)
    }

    pub(crate) fn open_at(&self, addr: SocketAddr) -> Client {
        let unavailable = match self.version {
            Version::V5 => 0x88,
            _ => 3,
        };
        let deadline = Instant::now() + LEADERLESS_MAX;
        loop {
            let (client, code) = self.try_open(addr);
            if code != unavailable || Instant::now() >= deadline {
                assert_eq!(code, 0, "CONNACK for {} says {code:#x}", self.client_id);
                return client;
            }
        }
    }

    /// Connects to a broker that may be killed meanwhile: `None` when the connection broke before CONNACK.
    pub(crate) fn dial(&self, addr: SocketAddr) -> Option<Client> {
        let (client, code) = self.try_dial(addr)?;
        assert_eq!(code, 0, "CONNACK for {} says {code:#x}", self.client_id);
        Some(client)
    }

    /// Connects, and panics unless the broker answers; the reason code of CONNACK beside the client.
    pub(crate) fn try_open(&self, addr: SocketAddr) -> (Client, u8) {
        let answer = self.try_dial(addr);
        answer.unwrap_or_else(|| panic!("{} got no CONNACK", self.client_id))
    }

    /// Connects to a broker that may be killed meanwhile or refuse; the reason code of CONNACK beside the client.
    pub(crate) fn try_dial(&self, addr: SocketAddr) -> Option<(Client, u8)> {
        let mut client = Client::over(TcpStream::connect(addr).ok()?, self.version);
        client.id.clone_from(&self.client_id);
        client.try_send(&self.encode())?;
        match client.next(PATIENCE) {
            Got::Packet(Packet::ConnAck {
                present,
                code,
                props,
            }) => {
                client.present = present;
                client.connack = props;
                Some((client, code))
            }
            Got::Closed => None,
            other => panic!("{} got {other:?} instead of CONNACK", self.client_id),
        }
    }
}

/// What came from the broker within the time given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Packet(Packet),
    Closed,
    Silence,
}

/// One connection.
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) version: Version,
    /// What CONNACK said.
    pub(crate) present: bool,
    pub(crate) connack: Props,
    pub(crate) stream: TcpStream,
    buf: Vec<u8>,
    /// Packets that arrived while an answer was awaited.
    inbox: VecDeque<Packet>,
    last_id: u16,
}

impl Client {
    /// A TCP connection that has not sent CONNECT.
    pub(crate) fn raw(addr: SocketAddr, version: Version) -> Self {
        Self::over(
            TcpStream::connect(addr).expect("the broker accepts connections"),
            version,
        )
    }

    fn over(stream: TcpStream, version: Version) -> Self {
        stream.set_nodelay(true).expect("a socket option");
        Self {
            id: "(not connected)".into(),
            version,
            present: false,
            connack: Props::new(),
            stream,
            buf: Vec::new(),
            inbox: VecDeque::new(),
            last_id: 0,
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream
            .write_all(bytes)
            .unwrap_or_else(|e| panic!("{} cannot send: {e}", self.id));
    }

    /// Sends to a broker that may be killed meanwhile: `None` when the connection is broken.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.write_all(bytes).ok()
    }

    /// A packet identifier this client has not used lately.
    pub(crate) fn fresh_id(&mut self) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    /// Messages of `QoS` 1 and 2 that may be unacknowledged at the broker.
    pub(crate) fn send_window(&self) -> u16 {
        self.connack
            .number(prop::RECEIVE_MAXIMUM)
            .map_or(u16::MAX, |n| n as u16)
    }

    /// The next packet, oldest first.
    pub(crate) fn next(&mut self, wait: Duration) -> Got {
        self.inbox
            .pop_front()
            .map_or_else(|| self.read(wait), Got::Packet)
    }

    pub(crate) fn recv(&mut self) -> Packet {
        match self.next(PATIENCE) {
            Got::Packet(packet) => packet,
            other => panic!("{} awaits a packet: {other:?}", self.id),
        }
    }

    /// The next packet for which `wanted` is true; others stay in the inbox.
    pub(crate) fn recv_where(&mut self, what: &str, wanted: impl Fn(&Packet) -> bool) -> Packet {
        if let Some(at) = self.inbox.iter().position(&wanted) {
            return self.inbox.remove(at).expect("found above");
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.read(deadline.saturating_duration_since(Instant::now())) {
                Got::Packet(packet) if wanted(&packet) => return packet,
                Got::Packet(packet) => self.inbox.push_back(packet),
                other => panic!("{} awaits {what}: {other:?}, had {:?}", self.id, self.inbox),
            }
        }
    }

    /// The next PUBLISH, which is not acknowledged yet.
    pub(crate) fn recv_publish(&mut self) -> Publish {
        match self.recv_where("PUBLISH", |p| matches!(p, Packet::Publish(_))) {
            Packet::Publish(p) => p,
            other => panic!("{other:?} is no PUBLISH"),
        }
    }

    /// The next PUBLISH, acknowledged in full.
    pub(crate) fn take(&mut self) -> Publish {
        let p = self.recv_publish();
        match p.qos {
            1 => self.send(&wire::ack(wire::PUBACK, p.id)),
            2 => {
                self.send(&wire::ack(wire::PUBREC, p.id));
                self.recv_where(
                    "PUBREL",
                    |q| matches!(q, Packet::PubRel { id, .. } if *id == p.id),
                );
                self.send(&wire::ack(wire::PUBCOMP, p.id));
            }
            _ => {}
        }
        p
    }

    /// A PUBLISH that has arrived already, acknowledged in full.
    pub(crate) fn take_waiting(&mut self) -> Option<Publish> {
        let waits = self.inbox.iter().any(|p| matches!(p, Packet::Publish(_)));
        waits.then(|| self.take())
    }

    /// Payloads of the next `n` publications, each acknowledged.
    pub(crate) fn take_texts(&mut self, n: usize) -> Vec<String> {
        (0..n).map(|_| self.take().text()).collect()
    }

    /// Fails when a PUBLISH comes before the answer to a PINGREQ.
    ///
    /// Only as good as what the broker is known to have done before: use it after an event that shows
    /// that the unwanted message would have been on its way.
    pub(crate) fn assert_no_publish(&mut self) {
        self.ping();
        let found = self.inbox.iter().find(|p| matches!(p, Packet::Publish(_)));
        assert_eq!(found, None, "{} got a message it should not have", self.id);
    }

    pub(crate) fn ping(&mut self) {
        self.send(&wire::frame(0xc0, &[]));
        self.recv_where("PINGRESP", |p| *p == Packet::PingResp);
    }

    /// Subscribes to one filter with option bits (`QoS` in the lowest two); the code of SUBACK.
    pub(crate) fn try_subscribe(&mut self, filter: &str, options: u8, props: &Props) -> u8 {
        let id = self.fresh_id();
        self.send(&wire::subscribe(
            self.version,
            id,
            &[(filter, options)],
            props,
        ));
        match self.recv_where(
            "SUBACK",
            |p| matches!(p, Packet::SubAck { id: i, .. } if *i == id),
        ) {
            Packet::SubAck { codes, .. } => {
                assert_eq!(codes.len(), 1, "one filter, one code");
                codes[0]
            }
            other => panic!("{other:?} is no SUBACK"),
        }
    }

    pub(crate) fn subscribe(&mut self, filter: &str, options: u8) {
        let code = self.try_subscribe(filter, options, &Props::new());
        assert_eq!(code, options & 3, "SUBACK for {filter} of {}", self.id);
    }

    /// The code of UNSUBACK (0 before MQTT 5).
    pub(crate) fn unsubscribe(&mut self, filter: &str) -> u8 {
        let id = self.fresh_id();
        self.send(&wire::unsubscribe(self.version, id, filter));
        match self.recv_where(
            "UNSUBACK",
            |p| matches!(p, Packet::UnsubAck { id: i, .. } if *i == id),
        ) {
            Packet::UnsubAck { codes, .. } => codes.first().copied().unwrap_or(0),
            other => panic!("{other:?} is no UNSUBACK"),
        }
    }

    /// Publishes and completes the handshake; the reason code of PUBACK or PUBREC (0 for `QoS` 0).
    pub(crate) fn publish(&mut self, p: &Publish) -> u8 {
        let mut p = p.clone();
        if p.qos > 0 && p.id == 0 {
            p.id = self.fresh_id();
        }
        self.send(&wire::publish(self.version, &p));
        match p.qos {
            0 => 0,
            1 => self.await_puback(p.id),
            _ => {
                let code = self.await_pubrec(p.id);
                if code < 0x80 {
                    self.release(p.id);
                }
                code
            }
        }
    }

    /// Publishes text and panics unless it is taken (codes 0x00 and 0x10 are success).
    pub(crate) fn say(&mut self, topic: &str, qos: u8, text: &str) {
        let code = self.publish(&Publish::new(topic, qos, text));
        assert!(code < 0x80, "publish to {topic} refused: {code:#x}");
    }

    pub(crate) fn await_puback(&mut self, id: u16) -> u8 {
        match self.recv_where(
            "PUBACK",
            |p| matches!(p, Packet::PubAck { id: i, .. } if *i == id),
        ) {
            Packet::PubAck { code, .. } => code,
            other => panic!("{other:?} is no PUBACK"),
        }
    }

    pub(crate) fn await_pubrec(&mut self, id: u16) -> u8 {
        match self.recv_where(
            "PUBREC",
            |p| matches!(p, Packet::PubRec { id: i, .. } if *i == id),
        ) {
            Packet::PubRec { code, .. } => code,
            other => panic!("{other:?} is no PUBREC"),
        }
    }

    /// PUBREL, and waits for PUBCOMP; its reason code.
    pub(crate) fn release(&mut self, id: u16) -> u8 {
        self.send(&wire::ack(wire::PUBREL, id));
        match self.recv_where(
            "PUBCOMP",
            |p| matches!(p, Packet::PubComp { id: i, .. } if *i == id),
        ) {
            Packet::PubComp { code, .. } => code,
            other => panic!("{other:?} is no PUBCOMP"),
        }
    }

    /// A clean end.
    pub(crate) fn disconnect(self) {
        self.disconnect_with(0, &Props::new());
    }

    /// DISCONNECT with a reason, then waits until the broker has closed: it has then seen all of it.
    pub(crate) fn disconnect_with(mut self, code: u8, props: &Props) {
        self.send(&wire::disconnect(self.version, code, props));
        self.stream
            .shutdown(Shutdown::Write)
            .expect("an open socket");
        self.expect_closed();
    }

    /// The connection breaks without a word.
    pub(crate) fn vanish(self) {
        drop(self.stream);
    }

    /// Waits until the broker closes; the code of its DISCONNECT, if there was one.
    pub(crate) fn expect_closed(&mut self) -> Option<u8> {
        let mut code = None;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.next(deadline.saturating_duration_since(Instant::now())) {
                Got::Closed => return code,
                Got::Packet(Packet::Disconnect { code: c, .. }) => code = Some(c),
                Got::Packet(_) => {}
                Got::Silence => panic!("{} is still connected after {PATIENCE:?}", self.id),
            }
        }
    }

    fn read(&mut self, wait: Duration) -> Got {
        let deadline = Instant::now() + wait;
        loop {
            match wire::whole(&self.buf) {
                Ok(Some(len)) => {
                    let packet = wire::decode(self.version, &self.buf[..len]).unwrap_or_else(|e| {
                        panic!("bad packet for {}: {e}: {:02x?}", self.id, self.buf)
                    });
                    self.buf.drain(..len);
                    return Got::Packet(packet);
                }
                Ok(None) => {}
                Err(e) => panic!("bad packet for {}: {e}: {:02x?}", self.id, self.buf),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Got::Silence;
            }
            if let Some(end) = self.fill(left) {
                return end;
            }
        }
    }

    /// Reads once from the socket; `Some` when that ends the waiting.
    fn fill(&mut self, wait: Duration) -> Option<Got> {
        self.stream.set_read_timeout(Some(wait)).expect("not zero");
        let mut block = [0; 16 * 1024];
        match self.stream.read(&mut block) {
            Ok(0) => Some(Got::Closed),
            Ok(n) => {
                self.buf.extend_from_slice(&block[..n]);
                None
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Some(Got::Silence)
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => None,
            // A reset is how TCP says that the peer has closed and will not read what we sent.
            Err(_) => Some(Got::Closed),
        }
    }
}
