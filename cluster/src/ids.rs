//! The small numbers that name things on a link and in a group's log.

use std::fmt;

/// A client's number within one group, given when the group first hears of the client id.
///
/// Numbers are dense and reused after the group has forgotten the client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientNo(pub u32);

/// One period of ownership of a client id: (reign of the home's leader, counter within it).
///
/// Compared in this order and never given twice; a higher epoch fences a lower one (promise P5).
/// The reign takes the upper 24 bits, the counter the lower 40.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

impl Epoch {
    const COUNTER_BITS: u32 = 40;

    /// The first epoch of `reign`; the reign's claims count up from here.
    pub fn first_of(reign: u32) -> Self {
        assert!(reign < 1 << 24, "a reign fits in 24 bits");
        Self(u64::from(reign) << Self::COUNTER_BITS)
    }

    /// The epoch after this one, of the same reign.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The reign this epoch was given in.
    pub fn reign(self) -> u32 {
        (self.0 >> Self::COUNTER_BITS) as u32
    }

    /// The counter within the reign.
    pub fn counter(self) -> u64 {
        self.0 & ((1 << Self::COUNTER_BITS) - 1)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.reign(), self.counter())
    }
}

/// A producer's link to a group: one proxy shard, or another group. An index, below [`LinkNo::MAX`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkNo(pub u16);

impl LinkNo {
    /// Links a group takes at once.
    pub const MAX: u16 = 1024;
}

/// A proxy's name for one of its connections on a link: (slot in its table, how often that slot was
/// used before). A handle is never used for two connections.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Handle {
    /// Slot in the proxy shard's connection table.
    pub index: u32,
    /// Counts the uses of the slot.
    pub generation: u32,
}

/// Who acts: the client's number and the epoch it owns. Every frame that acts for a client carries it,
/// and apply refuses an epoch below the highest one seen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Actor {
    /// The client's number in this group.
    pub client: ClientNo,
    /// The epoch under which it acts.
    pub epoch: Epoch,
}

impl Actor {
    /// Nobody the group knows: a connection that holds nothing there and publishes at QoS 0, which has no answer. It
    /// need not join first, so a client that leaves right after such a publish loses nothing.
    pub const NOBODY: Self = Self {
        client: ClientNo(u32::MAX),
        epoch: Epoch(0),
    };
}

/// A group's place in a session, below [`GroupNo::MAX`](crate::slots::GroupNo::MAX): 0 is the home, which gives the
/// others theirs, each once in a session's life. The deliveries of rank r have the packet ids
/// `1 + r * 1023 ..= (r + 1) * 1023`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Rank(pub u8);

impl Rank {
    /// The home's.
    pub const HOME: Self = Self(0);
    /// Packet ids of a session's deliveries that belong to one rank: 65,535 shared by at most 64 groups.
    pub const PACKET_IDS: u16 = 1_023;

    /// The rank whose packet id this is; `None` for the few that are nobody's.
    pub fn of_packet_id(id: protocol::PacketId) -> Option<Self> {
        let rank = (id.get() - 1) / Self::PACKET_IDS;
        (rank < u16::from(crate::slots::GroupNo::MAX)).then_some(Self(rank as u8))
    }
}

const _: () = assert!(Rank::PACKET_IDS as usize * crate::slots::GroupNo::MAX as usize <= 65_535);
