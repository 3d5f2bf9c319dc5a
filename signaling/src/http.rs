//! Which HTTP requests are answered, and when does one become a WebSocket?

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{ConnectInfo, FromRequestParts, Request, State, ws::WebSocketUpgrade},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use coplay_proto::signal::{SUBPROTOCOL, SignalError, lobby::Credentials};
use tokio::sync::Semaphore;
use tower_service::Service;

use crate::{
    ask::Place,
    lobby::browse,
    peer::{self, Rules, line::Line},
    quick::waiting,
    registry::{Caller, Registry},
    wire::{MAX_MESSAGE, malformed, status},
};

/// The read buffer of a WebSocket, in bytes. The default of 128 KiB would be most of what an idle peer costs.
const READ_BUFFER: usize = 4 * 1024;
/// How much is collected before it is written, in bytes.
const WRITE_BUFFER: usize = 4 * 1024;
/// How much may wait in a WebSocket that does not take it, in bytes: more than a message and the buffer.
const MAX_WRITE_BUFFER: usize = WRITE_BUFFER + 2 * MAX_MESSAGE;
/// How many peers at once are told over an open WebSocket why they are not let in. The others see an HTTP status.
const REFUSALS: usize = 256;

/// What every request may need.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) registry: Arc<Registry>,
    pub(crate) rules: Arc<Rules>,
    refusals: Arc<Semaphore>,
    page: Option<Router>,
}

impl Door {
    pub(crate) fn new(registry: Arc<Registry>, rules: Arc<Rules>, page: Option<Router>) -> Self {
        Self { registry, rules, refusals: Arc::new(Semaphore::new(REFUSALS)), page }
    }

    pub(crate) fn router(&self) -> Router {
        Router::new().route("/healthz", get(async || "ok")).fallback(enter).with_state(self.clone())
    }
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
    let offered: Vec<String> =
        upgrade.requested_protocols().filter_map(|protocol| Some(protocol.to_str().ok()?.to_owned())).collect();
    let coplay = offered.iter().any(|protocol| protocol == SUBPROTOCOL);
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_WRITE_BUFFER);
    let from = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
    let caller = Caller { coplay, host: host(&parts.headers), from };
    // Before the WebSocket is there, so that who does not speak our subprotocol is refused by an HTTP status. If it
    // never comes to be, the seat is dropped.
    let (refusals, rules) = (door.refusals.clone(), door.rules.clone());
    match door.admit(upgrade, &parts.uri, &offered, caller).await {
        Ok(response) => response,
        Err((upgrade, error)) => match refusals.try_acquire_owned() {
            Ok(permit) if coplay => upgrade.on_upgrade(move |socket| peer::refuse(socket, error, permit, rules)),
            _ => refusal(&error, coplay),
        },
    }
}

impl Door {
    /// Has a WebSocket served where it wants to be, or gives it back with the reason why not.
    async fn admit(
        self,
        upgrade: WebSocketUpgrade,
        uri: &Uri,
        offered: &[String],
        caller: Caller<'_>,
    ) -> Result<Response, (WebSocketUpgrade, SignalError)> {
        let Self { registry, rules, .. } = self;
        let coplay = caller.coplay;
        let place = match Place::read(uri, coplay, rules.limits.room_peers) {
            Ok(place) => place,
            Err(error) => return Err((upgrade, error)),
        };
        match place {
            Place::Room(mut ask) => {
                ask.credentials = match Credentials::read(offered.iter().map(String::as_str)) {
                    Ok(credentials) => credentials,
                    Err(error) => return Err((upgrade, malformed(error))),
                };
                match registry.join(ask, caller).await {
                    Ok(entry) => Ok(upgrade.on_upgrade(move |socket| peer::serve(socket, entry, coplay, rules))),
                    Err(error) => Err((upgrade, error)),
                }
            }
            Place::Lobbies => match registry.menu(caller.from) {
                Ok(counted) => Ok(upgrade.on_upgrade(async move |socket| {
                    browse::serve(Line::new(socket, rules), registry.lobbies().clone()).await;
                    drop(counted);
                })),
                Err(error) => Err((upgrade, error)),
            },
            Place::Match(wanted) => match registry.menu(caller.from) {
                Ok((share, permit)) => {
                    let resumable =
                        Credentials::read(offered.iter().map(String::as_str)).is_ok_and(|read| read.resumable);
                    let ticket = registry.queue().ticket(&registry, wanted, resumable, &caller, permit);
                    Ok(upgrade.on_upgrade(async move |socket| {
                        waiting::serve(Line::new(socket, rules.clone()), ticket, rules, share).await;
                    }))
                }
                Err(error) => Err((upgrade, error)),
            },
        }
    }
}

/// Says no before a WebSocket is there: in JSON to a peer that knows the type, else in words.
fn refusal(error: &SignalError, coplay: bool) -> Response {
    match coplay {
        true => (status(error), Json(error)).into_response(),
        false => (status(error), format!("{error}\n")).into_response(),
    }
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
        let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
        assert_eq!(serde_json::from_slice::<SignalError>(&body).unwrap(), error);
        let body = axum::body::to_bytes(refusal(&error, false).into_body(), 1000).await.unwrap();
        assert!(body.starts_with(b"the room is full"), "{body:?}");
    }
}
