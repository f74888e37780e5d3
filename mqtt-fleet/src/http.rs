//! As much of HTTP as it takes to ask the admin port of a node.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// A node on the same network connects far sooner.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// A change waits for the disk.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// What a node says of itself waits for nothing; one that hangs is to be seen soon.
const SOON: Duration = Duration::from_secs(2);
/// The longest answer is a list of members.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What a node answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// Status code.
    pub(crate) status: u16,
    /// Its text.
    pub(crate) body: String,
}

/// Asks for a page. `admin` is `host:port`.
pub(crate) fn get(admin: &str, path: &str) -> io::Result<Answered> {
    ask(admin, "GET", path, "", ANSWER_WAIT)
}

/// Asks for a page that a healthy node has at once.
pub(crate) fn get_soon(admin: &str, path: &str) -> io::Result<Answered> {
    get_within(admin, path, SOON)
}

/// Asks for a page, and waits so long for each step.
pub(crate) fn get_within(admin: &str, path: &str, wait: Duration) -> io::Result<Answered> {
    ask(admin, "GET", path, "", wait)
}

/// Sends a text.
pub(crate) fn post(admin: &str, path: &str, body: &str) -> io::Result<Answered> {
    ask(admin, "POST", path, body, ANSWER_WAIT)
}

fn ask(admin: &str, method: &str, path: &str, body: &str, wait: Duration) -> io::Result<Answered> {
    let mut stream = connect(admin, wait.min(CONNECT_WAIT), wait)?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {admin}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: \
         close\r\n\r\n{body}"
    );
    let mut answer = String::new();
    let written = stream.write_all(request.as_bytes());
    let read = written.and_then(|()| stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer));
    read.map_err(|error| in_words(error, wait))?;
    parse(&answer)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what it says is no HTTP"))
}

/// The system says only that there is nothing to read now.
fn in_words(error: io::Error, wait: Duration) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            let text = format!(
                "it said nothing within {wait:?}; its process may be stopped, or very busy"
            );
            io::Error::new(io::ErrorKind::TimedOut, text)
        }
        _ => error,
    }
}

/// Connects to `host:port`, by the first of its addresses where somebody is. `step` is the longest wait of each read and
/// write.
pub(crate) fn connect(to: &str, wait: Duration, step: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in to.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, wait) {
            Ok(stream) => {
                stream.set_read_timeout(Some(step))?;
                stream.set_write_timeout(Some(step))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn parse(answer: &str) -> Option<Answered> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Answered {
        status,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_says_nothing_is_told_of_in_words() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let admin = silent.local_addr().expect("bound").to_string();
        let wait = Duration::from_millis(20);
        let error = ask(&admin, "GET", "/group", "", wait).expect_err("nobody answers");
        assert!(
            error.to_string().starts_with("it said nothing within 20ms"),
            "{error}"
        );
    }

    #[test]
    fn status_and_text_are_taken_apart() {
        let answer = "HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nnone\n";
        let body = "none\n".to_owned();
        assert_eq!(parse(answer), Some(Answered { status: 404, body }));
        for nonsense in [
            "",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 \r\n\r\n",
            "HTTP/1.1 200 OK",
        ] {
            assert_eq!(parse(nonsense), None, "{nonsense:?}");
        }
    }
}
