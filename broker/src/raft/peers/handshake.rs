//! Both ends of a connection between members prove that they know the fleet's secret. Pure.
//!
//! ```text
//! caller -> magic 4 | version 2 | group 4 | nonce 32
//! called -> nonce 32
//! caller -> HMAC-SHA256(secret, "caller" | all so far)
//! called -> HMAC-SHA256(secret, "called" | all so far)
//!
//! called -> what 1 | number 4        instead of either, if it does not go on: 1 it speaks this version, 2 it is a member of
//!                                    this group, 3 the proof is wrong
//! ```
//! The one that is called proves nothing to one that has not. Each message has a fixed length, so no two conversations
//! make the same bytes.

use cluster::slots::GroupNo;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The version of the calls that this release makes and answers, and of their bytes (`raft/wire.rs`); there is no release
/// with another yet.
const VERSION: u16 = 1;
const MAGIC: [u8; 4] = *b"MQFP";
const HELLO_BYTES: usize = 42;

/// Why the called end does not go on.
const REFUSAL_BYTES: usize = 5;

/// Random bytes, new for each connection: nobody can use the proofs of an earlier one.
pub(super) type Nonce = [u8; 32];

/// Why the other end is no member of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stranger {
    #[error("the other end is no member of a group")]
    Nobody,
    #[error(
        "the other end speaks version {0} of the calls between members, this end version {VERSION}"
    )]
    Version(u16),
    #[error("the other end is a member of group {0}, this end of another")]
    Group(u32),
    #[error("the other end has another secret than this one; check both secrets")]
    Secret,
}

impl Stranger {
    /// What a called end of this group tells the caller, if that is one that understands it.
    pub(super) fn told(self, group: GroupNo) -> Option<[u8; REFUSAL_BYTES]> {
        let (what, number) = match self {
            Self::Nobody => return None,
            Self::Version(_) => (1, u32::from(VERSION)),
            Self::Group(_) => (2, u32::from(group.0)),
            Self::Secret => (3, 0),
        };
        let [a, b, c, d] = number.to_le_bytes();
        Some([what, a, b, c, d])
    }

    /// The same, heard by the caller instead of something else.
    fn heard(said: &[u8]) -> Self {
        let Ok([what, number @ ..]) = <[u8; REFUSAL_BYTES]>::try_from(said) else {
            return Self::Nobody;
        };
        let number = u32::from_le_bytes(number);
        match what {
            1 => Self::Version(number as u16),
            2 => Self::Group(number),
            3 => Self::Secret,
            _ => Self::Nobody,
        }
    }
}

/// One conversation, from either end.
pub(super) struct Handshake<'a> {
    secret: &'a [u8],
    said: Vec<u8>,
}

impl<'a> Handshake<'a> {
    pub(super) fn new(secret: &'a [u8]) -> Self {
        Self {
            secret,
            said: Vec::new(),
        }
    }

    /// What the caller says first.
    pub(super) fn hello(&mut self, group: GroupNo, nonce: &Nonce) -> Vec<u8> {
        let mut hello = Vec::with_capacity(HELLO_BYTES);
        hello.extend_from_slice(&MAGIC);
        hello.extend_from_slice(&VERSION.to_le_bytes());
        hello.extend_from_slice(&u32::from(group.0).to_le_bytes());
        hello.extend_from_slice(nonce);
        self.said.extend_from_slice(&hello);
        hello
    }

    /// The called end has got that.
    pub(super) fn take_hello(&mut self, group: GroupNo, hello: &[u8]) -> Result<(), Stranger> {
        let hello: &[u8; HELLO_BYTES] = hello.try_into().map_err(|_| Stranger::Nobody)?;
        if hello[..4] != MAGIC {
            return Err(Stranger::Nobody);
        }
        let version = u16::from_le_bytes([hello[4], hello[5]]);
        if version != VERSION {
            return Err(Stranger::Version(version));
        }
        let theirs = u32::from_le_bytes([hello[6], hello[7], hello[8], hello[9]]);
        if theirs != u32::from(group.0) {
            return Err(Stranger::Group(theirs));
        }
        self.said.extend_from_slice(hello);
        Ok(())
    }

    /// The called end's nonce, said or heard.
    pub(super) fn challenge(&mut self, nonce: &[u8]) -> Result<(), Stranger> {
        let nonce: &Nonce = nonce.try_into().map_err(|_| Stranger::heard(nonce))?;
        self.said.extend_from_slice(nonce);
        Ok(())
    }

