//! Does a link go on by another connection when its own is silent, and end only when it has to?

use coplay_proto::{
    rng::Rng,
    signal::relay::{RelayFrame, RelayOffer},
};

use super::{super::mending::FRESH, *};

const OFFER: RelayOffer = RelayOffer { bytes: 128 * 1024, frames: 400 };
/// As a link has it.
const KEEP_ALIVE: Duration = ms(250);
const UNRESPONSIVE: Duration = ms(2_000);
const GRACE: Duration = ms(10_000);
const STEP: Duration = ms(5);

#[derive(Clone, Debug)]
enum Coming {
    Opened,
    Signaling(ServerMessage),
    Frame(Bytes),
    Direct(u64),
    Open(Attempt),
}

/// A switchboard, a platform as simple as can be, and a link that keeps alive.
struct End {
    board: Switchboard,
    id: PeerId,
    coming: Vec<(Duration, Coming)>,
    /// The connections, by the offer that made them.
    connections: BTreeMap<Attempt, u64>,
    /// What carries the peer.
    direct: Option<Attempt>,
    relay: Option<Attempt>,
    heard: Duration,
    silent: bool,
    linked: bool,
    keep_alive: Duration,
    events: Vec<(Duration, SocketEvent)>,
    dials: u32,
    offers: u32,
    /// Nothing of it runs.
    stopped: bool,
    /// Nothing goes between it and signaling, over the WebSocket that there is; nor does what is dialled answer.
    deaf: bool,
    unanswered: bool,
}

struct Net {
    ends: [End; 2],
    now: Duration,
    rng: Rng,
    /// Whether new connections open.
    direct: bool,
    /// The connections that carry nothing to this end any more: up to this offer.
    cut: [u64; 2],
    /// How many offers never arrive.
    lost_offers: u32,
}

impl Net {
    /// Two that are connected.
    fn new(relays: bool, seed: u64) -> Self {
        let ends = [1, 2].map(|n| {
            let desk = Desk::entered(SocketConfig::new("ws://host:1/room"), 1, greeting(n, relays, false));
            End {
                board: desk.board,
                id: peer(n),
                coming: Vec::new(),
                connections: BTreeMap::new(),
                direct: None,
                relay: None,
                heard: ms(0),
                silent: false,
                linked: false,
                keep_alive: ms(0),
                events: Vec::new(),
                dials: 0,
                offers: 0,
                stopped: false,
                deaf: false,
                unanswered: false,
            }
        });
        let mut net = Self { ends, now: ms(0), rng: Rng::new(seed), direct: true, cut: [0; 2], lost_offers: 0 };
        net.come(0, ms(0), Coming::Signaling(ServerMessage::NewPeer(peer(2))));
        net.run(ms(1_000));
        for end in &net.ends {
            assert!(matches!(end.events[..], [(_, SocketEvent::Opened(_))]), "{:?}", end.events);
        }
        net
    }

    /// Two that the relay has come to carry.
    fn relayed(seed: u64) -> Self {
        let mut net = Self::new(true, seed);
        net.direct = false;
        net.cut();
        net.run(ms(600));
        assert!(net.plays_within(ms(3_000)));
        net
    }

    fn come(&mut self, to: usize, delay: Duration, what: Coming) {
        let at = self.now + delay;
        self.ends[to].coming.push((at, what));
    }

    fn tell(&mut self, at: usize, input: Input) {
        let now = self.now;
        self.ends[at].board.handle(now, input);
        while let Some(output) = self.ends[at].board.poll() {
            self.obey(at, output);
        }
    }

