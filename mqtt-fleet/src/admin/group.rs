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
use broker::raft::{Change, ChangeError};
use cluster::topology::{HostPort, NodeName};

use super::members::{Answer, Peer, allowed};
use crate::figures::Later;
use crate::group_report::{NoRepair, Reporter};
use crate::link_probe;
use crate::members::expected;

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

/// The body is one of
///
/// - `check PEER LINK`: whether the broker that takes the calls of the others at PEER and links at LINK may come;
/// - `learn PEER`: it comes, without a vote, and is waited for until it has nearly everything;
/// - `join PEER`: the same, and it gets its vote;
/// - `leave`: the member goes;
/// - `spare`: whether the group has everything without it, so that it may be repaired.
///
/// `check` and `join` may end with `instead-of NAME`: that member has no vote from the same moment on.
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
    asked.map_err(|error| {
        let status = match error {
            NoRepair::Whole | NoRepair::Unled { .. } => StatusCode::CONFLICT,
            NoRepair::Node(_) | NoRepair::Log(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        tracing::warn!(%peer, %error, "this member is not repaired");
        (status, error.to_string())
    })
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
    let asked = asked_of(name, asked).map_err(|sentence| (StatusCode::BAD_REQUEST, sentence))?;
    let reporter = broker.get().cloned().ok_or_else(starting)?;
    tracing::info!(%peer, ?asked, "asked about the group's members");
    blocking(move || carry_out(&reporter, asked)).await
}

/// Waits for other members.
fn carry_out(reporter: &Reporter, asked: Asked) -> Result<(), Answer> {
    let member = reporter.agrees().ok_or_else(|| {
        let sentence = "this broker is alone in its group and has no address for others: give it one with ctl move-member \
                        --peer, and start it again";
        (StatusCode::CONFLICT, sentence.to_owned())
    })?;
    let failed = |error: ChangeError| (status(&error), error.to_string());
    match asked {
        Asked::Change(change) => member.change(change, CHANGE_WAIT).map_err(failed),
        Asked::Spare(name) => member.can_spare(&name).map_err(failed),
        Asked::Check(coming) => {
            let checked = member.check(&coming.name, &coming.peer, coming.instead_of.as_ref());
            checked.map_err(failed)?;
            let checked = link_probe::check(reporter, &coming.name, &coming.link);
            checked.map_err(|error| (StatusCode::CONFLICT, error.to_string()))
        }
    }
}

/// Runs what waits for a disk or for others.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// What is asked of a group's leader.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Change(Change),
    Check(Check),
    Spare(NodeName),
}

/// A member that may come, and the one that goes for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    name: NodeName,
    peer: HostPort,
    link: HostPort,
    instead_of: Option<NodeName>,
}

/// The error is a sentence.
fn asked_of(name: &str, asked: &str) -> Result<Asked, String> {
    let name: NodeName = expected(name)?;
    let words: Vec<_> = asked.split_whitespace().collect();
    let (words, instead_of) = match &words[..] {
        [words @ .., "instead-of", old] => (words, Some(expected(old)?)),
        words => (words, None),
    };
    match (words, instead_of) {
        (["check", peer, link], instead_of) => {
            let (peer, link) = (expected(peer)?, expected(link)?);
            Ok(Asked::Check(Check {
                name,
                peer,
                link,
                instead_of,
            }))
        }
        (["join", address], instead_of) => {
            let address = expected(address)?;
            Ok(Asked::Change(match instead_of {
                Some(old) => Change::Replace { old, name, address },
                None => Change::Add { name, address },
            }))
        }
        (["learn", address], None) => {
            let address = expected(address)?;
            Ok(Asked::Change(Change::Learn { name, address }))
        }
        (["leave"], None) => Ok(Asked::Change(Change::Remove { name })),
        (["spare"], None) => Ok(Asked::Spare(name)),
        _ => Err(format!(
            "{asked:?}: expected check PEER LINK, learn PEER, join PEER, leave or spare"
        )),
    }
}

fn status(error: &ChangeError) -> StatusCode {
    match error {
        ChangeError::NotLeader { .. } => StatusCode::MISDIRECTED_REQUEST,
        ChangeError::Unreachable(_) => StatusCode::BAD_GATEWAY,
        ChangeError::Unknown(_) => StatusCode::NOT_FOUND,
        ChangeError::InUse(_)
        | ChangeError::Another { .. }
        | ChangeError::Named(_)
        | ChangeError::BothVote { .. }
        | ChangeError::Full
        | ChangeError::Needed { .. }
        | ChangeError::Coming(_)
        | ChangeError::Last(_)
        | ChangeError::TooFew { .. }
        | ChangeError::Busy => StatusCode::CONFLICT,
        ChangeError::NoSuccessor(_) => StatusCode::SERVICE_UNAVAILABLE,
        ChangeError::TooLong { .. } => StatusCode::GATEWAY_TIMEOUT,
        ChangeError::Refused(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read() {
        let name = || "b-1".parse().expect("a name");
        let old = || "b-0".parse().expect("a name");
        let address = || "host:1".parse().expect("an address");
        let link = || "host:2".parse().expect("an address");
        let (who, at) = (name, address);
        let check = |instead_of| {
            Asked::Check(Check {
                name: name(),
                peer: address(),
                link: link(),
                instead_of,
            })
        };
        let change = |change| Asked::Change(change);
        for (text, asked) in [
            ("leave\n", change(Change::Remove { name: who() })),
            ("spare", Asked::Spare(who())),
            (
                "join host:1",
                change(Change::Add {
                    name: who(),
                    address: at(),
                }),
            ),
            (
                "learn host:1",
                change(Change::Learn {
                    name: who(),
                    address: at(),
                }),
            ),
            (
                "join host:1 instead-of b-0",
                change(Change::Replace {
                    old: old(),
                    name: who(),
                    address: at(),
                }),
            ),
            ("check host:1 host:2", check(None)),
            ("check host:1 host:2 instead-of b-0", check(Some(old()))),
        ] {
            assert_eq!(asked_of("b-1", text), Ok(asked), "{text}");
        }
        for (name, asked) in [
            ("b-1", ""),
            ("b-1", "join"),
            ("b-1", "join host"),
            ("b-1", "check host:1"),
            ("b-1", "leave instead-of b-0"),
            ("b-1", "join host:1 instead-of b/0"),
            ("b 1", "leave"),
        ] {
            let sentence = asked_of(name, asked).expect_err("no request");
            assert!(sentence.contains("expected"), "{sentence}");
        }
    }
}
