//! `ctl group add`, `remove`, `replace` and `repair`: who is in a group.
//!
//! A change has two parts. Group 0's log has the list that all nodes of the fleet go by; the group itself has the members
//! that vote. A member that comes is first in the list, one that goes first leaves the group. A command that fails
//! half way can be said again.

use std::time::{Duration, Instant};

use clap::Args;
use cluster::slots::GroupNo;
use cluster::topology::{HostPort, NodeName};

use super::fleet::Where;
use super::status::{Files, FleetStatus};
use crate::broker_node::TOPOLOGY_GROUP;
use crate::ctl::http::{self, Answered};
use crate::ctl::members::{Failed, address, answer, name};
use crate::exit::Exit;
use crate::members::{MemberRequest, What, group_in};

/// A leader is waited for so long: an election takes less than a second.
const LEADER_WAIT: Duration = Duration::from_secs(10);
/// A broker that begins anew with an empty folder is there again far sooner.
const RESTART_WAIT: Duration = Duration::from_secs(15);
/// Between two questions who leads.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// What the broker of group 0 answers where there is no such member.
const UNKNOWN: u16 = 404;
/// What a broker answers that does not lead, or not any more: 421, 503.
const NOT_THE_LEADER: [u16; 2] = [421, 503];

/// Where a member that comes is reached.
#[derive(Debug, Args)]
struct Addresses {
    /// Where it takes links, as proxies reach it
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    link: HostPort,
    /// Where the others of its group reach it
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    peer: HostPort,
}

/// What `add` is asked with.
#[derive(Debug, Args)]
pub(in crate::ctl) struct AddArgs {
    /// The new member: a broker of this name that runs, with an empty data folder
    #[arg(value_name = "NAME", value_parser = name)]
    name: NodeName,
    /// Number of the group
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..i64::from(GroupNo::MAX)))]
    group: u8,
    #[command(flatten)]
    addresses: Addresses,
    #[command(flatten)]
    asked: Where,
}

/// What `remove` and `repair` are asked with.
#[derive(Debug, Args)]
pub(in crate::ctl) struct OneArgs {
    /// The member
    #[arg(value_name = "NAME", value_parser = name)]
    name: NodeName,
    #[command(flatten)]
    asked: Where,
}

/// What `replace` is asked with.
#[derive(Debug, Args)]
pub(in crate::ctl) struct ReplaceArgs {
    /// The member that goes; it need not run any more
    #[arg(value_name = "OLD", value_parser = name)]
    old: NodeName,
    /// The one that comes: a broker of this name that runs, with an empty data folder
    #[arg(value_name = "NEW", value_parser = name)]
    new: NodeName,
    #[command(flatten)]
    addresses: Addresses,
    #[command(flatten)]
    asked: Where,
}

pub(super) fn add(args: &AddArgs) -> Result<String, Failed> {
    let what = What::Add(GroupNo(args.group));
    list(&args.asked, &args.name, what, Some(&args.addresses))?;
    join(
        &args.asked,
        args.group,
        &args.name,
        args.addresses.peer.as_str(),
    )?;
    Ok(format!(
        "{} is a member of group {}\n",
        args.name, args.group
    ))
}

pub(super) fn remove(args: &OneArgs) -> Result<String, Failed> {
    let group = group_of(&args.asked, &FleetStatus::ask(&args.asked)?, &args.name)?;
    leave(&args.asked, group, &args.name)?;
    list(&args.asked, &args.name, What::Remove, None)?;
    Ok(format!("{} has left group {group}\n", args.name))
}

pub(super) fn replace(args: &ReplaceArgs) -> Result<String, Failed> {
    let status = FleetStatus::ask(&args.asked)?;
    // Said again when all is done, only the new one is known.
    let group = group_of(&args.asked, &status, &args.old)
        .or_else(|unknown| status.group_of(args.new.as_str()).ok_or(unknown))?;
    let what = What::Replace(args.old.clone());
    list(&args.asked, &args.new, what, Some(&args.addresses))?;
    join(&args.asked, group, &args.new, args.addresses.peer.as_str())?;
    leave(&args.asked, group, &args.old)?;
    Ok(format!(
        "{} has taken the place of {} in group {group}\n",
        args.new, args.old
    ))
}

pub(super) fn repair(args: &OneArgs) -> Result<String, Failed> {
    let status = FleetStatus::ask(&args.asked)?;
    let group = group_of(&args.asked, &status, &args.name)?;
    let peer = status.peer_of(args.name.as_str()).ok_or_else(|| {
        let sentence = format!("nobody who answers knows where {} is reached", args.name);
        (Exit::Failed, sentence)
    })?;
    set_aside(&args.asked, group, &args.name)?;
    join(&args.asked, group, &args.name, peer)?;
    Ok(format!("{} has a vote in group {group} again\n", args.name))
}

