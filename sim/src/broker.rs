//! A broker: a member of a group with its links to proxies, as its threads drive them.

mod change;
mod copy;
mod stop;

use crate::engine::{Engine, News, Surety};
use crate::entries::{note_stored, resolve};
use crate::env::{Env, WallOff};
use crate::log::{Disk, SharedDisk, Snapshot, lock};
use crate::member::{Member, Who};
use crate::net::{ConnId, Piece};
use crate::outbox::Life;
use crate::proxy::SECRET;
use crate::queue::Event;
use crate::solo::Solo;
use broker::command::Producer;
use broker::consensus::Consensus;
use broker::leader::clock::Clocks;
use broker::leader::{LinkRefused, Routes};
use bytes::Bytes;
use cluster::frame::ToGroup;
use cluster::ids::LinkNo;
use cluster::link::{GroupIdentity, GroupSession};
use cluster::slots::GroupNo;
use cluster::wire::{Hello, Refusal, Refused};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use stop::Ending;

/// A member that leads without being sure of it looks again after this long.
const UNSURE_WAIT_US: u64 = 20_000;

/// A connection of a proxy.
struct Conn {
    session: GroupSession,
    link: Option<LinkNo>,
    /// Handed over and not taken by the group.
    bag: VecDeque<ToGroup>,
    bag_bytes: usize,
    refused: bool,
}

pub(crate) struct Broker {
    pub(crate) id: usize,
    pub(crate) group: usize,
    pub(crate) member: usize,
    pub(crate) life: u32,
    pub(crate) up: bool,
    started_at: u64,
    /// How much its wall clock is off.
    pub(crate) wall_off_ms: WallOff,
    /// A sync takes so much longer until then.
    pub(crate) slow_disk: (u64, u64),
    /// The whole machine is gone, not only the process: nobody says that it is not there.
    pub(crate) is_silent: bool,
    /// It stops as planned, and has come so far.
    ending: Option<Ending>,
    /// It comes back so long after that.
    away_us: u64,
    disk: SharedDisk,
    engine: Option<Engine>,
    /// Of a replicated group.
    raft: Option<Member>,
    /// A snapshot that is being written.
    writing: Option<Snapshot>,
    /// A turn is planned that something has asked for.
    is_woken: bool,
    conns: BTreeMap<ConnId, Conn>,
    /// The newest connection of each link.
    links: Vec<Option<ConnId>>,
    alarm: u64,
}

impl Broker {
    pub(crate) fn new(id: usize, group: usize, member: usize, env: &mut Env) -> Self {
        Self {
            id,
            group,
            member,
            life: 0,
            up: false,
            started_at: 0,
            wall_off_ms: WallOff::new((env.rng.range(0, 4_000).cast_signed() - 2_000).into()),
            slow_disk: (0, 0),
            is_silent: false,
            ending: None,
            away_us: 0,
            disk: Arc::new(Mutex::new(Disk::default())),
            engine: None,
            raft: None,
            writing: None,
            is_woken: false,
            conns: BTreeMap::new(),
            links: Vec::new(),
            alarm: u64::MAX,
        }
    }

    pub(crate) fn start(&mut self, env: &mut Env) {
        self.life += 1;
        self.up = true;
        self.started_at = env.now;
        self.alarm = u64::MAX;
        env.say(format_args!(
            "group {} member {}: starts, life {}",
            self.group, self.member, self.life
        ));
        let consensus = self.join(env);
        self.engine = Some(Engine::new(consensus, &self.disk, self.routes(env)));
        self.writing = None;
        self.turn(env);
    }

