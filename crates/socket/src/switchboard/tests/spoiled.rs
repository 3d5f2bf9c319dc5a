//! Whatever peers say, and however it is cut, flipped and spliced: is only the link concerned hurt, and does each end?

use std::collections::BTreeSet;

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngSeed},
};

use super::*;

#[path = "../../../tests/common/changes.rs"]
mod changes;

use changes::{Change, changed};

/// As a browser says it; a native one is shorter.
const OFFER: &str = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    a=msid-semantic: WMS\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:4ZcD\r\n\
    a=ice-pwd:2/1muCWoOi3uLifh0NuRHlQC\r\na=ice-options:trickle\r\na=fingerprint:sha-256 \
    7B:8B:F0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:43:F0:A1:58:D0:A1:2C:19:08\r\na=setup:actpass\r\n\
    a=mid:0\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n";
const CANDIDATE: &str = r#"{"candidate":"candidate:842163049 1 udp 1677729535 192.0.2.7 46154 typ srflx raddr 10.0.0.7 rport 46154 generation 0 ufrag 4ZcD network-cost 999","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"4ZcD"}"#;
/// An open link to this peer outlives everything.
const HEALTHY: u8 = 200;
/// Who says all that: more than one, so that one's signals may be taken for another's.
const PEERS: core::ops::Range<u8> = 2..6;

/// So many cases, the same each time; or as many new ones as `PROPTEST_CASES` says.
fn cases(cases: u32) -> Config {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let rng_seed = if asked.is_some() { RngSeed::Random } else { RngSeed::Fixed(7) };
    Config { failure_persistence: None, max_shrink_iters: 2000, rng_seed, ..Config::with_cases(asked.unwrap_or(cases)) }
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Happening {
    /// Signaling says this, spoiled as a whole.
    Text(ServerMessage, Vec<Change>),
    /// A peer says this, spoiled within; the JSON around it is well.
    Signal(u8, Signal, Vec<Change>),
    /// A peer says many candidates.
    Candidates(u8, usize),
    /// What the platform may say of the attempt that runs for the peer, or of the one before that.
    Local(u8, u8, bool),
    /// Nothing, for so many milliseconds.
    Wait(u64),
}

fn signal() -> impl Strategy<Value = Signal> {
    prop_oneof![
        Just(Signal::Offer(OFFER.into())),
        Just(Signal::Answer(OFFER.replace("actpass", "active"))),
        Just(Signal::IceCandidate(CANDIDATE.into())),
        Just(Signal::IceCandidate("null".into())),
    ]
}

fn message() -> impl Strategy<Value = ServerMessage> {
    prop_oneof![
        4 => (PEERS, signal()).prop_map(|(from, data)| ServerMessage::Signal { sender: peer(from), data }),
        2 => PEERS.prop_map(|new| ServerMessage::NewPeer(peer(new))),
        2 => PEERS.prop_map(|left| ServerMessage::PeerLeft(peer(left))),
        1 => Just(ServerMessage::IdAssigned(peer(9))),
        1 => Just(welcome(9)),
        1 => PEERS.prop_map(|it| ServerMessage::Leader(Leader { peer: peer(it), term: Term(2) })),
        1 => Just(ServerMessage::Error(SignalError::Malformed { detail: "\u{0}".into() })),
    ]
}

/// Often none, so that connections come far enough to be spoiled.
fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change =
        (any::<u8>(), any::<u16>(), any::<u16>(), any::<u8>()).prop_map(|(a, b, c, d)| Change::new(a, b, c, d));
    prop_oneof![Just(Vec::new()), vec(change, 1..4)]
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (message(), changes()).prop_map(|(message, changes)| Happening::Text(message, changes)),
        4 => (PEERS, signal(), changes()).prop_map(|(from, signal, changes)| Happening::Signal(from, signal, changes)),
        1 => (PEERS, 1_usize..100).prop_map(|(from, count)| Happening::Candidates(from, count)),
        6 => (PEERS, 0_u8..9, prop::bool::weighted(0.2)).prop_map(|(of, what, old)| Happening::Local(of, what, old)),
        1 => (0_u64..6_000).prop_map(Happening::Wait),
    ]
}

/// What a platform would have by what it was told, and that it is told only what it can do.
#[derive(Default)]
struct Platform {
    running: BTreeMap<PeerId, Running>,
    open: BTreeSet<PeerId>,
    before: BTreeMap<PeerId, Attempt>,
    last: u64,
}

