//! A fleet of one group with several members and one proxy, whose processes a test starts and kills itself.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::broker::{free_address, metric, try_metric};
use super::client::{Client, Connect};
use super::fleet::Process;
use super::tools::await_some;

/// How long the group may take to have a leader before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Has members read their configuration.
const CONFIGURED: [&str; 2] = ["--config", "broker.toml"];

/// A member, as long as its process runs.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) link: SocketAddr,
    /// Where it takes calls of other members.
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) process: Option<Process>,
}

impl Member {
    fn new(name: &str, with_peer: bool) -> Self {
        Self {
            name: name.to_owned(),
            link: free_address(),
            peer: with_peer.then(free_address),
            admin: free_address(),
            process: None,
        }
    }

    /// Its addresses, as `mqtt-fleet ctl group add` and `replace` take them.
    pub(crate) fn addresses(&self) -> String {
        let peer = self.peer.map(|peer| format!(" --peer {peer}"));
        format!("--link {}{}", self.link, peer.unwrap_or_default())
    }

    /// Starts it in this folder.
    fn start(&mut self, folder: &Path, cluster: &str, data: &str, more: &[String]) {
        let admin = self.admin.to_string();
        let args = ["broker", "--name", &self.name, "--cluster", cluster];
        let rest = ["--data", data, "--admin", &admin];
        let more: Vec<_> = more.iter().map(String::as_str).collect();
        let words = [&args[..], &rest, &more].concat();
        self.process = Some(Process::start(&self.name, folder, &words));
    }
}

/// The cluster file of a group with these members.
fn cluster_file<'a>(members: impl Iterator<Item = &'a Member>) -> String {
    let mut file =
        "[cluster]\nid = \"members\"\n[secret]\nfile = \"secret\"\n[[group]]\nnumber = 0\n"
            .to_owned();
    for Member {
        name, link, peer, ..
    } in members
    {
        let peer = peer.map(|peer| format!("peer = \"{peer}\"\n"));
        let peer = peer.unwrap_or_default();
        write!(
            file,
            "[[group.member]]\nname = \"{name}\"\nlink = \"{link}\"\n{peer}"
        )
        .expect("to a text");
    }
    file
}

/// The fleet.
pub(crate) struct Members {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) mqtt: SocketAddr,
    pub(crate) proxy_admin: SocketAddr,
    pub(crate) all: Vec<Member>,
    proxy: Option<Process>,
    /// Arguments of each member.
    more: Vec<String>,
}

impl Members {
    /// Starts it, and waits until the proxy serves.
    pub(crate) fn start(count: usize) -> Self {
        Self::start_with(count, "")
    }

    /// The same, with this configuration of the brokers.
    pub(crate) fn start_with(count: usize, config: &str) -> Self {
        let mut fleet = Self::begin(count, config, true, &CONFIGURED);
        fleet.start_all();
        fleet
    }

    /// A group of one that has no address for others.
    pub(crate) fn start_alone(config: &str) -> Self {
        let mut fleet = Self::begin(1, config, false, &CONFIGURED);
        fleet.start_all();
        fleet
    }

    /// Writes what it is started with. Its members get these arguments too.
    pub(crate) fn plan(count: usize, more: &[&str]) -> Self {
        Self::begin(count, "", true, more)
    }

