//! `/group`: how this broker and its group are; `/group/members/NAME`: who has a vote in it; `/group/repair`: what is
//! damaged is set aside.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use broker::log::LogError;
use broker::raft::{Change, ChangeError};

use super::members::{Answer, Peer, allowed};
use crate::figures::Later;
use crate::group_report::Reporter;

/// An address has fewer; a larger body is refused.
const BODY_BYTES_MAX: usize = 1024;
/// A change is waited for so long; less than who asks waits for the answer. A new member of a large group takes longer
/// to catch up: whoever asks again waits on.
const CHANGE_WAIT: Duration = Duration::from_secs(20);

type Broker = Later<Arc<Reporter>>;

/// The routes, for a broker.
pub(super) fn router(broker: Broker) -> Router {
    Router::new()
        .route("/group", get(report))
        .route("/group/members/{name}", post(change))
        .route("/group/repair", post(repair))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(broker)
}

async fn report(State(broker): State<Broker>) -> Response {
    let Some(reporter) = broker.get().cloned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
    };
    // It looks at the disk, which may take long.
    let text = blocking(move || serde_json::to_string(&reporter.report()));
    match text.await {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The body is `join HOST:PORT`, where the new member takes the calls of the others, or `leave`.
async fn change(
    State(broker): State<Broker>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
    asked: String,
) -> Answer {
    match changed(&broker, peer, &headers, &name, &asked).await {
        Ok(()) => (StatusCode::OK, String::new()),
        Err((status, sentence)) => {
            tracing::warn!(%peer, member = ?name, asked = ?asked.trim(), sentence, "the group's members are not changed");
            (status, format!("{sentence}\n"))
        }
    }
}

/// The damaged files are set aside, and the process begins anew.
async fn repair(
    State(broker): State<Broker>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Answer {
    match repaired(&broker, peer, &headers).await {
        Ok(()) => (StatusCode::OK, String::new()),
        Err((status, sentence)) => (status, format!("{sentence}\n")),
    }
}

async fn repaired(broker: &Broker, peer: SocketAddr, headers: &HeaderMap) -> Result<(), Answer> {
    allowed(peer, headers)?;
    let reporter = broker.get().cloned().ok_or_else(starting)?;
    tracing::info!(%peer, "this member is to be repaired");
    let asked = blocking(move || reporter.repair()).await;
    let whole = || {
        let sentence = "neither the log nor a snapshot of this member is known to be damaged";
        (StatusCode::CONFLICT, sentence.to_owned())
    };
    let failed = |error: LogError| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    asked.ok_or_else(whole)?.map_err(failed)
}

fn starting() -> Answer {
    (StatusCode::SERVICE_UNAVAILABLE, "it starts".to_owned())
}

async fn changed(
    broker: &Broker,
    peer: SocketAddr,
    headers: &HeaderMap,
    name: &str,
    asked: &str,
) -> Result<(), Answer> {
    allowed(peer, headers)?;
    let change = change_of(name, asked).map_err(|sentence| (StatusCode::BAD_REQUEST, sentence))?;
    let reporter = broker.get().cloned().ok_or_else(starting)?;
    tracing::info!(%peer, ?change, "the group's members are to change");
    let made = blocking(move || {
        let member = reporter.agrees()?;
        Some(member.change(change, CHANGE_WAIT))
    });
    let alone = || {
        let sentence = "this broker is alone in its group and has no address for others: give it one with ctl move-member \
                        --peer, and start it again";
        (StatusCode::CONFLICT, sentence.to_owned())
    };
    let made = made.await.ok_or_else(alone)?;
    made.map_err(|error| (status(&error), error.to_string()))
}

/// Runs what waits for a disk or for others.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn change_of(name: &str, asked: &str) -> Result<Change, String> {
    let parsed = name.parse();
    let name = parsed.map_err(|expected| format!("{name:?}: expected {expected}"))?;
    let words: Vec<_> = asked.split_whitespace().collect();
    match words[..] {
        ["leave"] => Ok(Change::Remove { name }),
        ["join", address] => match address.parse() {
            Ok(address) => Ok(Change::Add { name, address }),
            Err(expected) => Err(format!("{address:?}: expected {expected}")),
        },
        _ => Err(format!("{asked:?}: expected join HOST:PORT, or leave")),
    }
}

fn status(error: &ChangeError) -> StatusCode {
    match error {
        ChangeError::NotLeader { .. } => StatusCode::MISDIRECTED_REQUEST,
        ChangeError::Unreachable(_) => StatusCode::BAD_GATEWAY,
        ChangeError::Unknown(_) => StatusCode::NOT_FOUND,
        ChangeError::InUse(_)
        | ChangeError::Last(_)
        | ChangeError::TooFew { .. }
        | ChangeError::Busy => StatusCode::CONFLICT,
        ChangeError::TooLong { .. } => StatusCode::GATEWAY_TIMEOUT,
        ChangeError::Refused(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_and_leaves_are_read() {
        let name = || "b-1".parse().expect("a name");
        let leave = change_of("b-1", "leave\n");
        assert_eq!(leave, Ok(Change::Remove { name: name() }));
        let address = "host:1".parse().expect("an address");
        let join = change_of("b-1", "join host:1");
        assert_eq!(
            join,
            Ok(Change::Add {
                name: name(),
                address
            })
        );
        for (name, asked) in [
            ("b-1", ""),
            ("b-1", "join"),
            ("b-1", "join host"),
            ("b 1", "leave"),
        ] {
            assert!(change_of(name, asked).is_err(), "{name} {asked}");
        }
    }
}
