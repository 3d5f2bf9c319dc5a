//! How are peers connected in a browser? By its own `RTCPeerConnection`.
//!
//! Everything runs on the page's one thread. The browser's callbacks push into an [`inbox`] and call the waker, so
//! whoever polls there, polls where bytes arrive. What is to be done is the [`Switchboard`]'s to say.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque, btree_map::Entry},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use coplay_proto::{Lane, PeerId, signal::lobby::RoomCommand};

use self::{
    connection::Connection,
    inbox::{Happening, Inbox},
    page::Alarm,
    relays::Relays,
    signaller::WebSocketSignaller,
};
use crate::{
    Path, SendError, Signaller, Socket, SocketConfig, SocketError, SocketEvent, Waker,
    clock::now,
    switchboard::{Attempt, Input, Output, Switchboard},
    unavailable::Unavailable,
};

mod connection;
mod inbox;
mod lanes;
pub(crate) mod lobbies;
#[cfg(feature = "matchbox")]
mod matchbox;
pub(crate) mod page;
mod path;
mod peer;
mod relays;
mod signaller;

/// How often the browser is asked by which path the peers are reached.
const MEASURE: Duration = Duration::from_secs(1);

pub(crate) fn connect(config: SocketConfig, signaller: Option<Box<dyn Signaller>>) -> Box<dyn Socket> {
    if !js_sys::Reflect::has(&js_sys::global(), &"RTCPeerConnection".into()).unwrap_or(false) {
        let reason = "there is no RTCPeerConnection here: use a browser that has it, and a page instead of a worker";
        return Box::new(Unavailable(Some(SocketError::Unavailable { reason: reason.into() })));
    }
    if let Err(error) = config.check() {
        return Box::new(Unavailable(Some(error)));
    }
    Box::new(Browser::new(config, signaller))
}

struct Browser {
    config: SocketConfig,
    switchboard: Switchboard,
    signaller: Box<dyn Signaller>,
    inbox: Rc<Inbox>,
    peers: BTreeMap<PeerId, Connection>,
    /// The attempts before those, which carry until these are open: see `switchboard::mending`.
    before: BTreeMap<Attempt, Connection>,
    /// To whom another connection goes, and the caller was not told yet: what it sends may be for the one before.
    untold: BTreeSet<PeerId>,
    relays: Relays,
    /// To be handed out: what one happening led to.
    events: VecDeque<SocketEvent>,
    measure_at: Option<Duration>,
    alarm: Alarm,
}

impl Browser {
    fn new(config: SocketConfig, signaller: Option<Box<dyn Signaller>>) -> Self {
        let inbox = Rc::<Inbox>::default();
        let mut signaller =
            signaller.unwrap_or_else(|| Box::new(WebSocketSignaller::new(config.url.clone())) as Box<dyn Signaller>);
        signaller.set_waker({
            let inbox = Rc::downgrade(&inbox);
            Rc::new(move || {
                if let Some(inbox) = inbox.upgrade() {
                    inbox.wake();
                }
            })
        });
        let alarm = Alarm::new({
            let inbox = inbox.clone();
            move || inbox.wake()
        });
        let seed = js_sys::Math::random().to_bits();
        Self {
            switchboard: Switchboard::new(now(), config.clone(), seed),
            config,
            signaller,
            inbox,
            peers: BTreeMap::new(),
            before: BTreeMap::new(),
            untold: BTreeSet::new(),
            relays: Relays::default(),
            events: VecDeque::new(),
            measure_at: None,
            alarm,
        }
    }

    fn next(&mut self) -> Option<SocketEvent> {
        let now = now();
        if self.switchboard.deadline().is_some_and(|deadline| deadline <= now) {
            self.tell(now, Input::Elapsed);
        }
        if self.measure_at.is_some_and(|at| at <= now) {
            self.measure(now);
        }
        loop {
            if let Some(event) = self.events.pop_front() {
                if let SocketEvent::Mended(peer) | SocketEvent::Closed(peer, _) = &event {
                    self.untold.remove(peer);
                }
                return Some(event);
            }
            if let Some(event) = self.signaller.poll() {
                self.tell(now, Input::Signaller(event));
            } else if let Some(happening) = self.inbox.pop() {
                self.happened(now, happening);
            } else {
                break;
            }
        }
        self.alarm.set(now, self.switchboard.deadline().into_iter().chain(self.measure_at).min());
        None
    }

