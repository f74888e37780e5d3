//! `ctl group add`, `remove`, `replace` and `repair`: who is in a group.
//!
//! A change has two parts. Group 0's log has the list that all nodes of the fleet go by; the group itself has the members
//! that vote. Whoever has a vote may lead, and must be in the list then: a member that comes is in the list before it has
//! its vote, one that goes stays there until it has none. The long part, sending everything, comes before all that.
//!
//! A command that fails half way can be said again, whatever step it had reached: each step sees whether it was taken.

use std::time::{Duration, Instant};

use clap::Args;
use cluster::slots::GroupNo;
use cluster::topology::{HostPort, NodeName};

use super::fleet::Where;
use super::status::{Files, FleetStatus};
use super::tell::{self, Members};
use crate::ctl::members::{Failed, address, answer, name};
use crate::exit::Exit;
use crate::http::{self, Answered};
use crate::members::{Listed, MemberRequest, What};

/// A broker that begins anew with an empty folder is there again far sooner.
const RESTART_WAIT: Duration = Duration::from_secs(15);
/// What a damaged broker answers while no other member is sure to lead, and one that begins anew: 409, 503.
const NOT_YET: [u16; 2] = [409, 503];

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
    /// The new member: a broker of this name that runs, with an empty data folder, and a cluster file in which it is a further member
    /// of the group
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
    /// The one that comes: a broker of this name that runs, with an empty data folder, and a cluster file in which it is a
    /// member of the group, beside OLD or instead of it
    #[arg(value_name = "NEW", value_parser = name)]
    new: NodeName,
    #[command(flatten)]
    addresses: Addresses,
    #[command(flatten)]
    asked: Where,
}

/// A member that comes.
struct Coming<'c> {
    asked: &'c Where,
    group: u8,
    name: &'c NodeName,
    addresses: &'c Addresses,
    /// The one that goes for it.
    instead_of: Option<&'c NodeName>,
}

impl Coming<'_> {
    /// Makes sure that all that follows can be done, before anything is changed.
    fn check(&self, members: &Members) -> Result<(), Failed> {
        let Addresses { link, peer } = self.addresses;
        let listed = self.listing(members.find(self.name));
        let nothing = |(exit, sentence)| (exit, format!("{sentence}; nothing was changed"));
        let checked = match &listed {
            Some(what) => tell::check_list(self.asked, self.name, what),
            None => Ok(()),
        };
        checked.map_err(nothing)?;
        let check = format!("check {peer} {link}{}", self.instead_of());
        self.tell(&check).map_err(nothing)
    }

    /// What the list lacks; `None`: it is there.
    fn listing(&self, listed: Option<Listed>) -> Option<MemberRequest> {
        let Addresses { link, peer } = self.addresses;
        let what = match listed {
            Some(at)
                if at.link == link.as_str()
                    && at.peer == peer.as_str()
                    && at.group == self.group =>
            {
                return None;
            }
            // It was listed when this was said before, and is elsewhere now.
            Some(at) if at.group == self.group => What::Move,
            _ => What::Add(GroupNo(self.group)),
        };
        Some(MemberRequest {
            what,
            link: Some(link.clone()),
            peer: Some(peer.clone()),
        })
    }

    /// Brings it in.
    fn come(&self, members: &Members) -> Result<(), Failed> {
        let peer = &self.addresses.peer;
        self.tell(&format!("learn {peer}"))?;
        if let Some(what) = self.listing(members.find(self.name)) {
            tell::list(self.asked, self.name, &what, None)?;
        }
        self.tell(&format!("join {peer}{}", self.instead_of()))
    }

    /// The end of what the leader is told.
    fn instead_of(&self) -> String {
        let instead_of = self.instead_of.map(|old| format!(" instead-of {old}"));
        instead_of.unwrap_or_default()
    }

    fn tell(&self, what: &str) -> Result<(), Failed> {
        tell::member(self.asked, self.group, self.name, what, None)
    }
}

pub(super) fn add(args: &AddArgs) -> Result<String, Failed> {
    let members = Members::ask(&args.asked)?;
    let coming = Coming {
        asked: &args.asked,
        group: args.group,
        name: &args.name,
        addresses: &args.addresses,
        instead_of: None,
    };
    coming.check(&members)?;
    coming.come(&members)?;
    Ok(format!(
        "{} is a member of group {}\n",
        args.name, args.group
    ))
}

pub(super) fn remove(args: &OneArgs) -> Result<String, Failed> {
    let group = group_of(&args.asked, &args.name)?;
    go(&args.asked, group, &args.name)?;
    Ok(format!(
        "{} has left group {group}; stop its broker, if it runs\n",
        args.name
    ))
}

