//! A shard, a group that remembers everything, and a wire between them that can be cut after any byte.

use crate::frame::{FromGroup, Publish, ToGroup};
use crate::ids::{Actor, ClientNo, Epoch, Handle};
use crate::link::{Again, GroupIdentity, GroupSession, ProducerIdentity, ProducerLink};
use crate::slots::{GroupNo, SlotTable};
use crate::topology::{Announcement, FixedHash, Topology};
use protocol::{Message, PacketId, QoS, ReasonCode, TopicName};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) const SECRET: &[u8] = b"a secret of the fleet";
pub(super) const FIXED: [u8; 16] = [5; 16];
/// Packet ids that the shard uses, over and over again.
pub(super) const IDS: u16 = 7;

/// What a node knows that is told by group 0's log, in this version; 1: by its cluster file.
pub(super) fn known(members_version: u64) -> Arc<Announcement> {
    Arc::new(Announcement::new(Topology {
        cluster_id: "fleet".to_owned(),
        fixed: FixedHash(FIXED),
        table: SlotTable::of_one_group(1, GroupNo(0)),
        members_version,
        groups: Vec::new(),
    }))
}

pub(super) fn producer_identity() -> ProducerIdentity {
    ProducerIdentity {
        group: 0,
        node: 1,
        shard: 0,
        incarnation: 77,
        name: "proxy-1".into(),
        secret: Arc::from(SECRET),
    }
}

pub(super) fn group_identity() -> GroupIdentity {
    GroupIdentity {
        group: 0,
        name: "broker-1".into(),
        secret: Arc::from(SECRET),
    }
}

/// A group that applies each number once and answers each frame of a session in the unit that covers it.
#[derive(Default)]
pub(super) struct Group {
    /// What was applied, in order.
    pub(super) applied: Vec<u32>,
    pub(super) high_water: u64,
    pub(super) repeats: u64,
    /// QoS 0 publishes that came.
    pub(super) unnumbered: Vec<u32>,
    /// Number of the next numbered frame of the session.
    next: u64,
    resent: bool,
    /// Taken, and answered with the next unit.
    answers: Vec<FromGroup>,
    pub(super) resumes: u64,
}

impl Group {
    fn take(&mut self, frame: ToGroup) {
        match frame {
            ToGroup::Resume(_) => {
                self.resumes += 1;
                self.next = 0;
            }
            ToGroup::Number { first, resent } => {
                self.next = first;
                self.resent = resent;
            }
            ToGroup::Publish(publish) => self.publish(&publish),
            other => panic!("the shard sends no {other:?}"),
        }
    }

    fn publish(&mut self, publish: &Publish) {
        let what = number_of(&publish.message);
        let Some(packet_id) = publish.packet_id else {
            self.unnumbered.push(what);
            return;
        };
        let number = self.next;
        assert!(number > 0, "a number was said");
        self.next += 1;
        if number > self.high_water {
            assert_eq!(number, self.high_water + 1, "no frame is left out");
            self.high_water = number;
            self.applied.push(what);
        } else {
            assert!(self.resent, "only what may be a repeat is one");
            assert_eq!(self.applied[number as usize - 1], what, "the same again");
            self.repeats += 1;
        }
        self.answers.push(FromGroup::Published {
            handle: HANDLE,
            packet_id,
            qos: QoS::AtLeastOnce,
            reason: ReasonCode::Success,
        });
    }

    /// One unit: the answers, and how far they go.
    fn unit(&mut self) -> Vec<FromGroup> {
        let mut unit = std::mem::take(&mut self.answers);
        if !unit.is_empty() {
            let number = self.next - 1;
            unit.push(FromGroup::Done { number });
        }
        unit
    }
}

const HANDLE: Handle = Handle {
    index: 0,
    generation: 0,
};

/// A shard with one client, which uses few packet ids: a second answer would hit another publish.
#[derive(Default)]
pub(super) struct Shard {
    next: u32,
    /// What waits for an answer, by packet id, oldest first.
    waiting: VecDeque<u16>,
    pub(super) answered: u32,
    pub(super) asked: u32,
}

impl Shard {
    /// The next publish, if a packet id is free.
    pub(super) fn publish(&mut self) -> Option<ToGroup> {
        let id = (self.next % u32::from(IDS)) as u16 + 1;
        if self.waiting.contains(&id) {
            return None;
        }
        self.waiting.push_back(id);
        self.next += 1;
        Some(publish(QoS::AtLeastOnce, PacketId::new(id), self.next))
    }

    fn take(&mut self, frame: &FromGroup) {
        match frame {
            FromGroup::Resume => self.asked += 1,
            FromGroup::Published { packet_id, .. } => {
                assert_eq!(
                    self.waiting.pop_front(),
                    Some(packet_id.get()),
                    "one answer each"
                );
                self.answered += 1;
            }
            other => panic!("the group sends no {other:?}"),
        }
    }
}

pub(super) fn publish(qos: QoS, packet_id: Option<PacketId>, number: u32) -> ToGroup {
    let topic = TopicName::new("a/b").expect("a topic");
    ToGroup::Publish(Publish {
        actor: Actor {
            client: ClientNo(1),
            epoch: Epoch(1),
        },
        packet_id,
        qos,
        retain: false,
        message: Message::new(&topic, &[], &number.to_le_bytes()).expect("a message"),
    })
}

fn number_of(message: &Message) -> u32 {
    u32::from_le_bytes(message.payload().try_into().expect("four bytes"))
}