    fn happened(&mut self, now: Duration, happening: Happening) {
        match happening {
            Happening::Switchboard(input) => self.tell(now, input),
            Happening::Made(attempt, description) => {
                let Some(peer) = attempt_of(&mut self.peers, attempt).and_then(|peer| peer.own()) else { return };
                if let Some(signal) = peer.made(&self.inbox, description) {
                    self.tell(now, Input::LocalDescription(attempt, signal));
                }
            }
            Happening::OfferApplied(attempt) => {
                if let Some(peer) = attempt_of(&mut self.peers, attempt).and_then(|peer| peer.own()) {
                    peer.answer(&self.inbox);
                }
            }
            Happening::LaneOpen(attempt) => self.open(now, attempt),
            Happening::Received(attempt, lane, bytes) => self.received(now, attempt, lane, bytes),
            Happening::Pair(attempt, pair) => {
                let kind = pair.kind;
                if let Some(peer) = self.connection(attempt) {
                    peer.measured(pair);
                    self.tell(now, Input::Path(attempt, kind));
                }
            }
        }
    }

    /// Hands out a datagram, once both channels are known to be open.
    fn received(&mut self, now: Duration, attempt: Attempt, lane: Lane, bytes: Bytes) {
        // The browser may say what came on one channel before it says that the other one is open.
        self.open(now, attempt);
        let is_open = self.switchboard.is_open(attempt);
        let Some(peer) = self.connection(attempt) else { return };
        if is_open {
            peer.received(&bytes);
            self.events.push_back(SocketEvent::Received(attempt.peer, lane, bytes));
        } else if peer.is_open() {
            // It waits for what comes by the relay, and counts as waiting.
            peer.hold(lane, bytes);
        } else if !peer.keep(lane, bytes) {
            self.tell(now, Input::Failed(attempt, "the peer sends before it is connected".into()));
        }
    }

    fn open(&mut self, now: Duration, attempt: Attempt) {
        if !self.switchboard.may_send(attempt)
            && attempt_of(&mut self.peers, attempt).is_some_and(|peer| peer.is_open())
        {
            self.tell(now, Input::Open(attempt));
        }
    }

    /// Tells the switchboard, and does what it says.
    fn tell(&mut self, now: Duration, input: Input) {
        self.switchboard.handle(now, input);
        while let Some(output) = self.switchboard.poll() {
            self.obey(now, output);
        }
    }

    fn obey(&mut self, now: Duration, output: Output) {
        match output {
            Output::Dial(dial) => self.signaller.dial(dial),
            Output::HangUp => self.signaller.hang_up(),
            Output::Send(message) => self.signaller.send(message),
            Output::Start { attempt, ice_servers, offer } => {
                match Connection::start(&self.inbox, attempt, &ice_servers, &self.config, offer) {
                    Ok(peer) => {
                        // One that came to nothing was stopped before.
                        let before = self.peers.insert(attempt.peer, peer);
                        self.before.extend(before.map(|before| (before.attempt(), before)));
                    }
                    Err(why) => self.inbox.push(Happening::Switchboard(Input::Failed(attempt, why))),
                }
            }
            Output::Describe(attempt, signal) => {
                if let Some(peer) = attempt_of(&mut self.peers, attempt) {
                    peer.apply(&self.inbox, &signal);
                }
            }
            Output::Candidate(attempt, candidate) => {
                if let Some(peer) = attempt_of(&mut self.peers, attempt) {
                    peer.add(&candidate);
                }
            }
            Output::Stop(attempt) => {
                if let Entry::Occupied(entry) = self.peers.entry(attempt.peer)
                    && entry.get().attempt() == attempt
                {
                    entry.remove().close();
                } else if let Some(before) = self.before.remove(&attempt) {
                    before.close();
                }
                self.relays.stop(attempt);
            }
            Output::Relay(frame) => self.signaller.relay(frame),
            Output::RelayOpen(attempt) => {
                self.relays.open(attempt);
                self.events.push_back(SocketEvent::Opened(attempt.peer));
            }
            Output::Received(attempt, lane, bytes) => {
                self.relays.received(attempt, bytes.len());
                self.events.push_back(SocketEvent::Received(attempt.peer, lane, bytes));
            }
            Output::Moved(attempt) => {
                if let Some((relay, sent, received)) = self.relays.leave(attempt.peer) {
                    if let Some(peer) = attempt_of(&mut self.peers, attempt) {
                        peer.go_on_from(sent, received);
                        peer.measure(&self.inbox);
                    }
                    self.switchboard.handle(now, Input::Drained(relay));
                }
            }
            Output::Admit(attempt) => {
                if let Some(peer) = attempt_of(&mut self.peers, attempt) {
                    let held = peer.early().into_iter();
                    self.events.extend(held.map(|(lane, bytes)| SocketEvent::Received(attempt.peer, lane, bytes)));
                    self.measure_at.get_or_insert(now + MEASURE);
                }
            }
            Output::Mended(attempt) => {
                self.untold.insert(attempt.peer);
                self.events.push_back(SocketEvent::Mended(attempt.peer));
                let before = self.before.values().find(|before| before.attempt().peer == attempt.peer);
                let (sent, received) = before.map_or((0, 0), Connection::traffic);
                if let Some(peer) = attempt_of(&mut self.peers, attempt) {
                    peer.go_on_from(sent, received);
                    peer.measure(&self.inbox);
                    let held = peer.early().into_iter();
                    self.events.extend(held.map(|(lane, bytes)| SocketEvent::Received(attempt.peer, lane, bytes)));
                }
                self.measure_at.get_or_insert(now + MEASURE);
            }
            Output::MendedByRelay(attempt) => {
                self.untold.insert(attempt.peer);
                self.relays.open(attempt);
                self.events.push_back(SocketEvent::Mended(attempt.peer));
            }
            Output::Event(SocketEvent::Opened(id)) => {
                self.events.push_back(SocketEvent::Opened(id));
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.measure(&self.inbox);
                    let early = peer.early().into_iter();
                    self.events.extend(early.map(|(lane, bytes)| SocketEvent::Received(id, lane, bytes)));
                }
                self.measure_at.get_or_insert(now + MEASURE);
            }
            Output::Event(event) => self.events.push_back(event),
        }
    }

    /// The connection of an attempt that counts, or of one before that still carries.
    fn connection(&mut self, attempt: Attempt) -> Option<&mut Connection> {
        attempt_of(&mut self.peers, attempt).or_else(|| self.before.get_mut(&attempt))
    }

    /// The connection that carries the peer.
    fn carrying(&self, peer: PeerId) -> Option<&Connection> {
        let before = self.before.values().filter(|before| before.attempt().peer == peer);
        let mut all = self.peers.get(&peer).into_iter().chain(before);
        all.find(|peer| self.switchboard.may_send(peer.attempt()))
    }

    fn measure(&mut self, now: Duration) {
        let all = self.peers.values().chain(self.before.values());
        let mut open = all.filter(|peer| self.switchboard.is_open(peer.attempt())).peekable();
        self.measure_at = open.peek().map(|_| now + MEASURE);
        open.for_each(|peer| peer.measure(&self.inbox));
    }
}

