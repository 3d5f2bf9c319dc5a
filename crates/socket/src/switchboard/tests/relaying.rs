//! Does the relay begin in time, carry everything, and give it over to WebRTC with nothing lost, doubled or out of order?

use coplay_proto::{
    rng::Rng,
    signal::{
        ReportedPath,
        relay::{FrameKind, RelayFrame, RelayOffer},
    },
};

use super::*;

const OFFER: RelayOffer = RelayOffer { bytes: 128 * 1024, frames: 400 };

/// Something on its way to an end.
#[derive(Clone, Debug)]
enum Coming {
    Signaling(ServerMessage),
    Frame(Bytes),
    /// By WebRTC.
    Direct(u32),
    /// WebRTC is open, or fails.
    Open(Attempt),
    Failed(Attempt),
}

/// A switchboard with a platform as simple as can be.
struct End {
    board: Switchboard,
    id: PeerId,
    coming: Vec<(Duration, Coming)>,
    /// What datagrams for the peer go by, and come by.
    relay: Option<Attempt>,
    direct: Option<Attempt>,
    by_direct: bool,
    held: Vec<u32>,
    received: Vec<u32>,
    events: Vec<(Duration, SocketEvent)>,
    reports: Vec<Report>,
    offers: u32,
    frames: u32,
    moved_at: Option<Duration>,
    down: bool,
}

/// Two of them in a room, the first of which is told of the other.
struct Net {
    ends: [End; 2],
    now: Duration,
    /// Whether WebRTC connects.
    direct: bool,
    lost: f64,
    rng: Rng,
    sent: [u32; 2],
}

impl Net {
    fn new(configs: [SocketConfig; 2], relays: bool, direct: bool) -> Self {
        let mut n = 0_u8;
        let ends = configs.map(|config| {
            n += 1;
            let ServerMessage::Welcome(mut welcome) = welcome(n) else { unreachable!() };
            welcome.relay = relays.then_some(OFFER);
            welcome.resume = Some("token".into());
            let desk = Desk::entered(config, n.into(), ServerMessage::Welcome(welcome));
            End {
                board: desk.board,
                id: peer(n),
                coming: Vec::new(),
                relay: None,
                direct: None,
                by_direct: false,
                held: Vec::new(),
                received: Vec::new(),
                events: Vec::new(),
                reports: Vec::new(),
                offers: 0,
                frames: 0,
                moved_at: None,
                down: false,
            }
        });
        let mut net = Self { ends, now: ms(0), direct, lost: 0.0, rng: Rng::new(7), sent: [0; 2] };
        net.come(0, ms(0), Coming::Signaling(ServerMessage::NewPeer(peer(2))));
        net
    }

    fn come(&mut self, to: usize, delay: Duration, what: Coming) {
        let at = self.now + delay;
        self.ends[to].coming.push((at, what));
    }

    fn tell(&mut self, at: usize, input: Input) {
        let now = self.now;
        self.ends[at].board.handle(now, input);
        self.obey(at);
    }

