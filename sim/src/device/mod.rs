//! Devices: simple, honest MQTT clients, written against the standard and not against our server.
//!
//! What a device does by itself is chance; what it has to do by the standard it does: it answers what it gets, keeps what is
//! not completed, and sends that again on its next connection.

mod session;
mod talk;

use crate::env::Env;
use crate::ledger::{Fate, Kind, Known, Left, Sent};
use crate::net::{ConnId, End, Net};
use crate::plan::DevicePlan;
use crate::queue::Event;
use crate::stored::payload;
use cluster::ids::Handle;
use protocol::{
    Connect, Disconnect, Message, Packet, QoS, ReasonCode, TopicName, Version, Will, encode,
};
use session::ClientSession;

const SECOND: u64 = 1_000_000;
/// A device that hears nothing for so long gives its connection up.
const DEAF_US: u64 = 14 * SECOND;
/// It says something at least this often.
const PING_US: u64 = 5 * SECOND;
/// So many publishes wait for an answer at most.
const OPEN_MAX: usize = 6;

pub(crate) struct Device {
    id: usize,
    plan: DevicePlan,
    at: Option<At>,
    stale: Vec<Stale>,
    session: ClientSession,
    /// It asks for a new session until it has one.
    wants_clean: bool,
    /// It stays away.
    pub(crate) stays_away: bool,
    /// It ends its session, and stays away then.
    parts: bool,
    /// The will of the connection that ended with DISCONNECT last, and the proxy that took it.
    dropped_will: Option<(u32, usize)>,
    /// The will of the connection that it left behind last, and when it heard of that last: due when a newer connection has
    /// CONNACK.
    stale_will: Option<(u32, u64)>,
}

/// The connection that a device uses.
struct At {
    conn: ConnId,
    proxy: usize,
    phase: Phase,
    heard: u64,
    said: u64,
    inbox: Vec<u8>,
    will: Option<u32>,
    clean: bool,
    /// What was known of the session when CONNECT left.
    known: Known,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Dialling,
    /// CONNECT has left.
    Greeting,
    Connected,
    /// DISCONNECT has left.
    Leaving,
}

/// A connection that a device has left behind without closing it.
struct Stale {
    conn: ConnId,
    inbox: Vec<u8>,
    /// Messages sent over it since, by packet id.
    sent: Vec<(u16, u32)>,
}

