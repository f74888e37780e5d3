//! The handshake: both ends prove that they know the fleet's secret, and agree on what the link is for.
//!
//! ```text
//! proxy  -> Hello      magic, version, hash of the fixed part, hash of the slots, version of the topology, group,
//!                      producer, nonce, node name
//! broker -> Challenge  nonce, node name                                          or Refused
//! proxy  -> Proof      HMAC-SHA256(secret, "proxy" Hello Challenge)
//! broker -> Welcome    HMAC-SHA256(secret, "broker" Hello Challenge terms), terms   or Refused
//! ```
//! The terms say the version of the broker's topology. The broker proves nothing to a proxy that has not. `Hello` and `Challenge` enter the proofs as the bytes of their
//! batches, so whatever somebody changes on the way spoils both. Magic, version and the form of `Refused` never change;
//! but for [`Refusal::NotLeader`], which only a proxy of this version is told.

use super::read::Reader;
use super::write::{put_text, put_varint};
use super::{Batch, BatchKind, BatchStart, WireError};
use crate::topology::{NodeName, TopologyVersion};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::fmt;

/// The version of the link protocol that this release speaks; there is no other yet.
pub const LINK_VERSION: u16 = 3;

const MAGIC: [u8; 4] = *b"MQFL";
const PROXY: &[u8] = b"mqtt-fleet link, proxy";
const BROKER: &[u8] = b"mqtt-fleet link, broker";

/// Bytes of a node's name at most.
pub const NODE_NAME_BYTES_MAX: usize = 64;
/// Bytes of the reason of a refusal at most; a longer one is cut.
const REFUSAL_BYTES_MAX: usize = 512;

/// The hash of the fixed part of the cluster file.
pub type FixedHash = [u8; 16];

/// Random bytes, new for each handshake: nobody can use the proofs of an earlier one.
pub type Nonce = [u8; 32];

/// An HMAC-SHA256.
pub type Mac = [u8; 32];

/// The first message of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Of the fixed part of its cluster file.
    pub fixed: FixedHash,
    /// Hash of which group has which slot, as it knows it.
    pub slots: u64,
    /// Version of the topology that it knows.
    pub topology: TopologyVersion,
    /// The group it wants.
    pub group: u32,
    /// Its producer: number of the node.
    pub node: u32,
    /// Its producer: shard of the node.
    pub shard: u32,
    /// Its producer: random, new at each start of the node.
    pub incarnation: u64,
    /// Random.
    pub nonce: Nonce,
    /// Its name, for people. 1 to 64 bytes.
    pub name: Box<str>,
}

/// The broker's answer to a `Hello` it has no objection to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Random.
    pub nonce: Nonce,
    /// Its name, for people. 1 to 64 bytes.
    pub name: Box<str>,
}

/// The proxy's proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof(pub Mac);

/// The broker's proof, and the terms of this link session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The broker's proof.
    pub mac: Mac,
    /// The terms, which the proof covers.
    pub terms: Terms,
}

/// What holds for a link session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The reign of the group's leader.
    pub reign: u32,
    /// Whether the group knows this producer from an earlier link session.
    pub known: bool,
    /// Bytes of frames that the proxy may send beyond what the group has taken.
    pub credit_bytes: u32,
    /// Version of the topology that the broker knows.
    pub topology: TopologyVersion,
}

/// The broker will not have this link, or not any more: comes in the handshake, and at any time of a link session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why, for programs.
    pub refusal: Refusal,
    /// [`Refusal::NotLeader`]: the member that leads the group, as far as the broker knows.
    pub leader: Option<NodeName>,
    /// Why, for people: names what differs on the two ends.
    pub text: Box<str>,
}

/// Why a broker will not have a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Refusal {
    /// It speaks another version of the link protocol.
    Version = 1,
    /// The fixed parts of the cluster files differ.
    FixedPart = 2,
    /// It has no such group.
    Group = 3,
    /// The secrets differ.
    Secret = 4,
    /// Its group does not serve, or does not any more.
    NotServing = 5,
    /// Its group has as many links as it takes.
    TooManyLinks = 6,
    /// The node has been started again since.
    Superseded = 7,
    /// What the proxy sent is no handshake.
    Malformed = 8,
    /// One end speaks TLS and the other does not.
    Tls = 9,
    /// By what the two know, other groups have some slots.
    Slots = 10,
    /// Another member leads the group, or none does for now; [`Refused::leader`] says who.
    NotLeader = 11,
    /// It leads the group, and has no majority of the members.
    NoQuorum = 12,
    /// Its group can store nothing more: a majority of the members has no space.
    Full = 13,
}

