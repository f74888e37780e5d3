//! Asks the leaders of groups for changes.

use std::time::{Duration, Instant};

use cluster::topology::NodeName;

use super::fleet::Where;
use super::status::FleetStatus;
use crate::broker_node::TOPOLOGY_GROUP;
use crate::ctl::members::{Failed, answer};
use crate::exit::Exit;
use crate::http;
use crate::members::{Listed, MemberRequest};

/// A leader is waited for so long: an election takes less than a second.
const LEADER_WAIT: Duration = Duration::from_secs(10);
/// Between two questions who leads.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(200);
/// What a leader answers where there is no such member.
pub(super) const UNKNOWN: u16 = 404;
/// What a broker answers that does not lead, or not any more: 421, 503.
const NOT_THE_LEADER: [u16; 2] = [421, 503];

/// The list of members, as group 0's leader has it.
pub(super) struct Members(String);

impl Members {
    pub(super) fn ask(asked: &Where) -> Result<Self, Failed> {
        let ask = |admin: &str| http::get_soon(admin, "/members");
        with_leader(asked, TOPOLOGY_GROUP.0, None, ask).map(Self)
    }

    pub(super) fn find(&self, name: &NodeName) -> Option<Listed> {
        Listed::find(&self.0, name)
    }
}

/// Has group 0 change the list of members. An answer of the status `so_already` is as good as that it is done.
pub(super) fn list(
    asked: &Where,
    name: &NodeName,
    what: &MemberRequest,
    so_already: Option<u16>,
) -> Result<(), Failed> {
    let (path, body) = (format!("/members/{name}"), what.to_string());
    let post = |admin: &str| http::post(admin, &path, &body);
    with_leader(asked, TOPOLOGY_GROUP.0, so_already, post).map(|_| ())
}

/// Whether group 0 would take the same change.
pub(super) fn check_list(
    asked: &Where,
    name: &NodeName,
    what: &MemberRequest,
) -> Result<(), Failed> {
    let (path, body) = (format!("/members/{name}/check"), what.to_string());
    let post = |admin: &str| http::post(admin, &path, &body);
    with_leader(asked, TOPOLOGY_GROUP.0, None, post).map(|_| ())
}

/// Asks the leader of a group about one of its members.
pub(super) fn member(
    asked: &Where,
    group: u8,
    name: &NodeName,
    what: &str,
    so_already: Option<u16>,
) -> Result<(), Failed> {
    let path = format!("/group/members/{name}");
    let post = |admin: &str| http::post(admin, &path, what);
    with_leader(asked, group, so_already, post).map(|_| ())
}

/// Asks the leader of a group, and while it has none or another one, whoever leads next.
fn with_leader(
    asked: &Where,
    group: u8,
    so_already: Option<u16>,
    ask: impl Fn(&str) -> std::io::Result<http::Answered>,
) -> Result<String, Failed> {
    let deadline = Instant::now() + LEADER_WAIT;
    loop {
        let status = FleetStatus::ask(asked)?;
        let failed = match status.leader_of(group) {
            None => (Exit::Failed, status.without_leader(group)),
            Some(admin) => {
                let answered = ask(admin);
                let may_be_another = match &answered {
                    Ok(answered) if Some(answered.status) == so_already => {
                        return Ok(String::new());
                    }
                    Ok(answered) => NOT_THE_LEADER.contains(&answered.status),
                    Err(_) => true,
                };
                match answer(admin, answered) {
                    Ok(text) => return Ok(text),
                    Err(failed) if may_be_another => failed,
                    Err(failed) => return Err(failed),
                }
            }
        };
        if Instant::now() >= deadline {
            return Err(failed);
        }
        // Nobody tells when a leader is elected.
        wait();
    }
}

/// Waits until it is time to ask again. The threads that have asked leave a wake-up behind, which ends the first wait at once.
pub(super) fn wait() {
    let until = Instant::now() + ASK_AGAIN;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_lasts_also_where_threads_have_ended() {
        std::thread::scope(|scope| {
            scope.spawn(|| ());
        });
        let began = Instant::now();
        wait();
        assert!(began.elapsed() >= ASK_AGAIN);
    }
}