    /// The caller's proof.
    pub(super) fn caller_proof(&self) -> Vec<u8> {
        self.mac("caller").finalize().into_bytes().to_vec()
    }

    /// The called end's proof.
    pub(super) fn called_proof(&self) -> Vec<u8> {
        self.mac("called").finalize().into_bytes().to_vec()
    }

    /// The called end has got the caller's proof. Takes the same time for each wrong one.
    pub(super) fn check_caller(&self, proof: &[u8]) -> Result<(), Stranger> {
        let checked = self.mac("caller").verify_slice(proof);
        checked.map_err(|_| Stranger::Secret)
    }

    /// The caller has got the called end's proof. Takes the same time for each wrong one.
    pub(super) fn check_called(&self, proof: &[u8]) -> Result<(), Stranger> {
        if proof.len() == REFUSAL_BYTES {
            return Err(Stranger::heard(proof));
        }
        let checked = self.mac("called").verify_slice(proof);
        checked.map_err(|_| Stranger::Secret)
    }

    fn mac(&self, role: &str) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.secret).expect("a key of any length will do");
        mac.update(b"mqtt-fleet members, ");
        mac.update(role.as_bytes());
        mac.update(&self.said);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupNo = GroupNo(3);

    /// Both ends after hello and challenge.
    fn conversation<'a>(ours: &'a [u8], theirs: &'a [u8]) -> [Handshake<'a>; 2] {
        let (mut near, mut far) = (Handshake::new(ours), Handshake::new(theirs));
        let hello = near.hello(GROUP, &[1; 32]);
        far.take_hello(GROUP, &hello).expect("a member");
        near.challenge(&[2; 32]).expect("a nonce");
        far.challenge(&[2; 32]).expect("a nonce");
        [near, far]
    }

    #[test]
    fn each_end_knows_the_other_by_the_secret() {
        let [near, far] = conversation(b"one", b"one");
        assert_eq!(far.check_caller(&near.caller_proof()), Ok(()));
        assert_eq!(near.check_called(&far.called_proof()), Ok(()));
        let mirrored = near.check_called(&near.caller_proof());
        assert_eq!(mirrored, Err(Stranger::Secret), "not its own proof");
        let [near, far] = conversation(b"one", b"two");
        let proof = near.caller_proof();
        assert_eq!(far.check_caller(&proof), Err(Stranger::Secret));
        let proof = far.called_proof();
        assert_eq!(near.check_called(&proof), Err(Stranger::Secret));
    }

    #[test]
    fn a_proof_is_for_one_conversation() {
        let [near, _] = conversation(b"one", b"one");
        let mut other = Handshake::new(b"one");
        let hello = Handshake::new(b"one").hello(GROUP, &[1; 32]);
        other.take_hello(GROUP, &hello).expect("a member");
        other.challenge(&[9; 32]).expect("a nonce");
        let proof = near.caller_proof();
        assert_eq!(other.check_caller(&proof), Err(Stranger::Secret));
    }

    #[test]
    fn the_caller_is_told_why_the_other_end_does_not_go_on() {
        let told = |why: Stranger| why.told(GROUP).expect("it is told");
        let mut near = Handshake::new(b"one");
        near.hello(GroupNo(4), &[1; 32]);
        let group = told(Stranger::Group(4));
        assert_eq!(near.challenge(&group), Err(Stranger::Group(3)));
        let version = told(Stranger::Version(9));
        assert_eq!(near.challenge(&version), Err(Stranger::Version(VERSION)));
        let secret = told(Stranger::Secret);
        assert_eq!(near.check_called(&secret), Err(Stranger::Secret));
        assert_eq!(Stranger::Nobody.told(GROUP), None);
        assert_eq!(near.challenge(&[9; 5]), Err(Stranger::Nobody));
    }

    #[test]
    fn strangers_are_told_apart() {
        let mut far = Handshake::new(b"one");
        let hello = Handshake::new(b"one").hello(GroupNo(4), &[1; 32]);
        assert_eq!(far.take_hello(GROUP, &hello), Err(Stranger::Group(4)));
        let mut newer = Handshake::new(b"one").hello(GROUP, &[1; 32]);
        newer[4] = 9;
        assert_eq!(far.take_hello(GROUP, &newer), Err(Stranger::Version(9)));
        let web = b"GET / HTTP/1.1";
        assert_eq!(far.take_hello(GROUP, web), Err(Stranger::Nobody));
        assert_eq!(far.challenge(b"short"), Err(Stranger::Nobody));
    }
}