    fn join(&mut self, env: &mut Env) -> Box<dyn Consensus> {
        if env.plan.alone && env.plan.groups[self.group] == 1 {
            let disk = Arc::clone(&self.disk);
            return Box::new(Solo::new(disk, u64::from(self.life), env.instant()));
        }
        let members = &env.names.members[self.group];
        let first = env.plan.groups[self.group];
        let who = Who {
            life: self.of_life(),
            group: self.group,
            name: members[self.member].clone(),
            members: members[..first].to_vec(),
            run: env.rng.next(),
            wall: env.wall_clock(&self.wall_off_ms),
            kept_entries: env.plan.kept_entries,
        };
        let (member, handle) = Member::start(who, &self.disk, &env.outbox);
        self.raft = Some(member);
        Box::new(handle)
    }

    fn of_life(&self) -> Life {
        (self.id, self.life)
    }

    /// The member of this life has something for the group.
    pub(crate) fn woken(&mut self, env: &mut Env, life: u32) {
        if self.up && self.life == life && !std::mem::replace(&mut self.is_woken, true) {
            let (broker, delay) = (self.id, env.rng.range(0, 100));
            env.after(delay, Event::BrokerTurn { broker, life });
        }
    }

    /// The member of this life has appended to the disk.
    pub(crate) fn appended(&mut self, env: &mut Env, life: u32) {
        if self.up && self.life == life {
            self.begin_sync(env);
        }
    }

    /// Another member's call has come.
    pub(crate) fn takes_call(&self, number: usize, call: Bytes) {
        if let Some(raft) = &self.raft {
            raft.answer(number, call);
        }
    }

    /// The process stands still, or goes on.
    pub(crate) fn pause(&self, stands_still: bool) {
        if let Some(raft) = &self.raft {
            raft.pause(stands_still);
        }
    }

    fn routes(&self, env: &Env) -> Option<Routes> {
        (env.plan.groups.len() > 1).then(|| Routes {
            own: GroupNo(self.group as u8),
            routing: Arc::clone(&env.names.routing),
        })
    }

    /// The process is gone, and with it what its disk had not stored. `silently`: so is the machine.
    pub(crate) fn crash(&mut self, env: &mut Env, silently: bool) {
        self.up = false;
        self.is_silent = silently;
        self.is_woken = false;
        self.ending = None;
        if let Some(raft) = self.raft.take() {
            raft.kill();
        }
        self.engine = None;
        for conn in std::mem::take(&mut self.conns).into_keys() {
            env.close(conn, 1, silently);
        }
        self.links.clear();
        let mut disk = lock(&self.disk);
        let (appended, durable) = (disk.appended(), disk.durable());
        let kept = disk.crash(&mut env.rng);
        let member = (self.group, self.member);
        note_stored(env, member, &disk, kept.clone());
        let (group, member, kept) = (self.group, self.member, kept.end);
        env.trace.say(
            env.now,
            format_args!(
                "fault: group {group} member {member}: crashes with {appended} records, {durable} stored, {kept} left"
            ),
        );
    }

    /// A connection of a proxy.
    pub(crate) fn accept(&mut self, env: &mut Env, conn: ConnId) {
        let name = env.names.members[self.group][self.member].as_str();
        let identity = GroupIdentity {
            group: self.group as u32,
            name: name.into(),
            secret: Arc::from(SECRET),
        };
        let (known, nonce) = (Arc::clone(&env.names.announcement), env.nonce());
        let conn_of = Conn {
            session: GroupSession::new(identity, known, nonce, env.instant()),
            link: None,
            bag: VecDeque::new(),
            bag_bytes: 0,
            refused: false,
        };
        self.conns.insert(conn, conn_of);
    }

    /// Something has come from a proxy.
    pub(crate) fn hears(&mut self, env: &mut Env, conn: ConnId, piece: &Piece) {
        match piece {
            Piece::End => self.close(env, conn),
            Piece::Bytes(bytes) => self.read(env, conn, bytes),
        }
        self.turn(env);
    }