    fn obey(&mut self, at: usize) {
        while let Some(output) = self.ends[at].board.poll() {
            let (other, now) = (1 - at, self.now);
            let id = self.ends[at].id;
            match output {
                Output::Dial(_) | Output::HangUp | Output::Candidate(..) => {}
                Output::Send(ClientMessage::Signal { data, .. }) => {
                    self.ends[at].offers += u32::from(matches!(data, Signal::Offer(_)));
                    self.come(other, ms(20), Coming::Signaling(ServerMessage::Signal { sender: id, data }));
                }
                Output::Send(ClientMessage::Report(report)) => self.ends[at].reports.push(report),
                Output::Send(_) => {}
                Output::Start { attempt, offer: offers, .. } => {
                    self.ends[at].direct = Some(attempt);
                    if offers {
                        self.ends[at].board.handle(now, Input::LocalDescription(attempt, offer()));
                    }
                }
                Output::Describe(attempt, Signal::Offer(_)) => {
                    self.ends[at].board.handle(now, Input::LocalDescription(attempt, answer()));
                }
                Output::Describe(attempt, _) => {
                    if self.direct {
                        let there = self.ends[other].direct.expect("it has answered");
                        let (here, later) = (self.rng.below(100), self.rng.below(300));
                        self.come(at, ms(here), Coming::Open(attempt));
                        self.come(other, ms(later), Coming::Open(there));
                    }
                }
                Output::Stop(attempt) => {
                    let end = &mut self.ends[at];
                    if end.relay == Some(attempt) {
                        end.relay = None;
                    }
                    if end.direct == Some(attempt) {
                        (end.direct, end.by_direct) = (None, false);
                        end.held.clear();
                    }
                }
                Output::Relay(frame) => {
                    self.ends[at].frames += 1;
                    let frame = RelayFrame::read(frame).expect("a frame");
                    let there = frame.peer == self.ends[other].id;
                    if there && !self.rng.chance(self.lost) && !self.ends.iter().any(|end| end.down) {
                        self.come(other, ms(40), Coming::Frame(RelayFrame { peer: id, ..frame }.write()));
                    }
                }
                Output::RelayOpen(attempt) => {
                    let end = &mut self.ends[at];
                    (end.relay, end.by_direct) = (Some(attempt), false);
                    end.events.push((now, SocketEvent::Opened(attempt.peer)));
                }
                Output::Received(attempt, _, bytes) => {
                    let end = &mut self.ends[at];
                    assert_eq!(end.relay, Some(attempt));
                    end.received.push(u32::from_be_bytes(bytes[..4].try_into().expect("a number")));
                }
                Output::Moved(attempt) => {
                    let end = &mut self.ends[at];
                    assert_eq!(end.direct, Some(attempt));
                    (end.by_direct, end.moved_at) = (true, Some(now));
                    let relay = end.relay.expect("it carried until now");
                    end.board.handle(now, Input::Drained(relay));
                }
                Output::Admit(attempt) => {
                    let end = &mut self.ends[at];
                    assert_eq!(end.direct, Some(attempt));
                    let held = std::mem::take(&mut end.held);
                    end.received.extend(held);
                }
                Output::Mended(_) | Output::MendedByRelay(_) => panic!("nothing is silent here"),
                Output::Event(event) => {
                    let end = &mut self.ends[at];
                    end.by_direct |= matches!(event, SocketEvent::Opened(_));
                    end.events.push((now, event));
                }
            }
        }
    }

    /// What is next in time.
    fn step(&mut self) -> Option<Duration> {
        let due = |end: &End| {
            let deadline = end.board.deadline();
            end.coming.iter().map(|(at, _)| *at).chain(deadline).min()
        };
        let next = self.ends.iter().filter_map(due).min()?;
        self.now = next.max(self.now);
        for at in 0..2 {
            for what in arrived(&mut self.ends[at].coming, self.now) {
                let input = match what {
                    Coming::Signaling(message) => Input::Signaller(SignallerEvent::Message(message)),
                    Coming::Frame(frame) => Input::Signaller(SignallerEvent::Relayed(frame)),
                    Coming::Open(attempt) => Input::Open(attempt),
                    Coming::Failed(attempt) => Input::Failed(attempt, "on purpose".into()),
                    Coming::Direct(number) => {
                        let end = &mut self.ends[at];
                        match end.direct {
                            Some(attempt) if end.board.is_open(attempt) => end.received.push(number),
                            Some(_) => end.held.push(number),
                            None => {}
                        }
                        continue;
                    }
                };
                self.tell(at, input);
            }
            self.tell(at, Input::Elapsed);
        }
        Some(self.now)
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self
            .ends
            .iter()
            .any(|it| it.board.deadline().is_some_and(|due| due <= end) || it.coming.iter().any(|(at, _)| *at <= end))
        {
            self.step();
        }
        self.now = end;
    }

