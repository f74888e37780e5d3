//! The frames of a link between a proxy shard and a group, as typed values.
//!
//! Order: a group takes a link's frames in the order they were sent, and a proxy takes a group's
//! frames in the order they were sent. Each frame says what makes a repeat of it harmless
//! ("idempotent by"), since a link re-sends what was not acknowledged.
//!
//! **Numbers.** Between processes a producer numbers its frames from 1, all but [`ToGroup::Number`],
//! [`ToGroup::Resume`] and publishes of QoS 0 ([`ToGroup::is_numbered`]). The number itself is sent only where
//! the count begins or jumps. In one process no frame is ever repeated, so there is no `Number`, and nobody counts.
//!
//! **Units.** What a group sends over a link between processes comes in units that end with
//! [`FromGroup::Done`]. An answer to a frame stands in the unit of the first `Done` that covers the frame. A proxy
//! takes whole units only, so it never has an answer to a frame that it would send again.

use crate::filters::{FilterDigest, HeldFilter};
use crate::ids::{Actor, ClientNo, Epoch, Handle, Rank};
use crate::slots::GroupNo;
use protocol::{Message, PacketId, QoS, ReasonCode, SubscribeOptions, TopicFilter, Version, Will};
use smallvec::SmallVec;

/// From a proxy shard to a group's leader.
#[derive(Clone, Debug)]
pub enum ToGroup {
    /// Take ownership of a client id at its home. Idempotent by the handle.
    Claim(Box<Claim>),
    /// Application message from a client. Idempotent by producer number; QoS 2 also by packet id.
    Publish(Publish),
    /// PUBREL from a client: forget the QoS 2 packet id. Idempotent: a second one finds nothing.
    Release {
        /// Who acts.
        actor: Actor,
        /// The QoS 2 packet id the client chose.
        packet_id: PacketId,
    },
    /// A client's PUBACK, PUBREC or PUBCOMP. Idempotent by the entry's state.
    Ack(Ack),
    /// SUBSCRIBE. Idempotent: the same filter with the same options replaces itself.
    Subscribe(Box<Subscribe>),
    /// UNSUBSCRIBE. Idempotent: an absent filter answers 0x11.
    Unsubscribe(Box<Unsubscribe>),
    /// The connection ended. Idempotent by epoch.
    Disconnect(Box<Disconnect>),
    /// The proxy has closed a kicked connection and sends nothing more for it. Idempotent.
    Kicked {
        /// The connection that is gone.
        handle: Handle,
    },
    /// To the home of a session, before another group takes state of it: give that group a rank. Answers
    /// [`FromGroup::Listed`]. Idempotent: a listed group keeps its rank.
    List {
        /// Who acts.
        actor: Actor,
        /// The other group.
        group: GroupNo,
    },
    /// To another group than the home: a connection acts here from now on. Answers [`FromGroup::Joined`], or
    /// [`FromGroup::Kick`]. Idempotent by the home's epoch.
    Join(Box<Join>),
    /// Which filters does the group hold of the session? Answers [`FromGroup::Filters`], where the connection acts
    /// there. Idempotent: it changes nothing.
    ListFilters(Box<ListFilters>),
    /// What one group asks of another, on its way to the one that does it. Answers [`FromGroup::ErrandDone`].
    /// Idempotent: an end by the session's start, a will by the home and the epoch.
    Errand(Box<Errand>),
    /// An errand is done, to the group that asked. Idempotent: a second one finds nothing.
    ErrandDone(Box<ErrandDone>),
    /// The numbered frames that follow on this link count from `first`. Not numbered itself. Idempotent: it says
    /// the same again.
    Number {
        /// Number of the next numbered frame.
        first: u64,
        /// Frames from here on may have been sent in an earlier link session already.
        resent: bool,
    },
    /// The first frame of a link session: which connections go on. Answers [`FromGroup::Resume`]. Not numbered.
    /// Idempotent: a link session has one.
    Resume(Box<Resume>),
}

impl FromGroup {
    /// The connection that it is for; `None`: it is for several, or for the link itself.
    pub fn connection(&self) -> Option<Handle> {
        match self {
            Self::Claimed(claimed) => Some(claimed.handle),
            Self::Joined(joined) => Some(joined.handle),
            Self::Filters(page) => Some(page.handle),
            Self::ClaimRefused { handle, .. }
            | Self::Kick { handle, .. }
            | Self::Published { handle, .. }
            | Self::Released { handle, .. }
            | Self::Release { handle, .. }
            | Self::Subscribed { handle, .. }
            | Self::Unsubscribed { handle, .. }
            | Self::Listed { handle, .. }
            | Self::Rejoin { handle } => Some(*handle),
            Self::Deliver(_)
            | Self::Resume
            | Self::Done { .. }
            | Self::Errand(_)
            | Self::ErrandDone(_) => None,
        }
    }
}

