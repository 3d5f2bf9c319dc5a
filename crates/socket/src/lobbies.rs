//! Which rooms are in a signaling server's public list? A live one, for a menu.

use std::{collections::BTreeMap, fmt, time::Duration};

use coplay_proto::signal::{
    ClientMessage, KEEP_ALIVE, ServerMessage,
    lobby::{Credentials, Lobby, LobbyFilter, LobbyNews, Ticket},
    path,
};

#[cfg(not(target_arch = "wasm32"))]
use crate::native::lobbies::Running;
#[cfg(target_arch = "wasm32")]
use crate::web::lobbies::Running;
use crate::{
    Dial, Dialect, Down, SignalingState, SignallerEvent, SocketError, address,
    switchboard::dialer::{Dialer, Next},
};

/// How long the server may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the server is tried at first.
const ATTEMPTS: u32 = 5;
/// The most lobbies that are kept; a server of ours tells of fewer.
const MOST: usize = 1024;

/// The public list of a signaling server, kept up to date until this is dropped. Nothing in it blocks. It needs a server
/// of ours: a stock `matchbox_server` has no list.
///
/// ```no_run
/// use coplay_proto::signal::lobby::LobbyFilter;
/// use coplay_socket::{LobbyBrowser, LobbyEvent};
///
/// let filter = LobbyFilter { game: Some("arena".into()), free: 1, ..LobbyFilter::default() };
/// let mut browser = LobbyBrowser::open("ws://127.0.0.1:3536", filter);
/// // Once a frame:
/// while let Some(event) = browser.poll() {
///     if event == LobbyEvent::Changed {
///         for lobby in browser.lobbies() {
///             println!("{} {}/{}", lobby.code, lobby.players, lobby.max);
///         }
///     }
/// }
/// ```
pub struct LobbyBrowser(Running);

/// What happens to a list.
#[derive(Clone, Debug, PartialEq)]
pub enum LobbyEvent {
    /// The list is another: see [`LobbyBrowser::lobbies`].
    Changed,
    /// The connection to signaling changed. While it is lost, the list is as it was last.
    Signaling(SignalingState),
    /// There is no list. Nothing more is tried.
    Failed(SocketError),
}

impl LobbyBrowser {
    /// Those lobbies of the server at `ws://HOST:PORT` or `wss://HOST:PORT` that the filter takes; `http:` and `https:` stand
    /// for them.
    pub fn open(server: &str, filter: LobbyFilter) -> Self {
        Self::open_with_ticket(server, None, filter)
    }

    /// The same, of a server that asks for tickets: one for any room, as
    /// [`SocketConfig::ticket`](crate::SocketConfig::ticket).
    pub fn open_with_ticket(server: &str, ticket: Option<Ticket>, filter: LobbyFilter) -> Self {
        let url = format!("{}{}", server.trim_end_matches('/'), path::LOBBIES);
        let dialled = address::websocket(&url);
        let url = dialled.clone().unwrap_or(url);
        Self(Running::start(url.clone(), |now, seed| {
            let mut board = Board::new(now, url, ticket, filter, seed);
            if let Err(error) = dialled {
                board.fail(error);
            }
            board
        }))
    }

    /// Other lobbies, from now on.
    pub fn set_filter(&mut self, filter: LobbyFilter) {
        self.0.tell(Input::Filter(filter));
    }

    /// The next thing that happened, or `None` when there is nothing more for now.
    pub fn poll(&mut self) -> Option<LobbyEvent> {
        self.0.with(Board::event)
    }

    /// The lobbies, in the order of their codes.
    pub fn lobbies(&self) -> Vec<Lobby> {
        self.0.look(|board| board.lobbies.values().cloned().collect())
    }
}

impl fmt::Debug for LobbyBrowser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LobbyBrowser").field(&self.0.look(|board| board.lobbies.len())).finish()
    }
}

/// What happened to a [`Board`].
#[derive(Debug)]
pub(crate) enum Input {
    Signaller(SignallerEvent),
    Filter(LobbyFilter),
    /// Due at the latest at [`Board::deadline`].
    Elapsed,
}

/// What is to be done for one.
#[derive(Debug, PartialEq)]
pub(crate) enum Output {
    Dial(Dial),
    Send(ClientMessage),
}