    /// Sends the next number reliably, if there is room.
    fn send(&mut self, from: usize) {
        let (now, number) = (self.now, self.sent[from]);
        let end = &mut self.ends[from];
        if end.by_direct {
            self.come(1 - from, ms(5), Coming::Direct(number));
        } else if let Some(relay) = end.relay {
            if end.board.relay(now, relay, Lane::Reliable, number.to_be_bytes().to_vec().into()).is_err() {
                return;
            }
            self.obey(from);
        } else {
            return;
        }
        self.sent[from] += 1;
    }

    fn opened(&self, at: usize) -> Vec<Duration> {
        let opened = self.ends[at].events.iter().filter(|(_, event)| matches!(event, SocketEvent::Opened(_)));
        opened.map(|(at, _)| *at).collect()
    }

    fn closed(&self, at: usize) -> Option<&CloseReason> {
        self.ends[at].events.iter().find_map(|(_, event)| match event {
            SocketEvent::Closed(peer, reason) if *peer == self.ends[1 - at].id => Some(reason),
            _ => None,
        })
    }

    /// Sends from both for a while; then everything has arrived, once and in order.
    fn talk(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.send(0);
            self.send(1);
            self.run(ms(7));
        }
        self.run(Duration::from_secs(15));
        for at in 0..2 {
            assert_eq!(self.closed(at), None);
            assert!(self.sent[1 - at] > 0);
            assert_eq!(self.ends[at].received, (0..self.sent[1 - at]).collect::<Vec<_>>(), "what came to {at}");
        }
    }
}

fn config() -> SocketConfig {
    SocketConfig::new("ws://host:1/room")
}

#[test]
fn who_does_not_connect_in_8_seconds_is_relayed_to() {
    let mut net = Net::new([config(), config()], true, false);
    net.run(ms(6_900));
    assert!(net.opened(0).is_empty() && net.ends[0].frames == 0, "WebRTC has its time");
    net.run(ms(1_000));
    for at in 0..2 {
        assert_eq!(net.opened(at).len(), 1);
        assert!(net.opened(at)[0] < ms(8_000), "{:?}", net.opened(at));
        assert_eq!(net.ends[at].reports, [Report::Path(ReportedPath::Websocket)]);
    }
    net.talk(Duration::from_secs(5));
}

#[test]
fn who_fails_at_once_does_not_wait_for_it() {
    let configs = [(); 2].map(|()| SocketConfig { handshake_attempts: 1, ..config() });
    let mut net = Net::new(configs, true, false);
    net.run(ms(100));
    let attempt = net.ends[0].direct.expect("it was started");
    net.come(0, ms(0), Coming::Failed(attempt));
    net.run(ms(300));
    assert_eq!((net.opened(0).len(), net.opened(1).len()), (1, 1));
}

#[test]
fn a_server_or_a_peer_that_does_not_relay_is_a_reason() {
    let never = SocketConfig { relay: RelayPolicy::Never, ..config() };
    for (configs, relays) in [([config(), config()], false), ([never.clone(), config()], true)] {
        let mut net = Net::new(configs, relays, false);
        net.run(ms(8_001));
        let Some(CloseReason::Failed(why)) = net.closed(0) else { panic!("{:?}", net.ends[0].events) };
        assert!(why.contains("no connection after 1 attempt "), "{why}");
        assert!(matches!(net.ends[0].reports[..], [Report::Failed(_)]));
        assert_eq!(net.ends[0].frames, 0);
    }
    // The peer does not answer.
    let mut net = Net::new([config(), never], true, false);
    net.run(ms(11_500));
    let Some(CloseReason::Failed(why)) = net.closed(0) else { panic!("{:?}", net.ends[0].events) };
    assert!(why.contains("nor by signaling: the peer does not answer"), "{why}");
}

#[test]
fn who_answers_nothing_at_all_is_given_up_within_8_seconds() {
    let mut net = Net::new([config(), config()], true, false);
    while net.closed(0).is_none() {
        net.ends[1].coming.clear();
        net.step().expect("it is still tried");
    }
    assert!(net.now <= ms(8_000), "{:?}", net.now);
    assert!(matches!(net.closed(0), Some(CloseReason::Failed(why)) if why.contains("never answered")));
    assert_eq!(net.ends[0].frames, 0);
}

