//! What must every socket over real paths do where an attempt fails, or where somebody spoils one?

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use coplay_proto::{
    PeerId,
    link::CloseReason,
    signal::{ClientMessage, IceServer, ServerMessage, Signal},
};
use coplay_socket::{
    Dial, IceTransportPolicy, MaybeSend, Rendezvous, Signaller, SignallerEvent, SocketConfig, Waker, connect_by,
};

use super::{
    Intruder, Peer, Platform,
    changes::{Change, changed},
    connected, meet, talk, until,
};

/// A way to the room that can hold signals back, lose them, or listen.
struct Between<F> {
    line: Box<dyn Signaller>,
    sieve: F,
    sieved: VecDeque<ClientMessage>,
}

impl<F: FnMut(Signal) -> Vec<Signal> + MaybeSend> Signaller for Between<F> {
    fn dial(&mut self, dial: Dial) {
        self.line.dial(dial);
    }

    fn hang_up(&mut self) {
        self.line.hang_up();
    }

    fn send(&mut self, message: ClientMessage) {
        match message {
            ClientMessage::Signal { receiver, data } => {
                let sieved = (self.sieve)(data).into_iter();
                self.sieved.extend(sieved.map(|data| ClientMessage::Signal { receiver, data }));
                while let Some(message) = self.sieved.pop_front() {
                    self.line.send(message);
                }
            }
            message => self.line.send(message),
        }
    }

    fn poll(&mut self) -> Option<SignallerEvent> {
        self.line.poll()
    }

    fn set_waker(&mut self, waker: Waker) {
        self.line.set_waker(waker);
    }
}

/// A peer of the room that says what `sieve` makes of its signals.
fn peer_between(
    config: &SocketConfig,
    rendezvous: &Rendezvous,
    sieve: impl FnMut(Signal) -> Vec<Signal> + MaybeSend + 'static,
) -> Peer {
    let line = rendezvous.signaller();
    Peer::new(connect_by(config.clone(), Box::new(Between { line, sieve, sieved: VecDeque::new() })))
}

/// What the peers of a room said.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<Signal>>>);

impl Said {
    fn peer(&self, config: &SocketConfig, rendezvous: &Rendezvous) -> Peer {
        let said = self.0.clone();
        peer_between(config, rendezvous, move |signal| {
            said.lock().expect("nobody panics").push(signal.clone());
            vec![signal]
        })
    }

    fn signals(&self) -> Vec<Signal> {
        self.0.lock().expect("nobody panics").clone()
    }
}

pub(crate) async fn candidates_before_their_description_are_kept(platform: &impl Platform) {
    let Some(rendezvous) = platform.rendezvous() else { return };
    let config = SocketConfig { handshake_timeout: Duration::from_secs(3), ..platform.config() };
    let late = || {
        let mut description = None;
        // Each side's description is said after its first candidate.
        peer_between(&config, rendezvous, move |signal| match signal {
            Signal::IceCandidate(_) => [signal].into_iter().chain(description.take()).collect(),
            _ => {
                description = Some(signal);
                Vec::new()
            }
        })
    };
    let [mut a, mut b] = meet(platform, [late(), late()]).await;
    talk(platform, &mut a, &mut b).await;
}

pub(crate) async fn a_handshake_that_does_not_open_is_started_again(platform: &impl Platform) {
    let Some(rendezvous) = platform.rendezvous() else { return };
    let offers = Arc::new(AtomicU32::new(0));
    let config = SocketConfig { handshake_timeout: Duration::from_secs(2), handshake_attempts: 5, ..platform.config() };
    let lossy = || {
        let (offers, mut descriptions) = (offers.clone(), 0);
        // The first offer or answer of each is lost, with its candidates; so its attempt cannot succeed.
        peer_between(&config, rendezvous, move |signal| {
            offers.fetch_add(u32::from(matches!(signal, Signal::Offer(_))), Ordering::Relaxed);
            descriptions += u32::from(!matches!(signal, Signal::IceCandidate(_)));
            if descriptions <= 1 { Vec::new() } else { vec![signal] }
        })
    };
    let [mut a, mut b] = meet(platform, [lossy(), lossy()]).await;
    // One's first offer is lost, and so is the other's first answer.
    assert!(offers.load(Ordering::Relaxed) >= 3, "{offers:?} offers");
    // Nobody is told of an attempt that failed.
    assert!(a.closed.is_empty() && b.closed.is_empty());
    talk(platform, &mut a, &mut b).await;
}