impl ToGroup {
    /// Whether the frame counts in its producer's numbers. The others are not kept and not sent again.
    pub fn is_numbered(&self) -> bool {
        match self {
            Self::Publish(publish) => publish.qos != QoS::AtMostOnce,
            Self::Number { .. } | Self::Resume(_) => false,
            Self::Claim(_)
            | Self::Release { .. }
            | Self::Ack(_)
            | Self::Subscribe(_)
            | Self::Unsubscribe(_)
            | Self::Disconnect(_)
            | Self::Kicked { .. }
            | Self::List { .. }
            | Self::Join(_)
            | Self::ListFilters(_)
            | Self::Errand(_)
            | Self::ErrandDone(_) => true,
        }
    }
}

/// The connections of a producer at the beginning of a link session: each whose [`FromGroup::Claimed`] it has had
/// and that is not over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// One for each connection, in no particular order.
    pub sessions: Vec<Reattach>,
    /// Connections that are over and whose claim has no answer yet. Such a claim, where it comes again or for the
    /// first time, is void: its client has gone on elsewhere by now, and a late clean start would end its session.
    pub void: Vec<Handle>,
}

/// A connection that goes on over a new link session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reattach {
    /// The client and the epoch the connection owns.
    pub actor: Actor,
    /// The proxy's name for the connection.
    pub handle: Handle,
    /// Packet id of the newest QoS 1 or 2 delivery that this connection has had from the group; `None`: it has had
    /// none. What is behind it comes again.
    pub last: Option<PacketId>,
}

/// CONNECT, as the home sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The proxy's name for the connection.
    pub handle: Handle,
    /// The client id, never empty (the proxy assigns one where the client left it out).
    pub client_id: Box<str>,
    /// Protocol of the connection; decides nothing in a group but is part of the session's view.
    pub version: Version,
    /// Clean Start (5.0) or Clean Session (3.x): begin a new session (MQTT-3.1.2-4).
    pub clean_start: bool,
    /// Session Expiry Interval in seconds after the connection ends; `u32::MAX` means never (MQTT5 3.1.2.11.2).
    pub expiry_s: u32,
    /// Will of the connection.
    pub will: Option<Box<Will>>,
}

/// PUBLISH from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Who acts; [`Actor::NOBODY`] at QoS 0 only.
    pub actor: Actor,
    /// The packet id; `None` exactly at QoS 0.
    pub packet_id: Option<PacketId>,
    /// QoS of the publish.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// Topic, properties and payload.
    pub message: Message,
}

/// A client's answer to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Who acts.
    pub actor: Actor,
    /// The packet id of the delivery.
    pub packet_id: PacketId,
    /// Which answer.
    pub kind: AckKind,
}

/// Which answer a client gave to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckKind {
    /// PUBACK: QoS 1 is complete, whatever the reason code.
    Ack,
    /// PUBREC below 0x80: the receiver has it; PUBREL is due once this is stored.
    Received,
    /// PUBREC of 0x80 or above: the delivery is complete (MQTT5 4.13.2), no PUBREL follows.
    Refused,
    /// PUBCOMP: QoS 2 is complete.
    Complete,
}

/// SUBSCRIBE from a client. At least one filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Who acts.
    pub actor: Actor,
    /// The packet id, for the answer.
    pub packet_id: PacketId,
    /// Subscription Identifier; 0 when absent.
    pub subscription_id: u32,
    /// Filters with options, in the client's order.
    pub filters: Vec<(TopicFilter, SubscribeOptions)>,
}

/// UNSUBSCRIBE from a client. At least one filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Who acts.
    pub actor: Actor,
    /// The packet id, for the answer.
    pub packet_id: PacketId,
    /// Filters, in the client's order.
    pub filters: Vec<TopicFilter>,
}

/// A connection's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// Who acts.
    pub actor: Actor,
    /// A new Session Expiry Interval in seconds, from DISCONNECT (MQTT5 3.14.2.2.2).
    pub expiry_s: Option<u32>,
    /// What becomes of the will.
    pub will: WillFate,
}

/// What becomes of a will when its connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WillFate {
    /// DISCONNECT with reason 0x00: dropped (MQTT-3.14.4-3).
    Dropped,
    /// Any other end: published after the will delay or at the session's end, whichever is first (MQTT-3.1.2-8).
    Published,
    /// The server itself goes down in order: kept, and dropped when the client comes back or the session ends.
    Kept,
}

/// A connection comes to another group than its home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The proxy's name for the connection.
    pub handle: Handle,
    /// The client id, never empty.
    pub client_id: Box<str>,
    /// The epoch of the connection's claim, given by the home. Here it decides which connection is the newer one.
    pub epoch: Epoch,
    /// The home's epoch in which the session began. What is held of an earlier session is over.
    pub start_epoch: Epoch,
    /// The group's rank in the session; `None`: the connection publishes at QoS 0 and 1 and the group holds nothing
    /// of the session.
    pub rank: Option<Rank>,
}

