//! Whether a node is ready.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::plan::NodePlan;

/// On loopback a healthy node answers in far less.
const PATIENCE: Duration = Duration::from_millis(250);
/// An answer is a status line and a word.
const ANSWER_BYTES_MAX: u64 = 4 << 10;

/// Asks the node. No answer means no.
pub(super) fn is_ready(node: &NodePlan) -> bool {
    let answer = match (node.addresses.redis, node.addresses.admin) {
        (Some(redis), _) => ask(redis, b"PING\r\n", b"\r\n"),
        (None, Some(admin)) => {
            let request =
                b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            ask(admin, request, b"\r\n\r\n")
        }
        (None, None) => None,
    };
    answer.is_some_and(|answer| answer.starts_with("+PONG") || answer.starts_with("HTTP/1.1 200"))
}

/// Sends `request` and reads until `end` or the end of the connection.
fn ask(address: SocketAddr, request: &[u8], end: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(request).ok()?;
    let mut answer = Vec::new();
    let mut block = [0; 512];
    let mut limited = stream.take(ANSWER_BYTES_MAX);
    while !answer.ends_with(end) {
        match limited.read(&mut block).ok()? {
            0 => break,
            n => answer.extend_from_slice(&block[..n]),
        }
        if answer.windows(end.len()).any(|part| part == end) {
            break;
        }
    }
    Some(String::from_utf8_lossy(&answer).into_owned())
}