struct Running {
    attempt: Attempt,
    offers: bool,
    described_here: bool,
    described: bool,
    candidates: usize,
}

impl Platform {
    /// Does what it is told; returns whom that was about.
    fn obey(&mut self, output: Output) -> Option<PeerId> {
        match output {
            Output::Start { attempt, offer, .. } => {
                assert!(attempt.number > self.last, "{attempt:?} was there before");
                self.last = attempt.number;
                let running =
                    Running { attempt, offers: offer, described_here: false, described: false, candidates: 0 };
                assert!(self.running.insert(attempt.peer, running).is_none(), "two attempts at once");
                Some(attempt.peer)
            }
            Output::Describe(attempt, signal) => {
                let running = self.running(attempt);
                assert!(!running.described, "described twice");
                running.described = true;
                assert_eq!(running.offers, matches!(signal, Signal::Answer(_)), "{signal:?}");
                let (Signal::Offer(sdp) | Signal::Answer(sdp)) = signal else { panic!("{signal:?}") };
                assert!(sdp.starts_with("v=0") && sdp.len() <= 32 * 1024, "{sdp}");
                Some(attempt.peer)
            }
            Output::Candidate(attempt, candidate) => {
                let running = self.running(attempt);
                running.candidates += 1;
                assert!(running.described && running.candidates <= 64, "{} candidates", running.candidates);
                assert!(candidate.len() <= 2 * 1024);
                Some(attempt.peer)
            }
            Output::Stop(attempt) => {
                self.running(attempt);
                self.running.remove(&attempt.peer);
                self.before.insert(attempt.peer, attempt);
                Some(attempt.peer)
            }
            Output::Mended(_) | Output::MendedByRelay(_) => panic!("nobody said that a peer is silent"),
            Output::Send(ClientMessage::Signal { receiver, data }) => {
                let running = self.running.get(&receiver).expect("something runs that this is for");
                assert!(running.described_here);
                match data {
                    Signal::Offer(_) => assert!(running.offers),
                    Signal::Answer(_) => assert!(!running.offers && running.described),
                    Signal::IceCandidate(_) => {}
                }
                Some(receiver)
            }
            Output::Event(SocketEvent::Opened(peer)) => {
                assert!(self.running.contains_key(&peer) && self.open.insert(peer), "opened twice");
                Some(peer)
            }
            Output::Event(SocketEvent::Closed(peer, reason)) => {
                self.open.remove(&peer);
                assert!(!self.running.contains_key(&peer), "closed, and not stopped");
                assert!(!matches!(&reason, CloseReason::Failed(why) if why.is_empty()));
                Some(peer)
            }
            Output::Event(_) | Output::Dial(_) | Output::HangUp | Output::Send(_) => None,
            Output::Relay(_) | Output::RelayOpen(_) | Output::Received(..) | Output::Moved(_) | Output::Admit(_) => {
                panic!("signaling relays nothing")
            }
        }
    }

    fn running(&mut self, attempt: Attempt) -> &mut Running {
        self.running.get_mut(&attempt.peer).filter(|running| running.attempt == attempt).expect("the attempt runs")
    }

    /// What it says next of this peer's connection.
    fn says(&mut self, of: PeerId, what: u8, old: bool) -> Option<Input> {
        let running = self.running.get_mut(&of).filter(|_| !old);
        let described = running.as_ref().is_some_and(|running| running.described);
        let attempt = running.as_ref().map(|running| running.attempt).or_else(|| self.before.get(&of).copied())?;
        Some(match what {
            0 | 1 => {
                // It makes each description once, and an answer only to an offer.
                let running = running.filter(|running| !running.described_here && (running.offers || described));
                let offers = running.as_ref().is_none_or(|running| running.offers);
                if let Some(running) = running {
                    running.described_here = true;
                } else if !old {
                    return None;
                }
                Input::LocalDescription(attempt, if offers { offer() } else { answer() })
            }
            2 => Input::LocalCandidate(attempt, CANDIDATE.into()),
            3 => Input::Reached(attempt),
            4 if described || old => Input::Open(attempt),
            5 => Input::Closed(attempt),
            6 => Input::Failed(attempt, "no sockets".into()),
            7 => Input::Refused(attempt, "no ice-ufrag".into()),
            _ => Input::Overrun(attempt, "too much".into()),
        })
    }
}

/// A switchboard with an open link to [`HEALTHY`], and what has become of it.
struct Scene {
    desk: Desk,
    platform: Platform,
    healthy: Attempt,
}

