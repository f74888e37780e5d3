//! The admin port: `/metrics`, `/health/live`, `/health/ready`, one page for people at `/`, `/members` of a fleet, and
//! `/group` of a broker.
//!
//! It has a thread of its own, so that a scrape never waits for MQTT traffic nor holds it up.
//! Invariant: whoever can reach this port from another machine can only read; programs on this machine can also
//! change the members of the fleet (`members`, `group`).

mod connection;
mod group;
mod health;
mod members;
mod page;

use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::sync::oneshot;

use crate::figures::Later;
use crate::group_report::{MemberRole, Reporter};
use crate::metrics::Exposition;
use connection::Bounded;
pub(crate) use health::{Health, Phase};
pub(crate) use members::Fleet;
use members::Peer;

/// What the pages are made of.
struct Shown {
    health: Arc<Health>,
    exposition: Exposition,
    /// What the process is there for, and where.
    serves: String,
    /// A broker's, once there is something to report.
    reporter: Option<Later<Arc<Reporter>>>,
}

/// The running admin port; closed when dropped.
#[derive(Debug)]
pub(crate) struct Admin {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Serves `listener` (non-blocking) on a thread of its own. `serves` is what the page
    /// says the process is there for, such as "MQTT on 127.0.0.1:1883"; `fleet` is there in a node of a fleet, `reporter` in a
    /// broker of one.
    pub(crate) fn start(
        listener: TcpListener,
        serves: String,
        health: Arc<Health>,
        exposition: Exposition,
        fleet: Option<Later<Fleet>>,
        reporter: Option<Later<Arc<Reporter>>>,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let mut router = router(Arc::new(Shown {
            health,
            exposition,
            serves,
            reporter: reporter.clone(),
        }));
        if let Some(fleet) = fleet {
            router = router.merge(members::router(fleet));
        }
        if let Some(reporter) = reporter {
            router = router.merge(group::router(reporter));
        }
        let service = router.into_make_service_with_connect_info::<Peer>();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("admin".into())
            .spawn(move || {
                runtime.block_on(async move {
                    let service = axum::serve(Bounded::new(listener), service);
                    tokio::select! {
                        ended = service.into_future() => {
                            tracing::error!(?ended, "the admin port has ended");
                        }
                        // Sent, or the handle is gone: both mean stop.
                        _ = stopped => {}
                    }
                });
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if matches!(ended, Some(Err(_))) {
            tracing::error!("the admin thread panicked");
        }
    }
}

fn router(shown: Arc<Shown>) -> Router {
    Router::new()
        .route("/", get(front_page))
        .route("/metrics", get(metrics))
        .route("/health/live", get(async || "live\n"))
        .route("/health/ready", get(ready))
        .with_state(shown)
}

async fn front_page(State(shown): State<Arc<Shown>>) -> Html<String> {
    Html(page::render(
        &shown.serves,
        shown.health.phase(),
        shown.exposition.key_figures(),
    ))
}

async fn metrics(State(shown): State<Arc<Shown>>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match shown.exposition.text() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ready(State(shown): State<Arc<Shown>>) -> (StatusCode, String) {
    let reporter = shown.reporter.as_ref().and_then(Later::get);
    let report = reporter.map(|reporter| reporter.standing());
    if let Some(damaged) = report.filter(|report| report.role == MemberRole::Damaged) {
        let text = format!("damaged: {}\n", damaged.health);
        return (StatusCode::SERVICE_UNAVAILABLE, text);
    }
    let (status, text) = match shown.health.phase() {
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Ready => (StatusCode::OK, "ready\n"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    };
    (status, text.to_owned())
}