impl Refusal {
    const ALL: [Self; 13] = [
        Self::Version,
        Self::FixedPart,
        Self::Group,
        Self::Secret,
        Self::NotServing,
        Self::TooManyLinks,
        Self::Superseded,
        Self::Malformed,
        Self::Tls,
        Self::Slots,
        Self::NotLeader,
        Self::NoQuorum,
        Self::Full,
    ];

    /// Whether trying again helps only after somebody has changed a configuration or a program.
    pub fn needs_a_person(self) -> bool {
        matches!(
            self,
            Self::Version
                | Self::FixedPart
                | Self::Group
                | Self::Secret
                | Self::Malformed
                | Self::Tls
                | Self::Slots
        )
    }
}

/// Bytes from the beginning of a connection that [`is_tls`] looks at.
pub const TLS_HEAD_BYTES: usize = 2;

/// Whether a connection that begins so carries TLS: a record's type (20 to 23) and the upper half of its version (3). As
/// the length of a batch that would be more than any message has that may come first.
pub fn is_tls(head: [u8; TLS_HEAD_BYTES]) -> bool {
    matches!(head, [20..=23, 3])
}

/// The two messages that the proofs are about, as they were on the wire.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    hello: Vec<u8>,
    challenge: Vec<u8>,
}

impl Transcript {
    /// A handshake that began with this.
    pub fn new(hello: &Hello) -> Self {
        let mut bytes = Vec::new();
        hello.write(&mut bytes);
        Self {
            hello: bytes,
            challenge: Vec::new(),
        }
    }

    /// And went on with this.
    pub fn challenged(&mut self, challenge: &Challenge) {
        self.challenge.clear();
        challenge.write(&mut self.challenge);
    }

    /// The proxy's proof.
    pub fn proof(&self, secret: &[u8]) -> Proof {
        Proof(self.mac(secret, PROXY, &[]).finalize().into_bytes().into())
    }

    /// Whether the proxy knows the secret. Takes the same time for each wrong proof.
    pub fn proves(&self, secret: &[u8], proof: &Proof) -> bool {
        self.mac(secret, PROXY, &[]).verify_slice(&proof.0).is_ok()
    }

    /// The broker's proof and terms.
    pub fn welcome(&self, secret: &[u8], terms: Terms) -> Welcome {
        let mac = self.mac(secret, BROKER, &terms.bytes());
        Welcome {
            mac: mac.finalize().into_bytes().into(),
            terms,
        }
    }

    /// Whether the broker knows the secret. Takes the same time for each wrong proof.
    pub fn welcomes(&self, secret: &[u8], welcome: &Welcome) -> bool {
        let mac = self.mac(secret, BROKER, &welcome.terms.bytes());
        mac.verify_slice(&welcome.mac).is_ok()
    }

    /// The parts say their lengths (they are whole batches), so no two transcripts make the same bytes.
    fn mac(&self, secret: &[u8], label: &[u8], terms: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key of any length will do");
        for part in [label, &self.hello, &self.challenge, terms] {
            mac.update(part);
        }
        mac
    }
}

impl Hello {
    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        let batch = BatchStart::begin(BatchKind::Hello, out);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&LINK_VERSION.to_le_bytes());
        out.extend_from_slice(&self.fixed);
        out.extend_from_slice(&self.slots.to_le_bytes());
        put_version(self.topology, out);
        put_varint(u64::from(self.group), out);
        put_varint(u64::from(self.node), out);
        put_varint(u64::from(self.shard), out);
        out.extend_from_slice(&self.incarnation.to_le_bytes());
        out.extend_from_slice(&self.nonce);
        put_text(&self.name, out);
        batch.end(out);
    }

    /// Reads the body of the message. Of another version nothing but that is read.
    pub fn read(body: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        if reader.array().ok() != Some(MAGIC) {
            return Err(WireError::Magic);
        }
        let version = reader.u16()?;
        if version != LINK_VERSION {
            return Err(WireError::Version(version));
        }
        let hello = Self {
            fixed: reader.array()?,
            slots: u64::from_le_bytes(reader.array()?),
            topology: read_version(&mut reader)?,
            group: reader.varint_u32()?,
            node: reader.varint_u32()?,
            shard: reader.varint_u32()?,
            incarnation: u64::from_le_bytes(reader.array()?),
            nonce: reader.array()?,
            name: read_name(&mut reader)?,
        };
        reader.end()?;
        Ok(hello)
    }
}

