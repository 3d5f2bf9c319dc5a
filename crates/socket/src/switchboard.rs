//! Who is to be connected, by which attempt, and what goes to signaling? The same on every platform.
//!
//! Pure: time and happenings in, orders and events out. The platform owns the peer connections and the signaller, and
//! does what [`Switchboard::poll`] says:
//!
//! ```text
//!   signaller ──Input::Signaller──▶ ┌─────────────┐ ──Output::Dial, Send──▶ signaller
//!   peer connections ──Local..,     │ Switchboard │ ──Start, Describe, Candidate, Stop──▶ peer connections
//!        Open, Closed, Failed──▶    └─────────────┘ ──Event──▶ Socket::poll
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use coplay_proto::{
    Lane, PeerId,
    link::CloseReason,
    signal::{
        ClientMessage, IceServer, KEEP_ALIVE, Report, ServerMessage, Signal, SignalError, lobby::RoomCommand, path,
    },
};

use self::{
    dialer::{Dialer, Next},
    handshake::{Handshake, Stage},
    mark::Mark,
    reentry::Past,
    relay::{Relay, pace::Pace},
};
use crate::{
    Dial, Dialect, Down, Entered, PathKind, RoomEvent, SignalingState, SignallerEvent, SocketConfig, SocketError,
    SocketEvent,
};

mod attempts;
pub(crate) mod dialer;
mod handshake;
mod mark;
mod members;
mod mending;
mod reentry;
mod relay;
mod relays;
mod signals;

/// The most peers that are connected, or being connected, at once. Signals of more are refused.
pub(crate) const MAX_PEERS: usize = 256;
/// How many attempts more are made where ICE found a path, so that loss is to blame and not the network.
const EXTRA_ATTEMPTS: u32 = 2;
/// How long signaling may take to answer, and then to say who we are.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// One attempt to connect with a peer, and the connection that comes of it. What belongs to an older attempt is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Attempt {
    pub(crate) peer: PeerId,
    /// Never the same for two attempts of one switchboard.
    pub(crate) number: u64,
}