    fn read(&mut self, env: &mut Env, at: ConnId, bytes: &Bytes) {
        let Some(conn) = self.conns.get_mut(&at) else {
            return;
        };
        let mut frames = Vec::new();
        match conn.session.receive(env.instant(), bytes, &mut frames) {
            Ok(admission) => {
                conn.bag.extend(frames);
                conn.bag_bytes += admission.frame_bytes;
                if let Some(hello) = admission.admit {
                    self.admit(env, at, &hello);
                }
            }
            Err(error) => {
                env.say(format_args!(
                    "group {} member {}: ends connection {at} ({error})",
                    self.group, self.member
                ));
                self.flush(env, at);
                self.close(env, at);
            }
        }
    }

    /// A proxy has proved who it is.
    fn admit(&mut self, env: &mut Env, at: ConnId, hello: &Hello) {
        let producer = Producer {
            node: hello.node,
            shard: hello.shard,
            incarnation: hello.incarnation,
        };
        let now = env.instant();
        let engine = self.engine.as_mut().expect("it is up");
        let sure = engine.surety(now) == Some(Surety::Sure);
        let elsewhere = engine.leader_elsewhere().cloned();
        let result = match engine.leader_mut() {
            None => Err(LinkRefused::NotLeader { leader: elsewhere }),
            Some(_) if !sure => Err(LinkRefused::NoQuorum),
            Some(leader) => {
                let up = leader.session_up(producer);
                up.map(|(link, known)| (link, known, leader.state().reign()))
            }
        };
        let conn = self.conns.get_mut(&at).expect("it was just heard of");
        match result {
            Ok((link, known, reign)) => {
                conn.session.welcome(now, reign, known);
                conn.link = Some(link);
                self.put_link(env, link, at);
            }
            Err(why) => self.refuse(env, at, &why),
        }
    }

    fn put_link(&mut self, env: &mut Env, link: LinkNo, at: ConnId) {
        let place = usize::from(link.0);
        if self.links.len() <= place {
            self.links.resize(place + 1, None);
        }
        if let Some(older) = self.links[place].replace(at) {
            // It is over, and is not to end the new session.
            if let Some(conn) = self.conns.remove(&older) {
                drop(conn);
                env.close(older, 1, false);
            }
        }
    }

    fn refuse(&mut self, env: &mut Env, at: ConnId, why: &LinkRefused) {
        let name = env.names.members[self.group][self.member].as_str();
        let text = format!("{name}: {why}");
        let refused = match why {
            LinkRefused::NotLeader { leader } => Refused::not_leader(leader.clone(), &text),
            LinkRefused::NoQuorum => Refused::new(Refusal::NoQuorum, &text),
            LinkRefused::Superseded => Refused::new(Refusal::Superseded, &text),
            _ => Refused::new(Refusal::NotServing, &text),
        };
        if let Some(conn) = self.conns.get_mut(&at) {
            conn.refused = true;
            let error = conn.session.refuse(refused);
            env.say(format_args!(
                "group {} member {}: {error}",
                self.group, self.member
            ));
        }
        self.flush(env, at);
        self.close(env, at);
    }

    fn close(&mut self, env: &mut Env, at: ConnId) {
        let Some(conn) = self.conns.remove(&at) else {
            return;
        };
        env.close(at, 1, false);
        let Some(link) = conn.link else { return };
        let place = &mut self.links[usize::from(link.0)];
        if *place == Some(at) {
            *place = None;
            if let Some(leader) = self.engine.as_mut().and_then(Engine::leader_mut) {
                leader.session_lost(link);
            }
        }
    }

    /// A timer.
    pub(crate) fn wake(&mut self, env: &mut Env) {
        self.is_woken = false;
        if self.alarm <= env.now {
            self.alarm = u64::MAX;
        }
        self.turn(env);
    }

    /// The disk has finished a sync.
    pub(crate) fn synced(&mut self, env: &mut Env) {
        let mut disk = lock(&self.disk);
        let stored = disk.synced();
        note_stored(env, (self.group, self.member), &disk, stored);
        drop(disk);
        if let Some(raft) = &self.raft {
            raft.disk_moved();
        }
        self.begin_sync(env);
        self.turn(env);
        self.go_on_stopping(env);
    }