pub(super) struct World {
    pub(super) now: Instant,
    /// What the broker knows of the fleet, and what each end was told, in order.
    pub(super) known: Arc<Announcement>,
    pub(super) told_broker: Vec<Topology>,
    pub(super) told_proxy: Vec<Topology>,
    pub(super) link: ProducerLink,
    pub(super) session: Option<GroupSession>,
    pub(super) group: Group,
    pub(super) shard: Shard,
    /// Bytes that have crossed in either direction since the last connection.
    pub(super) crossed: usize,
    pub(super) connections: u64,
    /// The group takes nothing in.
    pub(super) group_stands: bool,
    /// Handed over and not taken by the group: frames, and bytes of their batches.
    pub(super) bag: VecDeque<ToGroup>,
    pub(super) bag_bytes: usize,
}

impl World {
    pub(super) fn new() -> Self {
        let now = Instant::now() + Duration::from_secs(60);
        Self {
            now,
            known: known(1),
            told_broker: Vec::new(),
            told_proxy: Vec::new(),
            link: ProducerLink::new(producer_identity(), known(1), 9, now),
            session: None,
            group: Group::default(),
            shard: Shard::default(),
            crossed: 0,
            connections: 0,
            group_stands: false,
            bag: VecDeque::new(),
            bag_bytes: 0,
        }
    }

    /// A world whose link is up.
    pub(super) fn connected() -> Self {
        let mut world = Self::new();
        world.settle(usize::MAX);
        assert!(world.link.is_up());
        world
    }

    /// Makes a connection if it is time.
    pub(super) fn connect(&mut self) {
        if !self.link.wants_connection(self.now) {
            return;
        }
        self.connections += 1;
        let nonce = [self.connections as u8; 32];
        self.link.connecting(self.now);
        self.link.connected(self.now, nonce);
        let session = GroupSession::new(group_identity(), self.known.clone(), nonce, self.now);
        self.session = Some(session);
        self.crossed = 0;
        self.bag.clear();
        self.bag_bytes = 0;
        self.group.answers.clear();
        self.group.next = 0;
    }

    /// The connection is gone; both ends hear of it.
    pub(super) fn cut(&mut self) {
        self.session = None;
        self.link.lost(self.now, Again::Later);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// The shard publishes, if the link takes frames.
    pub(super) fn offer(&mut self) {
        while self.link.takes_frames()
            && let Some(frame) = self.shard.publish()
        {
            self.link.frames(&mut vec![frame]);
        }
    }

    /// The shard answers every `Resume` that was put before it.
    pub(super) fn answer_resumes(&mut self) {
        while self.shard.asked > 0 {
            self.shard.asked -= 1;
            let resume = ToGroup::Resume(Box::default());
            self.link.frames(&mut vec![resume]);
        }
    }

    /// At most `bytes` cross from the proxy to the broker. Whether any did.
    pub(super) fn up(&mut self, bytes: usize) -> bool {
        let Some(session) = &mut self.session else {
            return false;
        };
        let out = self.link.outgoing();
        let piece = out[..out.len().min(bytes)].to_vec();
        if piece.is_empty() {
            return false;
        }
        self.link.written(self.now, piece.len());
        self.crossed += piece.len();
        let mut frames = Vec::new();
        let admission = session
            .receive(self.now, &piece, &mut frames)
            .expect("the proxy keeps to the protocol");
        if let Some(hello) = admission.admit {
            assert_eq!(hello.incarnation, 77);
            session.welcome(self.now, 3, self.connections > 1);
        }
        self.told_broker.extend(admission.topology);
        self.bag.extend(frames);
        self.bag_bytes += admission.frame_bytes;
        self.group_turn();
        true
    }

    /// The group takes what is in the bag and answers.
    pub(super) fn group_turn(&mut self) {
        let Some(session) = &mut self.session else {
            return;
        };
        if !self.group_stands {
            self.bag.drain(..).for_each(|frame| self.group.take(frame));
            self.bag_bytes = 0;
        }
        session.waiting(self.now, self.bag_bytes);
        session.send(&mut self.group.unit());
    }

    /// At most `bytes` cross from the broker to the proxy. Whether any did.
    pub(super) fn down(&mut self, bytes: usize) -> bool {
        let Some(session) = &mut self.session else {
            return false;
        };
        let out = session.outgoing();
        let piece = out[..out.len().min(bytes)].to_vec();
        if piece.is_empty() {
            return false;
        }
        session.written(self.now, piece.len());
        self.crossed += piece.len();
        let mut frames = Vec::new();
        let received = self
            .link
            .received(self.now, &piece, &mut frames)
            .expect("the broker keeps to the protocol");
        self.told_proxy.extend(received.topology);
        self.take(&frames);
        true
    }

    /// The shard gets what the link has handed over.
    pub(super) fn take(&mut self, frames: &[FromGroup]) {
        for frame in frames {
            self.shard.take(frame);
        }
    }

    /// Lets everything cross in pieces of `piece` bytes, until nothing moves.
    pub(super) fn settle(&mut self, piece: usize) {
        loop {
            self.connect();
            self.answer_resumes();
            let up = self.up(piece);
            let down = self.down(piece);
            if !up && !down && self.shard.asked == 0 {
                return;
            }
        }
    }

    /// Lets time pass up to the next connection, and everything cross.
    pub(super) fn reconnect(&mut self) {
        let at = self
            .link
            .deadline()
            .expect("a time for the next connection");
        self.now = self.now.max(at);
        self.settle(usize::MAX);
        assert!(self.link.is_up());
    }

    /// Everything that was published was applied once, in order, and answered once.
    pub(super) fn check(&self, published: u32) {
        let wanted: Vec<u32> = (1..=published).collect();
        assert_eq!(self.group.applied, wanted);
        assert_eq!(self.shard.answered, published);
        let figures = self.link.figures();
        assert_eq!((figures.kept_frames, figures.kept_bytes), (0, 0));
    }
}
