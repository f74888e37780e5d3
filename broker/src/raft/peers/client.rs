//! The connection to one other member: made when there is a call for it, and again when it broke.

use super::super::config::Node;
use super::super::limits::{CALL, CALLS_MAX, CONNECT, carrying};
use super::super::network::CallError;
use super::complaints::Complaints;
use super::frames::{Broken, Frames};
use super::handshake::Handshake;
use super::{Credentials, nonce};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

/// A call that waits for its answer.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) call: Bytes,
    pub(super) answer: Answer,
}

/// Where its answer goes.
pub(super) type Answer = oneshot::Sender<Result<Bytes, CallError>>;

/// Carries the calls to one member until nobody can make any more.
pub(super) async fn run(
    to: Node,
    credentials: Arc<Credentials>,
    mut calls: mpsc::Receiver<Waiting>,
) {
    let Node { name, address } = to;
    let mut complaints = Complaints::default();
    while let Some(first) = calls.recv().await {
        let error = match connect(&address, &credentials).await {
            Ok(frames) => {
                if complaints.over() {
                    tracing::info!(member = %name, %address, "reaches this member of the group again");
                }
                let Some(error) = serve(frames, first, &mut calls, &address).await else {
                    return;
                };
                error
            }
            Err(error) => {
                fail(&address, &error, [first.answer]);
                error
            }
        };
        if let Some(unsaid) = complaints.due(Instant::now(), &error.to_string()) {
            tracing::warn!(member = %name, %address, %error, unsaid, "cannot reach this member of the group");
        }
        // Who called meanwhile learns it now, and is not kept waiting for the next attempt.
        while let Ok(waiting) = calls.try_recv() {
            fail(&address, &error, [waiting.answer]);
        }
    }
}

fn fail(address: &str, error: &Broken, calls: impl IntoIterator<Item = Answer>) {
    for answer in calls {
        let error = CallError {
            address: address.into(),
            why: error.to_string().into(),
        };
        // Whoever made it may have given up.
        let _gone = answer.send(Err(error));
    }
}

async fn connect(address: &str, credentials: &Credentials) -> Result<Frames, Broken> {
    let connected = timeout(CONNECT, async {
        let socket = TcpStream::connect(address).await?;
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let mut frames = Frames::connect(socket, credentials.tls.as_deref(), host)?;
        let mut handshake = Handshake::new(&credentials.secret);
        frames.push(0, &handshake.hello(credentials.group, &nonce()?));
        handshake.challenge(&frames.receive().await?.1)?;
        frames.push(0, &handshake.caller_proof());
        handshake.check_called(&frames.receive().await?.1)?;
        frames.trust();
        Ok(frames)
    });
    connected.await.unwrap_or(Err(Broken::TooLong {
        what: "the connection, up to the proof who the other end is,",
        limit: CONNECT,
    }))
}

/// Calls that have been given to the connection, by their numbers. Their bytes are not kept.
#[derive(Debug)]
struct UnderWay {
    calls: BTreeMap<u64, (Instant, Answer)>,
    number: u64,
    /// When the last one should have been carried to the other end, at the latest.
    carried: Instant,
}

impl UnderWay {
    fn new() -> Self {
        Self {
            calls: BTreeMap::new(),
            number: 0,
            carried: Instant::now(),
        }
    }

    /// Gives a call to the connection, if somebody waits for its answer.
    fn push(&mut self, waiting: Waiting, frames: &mut Frames) {
        if waiting.answer.is_closed() {
            return;
        }
        self.number += 1;
        frames.push(self.number, &waiting.call);
        self.carried = self.carried.max(Instant::now()) + carrying(waiting.call.len());
        let call = (self.carried + CALL, waiting.answer);
        self.calls.insert(self.number, call);
    }

    /// When the first answer is due.
    fn due(&self) -> Option<Instant> {
        self.calls.first_key_value().map(|(_, (due, _))| *due)
    }

    /// Whether nobody waits for one of them any more.
    fn is_given_up(&self) -> bool {
        self.calls.values().any(|(_, answer)| answer.is_closed())
    }

    /// Hands over the answers that have come.
    fn answered(&mut self, frames: &mut Frames) -> Result<(), Broken> {
        while let Some((number, answer)) = frames.next()? {
            if let Some((_, waiting)) = self.calls.remove(&number) {
                // Whoever made the call may have given up.
                let _gone = waiting.send(Ok(answer));
            }
        }
        Ok(())
    }
}

/// Carries calls until the connection breaks; `None`: nobody can make any more.
async fn serve(
    mut frames: Frames,
    first: Waiting,
    calls: &mut mpsc::Receiver<Waiting>,
    address: &str,
) -> Option<Broken> {
    let mut under_way = UnderWay::new();
    under_way.push(first, &mut frames);
    let error = loop {
        if let Err(error) = under_way.answered(&mut frames) {
            break error;
        }
        let due = under_way.due();
        let turn = async {
            match due {
                // Whoever waits for an answer is not kept waiting by a connection that is none any more.
                Some(due) => {
                    let turned = timeout_at(due, frames.turn()).await;
                    turned.unwrap_or(Err(Broken::Silent))
                }
                None => frames.turn().await,
            }
        };
        tokio::select! {
            turned = turn => if let Err(error) = turned {
                break error;
            },
            call = calls.recv(), if under_way.calls.len() < CALLS_MAX => match call {
                Some(call) if frames.waiting_bytes() > 0 && under_way.is_given_up() => {
                    // What nobody wants any more must not be in the way of what comes instead of it.
                    fail(address, &Broken::GivenUp, [call.answer]);
                    break Broken::GivenUp;
                }
                Some(call) => under_way.push(call, &mut frames),
                None => return None,
            },
        }
    };
    let answers = under_way.calls.into_values().map(|(_, answer)| answer);
    fail(address, &error, answers);
    Some(error)
}
