//! `/members`: who is in the fleet, and what the admin port lets a person change of that.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use broker::group::{ChangeError, GroupTopology};
use broker::machine::TopologyRefused;
use cluster::topology::{MemberChange, MemberError, SharedTopology};
use tokio::sync::Semaphore;

use super::connection::Bounded;
use crate::figures::Later;
use crate::members::{MemberList, MemberRequest, expected};

/// An address has fewer; a larger body is refused.
const BODY_BYTES_MAX: usize = 1024;
/// Changes that wait for the log at the same time; further ones are refused.
const CHANGES_MAX: usize = 8;

/// What the admin port shows of the fleet once the process knows it.
#[derive(Clone)]
pub(crate) struct Fleet {
    /// The topology.
    pub(crate) shared: Arc<SharedTopology>,
    /// The log that it is changed in; `None`: that is another node's.
    pub(crate) log: Option<GroupTopology>,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self(*stream.remote_addr())
    }
}

struct Members {
    fleet: Later<Fleet>,
    changes: Arc<Semaphore>,
}

pub(super) type Answer = (StatusCode, String);

/// The routes, for a node of a fleet.
pub(super) fn router(fleet: Later<Fleet>) -> Router {
    let members = Members {
        fleet,
        changes: Arc::new(Semaphore::new(CHANGES_MAX)),
    };
    Router::new()
        .route("/members", get(list))
        .route("/members/{name}", post(change_member))
        .route("/members/{name}/check", post(check_member))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::new(members))
}

async fn list(State(members): State<Arc<Members>>) -> Answer {
    match members.fleet.get() {
        Some(fleet) => (
            StatusCode::OK,
            MemberList(fleet.shared.newest().topology()).to_string(),
        ),
        None => starting(),
    }
}

async fn change_member(
    State(members): State<Arc<Members>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    Path(name): Path<String>,
    headers: HeaderMap,
    asked: String,
) -> Answer {
    let change = change_of(&name, &asked);
    match members.change(peer, &headers, change).await {
        Ok(text) => (StatusCode::OK, text),
        Err((status, sentence)) => {
            tracing::warn!(%peer, member = ?name, asked = ?asked.trim(), sentence, "a member is not changed");
            (status, format!("{sentence}\n"))
        }
    }
}

/// Whether the list would take the same change, by what this node knows of it. Changes nothing.
async fn check_member(
    State(members): State<Arc<Members>>,
    Path(name): Path<String>,
    asked: String,
) -> Answer {
    let checked = change_of(&name, &asked).and_then(|change| members.check(&change));
    match checked {
        Ok(()) => (StatusCode::OK, String::new()),
        Err((status, sentence)) => (status, format!("{sentence}\n")),
    }
}

fn change_of(name: &str, to: &str) -> Result<MemberChange, Answer> {
    let wrong = |sentence| (StatusCode::BAD_REQUEST, sentence);
    let name = expected(name).map_err(wrong)?;
    let asked: MemberRequest = to.parse().map_err(wrong)?;
    Ok(asked.change(name))
}

impl Members {
    fn check(&self, change: &MemberChange) -> Result<(), Answer> {
        let fleet = self.fleet.get().ok_or_else(starting)?;
        if fleet.log.is_none() {
            return Err(elsewhere(&fleet.shared));
        }
        let mut topology = fleet.shared.newest().topology().clone();
        match topology.change(change) {
            Ok(_) => Ok(()),
            Err(error) => {
                let refused = ChangeError::Refused(TopologyRefused::Members(error));
                Err((status(&refused), refused.to_string()))
            }
        }
    }

    async fn change(
        &self,
        peer: SocketAddr,
        headers: &HeaderMap,
        asked: Result<MemberChange, Answer>,
    ) -> Result<String, Answer> {
        allowed(peer, headers)?;
        let change = asked?;
        let fleet = self.fleet.get().ok_or_else(starting)?.clone();
        let log = fleet.log.ok_or_else(|| elsewhere(&fleet.shared))?;
        let too_many = |_| {
            let sentence = "too many changes wait for the log; try again".to_owned();
            (StatusCode::SERVICE_UNAVAILABLE, sentence)
        };
        let place = Arc::clone(&self.changes)
            .try_acquire_owned()
            .map_err(too_many)?;
        tracing::info!(%peer, ?change, "the members are to change");
        let change = tokio::task::spawn_blocking(move || {
            let _place = place;
            log.change_members(change)
        });
        let stored = match change.await {
            Ok(result) => result.map_err(|error| (status(&error), error.to_string()))?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let text = MemberList(&stored).to_string();
        fleet.shared.hear(stored.as_ref().clone());
        Ok(text)
    }
}

/// Changes are taken from programs on this machine only, wherever the port can be reached from. A browser on this
/// machine may be led here by any page, and says so by an `Origin`.
pub(super) fn allowed(peer: SocketAddr, headers: &HeaderMap) -> Result<(), Answer> {
    let refuse = |sentence: &str| Err((StatusCode::FORBIDDEN, sentence.to_owned()));
    if !peer.ip().to_canonical().is_loopback() {
        return refuse("changes are taken from programs on the broker's own machine only");
    }
    if headers.contains_key(header::ORIGIN) {
        return refuse("changes are not taken from browsers");
    }
    Ok(())
}

fn starting() -> Answer {
    (StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned())
}

fn elsewhere(shared: &SharedTopology) -> Answer {
    let newest = shared.newest();
    let members = newest
        .topology()
        .members(crate::broker_node::TOPOLOGY_GROUP);
    let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
    let sentence = format!(
        "members are changed at the admin port of group 0's broker ({})",
        names.join(", ")
    );
    (StatusCode::MISDIRECTED_REQUEST, sentence)
}

fn status(error: &ChangeError) -> StatusCode {
    match error {
        ChangeError::NotServing | ChangeError::Ended => StatusCode::SERVICE_UNAVAILABLE,
        ChangeError::Refused(TopologyRefused::Members(MemberError::Unknown { .. })) => {
            StatusCode::NOT_FOUND
        }
        ChangeError::Refused(_) => StatusCode::CONFLICT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn status_of(peer: &str, headers: &HeaderMap) -> Option<StatusCode> {
        let peer = peer.parse().expect("an address");
        allowed(peer, headers).err().map(|(status, _)| status)
    }

    #[test]
    fn only_programs_on_this_machine_change_anything() {
        let plain = HeaderMap::new();
        for own in [
            "127.0.0.1:9",
            "127.8.0.1:9",
            "[::1]:9",
            "[::ffff:127.0.0.1]:9",
        ] {
            assert_eq!(status_of(own, &plain), None, "{own}");
        }
        for other in ["10.0.0.1:9", "[::ffff:10.0.0.1]:9", "[2001:db8::1]:9"] {
            assert_eq!(
                status_of(other, &plain),
                Some(StatusCode::FORBIDDEN),
                "{other}"
            );
        }
        let mut of_a_page = HeaderMap::new();
        of_a_page.insert(
            header::ORIGIN,
            HeaderValue::from_static("http://127.0.0.1:9"),
        );
        assert_eq!(
            status_of("127.0.0.1:9", &of_a_page),
            Some(StatusCode::FORBIDDEN)
        );
    }
}
