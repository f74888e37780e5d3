//! Asks for the name of the broker that takes links at an address, as the greeting of a link tells it.

use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use cluster::limits::{LINK_CONNECT, LINK_HANDSHAKE};
use cluster::link::LinkError;
use cluster::slots::GroupNo;
use cluster::topology::{Announcement, HostPort, NodeName};
use cluster::transport::{LinkTls, Transport};
use cluster::wire::{Batches, Handshake, Hello, WireError};

use crate::group_report::Reporter;
use crate::http;
use crate::node::{Node, NodeError};

/// Between two looks at the clock.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A challenge and a refusal have fewer bytes.
const ANSWER_BYTES_MAX: usize = 4 << 10;

/// Why links to an address do not reach the broker that they should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkProblem {
    /// Nobody is there.
    #[error("nobody takes links at {link}: {source}")]
    Nobody {
        /// The address.
        link: HostPort,
        /// What happened.
        source: io::Error,
    },
    /// Something is there, and it is no broker of this fleet and group, or does not say so.
    #[error("links to {link} reach no broker of this group: {why}")]
    NoBroker {
        /// The address.
        link: HostPort,
        /// What it said.
        why: String,
    },
    /// Another broker is there.
    #[error("links to {link} reach {found}, not {name}")]
    Another {
        /// The address.
        link: HostPort,
        /// The one that should be there.
        name: NodeName,
        /// The one that is.
        found: Box<str>,
    },
    /// What this node knows of the fleet cannot be read.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Makes sure that links of this broker's group to `link` reach the broker `name`. Waits for that one, up to some
/// seconds.
pub(crate) fn check(own: &Reporter, name: &NodeName, link: &HostPort) -> Result<(), LinkProblem> {
    let hello = hello(&own.node, GroupNo(own.group))?;
    let nobody = |source| LinkProblem::Nobody {
        link: link.clone(),
        source,
    };
    let socket = http::connect(link.as_str(), LINK_CONNECT, LOOK_EVERY).map_err(nobody)?;
    let found =
        greet(socket, own.tls.as_deref(), link, &hello).map_err(|why| LinkProblem::NoBroker {
            link: link.clone(),
            why,
        })?;
    if *found == *name.as_str() {
        return Ok(());
    }
    Err(LinkProblem::Another {
        link: link.clone(),
        name: name.clone(),
        found,
    })
}

fn hello(node: &Node, group: GroupNo) -> Result<Hello, NodeError> {
    let known = Announcement::new(node.topology()?);
    Ok(Hello {
        fixed: known.topology().fixed.0,
        slots: known.slots(),
        topology: known.version(),
        group: u32::from(group.0),
        node: node.name.number(),
        shard: 0,
        incarnation: 0,
        // The conversation ends before anybody proves anything.
        nonce: [0; 32],
        name: node.name.as_str().into(),
    })
}

/// The name of the broker. The error is the end of a sentence.
fn greet(
    socket: TcpStream,
    tls: Option<&LinkTls>,
    link: &HostPort,
    hello: &Hello,
) -> Result<Box<str>, String> {
    let broken = |error: LinkError| error.to_string();
    let malformed = |error: WireError| error.to_string();
    let host = link.as_str().rsplit_once(':').map_or("", |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut transport = Transport::connect(socket, tls, host).map_err(broken)?;
    let mut out = Vec::new();
    hello.write(&mut out);
    let (mut answers, mut block) = (Batches::default(), [0; ANSWER_BYTES_MAX]);
    let deadline = Instant::now() + LINK_HANDSHAKE;
    while Instant::now() < deadline {
        if !out.is_empty() || transport.has_more() {
            let written = transport.write(&out).map_err(broken)?;
            out.drain(..written.bytes);
        }
        if let Some(read) = transport.read(&mut block).map_err(broken)? {
            answers.push(&block[..read]);
        }
        let Some(answer) = answers.next(ANSWER_BYTES_MAX).map_err(malformed)? else {
            continue;
        };
        return match Handshake::read(&answer).map_err(malformed)? {
            Handshake::Challenge(challenge) => Ok(challenge.name),
            Handshake::Refused(refused) => Err(refused.text.into()),
            _ => Err("what it says is no answer to a greeting".to_owned()),
        };
    }
    Err(format!("it does not answer within {LINK_HANDSHAKE:?}"))
}
