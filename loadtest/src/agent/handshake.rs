//! How a controller and an agent prove to each other that they know the secret. The messages, all of fixed length:
//!
//! | from       | what                                                                                     |
//! |------------|------------------------------------------------------------------------------------------|
//! | agent      | magic number, version of the program, a number that was never used before                |
//! | controller | another such number, what it wants, proof                                                |
//! | agent      | its cores and how many descriptors a process may have, proof                             |
//!
//! A proof is the HMAC-SHA256 of a word for its direction, both numbers, and what comes with it. What follows on the
//! connection is neither encrypted nor proven: it is for networks in which nobody alters what others send.

use std::io::{Read, Write};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::controller::Secret;

/// What each message has.
const HELLO_BYTES: usize = MAGIC.len() + VERSION_BYTES + NONCE_BYTES;
const ASK_BYTES: usize = NONCE_BYTES + 1 + PROOF_BYTES;
const ANSWER_BYTES: usize = FACTS_BYTES + PROOF_BYTES;

const MAGIC: [u8; 8] = *b"mqttflt\x01";
const VERSION_BYTES: usize = 16;
const NONCE_BYTES: usize = 32;
const PROOF_BYTES: usize = 32;
const FACTS_BYTES: usize = 12;

/// What proofs begin with, so that one of one direction is none of the other.
const FROM_CONTROLLER: &[u8] = b"mqtt-fleet loadtest: controller to agent";
const FROM_AGENT: &[u8] = b"mqtt-fleet loadtest: agent to controller";

const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

type Nonce = [u8; NONCE_BYTES];

/// What a controller wants of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Want {
    /// To know what the machine can do.
    Facts = 1,
    /// A worker at the other end.
    Worker = 2,
}

/// What an agent's machine can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Cores.
    pub(crate) cores: u32,
    /// Descriptors that each process may have.
    pub(crate) descriptors: u64,
}

/// Why two did not come together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("{0}")]
    Socket(#[from] std::io::Error),
    #[error("it is not a load test agent of this program")]
    Magic,
    #[error("it runs version {0}, this is {OWN_VERSION}")]
    Version(String),
    #[error("it does not know the secret")]
    Secret,
    #[error("it wants something unknown")]
    Want,
}

/// The agent's half: says what the other end wants, which has proven that it knows the secret.
pub(crate) fn receive(
    stream: &mut (impl Read + Write),
    secret: &Secret,
    facts: Facts,
) -> Result<Want, HandshakeError> {
    let own = nonce()?;
    let mut hello = [0; HELLO_BYTES];
    let (magic, rest) = hello.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    let (version, number) = rest.split_at_mut(VERSION_BYTES);
    version.copy_from_slice(&own_version());
    number.copy_from_slice(&own);
    stream.write_all(&hello)?;

    let mut ask = [0; ASK_BYTES];
    stream.read_exact(&mut ask)?;
    let (theirs, rest) = ask.split_at(NONCE_BYTES);
    let (want, proof) = rest.split_at(1);
    let mac = mac(secret, FROM_CONTROLLER, &own, theirs, want);
    mac.verify_slice(proof)
        .map_err(|_| HandshakeError::Secret)?;
    let want = match want[0] {
        1 => Want::Facts,
        2 => Want::Worker,
        _ => return Err(HandshakeError::Want),
    };

    let facts = facts.to_bytes();
    let proof = self::mac(secret, FROM_AGENT, &own, theirs, &facts);
    let mut answer = [0; ANSWER_BYTES];
    answer[..FACTS_BYTES].copy_from_slice(&facts);
    answer[FACTS_BYTES..].copy_from_slice(&proof.finalize().into_bytes());
    stream.write_all(&answer)?;
    Ok(want)
}

/// The controller's half: says what the agent's machine can do; the agent has proven that it knows the secret.
pub(crate) fn ask(
    stream: &mut (impl Read + Write),
    secret: &Secret,
    want: Want,
) -> Result<Facts, HandshakeError> {
    let mut hello = [0; HELLO_BYTES];
    stream.read_exact(&mut hello)?;
    let (magic, rest) = hello.split_at(MAGIC.len());
    let (version, theirs) = rest.split_at(VERSION_BYTES);
    if magic != MAGIC {
        return Err(HandshakeError::Magic);
    }
    if version != own_version() {
        let text = String::from_utf8_lossy(version);
        let text = text.trim_end_matches('\0').escape_default();
        return Err(HandshakeError::Version(text.to_string()));
    }

    let own = nonce()?;
    let want = [want as u8];
    let proof = mac(secret, FROM_CONTROLLER, theirs, &own, &want);
    let mut ask = [0; ASK_BYTES];
    ask[..NONCE_BYTES].copy_from_slice(&own);
    ask[NONCE_BYTES] = want[0];
    ask[NONCE_BYTES + 1..].copy_from_slice(&proof.finalize().into_bytes());
    stream.write_all(&ask)?;

    let mut answer = [0; ANSWER_BYTES];
    match stream.read_exact(&mut answer) {
        // An agent that does not believe us says nothing more.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(HandshakeError::Secret);
        }
        other => other?,
    }
    let (facts, proof) = answer.split_at(FACTS_BYTES);
    mac(secret, FROM_AGENT, theirs, &own, facts)
        .verify_slice(proof)
        .map_err(|_| HandshakeError::Secret)?;
    Ok(Facts::from_bytes(facts))
}

