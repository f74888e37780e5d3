//! Whether a node is ready, and what a broker says of its group.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::plan::NodePlan;
use crate::group_report::MemberReport;

/// On loopback a healthy node answers in far less.
const PATIENCE: Duration = Duration::from_millis(250);
/// An answer is a status line and a word, or what a member says of its group.
const ANSWER_BYTES_MAX: u64 = 16 << 10;

/// Asks the node. No answer means no.
pub(super) fn is_ready(node: &NodePlan) -> bool {
    let answer = match (node.addresses.redis, node.addresses.admin) {
        (Some(redis), _) => ask(redis, b"PING\r\n", Some(b"\r\n")),
        (None, Some(admin)) => {
            let request =
                b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            ask(admin, request, Some(b"\r\n\r\n"))
        }
        (None, None) => None,
    };
    answer.is_some_and(|answer| answer.starts_with("+PONG") || answer.starts_with("HTTP/1.1 200"))
}

/// What a broker says of itself and its group; `None`: it does not answer.
pub(super) fn report(node: &NodePlan) -> Option<MemberReport> {
    let request = b"GET /group HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = node
        .addresses
        .admin
        .and_then(|admin| ask(admin, request, None));
    let body = answer
        .as_deref()
        .and_then(|answer| answer.split_once("\r\n\r\n"));
    body.and_then(|(_, body)| serde_json::from_str(body).ok())
}

/// Sends `request` and reads until `end`, if there is one, or the end of the connection.
fn ask(address: SocketAddr, request: &[u8], end: Option<&[u8]>) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(request).ok()?;
    let mut answer = Vec::new();
    let mut block = [0; 512];
    let mut limited = stream.take(ANSWER_BYTES_MAX);
    let is_there =
        |answer: &[u8]| end.is_some_and(|end| answer.windows(end.len()).any(|part| part == end));
    while !is_there(&answer) {
        match limited.read(&mut block).ok()? {
            0 => break,
            n => answer.extend_from_slice(&block[..n]),
        }
    }
    Some(String::from_utf8_lossy(&answer).into_owned())
}