/// Has a member put its files away if they are damaged, and waits until it is there again without them.
fn set_aside(asked: &Where, group: u8, name: &NodeName) -> Result<(), Failed> {
    let deadline = Instant::now() + RESTART_WAIT;
    let fail = |sentence: String| Err((Exit::Failed, sentence));
    let mut was_told = false;
    loop {
        let status = FleetStatus::ask(asked)?;
        match status.files_of(name.as_str()) {
            Files::Sound => return Ok(()),
            // Its admin port is not among those that are asked.
            Files::Unknown if !was_told => return Ok(()),
            Files::Damaged(_) if status.leader_of(group).is_none() => {
                return fail(format!(
                    "group {group} has no leader that could bring {name} back, so its files stay where they are"
                ));
            }
            Files::Damaged(admin) => match http::post(admin, "/group/repair", "") {
                // It may begin anew before its answer is out.
                Ok(Answered { status: 200, .. }) | Err(_) => was_told = true,
                refused => answer(admin, refused).map(|_| ())?,
            },
            Files::Silent | Files::Unknown => {}
        }
        if Instant::now() >= deadline {
            return fail(format!(
                "{name} does not answer, so nobody knows what is wrong with it: start its broker, and say this again"
            ));
        }
        // Nobody tells when it is there again.
        std::thread::park_timeout(ASK_AGAIN);
    }
}

/// Has group 0 change the list of members.
fn list(
    asked: &Where,
    name: &NodeName,
    what: What,
    addresses: Option<&Addresses>,
) -> Result<(), Failed> {
    let request = MemberRequest {
        what,
        link: addresses.map(|it| it.link.clone()),
        peer: addresses.map(|it| it.peer.clone()),
    };
    // One that is to go was there a moment ago: a leader that ended meanwhile has stored what it did not answer.
    let is_gone = (request.what == What::Remove).then_some(UNKNOWN);
    let (path, body) = (format!("/members/{name}"), request.to_string());
    tell(asked, TOPOLOGY_GROUP.0, &path, &body, is_gone)
}

fn join(asked: &Where, group: u8, name: &NodeName, peer: &str) -> Result<(), Failed> {
    let path = format!("/group/members/{name}");
    tell(asked, group, &path, &format!("join {peer}"), None)
}

fn leave(asked: &Where, group: u8, name: &NodeName) -> Result<(), Failed> {
    let path = format!("/group/members/{name}");
    tell(asked, group, &path, "leave", Some(UNKNOWN))
}

/// Asks the leader of a group, and while it has none or another one, whoever leads next. An answer of the status
/// `so_already` is as good as that it is done.
fn tell(
    asked: &Where,
    group: u8,
    path: &str,
    body: &str,
    so_already: Option<u16>,
) -> Result<(), Failed> {
    let deadline = Instant::now() + LEADER_WAIT;
    loop {
        let status = FleetStatus::ask(asked)?;
        let failed = match status.leader_of(group) {
            None => (Exit::Failed, format!("no leader of group {group} answers")),
            Some(admin) => {
                let answered = http::post(admin, path, body);
                let may_be_another = match &answered {
                    Ok(answered) if Some(answered.status) == so_already => return Ok(()),
                    Ok(answered) => NOT_THE_LEADER.contains(&answered.status),
                    Err(_) => true,
                };
                match answer(admin, answered) {
                    Ok(_) => return Ok(()),
                    Err(failed) if may_be_another => failed,
                    Err(failed) => return Err(failed),
                }
            }
        };
        if Instant::now() >= deadline {
            return Err(failed);
        }
        // Nobody tells when a leader is elected.
        std::thread::park_timeout(ASK_AGAIN);
    }
}

/// The group of a member: as the brokers that answer say, or, of one that has left its group already and does not answer,
/// as the list of members has it.
fn group_of(asked: &Where, status: &FleetStatus, name: &NodeName) -> Result<u8, Failed> {
    if let Some(group) = status.group_of(name.as_str()) {
        return Ok(group);
    }
    let brokers = asked.brokers()?;
    let listed = brokers.iter().find_map(|broker| {
        let list = http::get_soon(&broker.admin, "/members").ok()?;
        group_in(&list.body, name)
    });
    listed.ok_or_else(|| {
        let sentence = format!("no group that answers has a member \"{name}\"");
        (Exit::Failed, sentence)
    })
}
