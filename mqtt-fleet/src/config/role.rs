//! What a process of the fleet does, which decides on the settings it has.

use std::fmt;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Everything: connections, one group, its data.
    Standalone,
    /// A member of a group; proxies link to it.
    Broker,
    /// Connections of devices; keeps nothing.
    Proxy,
}

/// Every process has the setting.
pub(super) const EVERYBODY: &[Role] = &[Role::Standalone, Role::Broker, Role::Proxy];
/// Processes that devices connect to.
pub(super) const DEVICE_SIDE: &[Role] = &[Role::Standalone, Role::Proxy];
/// Processes that have a group and its data.
pub(super) const GROUP_SIDE: &[Role] = &[Role::Standalone, Role::Broker];
/// Proxies of a fleet alone.
pub(super) const PROXY: &[Role] = &[Role::Proxy];
/// Processes that are one of many.
pub(super) const BOTH_OF_THE_FLEET: &[Role] = &[Role::Broker, Role::Proxy];

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standalone => "standalone broker",
            Self::Broker => "broker",
            Self::Proxy => "proxy",
        })
    }
}
