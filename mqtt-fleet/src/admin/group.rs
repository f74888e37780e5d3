//! `/group`: how this broker and its group are.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::figures::Later;
use crate::group_report::Reporter;

/// The route, for a broker.
pub(super) fn router(reporter: Later<Arc<Reporter>>) -> Router {
    Router::new()
        .route("/group", get(report))
        .with_state(reporter)
}

async fn report(State(reporter): State<Later<Arc<Reporter>>>) -> Response {
    let Some(reporter) = reporter.get().cloned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
    };
    // It looks at the disk, which may take long.
    let text = tokio::task::spawn_blocking(move || serde_json::to_string(&reporter.report()));
    match text.await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
