//! Which HTTP requests are answered, and when does one become a WebSocket?

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::{
        ConnectInfo, FromRequestParts, Request, State,
        ws::{WebSocket, WebSocketUpgrade},
    },
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use coplay_proto::signal::{SUBPROTOCOL, SignalError, lobby::Credentials};
use tokio::sync::Semaphore;
use tower_service::Service;
use tracing::{Instrument, field};

use crate::{
    MetricsAccess,
    ask::{self, Ask, Where},
    guard::Guard,
    lobby::{Lobbies, browse},
    peer::{self, Rules, line::Line},
    proxies,
    quick::{Ticket, waiting},
    registry::{Caller, Place, Registry},
    room::Entry,
    shares::Share,
    turn::Relays,
    wire::{MAX_MESSAGE, malformed, status},
};

/// How much of a WebSocket is read at once, in bytes: most signals. The default of 128 KiB would be most of what an idle
/// peer costs.
const READ_BUFFER: usize = 1024;
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

    /// Finds a peer from an address its place, if it may have one.
    async fn admit(&self, parts: &Parts, offered: &[String], from: Option<IpAddr>) -> Result<Admitted, SignalError> {
        let visitor = self.guard.visit(from, &parts.headers)?;
        if self.rules.is_stopping() {
            return Err(SignalError::Stopping);
        }
        let coplay = speaks_coplay(offered);
        let caller = Caller { coplay, host: host(&parts.headers), visitor: &visitor };
        let to = Where::read(&parts.uri, coplay, self.rules.limits.room_peers)?;
        let mut known = match coplay {
            true => Credentials::read(offered.iter().map(String::as_str)).map_err(malformed)?,
            false => Credentials::default(),
        };
        if let Some(token) = &known.resume {
            // Wherever it was matched or let in: it shows a token of the server's own.
            return Ok(Admitted::Room(Box::new(self.registry.resume(token, &caller).await?)));
        }
        known.ticket = known.ticket.or(ask::ticket(&parts.uri)?);
        self.guard.check(&visitor, &to, &known)?;
        Ok(match to {
            Where::Room(ask) => {
                let ask = Ask { credentials: known, ..ask };
                Admitted::Room(Box::new(self.registry.join(ask, caller).await?))
            }
            Where::Lobbies => Admitted::Lobbies(self.registry.menu(&visitor)?, self.registry.lobbies().clone()),
            Where::Match(wanted) => {
                let credentials = Credentials { password: None, ticket: None, ..known };
                let (share, place) = self.registry.menu(&visitor)?;
                Admitted::Match(
                    self.registry.queue().ticket(&self.registry, wanted, credentials, &caller, place),
                    share,
                )
            }
        })
    }
}

/// Somebody who was let in, and what is counted for that.
enum Admitted {
    Room(Box<Entry>),
    Lobbies((Share, Place), Arc<Lobbies>),
    Match(Ticket, Share),
}

impl Admitted {
    /// Has its WebSocket served, in a task of its own: the one in which the connection became a WebSocket has places for
    /// all that took, and each kind needs another size.
    fn serve(self, socket: WebSocket, coplay: bool, rules: Arc<Rules>) {
        match self {
            Self::Room(entry) => {
                rules.metrics.joins.add(if coplay { "coplay" } else { "matchbox" }, 1);
                peer::serve(socket, entry, coplay, rules);
            }
            Self::Lobbies(counted, lobbies) => {
                let browsing = async move {
                    tracing::debug!("looks at the public list");
                    browse::serve(Line::new(socket, rules), lobbies).await;
                    drop(counted);
                };
                tokio::spawn(browsing.in_current_span());
            }
            Self::Match(ticket, share) => {
                let waiting = waiting::serve(Line::new(socket, rules.clone()), ticket, rules, share);
                tokio::spawn(waiting.in_current_span());
            }
        }
    }
}

fn speaks_coplay(offered: &[String]) -> bool {
    offered.iter().any(|protocol| protocol == SUBPROTOCOL)
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
    let turn = door.registry.relays().map(Relays::stats);
    let text = metrics.text(door.registry.occupancy(), limits, door.rules.is_stopping(), turn);
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
    // What is logged of a peer says whose it is. The query, which may have a ticket in it, is not logged.
    let from = door.guard.client(source(&parts), &parts.headers);
    let span = tracing::debug_span!("peer", from = from.map(field::display), id = field::Empty, room = field::Empty);
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            tracing::debug!(parent: &span, error = rejection.to_string(), "does not ask for a WebSocket as it should");
            return rejection.into_response();
        }
    };
    let offered: Vec<String> =
        upgrade.requested_protocols().filter_map(|protocol| Some(protocol.to_str().ok()?.to_owned())).collect();
    let coplay = speaks_coplay(&offered);
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_WRITE_BUFFER);
    // Before the WebSocket is there, so that who does not speak our subprotocol is refused by an HTTP status. If it
    // never comes to be, the seat is dropped.
    let (refusals, rules) = (door.refusals.clone(), door.rules.clone());
    match door.admit(&parts, &offered, from).instrument(span.clone()).await {
        Ok(admitted) => upgrade.on_upgrade(move |socket| {
            let serve = async move { admitted.serve(socket, coplay, rules) };
            serve.instrument(span)
        }),
        Err(error) => {
            tracing::debug!(parent: &span, path = parts.uri.path(), error = error.to_string(), "is not let in");
            match refusals.try_acquire_owned() {
                Ok(permit) if coplay => upgrade.on_upgrade(move |socket| peer::refuse(socket, error, permit, rules)),
                _ => {
                    rules.metrics.refused(&error);
                    refusal(&error, coplay)
                }
            }
        }
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