#[test]
fn a_server_that_says_no_ends_it_at_once() {
    let mut net = Net::new([config(), config()], true, false);
    net.ends[1].down = true;
    net.run(ms(7_010));
    assert_eq!((net.closed(0), net.ends[0].frames), (None, 1));
    let refused = RelayFrame { peer: peer(2), kind: FrameKind::Refused, body: Bytes::new() };
    net.tell(0, Input::Signaller(SignallerEvent::Relayed(refused.write())));
    assert!(matches!(net.closed(0), Some(CloseReason::Failed(_))));
}

#[test]
fn nothing_but_the_relay_is_tried_if_so_wanted() {
    let only = || SocketConfig { relay: RelayPolicy::Only, ..config() };
    for (configs, most) in [([only(), only()], 0), ([only(), config()], 0), ([config(), only()], 1)] {
        let mut net = Net::new(configs, true, true);
        net.run(ms(500));
        assert_eq!((net.opened(0).len(), net.opened(1).len()), (1, 1));
        net.talk(Duration::from_secs(60));
        assert!(net.ends.iter().all(|end| end.offers <= most + 1), "WebRTC is not tried again");
        assert!(net.ends.iter().all(|end| end.moved_at.is_none()));
    }
    let mut net = Net::new([only(), only()], false, true);
    net.run(ms(500));
    assert!(matches!(net.closed(0), Some(CloseReason::Failed(why)) if why.contains("nothing but the relay")));
}

#[test]
fn what_is_lost_on_the_way_comes_again() {
    for seed in 0..20 {
        let mut net = Net::new([config(), config()], true, false);
        net.rng = Rng::new(seed);
        net.run(ms(9_000));
        net.lost = 0.1;
        net.talk(Duration::from_secs(10));
        assert!(net.sent[0] > 200, "{:?}", net.sent);
    }
}

#[test]
fn when_webrtc_works_later_it_carries_and_nobody_notices() {
    for seed in 0..20 {
        let mut net = Net::new([config(), config()], true, false);
        net.rng = Rng::new(seed);
        net.run(ms(9_000));
        net.lost = if seed % 2 == 0 { 0.0 } else { 0.1 };
        // 15 s after it opened, and 30 s after that.
        net.talk(Duration::from_secs(5));
        net.direct = true;
        net.talk(Duration::from_secs(60));
        let frames = net.ends[0].frames;
        net.talk(Duration::from_secs(60));
        for at in 0..2 {
            assert_eq!(net.opened(at).len(), 1, "seed {seed}");
            assert!(net.ends[at].moved_at.is_some() && net.ends[at].by_direct, "seed {seed}");
            assert!(net.ends[at].relay.is_none() && net.ends[at].board.relays.is_empty(), "seed {seed}");
        }
        assert_eq!(net.ends[0].frames, frames, "nothing is relayed any more");
    }
}

#[test]
fn webrtc_is_tried_again_less_and_less_often() {
    let mut net = Net::new([config(), config()], true, false);
    net.run(ms(9_000));
    let mut seen = Vec::new();
    for _ in 0..600 {
        let before = net.ends[0].offers;
        net.run(Duration::from_secs(1));
        if net.ends[0].offers > before {
            seen.push(net.now.as_secs());
        }
    }
    let pauses: Vec<_> = seen.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(seen[0], 23, "{seen:?}");
    // A path is looked for for 7 s.
    assert!(pauses.iter().zip([37, 67, 127, 247]).all(|(pause, wanted)| pause.abs_diff(wanted) <= 1), "{pauses:?}");
    assert_eq!(net.ends[1].offers, 0, "it is one side's to offer");
    assert!(net.closed(0).is_none() && net.closed(1).is_none());
}