/// The list, and what is to be said for it. The same on every platform; pure, as the switchboard is.
#[derive(Debug)]
pub(crate) struct Board {
    url: String,
    ticket: Option<Ticket>,
    filter: LobbyFilter,
    dialer: Dialer,
    line: Line,
    lobbies: BTreeMap<String, Lobby>,
    out: Vec<Output>,
    changed: bool,
    /// Only the newest of each counts for who looks seldom.
    signaling: Option<SignalingState>,
    failed: Option<SocketError>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Line {
    Down { again: Duration },
    Dialled { until: Duration },
    Up { keep_alive: Duration },
    Failed,
}

impl Board {
    /// `seed` spreads the reconnections of many.
    pub(crate) fn new(now: Duration, url: String, ticket: Option<Ticket>, filter: LobbyFilter, seed: u64) -> Self {
        Self {
            url,
            ticket,
            filter,
            dialer: Dialer::new(Some(Dialect::Coplay), ATTEMPTS, seed),
            line: Line::Down { again: now },
            lobbies: BTreeMap::new(),
            out: Vec::new(),
            changed: false,
            signaling: None,
            failed: None,
        }
    }

    /// When [`Input::Elapsed`] is due, if it is.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        match self.line {
            Line::Down { again } => Some(again),
            Line::Dialled { until } => Some(until),
            Line::Up { keep_alive } => Some(keep_alive),
            Line::Failed => None,
        }
    }

    /// Takes what happened; returns what is to be done.
    pub(crate) fn handle(&mut self, now: Duration, input: Input) -> Vec<Output> {
        match input {
            Input::Filter(filter) => {
                self.filter = filter;
                if let Line::Up { .. } = self.line {
                    self.watch();
                }
            }
            Input::Signaller(SignallerEvent::Opened) => {
                self.line = Line::Up { keep_alive: now + KEEP_ALIVE };
                self.signaling = Some(SignalingState::Connected);
                self.watch();
            }
            Input::Signaller(SignallerEvent::Message(ServerMessage::News(news))) => self.take(news),
            Input::Signaller(SignallerEvent::Message(ServerMessage::Error(error))) => {
                self.down(now, Down::Refused(error));
            }
            // A stock server takes it for a room.
            Input::Signaller(SignallerEvent::Message(ServerMessage::IdAssigned(_))) => {
                self.down(now, Down::WrongDialect);
            }
            Input::Signaller(SignallerEvent::Message(_) | SignallerEvent::Relayed(_)) | Input::Elapsed => {}
            Input::Signaller(SignallerEvent::Down(down)) => self.down(now, down),
        }
        match self.line {
            Line::Down { again } if again <= now => {
                self.line = Line::Dialled { until: now + ANSWER_TIMEOUT };
                self.signaling = Some(SignalingState::Connecting);
                let credentials = Credentials { ticket: self.ticket.clone(), ..Credentials::default() };
                self.out.push(Output::Dial(Dial { dialect: Dialect::Coplay, credentials }));
            }
            Line::Dialled { until } if until <= now => self.down(now, Down::Lost("it does not answer".into())),
            Line::Up { keep_alive } if keep_alive <= now => {
                self.line = Line::Up { keep_alive: now + KEEP_ALIVE };
                self.out.push(Output::Send(ClientMessage::KeepAlive));
            }
            _ => {}
        }
        std::mem::take(&mut self.out)
    }

    /// What there is to tell.
    pub(crate) fn event(&mut self) -> Option<LobbyEvent> {
        if let Some(state) = self.signaling.take() {
            return Some(LobbyEvent::Signaling(state));
        }
        if std::mem::take(&mut self.changed) {
            return Some(LobbyEvent::Changed);
        }
        self.failed.take().map(LobbyEvent::Failed)
    }

    /// As if everything had been tried.
    pub(crate) fn fail(&mut self, error: SocketError) {
        self.line = Line::Failed;
        self.failed = Some(error);
    }

    fn watch(&mut self) {
        self.out.push(Output::Send(ClientMessage::Watch(self.filter.clone())));
    }

    fn take(&mut self, news: LobbyNews) {
        self.dialer.entered();
        let LobbyNews { reset, lobbies, gone } = news;
        if reset {
            self.lobbies.clear();
        }
        for code in gone {
            self.lobbies.remove(&code);
        }
        for lobby in lobbies {
            if self.lobbies.len() < MOST || self.lobbies.contains_key(&lobby.code) {
                self.lobbies.insert(lobby.code.clone(), lobby);
            }
        }
        self.changed = true;
    }

    fn down(&mut self, now: Duration, down: Down) {
        if matches!(self.line, Line::Down { .. } | Line::Failed) {
            return;
        }
        self.line = match self.dialer.down(down) {
            Next::AtOnce => Line::Down { again: now },
            Next::After(delay, reason) => {
                self.signaling = Some(SignalingState::Lost { reason });
                Line::Down { again: now + delay }
            }
            Next::Never(refused) => {
                self.failed = Some(match refused {
                    Ok(error) => SocketError::Refused(error),
                    Err(reason) => SocketError::Unreachable { url: self.url.clone(), reason },
                });
                Line::Failed
            }
        };
    }
}

#[cfg(test)]
mod tests;
