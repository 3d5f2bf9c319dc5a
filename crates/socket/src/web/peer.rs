//! How is the connection to one peer made and used? One `RTCPeerConnection` with two channels, and all its callbacks.

use std::{
    rc::{Rc, Weak},
    time::Duration,
};

use bytes::Bytes;
use coplay_proto::{
    Lane,
    signal::{IceServer, Signal},
};
use js_sys::{Array, JSON};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{
    RtcConfiguration, RtcIceConnectionState, RtcIceServer, RtcIceTransportPolicy, RtcPeerConnection,
    RtcPeerConnectionIceEvent, RtcPeerConnectionState, RtcSdpType, RtcSessionDescriptionInit,
};

use super::{
    inbox::{Happening, Inbox},
    lanes::Lanes,
    page::{self, function},
    path::Pair,
};
use crate::{
    IceTransportPolicy, Path, SendError,
    switchboard::{Attempt, Input},
};

/// The most datagrams that are kept of a peer whose second channel is not open yet.
const MAX_EARLY: usize = 64;
/// How long a closed connection is kept for what was sent last, for example a goodbye, to go out.
pub(super) const LINGER: Duration = Duration::from_millis(200);
/// One attempt to connect with a peer, and the connection that comes of it.
pub(super) struct Peer {
    pub(super) attempt: Attempt,
    pub(super) pair: Option<Pair>,
    early: Vec<(Lane, Bytes)>,
    /// The same, until what comes by the relay has come. It counts as waiting in the inbox, which is bounded.
    held: Vec<(Lane, Bytes)>,
    bytes_sent: u64,
    bytes_received: u64,
    connection: RtcPeerConnection,
    lanes: Lanes,
    _on_candidate: Closure<dyn Fn(RtcPeerConnectionIceEvent)>,
    _on_state: Closure<dyn Fn()>,
    _on_path: Closure<dyn Fn()>,
}

impl Peer {
    /// Makes the connection; and its offer, if that is ours to make.
    pub(super) fn start(
        inbox: &Rc<Inbox>,
        attempt: Attempt,
        ice_servers: &[IceServer],
        policy: IceTransportPolicy,
        offer: bool,
    ) -> Result<Self, String> {
        let connection = connection(ice_servers, policy).map_err(|thrown| page::why(&thrown))?;
        let lanes = Lanes::open(&connection, inbox, attempt);

        let on_candidate = Closure::<dyn Fn(RtcPeerConnectionIceEvent)>::new({
            let inbox = inbox.clone();
            move |event: RtcPeerConnectionIceEvent| {
                // None at their end; and Firefox has an empty one there.
                let Some(candidate) = event.candidate().filter(|candidate| !candidate.candidate().is_empty()) else {
                    return;
                };
                if let Some(json) = JSON::stringify(&candidate).ok().and_then(|json| json.as_string()) {
                    inbox.push(Happening::Switchboard(Input::LocalCandidate(attempt, json)));
                }
            }
        });
        connection.set_onicecandidate(Some(function(&on_candidate)));

        let on_state = Closure::<dyn Fn()>::new({
            let (inbox, connection) = (inbox.clone(), connection.clone());
            move || {
                // "disconnected" may pass: whether the peer is still heard is the link's to judge.
                if connection.connection_state() == RtcPeerConnectionState::Failed {
                    let why = match connection.ice_connection_state() {
                        RtcIceConnectionState::Failed => "no pair of addresses works (any more)",
                        _ => "DTLS failed",
                    };
                    inbox.push(Happening::Switchboard(Input::Failed(attempt, why.into())));
                }
            }
        });
        connection.set_onconnectionstatechange(Some(function(&on_state)));

        let on_path = Closure::<dyn Fn()>::new({
            let (inbox, connection) = (inbox.clone(), connection.clone());
            move || {
                if connection.ice_connection_state() == RtcIceConnectionState::Connected {
                    inbox.push(Happening::Switchboard(Input::Reached(attempt)));
                }
            }
        });
        connection.set_oniceconnectionstatechange(Some(function(&on_path)));

        if offer {
            describe(inbox, attempt, &connection.create_offer());
        }
        Ok(Self {
            attempt,
            pair: None,
            early: Vec::new(),
            held: Vec::new(),
            bytes_sent: 0,
            bytes_received: 0,
            connection,
            lanes,
            _on_candidate: on_candidate,
            _on_state: on_state,
            _on_path: on_path,
        })
    }