impl Attempt {
    /// Whether this may be the answer to it. What others say of theirs is not known.
    fn answers(self, mark: Option<Mark>) -> bool {
        mark.is_none_or(|mark| mark.offer == self.number)
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// From the signaller.
    Signaller(SignallerEvent),
    /// The platform made the description that it was started for.
    LocalDescription(Attempt, Signal),
    /// The platform gathered a candidate: an `RTCIceCandidateInit` as JSON.
    LocalCandidate(Attempt, String),
    /// ICE found a path. Only how often it is tried, and the reason for a failure, depend on it.
    Reached(Attempt),
    /// Both channels are open.
    Open(Attempt),
    /// The peer closed its end.
    Closed(Attempt),
    /// The connection could not be made, or is lost. Another attempt may do better.
    Failed(Attempt, String),
    /// The peer's description cannot be used. Another attempt would not do better.
    Refused(Attempt, String),
    /// The peer sent more than a lane takes, or than was polled in time. What is missing now would be missing by any
    /// other connection, too. Natively, the peer is held up instead.
    #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "a browser cannot hold a peer up"))]
    Overrun(Attempt, String),
    /// The consumer wants to be rid of the peer.
    Disconnect(PeerId),
    /// The consumer hears nothing of a peer that is open, or hears it again.
    Silence(PeerId, bool),
    /// The consumer wants something of the room.
    Command(RoomCommand),
    /// By which path the attempt's connection goes.
    Path(Attempt, PathKind),
    /// After [`Output::Moved`]: what was to go by the relay that this is the attempt of is all handed over.
    Drained(Attempt),
    /// Time has passed: due at the latest at [`Switchboard::deadline`].
    Elapsed,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Output {
    /// [`crate::Signaller::dial`].
    Dial(Dial),
    /// [`crate::Signaller::hang_up`].
    HangUp,
    /// [`crate::Signaller::send`].
    Send(ClientMessage),
    /// Make a peer connection with both channels. If `offer`, make the offer and apply it as the local description.
    Start { attempt: Attempt, ice_servers: Arc<[IceServer]>, offer: bool },
    /// Apply the peer's offer and make the answer, or apply its answer.
    Describe(Attempt, Signal),
    /// Add the peer's candidate; one that cannot be added is passed over. Comes after the description.
    Candidate(Attempt, String),
    /// Close the peer connection, or forget the relay. Whatever it still says is void.
    Stop(Attempt),
    /// [`crate::Signaller::relay`].
    Relay(Bytes),
    /// A relay is open: hand out that the peer is. Datagrams for it go to [`Switchboard::relay`].
    RelayOpen(Attempt),
    /// A datagram came by a relay.
    Received(Attempt, Lane, Bytes),
    /// The connection of the attempt is to carry what the relay carried. Datagrams for the peer go there from now on; then
    /// say [`Input::Drained`]. What comes by it waits for [`Output::Admit`].
    Moved(Attempt),
    /// What comes by the attempt's connection may be handed out.
    Admit(Attempt),
    /// The attempt's connection takes the place of that which carried until now, and is stopped next: datagrams go and
    /// come by it from now on, and nothing by the other. Hand out [`SocketEvent::Mended`] and then what came by it.
    Mended(Attempt),
    /// The same, and it is a relay.
    MendedByRelay(Attempt),
    /// Hand this out.
    Event(SocketEvent),
}

/// See the top of the file.
pub(crate) struct Switchboard {
    config: SocketConfig,
    dialer: Dialer,
    signaling: Signaling,
    me: Option<PeerId>,
    /// What brings us back to our seat.
    resume: Option<String>,
    /// What brings us back to the room where the seat is gone.
    past: Past,
    /// The members that signaling has named to us, or from whom a signal came.
    met: BTreeSet<PeerId>,
    ice_servers: Arc<[IceServer]>,
    peers: BTreeMap<PeerId, Handshake>,
    /// The name of the room, as signaling says it.
    room: Arc<str>,
    /// What may be relayed; `None` if signaling relays nothing.
    pace: Option<Pace>,
    relays: BTreeMap<PeerId, Relay>,
    /// When there is room to relay more, and who was served last.
    pump_at: Option<Duration>,
    served: PeerId,
    /// When something came from signaling; and since when it is to prove that it is there, if it is.
    heard: Duration,
    doubted: Option<Duration>,
    now: Duration,
    attempts: u64,
    out: VecDeque<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Signaling {
    /// To be dialled then.
    Down { again: Duration },
    /// Dialled; nothing heard.
    Dialled { until: Duration },
    /// Open, and the server has not said who we are.
    Nameless { until: Duration },
    /// In the queue for a quick match.
    Waiting { keep_alive: Duration },
    /// There.
    Up { keep_alive: Duration },
    /// Over for good.
    Failed,
}

impl Switchboard {
    /// `seed` spreads the reconnections of many peers.
    pub(crate) fn new(now: Duration, config: SocketConfig, seed: u64) -> Self {
        Self {
            dialer: Dialer::new(config.dialect, config.signaling_attempts, seed),
            ice_servers: config.ice_servers.clone().into(),
            config,
            signaling: Signaling::Down { again: now },
            me: None,
            resume: None,
            past: Past::default(),
            met: BTreeSet::new(),
            peers: BTreeMap::new(),
            room: "".into(),
            pace: None,
            relays: BTreeMap::new(),
            pump_at: None,
            served: PeerId::from_u128(0),
            heard: now,
            doubted: None,
            now,
            attempts: 0,
            out: VecDeque::new(),
        }
    }

    /// When [`Input::Elapsed`] is due, if it is.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let signaling = match self.signaling {
            Signaling::Down { again } if self.may_dial() => Some(again),
            Signaling::Dialled { until } | Signaling::Nameless { until } => Some(until),
            Signaling::Up { keep_alive } | Signaling::Waiting { keep_alive } => Some(keep_alive),
            Signaling::Down { .. } | Signaling::Failed => None,
        };
        let peers = self.peers.values().filter_map(Handshake::deadline).chain(self.mends_deadline());
        peers.chain(signaling).chain(self.relays_deadline()).min()
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// Whether this is the attempt that counts.
    pub(crate) fn is_current(&self, attempt: Attempt) -> bool {
        self.peers.get(&attempt.peer).is_some_and(|peer| peer.attempt == Some(attempt))
    }

    /// Whether the attempt's connection is open, and what comes by it may be handed out.
    pub(crate) fn is_open(&self, attempt: Attempt) -> bool {
        self.carries(attempt, |moving| moving.there_left)
    }

    pub(crate) fn handle(&mut self, now: Duration, input: Input) {
        self.now = now;
        if let Input::Signaller(SignallerEvent::Message(_) | SignallerEvent::Relayed(_)) = input {
            self.heard = now;
        }
        match input {
            Input::Signaller(SignallerEvent::Opened) => {
                self.signaling = Signaling::Nameless { until: now + ANSWER_TIMEOUT };
            }
            Input::Signaller(SignallerEvent::Message(message)) => self.message(now, message),
            Input::Signaller(SignallerEvent::Relayed(frame)) => self.relayed(now, frame),
            Input::Signaller(SignallerEvent::Down(down)) => self.down(now, down),
            Input::LocalDescription(attempt, signal) if self.is_current(attempt) => {
                self.send_description(attempt.peer, signal);
                for candidate in self.peers.get_mut(&attempt.peer).map(Handshake::described_here).into_iter().flatten()
                {
                    self.send(attempt.peer, Signal::IceCandidate(candidate));
                }
            }
            Input::LocalCandidate(attempt, candidate) if self.is_current(attempt) => {
                if let Some(candidate) = self.peers.get_mut(&attempt.peer).and_then(|peer| peer.gathered(candidate)) {
                    self.send(attempt.peer, Signal::IceCandidate(candidate));
                }
            }
            Input::Reached(attempt) if self.is_current(attempt) => {
                if let Some(peer) = self.peers.get_mut(&attempt.peer) {
                    peer.reached(now, &self.config);
                }
            }
            Input::Open(attempt) if self.is_current(attempt) && !self.may_send(attempt) => {
                if let Some(peer) = self.peers.get_mut(&attempt.peer) {
                    peer.stage = Stage::Open;
                    (peer.relay_at, peer.retry_at) = (None, None);
                    match self.live(attempt.peer).map(Relay::is_open) {
                        None => self.opened(attempt.peer),
                        Some(true) => self.direct_opened(now, attempt.peer),
                        // The peer may be about to relay: what becomes of that comes first.
                        Some(false) => {}
                    }
                }
            }
            Input::Overrun(attempt, why) if self.is_current(attempt) || self.is_carrier(attempt) => {
                self.close(attempt.peer, CloseReason::Failed(why));
            }
            Input::Closed(attempt) | Input::Failed(attempt, _) if self.is_carrier(attempt) => {
                self.carrier_lost(attempt);
            }
            Input::Closed(attempt) if self.is_open(attempt) => {
                // The peer may have taken to another connection that never opened here.
                let replaced = self.peers.get(&attempt.peer).is_some_and(|peer| peer.is_fresh(now));
                if !replaced || !self.begin_mend(now, attempt.peer, true) {
                    self.close(attempt.peer, CloseReason::Goodbye);
                }
            }
            Input::Closed(attempt) | Input::Failed(attempt, _) if self.is_leaving(attempt) => {
                let why = "the connection was lost when it was to go over to a direct one";
                self.close(attempt.peer, CloseReason::Failed(why.into()));
            }
            // A connection that the peer closed before it opened here may be made anew by the peer.
            Input::Closed(attempt) => self.attempt_failed(now, attempt, "the peer closed it"),
            Input::Failed(attempt, why) if self.is_open(attempt) => {
                if self.begin_mend(now, attempt.peer, true) {
                    tracing::debug!(peer = %attempt.peer, why, "a connection was lost");
                    return self.elapsed(now);
                }
                self.close(attempt.peer, CloseReason::Failed(format!("the connection was lost: {why}")));
            }
            Input::Failed(attempt, why) => {
                if let Some(peer) = self.peers.get_mut(&attempt.peer).filter(|peer| peer.attempt == Some(attempt)) {
                    peer.failure = Some(why.clone());
                }
                self.attempt_failed(now, attempt, &why);
            }
            Input::Refused(attempt, why)
                if self.is_current(attempt) && (self.live(attempt.peer).is_some() || self.is_mended(attempt.peer)) =>
            {
                self.attempt_failed(now, attempt, &why);
            }
            Input::Refused(attempt, why) if self.is_current(attempt) => {
                let why = format!("the peer sent a description that cannot be used: {why}");
                self.close(attempt.peer, CloseReason::Failed(why));
            }
            Input::Path(attempt, kind) => self.path_found(attempt, kind),
            Input::Drained(attempt) => self.drained(now, attempt),
            Input::Disconnect(peer) => self.close(peer, CloseReason::Local),
            Input::Silence(peer, silent) => self.silence(now, peer, silent),
            Input::Command(command) => match self.signaling {
                Signaling::Up { .. } => self.out.push_back(Output::Send(ClientMessage::Room(command))),
                _ => self.event(SocketEvent::Room(RoomEvent::Unsent(command))),
            },
            Input::Elapsed
            | Input::LocalDescription(..)
            | Input::LocalCandidate(..)
            | Input::Reached(_)
            | Input::Open(_)
            | Input::Refused(..)
            | Input::Overrun(..) => {}
        }
        self.elapsed(now);
    }

    fn elapsed(&mut self, now: Duration) {
        let due = |deadline: Option<Duration>| deadline.is_some_and(|deadline| deadline <= now);
        let overdue = self.peers.iter().filter(|(_, peer)| due(peer.deadline()));
        for id in overdue.map(|(&id, _)| id).collect::<Vec<_>>() {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            let (relay, retry, over) = (due(peer.relay_at), due(peer.retry_at), due(peer.attempt_deadline()));
            let attempt = peer.attempt;
            if relay {
                peer.relay_at = None;
                self.start_relay(now, id);
            }
            match attempt {
                Some(attempt) if over => self.attempt_failed(now, attempt, "it took too long"),
                None if over => self.give_up(now, id),
                None if retry => self.retry(now, id),
                _ => {}
            }
        }
        self.mends_elapsed(now);
        self.relays_elapsed(now);
        match self.signaling {
            // Who was matched with others does not look for new ones because its connection was lost.
            Signaling::Down { again } if again <= now && self.may_dial() && self.is_match_over() => {
                self.fail(SocketError::Refused(SignalError::SeatGone));
            }
            Signaling::Down { again } if again <= now && self.may_dial() => {
                let patience = if self.awaits_signaling() { mending::ANSWER } else { ANSWER_TIMEOUT };
                self.signaling = Signaling::Dialled { until: now + patience };
                self.event(SocketEvent::Signaling(SignalingState::Connecting));
                self.out.push_back(Output::Dial(self.dial()));
            }
            // A browser waits for minutes.
            Signaling::Dialled { until } if until <= now => self.down(now, Down::Lost("it does not answer".into())),
            Signaling::Nameless { until } if until <= now => {
                self.down(now, Down::Lost("it does not say who we are".into()));
            }
            Signaling::Up { keep_alive } if keep_alive <= now => {
                self.out.push_back(Output::Send(ClientMessage::KeepAlive));
                self.signaling = Signaling::Up { keep_alive: now + KEEP_ALIVE };
            }
            Signaling::Waiting { keep_alive } if keep_alive <= now => {
                self.out.push_back(Output::Send(ClientMessage::KeepAlive));
                self.signaling = Signaling::Waiting { keep_alive: now + KEEP_ALIVE };
            }
            _ => {}
        }
    }

    /// Without a seat to come back to, and nothing to prove who we are by, a new connection to signaling means a new id.
    /// While peers know us by the old one, we stay who we are.
    fn may_dial(&self) -> bool {
        self.me.is_none() || self.resume.is_some() || self.may_reenter() || self.peers.is_empty()
    }

    fn is_match_over(&self) -> bool {
        let rest = self.config.url.split_once("://").map_or("", |(_, rest)| rest);
        let at = rest.find('/').map_or("", |at| rest.get(at..).unwrap_or_default());
        self.me.is_some() && self.resume.is_none() && !self.may_reenter() && at.split('?').next() == Some(path::MATCH)
    }

    fn down(&mut self, now: Duration, down: Down) {
        if matches!(self.signaling, Signaling::Down { .. } | Signaling::Failed) {
            return;
        }
        let down = match down {
            // Not the end: there may be links that are open, and the room can be entered anew.
            Down::Refused(error @ SignalError::SeatGone) => {
                self.resume = None;
                Down::Lost(error.to_string())
            }
            Down::Refused(error) if !self.is_up() && self.may_reenter() && !self.peers.is_empty() => {
                self.kept_out(&error)
            }
            down => down,
        };
        if self.resume.is_none() && !self.may_reenter() {
            self.close_relays("signaling was lost");
        }
        let next = self.dialer.down(down);
        self.signaling = match next {
            Next::AtOnce => Signaling::Down { again: now },
            Next::After(delay, reason) => {
                self.event(SocketEvent::Signaling(SignalingState::Lost { reason }));
                Signaling::Down { again: now + delay }
            }
            Next::Never(refused) => {
                let error = match refused {
                    Ok(error) => SocketError::Refused(error),
                    Err(reason) => SocketError::Unreachable { url: self.config.url.clone(), reason },
                };
                return self.fail(error);
            }
        };
    }

    /// Nothing more is tried. Who was removed from the room has no more to do with its members.
    fn fail(&mut self, error: SocketError) {
        let kicked = matches!(error, SocketError::Refused(SignalError::Kicked { .. }));
        self.past = Past::default();
        // It is told before the links that end by it.
        self.event(SocketEvent::Failed(error));
        if kicked {
            let peers: Vec<PeerId> = self.peers.keys().copied().collect();
            for peer in peers {
                self.close(peer, CloseReason::Failed("the leader of the room removed this player".into()));
            }
        }
        self.close_relays("signaling has let us go");
        self.signaling = Signaling::Failed;
    }

    fn message(&mut self, now: Duration, message: ServerMessage) {
        let nameless = matches!(self.signaling, Signaling::Nameless { .. } | Signaling::Waiting { .. });
        match message {
            ServerMessage::Welcome(welcome) if nameless && welcome.resumed && Some(welcome.me) == self.me => {
                self.resumed(now, *welcome);
            }
            ServerMessage::Welcome(welcome) if nameless && self.may_reenter() && Some(welcome.me) == self.me => {
                self.reentered(now, *welcome);
            }
            ServerMessage::Welcome(_) | ServerMessage::IdAssigned(_)
                if nameless && self.may_reenter() && !self.peers.is_empty() =>
            {
                self.renamed(now);
            }
            ServerMessage::Welcome(welcome) if nameless => {
                self.past = Past::of(&welcome);
                self.ice_servers = self.config.ice_servers.iter().cloned().chain(welcome.ice_servers).collect();
                self.resume = welcome.resume;
                self.room = welcome.room.as_str().into();
                self.offered(now, welcome.relay);
                let leader = Some(welcome.leader);
                self.entered(now, Entered { me: welcome.me, room: welcome.room, leader, members: welcome.members });
                if let Some(lobby) = welcome.lobby {
                    self.event(SocketEvent::Room(RoomEvent::Settings(lobby)));
                }
            }
            ServerMessage::IdAssigned(_) if nameless && self.config.dialect == Some(Dialect::Coplay) => {
                self.down(now, Down::WrongDialect);
            }
            ServerMessage::IdAssigned(me) if nameless => {
                let room = room_of(&self.config.url);
                (self.past, self.resume) = (Past::default(), None);
                self.offered(now, None);
                self.entered(now, Entered { me, room, leader: None, members: vec![me] });
            }
            ServerMessage::NewPeer(peer) if Some(peer) != self.me => self.new_peer(now, peer),
            ServerMessage::PeerLeft(peer) => self.peer_left(peer),
            ServerMessage::Kicked(peer) => {
                self.met.remove(&peer);
                self.close(peer, CloseReason::Failed("the leader of the room removed this player".into()));
                self.event(SocketEvent::Room(RoomEvent::Kicked(peer)));
            }
            ServerMessage::Room(lobby) => {
                self.past.told(&lobby);
                self.event(SocketEvent::Room(RoomEvent::Settings(lobby)));
            }
            ServerMessage::Denied(error) => self.event(SocketEvent::Room(RoomEvent::Denied(error))),
            ServerMessage::Waiting(status) if nameless => {
                if let Signaling::Nameless { .. } = self.signaling {
                    self.signaling = Signaling::Waiting { keep_alive: now + KEEP_ALIVE };
                    self.event(SocketEvent::Signaling(SignalingState::Connected));
                }
                self.event(SocketEvent::Room(RoomEvent::Waiting(status)));
            }
            ServerMessage::Signal { sender, data } if Some(sender) != self.me => self.signal(now, sender, data),
            ServerMessage::Leader(leader) => self.led_by(leader),
            ServerMessage::Error(error) => match error {
                // The connection stays: what was sent is void, and the attempt it belonged to will run out.
                SignalError::Malformed { detail } => tracing::warn!(detail, "signaling did not understand us"),
                error => self.down(now, Down::Refused(error)),
            },
            ServerMessage::Welcome(_)
            | ServerMessage::IdAssigned(_)
            | ServerMessage::NewPeer(_)
            | ServerMessage::Waiting(_)
            | ServerMessage::Page(_)
            | ServerMessage::News(_)
            | ServerMessage::Signal { .. } => tracing::debug!(?message, "signaling says what makes no sense now"),
        }
    }

    fn close(&mut self, peer: PeerId, reason: CloseReason) {
        let Some(handshake) = self.peers.get(&peer) else { return };
        let open = handshake.is_linked() || self.live(peer).is_some_and(Relay::is_open);
        let code = handshake.cause(self.config.ice_transport_policy, self.has_turn()).code();
        let failed = matches!(reason, CloseReason::Failed(_) | CloseReason::NoPath(_)) && !open && !handshake.reported;
        self.forget(peer, Some(&reason));
        self.event(SocketEvent::Closed(peer, reason));
        self.unfollow(peer);
        if failed {
            self.report(Report::Failed(code.into()));
        }
    }

    fn forget(&mut self, peer: PeerId, reason: Option<&CloseReason>) {
        if let Some(handshake) = self.peers.remove(&peer) {
            let carrier = handshake.mend.and_then(|mend| mend.carrier);
            self.out.extend(handshake.attempt.into_iter().chain(carrier).map(Output::Stop));
        }
        self.part(peer, reason);
    }

    /// Both channels are open of the connection that is to carry the peer.
    fn opened(&mut self, peer: PeerId) {
        let Some(handshake) = self.peers.get_mut(&peer) else { return };
        if handshake.mend.is_some() {
            return self.mended(peer);
        }
        handshake.link_begins();
        self.event(SocketEvent::Opened(peer));
    }

    /// Whether another connection is looked for, below a link that is open.
    fn is_mended(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| peer.mend.is_some())
    }

    /// Whether the attempt is taking over from a relay: neither can be done without.
    fn is_leaving(&self, attempt: Attempt) -> bool {
        self.is_current(attempt) && self.live(attempt.peer).is_some_and(|relay| relay.moving.leaving)
    }

    fn event(&mut self, event: SocketEvent) {
        self.out.push_back(Output::Event(event));
    }
}

/// The room that a URL names, for servers that do not say: its path.
fn room_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    path.split(['?', '#']).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
