//! A broker that the group did not begin with.

use std::time::{Duration, Instant};

use crate::common::broker::try_metric;
use crate::common::ctl_group::group;
use crate::common::members::{Member, Members};
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
pub(crate) struct Newcomer(Member);

impl Newcomer {
    /// Starts it with an empty folder, and a cluster file in which it has the place of another member.
    pub(crate) fn start(fleet: &Members, name: &str, instead_of: &str) -> Self {
        Self(fleet.start_newcomer(name, Some(instead_of)))
    }

    /// Has it replace a member; returns when it has its vote and its group lacks nothing.
    pub(crate) fn replace(&self, fleet: &Members, leaves: usize) {
        let name = &self.0.name;
        let leaves = &fleet.all[leaves].name;
        let addresses = self.0.addresses();
        self.change(fleet, &format!("replace {leaves} {name} {addresses}"));
        await_for(&format!("{name} does not catch up"), || {
            let role = try_metric(self.0.admin, &["mqtt_fleet_member_role"]);
            let leader = fleet.leader();
            let lag = fleet.metric(leader, &["mqtt_fleet_member_lag_max"]);
            // It is a member as soon as it has the entries; its group reads the snapshot meanwhile.
            let applied = try_metric(self.0.admin, &["mqtt_fleet_group_applied_index"]);
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
            try_metric(self.0.admin, &["mqtt_fleet_group_leads"]) == Some(1.0)
        });
    }

    /// Makes a change of members, which may take longer than the command waits.
    fn change(&self, fleet: &Members, words: &str) {
        let mut admins = fleet.admins();
        admins.push(self.0.admin);
        let mut said = String::new();
        await_for(words, || {
            let (code, text) = group(&admins, words);
            said.push_str(&text);
            code == Some(0)
        });
        println!("{said}");
    }

    /// Whether it began with a snapshot.
    pub(crate) fn had_snapshot(&self) -> bool {
        let process = self.0.process.as_ref().expect("it runs");
        process
            .output()
            .contains("goes on from another one's snapshot")
    }
}

/// Waits for what gives no notice.
pub(crate) fn await_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not after {PATIENCE:?}");
        pause(LOOK_EVERY);
    }
}