impl Device {
    pub(crate) fn new(id: usize, plan: DevicePlan) -> Self {
        Self {
            id,
            plan,
            at: None,
            stale: Vec::new(),
            session: ClientSession::default(),
            wants_clean: false,
            stays_away: false,
            parts: false,
            dropped_will: None,
            stale_will: None,
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.phase() == Some(Phase::Connected)
    }

    /// Ends its session, with a last connection that begins a new one and leaves nothing behind.
    pub(crate) fn part(&mut self, env: &mut Env) {
        self.drop_socket(env);
        self.plan.expiry_s = None;
        self.plan.has_will = false;
        (self.parts, self.stays_away) = (true, false);
    }

    fn phase(&self) -> Option<Phase> {
        self.at.as_ref().map(|at| at.phase)
    }

    /// Whether its sessions go on for ever.
    pub(crate) fn lasts(&self) -> bool {
        self.plan.expiry_s.is_some()
    }

    pub(crate) fn expiry_s(&self) -> Option<u32> {
        self.plan.expiry_s
    }

    /// What it still waits for, if anything.
    pub(crate) fn owed(&self, net: &Net) -> Option<String> {
        if self.stays_away {
            return None;
        }
        if self.parts {
            return Some(format!("device {} has not ended its session", self.id));
        }
        if self
            .at
            .as_ref()
            .is_some_and(|at| at.phase != Phase::Dialling && !net.works(at.conn))
        {
            return Some(format!(
                "device {} does not know that its connection is gone",
                self.id
            ));
        }
        if !self.is_connected() {
            // A session that ended with its connection is owed nothing.
            self.lasts().then_some(())?;
            return Some(format!(
                "device {} has no connection: {:?}",
                self.id,
                self.phase()
            ));
        }
        let owed = self.session.owed()?;
        Some(format!("device {} waits for {owed}", self.id))
    }

    /// Something that it does by itself.
    pub(crate) fn step(&mut self, env: &mut Env) {
        let calm = env.calm_since.is_some();
        let pause = if calm {
            env.rng.range(150_000, 250_000)
        } else {
            env.rng.skewed(5_000, 900_000)
        };
        env.after(pause, Event::DeviceStep { device: self.id });
        self.watch(env);
        match self.phase() {
            None if self.stays_away => {}
            None if calm && !self.lasts() && !self.parts => {}
            Some(Phase::Connected) if self.parts => self.leave(env),
            None if calm || env.rng.chance(600) => self.connect(env),
            Some(Phase::Connected) if !calm => self.act(env),
            _ => {}
        }
        if !calm && !self.stale.is_empty() && env.rng.chance(300) {
            self.publish_stale(env);
        }
    }

    /// Pings, and gives up what is dead.
    fn watch(&mut self, env: &mut Env) {
        let Some(at) = &mut self.at else { return };
        if at.heard + DEAF_US <= env.now {
            env.say(format_args!("device {}: hears nothing", self.id));
            return self.drop_socket(env);
        }
        if at.phase == Phase::Connected && at.said.max(at.heard) + PING_US <= env.now {
            self.send(env, &Packet::PingReq);
        }
    }

    fn act(&mut self, env: &mut Env) {
        match env.rng.below(100) {
            0..50 => self.publish(env),
            50..70 => self.subscribe(env),
            70..73 => self.unsubscribe(env),
            73..76 => self.leave(env),
            76..79 => self.drop_socket(env),
            79..83 if self.plan.takes_over => self.take_over(env),
            _ => {}
        }
    }

    fn connect(&mut self, env: &mut Env) {
        let proxy = env.rng.below(env.plan.proxies);
        let nobody = Handle {
            index: u32::MAX,
            generation: 0,
        };
        let to = End::Shard {
            proxy,
            life: 0,
            handle: nobody,
        };
        let conn = env.dial(End::Device(self.id), to);
        // Before MQTT 5 a session that began clean ends with its connection.
        let may_forget = self.lasts() && self.plan.version == Version::V5;
        self.wants_clean |= may_forget && env.calm_since.is_none() && env.rng.chance(60);
        env.say(format_args!(
            "device {}: dials proxy {proxy}, connection {conn}",
            self.id
        ));
        self.at = Some(At {
            conn,
            proxy,
            phase: Phase::Dialling,
            heard: env.now,
            said: env.now,
            inbox: Vec::new(),
            will: None,
            clean: self.wants_clean || !self.lasts(),
            known: Known::Maybe,
        });
    }

    /// The connection is there, or there will be none.
    pub(crate) fn dialled(&mut self, env: &mut Env, conn: ConnId, made: bool) {
        if self.at.as_ref().is_none_or(|at| at.conn != conn) {
            if made {
                env.close(conn, 0, false);
            }
            return;
        }
        if made {
            self.greet(env);
        } else {
            self.at = None;
        }
    }

    fn greet(&mut self, env: &mut Env) {
        let clean = self.at.as_ref().is_some_and(|at| at.clean);
        if clean {
            env.judge.ledger.end_session(self.id);
            self.session.forget();
        }
        let will = self.plan.has_will.then(|| self.leave_will(env));
        let standing = &mut env.judge.ledger.devices[self.id];
        let known = standing.known;
        if clean || known == Known::None {
            // Until CONNACK says what came of it.
            standing.known = Known::Maybe;
        }
        let connect = Connect {
            clean_start: clean,
            keep_alive_s: 30,
            session_expiry_s: self
                .plan
                .expiry_s
                .filter(|_| self.plan.version == Version::V5),
            will: will.as_ref().map(|(_, will)| will.clone()),
            ..Connect::new(self.plan.version, &env.names.clients[self.id])
        };
        let proxy = self.at.as_ref().expect("it was just dialled").proxy;
        self.doubt_will(env, proxy);
        let at = self.at.as_mut().expect("it was just dialled");
        at.phase = Phase::Greeting;
        at.known = known;
        at.heard = env.now;
        at.will = will.map(|(number, _)| number);
        env.say(format_args!(
            "device {}: CONNECT, clean start {clean}",
            self.id
        ));
        self.send(env, &Packet::Connect(Box::new(connect)));
    }

    fn leave_will(&mut self, env: &mut Env) -> (u32, Will) {
        let topic = env.rng.below(env.names.topics.len());
        let qos = *env.rng.pick(&[QoS::AtLeastOnce, QoS::ExactlyOnce]);
        let kind = Kind::Will(Fate::Open);
        let number = env.judge.sent(self.sent(topic, qos, kind));
        let will = Will {
            message: message(env, topic, number, 0),
            qos,
            retain: false,
            delay_s: 0,
        };
        (number, will)
    }

    fn sent(&self, topic: usize, qos: QoS, kind: Kind) -> Sent {
        Sent {
            device: self.id,
            conn: self.at.as_ref().map_or(0, |at| at.conn),
            topic,
            qos,
            retain: false,
            expiry_s: None,
            kind,
            acked_at: None,
            to: Vec::new(),
            shared: None,
        }
    }

    /// Says goodbye. The proxy closes the connection.
    fn leave(&mut self, env: &mut Env) {
        env.say(format_args!("device {}: DISCONNECT", self.id));
        self.send(
            env,
            &Packet::Disconnect(Disconnect::new(ReasonCode::Success)),
        );
        if let Some(at) = &mut self.at {
            at.phase = Phase::Leaving;
        }
    }

    pub(crate) fn drop_socket(&mut self, env: &mut Env) {
        if let Some(at) = &self.at {
            env.say(format_args!(
                "device {}: closes connection {}",
                self.id, at.conn
            ));
            env.close(at.conn, 0, false);
            self.lost(env, false);
        }
    }

    /// Connects again and leaves the connection that it has as it is.
    fn take_over(&mut self, env: &mut Env) {
        let Some(at) = self.at.take_if(|at| at.phase == Phase::Connected) else {
            return;
        };
        env.say(format_args!(
            "device {}: leaves connection {} behind",
            self.id, at.conn
        ));
        Self::end_will(env, &at, Fate::Unclear);
        self.stale_will = at.will.map(|number| (number, at.heard));
        self.note_loss(env, &at);
        self.session.lose_connection();
        if !self.lasts() {
            env.judge.ledger.end_session(self.id);
            self.session.forget();
        }
        self.stale.push(Stale {
            conn: at.conn,
            inbox: at.inbox,
            sent: Vec::new(),
        });
        self.connect(env);
    }

    /// The connection that it used is over. `by_peer`: the other end has closed it.
    fn lost(&mut self, env: &mut Env, by_peer: bool) {
        let Some(at) = self.at.take() else { return };
        let fate = match at.phase {
            Phase::Leaving if by_peer && !env.net.conns[at.conn].cut => {
                match env.net.conns[at.conn].ends[1] {
                    End::Shard { proxy, life, .. } => Fate::Dropped { proxy, life },
                    _ => Fate::Unclear,
                }
            }
            Phase::Connected => Fate::Due,
            Phase::Dialling | Phase::Greeting | Phase::Leaving => Fate::Unclear,
        };
        self.stays_away |= self.parts && at.phase == Phase::Leaving && by_peer;
        Self::end_will(env, &at, fate);
        if let (Some(number), Fate::Dropped { proxy, .. }) = (at.will, fate) {
            self.dropped_will = Some((number, proxy));
        }
        self.note_loss(env, &at);
        self.session.lose_connection();
        if !self.lasts() {
            env.judge.ledger.end_session(self.id);
            self.session.forget();
        }
    }

    fn end_will(env: &mut Env, at: &At, fate: Fate) {
        if let Some(number) = at.will {
            env.judge.will(number, fate, at.heard);
        }
    }

    /// A DISCONNECT that waits for a home that is away is overtaken by a CONNECT through another proxy.
    fn doubt_will(&self, env: &mut Env, proxy: usize) {
        if let Some((number, by)) = self.dropped_will
            && by != proxy
        {
            env.judge.ledger.sent[number as usize].kind = Kind::Will(Fate::Unclear);
        }
    }

    fn note_loss(&self, env: &mut Env, at: &At) {
        let standing = &mut env.judge.ledger.devices[self.id];
        let was_connected = matches!(at.phase, Phase::Connected | Phase::Leaving);
        standing.known = match standing.known {
            Known::Some { .. } if was_connected => Known::Some {
                left: Some(Left {
                    at: at.heard,
                    tried_at: None,
                }),
            },
            Known::Some { left: Some(left) } if at.phase == Phase::Greeting => Known::Some {
                left: Some(Left {
                    tried_at: Some(env.now),
                    ..left
                }),
            },
            known => known,
        };
    }

    /// Writes to the socket.
    fn send(&mut self, env: &mut Env, packet: &Packet) {
        let Some(at) = &mut self.at else { return };
        let mut bytes = Vec::new();
        encode(packet, self.plan.version, &mut bytes).expect("a device's packets can be written");
        at.said = env.now;
        env.send(at.conn, 0, bytes);
    }
}

fn message(env: &mut Env, topic: usize, number: u32, bytes: usize) -> Message {
    let topic = TopicName::new(&env.names.topics[topic]).expect("topics are valid");
    Message::new(&topic, &[], &payload(number, bytes)).expect("a short message is valid")
}