/// Over both numbers, the agent's first.
fn mac(
    secret: &Secret,
    direction: &[u8],
    agent: &[u8],
    controller: &[u8],
    with: &[u8],
) -> Hmac<Sha256> {
    let key = Hmac::<Sha256>::new_from_slice(secret.bytes());
    let mut mac = key.expect("a key of any length will do");
    for part in [direction, agent, controller, with] {
        mac.update(part);
    }
    mac
}

fn nonce() -> std::io::Result<Nonce> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(std::io::Error::other)?;
    Ok(nonce)
}

fn own_version() -> [u8; VERSION_BYTES] {
    let mut bytes = [0; VERSION_BYTES];
    let version = OWN_VERSION.as_bytes();
    let len = version.len().min(VERSION_BYTES);
    bytes[..len].copy_from_slice(&version[..len]);
    bytes
}

impl Facts {
    fn to_bytes(self) -> [u8; FACTS_BYTES] {
        let mut bytes = [0; FACTS_BYTES];
        bytes[..4].copy_from_slice(&self.cores.to_be_bytes());
        bytes[4..].copy_from_slice(&self.descriptors.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let (cores, descriptors) = bytes.split_at(4);
        Self {
            cores: u32::from_be_bytes(cores.try_into().expect("four bytes")),
            descriptors: u64::from_be_bytes(descriptors.try_into().expect("eight bytes")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    const FACTS: Facts = Facts {
        cores: 6,
        descriptors: 20_000,
    };

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes()).expect("long enough")
    }

    type Ends = (Result<Want, HandshakeError>, Result<Facts, HandshakeError>);

    /// Both halves, with a secret each.
    fn meet(agent: &str, controller: &str, want: Want) -> Ends {
        let (mut here, mut there) = UnixStream::pair().expect("a pair of sockets");
        let known = secret(agent);
        let agent = std::thread::spawn(move || receive(&mut there, &known, FACTS));
        let asked = ask(&mut here, &secret(controller), want);
        drop(here);
        (agent.join().expect("no panic"), asked)
    }

    #[test]
    fn who_knows_the_secret_gets_what_it_wants() {
        for want in [Want::Facts, Want::Worker] {
            let (wanted, facts) = meet("a secret of the two", "a secret of the two\n", want);
            assert_eq!(wanted.expect("it is proven"), want);
            assert_eq!(facts.expect("it is proven"), FACTS);
        }
    }

    #[test]
    fn who_does_not_gets_nothing() {
        let (wanted, facts) = meet("a secret of the two", "a secret of another", Want::Worker);
        assert!(matches!(wanted, Err(HandshakeError::Secret)), "{wanted:?}");
        assert!(matches!(facts, Err(HandshakeError::Secret)), "{facts:?}");
    }

    #[test]
    fn an_agent_that_does_not_know_the_secret_is_not_believed() {
        let (mut here, mut there) = UnixStream::pair().expect("a pair of sockets");
        // It sends back the controller's own proof.
        let liar = std::thread::spawn(move || {
            let mut hello = [0; HELLO_BYTES];
            hello[..MAGIC.len()].copy_from_slice(&MAGIC);
            hello[MAGIC.len()..MAGIC.len() + VERSION_BYTES].copy_from_slice(&own_version());
            there.write_all(&hello).expect("somebody listens");
            let mut asked = [0; ASK_BYTES];
            there.read_exact(&mut asked).expect("it asks");
            let mut answer = [0; ANSWER_BYTES];
            answer[FACTS_BYTES..].copy_from_slice(&asked[NONCE_BYTES + 1..]);
            there.write_all(&answer).expect("somebody listens");
        });
        let asked = ask(&mut here, &secret("a secret of the two"), Want::Facts);
        assert!(matches!(asked, Err(HandshakeError::Secret)), "{asked:?}");
        liar.join().expect("no panic");
    }

    #[test]
    fn a_changed_want_is_not_believed() {
        let (mut here, mut there) = UnixStream::pair().expect("a pair of sockets");
        let known = secret("a secret of the two");
        let agent = {
            let known = known.clone();
            std::thread::spawn(move || receive(&mut there, &known, FACTS))
        };
        let mut hello = [0; HELLO_BYTES];
        here.read_exact(&mut hello).expect("it says hello");
        let theirs = &hello[HELLO_BYTES - NONCE_BYTES..];
        let own = [7; NONCE_BYTES];
        let proof = mac(&known, FROM_CONTROLLER, theirs, &own, &[Want::Facts as u8]);
        let mut asked = [0; ASK_BYTES];
        asked[..NONCE_BYTES].copy_from_slice(&own);
        asked[NONCE_BYTES] = Want::Worker as u8;
        asked[NONCE_BYTES + 1..].copy_from_slice(&proof.finalize().into_bytes());
        here.write_all(&asked).expect("it listens");
        let wanted = agent.join().expect("no panic");
        assert!(matches!(wanted, Err(HandshakeError::Secret)), "{wanted:?}");
    }

    #[test]
    fn other_programs_and_versions_are_named() {
        let hello = |magic: &[u8], version: &[u8]| {
            let mut bytes = [0; HELLO_BYTES];
            bytes[..8].copy_from_slice(magic);
            bytes[8..8 + version.len()].copy_from_slice(version);
            let (mut here, mut there) = UnixStream::pair().expect("a pair of sockets");
            there.write_all(&bytes).expect("there is room");
            ask(&mut here, &secret("a secret of the two"), Want::Facts)
        };
        assert!(matches!(
            hello(b"SSH-2.0-", b""),
            Err(HandshakeError::Magic)
        ));
        let error = hello(&MAGIC, b"9.9.9").expect_err("another version");
        let text = error.to_string();
        assert!(
            text.starts_with("it runs version 9.9.9, this is "),
            "{text}"
        );
    }
}
