//! A proxy's link to a group: the bag of the shard, the production link machine, and the connection it has at the time.

use super::name_of;
use crate::env::Env;
use crate::net::{ConnId, End, Piece};
use cluster::frame::{FromGroup, ToGroup};
use cluster::link::{GroupView, LinkError, ProducerIdentity, ProducerLink, Search};
use cluster::topology::NodeName;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Instant;

/// What all nodes of a world know.
pub(crate) const SECRET: &[u8] = b"the secret of a simulated fleet";

pub(super) struct Carrier {
    proxy: usize,
    life: u32,
    group: usize,
    link: ProducerLink,
    bag: VecDeque<ToGroup>,
    bag_bytes: usize,
    bag_bytes_max: usize,
    conn: Option<ConnId>,
    made: bool,
    view: GroupView,
    search: Search,
    /// The member that the connection is to.
    member: Option<NodeName>,
}

impl Carrier {
    pub(super) fn new(proxy: usize, life: u32, group: usize, env: &mut Env) -> Self {
        let name = name_of(proxy);
        let identity = ProducerIdentity {
            group: group as u32,
            node: proxy as u32 + 1,
            shard: 0,
            incarnation: u64::from(life),
            name: name.as_str().into(),
            secret: Arc::from(SECRET),
        };
        let known = Arc::clone(&env.names.announcement);
        let seed = env.rng.next();
        // Some shards have very small bags, so that links are full.
        let bag_bytes_max = if env.rng.chance(150) { 600 } else { 8 << 20 };
        let mut view = GroupView::default();
        view.set_members(env.names.members[group].iter().cloned());
        Self {
            proxy,
            life,
            group,
            link: ProducerLink::new(identity, known, seed, env.instant()),
            bag: VecDeque::new(),
            bag_bytes: 0,
            bag_bytes_max,
            conn: None,
            made: false,
            view,
            search: Search::default(),
            member: None,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.bag_bytes >= self.bag_bytes_max
    }

    pub(super) fn push(&mut self, frames: &mut Vec<ToGroup>, bytes: usize) {
        self.bag.extend(frames.drain(..));
        self.bag_bytes += bytes;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.link.deadline()
    }

    pub(super) fn turn(&mut self, env: &mut Env) {
        let now = env.instant();
        if self.link.wants_connection(now) {
            self.dial(env);
        }
        self.take_resume();
        self.write(env);
        if let Err(error) = self.link.tick(now) {
            return self.lose(env, &error);
        }
        self.write(env);
    }

    fn dial(&mut self, env: &mut Env) {
        let now = env.instant();
        self.link.connecting(now);
        self.member = self.search.next(now, &self.view);
        let own = |name: &NodeName| self.member.as_ref() == Some(name);
        let place = env.names.members[self.group].iter().position(own);
        let place = place.expect("a group has members, and the search knows no others");
        let before: usize = env.names.members[..self.group].iter().map(Vec::len).sum();
        let broker = before + place;
        let (proxy, life, group) = (self.proxy, self.life, self.group);
        let from = End::Link { proxy, life, group };
        self.conn = Some(env.dial(from, End::Broker { broker, life: 0 }));
        self.made = false;
    }

    pub(super) fn dialled(&mut self, env: &mut Env, conn: ConnId, made: bool) {
        if self.conn != Some(conn) {
            if made {
                env.close(conn, 0, false);
            }
            return;
        }
        if made {
            let nonce = env.nonce();
            self.made = true;
            self.link.connected(env.instant(), nonce);
        } else {
            self.lose(env, &LinkError::Io(ErrorKind::ConnectionRefused));
        }
    }

    pub(super) fn hears(
        &mut self,
        env: &mut Env,
        conn: ConnId,
        piece: &Piece,
        frames: &mut Vec<FromGroup>,
    ) {
        if self.conn != Some(conn) {
            return;
        }
        match piece {
            Piece::End => self.lose(env, &LinkError::Closed),
            Piece::Bytes(bytes) => match self.link.received(env.instant(), bytes, frames) {
                Err(error) => self.lose(env, &error),
                Ok(received) => {
                    if let (Some(_), Some(member)) = (received.welcomed, &self.member) {
                        self.search.welcomed(member, &mut self.view);
                    }
                }
            },
        }
    }

    fn take_resume(&mut self) {
        while self.link.wants_resume() {
            let is_resume = |frame: &ToGroup| matches!(frame, ToGroup::Resume(_));
            let Some(at) = self.bag.iter().position(is_resume) else {
                return;
            };
            let resume = self.bag.remove(at).expect("it was just found");
            self.link.frames(&mut vec![resume]);
        }
    }

    fn write(&mut self, env: &mut Env) {
        loop {
            if self.link.takes_frames() {
                self.bag_bytes = 0;
                let mut frames: Vec<ToGroup> = self.bag.drain(..).collect();
                self.link.frames(&mut frames);
            }
            let Some(conn) = self.conn.filter(|_| self.made) else {
                return;
            };
            let outgoing = self.link.outgoing().to_vec();
            if outgoing.is_empty() {
                return;
            }
            self.link.written(env.instant(), outgoing.len());
            env.send(conn, 0, outgoing);
        }
    }

    fn lose(&mut self, env: &mut Env, error: &LinkError) {
        env.say(format_args!(
            "proxy {}: no link to group {} ({error})",
            self.proxy, self.group
        ));
        self.close(env, false);
        let now = env.instant();
        let again = self
            .search
            .failed(now, self.member.as_ref(), error, &mut self.view);
        self.link.lost(now, again);
    }

    pub(super) fn close(&mut self, env: &mut Env, silently: bool) {
        if let Some(conn) = self.conn.take() {
            env.close(conn, 0, silently);
        }
        self.made = false;
    }

    pub(super) fn owed(&self) -> Option<String> {
        let kept = self.link.figures().kept_frames;
        if !self.link.is_up() {
            return Some(format!("the link to group {} is not up", self.group));
        }
        let waiting = self.bag.len();
        (kept > 0 || waiting > 0).then(|| {
            format!(
                "the link to group {} keeps {kept} frames, {waiting} wait",
                self.group
            )
        })
    }
}
