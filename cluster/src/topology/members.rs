//! Groups, their members, and where those are reached.

use crate::ring::GroupWeight;
use std::fmt;
use std::str::FromStr;
use xxhash_rust::xxh3::xxh3_64;

/// The most bytes of a node's name: it stands in every session record and link greeting.
pub const NAME_BYTES_MAX: usize = 64;

/// The most members of a group: two of five may fail at the same time, and each message goes to all of them.
pub const MEMBERS_MAX: usize = 5;

/// The most members of a group in the list: one that comes is there before the one that goes is not any more.
pub const MEMBERS_LISTED_MAX: usize = MEMBERS_MAX + 1;

/// Name of a node or a fleet: 1 to [`NAME_BYTES_MAX`] of `A-Z a-z 0-9 . _ -`, so that it fits into file names, log
/// lines and metric labels as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Box<str>);

/// A host (a name, or an IP address) and a port of it: `broker-0:18931`, `127.0.0.1:18931`, `[::1]:18931`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    text: Box<str>,
}

/// A broker of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: NodeName,
    /// Where it takes links.
    pub link: HostPort,
    /// Where the other members of its group reach it; `None` only while it is alone in its group.
    pub peer: Option<HostPort>,
}

/// A group and who is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMembers {
    /// Number and share of the first slots.
    pub weight: GroupWeight,
    /// At least one.
    pub members: Vec<Member>,
}

impl Member {
    /// Its addresses: no two of a fleet's are the same.
    pub fn addresses(&self) -> impl Iterator<Item = &HostPort> {
        std::iter::once(&self.link).chain(&self.peer)
    }
}

impl NodeName {
    /// What a name may be, as the end of the sentence "expected ...".
    pub const EXPECTED: &'static str =
        "a name of 1 to 64 letters, digits, dots, dashes, underscores";

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number of a proxy of this name as a producer of frames, so that its next life ends what this one leaves
    /// behind: the lower half of the 64-bit XXH3 hash of the name, with the highest bit set. So it is never that of
    /// a broker in one process, which is 0.
    pub fn number(&self) -> u32 {
        xxh3_64(self.0.as_bytes()) as u32 | 1 << 31
    }
}

impl FromStr for NodeName {
    type Err = &'static str;

    /// The error is [`NodeName::EXPECTED`].
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        // Names of files are made of it.
        let hidden = text.starts_with('.');
        if fits && !hidden && text.bytes().all(plain) {
            Ok(Self(text.into()))
        } else {
            Err(Self::EXPECTED)
        }
    }
}

impl HostPort {
    /// What an address may be, as the end of the sentence "expected ...".
    pub const EXPECTED: &'static str =
        "a host and a port, such as \"broker-0:18931\" or \"127.0.0.1:18931\"";

    /// Its text, as the standard library resolves it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for HostPort {
    type Err = &'static str;

    /// The error is [`HostPort::EXPECTED`].
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = text.rsplit_once(':').is_some_and(|(host, port)| {
            let port = port.parse::<u16>().is_ok_and(|port| port > 0);
            port && is_host(host)
        });
        if valid {
            Ok(Self { text: text.into() })
        } else {
            Err(Self::EXPECTED)
        }
    }
}

fn is_host(host: &str) -> bool {
    let inside = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = inside {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=253).contains(&host.len()) && host.bytes().all(letter)
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_file_names_and_log_lines() {
        for name in ["a", "broker-0", "A.b_C-9", &"x".repeat(64)] {
            assert_eq!(name.parse::<NodeName>().expect(name).as_str(), name);
        }
        for name in [
            "",
            ".",
            "..",
            ".a",
            "a b",
            "a/b",
            "ä",
            "a\n",
            &"x".repeat(65),
        ] {
            assert_eq!(name.parse::<NodeName>(), Err(NodeName::EXPECTED), "{name}");
        }
    }

    #[test]
    fn numbers_of_proxies_differ_and_are_never_that_of_a_standalone_broker() {
        let number = |n: u16| {
            format!("proxy-{n}")
                .parse::<NodeName>()
                .map(|name| name.number())
        };
        let numbers: std::collections::HashSet<_> = (0..1_000).map(number).collect();
        assert_eq!(numbers.len(), 1_000);
        assert!(numbers.iter().all(|n| n.is_ok_and(|n| n >= 1 << 31)));
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for text in [
            "127.0.0.1:1",
            "broker-0:18930",
            "a.b.example:65535",
            "[::1]:80",
        ] {
            assert_eq!(text.parse::<HostPort>().expect(text).as_str(), text);
        }
        for text in [
            "",
            ":1",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "::1:80",
            "[x]:1",
            "a b:1",
        ] {
            assert_eq!(text.parse::<HostPort>(), Err(HostPort::EXPECTED), "{text}");
        }
    }
}
