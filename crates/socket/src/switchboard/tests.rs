//! Is the right one offered to, is nothing kept for ever, and does each end with a reason?

use coplay_proto::{
    Term, Topology,
    link::NoPath,
    signal::{Leader, Welcome},
};

use super::{mark::Word, *};
use crate::{IceTransportPolicy, RelayPolicy};

#[cfg(not(target_arch = "wasm32"))]
mod spoiled;

const SDP: &str = "v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=fingerprint:sha-256 00\r\n";

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn peer(n: u8) -> PeerId {
    PeerId::from_u128((n as u128) << 96)
}

fn offer() -> Signal {
    Signal::Offer(SDP.into())
}

fn answer() -> Signal {
    Signal::Answer(SDP.into())
}

fn candidate(n: usize) -> Signal {
    Signal::IceCandidate(format!("candidate:{n} 1 udp 1 192.0.2.1 {n} typ host"))
}

/// A switchboard, and a clock.
struct Desk {
    board: Switchboard,
    now: Duration,
}

impl Desk {
    /// That has entered as peer 1.
    fn new() -> Self {
        Self::with(SocketConfig { handshake_attempts: 2, ..SocketConfig::new("ws://host:1/a%20room?next=2") })
    }

    fn with(config: SocketConfig) -> Self {
        Self::entered(config, 1, welcome(1))
    }

    /// That is greeted like this.
    fn entered(config: SocketConfig, seed: u64, greeting: ServerMessage) -> Self {
        let mut desk = Self { board: Switchboard::new(ms(0), config, seed), now: ms(0) };
        let outputs = desk.tell(Input::Elapsed);
        let [Output::Event(SocketEvent::Signaling(SignalingState::Connecting)), Output::Dial(dial)] = &outputs[..]
        else {
            panic!("{outputs:?}");
        };
        assert_eq!(dial.dialect, desk.board.dialer.dialect());
        desk.tell(Input::Signaller(SignallerEvent::Opened));
        desk.say(greeting);
        desk
    }

    fn tell(&mut self, input: Input) -> Vec<Output> {
        self.board.handle(self.now, input);
        std::iter::from_fn(|| self.board.poll()).collect()
    }

    fn say(&mut self, message: ServerMessage) -> Vec<Output> {
        self.tell(Input::Signaller(SignallerEvent::Message(message)))
    }

    fn signal(&mut self, from: u8, data: Signal) -> Vec<Output> {
        self.say(ServerMessage::Signal { sender: peer(from), data })
    }

    fn wait(&mut self, time: Duration) -> Vec<Output> {
        let end = self.now + time;
        let mut outputs = Vec::new();
        while let Some(due) = self.board.deadline().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            outputs.extend(self.tell(Input::Elapsed));
        }
        self.now = end;
        outputs
    }

    /// The attempt that these outputs start.
    fn started(outputs: &[Output]) -> Option<(Attempt, bool)> {
        outputs.iter().find_map(|output| match output {
            Output::Start { attempt, offer, .. } => Some((*attempt, *offer)),
            _ => None,
        })
    }

    /// Peer `n` is new to us, and gets connected.
    fn open(&mut self, n: u8) -> Attempt {
        self.open_by(n, |_| answer())
    }

    /// The same with a peer of ours, which marks what it describes.
    fn open_marked(&mut self, n: u8) -> Attempt {
        self.open_by(n, |attempt| Signal::Answer(Mark { offer: attempt.number, mends: None }.put(SDP)))
    }

    fn open_by(&mut self, n: u8, answer: impl Fn(Attempt) -> Signal) -> Attempt {
        let (attempt, _) = Self::started(&self.say(ServerMessage::NewPeer(peer(n)))).expect("started");
        self.tell(Input::LocalDescription(attempt, offer()));
        self.signal(n, answer(attempt));
        let opened = self.tell(Input::Open(attempt));
        assert_eq!(opened, [Output::Event(SocketEvent::Opened(peer(n)))]);
        attempt
    }
}

fn welcome(me: u8) -> ServerMessage {
    ServerMessage::Welcome(Box::new(Welcome {
        me: peer(me),
        room: "room".into(),
        topology: Topology::Mesh,
        members: vec![peer(me)],
        leader: Leader { peer: peer(me), term: Term(1) },
        max: None,
        ice_servers: vec![IceServer { urls: vec!["stun:b".into()], ..IceServer::default() }],
        resume: None,
        secret: None,
        resumed: false,
        lobby: None,
        relay: None,
    }))
}

