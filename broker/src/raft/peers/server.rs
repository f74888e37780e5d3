//! The connections that other members make to this one.

use super::super::limits::{CALLS_MAX, CONNECT, CONNECTIONS_MAX};
use super::complaints::Complaints;
use super::frames::{Broken, Frames};
use super::handshake::Handshake;
use super::{Answerer, Credentials, nonce};
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Bytes of answers that may wait for a socket before no more calls are read from it. Answers are small.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// Takes connections and answers the calls that come over them, until it is dropped.
pub(in super::super) async fn run(
    listener: TcpListener,
    credentials: Arc<Credentials>,
    answer: Answerer,
) {
    let mut connections = JoinSet::new();
    let complaints = Arc::new(Mutex::new(Complaints::default()));
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, from)) if connections.len() < CONNECTIONS_MAX => {
                    let (credentials, answer) = (Arc::clone(&credentials), Arc::clone(&answer));
                    let complaints = Arc::clone(&complaints);
                    connections.spawn(async move {
                        let broken = serve(socket, &credentials, &answer).await;
                        if let Err(error) = broken {
                            ended(from, &error, &complaints);
                        }
                    });
                }
                Ok((_, from)) => {
                    tracing::warn!(%from, max = CONNECTIONS_MAX, "too many connections of members; closed one");
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections of members; trying again");
                    tokio::time::sleep(CONNECT).await;
                }
            },
            Some(_ended) = connections.join_next() => {}
        }
    }
}

/// Says why a connection has ended. A stranger calls again and again, each time from another port.
fn ended(from: SocketAddr, error: &Broken, complaints: &Mutex<Complaints>) {
    if !matches!(error, Broken::Stranger(_)) {
        tracing::info!(%from, %error, "a connection of another member has ended");
        return;
    }
    let what = format!("{}: {error}", from.ip());
    let mut complaints = complaints.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(unsaid) = complaints.due(Instant::now(), &what) {
        tracing::warn!(from = %from.ip(), %error, unsaid, "a stranger calls this member of the group, and is sent away");
    }
}

async fn serve(
    socket: TcpStream,
    credentials: &Credentials,
    answer: &Answerer,
) -> Result<(), Broken> {
    let mut frames = Frames::accept(socket, credentials.tls.as_deref())?;
    let known = timeout(CONNECT, welcome(&mut frames, credentials)).await;
    known.unwrap_or(Err(Broken::TooLong {
        what: "the caller's proof who it is",
        limit: CONNECT,
    }))?;
    let mut answers: JoinSet<(u64, Bytes)> = JoinSet::new();
    loop {
        while answers.len() < CALLS_MAX {
            let Some((number, call)) = frames.next()? else {
                break;
            };
            let answer = answer(call);
            answers.spawn(async move { (number, answer.await) });
        }
        let may_read = answers.len() < CALLS_MAX && frames.waiting_bytes() < WAITING_BYTES_MAX;
        tokio::select! {
            Some(answered) = answers.join_next() => {
                if let Ok((number, answer)) = answered {
                    frames.push(number, &answer);
                }
            }
            turned = frames.turn(), if may_read || frames.waiting_bytes() > 0 => turned?,
        }
    }
}

async fn welcome(frames: &mut Frames, credentials: &Credentials) -> Result<(), Broken> {
    let known = greet(frames, credentials).await;
    if let Err(Broken::Stranger(stranger)) = &known
        && let Some(word) = stranger.told(credentials.group)
    {
        frames.push(0, &word);
        while frames.waiting_bytes() > 0 {
            frames.turn().await?;
        }
    }
    known
}

async fn greet(frames: &mut Frames, credentials: &Credentials) -> Result<(), Broken> {
    let mut handshake = Handshake::new(&credentials.secret);
    handshake.take_hello(credentials.group, &frames.receive().await?.1)?;
    let nonce = nonce()?;
    handshake.challenge(&nonce)?;
    frames.push(0, &nonce);
    handshake.check_caller(&frames.receive().await?.1)?;
    frames.push(0, &handshake.called_proof());
    frames.trust();
    Ok(())
}