impl Socket for Browser {
    fn poll(&mut self, _now: Duration) -> Option<SocketEvent> {
        self.inbox.clone().quietly(|| self.next())
    }

    fn send(&mut self, peer: PeerId, lane: Lane, bytes: Bytes) -> Result<(), SendError> {
        SendError::check(lane, bytes.len())?;
        if lane == Lane::Reliable && self.untold.contains(&peer) {
            return Err(SendError::Full);
        }
        if let Some(relay) = self.relays.carrying(peer) {
            let length = bytes.len();
            return self.inbox.clone().quietly(|| {
                self.switchboard.relay(now(), relay, lane, bytes)?;
                self.relays.sent(peer, length);
                while let Some(output) = self.switchboard.poll() {
                    self.obey(now(), output);
                }
                self.alarm.set(now(), self.switchboard.deadline());
                Ok(())
            });
        }
        let before = self.before.values_mut().filter(|before| before.attempt().peer == peer);
        let mut all = self.peers.get_mut(&peer).into_iter().chain(before);
        let peer = all.find(|peer| self.switchboard.may_send(peer.attempt()));
        peer.ok_or(SendError::UnknownPeer)?.send(lane, &bytes)
    }

    fn buffered(&self, peer: PeerId) -> usize {
        match self.relays.carrying(peer) {
            // It says when it is full.
            Some(_) => 0,
            None => self.carrying(peer).map_or(0, Connection::buffered),
        }
    }

    fn disconnect(&mut self, peer: PeerId) {
        self.inbox.clone().quietly(|| self.tell(now(), Input::Disconnect(peer)));
        self.inbox.wake_soon();
    }

    fn silence(&mut self, peer: PeerId, silent: bool) {
        self.inbox.clone().quietly(|| self.tell(now(), Input::Silence(peer, silent)));
        self.inbox.wake_soon();
    }

    fn room_command(&mut self, command: RoomCommand) {
        self.inbox.clone().quietly(|| self.tell(now(), Input::Command(command)));
        self.inbox.wake_soon();
    }

    fn path(&self, peer: PeerId) -> Option<Path> {
        match self.relays.carrying(peer) {
            Some(relay) => self.relays.path(peer, self.switchboard.relay_rtt(relay)),
            None => self.carrying(peer)?.path(),
        }
    }

    fn set_waker(&mut self, waker: Waker) {
        self.inbox.set_waker(waker);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.inbox.forget_waker();
        self.switchboard.leave(now());
        while let Some(output) = self.switchboard.poll() {
            if let Output::Relay(frame) = output {
                self.signaller.relay(frame);
            }
        }
        let before = std::mem::take(&mut self.before).into_values();
        for peer in std::mem::take(&mut self.peers).into_values().chain(before) {
            peer.close();
        }
    }
}

/// The connection of an attempt, if that is the one that counts.
fn attempt_of(peers: &mut BTreeMap<PeerId, Connection>, attempt: Attempt) -> Option<&mut Connection> {
    peers.get_mut(&attempt.peer).filter(|peer| peer.attempt() == attempt)
}

#[cfg(test)]
mod tests;