fn closed(outputs: &[Output]) -> Option<(PeerId, CloseReason)> {
    outputs.iter().find_map(|output| match output {
        Output::Event(SocketEvent::Closed(peer, reason)) => Some((*peer, reason.clone())),
        _ => None,
    })
}

fn sent(outputs: &[Output]) -> Vec<(PeerId, Signal)> {
    let sent = |output: &Output| match output {
        Output::Send(ClientMessage::Signal { receiver, data }) => Some((*receiver, unmarked(data))),
        _ => None,
    };
    outputs.iter().filter_map(sent).collect()
}

fn dialled(outputs: &[Output]) -> Option<&Dial> {
    outputs.iter().find_map(|output| match output {
        Output::Dial(dial) => Some(dial),
        _ => None,
    })
}

/// What has come by now, of what is on its way.
fn arrived<T>(coming: &mut Vec<(Duration, T)>, now: Duration) -> Vec<T> {
    coming.extract_if(.., |(at, _)| *at <= now).map(|(_, what)| what).collect()
}

/// The signal without what ours say to each other.
fn unmarked(signal: &Signal) -> Signal {
    match signal {
        Signal::Offer(sdp) => Signal::Offer(Mark::take(sdp).1),
        Signal::Answer(sdp) => Signal::Answer(Mark::take(sdp).1),
        Signal::IceCandidate(_) => signal.clone(),
    }
}

#[test]
fn who_is_told_of_a_new_peer_offers_and_candidates_follow_the_offer() {
    let mut desk = Desk::new();
    let outputs = desk.say(ServerMessage::NewPeer(peer(2)));
    let [Output::Start { attempt, ice_servers, offer: true }] = &outputs[..] else { panic!("{outputs:?}") };
    let attempt = *attempt;
    assert_eq!(ice_servers.len(), 1);
    assert_eq!(desk.tell(Input::LocalCandidate(attempt, "early".into())), []);
    let outputs = desk.tell(Input::LocalDescription(attempt, offer()));
    let early = Signal::IceCandidate("early".into());
    assert_eq!(sent(&outputs), [(peer(2), offer()), (peer(2), early)]);
    // No answer is waited for.
    let outputs = desk.tell(Input::LocalCandidate(attempt, "late".into()));
    assert_eq!(sent(&outputs), [(peer(2), Signal::IceCandidate("late".into()))]);
    assert_eq!(desk.signal(2, answer()), [Output::Describe(attempt, answer())]);
    assert_eq!(desk.signal(2, candidate(1)).len(), 1);
    assert!(!desk.board.is_open(attempt));
    assert_eq!(desk.tell(Input::Open(attempt)), [Output::Event(SocketEvent::Opened(peer(2)))]);
    assert!(desk.board.is_open(attempt));
    assert_eq!(desk.tell(Input::Open(attempt)), []);
}

#[test]
fn candidates_before_their_offer_are_kept_and_bounded() {
    let mut desk = Desk::new();
    for n in 0..1_000 {
        assert_eq!(desk.signal(2, candidate(n)), []);
    }
    let outputs = desk.signal(2, offer());
    let (attempt, false) = Desk::started(&outputs).expect("started") else { panic!("{outputs:?}") };
    assert_eq!(outputs[1], Output::Describe(attempt, offer()));
    assert_eq!(outputs.len(), 2 + 64);
    assert!(matches!(&outputs[2], Output::Candidate(of, first) if *of == attempt && first.contains("candidate:0 ")));
}

#[test]
fn candidates_whose_offer_never_comes_are_forgotten() {
    let mut desk = Desk::new();
    desk.signal(2, candidate(1));
    assert_eq!(desk.board.peers.len(), 1);
    assert!(desk.wait(Duration::from_secs(60)).iter().all(|output| matches!(output, Output::Send(_))));
    assert!(desk.board.peers.is_empty());
}

#[test]
fn an_attempt_that_does_not_open_is_made_again_and_then_given_up() {
    let mut desk = Desk::new();
    let (first, _) = Desk::started(&desk.say(ServerMessage::NewPeer(peer(2)))).expect("started");
    desk.tell(Input::LocalDescription(first, offer()));
    let again = desk.wait(ms(4_000));
    let (second, true) = Desk::started(&again).expect("again") else { panic!("{again:?}") };
    assert_eq!(again[0], Output::Stop(first));
    // What still comes of the first is void.
    for late in [Input::Open(first), Input::Failed(first, String::new()), Input::LocalDescription(first, offer())] {
        assert_eq!(desk.tell(late), []);
    }
    desk.tell(Input::LocalCandidate(second, "1 typ host".into()));
    desk.now += ms(100);
    let end = desk.tell(Input::Failed(second, "no sockets".into()));
    assert_eq!(end[0], Output::Stop(second));
    let Some((of, CloseReason::Failed(why))) = closed(&end) else { panic!("{end:?}") };
    assert_eq!(of, peer(2));
    assert!(why.contains("2 attempts") && why.contains("1 host") && why.contains("never answered"), "{why}");
    assert!(why.contains("WebRTC says: no sockets"), "{why}");
    assert!(desk.board.peers.is_empty());
}