/// A question for a page of the filters that a group holds of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFilters {
    /// Who asks.
    pub actor: Actor,
    /// Names the question; the answer says it too.
    pub number: u32,
    /// The page begins behind this filter, in the order of their bytes; `None`: with the first. So what changes
    /// between two pages does no harm: a filter that is there all the time is in one of them.
    pub after: Option<TopicFilter>,
}

/// What one group asks of another. A proxy carries it; the group that asks sends it again until it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// Who asks.
    pub from: GroupNo,
    /// Who shall do it.
    pub to: GroupNo,
    /// What.
    pub what: ErrandKind,
}

/// What a group may ask of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrandKind {
    /// A session is over: nothing of it, or of an earlier session of the client, may be kept.
    End {
        /// The client.
        client_id: Box<str>,
        /// The home's epoch in which the session began.
        start_epoch: Epoch,
    },
    /// A will whose topic is the other group's: publish it.
    Will {
        /// The epoch of the connection that left it; with the home, its name.
        epoch: Epoch,
        /// The will.
        will: Box<Will>,
    },
}

/// An errand is done, and that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrandDone {
    /// Who asked, and hears this.
    pub from: GroupNo,
    /// Who has done it.
    pub to: GroupNo,
    /// What.
    pub what: DoneKind,
}

/// Names an errand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DoneKind {
    /// An [`ErrandKind::End`].
    End {
        /// The client.
        client_id: Box<str>,
        /// The home's epoch in which the session began.
        start_epoch: Epoch,
    },
    /// An [`ErrandKind::Will`].
    Will {
        /// The epoch of the connection that left it.
        epoch: Epoch,
    },
}

impl Errand {
    /// What is to be said once it is done.
    pub fn done(&self) -> ErrandDone {
        let what = match &self.what {
            ErrandKind::End {
                client_id,
                start_epoch,
            } => DoneKind::End {
                client_id: client_id.clone(),
                start_epoch: *start_epoch,
            },
            ErrandKind::Will { epoch, .. } => DoneKind::Will { epoch: *epoch },
        };
        ErrandDone {
            from: self.from,
            to: self.to,
            what,
        }
    }
}

/// From a group's leader to a proxy shard.
#[derive(Clone, Debug)]
pub enum FromGroup {
    /// The claim is stored: CONNACK may leave. A proxy whose connection is gone by now answers
    /// [`ToGroup::Disconnect`] for it.
    Claimed(Box<Claimed>),
    /// The claim was not taken.
    ClaimRefused {
        /// The connection that asked.
        handle: Handle,
        /// Why, as the CONNACK reason code.
        reason: ReasonCode,
    },
    /// Close this connection, answer [`ToGroup::Kicked`].
    Kick {
        /// The connection to close.
        handle: Handle,
        /// Reason for DISCONNECT: 0x8E session taken over, or another.
        reason: ReasonCode,
    },
    /// Messages for receivers on this link.
    Deliver(Delivery),
    /// The publish is stored, or needed no storing: PUBACK or PUBREC may leave.
    Published {
        /// The publisher's connection.
        handle: Handle,
        /// Its packet id.
        packet_id: PacketId,
        /// Which answer is due: QoS 1 PUBACK, QoS 2 PUBREC.
        qos: QoS,
        /// Success, 0x10 no matching subscribers, 0x97 quota exceeded.
        reason: ReasonCode,
    },
    /// The QoS 2 packet id is forgotten: PUBCOMP may leave.
    Released {
        /// The publisher's connection.
        handle: Handle,
        /// Its packet id.
        packet_id: PacketId,
        /// Success, or 0x92 packet identifier not found.
        reason: ReasonCode,
    },
    /// The client's PUBREC is stored: PUBREL may leave. `reason` 0x92 when there is no such delivery.
    Release {
        /// The receiver's connection.
        handle: Handle,
        /// The delivery's packet id.
        packet_id: PacketId,
        /// Success or 0x92.
        reason: ReasonCode,
    },
    /// Subscriptions are stored: SUBACK may leave. One outcome a filter, in order.
    Subscribed {
        /// The client's connection.
        handle: Handle,
        /// Its packet id.
        packet_id: PacketId,
        /// One a filter.
        outcomes: Box<[FilterOutcome]>,
    },
    /// Subscriptions are gone: UNSUBACK may leave. One code a filter, in order.
    Unsubscribed {
        /// The client's connection.
        handle: Handle,
        /// Its packet id.
        packet_id: PacketId,
        /// 0x00 or 0x11, one a filter.
        reasons: Box<[ReasonCode]>,
    },
    /// The home's answer to [`ToGroup::List`], stored.
    Listed {
        /// The client's connection.
        handle: Handle,
        /// The other group.
        group: GroupNo,
        /// Its rank, the same until the session ends; `None`: none is left.
        rank: Option<Rank>,
    },
    /// The join is stored: the connection may act here. A proxy whose connection is gone by now answers
    /// [`ToGroup::Disconnect`] for it.
    Joined(Box<Joined>),
    /// A page of what the group holds, stored.
    Filters(Box<Filters>),
    /// The group does not know, or does not know any more, that this connection acts here: [`ToGroup::Join`] again.
    Rejoin {
        /// The connection.
        handle: Handle,
    },
    /// An errand for another group: take it there as [`ToGroup::Errand`]. A lost one comes again.
    Errand(Box<Errand>),
    /// An errand is done: take this to the group that asked, as [`ToGroup::ErrandDone`].
    ErrandDone(Box<ErrandDone>),
    /// A new link session begins: answer [`ToGroup::Resume`]. Made by the proxy's own end of the link, behind every
    /// frame of the session before.
    Resume,
    /// The end of a unit: every frame of the producer up to `number` is stored and applied, or needed no storing.
    /// For the proxy's end of the link; connections have nothing to do with it.
    Done {
        /// Number of a frame; 0 before the first.
        number: u64,
    },
}

