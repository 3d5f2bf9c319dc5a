//! Which HTTP requests are answered, and when does one become a WebSocket?

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{ConnectInfo, FromRequestParts, Request, State, ws::WebSocketUpgrade},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use coplay_proto::signal::{SUBPROTOCOL, SignalError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_service::Service;

use crate::{
    MetricsAccess,
    addresses::Open,
    ask::Ask,
    guard::Guard,
    peer::outbox::Inbox,
    peer::{self, Rules},
    proxies,
    registry::{Caller, Registry},
    room::Seat,
    wire::{MAX_MESSAGE, status},
};

/// The read buffer of a WebSocket, in bytes. The default of 128 KiB would be most of what an idle peer costs.
const READ_BUFFER: usize = 4 * 1024;
/// How much is collected before it is written, in bytes.
const WRITE_BUFFER: usize = 4 * 1024;
/// How much may wait in a WebSocket that does not take it, in bytes: more than a message and the buffer.
const MAX_WRITE_BUFFER: usize = WRITE_BUFFER + 2 * MAX_MESSAGE;
/// How many peers at once are told over an open WebSocket why they are not let in. The others see an HTTP status.
const REFUSALS: usize = 256;
/// How many seconds who came too often, or to a full server, is asked to wait before the next try.
const RETRY_AFTER: &str = "5";

/// What every request may need.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) registry: Arc<Registry>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) guard: Arc<Guard>,
    metrics: MetricsAccess,
    refusals: Arc<Semaphore>,
    page: Option<Router>,
}

impl Door {
    pub(crate) fn new(
        registry: Arc<Registry>,
        rules: Arc<Rules>,
        guard: Arc<Guard>,
        metrics: MetricsAccess,
        page: Option<Router>,
    ) -> Self {
        Self { registry, rules, guard, metrics, refusals: Arc::new(Semaphore::new(REFUSALS)), page }
    }

    /// What the port of signaling answers.
    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .fallback(enter)
            .with_state(self.clone())
    }

    /// What the port of metrics answers, if there is one.
    pub(crate) fn metrics_router(&self) -> Router {
        let door = Self { metrics: MetricsAccess::Public, ..self.clone() };
        Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(door)
    }

    /// Finds a peer its place, if it may have one; what is counted for it until it leaves comes along.
    async fn admit(
        &self,
        parts: &Parts,
        coplay: bool,
    ) -> Result<((OwnedSemaphorePermit, Open), Seat, Inbox), SignalError> {
        let visitor = self.guard.visit(source(parts), &parts.headers)?;
        if self.rules.is_stopping() {
            return Err(SignalError::Stopping);
        }
        let ask = Ask::read(&parts.uri, coplay, self.rules.limits.room_peers)?;
        self.guard.check(&visitor, &ask)?;
        let open = visitor.stay().ok_or(SignalError::TooMuch)?;
        let caller = Caller { coplay, host: host(&parts.headers), visitor: &visitor };
        let (permit, seat, inbox) = self.registry.join(ask, caller).await?;
        Ok(((permit, open), seat, inbox))
    }
}

/// Whether new peers are welcome: for load balancers.
async fn ready(State(door): State<Door>) -> Response {
    if door.rules.is_stopping() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    "ready\n".into_response()
}

async fn metrics(State(door): State<Door>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let local = source(&parts).is_some_and(|from| from.ip().to_canonical().is_loopback());
    let allowed = match door.metrics {
        MetricsAccess::Public => true,
        MetricsAccess::Loopback => local && !proxies::is_forwarded(&parts.headers),
        MetricsAccess::At(_) => false,
    };
    if !allowed {
        return (StatusCode::NOT_FOUND, "metrics are not for everyone: see --metrics-listen\n").into_response();
    }
    let Rules { limits, metrics, .. } = &*door.rules;
    let text = metrics.text(door.registry.occupancy(), limits, door.rules.is_stopping());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// Who connected, where our own server accepted it.
fn source(parts: &Parts) -> Option<SocketAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(from)| *from)
}

/// A WebSocket comes in, whatever its path; everything else is the page's.
async fn enter(State(door): State<Door>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let wants_websocket =
        parts.headers.get(header::UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !wants_websocket {
        return match door.page {
            Some(mut page) => page.call(Request::from_parts(parts, body)).await.into_response(),
            None => {
                (StatusCode::NOT_FOUND, "this is a signaling server: join a room at ws://HOST/ROOM\n").into_response()
            }
        };
    }
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    let coplay = upgrade.requested_protocols().any(|protocol| protocol.as_bytes() == SUBPROTOCOL.as_bytes());
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_WRITE_BUFFER);
    // Before the WebSocket is there, so that who does not speak our subprotocol is refused by an HTTP status. If it
    // never comes to be, the seat is dropped.
    let joined = door.admit(&parts, coplay).await;
    let rules = door.rules;
    match joined {
        Ok((counted, seat, inbox)) => {
            rules.metrics.joins.add(if coplay { "coplay" } else { "matchbox" }, 1);
            upgrade.on_upgrade(async move |socket| {
                peer::serve(socket, seat, inbox, coplay, rules).await;
                drop(counted);
            })
        }
        Err(error) => match door.refusals.try_acquire_owned() {
            Ok(permit) if coplay => upgrade.on_upgrade(move |socket| peer::refuse(socket, error, permit, rules)),
            _ => {
                rules.metrics.refused(&error);
                refusal(&error, coplay)
            }
        },
    }
}

/// Says no before a WebSocket is there: in JSON to a peer that knows the type, else in words.
fn refusal(error: &SignalError, coplay: bool) -> Response {
    let mut response = match coplay {
        true => (status(error), Json(error)).into_response(),
        false => (status(error), format!("{error}\n")).into_response(),
    };
    if matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
    }
    response
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refusal_without_a_websocket_is_still_typed_for_our_peers() {
        let error = SignalError::RoomFull { max: 2 };
        let response = refusal(&error, true);
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(refusal(&SignalError::TooMuch, false).headers()[header::RETRY_AFTER], RETRY_AFTER);
        let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
        assert_eq!(serde_json::from_slice::<SignalError>(&body).unwrap(), error);
        let body = axum::body::to_bytes(refusal(&error, false).into_body(), 1000).await.unwrap();
        assert!(body.starts_with(b"the room is full"), "{body:?}");
    }
}