#[test]
fn a_path_that_was_found_is_worth_more_attempts() {
    let mut desk = Desk::new();
    let (first, _) = Desk::started(&desk.say(ServerMessage::NewPeer(peer(2)))).expect("started");
    desk.tell(Input::Reached(first));
    let outputs = desk.wait(ms(16_000));
    let attempts = outputs.iter().filter(|output| matches!(output, Output::Start { .. })).count();
    assert_eq!(attempts, 3, "besides the first");
    assert!(closed(&outputs).is_some());
}

#[test]
fn who_answers_takes_the_next_offer_and_gives_up_after_the_last() {
    let mut desk = Desk::new();
    let (first, _) = Desk::started(&desk.signal(2, offer())).expect("started");
    assert_eq!(desk.tell(Input::Failed(first, "DTLS".into())), [Output::Stop(first)]);
    let (second, _) = Desk::started(&desk.signal(2, offer())).expect("started");
    // One that replaces a running one.
    let outputs = desk.signal(2, offer());
    assert_eq!(outputs[0], Output::Stop(second));
    let end = desk.wait(ms(20_000));
    let Some((_, CloseReason::Failed(why))) = closed(&end) else { panic!("{end:?}") };
    assert!(why.contains("3 attempts"), "{why}");
    assert!(desk.board.peers.is_empty());
    assert!(Desk::started(&desk.signal(2, offer())).is_some(), "it may try again later");
}

#[test]
fn who_answers_does_not_close_what_may_be_open_on_the_other_side() {
    let mut desk = Desk::new();
    let (attempt, _) = Desk::started(&desk.signal(2, offer())).expect("started");
    desk.tell(Input::Reached(attempt));
    assert_eq!(desk.wait(ms(7_000)), []);
    let end = desk.wait(ms(2_000));
    let Some((_, CloseReason::Failed(why))) = closed(&end) else { panic!("{end:?}") };
    assert!(why.contains("too much is lost"), "{why}");
}

#[test]
fn offers_and_answers_out_of_turn_are_refused() {
    let mut desk = Desk::new();
    assert_eq!(desk.signal(2, answer()), [], "nobody asked");
    let (attempt, _) = Desk::started(&desk.say(ServerMessage::NewPeer(peer(2)))).expect("started");
    assert_eq!(desk.signal(2, offer()), [], "it is ours to offer");
    assert_eq!(desk.signal(2, answer()), [], "we have not offered yet");
    desk.tell(Input::LocalDescription(attempt, offer()));
    assert_eq!(desk.signal(2, answer()).len(), 1);
    assert_eq!(desk.signal(2, answer()), [], "one is enough");
    assert_eq!(desk.say(ServerMessage::NewPeer(peer(2))), [], "it is not new");
    assert_eq!(desk.say(ServerMessage::NewPeer(peer(1))), [], "that is us");
    assert_eq!(desk.signal(1, offer()), [], "that is us");
    assert_eq!(desk.say(welcome(9)), [], "we know who we are");
}

#[test]
fn what_is_no_description_closes_what_is_not_open_and_nothing_else() {
    let mut desk = Desk::new();
    let open = desk.open(3);
    for garbage in ["", "v=0", "nonsense", &"v=0 m=application a=fingerprint: ".repeat(2_000)] {
        let (attempt, _) = Desk::started(&desk.say(ServerMessage::NewPeer(peer(2)))).expect("started");
        desk.tell(Input::LocalDescription(attempt, offer()));
        let outputs = desk.signal(2, Signal::Answer(garbage.into()));
        assert!(matches!(closed(&outputs), Some((_, CloseReason::Failed(_)))), "{outputs:?}");
        assert_eq!(desk.signal(3, Signal::Offer(garbage.into())), []);
        assert_eq!(desk.signal(3, Signal::Answer(garbage.into())), []);
    }
    assert_eq!(desk.signal(2, Signal::IceCandidate("x".repeat(10_000))), []);
    assert!(desk.board.is_open(open));
}