    /// Applies the peer's description. After an offer follows [`Happening::OfferApplied`].
    pub(super) fn apply(&self, inbox: &Rc<Inbox>, signal: &Signal) {
        let (kind, sdp) = match signal {
            Signal::Offer(sdp) => (RtcSdpType::Offer, sdp),
            Signal::Answer(sdp) => (RtcSdpType::Answer, sdp),
            Signal::IceCandidate(_) => return,
        };
        let description = RtcSessionDescriptionInit::new(kind);
        description.set_sdp(sdp);
        let attempt = self.attempt;
        let (applied, refused) = (Rc::downgrade(inbox), Rc::downgrade(inbox));
        page::settled(
            &self.connection.set_remote_description(&description),
            move |_| {
                if let Some(inbox) = applied.upgrade().filter(|_| kind == RtcSdpType::Offer) {
                    inbox.push(Happening::OfferApplied(attempt));
                }
            },
            move |thrown| {
                if let Some(inbox) = refused.upgrade() {
                    inbox.push(Happening::Switchboard(Input::Refused(attempt, page::why(&thrown))));
                }
            },
        );
    }

    /// Makes the answer to the offer that was applied.
    pub(super) fn answer(&self, inbox: &Rc<Inbox>) {
        describe(inbox, self.attempt, &self.connection.create_answer());
    }

    /// Applies our description, which begins the gathering of candidates. Returns it for the peer.
    pub(super) fn made(&self, inbox: &Rc<Inbox>, description: JsValue) -> Option<Signal> {
        let description: RtcSessionDescriptionInit = description.unchecked_into();
        let sdp = description.get_sdp()?;
        let signal = match description.get_type() {
            RtcSdpType::Offer => Signal::Offer(sdp),
            RtcSdpType::Answer => Signal::Answer(sdp),
            _ => return None,
        };
        let (attempt, inbox) = (self.attempt, Rc::downgrade(inbox));
        page::settled(
            &self.connection.set_local_description(&description),
            |_| {},
            move |thrown| failed(&inbox, attempt, &thrown),
        );
        Some(signal)
    }

    /// Adds the peer's candidate. The browser does so after the description, if that is still being applied (the
    /// operations chain, webrtc section 4.4.1.2). One that cannot be used is passed over.
    pub(super) fn add(&self, candidate: &str) {
        let peer = self.attempt.peer;
        let Ok(candidate) = JSON::parse(candidate) else {
            return tracing::debug!(%peer, "passed over a candidate that is not JSON");
        };
        if candidate.is_null() {
            return;
        }
        page::settled(
            &self.connection.add_ice_candidate_with_opt_rtc_ice_candidate_init(Some(candidate.unchecked_ref())),
            |_| {},
            move |thrown| tracing::debug!(%peer, why = page::why(&thrown), "passed over a candidate"),
        );
    }

    /// Whether both channels are open.
    pub(super) fn is_open(&self) -> bool {
        self.lanes.are_open()
    }

