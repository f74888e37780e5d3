//! A proxy of one shard: the sessions of this crate, and what a shard does around them.

use super::link::Link;
use super::world::GROUPS;
use crate::auth::{AcceptAll, Peer};
use crate::counters::ProxyCounters;
use crate::limits::ProxyLimits;
use crate::records::in_memory::InMemoryRecords;
use crate::session::{AssignedIds, Context, Frames, Outgoing, Rules, Session, answer_for_gone};
use bytes::{Bytes, BytesMut};
use cluster::frame::{Body, Delivery, FromGroup, Resume, ToGroup};
use cluster::ids::Handle;
use cluster::slots::GroupNo;
use cluster::topology::Routing;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A connection and its socket.
pub(super) struct Conn {
    pub(super) session: Session,
    pub(super) device: usize,
    /// What the device has sent and the session has not read.
    pub(super) unread: BytesMut,
    /// What the session has written.
    pub(super) bytes: Vec<u8>,
}

/// A proxy of one shard.
pub(super) struct Proxy {
    pub(super) rules: Rules,
    pub(super) frames: Frames,
    pub(super) conns: BTreeMap<Handle, Conn>,
    pub(super) links: Vec<Link>,
    pub(super) incarnation: u64,
    records: Option<InMemoryRecords>,
}

impl Proxy {
    pub(super) fn new(routing: &Arc<Routing>, incarnation: u64, now_s: u32) -> Self {
        Self {
            rules: Rules {
                limits: ProxyLimits::default(),
                counters: Arc::new(ProxyCounters::default()),
                authenticator: Arc::new(AcceptAll),
                now_s,
                keeps_records: false,
                ids: AssignedIds::new(1),
                routing: Arc::clone(routing),
            },
            frames: Frames::new(routing.groups()),
            conns: BTreeMap::new(),
            links: (0..GROUPS).map(|_| Link::default()).collect(),
            incarnation,
            records: None,
        }
    }

    /// The proxy keeps session records.
    pub(super) fn with_records(mut self, records: Option<InMemoryRecords>) -> Self {
        self.rules.keeps_records = records.is_some();
        self.records = records;
        self
    }

    /// What a shard does with what its sessions tell of records, and with what those ask.
    pub(super) fn keep_records(&mut self, now_ms: u64) {
        let Some(mut records) = self.records.take() else {
            return;
        };
        let counters = Arc::clone(&self.rules.counters);
        for change in std::mem::take(&mut self.frames.changes) {
            records.take(now_ms, &change, &counters);
        }
        records.turn(now_ms, &counters);
        while let Some(asked) = records.next_question() {
            self.with(asked.handle, |session, cx| {
                session.ask_for_filters(asked, cx);
            });
        }
        self.records = Some(records);
    }

    /// Runs a piece of a session, if there is one.
    pub(super) fn with<R>(
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
            bytes: &mut conn.bytes,
            frames: &mut self.frames,
            rules: &self.rules,
            peer: &peer,
        };
        let result = run(&mut conn.session, &mut context);
        self.hand_over();
        Some(result)
    }

    fn hand_over(&mut self) {
        for (at, link) in self.links.iter_mut().enumerate() {
            let lane = self.frames.lane(GroupNo(at as u8));
            lane.bytes = 0;
            for frame in lane.list.drain(..) {
                link.push(frame);
            }
        }
        self.frames.taken();
    }

    /// What a shard does with a group's frame.
    pub(super) fn take(&mut self, group: usize, frame: FromGroup) {
        let from = GroupNo(group as u8);
        let handle = match &frame {
            FromGroup::Deliver(delivery) => return self.deliver(delivery),
            FromGroup::Errand(errand) => {
                let to = errand.to;
                return self.carry(to, frame);
            }
            FromGroup::ErrandDone(done) => {
                let to = done.from;
                return self.carry(to, frame);
            }
            frame => frame
                .connection()
                .expect("the link's own end has the others"),
        };
        if let FromGroup::Claimed(_) | FromGroup::ClaimRefused { .. } | FromGroup::Kick { .. } =
            &frame
        {
            self.frames.claim_answered(from, handle);
        }
        if !self.conns.contains_key(&handle) {
            return self.answer_for_gone(from, frame);
        }
        self.with(handle, |session, cx| session.frame(from, frame, cx));
    }

    fn answer_for_gone(&mut self, from: GroupNo, frame: FromGroup) {
        let mut nothing = Vec::new();
        let mut cx = Context {
            bytes: &mut nothing,
            frames: &mut self.frames,
            rules: &self.rules,
            peer: &|| None,
        };
        answer_for_gone(from, frame, &mut cx);
        self.hand_over();
    }

    fn carry(&mut self, to: GroupNo, frame: FromGroup) {
        if self.frames.is_full(to) {
            return;
        }
        let frame = match frame {
            FromGroup::Errand(errand) => ToGroup::Errand(errand),
            FromGroup::ErrandDone(done) => ToGroup::ErrandDone(done),
            other => unreachable!("{other:?} is not carried"),
        };
        self.frames.push(to, frame, 0);
        self.hand_over();
    }

    fn deliver(&mut self, delivery: &Delivery) {
        let Body::Inline(message) = &delivery.body else {
            panic!("read when it was sent")
        };
        for receiver in &delivery.receivers {
            let expiry_s = delivery.expiry_s;
            let outgoing = Outgoing { message, expiry_s };
            self.with(receiver.handle, |session, cx| {
                session.deliver(outgoing, receiver, None, cx);
            });
        }
    }

    /// Lets a session read what its device has sent, as far as it wants to.
    pub(super) fn read(&mut self, handle: Handle) {
        loop {
            let Some(conn) = self.conns.get_mut(&handle) else {
                return;
            };
            if conn.unread.is_empty() || !conn.session.reads(&self.rules) {
                return;
            }
            let chunk = Bytes::copy_from_slice(&conn.unread);
            let received = self.with(handle, |session, cx| session.receive(&chunk, cx));
            let received = received.expect("it was there");
            let conn = self.conns.get_mut(&handle).expect("it was there");
            let _ = conn.unread.split_to(received.consumed);
        }
    }

    pub(super) fn resume_of(&self, group: usize) -> Resume {
        let group = GroupNo(group as u8);
        let sessions = self.conns.values();
        Resume {
            sessions: sessions
                .filter_map(|conn| conn.session.reattach(group))
                .collect(),
            void: self.frames.void_claims(group),
        }
    }
}