#[test]
fn who_sends_more_than_is_taken_is_closed_also_while_another_connection_is_looked_for() {
    for silent in [false, true] {
        let mut desk = Desk::new();
        let carrier = desk.open_marked(2);
        desk.tell(Input::Silence(peer(2), silent));
        let end = desk.tell(Input::Overrun(carrier, "more than was taken".into()));
        assert!(matches!(closed(&end), Some((_, CloseReason::Failed(why))) if why == "more than was taken"));
    }
}

#[test]
fn a_description_that_webrtc_refuses_is_not_tried_again() {
    let mut desk = Desk::new();
    let (attempt, _) = Desk::started(&desk.signal(2, offer())).expect("started");
    let outputs = desk.tell(Input::Refused(attempt, "no ice-ufrag".into()));
    assert_eq!(outputs[0], Output::Stop(attempt));
    let Some((_, CloseReason::Failed(why))) = closed(&outputs) else { panic!("{outputs:?}") };
    assert!(why.contains("no ice-ufrag"), "{why}");
}

#[test]
fn an_open_connection_outlives_signaling_and_an_unopened_one_does_not() {
    let mut desk = Desk::new();
    let open = desk.open(2);
    let (half, _) = Desk::started(&desk.say(ServerMessage::NewPeer(peer(3)))).expect("started");
    assert_eq!(desk.say(ServerMessage::PeerLeft(peer(2))), []);
    assert_eq!(desk.say(ServerMessage::PeerLeft(peer(3))), [Output::Stop(half)], "nobody was told of it");
    desk.tell(Input::Signaller(SignallerEvent::Down(Down::Lost("gone".into()))));
    assert_eq!(desk.wait(Duration::from_secs(600)), [], "who is connected stays who it is");
    assert!(desk.board.is_open(open));
    let outputs = desk.tell(Input::Closed(open));
    assert_eq!(outputs[0], Output::Stop(open));
    let coplay = |output: &Output| matches!(output, Output::Dial(dial) if dial.dialect == Dialect::Coplay);
    assert!(outputs.iter().any(coplay), "{outputs:?}");
    desk.tell(Input::Signaller(SignallerEvent::Opened));
    let outputs = desk.say(welcome(7));
    assert!(outputs.iter().any(|output| matches!(output, Output::Event(SocketEvent::Entered(it)) if it.me == peer(7))));
}

#[test]
fn closing_has_its_reason() {
    let mut desk = Desk::new();
    let attempt = desk.open(2);
    assert_eq!(closed(&desk.tell(Input::Closed(attempt))), Some((peer(2), CloseReason::Goodbye)));
    desk.open(2);
    assert_eq!(closed(&desk.tell(Input::Disconnect(peer(2)))), Some((peer(2), CloseReason::Local)));
    assert_eq!(desk.tell(Input::Disconnect(peer(2))), [], "that is done");
    let attempt = desk.open(2);
    let outputs = desk.tell(Input::Failed(attempt, "ICE".into()));
    assert_eq!(closed(&outputs), Some((peer(2), CloseReason::Failed("the connection was lost: ICE".into()))));
    // An offer from one that is to answer is refused; from one that was to offer, it means that its end is no more.
    let (attempt, _) = Desk::started(&desk.signal(4, offer())).expect("started");
    desk.tell(Input::Open(attempt));
    let outputs = desk.signal(4, offer());
    assert!(matches!(closed(&outputs), Some((_, CloseReason::Failed(_)))), "{outputs:?}");
    assert!(Desk::started(&outputs).is_some());
}

#[test]
fn what_is_kept_is_bounded() {
    let mut desk = Desk::new();
    for n in 0..10_000_u128 {
        let sender = PeerId::from_u128(n << 64 | 7);
        desk.say(ServerMessage::Signal { sender, data: candidate(1) });
        desk.say(ServerMessage::NewPeer(PeerId::from_u128(n << 64 | 8)));
    }
    assert_eq!(desk.board.peers.len(), MAX_PEERS);
}

#[test]
fn a_stock_server_names_no_room_and_no_leader() {
    let config = SocketConfig { dialect: Some(Dialect::Matchbox), ..SocketConfig::new("ws://host:1/arena?next=2") };
    let mut desk = Desk { board: Switchboard::new(ms(0), config, 1), now: ms(0) };
    let outputs = desk.tell(Input::Elapsed);
    assert!(outputs.iter().any(|output| matches!(output, Output::Dial(dial) if dial.dialect == Dialect::Matchbox)));
    desk.tell(Input::Signaller(SignallerEvent::Opened));
    let outputs = desk.say(ServerMessage::IdAssigned(peer(5)));
    let entered = Entered { me: peer(5), room: "arena".into(), leader: None, members: vec![peer(5)] };
    assert_eq!(outputs[1], Output::Event(SocketEvent::Entered(entered)));
}

