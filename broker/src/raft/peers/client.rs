//! The connection to one other member: made when there is a call for it, and again when it broke.

use super::super::limits::{CALL, CALLS_MAX, CONNECT};
use super::super::network::CallError;
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
    pub(super) answer: oneshot::Sender<Result<Bytes, CallError>>,
}

/// Carries the calls to one address until nobody can make any more.
pub(super) async fn run(
    address: Box<str>,
    credentials: Arc<Credentials>,
    mut calls: mpsc::Receiver<Waiting>,
) {
    let mut was_well = true;
    while let Some(first) = calls.recv().await {
        let error = match connect(&address, &credentials).await {
            Ok(frames) => {
                if !was_well {
                    tracing::info!(%address, "reaches this member of the group again");
                }
                was_well = true;
                let Some(error) = serve(frames, first, &mut calls, &address).await else {
                    return;
                };
                error
            }
            Err(error) => {
                fail(&address, &error, [first]);
                error
            }
        };
        if was_well {
            tracing::warn!(%address, %error, "cannot reach this member of the group");
        }
        was_well = false;
        // Who called meanwhile learns it now, and is not kept waiting for the next attempt.
        while let Ok(waiting) = calls.try_recv() {
            fail(&address, &error, [waiting]);
        }
    }
}

fn fail(address: &str, error: &Broken, calls: impl IntoIterator<Item = Waiting>) {
    for call in calls {
        let error = CallError {
            address: address.into(),
            why: error.to_string().into(),
        };
        // Whoever made it may have given up.
        let _gone = call.answer.send(Err(error));
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

/// Carries calls until the connection breaks; `None`: nobody can make any more.
async fn serve(
    mut frames: Frames,
    first: Waiting,
    calls: &mut mpsc::Receiver<Waiting>,
    address: &str,
) -> Option<Broken> {
    let mut under_way: BTreeMap<u64, (Instant, Waiting)> = BTreeMap::new();
    let mut number = 0;
    let mut next = Some(first);
    let error = loop {
        if let Some(waiting) = next.take() {
            number += 1;
            frames.push(number, &waiting.call);
            under_way.insert(number, (Instant::now(), waiting));
        }
        match answered(&mut frames, &mut under_way) {
            Ok(()) => {}
            Err(error) => break error,
        }
        let oldest = under_way.first_key_value().map(|(_, (since, _))| *since);
        let turn =
            async {
                match oldest {
                    // Whoever waits for an answer is not kept waiting by a connection that is none any more.
                    Some(since) => timeout_at(since + CALL, frames.turn()).await.unwrap_or(Err(
                        Broken::TooLong {
                            what: "the answer to a call",
                            limit: CALL,
                        },
                    )),
                    None => frames.turn().await,
                }
            };
        tokio::select! {
            turned = turn => if let Err(error) = turned {
                break error;
            },
            call = calls.recv(), if under_way.len() < CALLS_MAX => match call {
                Some(call) => next = Some(call),
                None => return None,
            },
        }
    };
    let calls = under_way.into_values().map(|(_, waiting)| waiting);
    fail(address, &error, calls);
    Some(error)
}

fn answered(
    frames: &mut Frames,
    under_way: &mut BTreeMap<u64, (Instant, Waiting)>,
) -> Result<(), Broken> {
    while let Some((number, answer)) = frames.next()? {
        if let Some((_, waiting)) = under_way.remove(&number) {
            // Whoever made the call may have given up.
            let _gone = waiting.answer.send(Ok(answer));
        }
    }
    Ok(())
}
