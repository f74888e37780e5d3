//! Workers on further machines, through their agents.

use std::net::{TcpStream, ToSocketAddrs as _};

use super::crew::{Crew, Member};
use super::options::{Agents, WorkerProgram};
use super::plan::{Place, Share, shares};
use super::start::{self, Started};
use crate::Error;
use crate::agent::handshake::{self, Facts, Want};
use crate::agent::prepare;
use crate::control::line::Line;
use crate::limits::HANDSHAKE_TIMEOUT;

/// Asks every agent what its machine can do, and plans.
pub(crate) fn plan(agents: &Agents, devices: u32) -> Result<Vec<Share>, Error> {
    let mut places = Vec::new();
    for agent in &agents.addresses {
        let (_, facts) = meet(agents, agent, Want::Facts)?;
        places.push(Place {
            cores: facts.cores.max(1),
            descriptors: facts.descriptors,
        });
    }
    shares(devices, &places)
}

/// Starts worker 0 here and the others at the agents.
pub(crate) fn start(
    agents: &Agents,
    program: &WorkerProgram,
    shares: &[Share],
) -> Result<Started, Error> {
    let (Crew(mut members), mut lines) = start::start_here(program, &[])?;
    for (index, share) in shares.iter().enumerate() {
        let agent = &agents.addresses[share.place];
        let name = format!("{} at {agent}", start::name(index + 1));
        let (stream, _) = meet(agents, agent, Want::Worker)?;
        lines.push(Line::open(name.clone(), stream.into())?);
        members.push(Member {
            name,
            process: None,
            remote: true,
        });
    }
    Ok((Crew(members), lines))
}

fn meet(agents: &Agents, agent: &str, want: Want) -> Result<(TcpStream, Facts), Error> {
    let refuse = |what: String| Error::Control {
        who: format!("agent {agent}:"),
        what,
    };
    let mut stream = connect(agent).map_err(|error| refuse(error.to_string()))?;
    let facts = handshake::ask(&mut stream, &agents.secret, want);
    let facts = facts.map_err(|error| refuse(error.to_string()))?;
    Ok((stream, facts))
}

/// To the first of the agent's addresses that answers.
fn connect(agent: &str) -> std::io::Result<TcpStream> {
    let mut error = std::io::Error::other("the name has no address");
    for addr in agent.to_socket_addrs()? {
        match TcpStream::connect_timeout(&addr, HANDSHAKE_TIMEOUT) {
            Ok(stream) => return prepare(&stream).map(|()| stream),
            Err(refused) => error = refused,
        }
    }
    Err(error)
}