impl Challenge {
    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        let batch = BatchStart::begin(BatchKind::Challenge, out);
        out.extend_from_slice(&self.nonce);
        put_text(&self.name, out);
        batch.end(out);
    }

    /// Reads the body of the message.
    pub fn read(body: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let challenge = Self {
            nonce: reader.array()?,
            name: read_name(&mut reader)?,
        };
        reader.end()?;
        Ok(challenge)
    }
}

impl Proof {
    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        let batch = BatchStart::begin(BatchKind::Proof, out);
        out.extend_from_slice(&self.0);
        batch.end(out);
    }

    /// Reads the body of the message.
    pub fn read(body: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let proof = Self(reader.array()?);
        reader.end()?;
        Ok(proof)
    }
}

impl Terms {
    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(u64::from(self.reign), &mut out);
        out.push(u8::from(self.known));
        put_varint(u64::from(self.credit_bytes), &mut out);
        put_version(self.topology, &mut out);
        out
    }
}

impl Welcome {
    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        let batch = BatchStart::begin(BatchKind::Welcome, out);
        out.extend_from_slice(&self.mac);
        out.extend_from_slice(&self.terms.bytes());
        batch.end(out);
    }

    /// Reads the body of the message.
    pub fn read(body: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let mac = reader.array()?;
        let reign = reader.varint_u32()?;
        let known = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(WireError::Invalid("flag")),
        };
        let terms = Terms {
            reign,
            known,
            credit_bytes: reader.varint_u32()?,
            topology: read_version(&mut reader)?,
        };
        reader.end()?;
        Ok(Self { mac, terms })
    }
}

impl Refused {
    /// A refusal with its reason for people, which is cut if it is very long.
    pub fn new(refusal: Refusal, text: &str) -> Self {
        let end = (0..=text.len().min(REFUSAL_BYTES_MAX))
            .rev()
            .find(|at| text.is_char_boundary(*at));
        Self {
            refusal,
            leader: None,
            text: text[..end.unwrap_or_default()].into(),
        }
    }

    /// A refusal of a broker that does not lead its group.
    pub fn not_leader(leader: Option<NodeName>, text: &str) -> Self {
        Self {
            leader,
            ..Self::new(Refusal::NotLeader, text)
        }
    }

    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        let batch = BatchStart::begin(BatchKind::Refused, out);
        out.push(self.refusal as u8);
        put_text(&self.text, out);
        if self.refusal == Refusal::NotLeader {
            put_text(self.leader.as_ref().map_or("", NodeName::as_str), out);
        }
        batch.end(out);
    }

    /// Reads the body of the message.
    pub fn read(body: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let byte = reader.u8()?;
        let refusal = Refusal::ALL.into_iter().find(|known| *known as u8 == byte);
        let refusal = refusal.ok_or(WireError::Invalid("refusal"))?;
        let text = reader.text()?;
        if text.len() > REFUSAL_BYTES_MAX {
            return Err(WireError::Invalid("refusal"));
        }
        let leader = match refusal {
            Refusal::NotLeader => reader.text()?,
            _ => "",
        };
        let leader = (!leader.is_empty()).then(|| leader.parse());
        let leader = leader
            .transpose()
            .map_err(|_| WireError::Invalid("node name"))?;
        reader.end()?;
        Ok(Self {
            refusal,
            leader,
            text: text.into(),
        })
    }
}

/// For the log. What the other end wrote must not look like lines of our own.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.text.escape_debug())
    }
}

fn put_version(version: TopologyVersion, out: &mut Vec<u8>) {
    put_varint(version.table, out);
    put_varint(version.members, out);
}

fn read_version(reader: &mut Reader<'_>) -> Result<TopologyVersion, WireError> {
    Ok(TopologyVersion {
        table: reader.varint()?,
        members: reader.varint()?,
    })
}

fn read_name(reader: &mut Reader<'_>) -> Result<Box<str>, WireError> {
    let name = reader.text()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=NODE_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain) {
        Ok(name.into())
    } else {
        Err(WireError::Invalid("node name"))
    }
}