impl Scene {
    fn new() -> Self {
        let mut desk = Desk::new();
        let healthy = desk.open(HEALTHY);
        let mut platform = Platform { last: healthy.number, ..Platform::default() };
        platform.open.insert(healthy.peer);
        let running = Running { attempt: healthy, offers: true, described_here: true, described: true, candidates: 0 };
        platform.running.insert(healthy.peer, running);
        Self { desk, platform, healthy }
    }

    /// What comes of an input that concerns this peer, or none, concerns no other.
    fn tell(&mut self, of: Option<PeerId>, input: Input) {
        for output in self.desk.tell(input) {
            let about = self.platform.obey(output);
            assert!(about.is_none() || about == of, "{about:?} has to suffer for {of:?}");
        }
        let open: BTreeSet<PeerId> = self.platform.open.iter().copied().collect();
        assert!(open.iter().all(|peer| self.platform.running.contains_key(peer)), "stopped, and not closed");
        assert!(self.desk.board.is_open(self.healthy), "the healthy link is hurt");
    }

    fn say(&mut self, message: ServerMessage) {
        let of = match &message {
            ServerMessage::NewPeer(peer) | ServerMessage::PeerLeft(peer) => Some(*peer),
            ServerMessage::Signal { sender, .. } => Some(*sender),
            _ => None,
        };
        self.tell(of, Input::Signaller(SignallerEvent::Message(message)));
    }

    fn wait(&mut self, time: Duration) {
        let end = self.desk.now + time;
        while let Some(due) = self.desk.board.deadline().filter(|due| *due <= end) {
            assert!(due >= self.desk.now, "it is late by {:?}", self.desk.now - due);
            self.desk.now = due;
            for output in self.desk.tell(Input::Elapsed) {
                self.platform.obey(output);
            }
            assert!(self.desk.board.deadline().is_none_or(|next| next > due), "it does not get on");
        }
        self.desk.now = end;
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Text(message, changes) => {
                let text = serde_json::to_string(&message).unwrap();
                let donor = serde_json::to_string(&welcome(3)).unwrap();
                // As every signaller does: what is no message is passed over.
                if let Ok(message) = serde_json::from_str(&changed(&text, &donor, &changes)) {
                    self.say(message);
                }
            }
            Happening::Signal(from, signal, changes) => {
                let data = match signal {
                    Signal::Offer(sdp) => Signal::Offer(changed(&sdp, CANDIDATE, &changes)),
                    Signal::Answer(sdp) => Signal::Answer(changed(&sdp, CANDIDATE, &changes)),
                    Signal::IceCandidate(json) => Signal::IceCandidate(changed(&json, OFFER, &changes)),
                };
                self.say(ServerMessage::Signal { sender: peer(from), data });
            }
            Happening::Candidates(from, count) => {
                for n in 0..count {
                    self.say(ServerMessage::Signal { sender: peer(from), data: candidate(n) });
                }
            }
            Happening::Local(of, what, old) => {
                if let Some(input) = self.platform.says(peer(of), what, old) {
                    self.tell(Some(peer(of)), input);
                }
            }
            Happening::Wait(time) => self.wait(ms(time)),
        }
    }
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn spoiled_signals_hurt_no_other_link(happenings in vec(happening(), 1..60)) {
        let mut scene = Scene::new();
        for happening in happenings {
            scene.happen(happening);
        }
        // Each ends, with nobody saying any more: what is open stays, and nothing else is kept.
        scene.wait(Duration::from_secs(120));
        let kept: BTreeSet<PeerId> = scene.desk.board.peers.keys().copied().collect();
        prop_assert_eq!(&kept, &scene.platform.open);
        prop_assert!(scene.platform.running.keys().eq(&kept));
        // And none of that keeps a well-meaning one out.
        let newcomer = scene.desk.open(100);
        prop_assert!(scene.desk.board.is_open(newcomer));
    }
}

/// The cases above are worth something only if they come to all ends.
#[test]
fn spoiled_signals_come_to_every_end() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::new(cases(0));
    let mut ends = [0; 5];
    for _ in 0..256 {
        let happenings = vec(happening(), 1..60).new_tree(&mut runner).unwrap().current();
        let mut scene = Scene::new();
        for happening in happenings {
            scene.happen(happening);
        }
        let stages = scene.desk.board.peers.values().map(|peer| peer.stage);
        for stage in stages {
            ends[stage as usize] += 1;
        }
        ends[4] += usize::from(scene.platform.last > 5);
    }
    assert!(ends.iter().all(|&count| count > 20), "{ends:?}");
}
