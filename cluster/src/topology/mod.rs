//! What the nodes of a fleet agree on: the cluster file, and what each node keeps of it.
//!
//! The file has a *fixed part* (how topics find their slots), which can never change under a running fleet and
//! whose hash is compared whenever two nodes link, and a *starting part* (groups, members, addresses), from which
//! a new fleet begins. Slots and members are then in group 0's log, which makes every later version. What a node
//! last knew of them is its [`Topology`]; it keeps that on disk.
//!
//! Nothing here opens a file: texts come in, texts go out.

mod change;
mod error;
mod file;
mod fixed;
mod kept;
mod member_change;
mod members;
mod reader;
mod routing;
mod secret;
mod shared;
mod skew;

pub use change::{NotTaken, TopologyVersion};
pub use error::FileError;
pub use file::ClusterFile;
pub use fixed::{FixedHash, FixedPart};
pub use kept::{KeptError, Topology, TopologyError};
pub use member_change::{MemberChange, MemberError};
pub use members::{
    GroupMembers, HostPort, MEMBERS_LISTED_MAX, MEMBERS_MAX, Member, NAME_BYTES_MAX, NodeName,
};
pub use routing::{FilterGroups, Routing};
pub use secret::{SECRET_BYTES_MIN, Secret, SecretError, SecretSource};
pub use shared::{Announcement, SharedTopology, TopologyWatch};
pub use skew::{SKEW_WARNING, SlotSkew};