/// What became of one filter of a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterOutcome {
    /// Granted QoS, or the refusal.
    pub reason: ReasonCode,
    /// The session had no subscription to this filter before. Who takes the SUBSCRIBE back removes only what it made.
    /// `false` also where that is not known any more: in the answer to a repeat.
    pub is_new: bool,
}

/// A stored claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The connection that asked.
    pub handle: Handle,
    /// The client's number, for all further frames.
    pub client: ClientNo,
    /// The epoch the connection owns now.
    pub epoch: Epoch,
    /// Session Present for CONNACK (promise P6).
    pub session_present: bool,
    /// The epoch in which the session began: `epoch` itself unless it is resumed.
    pub start_epoch: Epoch,
    /// The other groups that hold something of the session, with their ranks. Where the session is new but one before
    /// it was at other groups, those, without a rank: the connection fences them off.
    pub groups: Box<[Listed]>,
    /// Of the filters that the home holds of the session, which are those from before this connection.
    pub digest: FilterDigest,
}

/// A group that a session is at, besides its home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The group.
    pub group: GroupNo,
    /// Its rank; `None`: it was at an earlier session.
    pub rank: Option<Rank>,
}

/// A stored join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The connection that asked.
    pub handle: Handle,
    /// The client's number in this group.
    pub client: ClientNo,
    /// The epoch that the connection owns in this group: this group's own, not the home's.
    pub epoch: Epoch,
    /// Of the filters that the group holds of the session.
    pub digest: FilterDigest,
}

/// Filters that a group holds of a session: a page of at most about [`crate::limits::FILTER_PAGE_BYTES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filters {
    /// The connection that asked.
    pub handle: Handle,
    /// The number of its question.
    pub number: u32,
    /// In the order of their texts' bytes.
    pub filters: Vec<HeldFilter>,
    /// Whether there are more behind the last of these. Never without one.
    pub more: bool,
}

/// One message for some receivers of one link. The payload crosses a link once.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message, or where the group's log has it.
    pub body: Body,
    /// Message expiry left, in seconds, at the time of this frame; `None`: does not expire (MQTT5 3.3.2.3.3).
    pub expiry_s: Option<u32>,
    /// Who gets it.
    pub receivers: SmallVec<[Receiver; 1]>,
}

/// Where a delivery's message is.
#[derive(Clone, Debug)]
pub enum Body {
    /// Here.
    Inline(Message),
    /// In the log. The group's driver resolves it before the frame leaves the node.
    Stored(StoredAt),
}

/// A message's place in the log: a part of the body of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoredAt {
    /// Segment number.
    pub segment: u32,
    /// Byte offset of the record in the segment, as the log gave it.
    pub record: u32,
    /// Byte offset of the message in the record's body.
    pub offset: u32,
    /// Length of the message in bytes.
    pub len: u32,
}

/// One receiver of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// The receiver's connection.
    pub handle: Handle,
    /// Packet id; `None` exactly at effective QoS 0.
    pub packet_id: Option<PacketId>,
    /// Effective QoS: the lesser of publish and granted.
    pub qos: QoS,
    /// RETAIN flag to send.
    pub retain: bool,
    /// DUP flag: it may have been sent before.
    pub dup: bool,
    /// Subscription Identifiers of all matching subscriptions that have one; usually none.
    pub subscription_ids: SubscriptionIds,
}

/// Subscription Identifiers; empty costs no allocation.
pub type SubscriptionIds = Option<Box<[u32]>>;