    pub(super) fn send(&mut self, lane: Lane, bytes: &[u8]) -> Result<(), SendError> {
        self.lanes.send(lane, bytes)?;
        self.bytes_sent += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn buffered(&self) -> usize {
        self.lanes.buffered()
    }

    /// Counts a datagram that was taken out of the inbox.
    pub(super) fn received(&mut self, bytes: &[u8]) {
        self.lanes.taken(bytes.len());
        self.bytes_received += bytes.len() as u64;
    }

    /// Keeps a datagram for the time when both channels are open; `false` if it was to arrive and cannot be kept.
    pub(super) fn keep(&mut self, lane: Lane, bytes: Bytes) -> bool {
        self.received(&bytes);
        if self.early.len() < MAX_EARLY {
            self.early.push((lane, bytes));
            return true;
        }
        lane == Lane::Unreliable
    }

    /// Holds a datagram back until the peer has moved from the relay.
    pub(super) fn hold(&mut self, lane: Lane, bytes: Bytes) {
        self.held.push((lane, bytes));
    }

    /// What was kept and held back.
    pub(super) fn early(&mut self) -> Vec<(Lane, Bytes)> {
        let held = std::mem::take(&mut self.held);
        for (_, bytes) in &held {
            self.received(bytes);
        }
        let mut all = std::mem::take(&mut self.early);
        all.extend(held);
        all
    }

    pub(super) fn traffic(&self) -> (u64, u64) {
        (self.bytes_sent, self.bytes_received)
    }

    /// Counts on from where the relay was.
    pub(super) fn go_on_from(&mut self, sent: u64, received: u64) {
        self.bytes_sent += sent;
        self.bytes_received += received;
    }

    pub(super) fn path(&self) -> Option<Path> {
        Some(self.pair.as_ref()?.path(self.bytes_sent, self.bytes_received))
    }

    /// Asks the browser for the path; [`Happening::Pair`] follows.
    pub(super) fn measure(&self, inbox: &Rc<Inbox>) {
        let (attempt, inbox) = (self.attempt, Rc::downgrade(inbox));
        page::settled(
            &self.connection.get_stats(),
            move |report| {
                if let (Some(inbox), Some(pair)) = (inbox.upgrade(), Pair::of(&report)) {
                    inbox.push(Happening::Pair(attempt, pair));
                }
            },
            |_| {},
        );
    }

    /// Closes the connection: nothing comes from it any more, and what was sent still goes out.
    pub(super) fn close(self) {
        self.detach();
        self.lanes.end();
        page::later(LINGER, move || drop(self));
    }

    /// Has the browser forget our callbacks.
    fn detach(&self) {
        self.connection.set_onicecandidate(None);
        self.connection.set_onconnectionstatechange(None);
        self.connection.set_oniceconnectionstatechange(None);
        self.lanes.detach();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.detach();
        self.connection.close();
    }
}

/// A connection with these servers, but for those that the browser will not have.
fn connection(ice_servers: &[IceServer], policy: IceTransportPolicy) -> Result<RtcPeerConnection, JsValue> {
    let open = |servers: &[&IceServer]| {
        let configuration = RtcConfiguration::new();
        configuration.set_ice_servers(&servers.iter().map(|server| to_js(server)).collect::<Array>());
        configuration.set_ice_transport_policy(match policy {
            IceTransportPolicy::All => RtcIceTransportPolicy::All,
            IceTransportPolicy::Relay => RtcIceTransportPolicy::Relay,
        });
        RtcPeerConnection::new_with_configuration(&configuration)
    };
    open(&ice_servers.iter().collect::<Vec<_>>()).or_else(|_| {
        // One bad URL, and it throws for all of them.
        let mut usable = Vec::new();
        for server in ice_servers {
            match open(&[server]) {
                Ok(connection) => {
                    connection.close();
                    usable.push(server);
                }
                Err(thrown) => {
                    tracing::warn!(urls = ?server.urls, why = page::why(&thrown), "passed over an ICE server");
                }
            }
        }
        open(&usable)
    })
}

pub(super) fn to_js(server: &IceServer) -> RtcIceServer {
    let js = RtcIceServer::new();
    js.set_urls(&server.urls.iter().map(|url| JsValue::from_str(url)).collect::<Array>());
    if let Some(username) = &server.username {
        js.set_username(username);
    }
    if let Some(credential) = &server.credential {
        js.set_credential(credential);
    }
    js
}

/// Passes on the description that the promise will bring.
fn describe(inbox: &Rc<Inbox>, attempt: Attempt, promise: &js_sys::Promise) {
    let (made, not_made) = (Rc::downgrade(inbox), Rc::downgrade(inbox));
    page::settled(
        promise,
        move |description| {
            if let Some(inbox) = made.upgrade() {
                inbox.push(Happening::Made(attempt, description));
            }
        },
        move |thrown| failed(&not_made, attempt, &thrown),
    );
}

fn failed(inbox: &Weak<Inbox>, attempt: Attempt, thrown: &JsValue) {
    if let Some(inbox) = inbox.upgrade() {
        inbox.push(Happening::Switchboard(Input::Failed(attempt, page::why(thrown))));
    }
}
