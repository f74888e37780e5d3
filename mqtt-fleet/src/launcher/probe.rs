//! Whether a node is ready, and what a broker says of its group.

use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use super::plan::NodePlan;
use crate::group_report::MemberReport;
use crate::http::{self, Answered};

/// On loopback a healthy node answers in far less.
const PATIENCE: Duration = Duration::from_millis(250);

/// Asks the node. No answer means no.
pub(super) fn is_ready(node: &NodePlan) -> bool {
    match node.addresses.redis {
        Some(redis) => answers_ping(&redis.to_string()).unwrap_or(false),
        None => get(node, "/health/ready").is_some_and(|answer| answer.status == 200),
    }
}

/// What a broker says of itself and its group; `None`: it does not answer.
pub(super) fn report(node: &NodePlan) -> Option<MemberReport> {
    serde_json::from_str(&get(node, "/group")?.body).ok()
}

fn get(node: &NodePlan, path: &str) -> Option<Answered> {
    let admin = node.addresses.admin?.to_string();
    http::get_within(&admin, path, PATIENCE).ok()
}

fn answers_ping(redis: &str) -> io::Result<bool> {
    let mut stream = http::connect(redis, PATIENCE, PATIENCE)?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; b"+PONG".len()];
    stream.read_exact(&mut answer)?;
    Ok(answer == *b"+PONG")
}
