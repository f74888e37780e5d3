//! A proxy of one shard: the production session machine and link machines, and around them what a shard and a link
//! client do, with the network of the world for sockets.

mod links;
mod records;

use crate::env::Env;
use crate::net::{ConnId, End as Place, Piece};
use crate::queue::Event;
use crate::redis::CallId;
use bytes::{Bytes, BytesMut};
use cluster::frame::{Body, Delivery, FromGroup, ToGroup};
use cluster::ids::{Epoch, Handle};
use cluster::slots::GroupNo;
use links::Carrier;
pub(crate) use links::SECRET;
use proxy::auth::{AcceptAll, Peer};
use proxy::counters::ProxyCounters;
use proxy::limits::ProxyLimits;
use proxy::session::{
    AssignedIds, Context, End, Frames, Outgoing, Patience, Rules, Session, answer_for_gone,
};
use records::Records;
pub(crate) use records::name_of;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A connection of a device.
struct Conn {
    session: Session,
    id: ConnId,
    device: usize,
    unread: BytesMut,
    out: Vec<u8>,
    heard_s: u32,
}

pub(crate) struct Proxy {
    pub(crate) id: usize,
    /// Counts its starts.
    pub(crate) life: u32,
    pub(crate) up: bool,
    started_at: u64,
    rules: Rules,
    frames: Frames,
    conns: BTreeMap<Handle, Conn>,
    carriers: Vec<Carrier>,
    /// `None`: nobody keeps records.
    records: Option<Records>,
    handles: u32,
    alarm: u64,
}

impl Proxy {
    pub(crate) fn new(id: usize, env: &Env) -> Self {
        let routing = Arc::clone(&env.names.routing);
        Self {
            id,
            life: 0,
            up: false,
            started_at: 0,
            frames: Frames::new(routing.groups()),
            rules: Rules {
                limits: ProxyLimits::default(),
                counters: Arc::new(ProxyCounters::default()),
                authenticator: Arc::new(AcceptAll),
                now_s: 0,
                keeps_records: env.plan.redis.used,
                ids: AssignedIds::new(id as u64),
                routing,
            },
            conns: BTreeMap::new(),
            carriers: Vec::new(),
            records: None,
            handles: 0,
            alarm: u64::MAX,
        }
    }

    pub(crate) fn start(&mut self, env: &mut Env) {
        *self = Self {
            life: self.life + 1,
            up: true,
            started_at: env.now,
            ..Self::new(self.id, env)
        };
        env.say(format_args!(
            "proxy {}: starts, life {}",
            self.id, self.life
        ));
        let groups = 0..env.plan.groups.len();
        let (id, life) = (self.id, self.life);
        self.carriers = groups
            .map(|group| Carrier::new(id, life, group, env))
            .collect();
        let routing = &self.rules.routing;
        self.records = env.plan.redis.used.then(|| Records::new(id, life, routing));
        self.turn(env);
    }

    /// The process is gone. `silently`: so is the machine, and nobody is told.
    pub(crate) fn kill(&mut self, env: &mut Env, silently: bool) {
        env.say(format_args!("fault: proxy {} is killed", self.id));
        self.up = false;
        for carrier in &mut self.carriers {
            carrier.close(env, silently);
        }
        for conn in self.conns.values() {
            env.close(conn.id, 1, silently);
        }
        self.conns.clear();
        self.records = None;
    }

    /// A device has connected.
    pub(crate) fn accept(&mut self, env: &mut Env, conn: ConnId, device: usize) {
        let handle = Handle {
            index: self.handles,
            generation: 1,
        };
        self.handles += 1;
        env.net.conns[conn].ends[1] = Place::Shard {
            proxy: self.id,
            life: self.life,
            handle,
        };
        self.tell_time(env);
        let conn = Conn {
            session: Session::new(handle),
            id: conn,
            device,
            unread: BytesMut::new(),
            out: Vec::new(),
            heard_s: self.rules.now_s,
        };
        self.conns.insert(handle, conn);
    }

    /// Something has come from a device.
    pub(crate) fn hears_device(&mut self, env: &mut Env, handle: Handle, piece: &Piece) {
        self.tell_time(env);
        match piece {
            Piece::Bytes(bytes) => {
                if let Some(conn) = self.conns.get_mut(&handle) {
                    conn.heard_s = self.rules.now_s;
                    conn.unread.extend_from_slice(bytes);
                }
            }
            Piece::End => {
                self.with(handle, |session, cx| session.end(End::SocketClosed, cx));
            }
        }
        self.turn(env);
    }

    /// Something has come from a group.
    pub(crate) fn hears_group(&mut self, env: &mut Env, group: usize, conn: ConnId, piece: &Piece) {
        self.tell_time(env);
        let mut frames = Vec::new();
        self.carriers[group].hears(env, conn, piece, &mut frames);
        for frame in frames {
            self.take(group, frame);
        }
        self.turn(env);
    }

