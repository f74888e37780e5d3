//! `mqtt-fleet ctl`: questions about a fleet, and what a person changes in it.

mod group;
mod members;

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use cluster::shard_key::FilterPlacement;
use cluster::slots::{GroupNo, Slot};
use cluster::topology::{ClusterFile, Topology};
use protocol::TopicFilter;

use crate::exit::{Exit, complain};
use crate::node;
use group::GroupQuestion;
use members::{MembersArgs, MoveArgs};

/// What is asked.
#[derive(Debug, Args)]
pub(crate) struct CtlArgs {
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// Say which group has a topic or a topic filter
    Where {
        /// A topic, or a topic filter
        #[arg(value_name = "TOPIC|FILTER")]
        topic: String,
        /// The cluster file
        #[arg(long, value_name = "FILE")]
        cluster: PathBuf,
        /// What a node of the fleet last knew: the file it keeps (a broker in its data folder, a proxy in its
        /// cluster.cache). Without it: the slots a new fleet begins with
        #[arg(long, value_name = "FILE")]
        topology: Option<PathBuf>,
    },
    /// List the groups, their members and their addresses, as a node knows them
    Members(MembersArgs),
    /// Say that a broker takes links elsewhere now; proxies follow it. Asks the broker that leads group 0, on its machine
    MoveMember(MoveArgs),
    /// Say how the groups and their members are; add, remove, replace and repair members
    Group {
        #[command(subcommand)]
        question: GroupQuestion,
    },
}

/// Answers on standard output.
pub(crate) fn run(args: &CtlArgs) -> Exit {
    let answer = match &args.question {
        Question::Where {
            topic,
            cluster,
            topology,
        } => where_is(topic, cluster, topology.as_deref())
            .map(|text| (Exit::Fine, text))
            .map_err(|errors| (Exit::Usage, errors)),
        Question::Members(args) => fine(members::list(args)),
        Question::MoveMember(args) => fine(members::move_member(args)),
        Question::Group { question } => group::run(question).map_err(one),
    };
    match answer {
        Ok((exit, answer)) => {
            print!("{answer}");
            exit
        }
        Err((exit, sentences)) => {
            for sentence in sentences {
                complain(exit, sentence);
            }
            exit
        }
    }
}

/// An answer that means that all is well.
fn fine(answer: Result<String, members::Failed>) -> Result<(Exit, String), (Exit, Vec<String>)> {
    answer.map(|text| (Exit::Fine, text)).map_err(one)
}

fn one((exit, sentence): members::Failed) -> (Exit, Vec<String>) {
    (exit, vec![sentence])
}

fn where_is(topic: &str, cluster: &Path, topology: Option<&Path>) -> Result<String, Vec<String>> {
    let filter = filter(topic)?;
    let (file, topology) = fleet(cluster, topology)?;
    Ok(Where::new(&file, topology, filter).to_string())
}

/// Every topic is a filter that matches itself.
fn filter(text: &str) -> Result<TopicFilter, Vec<String>> {
    let filter = TopicFilter::new(text);
    filter.map_err(|violation| {
        vec![format!(
            "{text:?} is no topic and no topic filter: {violation}"
        )]
    })
}

fn fleet(cluster: &Path, kept: Option<&Path>) -> Result<(ClusterFile, Topology), Vec<String>> {
    let sentences = |errors: Vec<node::NodeError>| -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    };
    let file = node::read_cluster_file(cluster).map_err(sentences)?;
    let kept = match kept {
        Some(path) => Some(node::read_kept(path).map_err(|error| vec![error.to_string()])?),
        None => None,
    };
    let topology = Topology::resume(&file, kept).map_err(|error| vec![error.to_string()])?;
    Ok((file, topology))
}

/// The answer to `where`.
struct Where {
    filter: TopicFilter,
    /// Key and slot; `None`: topics that the filter matches have different ones.
    slot: Option<(String, Slot)>,
    topology: Topology,
}

impl Where {
    fn new(file: &ClusterFile, topology: Topology, filter: TopicFilter) -> Self {
        let slot = match file.fixed.filter_placement(&filter) {
            FilterPlacement::OneSlot(slot) => {
                let key = file.fixed.rules.shard_key(filter.as_str()).to_owned();
                Some((key, slot))
            }
            FilterPlacement::EveryGroup => None,
        };
        Self {
            filter,
            slot,
            topology,
        }
    }

    fn members(&self, group: GroupNo) -> String {
        let mut text = String::new();
        for member in self.topology.members(group) {
            let gap = if text.is_empty() { "" } else { ", " };
            write!(text, "{gap}{} ({})", member.name, member.link)
                .expect("writing to a String cannot fail");
        }
        text
    }
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.filter.is_wildcard() || self.filter.shared().is_some() {
            "filter"
        } else {
            "topic"
        };
        writeln!(f, "{what:<8} {}", self.filter.as_str())?;
        if let Some((key, slot)) = &self.slot {
            let group = self.topology.table.group_of(*slot);
            writeln!(f, "key      {key}")?;
            writeln!(f, "slot     {}", slot.number())?;
            writeln!(f, "group    {}", group.0)?;
            return writeln!(f, "members  {}", self.members(group));
        }
        writeln!(
            f,
            "group    every group: topics that it matches have different keys"
        )?;
        for group in &self.topology.groups {
            let number = group.weight.group;
            writeln!(f, "members  group {}: {}", number.0, self.members(number))?;
        }
        Ok(())
    }
}
