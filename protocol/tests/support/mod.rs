//! What the tests share: the rows of `mqtt-packets.tsv`, and any packet at all.

pub(crate) mod arbitrary;
pub(crate) mod oracles;

use protocol::Version;

/// One packet and what a decoder must do with it.
pub(crate) struct Vector {
    /// The version of the connection.
    pub(crate) version: Version,
    /// Whether the packet is well-formed.
    pub(crate) accept: bool,
    /// What it is.
    pub(crate) name: &'static str,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
}

/// The largest packet the vectors assume, in bytes.
pub(crate) const MAX_PACKET: usize = 1 << 20;

/// All rows.
pub(crate) fn vectors() -> Vec<Vector> {
    let lines = include_str!("../mqtt-packets.tsv").lines();
    lines
        .filter(|line| !line.starts_with('#'))
        .map(vector)
        .collect()
}

fn vector(line: &'static str) -> Vector {
    let fields: Vec<_> = line.split('\t').collect();
    let [version, verdict, name, hex] = fields[..] else {
        panic!("four fields: {line}")
    };
    let version = match version {
        "3.1.1" => Version::V311,
        "5" => Version::V5,
        other => panic!("version {other}"),
    };
    let accept = match verdict {
        "accept" => true,
        "reject" => false,
        other => panic!("verdict {other}"),
    };
    Vector {
        version,
        accept,
        name,
        bytes: bytes(hex),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "{hex}");
    let digits = (0..hex.len()).step_by(2);
    digits
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
        .collect()
}