#[test]
fn a_server_that_refuses_or_is_silent_ends_with_a_reason() {
    let start = || {
        let config = SocketConfig { signaling_attempts: 2, ..SocketConfig::new("ws://host:1/room") };
        let mut desk = Desk { board: Switchboard::new(ms(0), config, 1), now: ms(0) };
        desk.tell(Input::Elapsed);
        desk
    };
    let mut desk = start();
    desk.tell(Input::Signaller(SignallerEvent::Opened));
    let full = SignalError::RoomFull { max: 4 };
    let outputs = desk.say(ServerMessage::Error(full.clone()));
    assert_eq!(outputs, [Output::Event(SocketEvent::Failed(SocketError::Refused(full)))]);
    assert_eq!(desk.tell(Input::Signaller(SignallerEvent::Down(Down::Lost("closed".into())))), []);
    assert_eq!(desk.wait(Duration::from_secs(600)), []);

    let mut silent = start();
    let outputs = silent.wait(Duration::from_secs(60));
    let dials = outputs.iter().filter(|output| matches!(output, Output::Dial(_))).count();
    assert_eq!(dials, 1, "a second one: {outputs:?}");
    let Some(Output::Event(SocketEvent::Failed(error))) = outputs.last() else { panic!("{outputs:?}") };
    assert!(error.to_string().contains("ws://host:1/room (it does not answer)"), "{error}");
}

#[test]
fn the_server_hears_from_us_now_and_then() {
    let mut desk = Desk::new();
    let outputs = desk.wait(Duration::from_secs(60));
    assert_eq!(outputs, vec![Output::Send(ClientMessage::KeepAlive); 6]);
}

#[test]
fn the_reason_names_what_would_help() {
    let verdict = |here: &[&str], there: &[&str], policy, turn: bool| {
        let url = if turn { "turns:turn.example.org" } else { "stun:turn.example.org" };
        let ice_servers = vec![IceServer { urls: vec![url.into()], ..IceServer::default() }];
        let mut desk = Desk::with(SocketConfig {
            ice_servers,
            ice_transport_policy: policy,
            handshake_attempts: 1,
            ..SocketConfig::new("ws://host:1/room")
        });
        let (attempt, _) = Desk::started(&desk.say(ServerMessage::NewPeer(peer(2)))).expect("started");
        desk.tell(Input::LocalDescription(attempt, offer()));
        desk.signal(2, answer());
        for kind in here {
            desk.tell(Input::LocalCandidate(attempt, format!("candidate:1 1 udp 1 192.0.2.1 5 typ {kind}")));
        }
        for kind in there {
            desk.signal(2, Signal::IceCandidate(format!("candidate:1 1 udp 1 192.0.2.1 5 typ {kind}")));
        }
        let outputs = desk.wait(ms(4_000));
        closed(&outputs).expect("given up").1
    };
    let (all, relay) = (IceTransportPolicy::All, IceTransportPolicy::Relay);
    let without = verdict(&["host", "host", "srflx"], &["host"], all, false);
    let CloseReason::NoPath(NoPath::NoRelay(tried)) = &without else { panic!("{without:?}") };
    assert!(
        tried.contains("here: 2 host, 1 reflexive; there: 1 host; STUN answered, no TURN server is named"),
        "{tried}"
    );
    let silent = verdict(&["host"], &["host"], all, true);
    let CloseReason::NoPath(NoPath::RelayFailed(tried)) = &silent else { panic!("{silent:?}") };
    assert!(tried.contains("STUN gave no other address (2 named), TURN gave no other address (1 named)"), "{tried}");
    for (here, there) in [("relay", "host"), ("host", "relay")] {
        let reason = verdict(&[here], &[there], all, false);
        assert!(matches!(reason, CloseReason::NoPath(NoPath::RelayFailed(_))), "{reason:?}");
    }
    for turn in [false, true] {
        let reason = verdict(&[], &[], relay, turn);
        assert!(matches!(reason, CloseReason::NoPath(_)) && reason.to_string().contains("only relayed"), "{reason:?}");
    }
    for (here, there, what) in
        [(&["host"][..], &[][..], "the peer has no addresses"), (&[], &["host"], "this machine has no addresses")]
    {
        let reason = verdict(here, there, all, true);
        assert!(matches!(&reason, CloseReason::Failed(why) if why.contains(what)), "{reason:?}");
    }
}

mod mending;
mod reentering;
mod relaying;
mod resuming;