    fn clocks(&self, env: &Env) -> Clocks {
        Clocks {
            monotonic_ms: (env.now - self.started_at) / 1_000,
            wall_ms: env.wall_ms(self.wall_off_ms.load(Ordering::Relaxed)),
        }
    }

    /// Everything that can be done now.
    fn turn(&mut self, env: &mut Env) {
        let clocks = self.clocks(env);
        if self.engine.is_none() {
            return;
        }
        let is_sure = self.is_sure_to_lead(env);
        let engine = self.engine.as_mut().expect("just seen");
        let in_reign = engine.of_reign(clocks);
        if let Some(leader) = engine.leader_mut() {
            leader.advance(in_reign);
        }
        if is_sure {
            self.take_frames();
        }
        self.commit(env, clocks);
        self.begin_sync(env);
        if self.is_sure_to_lead(env) {
            self.send_frames();
        }
        self.begin_snapshot(env);
        self.tick(env);
        self.set_alarm(env);
        self.go_on_stopping(env);
    }

    /// Whether it leads, and no other member can. A leader that is unsure for long ends its links.
    fn is_sure_to_lead(&mut self, env: &mut Env) -> bool {
        let surety = self
            .engine
            .as_mut()
            .and_then(|engine| engine.surety(env.instant()));
        if surety == Some(Surety::TooLong) {
            self.end_links(env, &LinkRefused::NoQuorum);
        }
        surety == Some(Surety::Sure)
    }

    fn take_frames(&mut self) {
        let leader = self.engine.as_mut().and_then(Engine::leader_mut);
        let Some(leader) = leader else { return };
        for (number, conn) in self.links.iter().enumerate() {
            let link = LinkNo(number as u16);
            let Some(conn) = conn.and_then(|conn| self.conns.get_mut(&conn)) else {
                continue;
            };
            while leader.is_ready(link)
                && let Some(frame) = conn.bag.pop_front()
            {
                leader.frame(link, frame);
            }
            if conn.bag.is_empty() {
                conn.bag_bytes = 0;
            }
        }
    }

    fn commit(&mut self, env: &mut Env, clocks: Clocks) {
        let engine = self.engine.as_mut().expect("it is up");
        let mut ends = None;
        for news in engine.commit(clocks) {
            match news {
                News::Leads { term } => {
                    env.say(format_args!(
                        "group {} member {}: leads, term {term}",
                        self.group, self.member
                    ));
                }
                News::Follows { leader } => ends = Some(leader),
                News::Installed { index } => {
                    env.say(format_args!(
                        "group {} member {}: goes on from a snapshot of entry {index}",
                        self.group, self.member
                    ));
                }
                News::Applied { index, hash } => {
                    env.judge.applies((self.group, self.member), index, hash);
                }
            }
        }
        if let Some(leader) = ends {
            env.say(format_args!(
                "group {} member {}: does not lead any more",
                self.group, self.member
            ));
            self.end_links(env, &LinkRefused::NotLeader { leader });
        }
    }

    fn end_links(&mut self, env: &mut Env, why: &LinkRefused) {
        self.links.clear();
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        for at in conns {
            let conn = self.conns.get_mut(&at).expect("just seen");
            let Some(link) = conn.link.take() else {
                continue;
            };
            if let Some(leader) = self.engine.as_mut().and_then(Engine::leader_mut) {
                leader.session_lost(link);
            }
            self.refuse(env, at, why);
        }
    }

    fn begin_sync(&mut self, env: &mut Env) {
        if !lock(&self.disk).begin_sync() {
            return;
        }
        let slow = if env.now < self.slow_disk.0 {
            self.slow_disk.1
        } else {
            0
        };
        let time = env.rng.skewed(env.plan.sync_us.0, env.plan.sync_us.1) + slow;
        let (broker, life) = (self.id, self.life);
        env.after(time, Event::Synced { broker, life });
    }

