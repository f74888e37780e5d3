//! A broker that the group did not begin with.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::CONFIG;
use crate::common::broker::{free_address, try_metric};
use crate::common::fleet::{Process, without_settings};
use crate::common::members::Members;
use crate::common::tools::pause;

/// Longer than a join takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(900);
/// Who lacks fewer entries than this keeps up: some are always on their way.
pub(crate) const LAG_MAX: f64 = 100.0;
/// Between two looks at what gives no notice.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What `mqtt_fleet_member_role` says of one that has a vote and follows.
const FOLLOWER: f64 = 2.0;

/// The broker, which runs.
pub(crate) struct Newcomer {
    name: &'static str,
    link: SocketAddr,
    peer: SocketAddr,
    admin: SocketAddr,
    process: Process,
}

impl Newcomer {
    /// Starts it with an empty folder, and a cluster file in which it has the place of another member.
    pub(crate) fn start(fleet: &Members, name: &'static str, instead_of: &str) -> Self {
        let (link, peer, admin) = (free_address(), free_address(), free_address());
        let folder = fleet.folder.path();
        let mut file =
            "[cluster]\nid = \"members\"\n[secret]\nfile = \"secret\"\n[[group]]\nnumber = 0\n"
                .to_owned();
        let first = std::fs::read_to_string(folder.join("cluster.toml")).expect("it is there");
        let members = first.split("[[group.member]]\n").skip(1);
        let own = format!("name = \"{name}\"\nlink = \"{link}\"\npeer = \"{peer}\"\n");
        for member in members {
            let leaves = member.contains(&format!("\"{instead_of}\""));
            let member = if leaves { &own } else { member };
            write!(file, "[[group.member]]\n{member}").expect("to a text");
        }
        let cluster = format!("{name}.toml");
        std::fs::write(folder.join(&cluster), file).expect("a writable folder");
        let words = format!(
            "broker --name {name} --cluster {cluster} --data data-{name} --admin {admin} --config {CONFIG}"
        );
        let words: Vec<_> = words.split(' ').collect();
        Self {
            name,
            process: Process::start(name, folder, &words),
            link,
            peer,
            admin,
        }
    }

    /// Has it replace a member; returns when it has its vote and its group lacks nothing.
    pub(crate) fn replace(&self, fleet: &Members, leaves: usize) {
        let Self {
            name, link, peer, ..
        } = self;
        let leaves = &fleet.all[leaves].name;
        self.change(
            fleet,
            &format!("replace {leaves} {name} --link {link} --peer {peer}"),
        );
        await_for(&format!("{name} does not catch up"), || {
            let role = try_metric(self.admin, &["mqtt_fleet_member_role"]);
            let leader = fleet.leader();
            let lag = fleet.metric(leader, &["mqtt_fleet_member_lag_max"]);
            // It is a member as soon as it has the entries; its group reads the snapshot meanwhile.
            let applied = try_metric(self.admin, &["mqtt_fleet_group_applied_index"]);
            let wanted = fleet.metric(leader, &["mqtt_fleet_group_applied_index"]) - LAG_MAX;
            role == Some(FOLLOWER) && lag < LAG_MAX && applied.is_some_and(|at| at >= wanted)
        });
    }

    /// Leaves it as the only member of its group, which `left` has left before.
    pub(crate) fn stay_alone(&self, fleet: &mut Members, left: usize) {
        for n in (0..fleet.all.len()).filter(|n| *n != left) {
            self.change(fleet, &format!("remove {}", fleet.all[n].name));
        }
        for n in 0..fleet.all.len() {
            fleet.kill(n);
        }
        await_for("it does not lead", || {
            try_metric(self.admin, &["mqtt_fleet_group_leads"]) == Some(1.0)
        });
    }

    /// Makes a change of members, which may take longer than the command waits.
    fn change(&self, fleet: &Members, words: &str) {
        let mut admins: Vec<_> = fleet.all.iter().map(|member| member.admin).collect();
        admins.push(self.admin);
        let mut said = String::new();
        await_for(words, || {
            let (is_made, text) = ctl_group(&admins, words);
            said.push_str(&text);
            is_made
        });
        println!("{said}");
    }

    /// Whether it began with a snapshot.
    pub(crate) fn had_snapshot(&self) -> bool {
        let output = self.process.output();
        output.contains("goes on from another one's snapshot")
    }
}

/// `mqtt-fleet ctl group` with these words: whether it ends well, and all that it says.
fn ctl_group(admins: &[SocketAddr], words: &str) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-fleet"));
    without_settings(&mut command);
    command.args(["ctl", "group"]).args(words.split(' '));
    for admin in admins {
        command.args(["--admin", &admin.to_string()]);
    }
    let output = command.output().expect("the binary runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("text");
    (output.status.success(), text)
}

/// Waits for what gives no notice.
pub(crate) fn await_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not after {PATIENCE:?}");
        pause(LOOK_EVERY);
    }
}