/// A message of the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// See [`Hello`].
    Hello(Hello),
    /// See [`Challenge`].
    Challenge(Challenge),
    /// See [`Proof`].
    Proof(Proof),
    /// See [`Welcome`].
    Welcome(Welcome),
    /// See [`Refused`].
    Refused(Refused),
}

impl Handshake {
    /// Reads a batch of the handshake; other kinds do not belong here.
    pub fn read(batch: &Batch) -> Result<Self, WireError> {
        let body = &batch.body;
        Ok(match batch.kind {
            BatchKind::Hello => Self::Hello(Hello::read(body)?),
            BatchKind::Challenge => Self::Challenge(Challenge::read(body)?),
            BatchKind::Proof => Self::Proof(Proof::read(body)?),
            BatchKind::Welcome => Self::Welcome(Welcome::read(body)?),
            BatchKind::Refused => Self::Refused(Refused::read(body)?),
            kind => return Err(WireError::Kind(kind as u8)),
        })
    }

    /// Appends the message.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => hello.write(out),
            Self::Challenge(challenge) => challenge.write(out),
            Self::Proof(proof) => proof.write(out),
            Self::Welcome(welcome) => welcome.write(out),
            Self::Refused(refused) => refused.write(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            fixed: [7; 16],
            slots: 5,
            topology: VERSION,
            group: 3,
            node: 0x8000_0001,
            shard: 2,
            incarnation: u64::MAX,
            nonce: [9; 32],
            name: "proxy-1".into(),
        }
    }

    fn transcript() -> Transcript {
        let mut transcript = Transcript::new(&hello());
        transcript.challenged(&Challenge {
            nonce: [1; 32],
            name: "broker-1".into(),
        });
        transcript
    }

    const TERMS: Terms = Terms {
        reign: 12,
        known: true,
        credit_bytes: 1 << 20,
        topology: VERSION,
    };

    const VERSION: TopologyVersion = TopologyVersion {
        table: 1,
        members: 300,
    };

    #[test]
    fn each_end_knows_the_other_by_the_secret_alone() {
        let transcript = transcript();
        let (proof, welcome) = (transcript.proof(b"one"), transcript.welcome(b"one", TERMS));
        assert!(transcript.proves(b"one", &proof));
        assert!(!transcript.proves(b"two", &proof));
        assert!(transcript.welcomes(b"one", &welcome));
        assert!(!transcript.welcomes(b"two", &welcome));
        assert!(
            !transcript.proves(b"one", &Proof(welcome.mac)),
            "not each other's"
        );
    }

    #[test]
    fn nothing_that_was_said_can_be_changed() {
        let transcript = transcript();
        let (proof, welcome) = (transcript.proof(b"one"), transcript.welcome(b"one", TERMS));
        let mut other = Transcript::new(&Hello {
            shard: 3,
            ..hello()
        });
        other.challenge.clone_from(&transcript.challenge);
        assert!(!other.proves(b"one", &proof));
        let mut other = transcript.clone();
        other.challenged(&Challenge {
            nonce: [2; 32],
            name: "broker-1".into(),
        });
        assert!(!other.proves(b"one", &proof), "of an earlier handshake");
        assert!(!other.welcomes(b"one", &welcome), "of an earlier handshake");
        let terms = Terms {
            credit_bytes: 1,
            ..TERMS
        };
        let cheated = Welcome { terms, ..welcome };
        assert!(!transcript.welcomes(b"one", &cheated));
    }

    #[test]
    fn another_version_is_told_whatever_follows() {
        let body = Bytes::from_static(b"MQFL\x09\x00something new");
        assert_eq!(Hello::read(&body), Err(WireError::Version(9)));
        let body = Bytes::from_static(b"GET / HTTP/1.1");
        assert_eq!(Hello::read(&body), Err(WireError::Magic));
    }

    #[test]
    fn a_refusal_is_cut_between_characters() {
        let long = "ü".repeat(400);
        let refused = Refused::new(Refusal::Secret, &long);
        assert_eq!(refused.text.len(), REFUSAL_BYTES_MAX);
        let line = Refused::new(Refusal::Secret, "a\nINFO all is well");
        assert_eq!(line.to_string(), "a\\nINFO all is well");
    }

    #[test]
    fn a_refusal_of_another_version_has_the_form_that_all_versions_read() {
        let mut batch = Vec::new();
        Refused::new(Refusal::Version, "no").write(&mut batch);
        assert_eq!(batch[5..], *b"\x01\x02no");
    }
}