pub(super) fn replace(args: &ReplaceArgs) -> Result<String, Failed> {
    let (old, new) = (&args.old, &args.new);
    if old == new {
        let sentence = format!(
            "{old} cannot take its own place; if it has lost its data: mqtt-fleet ctl group repair {old}"
        );
        return Err((Exit::Usage, sentence));
    }
    let members = Members::ask(&args.asked)?;
    let group = match group_of(&args.asked, old) {
        Ok(group) => group,
        // Said again when all is done, only the new one is known.
        Err(unknown) => return is_done(&members, args).ok_or(unknown),
    };
    let coming = Coming {
        asked: &args.asked,
        group,
        name: new,
        addresses: &args.addresses,
        instead_of: Some(old),
    };
    coming.check(&members)?;
    coming.come(&members)?;
    go(&args.asked, group, old)?;
    Ok(format!(
        "{new} has taken the place of {old} in group {group}; stop the broker of {old}, if it runs\n"
    ))
}

/// What is said if the one that was to come is where it should be, and nobody knows the one that was to go.
fn is_done(members: &Members, args: &ReplaceArgs) -> Option<String> {
    let (old, new) = (&args.old, &args.new);
    let listed = members.find(new)?;
    let Addresses { link, peer } = &args.addresses;
    let is_there = listed.link == link.as_str() && listed.peer == peer.as_str();
    is_there.then(|| {
        format!(
            "{new} is a member of group {}, and no group has a member {old}: nothing is left to do\n",
            listed.group
        )
    })
}

/// Has a member leave its group, and then the list.
fn go(asked: &Where, group: u8, name: &NodeName) -> Result<(), Failed> {
    tell::member(asked, group, name, "leave", Some(tell::UNKNOWN))?;
    let what = MemberRequest {
        what: What::Remove,
        link: None,
        peer: None,
    };
    // One that is to go was there a moment ago: a leader that ended meanwhile has stored what it did not answer.
    tell::list(asked, name, &what, Some(tell::UNKNOWN))
}

pub(super) fn repair(args: &OneArgs) -> Result<String, Failed> {
    let group = group_of(&args.asked, &args.name)?;
    let status = FleetStatus::ask(&args.asked)?;
    if status.is_well(args.name.as_str()) {
        return Ok(format!(
            "{} has its data and its vote in group {group}: there is nothing to repair\n",
            args.name
        ));
    }
    let peer = status.peer_of(args.name.as_str()).ok_or_else(|| {
        let sentence = format!("nobody who answers knows where {} is reached", args.name);
        (Exit::Failed, sentence)
    })?;
    set_aside(&args.asked, group, &args.name)?;
    let join = format!("join {peer}");
    tell::member(&args.asked, group, &args.name, &join, None)?;
    Ok(format!("{} has a vote in group {group} again\n", args.name))
}

/// Has a member put its files away if they are damaged, and waits until it is there again without them.
fn set_aside(asked: &Where, group: u8, name: &NodeName) -> Result<(), Failed> {
    let deadline = Instant::now() + RESTART_WAIT;
    let is_over = || Instant::now() + tell::ASK_AGAIN >= deadline;
    let fail = |sentence: String| Err((Exit::Failed, sentence));
    let mut was_told = false;
    loop {
        let status = FleetStatus::ask(asked)?;
        match status.files_of(name.as_str()) {
            Files::Sound => return Ok(()),
            Files::Unknown if !was_told => {
                return fail(format!(
                    "nobody was asked who knows what is wrong with {name}: name its admin port with --admin too"
                ));
            }
            Files::Damaged(admin) => {
                is_spared(asked, group, name)?;
                match http::post(admin, "/group/repair", "") {
                    // It may begin anew before its answer is out.
                    Ok(Answered { status: 200, .. }) | Err(_) => was_told = true,
                    // Leaders change, and may be unsure for a moment.
                    Ok(Answered { status, .. }) if NOT_YET.contains(&status) && !is_over() => {}
                    refused => answer(admin, refused).map(|_| ())?,
                }
            }
            Files::Silent | Files::Unknown => {}
        }
        if is_over() {
            return fail(format!(
                "{name} does not answer, so nobody knows what is wrong with it: start its broker, and say this again"
            ));
        }
        // Nobody tells when it is there again.
        tell::wait();
    }
}

/// Makes sure that the others have everything that a damaged member had: its files may be all there is.
fn is_spared(asked: &Where, group: u8, name: &NodeName) -> Result<(), Failed> {
    let spared = tell::member(asked, group, name, "spare", None);
    spared.map_err(|(exit, sentence)| {
        let sentence = format!(
            "{sentence}; the files of {name} stay where they are. Start the other members of group {group} with their \
             data folders, and say this again; docs/operations.md says what to do when a majority is damaged"
        );
        (exit, sentence)
    })
}

/// The group of a member: as the brokers that answer say, or, of one that has left its group already and does not answer,
/// as the list of members has it.
fn group_of(asked: &Where, name: &NodeName) -> Result<u8, Failed> {
    if let Some(group) = FleetStatus::ask(asked)?.group_of(name.as_str()) {
        return Ok(group);
    }
    let listed = Members::ask(asked)?.find(name).map(|listed| listed.group);
    listed.ok_or_else(|| {
        let sentence = format!("no group that answers has a member \"{name}\"");
        (Exit::Failed, sentence)
    })
}
