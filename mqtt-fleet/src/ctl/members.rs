//! `mqtt-fleet ctl members` and `move-member`: who is in the fleet and where, and that somebody is elsewhere now.

use std::path::PathBuf;

use clap::Args;
use cluster::topology::{HostPort, NodeName};

use crate::exit::Exit;
use crate::http::{self, Answered};
use crate::members::{MemberList, MemberRequest, What};
use crate::node;

/// Which node is asked.
#[derive(Debug, Args)]
pub(super) struct AdminArgs {
    /// Admin port of the node
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9883", value_parser = address)]
    admin: HostPort,
}

/// What `members` is asked with.
#[derive(Debug, Args)]
pub(super) struct MembersArgs {
    #[command(flatten)]
    node: AdminArgs,
    /// What a node last knew: the file it keeps (a broker in its data folder, a proxy in its cluster.cache). No node
    /// is asked then
    #[arg(long, value_name = "FILE", conflicts_with = "admin")]
    topology: Option<PathBuf>,
}

/// What `move-member` is asked with.
#[derive(Debug, Args)]
pub(super) struct MoveArgs {
    /// The broker that moves
    #[arg(value_name = "NAME", value_parser = name)]
    name: NodeName,
    /// Where it takes links from now on, as proxies reach it
    #[arg(long, value_name = "HOST:PORT", value_parser = address, required_unless_present = "peer")]
    to: Option<HostPort>,
    /// Where the others of its group reach it from now on
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    peer: Option<HostPort>,
    #[command(flatten)]
    node: AdminArgs,
}

/// Why there is no answer: a sentence, and how the process ends.
pub(super) type Failed = (Exit, String);

/// The text that lists the members.
pub(super) fn list(args: &MembersArgs) -> Result<String, Failed> {
    if let Some(path) = &args.topology {
        let topology = node::read_kept(path).map_err(|error| (Exit::Usage, error.to_string()))?;
        return Ok(MemberList(&topology).to_string());
    }
    answer(
        args.node.admin.as_str(),
        http::get(args.node.admin.as_str(), "/members"),
    )
}

/// The text that lists the members after the change.
pub(super) fn move_member(args: &MoveArgs) -> Result<String, Failed> {
    let (admin, path) = (args.node.admin.as_str(), format!("/members/{}", args.name));
    let asked = MemberRequest {
        what: What::Move,
        link: args.to.clone(),
        peer: args.peer.clone(),
    };
    answer(admin, http::post(admin, &path, &asked.to_string()))
}

pub(super) fn answer(admin: &str, asked: std::io::Result<Answered>) -> Result<String, Failed> {
    match asked {
        Ok(Answered { status: 200, body }) => Ok(body),
        Ok(Answered { status: 404, body }) if body.is_empty() => Err((
            Exit::Failed,
            format!("{admin} is no admin port of a fleet's node"),
        )),
        Ok(Answered { body, .. }) => Err((Exit::Failed, format!("{admin}: {}", body.trim_end()))),
        Err(error) => Err((Exit::Failed, format!("{admin} does not answer: {error}"))),
    }
}

pub(super) fn address(text: &str) -> Result<HostPort, String> {
    text.parse()
        .map_err(|expected| format!("expected {expected}"))
}

pub(super) fn name(text: &str) -> Result<NodeName, String> {
    text.parse()
        .map_err(|expected| format!("expected {expected}"))
}