pub(crate) async fn only_relayed_paths_and_no_turn_server_is_a_reason(platform: &impl Platform) {
    let Some(rendezvous) = platform.rendezvous() else { return };
    let config = SocketConfig {
        handshake_timeout: Duration::from_secs(2),
        ice_transport_policy: IceTransportPolicy::Relay,
        ..platform.config()
    };
    let said = Said::default();
    let [mut a, mut b] = [said.peer(&config, rendezvous), said.peer(&config, rendezvous)];
    until(platform, "both give up", &mut [&mut a, &mut b], |peers| {
        assert!(peers.iter().all(|peer| peer.open.is_empty()), "opened without a relay");
        peers.iter().all(|peer| !peer.closed.is_empty())
    })
    .await;
    for peer in [&a, &b] {
        let Some(CloseReason::NoPath(cause)) = peer.closed.values().next() else { panic!("{:?}", peer.closed) };
        let text = cause.to_string();
        assert!(cause.code() == "N0010" && text.contains("TURN") && text.contains("only relayed"), "{text}");
    }
    // Nor did they learn each other's addresses.
    let (signals, told) = (said.signals(), |signal: &&Signal| {
        let (Signal::Offer(text) | Signal::Answer(text) | Signal::IceCandidate(text)) = signal;
        text.contains(" typ ")
    });
    assert!(signals.iter().any(|signal| matches!(signal, Signal::Answer(_))), "{signals:?}");
    assert_eq!(signals.iter().find(told), None);
}

/// Neither ones that are none, nor ones that nobody answers at, nor any number of them.
pub(crate) async fn ice_servers_that_are_of_no_use_keep_nobody_apart(platform: &impl Platform) {
    if platform.rendezvous().is_none() {
        return;
    }
    let bare = |url: &str| IceServer { urls: vec![url.into()], ..IceServer::default() };
    let turn = |number: u32, urls: &[&str]| IceServer {
        urls: urls.iter().map(ToString::to_string).collect(),
        username: Some(format!("user {number}")),
        credential: Some(format!("password {number}")),
    };
    let ice_servers = vec![
        bare("nonsense"),
        bare("http://example.org"),
        bare("turn:192.0.2.1"),
        bare(""),
        bare("stun:127.0.0.1:48879"),
        turn(1, &["turn:127.0.0.1:48880?transport=udp", "turns:127.0.0.1:48881?transport=tcp", "nonsense"]),
        turn(2, &["turn:127.0.0.1:48882", "stun:127.0.0.1:48883"]),
        turn(3, &[]),
    ];
    let rendezvous = Rendezvous::with_ice_servers(ice_servers.clone());
    let config = SocketConfig { ice_servers, ..platform.config() };
    let [a, b] = [(); 2].map(|()| Peer::new(connect_by(config.clone(), rendezvous.signaller())));
    let [mut a, mut b] = meet(platform, [a, b]).await;
    talk(platform, &mut a, &mut b).await;
}

/// What two peers really said to connect, spoiled: the same each time.
struct Spoiler {
    descriptions: Vec<String>,
    candidates: Vec<String>,
    random: u64,
}

