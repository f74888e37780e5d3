//! What a group's log says: an entry is a time and some commands, applied in order.
//!
//! A command is a fact that the leader proposed; whether it changes anything is decided in apply, the
//! same on every replica.

use cluster::frame::{
    Ack, Claim, Disconnect, ErrandDone, Join, Publish, StoredAt, Subscribe, Unsubscribe,
};
use cluster::ids::{Actor, ClientNo, Epoch, LinkNo};
use cluster::slots::GroupNo;
use cluster::topology::{MemberChange, Topology};
use protocol::{Message, PacketId, QoS};

/// One entry of a group's log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Position in the group's log, counted from 1.
    pub index: u64,
    /// The group's time in milliseconds since the Unix epoch. Never goes back.
    pub time_ms: u64,
    /// What happened, in order.
    pub commands: Vec<Command>,
}

/// Who produces the frames of a link: never the same for two lives of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Producer {
    /// Node number.
    pub node: u32,
    /// Shard of the node.
    pub shard: u32,
    /// Random, new at each start of the node.
    pub incarnation: u64,
}

/// A message that the group keeps. Means nothing once the message is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageRef {
    /// Its place in the table of messages.
    pub place: u32,
    /// Its position in the group's order, never given twice.
    pub seq: u64,
}

/// One command.
#[derive(Clone, Debug)]
pub enum Command {
    /// A new reign: the leader (re)started. Sessions stay attached, for their producers come back; claims count from a
    /// new reign.
    LeaderStart,
    /// A producer has a link under this number.
    LinkUp {
        /// The link's number until `LinkDown`.
        link: LinkNo,
        /// Who is at the other end.
        producer: Producer,
    },
    /// A producer is gone: its sessions are detached as if each connection had been lost.
    LinkDown {
        /// The link's number.
        link: LinkNo,
    },
    /// The following numbered commands (all but this, `LeaderStart`, `LinkUp`, `LinkDown`, `Attach`, `Page`, `Tick`, `WillPublish`,
    /// `Relocate`, `Topology`, `ChangeMembers` and publishes of QoS 0)
    /// come from this link, with consecutive numbers from `first`. Numbers at or below the producer's high-water are skipped.
    From {
        /// The link.
        link: LinkNo,
        /// Number of the first following command.
        first: u64,
    },
    /// CONNECT: a new owner (of the link named by the `From` before it).
    Claim(Box<Claim>),
    /// Deliveries to the owner may start. With `if_free`, only when the claim found no live owner before it.
    Attach {
        /// Who was claimed for; `None` means the claim right before this command.
        actor: Option<Actor>,
        /// Only when no earlier owner has to be kicked first.
        if_free: bool,
    },
    /// A message, and where the log holds its bytes.
    Publish(Publish, StoredAt),
    /// PUBREL.
    Release {
        /// Who acts.
        actor: Actor,
        /// The QoS 2 packet id.
        packet_id: PacketId,
    },
    /// A receiver's answer.
    Ack(Ack),
    /// SUBSCRIBE.
    Subscribe(Box<Subscribe>),
    /// UNSUBSCRIBE.
    Unsubscribe(Box<Unsubscribe>),
    /// A connection ended.
    Disconnect(Box<Disconnect>),
    /// Send the next page of retained messages to a QoS 0 subscription.
    Page {
        /// Who subscribed.
        actor: Actor,
    },
    /// Time has come for due timers: the time is the entry's.
    Tick,
    /// The will of a client, due: publish it unless that was done.
    WillPublish {
        /// Whose will.
        client: ClientNo,
        /// The epoch of the connection that left it.
        epoch: Epoch,
        /// The will as a publish; its actor is the client at that epoch.
        publish: Publish,
        /// Where the log holds its bytes.
        at: StoredAt,
    },
    /// A message of an old segment was copied to the end of the log, so that the segment can go.
    Relocate {
        /// Which message.
        message: MessageRef,
        /// Its bytes.
        copy: Message,
        /// Where the log holds them now.
        at: StoredAt,
    },
    /// Another group is to have state of a session of this home.
    List {
        /// Who acts.
        actor: Actor,
        /// The other group.
        group: GroupNo,
    },
    /// A connection whose session has another home acts here (on the link named by the `From` before it).
    Join(Box<Join>),
    /// A session of another home is over; answered to the link that brought it.
    End {
        /// Its home.
        from: GroupNo,
        /// This group.
        to: GroupNo,
        /// The client.
        client_id: Box<str>,
        /// The home's epoch in which it began.
        start_epoch: Epoch,
    },
    /// A will of another home's client; answered to the link that brought it.
    ForeignWill {
        /// The home.
        from: GroupNo,
        /// This group.
        to: GroupNo,
        /// The will as a publish; its actor has the epoch of the connection that left it, and no client.
        publish: Publish,
        /// Where the log holds its bytes.
        at: StoredAt,
    },
    /// Another group has done what this one asked.
    ErrandDone(Box<ErrandDone>),
    /// A topology of the fleet: the first, or one that another node has. Only group 0 has any in its log.
    Topology(Box<Topology>),
    /// The member list of the fleet, as the log has it, changes: the next version of the topology.
    ChangeMembers(Box<MemberChange>),
}

impl Command {
    /// Whether the command has a number of its link; see [`Command::From`].
    pub fn is_numbered(&self) -> bool {
        match self {
            Self::Publish(publish, _) => publish.qos != QoS::AtMostOnce,
            Self::Claim(_)
            | Self::Release { .. }
            | Self::Ack(_)
            | Self::Subscribe(_)
            | Self::Unsubscribe(_)
            | Self::Disconnect(_)
            | Self::List { .. }
            | Self::Join(_)
            | Self::End { .. }
            | Self::ForeignWill { .. }
            | Self::ErrandDone(_) => true,
            Self::LeaderStart
            | Self::LinkUp { .. }
            | Self::LinkDown { .. }
            | Self::From { .. }
            | Self::Attach { .. }
            | Self::Page { .. }
            | Self::Tick
            | Self::WillPublish { .. }
            | Self::Relocate { .. }
            | Self::Topology(_)
            | Self::ChangeMembers(_) => false,
        }
    }
}