    /// A connection to a broker is there, or there will be none.
    pub(crate) fn dialled(&mut self, env: &mut Env, group: usize, conn: ConnId, made: bool) {
        self.carriers[group].dialled(env, conn, made);
        self.turn(env);
    }

    /// An attempt to reach Redis has come to its end.
    pub(crate) fn redis_opened(&mut self, env: &mut Env, link: u64) {
        if let Some(records) = &mut self.records {
            records.opened(env, link);
        }
        self.turn(env);
    }

    /// An answer of Redis has come.
    pub(crate) fn hears_redis(&mut self, env: &mut Env, call: CallId) {
        if let Some(records) = &mut self.records {
            records.hears(env, call);
        }
        self.turn(env);
    }

    /// A timer.
    pub(crate) fn wake(&mut self, env: &mut Env) {
        if self.alarm <= env.now {
            self.alarm = u64::MAX;
        }
        self.turn(env);
    }

    fn tell_time(&mut self, env: &Env) {
        self.rules.now_s = ((env.now - self.started_at) / 1_000_000) as u32;
    }

    /// Everything that can be done now.
    fn turn(&mut self, env: &mut Env) {
        self.tell_time(env);
        self.visit_due();
        self.read();
        self.hand_over();
        for group in 0..self.carriers.len() {
            self.carriers[group].turn(env);
        }
        self.resume_delayed();
        self.read();
        self.hand_over();
        self.flush(env);
        self.keep_records(env);
        self.set_alarm(env);
    }

    /// Hands changes to the session store, and asks groups what records have to say.
    fn keep_records(&mut self, env: &mut Env) {
        let Some(records) = &mut self.records else {
            return;
        };
        let now_ms = (env.now - self.started_at) / 1_000;
        let changes = std::mem::take(&mut self.frames.changes);
        records.turn(env, now_ms, changes, &self.rules.counters);
        let mut questions = Vec::new();
        while let Some(question) = records.next_question() {
            questions.push(question);
        }
        if questions.is_empty() {
            return;
        }
        for asked in questions {
            self.with(asked.handle, |session, cx| {
                session.ask_for_filters(asked, cx);
            });
        }
        self.hand_over();
        for group in 0..self.carriers.len() {
            self.carriers[group].turn(env);
        }
    }

    fn set_alarm(&mut self, env: &mut Env) {
        let second = self.started_at + u64::from(self.rules.now_s + 1) * 1_000_000;
        let records_wait = self.records.as_ref().is_some_and(Records::has_waiting);
        let seconds = (!self.conns.is_empty() || records_wait).then_some(second);
        let records = self.records.as_ref().and_then(Records::due);
        let links = self.carriers.iter().filter_map(Carrier::deadline);
        let links = links.map(|at| env.micros(at));
        let due = links.chain(seconds).chain(records).min();
        let Some(due) = due.map(|due| due.max(env.now + 1)) else {
            return;
        };
        if due < self.alarm {
            self.alarm = due;
            let (proxy, life) = (self.id, self.life);
            env.queue.put(due, Event::ProxyTurn { proxy, life });
        }
    }