impl Spoiler {
    async fn listen(platform: &impl Platform) -> Self {
        // By connections of our own, whatever the platform's are: matchbox's say no candidates in the browser.
        let (rendezvous, said) = (Rendezvous::new(), Said::default());
        let config = SocketConfig { handshake_timeout: Duration::from_secs(3), ..SocketConfig::default() };
        let [mut a, mut b] = meet(platform, [said.peer(&config, &rendezvous), said.peer(&config, &rendezvous)]).await;
        talk(platform, &mut a, &mut b).await;
        let (mut descriptions, mut candidates) = (Vec::new(), Vec::new());
        for signal in said.signals() {
            match signal {
                Signal::Offer(sdp) | Signal::Answer(sdp) => descriptions.push(sdp),
                Signal::IceCandidate(json) => candidates.push(json),
            }
        }
        assert!(descriptions.len() >= 2 && !candidates.is_empty());
        Self { descriptions, candidates, random: 0x5eed_0000_c0de }
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// One of these, with up to so many changes.
    fn one(&mut self, of: fn(&Self) -> &[String], most: u64) -> String {
        let changes: Vec<Change> = (0..self.random() % (most + 1))
            .map(|_| {
                let random = self.random();
                Change::new(random as u8, (random >> 8) as u16, (random >> 24) as u16, (random >> 40) as u8)
            })
            .collect();
        let (which, donor) = (self.random() as usize, self.random() as usize);
        let texts = of(self);
        changed(&texts[which % texts.len()], &texts[donor % texts.len()], &changes)
    }

    /// An offer or answer, and candidates before and after it.
    fn signals(&mut self, description: fn(String) -> Signal) -> Vec<Signal> {
        let mut signals: Vec<Signal> =
            (0..6).map(|_| Signal::IceCandidate(self.one(|this| &this.candidates, 3))).collect();
        signals.insert(2, description(self.one(|this| &this.descriptions, 3)));
        signals
    }
}

/// As with [`super::garbage_signals_hurt_no_other_link`], and with signals that are nearly right: some of them WebRTC takes.
pub(crate) async fn spoiled_signals_hurt_no_other_link(platform: &impl Platform) {
    const INTRUDERS: usize = 5;
    const OFFERS: usize = 3;
    let Some(rendezvous) = platform.rendezvous() else { return };
    let mut spoiler = Spoiler::listen(platform).await;
    // Some come before the pair, and are to make offers to it.
    let mut intruders: Vec<Intruder> = (0..INTRUDERS).map(|_| Intruder::enter(rendezvous)).collect();
    let [mut a, mut b] = connected(platform).await;
    let (a_id, b_id) = (a.id(), b.id());
    for intruder in &mut intruders {
        for to in [a_id, b_id] {
            for _ in 0..OFFERS {
                for signal in spoiler.signals(Signal::Offer) {
                    intruder.say(to, signal);
                }
            }
        }
    }
    // And some after it, and are to answer.
    intruders.extend((0..INTRUDERS).map(|_| Intruder::enter(rendezvous)));
    let ids: Vec<PeerId> = intruders.iter().map(|intruder| intruder.me.expect("entered")).collect();
    let mut answers = 0;
    until(platform, "all intruders are closed", &mut [&mut a, &mut b], |peers| {
        for intruder in &mut intruders {
            while let Some(message) = intruder.hear() {
                if let ServerMessage::Signal { sender, data: Signal::Offer(_) } = message {
                    answers += 1;
                    for signal in spoiler.signals(Signal::Answer) {
                        intruder.say(sender, signal);
                    }
                }
            }
        }
        assert!(peers.iter().all(|peer| peer.open.len() == 1), "opened, or closed, what it should not");
        peers.iter().all(|peer| ids.iter().all(|id| peer.closed.contains_key(id)))
    })
    .await;
    for (id, reason) in a.closed.iter().chain(&b.closed) {
        assert!(ids.contains(id));
        assert!(matches!(reason, CloseReason::Failed(_) | CloseReason::NoPath(_)), "{reason:?}");
        assert!(!reason.to_string().is_empty());
    }
    assert!(answers >= 2 * INTRUDERS, "{answers} answers");
    talk(platform, &mut a, &mut b).await;
}
