//! The brokers of a fleet and what they say of themselves.

use std::path::{Path, PathBuf};

use clap::Args;
use cluster::topology::HostPort;
use serde::Deserialize;

use crate::ctl::members::{Failed, address};
use crate::exit::Exit;
use crate::group_report::MemberReport;
use crate::http;

/// Where `mqtt-fleet cluster` has its fleet unless it is told another folder.
const FOLDER: &str = "./fleet";

/// A broker that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broker {
    /// Its admin port.
    pub(super) admin: String,
    /// Its name and group, where they are known before it is asked.
    pub(super) known: Option<(String, u8)>,
}

/// Which brokers are asked.
#[derive(Debug, Args)]
pub(super) struct Where {
    /// Admin port of a broker; again for each further one. Members that are not asked are known only as others know them
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    admin: Vec<HostPort>,
    /// Folder of a fleet that mqtt-fleet cluster runs: all brokers that it began with are asked, beside those of --admin [default:
    /// ./fleet, without --admin]
    #[arg(long, value_name = "DIR")]
    cluster: Option<PathBuf>,
}

impl Where {
    /// The brokers that are asked.
    pub(super) fn brokers(&self) -> Result<Vec<Broker>, Failed> {
        let mut asked = match &self.cluster {
            Some(folder) => brokers(folder)?,
            None if self.admin.is_empty() => brokers(Path::new(FOLDER))?,
            None => Vec::new(),
        };
        for admin in &self.admin {
            if !asked.iter().any(|broker| broker.admin == admin.as_str()) {
                asked.push(Broker::at(admin));
            }
        }
        Ok(asked)
    }
}

/// A broker and its answer, or why there is none.
pub(super) type Answer = (Broker, Result<MemberReport, String>);

#[derive(Deserialize)]
struct Manifest {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    group: u8,
    members: Vec<Member>,
}

#[derive(Deserialize)]
struct Member {
    name: String,
    admin: String,
}

impl Broker {
    /// One of which only the address is known.
    fn at(admin: &HostPort) -> Self {
        Self {
            admin: admin.as_str().to_owned(),
            known: None,
        }
    }
}

/// The brokers of the fleet that a launcher runs in this folder, also those that are not there at the moment.
fn brokers(folder: &Path) -> Result<Vec<Broker>, Failed> {
    let path = folder.join("cluster.json");
    let fail = |problem: String| {
        let sentence = format!(
            "{}: {problem}; it is there while mqtt-fleet cluster runs a fleet: say its folder with --cluster, or ask \
             brokers with --admin",
            path.display()
        );
        (Exit::Usage, sentence)
    };
    let text = std::fs::read_to_string(&path).map_err(|error| fail(error.to_string()))?;
    let manifest: Manifest =
        serde_json::from_str(&text).map_err(|error| fail(error.to_string()))?;
    let brokers = manifest
        .groups
        .into_iter()
        .flat_map(|Group { group, members }| {
            members
                .into_iter()
                .map(move |Member { name, admin }| Broker {
                    admin,
                    known: Some((name, group)),
                })
        });
    Ok(brokers.collect())
}

/// Asks all at the same time: one that hangs costs no more than its own wait.
pub(super) fn ask(brokers: Vec<Broker>) -> Vec<Answer> {
    std::thread::scope(|scope| {
        let asked = brokers.into_iter().map(|broker| {
            scope.spawn(move || {
                let answer = report(&broker.admin);
                (broker, answer)
            })
        });
        // All are asked before the first is waited for.
        let asked: Vec<_> = asked.collect();
        let answer = |thread: std::thread::ScopedJoinHandle<'_, Answer>| match thread.join() {
            Ok(answer) => answer,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        asked.into_iter().map(answer).collect()
    })
}

fn report(admin: &str) -> Result<MemberReport, String> {
    match http::get_soon(admin, "/group") {
        Ok(answer) if answer.status == 200 => serde_json::from_str(&answer.body)
            .map_err(|error| format!("what it says is no report of a member: {error}")),
        Ok(answer) if answer.status == 404 => Err("it is no admin port of a broker".to_owned()),
        Ok(answer) => Err(answer.body.trim_end().to_owned()),
        Err(error) => Err(format!("does not answer: {error}")),
    }
}