    /// Runs a piece of a session, if there is one.
    fn with<R>(
        &mut self,
        handle: Handle,
        run: impl FnOnce(&mut Session, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let conn = self.conns.get_mut(&handle)?;
        let peer = || {
            Some(Peer {
                address: ([127, 0, 0, 1], 1).into(),
                certificate: None,
            })
        };
        let mut context = Context {
            bytes: &mut conn.out,
            frames: &mut self.frames,
            rules: &self.rules,
            peer: &peer,
        };
        Some(run(&mut conn.session, &mut context))
    }

    /// Connections whose second has come.
    fn visit_due(&mut self) {
        let now_s = self.rules.now_s;
        let handles: Vec<Handle> = self.conns.keys().copied().collect();
        for handle in handles {
            let conn = self.conns.get_mut(&handle).expect("none has gone");
            conn.session.rest();
            if conn.session.due_s() <= now_s {
                self.with(handle, Session::overdue);
                continue;
            }
            let Patience::Seconds(seconds) = conn.session.patience(&self.rules) else {
                continue;
            };
            if conn.heard_s + seconds <= now_s && conn.session.ended().is_none() {
                self.with(handle, Session::timed_out);
            }
        }
    }

    /// Lets sessions read what their devices have sent, as far as they want to.
    fn read(&mut self) {
        if self.is_paused() {
            return;
        }
        let handles: Vec<Handle> = self.conns.keys().copied().collect();
        for handle in handles {
            while let Some(conn) = self.conns.get_mut(&handle)
                && !conn.unread.is_empty()
                && conn.session.reads(&self.rules)
            {
                let chunk = Bytes::copy_from_slice(&conn.unread);
                let received = self.with(handle, |session, cx| session.receive(&chunk, cx));
                let consumed = received.map_or(0, |received| received.consumed);
                let conn = self.conns.get_mut(&handle).expect("it was there");
                drop(conn.unread.split_to(consumed));
                if consumed == 0 {
                    break;
                }
            }
        }
    }

    /// Where there is one group, nothing is read while that takes no more.
    fn is_paused(&self) -> bool {
        matches!(self.carriers.as_slice(), [only] if only.is_full())
    }

    fn hand_over(&mut self) {
        for (at, carrier) in self.carriers.iter_mut().enumerate() {
            let lane = self.frames.lane(GroupNo(at as u8));
            carrier.push(&mut lane.list, std::mem::take(&mut lane.bytes));
        }
        self.frames.taken();
        if self.carriers.len() > 1 {
            for (at, carrier) in self.carriers.iter().enumerate() {
                self.frames.lane(GroupNo(at as u8)).full = carrier.is_full();
            }
        }
    }

    /// Lets connections go on that waited for groups which have room now.
    fn resume_delayed(&mut self) {
        for at in 0..self.carriers.len() {
            let group = GroupNo(at as u8);
            self.hand_over();
            if self.frames.lane(group).waits.is_empty() || self.frames.is_full(group) {
                continue;
            }
            let waits = std::mem::take(&mut self.frames.lane(group).waits);
            for handle in waits.joins {
                self.with(handle, |session, cx| session.join_late(group, cx));
            }
            for handle in waits.packets {
                self.with(handle, |session, cx| session.go_on(group, cx));
            }
            self.hand_over();
        }
    }

    /// What a shard does with a group's frame.
    fn take(&mut self, group: usize, frame: FromGroup) {
        let from = GroupNo(group as u8);
        match frame {
            FromGroup::Deliver(delivery) => self.deliver(&delivery),
            FromGroup::Errand(errand) => self.carry(errand.to, ToGroup::Errand(errand)),
            FromGroup::ErrandDone(done) => self.carry(done.from, ToGroup::ErrandDone(done)),
            FromGroup::Resume => self.resume(from),
            FromGroup::Done { .. } => {}
            frame => self.take_for_one(from, frame),
        }
        self.hand_over();
    }

    fn take_for_one(&mut self, from: GroupNo, frame: FromGroup) {
        let handle = frame.connection().expect("the others were taken");
        if let FromGroup::Claimed(_) | FromGroup::ClaimRefused { .. } | FromGroup::Kick { .. } =
            &frame
        {
            self.frames.claim_answered(from, handle);
        }
        if self.conns.contains_key(&handle) {
            self.with(handle, |session, cx| session.frame(from, frame, cx));
            return;
        }
        let mut nothing = Vec::new();
        let mut context = Context {
            bytes: &mut nothing,
            frames: &mut self.frames,
            rules: &self.rules,
            peer: &|| None,
        };
        answer_for_gone(from, frame, &mut context);
    }

    fn resume(&mut self, group: GroupNo) {
        let sessions = self.conns.values();
        let resume = cluster::frame::Resume {
            sessions: sessions
                .filter_map(|conn| conn.session.reattach(group))
                .collect(),
            void: self.frames.void_claims(group),
        };
        self.frames
            .push(group, ToGroup::Resume(Box::new(resume)), 0);
    }

    fn carry(&mut self, to: GroupNo, frame: ToGroup) {
        if self.frames.knows(to) && !self.frames.is_full(to) {
            self.frames.push(to, frame, 0);
        }
    }

    fn deliver(&mut self, delivery: &Delivery) {
        let Body::Inline(message) = &delivery.body else {
            unreachable!("the group reads it before it sends it");
        };
        let outgoing = Outgoing {
            message,
            expiry_s: delivery.expiry_s,
        };
        for receiver in &delivery.receivers {
            self.with(receiver.handle, |session, cx| {
                session.deliver(outgoing, receiver, None, cx);
            });
        }
    }

    /// Writes what sessions have for their devices, and closes what is over.
    fn flush(&mut self, env: &mut Env) {
        for conn in self.conns.values_mut() {
            // It may be over already when its CONNACK leaves.
            if conn.session.epoch() != Epoch::default() {
                env.net.epochs.insert(conn.id, conn.session.epoch());
            }
            env.send(conn.id, 1, std::mem::take(&mut conn.out));
            if conn.session.ended().is_some() {
                env.close(conn.id, 1, false);
            }
        }
        self.conns.retain(|_, conn| conn.session.ended().is_none());
    }

    /// What the links still keep.
    pub(crate) fn owed(&self) -> Option<String> {
        let waits = self.records.as_ref().is_some_and(Records::has_waiting);
        let records = waits.then(|| "records wait to be written".to_owned());
        let owed = self.carriers.iter().find_map(Carrier::owed).or(records)?;
        Some(format!("proxy {}: {owed}", self.id))
    }

    /// Devices of the connections that it serves.
    pub(crate) fn serves(&self) -> impl Iterator<Item = usize> + '_ {
        let conns = self.conns.values();
        conns
            .filter(|conn| conn.session.is_connected())
            .map(|conn| conn.device)
    }
}