#[test]
fn a_lost_signaling_connection_that_comes_back_costs_nothing() {
    let mut net = Net::new([config(), config()], true, false);
    net.run(ms(9_000));
    net.talk(Duration::from_secs(2));
    net.ends[0].down = true;
    net.tell(0, Input::Signaller(SignallerEvent::Down(Down::Lost("pulled".into()))));
    for _ in 0..100 {
        net.send(0);
        net.send(1);
        net.run(ms(20));
    }
    net.ends[0].down = false;
    net.tell(0, Input::Signaller(SignallerEvent::Opened));
    let ServerMessage::Welcome(mut back) = welcome(1) else { unreachable!() };
    (back.resumed, back.resume, back.relay) = (true, Some("token".into()), Some(OFFER));
    back.members = vec![peer(1), peer(2)];
    net.tell(0, Input::Signaller(SignallerEvent::Message(ServerMessage::Welcome(back))));
    net.talk(Duration::from_secs(2));
    assert_eq!((net.opened(0).len(), net.opened(1).len()), (1, 1));
}

#[test]
fn a_seat_that_is_lost_ends_what_was_relayed_there() {
    let mut net = Net::new([config(), config()], true, false);
    net.run(ms(9_000));
    net.tell(0, Input::Signaller(SignallerEvent::Down(Down::Refused(SignalError::SeatGone))));
    let Some(CloseReason::Failed(why)) = net.closed(0) else { panic!("{:?}", net.ends[0].events) };
    assert!(why.contains("signaling"), "{why}");
    net.tell(1, Input::Signaller(SignallerEvent::Message(ServerMessage::PeerLeft(peer(1)))));
    assert_eq!(net.closed(1), Some(&CloseReason::Goodbye));
}

#[test]
fn who_disconnects_says_so_after_what_was_sent() {
    let mut net = Net::new([config(), config()], true, false);
    net.run(ms(9_000));
    net.send(0);
    net.tell(0, Input::Disconnect(peer(2)));
    net.run(ms(500));
    assert_eq!((net.closed(0), net.closed(1)), (Some(&CloseReason::Local), Some(&CloseReason::Goodbye)));
    assert_eq!(net.ends[1].received, [0]);
    net.run(Duration::from_secs(10));
    assert!(net.ends.iter().all(|end| end.board.relays.is_empty() && end.board.peers.is_empty()));
}

#[test]
fn a_peer_that_takes_nothing_any_more_is_given_up_with_a_reason() {
    let mut net = Net::new([config(), config()], true, false);
    net.run(ms(9_000));
    net.lost = 1.0;
    net.send(0);
    net.run(Duration::from_secs(21));
    assert!(matches!(net.closed(0), Some(CloseReason::Failed(why)) if why.contains("does not arrive")));
}

#[test]
fn frames_that_make_no_sense_keep_nothing_and_hurt_nobody() {
    let mut net = Net::new([config(), config()], true, false);
    net.run(ms(9_000));
    let mut rng = Rng::new(3);
    for n in 0..5_000_u32 {
        let kind = [FrameKind::Hello, FrameKind::Unreliable, FrameKind::Reliable, FrameKind::Refused][n as usize % 4];
        let from = PeerId::from_u128(u128::from(rng.below(1_000)) << 64 | 9);
        let body: Vec<u8> = (0..rng.below(80)).map(|_| rng.below(256) as u8).collect();
        let frame = RelayFrame { peer: from, kind, body: body.into() }.write();
        net.tell(0, Input::Signaller(SignallerEvent::Relayed(frame)));
    }
    assert_eq!((net.ends[0].board.relays.len(), net.ends[0].board.peers.len()), (1, 1));
    // And hellos that do.
    for n in 0..5_000_u128 {
        let mut body = vec![1, 0];
        body.extend([7; 64]);
        let frame = RelayFrame { peer: PeerId::from_u128(n << 64 | 9), kind: FrameKind::Hello, body: body.into() };
        net.tell(0, Input::Signaller(SignallerEvent::Relayed(frame.write())));
    }
    assert!(net.ends[0].board.relays.len() <= 2 * MAX_PEERS && net.ends[0].board.peers.len() <= MAX_PEERS);
    net.talk(Duration::from_secs(1));
}