    fn obey(&mut self, at: usize, output: Output) {
        let (other, now, id) = (1 - at, self.now, self.ends[at].id);
        let cut_off = self.ends.iter().any(|end| end.deaf);
        let end = &mut self.ends[at];
        match output {
            Output::Dial(dial) => {
                end.dials += 1;
                assert!(dial.credentials.resume.is_some(), "it comes back to its seat");
                if !end.unanswered {
                    // What was said over the WebSocket before is lost.
                    end.coming.retain(|(_, what)| !matches!(what, Coming::Signaling(_) | Coming::Frame(_)));
                    end.deaf = false;
                    self.come(at, ms(40), Coming::Opened);
                    let me = if at == 0 { 1 } else { 2 };
                    self.come(at, ms(40), Coming::Signaling(greeting(me, true, true)));
                }
            }
            Output::Send(ClientMessage::Signal { data, .. }) => {
                let offers = matches!(data, Signal::Offer(_));
                end.offers += u32::from(offers);
                let lost = offers && self.lost_offers > 0;
                self.lost_offers -= u32::from(lost);
                if !cut_off && !lost {
                    self.come(other, ms(20), Coming::Signaling(ServerMessage::Signal { sender: id, data }));
                }
            }
            Output::Relay(frame) => {
                let frame = RelayFrame::read(frame).expect("a frame");
                if !cut_off {
                    self.come(other, ms(40), Coming::Frame(RelayFrame { peer: id, ..frame }.write()));
                }
            }
            Output::Send(_) | Output::HangUp | Output::Candidate(..) | Output::Admit(_) => {}
            Output::Start { attempt, offer: offers, .. } => {
                if offers {
                    end.connections.insert(attempt, attempt.number);
                    let sdp = format!("{SDP}a=id:{}\r\n", attempt.number);
                    end.board.handle(now, Input::LocalDescription(attempt, Signal::Offer(sdp)));
                }
            }
            Output::Describe(attempt, Signal::Offer(sdp)) => {
                end.connections.insert(attempt, number(&sdp));
                end.board.handle(now, Input::LocalDescription(attempt, Signal::Answer(sdp)));
            }
            Output::Describe(attempt, Signal::Answer(sdp)) => {
                assert_eq!(number(&sdp), attempt.number, "the answer to another offer is none");
                let there = self.ends[other].connections.iter().find(|(_, offer)| **offer == attempt.number);
                if let Some(there) = there.map(|(there, _)| *there).filter(|_| self.direct) {
                    let (here, later) = (self.rng.below(100), self.rng.below(300));
                    self.come(at, ms(60 + here), Coming::Open(attempt));
                    self.come(other, ms(60 + later), Coming::Open(there));
                }
            }
            Output::Describe(..) => {}
            Output::Stop(attempt) => {
                end.connections.remove(&attempt);
                for carries in [&mut end.direct, &mut end.relay] {
                    carries.take_if(|carries| *carries == attempt);
                }
            }
            Output::RelayOpen(_) => panic!("the link is open already"),
            Output::Received(attempt, ..) => {
                assert_eq!(end.relay, Some(attempt));
                self.hear(at);
            }
            Output::Moved(attempt) => {
                let relay = end.relay.expect("it carried until now");
                end.direct = Some(attempt);
                end.board.handle(now, Input::Drained(relay));
            }
            Output::Mended(attempt) => {
                assert!(end.relay.is_none() && end.connections.contains_key(&attempt));
                end.direct = Some(attempt);
                end.events.push((now, SocketEvent::Mended(attempt.peer)));
            }
            Output::MendedByRelay(attempt) => {
                (end.direct, end.relay) = (None, Some(attempt));
                end.events.push((now, SocketEvent::Mended(attempt.peer)));
            }
            Output::Event(event @ SocketEvent::Opened(peer)) => {
                assert!(!end.linked, "the link is open already");
                (end.linked, end.heard) = (true, now);
                end.direct = end.board.peers[&peer].attempt;
                end.events.push((now, event));
            }
            Output::Event(event @ SocketEvent::Closed(..)) => {
                end.linked = false;
                end.events.push((now, event));
            }
            Output::Event(_) => {}
        }
    }

