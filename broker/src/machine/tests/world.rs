//! A group with a log in memory, a leader that does what it is asked, and clients by name.
//!
//! Every entry goes through its bytes, so the codec is tested wherever the machine is.

use crate::command::{Command, Entry, Producer};
use crate::command_codec::{decode_entry, encode_entry};
use crate::limits::MachineLimits;
use crate::log::Location;
use crate::machine::{Effects, ErrandKey, LeaderEffect, State};
use bytes::Bytes;
use cluster::frame::{
    Ack, AckKind, Body, Claim, Delivery, Disconnect, ErrandDone, FromGroup, Publish, StoredAt,
    Subscribe, Unsubscribe, WillFate,
};
use cluster::ids::{Actor, Handle, LinkNo};
use protocol::{
    Message, PacketId, QoS, ReasonCode, RetainHandling, SubscribeOptions, TopicFilter, TopicName,
    Version, Will,
};
use std::collections::BTreeMap;

mod groups;

pub(super) use groups::{HERE, HOME};

pub(super) const LINK: LinkNo = LinkNo(0);
/// Of a message that is not in the log yet.
const NOWHERE: StoredAt = StoredAt {
    segment: 0,
    record: 0,
    offset: 0,
    len: 0,
};
/// Entries of a segment: few, so that segments end while their messages live.
const RECORDS: u32 = 8;

/// One delivery as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) topic: String,
    pub(super) payload: String,
    pub(super) qos: QoS,
    pub(super) packet_id: Option<PacketId>,
    pub(super) retain: bool,
    pub(super) dup: bool,
    pub(super) ids: Vec<u32>,
    pub(super) expiry_s: Option<u32>,
}

#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) actor: Actor,
    pub(super) handle: Handle,
    pub(super) link: LinkNo,
    pub(super) session_present: bool,
}

pub(super) struct World {
    pub(super) state: State,
    pub(super) now_ms: u64,
    pub(super) entries: Vec<Entry>,
    /// Frames not looked at yet, by connection.
    frames: BTreeMap<(LinkNo, Handle), Vec<FromGroup>>,
    /// Every frame ever, for comparisons.
    pub(super) history: Vec<(LinkNo, String)>,
    pub(super) freed: Vec<u32>,
    pub(super) kicks: Vec<(Actor, (LinkNo, Handle))>,
    /// Errands that the machine has asked for.
    pub(super) errands: Vec<ErrandKey>,
    /// Errands of others that are done, by link.
    pub(super) done: Vec<(LinkNo, ErrandDone)>,
    bodies: BTreeMap<(u32, u32), Bytes>,
    numbers: BTreeMap<LinkNo, u64>,
    handles: u32,
    out: Effects,
    asked: Vec<Command>,
}

pub(super) fn id(n: u16) -> PacketId {
    PacketId::new(n).expect("not zero")
}

pub(super) fn message(topic: &str, payload: &str) -> Message {
    let topic = TopicName::new(topic).expect("a topic");
    Message::new(&topic, &[], payload.as_bytes()).expect("a message")
}

pub(super) fn will(topic: &str, delay_s: u32) -> Will {
    Will {
        message: message(topic, "will"),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_s,
    }
}

pub(super) fn options(qos: QoS) -> SubscribeOptions {
    SubscribeOptions {
        qos,
        ..SubscribeOptions::default()
    }
}