    fn send_frames(&mut self) {
        let Some(leader) = self.engine.as_mut().and_then(Engine::leader_mut) else {
            return;
        };
        leader.end_units(|_| false);
        let mut links = std::mem::take(&mut leader.effects().links);
        leader.effects().stored = false;
        for (number, frames) in links.iter_mut().enumerate() {
            if !leader.is_live(LinkNo(number as u16)) {
                continue;
            }
            let conn = self.links.get(number).copied().flatten();
            let Some(conn) = conn.and_then(|conn| self.conns.get_mut(&conn)) else {
                continue;
            };
            resolve(&self.disk, frames);
            conn.session.send(frames);
        }
    }

    /// Time passes for the links, and what they have to say leaves.
    fn tick(&mut self, env: &mut Env) {
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        for at in conns {
            let conn = self.conns.get_mut(&at).expect("just seen");
            conn.session.waiting(env.instant(), conn.bag_bytes);
            let ticked = conn.session.tick(env.instant());
            self.flush(env, at);
            if let Err(error) = ticked {
                env.say(format_args!(
                    "group {} member {}: ends connection {at} ({error})",
                    self.group, self.member
                ));
                self.close(env, at);
            }
        }
    }

    fn flush(&mut self, env: &mut Env, at: ConnId) {
        let Some(conn) = self.conns.get_mut(&at) else {
            return;
        };
        let outgoing = conn.session.outgoing().to_vec();
        if !outgoing.is_empty() {
            conn.session.written(env.instant(), outgoing.len());
            env.send(at, 1, outgoing);
        }
    }

    fn set_alarm(&mut self, env: &mut Env) {
        let Some(engine) = &self.engine else { return };
        let sessions = self
            .conns
            .values()
            .filter_map(|conn| conn.session.deadline());
        let sessions = sessions.map(|at| env.micros(at));
        let leader = engine.leader().and_then(|leader| {
            let resuming = leader.is_resuming().then_some(1);
            leader.wait_ms().into_iter().chain(resuming).min()
        });
        let leader = leader.map(|ms| env.now + ms * 1_000);
        let unsure = engine.is_unsure().then_some(env.now + UNSURE_WAIT_US);
        let Some(due) = sessions.chain(leader).chain(unsure).min() else {
            return;
        };
        let due = due.max(env.now + 500);
        if due < self.alarm {
            self.alarm = due;
            let (broker, life) = (self.id, self.life);
            env.queue.put(due, Event::BrokerTurn { broker, life });
        }
    }

    /// Whether it leads, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.engine
            .as_ref()
            .is_some_and(|engine| engine.leader().is_some())
    }

    /// Whether it may act as the leader now.
    pub(crate) fn may_act(&self, env: &Env) -> bool {
        let engine = self.engine.as_ref();
        engine.is_some_and(|engine| engine.may_act(env.instant()))
    }

    /// What its group holds of sessions, if it leads.
    pub(crate) fn left(&self) -> Option<String> {
        let left = self.engine.as_ref()?.left()?;
        Some(format!("group {} still has {left}", self.group))
    }

    /// What its links still have to do.
    pub(crate) fn owed(&self) -> Option<String> {
        if self.stopping_life().is_some() {
            return Some(format!("group {} has a member that stops", self.group));
        }
        let engine = self.engine.as_ref()?;
        if let Some(error) = engine.failure() {
            return Some(format!(
                "group {} has a member that failed: {error}",
                self.group
            ));
        }
        let leader = engine.leader()?;
        let waits = self.conns.values().any(|conn| !conn.bag.is_empty());
        if leader.state().has_errands() {
            return Some(format!("group {} has errands at other groups", self.group));
        }
        (!leader.is_settled() || waits)
            .then(|| format!("group {} has entries on their way", self.group))
    }
}