    fn begin(count: usize, config: &str, with_peers: bool, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let members = (0..count).map(|n| Member::new(&format!("broker-{n}"), with_peers));
        let all: Vec<_> = members.collect();
        let put = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("a writable folder");
        };
        put("cluster.toml", &cluster_file(all.iter()));
        put("secret", "the secret of the fleet");
        put("broker.toml", config);
        Self {
            all,
            folder,
            mqtt: free_address(),
            proxy_admin: free_address(),
            proxy: None,
            more: more.iter().map(ToString::to_string).collect(),
        }
    }

    /// Starts all of it, and waits until the proxy serves.
    pub(crate) fn start_all(&mut self) {
        for n in 0..self.all.len() {
            self.start_member(n);
        }
        self.start_proxy();
    }

    /// Where a member keeps its data.
    pub(crate) fn data(&self, n: usize) -> PathBuf {
        self.folder.path().join(format!("data-{n}"))
    }

    pub(crate) fn start_member(&mut self, n: usize) {
        let data = format!("data-{n}");
        self.all[n].start(self.folder.path(), "cluster.toml", &data, &self.more);
    }

    /// Starts a broker that the group did not begin with: with an empty folder, and a cluster file in which it stands beside
    /// the members, or has the place of one.
    pub(crate) fn start_newcomer(&self, name: &str, instead_of: Option<&str>) -> Member {
        let mut newcomer = Member::new(name, true);
        let stays = |member: &&Member| Some(&*member.name) != instead_of;
        let members = self.all.iter().filter(stays).chain([&newcomer]);
        let cluster = format!("{name}.toml");
        let file = cluster_file(members);
        std::fs::write(self.folder.path().join(&cluster), file).expect("a writable folder");
        let data = format!("data-{name}");
        newcomer.start(self.folder.path(), &cluster, &data, &self.more);
        // A leader that is to take it in looks whether it is there.
        let process = newcomer.process.as_ref().expect("it is started");
        process.await_line("links on");
        newcomer
    }

    fn start_proxy(&mut self) {
        let (mqtt, admin) = (self.mqtt.to_string(), self.proxy_admin.to_string());
        let args = ["proxy", "--name", "proxy-0", "--cluster", "cluster.toml"];
        let rest = ["--listen", &mqtt, "--admin", &admin, "--shards", "1"];
        let words = [&args[..], &rest].concat();
        let proxy = Process::start("the proxy", self.folder.path(), &words);
        proxy.await_line("mqtt-fleet");
        self.proxy = Some(proxy);
    }

    /// Leaves a session that wants what is published below `kept`; its client is away until [`Self::ear`].
    pub(crate) fn leave_ear(&self) {
        let mut ear = Connect::v5("ear").persistent().open_at(self.mqtt);
        ear.subscribe("kept/#", 1);
        ear.vanish();
    }

    /// The client of that session, which comes back.
    pub(crate) fn ear(&self) -> Client {
        Connect::v5("ear").persistent().resume().open_at(self.mqtt)
    }

    /// The admin ports of all brokers.
    pub(crate) fn admins(&self) -> Vec<SocketAddr> {
        self.all.iter().map(|member| member.admin).collect()
    }

    /// Waits until a member leads; which.
    pub(crate) fn leader(&self) -> usize {
        let leads = |member: &Member| {
            member.process.is_some()
                && try_metric(member.admin, &["mqtt_fleet_group_leads"]) == Some(1.0)
        };
        let leader = || self.all.iter().position(leads);
        await_some(PATIENCE, leader, || "no member leads".to_owned())
    }

    /// `SIGKILL` to a member.
    pub(crate) fn kill(&mut self, n: usize) {
        let mut process = self.all[n].process.take().expect("it runs");
        process.kill9();
    }

    /// `SIGTERM` to a member, and waits until it has ended well. All that it said.
    pub(crate) fn terminate(&mut self, n: usize) -> String {
        let mut process = self.all[n].process.take().expect("it runs");
        let status = process.terminate();
        assert!(status.success(), "{status}");
        process.output()
    }

    /// A figure of a member.
    pub(crate) fn metric(&self, n: usize, parts: &[&str]) -> f64 {
        metric(self.all[n].admin, parts)
    }

    /// Waits until all members that run have applied what the leader has.
    pub(crate) fn await_even(&self) {
        let running = self.all.iter().filter(|member| member.process.is_some());
        let admins: Vec<_> = running.map(|member| member.admin).collect();
        await_even(&admins);
    }
}

/// Waits until all of these brokers have applied what any of them has: what was answered is in the log of each.
pub(crate) fn await_even(admins: &[SocketAddr]) {
    let figures = |name: &str| -> Vec<Option<f64>> {
        let of = |admin: &SocketAddr| try_metric(*admin, &[name]);
        admins.iter().map(of).collect()
    };
    let applied = || figures("mqtt_fleet_group_applied_index");
    let are_even = || {
        // What is applied is told up to a second later; it may be the same for all since none has told the newest yet.
        let last = figures("mqtt_fleet_member_last_index");
        let last = last.into_iter().flatten().fold(0.0, f64::max);
        let has_all = |at: &Option<f64>| at.is_some_and(|at| at >= last);
        applied().iter().all(has_all).then_some(())
    };
    let complaint = || format!("members stay behind: {:?}", applied());
    await_some(PATIENCE, are_even, complaint);
}