/// CONNECT of a persistent session; see the fields of [`Claim`].
pub(super) fn claim(id: &str) -> Claim {
    Claim {
        handle: Handle {
            index: 0,
            generation: 0,
        },
        client_id: id.into(),
        version: Version::V5,
        clean_start: false,
        expiry_s: u32::MAX,
        will: None,
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(MachineLimits::default())
    }

    pub(super) fn with(limits: MachineLimits) -> Self {
        let mut world = Self {
            state: State::new(limits),
            now_ms: 1_000_000,
            entries: Vec::new(),
            frames: BTreeMap::new(),
            history: Vec::new(),
            freed: Vec::new(),
            kicks: Vec::new(),
            errands: Vec::new(),
            done: Vec::new(),
            bodies: BTreeMap::new(),
            numbers: BTreeMap::new(),
            handles: 0,
            out: Effects::default(),
            asked: Vec::new(),
        };
        world.enter(vec![Command::LeaderStart]);
        world.link_up(LINK, 1);
        world
    }

    pub(super) fn link_up(&mut self, link: LinkNo, incarnation: u64) {
        let producer = Producer {
            node: 1,
            shard: u32::from(link.0),
            incarnation,
        };
        self.numbers.insert(link, 0);
        self.enter(vec![Command::LinkUp { link, producer }]);
    }

    /// The last number that a link has used.
    pub(super) fn number(&mut self, link: LinkNo, number: u64) {
        self.numbers.insert(link, number);
    }

    /// One entry: encoded, decoded, applied; then what the leader is asked for, until nothing is.
    pub(super) fn enter(&mut self, commands: Vec<Command>) {
        let mut asked = std::mem::take(&mut self.asked);
        asked.extend(commands);
        self.enter_one(&asked);
        while !self.asked.is_empty() {
            let asked = std::mem::take(&mut self.asked);
            self.enter_one(&asked);
        }
    }

    fn enter_one(&mut self, commands: &[Command]) {
        let index = self.entries.len() as u64 + 1;
        let at = Location {
            segment: 1 + index as u32 / RECORDS,
            offset: index as u32 % RECORDS,
        };
        let (mut bytes, mut placed) = (Vec::new(), Vec::new());
        encode_entry(self.now_ms, commands, &mut bytes, &mut placed);
        let body = Bytes::from(bytes);
        let entry = decode_entry(index, &body, at).expect("just encoded");
        assert_eq!(entry.commands.len(), commands.len());
        for message in placed {
            let place = match &entry.commands[message.command as usize] {
                Command::Publish(_, at)
                | Command::WillPublish { at, .. }
                | Command::ForeignWill { at, .. }
                | Command::Relocate { at, .. } => *at,
                other => panic!("{other:?} has no message"),
            };
            assert_eq!((place.offset, place.len), (message.offset, message.len));
        }
        self.bodies.insert((at.segment, at.offset), body);
        self.entries.push(entry.clone());
        for command in entry.commands {
            self.state
                .apply(index, entry.time_ms, command, &mut self.out);
        }
        self.take_effects();
    }

    fn take_effects(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        for (link, frames) in out.links.iter_mut().enumerate() {
            let link = LinkNo(link as u16);
            for mut frame in frames.drain(..) {
                self.history.push((link, format!("{frame:?}")));
                // Read before anything that is free now is given up.
                if let FromGroup::Deliver(Delivery { body, .. }) = &mut frame
                    && let Body::Stored(at) = *body
                {
                    assert!(out.stored);
                    *body = Body::Inline(self.read(at));
                }
                if let FromGroup::ErrandDone(done) = &frame {
                    self.done.push((link, (**done).clone()));
                }
                for (handle, frame) in by_handle(frame) {
                    self.frames.entry((link, handle)).or_default().push(frame);
                }
            }
        }
        for effect in out.leader.drain(..) {
            self.history.push((LINK, format!("{effect:?}")));
            match effect {
                LeaderEffect::KickThenAttach { actor, old } => self.kicks.push((actor, old)),
                LeaderEffect::WillDue {
                    client,
                    epoch,
                    will,
                } => {
                    let publish = Publish {
                        actor: Actor { client, epoch },
                        packet_id: None,
                        qos: will.qos,
                        retain: will.retain,
                        message: will.message,
                    };
                    self.asked.push(Command::WillPublish {
                        client,
                        epoch,
                        publish,
                        at: NOWHERE,
                    });
                }
                LeaderEffect::ClaimOpen { actor } => self.asked.push(Command::Attach {
                    actor: Some(actor),
                    if_free: false,
                }),
                LeaderEffect::PagesLeft { actor } => self.asked.push(Command::Page { actor }),
                LeaderEffect::ErrandDue(key) => self.errands.push(key),
                LeaderEffect::Topology(_) => {}
                LeaderEffect::SegmentFree(segment) => {
                    assert!(!self.state.live_segments().contains(&segment));
                    self.freed.push(segment);
                }
            }
        }
        out.stored = false;
        self.out = out;
    }

    /// One command of a link, with its number.
    pub(super) fn from(&mut self, link: LinkNo, command: Command) {
        let number = self.numbers.get_mut(&link).expect("the link is up");
        *number += 1;
        let first = *number;
        self.enter(vec![Command::From { link, first }, command]);
    }

    /// Time passes, and what is due by then happens.
    pub(super) fn pass_s(&mut self, seconds: u64) {
        self.now_ms += seconds * 1000;
        while self
            .state
            .next_deadline_ms()
            .is_some_and(|due| due <= self.now_ms)
        {
            self.enter(vec![Command::Tick]);
        }
    }

    pub(super) fn connect(&mut self, id: &str) -> Client {
        self.connect_with(LINK, claim(id))
    }

    /// CONNECT; a live owner is kicked first, and confirmed.
    pub(super) fn connect_with(&mut self, link: LinkNo, claim: Claim) -> Client {
        let handle = self.claim(link, claim);
        for (actor, old) in std::mem::take(&mut self.kicks) {
            self.frames.remove(&old);
            self.enter(vec![Command::Attach {
                actor: Some(actor),
                if_free: false,
            }]);
        }
        self.claimed(link, handle).expect("the claim is answered")
    }

    /// CONNECT, as far as the claim.
    pub(super) fn claim(&mut self, link: LinkNo, mut claim: Claim) -> Handle {
        self.handles += 1;
        claim.handle = Handle {
            index: self.handles % 7,
            generation: self.handles,
        };
        let handle = claim.handle;
        let number = self.numbers.get_mut(&link).expect("the link is up");
        *number += 1;
        let first = *number;
        self.enter(vec![
            Command::From { link, first },
            Command::Claim(Box::new(claim)),
            Command::Attach {
                actor: None,
                if_free: true,
            },
        ]);
        handle
    }

    /// The answer to a claim, if it has come.
    pub(super) fn claimed(&mut self, link: LinkNo, handle: Handle) -> Option<Client> {
        let frames = self.frames.get_mut(&(link, handle))?;
        let place = frames
            .iter()
            .position(|frame| matches!(frame, FromGroup::Claimed(_)))?;
        let FromGroup::Claimed(claimed) = frames.remove(place) else {
            return None;
        };
        let actor = Actor {
            client: claimed.client,
            epoch: claimed.epoch,
        };
        Some(Client {
            actor,
            handle,
            link,
            session_present: claimed.session_present,
        })
    }

    pub(super) fn disconnect(&mut self, client: &Client) {
        self.disconnect_with(client, WillFate::Published);
    }

    pub(super) fn disconnect_with(&mut self, client: &Client, will: WillFate) {
        let gone = Disconnect {
            actor: client.actor,
            expiry_s: None,
            will,
        };
        self.from(client.link, Command::Disconnect(Box::new(gone)));
        self.frames.remove(&(client.link, client.handle));
    }

    pub(super) fn subscribe(&mut self, client: &Client, filter: &str, qos: QoS) -> ReasonCode {
        self.subscribe_with(client, filter, options(qos), 0)
    }

    pub(super) fn subscribe_with(
        &mut self,
        client: &Client,
        filter: &str,
        options: SubscribeOptions,
        subscription_id: u32,
    ) -> ReasonCode {
        let filters = vec![(TopicFilter::new(filter).expect("a filter"), options)];
        let subscribe = Subscribe {
            actor: client.actor,
            packet_id: id(9),
            subscription_id,
            filters,
        };
        self.from(client.link, Command::Subscribe(Box::new(subscribe)));
        let answer = self.take(client, |frame| {
            matches!(frame, FromGroup::Subscribed { .. })
        });
        let [FromGroup::Subscribed { outcomes, .. }] = answer.as_slice() else {
            panic!("one SUBACK, not {answer:?}");
        };
        outcomes[0].reason
    }

    pub(super) fn subscribe_quiet(&mut self, client: &Client, filter: &str, qos: QoS) {
        let quiet = SubscribeOptions {
            retain_handling: RetainHandling::DoNotSend,
            ..options(qos)
        };
        self.subscribe_with(client, filter, quiet, 0);
    }

    pub(super) fn unsubscribe(&mut self, client: &Client, filter: &str) -> ReasonCode {
        let filters = vec![TopicFilter::new(filter).expect("a filter")];
        let unsubscribe = Unsubscribe {
            actor: client.actor,
            packet_id: id(9),
            filters,
        };
        self.from(client.link, Command::Unsubscribe(Box::new(unsubscribe)));
        let answer = self.take(client, |frame| {
            matches!(frame, FromGroup::Unsubscribed { .. })
        });
        let [FromGroup::Unsubscribed { reasons, .. }] = answer.as_slice() else {
            panic!("one UNSUBACK, not {answer:?}");
        };
        reasons[0]
    }

    /// QoS 0 and 1 with packet id 1. `None` when there is no answer.
    pub(super) fn publish(
        &mut self,
        client: &Client,
        topic: &str,
        payload: &str,
        qos: QoS,
    ) -> Option<ReasonCode> {
        self.publish_with(client, message(topic, payload), qos, false, 1)
    }

    pub(super) fn publish_with(
        &mut self,
        client: &Client,
        message: Message,
        qos: QoS,
        retain: bool,
        packet_id: u16,
    ) -> Option<ReasonCode> {
        let packet_id = (qos > QoS::AtMostOnce).then(|| id(packet_id));
        let publish = Publish {
            actor: client.actor,
            packet_id,
            qos,
            retain,
            message,
        };
        let at = NOWHERE;
        if self.state.must_log(&publish) {
            self.from(client.link, Command::Publish(publish, at));
        } else {
            self.state
                .deliver_unlogged(self.now_ms, publish, &mut self.out);
            self.take_effects();
        }
        let answer = self.take(client, |frame| matches!(frame, FromGroup::Published { .. }));
        assert!(answer.len() <= 1, "{answer:?}");
        answer.first().map(|frame| match frame {
            FromGroup::Published { reason, .. } => *reason,
            _ => unreachable!("taken by kind"),
        })
    }

    pub(super) fn release(&mut self, client: &Client, packet_id: u16) -> ReasonCode {
        let command = Command::Release {
            actor: client.actor,
            packet_id: id(packet_id),
        };
        self.from(client.link, command);
        let answer = self.take(client, |frame| matches!(frame, FromGroup::Released { .. }));
        let [FromGroup::Released { reason, .. }] = answer.as_slice() else {
            panic!("one PUBCOMP, not {answer:?}");
        };
        *reason
    }

    pub(super) fn ack(&mut self, client: &Client, packet_id: PacketId, kind: AckKind) {
        self.from(
            client.link,
            Command::Ack(Ack {
                actor: client.actor,
                packet_id,
                kind,
            }),
        );
    }

    /// Acknowledges as the QoS asks for, to the end.
    pub(super) fn complete(&mut self, client: &Client, got: &Got) {
        let Some(packet_id) = got.packet_id else {
            return;
        };
        if got.qos == QoS::AtLeastOnce {
            self.ack(client, packet_id, AckKind::Ack);
            return;
        }
        self.ack(client, packet_id, AckKind::Received);
        let release = self.take(client, |frame| matches!(frame, FromGroup::Release { .. }));
        assert!(!release.is_empty(), "PUBREC is answered");
        self.ack(client, packet_id, AckKind::Complete);
    }

    /// What has been delivered to a client since this was last asked.
    pub(super) fn got(&mut self, client: &Client) -> Vec<Got> {
        let deliveries = self.take(client, |frame| matches!(frame, FromGroup::Deliver(_)));
        deliveries
            .into_iter()
            .map(|frame| match frame {
                FromGroup::Deliver(delivery) => Self::open(delivery),
                _ => unreachable!("taken by kind"),
            })
            .collect()
    }

    pub(super) fn payloads(&mut self, client: &Client) -> Vec<String> {
        self.got(client)
            .into_iter()
            .map(|got| got.payload)
            .collect()
    }

    /// Takes a client's frames of one kind.
    pub(super) fn take(
        &mut self,
        client: &Client,
        is_it: impl Fn(&FromGroup) -> bool,
    ) -> Vec<FromGroup> {
        let Some(frames) = self.frames.get_mut(&(client.link, client.handle)) else {
            return Vec::new();
        };
        let (taken, left) = std::mem::take(frames)
            .into_iter()
            .partition(|frame| is_it(frame));
        *frames = left;
        taken
    }

    fn open(delivery: Delivery) -> Got {
        let Body::Inline(message) = delivery.body else {
            panic!("read when it was sent")
        };
        let [receiver] = &delivery.receivers[..] else {
            panic!("split by receiver")
        };
        Got {
            topic: message.topic().to_owned(),
            payload: String::from_utf8_lossy(message.payload()).into_owned(),
            qos: receiver.qos,
            packet_id: receiver.packet_id,
            retain: receiver.retain,
            dup: receiver.dup,
            ids: receiver
                .subscription_ids
                .clone()
                .unwrap_or_default()
                .into_vec(),
            expiry_s: delivery.expiry_s,
        }
    }

    /// A message from the log, which must not have lost it.
    pub(super) fn read(&self, at: StoredAt) -> Message {
        assert!(
            !self.freed.contains(&at.segment),
            "segment {} was freed",
            at.segment
        );
        let body = &self.bodies[&(at.segment, at.record)];
        let (from, to) = (at.offset as usize, (at.offset + at.len) as usize);
        Message::read_from(&body.slice(from..to)).expect("a message is there")
    }

    pub(super) fn snapshot(&mut self) -> Vec<u8> {
        self.state.snapshot()
    }
}

/// A frame by connection; a delivery once for each receiver.
fn by_handle(frame: FromGroup) -> Vec<(Handle, FromGroup)> {
    let handle = match &frame {
        FromGroup::Deliver(delivery) => {
            let split = delivery.receivers.iter().map(|receiver| {
                let receivers = smallvec::smallvec![receiver.clone()];
                let delivery = Delivery {
                    receivers,
                    ..delivery.clone()
                };
                (receiver.handle, FromGroup::Deliver(delivery))
            });
            return split.collect();
        }
        FromGroup::Claimed(claimed) => claimed.handle,
        FromGroup::ClaimRefused { handle, .. }
        | FromGroup::Kick { handle, .. }
        | FromGroup::Published { handle, .. }
        | FromGroup::Released { handle, .. }
        | FromGroup::Release { handle, .. }
        | FromGroup::Subscribed { handle, .. }
        | FromGroup::Unsubscribed { handle, .. }
        | FromGroup::Listed { handle, .. }
        | FromGroup::Rejoin { handle } => *handle,
        FromGroup::Joined(joined) => joined.handle,
        // For no connection; pages of filters are no effects of commands.
        _ => return Vec::new(),
    };
    vec![(handle, frame)]
}