    fn hear(&mut self, at: usize) {
        let end = &mut self.ends[at];
        end.heard = self.now;
        if std::mem::take(&mut end.silent) {
            let other = self.ends[1 - at].id;
            self.tell(at, Input::Silence(other, false));
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        let now = self.now;
        for at in 0..2 {
            if self.ends[at].stopped {
                continue;
            }
            for what in arrived(&mut self.ends[at].coming, now) {
                match what {
                    Coming::Opened => self.tell(at, Input::Signaller(SignallerEvent::Opened)),
                    Coming::Signaling(message) => self.tell(at, Input::Signaller(SignallerEvent::Message(message))),
                    Coming::Frame(frame) => self.tell(at, Input::Signaller(SignallerEvent::Relayed(frame))),
                    Coming::Open(attempt) => {
                        if self.ends[at].connections.contains_key(&attempt) {
                            self.tell(at, Input::Open(attempt));
                        }
                    }
                    Coming::Direct(offer) => {
                        let end = &self.ends[at];
                        let attempt = end.connections.iter().find(|(_, of)| **of == offer).map(|(attempt, _)| *attempt);
                        if attempt.is_some_and(|attempt| end.board.is_open(attempt)) && offer > self.cut[at] {
                            self.hear(at);
                        }
                    }
                }
            }
            let mut turns = 0;
            while self.ends[at].board.deadline().is_some_and(|due| due <= now) {
                self.tell(at, Input::Elapsed);
                turns += 1;
                assert!(turns < 20, "it never comes to rest");
            }
            self.link(at);
        }
    }

    /// What the link above does.
    fn link(&mut self, at: usize) {
        let (now, other) = (self.now, self.ends[1 - at].id);
        let end = &mut self.ends[at];
        if !end.linked {
            return;
        }
        if end.heard + GRACE <= now {
            end.linked = false;
            return self.tell(at, Input::Disconnect(other));
        }
        if end.heard + UNRESPONSIVE <= now && !end.silent {
            end.silent = true;
            self.tell(at, Input::Silence(other, true));
        }
        let end = &mut self.ends[at];
        if end.keep_alive <= now {
            end.keep_alive = now + KEEP_ALIVE;
            if let Some(direct) = end.direct {
                assert!(end.board.may_send(direct), "{direct:?}");
                let offer = end.connections[&direct];
                self.come(1 - at, ms(10), Coming::Direct(offer));
            } else if let Some(relay) = end.relay {
                let _ = end.board.relay(now, relay, Lane::Unreliable, Bytes::from_static(b"here"));
                while let Some(output) = self.ends[at].board.poll() {
                    self.obey(at, output);
                }
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// Whether both hear each other again within this time.
    fn plays_within(&mut self, time: Duration) -> bool {
        let end = self.now + time;
        while self.now < end {
            self.step();
            let heard = |end: &End| end.linked && end.heard + 2 * KEEP_ALIVE > self.now;
            if self.ends.iter().all(heard) {
                return true;
            }
        }
        false
    }

    /// All connections that there are carry nothing more.
    fn cut(&mut self) {
        let newest = self.ends[0].connections.values().max().copied().unwrap_or(0);
        self.cut = [newest; 2];
    }

    fn mended(&self, at: usize) -> usize {
        self.ends[at].events.iter().filter(|(_, event)| matches!(event, SocketEvent::Mended(_))).count()
    }

    fn closed(&self, at: usize) -> Option<&CloseReason> {
        self.ends[at].events.iter().find_map(|(_, event)| match event {
            SocketEvent::Closed(_, reason) => Some(reason),
            _ => None,
        })
    }

    fn went_well(&self) {
        for at in 0..2 {
            assert_eq!(self.closed(at), None, "{:?}", self.ends[at].events);
            let end = &self.ends[at];
            assert!(end.linked && !end.silent);
            assert!(end.connections.len() <= 1, "nothing is left over: {:?}", end.connections);
        }
    }
}

fn greeting(me: u8, relays: bool, resumed: bool) -> ServerMessage {
    let ServerMessage::Welcome(mut welcome) = welcome(me) else { unreachable!() };
    welcome.relay = relays.then_some(OFFER);
    (welcome.resume, welcome.resumed) = (Some("token".into()), resumed);
    welcome.members = if resumed { vec![peer(1), peer(2)] } else { vec![peer(me)] };
    ServerMessage::Welcome(welcome)
}

fn number(sdp: &str) -> u64 {
    let line = sdp.lines().find_map(|line| line.strip_prefix("a=id:")).expect("our descriptions have one");
    line.parse().expect("a number")
}

#[test]
fn a_connection_that_falls_silent_is_replaced_within_3_seconds() {
    for seed in 0..20 {
        for relays in [false, true] {
            let mut net = Net::new(relays, seed);
            net.cut();
            net.run(ms(600));
            assert!(net.plays_within(ms(2_400)), "seed {seed}");
            net.run(ms(10_000));
            net.went_well();
            assert_eq!((net.mended(0), net.mended(1)), (1, 1), "seed {seed}: once is enough");
            assert_eq!(net.ends.each_ref().map(|end| end.dials), [0, 0], "signaling answered");
            // And again.
            net.cut();
            net.run(ms(600));
            assert!(net.plays_within(ms(2_400)), "seed {seed}");
            net.run(ms(10_000));
            net.went_well();
        }
    }
}

#[test]
fn who_only_answers_and_alone_hears_nothing_asks_for_another() {
    for seed in 0..10 {
        let mut net = Net::new(false, seed);
        net.cut();
        net.cut[0] = 0;
        net.run(ms(600));
        assert!(net.plays_within(ms(2_500)), "seed {seed}");
        net.run(ms(10_000));
        net.went_well();
    }
}

#[test]
fn without_a_direct_path_the_relay_takes_over_until_there_is_one() {
    for seed in 0..10 {
        let mut net = Net::new(true, seed);
        net.direct = false;
        net.cut();
        net.run(ms(600));
        assert!(net.plays_within(ms(3_000)), "seed {seed}");
        assert!(net.ends.iter().all(|end| end.relay.is_some()));
        net.run(ms(5_000));
        net.direct = true;
        net.run(ms(30_000));
        net.went_well();
        assert!(net.ends.iter().all(|end| end.relay.is_none() && end.direct.is_some()), "seed {seed}");
    }
}

#[test]
fn an_offer_that_is_lost_is_made_again_also_when_the_relay_takes_over_meanwhile() {
    for (seed, lost) in (1..8).flat_map(|seed| [(seed, 1), (seed, 2)]) {
        let mut net = Net::new(true, seed);
        net.cut();
        net.lost_offers = lost;
        net.run(ms(600));
        assert!(net.plays_within(ms(3_000)), "seed {seed}");
        // An attempt that nobody answers, and the next.
        net.run(ms(6_000));
        net.went_well();
        assert!(net.ends.iter().all(|end| end.relay.is_none() && end.direct.is_some()), "seed {seed}");
    }
}

#[test]
fn a_network_that_went_away_takes_signaling_along_and_both_come_back() {
    for (seed, at) in [(1, 0), (2, 1), (3, 0), (4, 1)] {
        let mut net = Net::new(true, seed);
        net.cut();
        net.ends[at].deaf = true;
        net.run(ms(600));
        assert!(net.plays_within(ms(4_000)), "seed {seed}");
        net.run(ms(10_000));
        net.went_well();
        assert!(net.ends[at].dials >= 1 && net.ends.iter().all(|end| end.dials <= 2));
    }
}

#[test]
fn a_peer_that_is_stopped_for_5_seconds_is_there_again_and_one_for_60_is_out() {
    for (seed, at) in [(1, 0), (2, 1), (3, 0), (4, 1)] {
        let mut net = Net::new(true, seed);
        net.ends[at].stopped = true;
        net.run(ms(5_000));
        net.ends[at].stopped = false;
        net.ends[at].heard = net.now;
        assert!(net.plays_within(ms(600)), "seed {seed}");
        net.run(ms(12_000));
        net.went_well();

        net.ends[at].stopped = true;
        net.run(ms(60_000));
        assert_eq!(net.closed(1 - at), Some(&CloseReason::Local), "the link gave it up");
        net.ends[at].stopped = false;
        net.ends[at].heard = net.now;
        net.run(ms(3_000));
        let Some(CloseReason::Failed(why)) = net.closed(at) else { panic!("{:?}", net.ends[at].events) };
        assert!(why.contains("has closed the connection"), "{why}");
        assert!(net.ends.iter().all(|end| end.connections.is_empty() && end.board.peers.is_empty()));
    }
}

#[test]
fn a_peer_that_is_dead_is_gone_after_the_grace_of_its_link_and_costs_a_few_offers() {
    let mut net = Net::new(true, 1);
    net.ends[1].stopped = true;
    let offers = net.ends[0].offers;
    net.run(ms(10_500));
    assert_eq!(net.closed(0), Some(&CloseReason::Local));
    assert!((1..=6).contains(&(net.ends[0].offers - offers)), "{}", net.ends[0].offers);
    assert!(net.ends[0].connections.is_empty() && net.ends[0].board.peers.is_empty());
    net.run(ms(10_000));
    assert!(net.ends[0].board.relays.is_empty());
}

#[test]
fn a_connection_that_is_lost_is_replaced_and_not_the_end() {
    let mut net = Net::new(false, 1);
    let lost = net.ends[0].direct.expect("open");
    net.cut();
    net.tell(0, Input::Failed(lost, "no consent".into()));
    net.ends[0].direct = None;
    assert!(net.plays_within(ms(3_000)));
    net.run(ms(10_000));
    net.went_well();

    // Where none can be made, it ends, with the reason.
    net.direct = false;
    net.ends[1].stopped = true;
    let lost = net.ends[0].direct.expect("open");
    net.tell(0, Input::Failed(lost, "no consent".into()));
    net.ends[0].direct = None;
    net.ends[0].linked = false;
    net.run(ms(16_000));
    assert!(matches!(net.closed(0), Some(CloseReason::Failed(why)) if why.contains("no other could be made")));
}

#[test]
fn what_is_lost_late_is_waited_for_as_long() {
    let mut desk = Desk::new();
    let carrier = desk.open_marked(2);
    desk.tell(Input::Silence(peer(2), true));
    desk.wait(ms(20_000));
    // It is heard again, while an attempt is made.
    desk.tell(Input::Silence(peer(2), false));
    assert!(desk.board.is_open(carrier) && !desk.board.is_current(carrier));
    assert_eq!(closed(&desk.tell(Input::Closed(carrier))), None);
    assert_eq!(closed(&desk.wait(ms(14_900))), None);
    assert!(closed(&desk.wait(ms(200))).is_some());
}

#[test]
fn who_is_not_ours_is_left_alone() {
    let mut desk = Desk::entered(SocketConfig::new("ws://host:1/room"), 1, greeting(1, false, false));
    let attempt = desk.open(2);
    assert_eq!(desk.tell(Input::Silence(peer(2), true)), []);
    assert_eq!(desk.wait(ms(9_000)), [], "nor has signaling to prove itself");
    assert!(desk.board.is_open(attempt));
    let outputs = desk.tell(Input::Failed(attempt, "silent".into()));
    assert!(closed(&outputs).is_some(), "{outputs:?}");
}

#[test]
fn who_hears_of_a_link_that_it_does_not_have_says_so_and_makes_none() {
    let mut desk = Desk::new();
    let mends = Mark { offer: 9, mends: Some(7) }.put(SDP);
    let outputs = desk.signal(2, Signal::Offer(mends));
    let gone = Signal::IceCandidate(Word::Gone(7).write());
    assert_eq!(sent(&outputs), [(peer(2), gone)]);
    assert_eq!(outputs.len(), 1);
    assert!(desk.board.peers.is_empty());
}

#[test]
fn who_is_relayed_and_falls_silent_has_signaling_dialled_anew() {
    for (seed, at) in [(1, 0), (2, 1)] {
        let mut net = Net::relayed(seed);
        net.ends[at].deaf = true;
        net.run(ms(600));
        assert!(net.plays_within(ms(4_000)), "seed {seed}");
        net.went_well();
        assert!(net.ends.iter().all(|end| end.relay.is_some()));
        assert!((1..=2).contains(&net.ends[at].dials));
    }
}

#[test]
fn a_dial_that_nobody_answers_is_made_again_soon_where_a_relayed_peer_is_silent() {
    for (seed, at) in [(1, 0), (2, 1)] {
        let mut net = Net::relayed(seed);
        (net.ends[at].deaf, net.ends[at].unanswered) = (true, true);
        // It is silent after 2 s, and dials after 3.
        net.run(ms(5_000));
        assert_eq!(net.ends[at].dials, 1);
        net.ends[at].unanswered = false;
        assert!(net.plays_within(ms(3_000)), "seed {seed}");
        net.went_well();
    }
}

#[test]
fn an_offer_is_taken_for_a_link_that_never_opened_here_and_the_next_as_well() {
    let mut desk = Desk::new();
    let offer = |offer, mends| Signal::Offer(Mark { offer, mends }.put(SDP));
    let described = |desk: &mut Desk, signal| {
        let (attempt, _) = Desk::started(&desk.signal(2, signal)).expect("started");
        desk.tell(Input::LocalDescription(attempt, answer()));
        attempt
    };
    for (number, mends) in [(3, None), (4, Some(3)), (5, Some(3))] {
        described(&mut desk, offer(number, mends));
    }
    // One of another link is not.
    assert_eq!(desk.signal(2, offer(6, Some(2))), []);
    let last = described(&mut desk, offer(7, Some(3)));
    assert_eq!(desk.tell(Input::Open(last)), [Output::Event(SocketEvent::Opened(peer(2)))]);
    // Both know it by the same number, and it is mended by it.
    let ask = (peer(2), Signal::IceCandidate(Word::Ask(3).write()));
    assert_eq!(sent(&desk.tell(Input::Silence(peer(2), true))), [ask]);
    let next = described(&mut desk, offer(8, Some(3)));
    assert_eq!(desk.tell(Input::Open(next)), [Output::Mended(next), Output::Stop(last)]);
}

#[test]
fn a_goodbye_over_a_connection_that_replaced_another_is_the_end_at_once() {
    let mut desk = Desk::new();
    let offer = |offer, mends| Signal::Offer(Mark { offer, mends }.put(SDP));
    let (first, _) = Desk::started(&desk.signal(2, offer(3, None))).expect("started");
    desk.tell(Input::Open(first));
    let (second, _) = Desk::started(&desk.signal(2, offer(4, Some(3)))).expect("started");
    assert_eq!(desk.tell(Input::Open(second)), [Output::Mended(second), Output::Stop(first)]);
    desk.wait(FRESH);
    assert_eq!(closed(&desk.tell(Input::Closed(second))), Some((peer(2), CloseReason::Goodbye)));
}

#[test]
fn who_asks_again_and_again_gets_no_more_than_an_attempt_at_a_time() {
    let mut desk = Desk::new();
    let attempt = desk.open_marked(2);
    let ask = Signal::IceCandidate(Word::Ask(attempt.number).write());
    let (mut started, mut stopped) = (0, 0);
    for _ in 0..1_000 {
        let outputs = [desk.signal(2, ask.clone()), desk.wait(ms(10))].concat();
        started += outputs.iter().filter(|output| matches!(output, Output::Start { .. })).count();
        stopped += outputs.iter().filter(|output| matches!(output, Output::Stop(_))).count();
    }
    assert!((2..=40).contains(&started), "{started} in 10 s");
    assert_eq!(started, stopped + 1, "what there was is kept, and one attempt runs");
    assert!(desk.board.is_open(attempt));
}
