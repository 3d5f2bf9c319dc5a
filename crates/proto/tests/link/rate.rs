//! How much a link sends follows what its path carries, and little waits on the way.

use std::time::Duration;

use bytes::Bytes;
use coplay_proto::{
    Channel, Lane,
    conditioner::{Conditioner, Conditions},
    link::{Cause, FIRST_RATE, Figures, Input, Link, LinkConfig, LinkEvent, MAX_STATE, Output, Quality},
};

use crate::pair::{delayed, ms};

const FRAME: Duration = Duration::from_micros(16_667);
const SECOND: Duration = Duration::from_secs(1);
const LINKS: usize = 4;

/// A narrow place: so many bytes a second, and so long a queue before it.
fn narrow(bytes: u32, queue: Duration) -> Conditions {
    Conditions { bandwidth: Some(bytes), queue: (f64::from(bytes) * queue.as_secs_f64()) as usize, ..delayed(30) }
}

/// A game that wants to send so much state to a peer, and skips what its budget does not allow, as a session does.
struct Player {
    link: Link,
    figures: Figures,
    /// Bytes of state a second that it would send.
    wants: f64,
    tokens: f64,
    /// When events and frames came, and how long they took.
    events: Vec<(Duration, Duration)>,
    frames: Vec<(Duration, Duration, usize)>,
    sent: usize,
}

impl Player {
    fn new(seed: u64) -> Self {
        Self {
            link: Link::new(Duration::ZERO, LinkConfig::default(), seed),
            figures: Figures { budget: FIRST_RATE, ..Figures::default() },
            wants: 0.0,
            tokens: 0.0,
            events: Vec::new(),
            frames: Vec::new(),
            sent: 0,
        }
    }

    fn frame(&mut self, now: Duration) {
        let budget = f64::from(self.figures.budget);
        self.tokens = (self.tokens + budget * FRAME.as_secs_f64()).min((budget * 0.1).max(2.0 * MAX_STATE as f64));
        let mut wants = self.wants * FRAME.as_secs_f64();
        while wants >= 20.0 && self.tokens > 0.0 {
            let mut frame = (now.as_nanos() as u64).to_le_bytes().to_vec();
            frame.resize((wants as usize).min(MAX_STATE), 0);
            wants -= frame.len() as f64;
            self.tokens -= frame.len() as f64;
            self.link.handle(now, Input::State(frame.into())).expect("the link is open");
        }
    }

    fn hear(&mut self, now: Duration, event: LinkEvent) {
        let since = |bytes: &Bytes| {
            now - Duration::from_nanos(u64::from_le_bytes(bytes[..8].try_into().expect("each says when it was sent")))
        };
        match event {
            LinkEvent::Figures(figures) => self.figures = figures,
            LinkEvent::State(frame) => self.frames.push((now, since(&frame), frame.len())),
            LinkEvent::Message(_, message) => {
                self.events.push((now, since(&message)));
                let _ = self.link.handle(now, Input::Consumed(message.len()));
            }
            LinkEvent::Closed(reason) => panic!("{reason}"),
            _ => {}
        }
    }

    /// Bytes of frames a second that came within this time.
    fn goodput(&self, from: Duration, to: Duration) -> f64 {
        let came = self.frames.iter().filter(|(at, ..)| (from..to).contains(at));
        came.map(|(.., size)| *size).sum::<usize>() as f64 / (to - from).as_secs_f64()
    }

    /// How long frames, and events, took that came within this time: the middle one, the 99th of a hundred, the longest.
    fn took(&self, events: bool, from: Duration, to: Duration) -> [Duration; 3] {
        let frames = self.frames.iter().map(|(at, took, _)| (*at, *took));
        let mut took: Vec<Duration> = if events { self.events.clone() } else { frames.collect() }
            .into_iter()
            .filter(|(at, _)| (from..to).contains(at))
            .map(|(_, took)| took)
            .collect();
        took.sort_unstable();
        [0.5, 0.99, 1.0]
            .map(|share| took.get(((took.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or_default())
    }
}

/// Games on one side and each one's partner on the other. The paths there, and those back, are shared by all.
struct Net {
    now: Duration,
    /// A game and then its partner.
    players: Vec<Player>,
    paths: [Conditioner<(usize, Lane, Bytes)>; 2],
    next_frame: Duration,
    /// How often each game sends an event.
    events: Duration,
    next_event: Duration,
}

impl Net {
    fn new(pairs: usize, there: Conditions, back: Conditions, seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            players: (0..2 * pairs as u64).map(|index| Player::new(seed + index)).collect(),
            paths: [Conditioner::new(there, seed ^ 1), Conditioner::new(back, seed ^ 2)],
            next_frame: Duration::ZERO,
            events: ms(100),
            next_event: Duration::ZERO,
        }
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            for (index, player) in self.players.iter_mut().enumerate() {
                while let Some(output) = player.link.poll() {
                    match output {
                        Output::Transmit(lane, bytes) => {
                            let size = bytes.len();
                            player.sent += size;
                            self.paths[index % 2].push(self.now, (index, lane, bytes), size);
                        }
                        Output::Event(event) => player.hear(self.now, event),
                    }
                }
            }
            let links = self.players.iter().filter_map(|player| player.link.deadline());
            let paths = self.paths.iter().filter_map(Conditioner::deadline);
            let next = links.chain(paths).chain([self.next_frame, self.next_event]).min().unwrap_or(until);
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            for path in &mut self.paths {
                while let Some((from, lane, bytes)) = path.pop(self.now) {
                    let _ = self.players[from ^ 1].link.handle(self.now, Input::Received(lane, bytes));
                }
            }
            for player in &mut self.players {
                if player.link.deadline().is_some_and(|deadline| deadline <= self.now) {
                    let _ = player.link.handle(self.now, Input::Elapsed);
                }
                if self.next_event <= self.now {
                    let mut event = (self.now.as_nanos() as u64).to_le_bytes().to_vec();
                    event.resize(64, 0);
                    player.link.handle(self.now, Input::Message(Channel::Events, event.into())).expect("there is room");
                }
                if self.next_frame <= self.now {
                    player.frame(self.now);
                }
            }
            if self.next_event <= self.now {
                self.next_event += self.events;
            }
            if self.next_frame <= self.now {
                self.next_frame += FRAME;
            }
        }
        self.now = until;
    }

    /// The game that sends, and the partner that hears.
    fn pair(&self, index: usize) -> (&Player, &Player) {
        (&self.players[2 * index], &self.players[2 * index + 1])
    }
}

/// One game that wants to send so much.
fn game(there: Conditions, back: Conditions, wants: f64, wants_back: f64) -> Net {
    let mut net = Net::new(1, there, back, 3);
    net.players[0].wants = wants;
    net.players[1].wants = wants_back;
    net
}

/// The path goes 5 Mbit/s, 1 Mbit/s, 200 kbit/s and back, 20 s each, both ways; a game wants 100 kB/s there.
fn narrows(queue: Duration, wants_back: f64) {
    let rates = [625_000, 125_000, 25_000, 125_000, 625_000];
    let wants = 100_000.0;
    let mut net = game(narrow(rates[0], queue), narrow(rates[0], queue), wants, wants_back);
    for (index, rate) in rates.into_iter().enumerate() {
        let widened = index > 0 && rates[index - 1] < rate;
        net.paths.iter_mut().for_each(|path| path.set(narrow(rate, queue)));
        let from = net.now;
        net.run(20 * SECOND);
        let (_, heard) = net.pair(0);
        let carried = wants.min(f64::from(rate));
        let at_once = heard.took(false, from, from + 3 * SECOND);
        let later = heard.took(false, from + 3 * SECOND, net.now);
        let events = heard.took(true, from + 3 * SECOND, net.now);
        let events_at_once = heard.took(true, from, from + 3 * SECOND);
        let goodput = heard.goodput(from + 3 * SECOND, net.now);
        println!(
            "queue {queue:?} back {wants_back} at {rate}: frames at first {at_once:?}, then {later:?}; events at first {events_at_once:?} then {events:?}; {goodput:.0} B/s of {carried}"
        );
        assert!(goodput >= carried * if rate < 30_000 { 0.6 } else { 0.75 }, "{goodput} of {carried} at {rate}");
        assert!(later[1] <= ms(300), "frames take {later:?} at {rate}");
        assert!(events[1] <= ms(300), "events take {events:?} at {rate}");
        assert!(at_once[2] <= ms(60) + queue + ms(100), "frames take {at_once:?} at first at {rate}");
        if widened {
            let recovered = (0..20)
                .find(|second| heard.goodput(from + *second * SECOND, from + (*second + 1) * SECOND) >= carried * 0.8);
            println!("  recovered within {recovered:?} s");
            assert!(recovered.is_some_and(|seconds| seconds <= 4), "{recovered:?}");
        }
    }
}

#[test]
fn a_path_that_narrows_and_widens_keeps_playing() {
    narrows(ms(500), 100_000.0);
}

#[test]
fn a_path_that_narrows_keeps_playing_when_only_acks_come_back() {
    narrows(ms(500), 0.0);
}

#[test]
fn long_and_short_queues_alike() {
    narrows(ms(1_000), 5_000.0);
    narrows(ms(250), 5_000.0);
}

#[test]
fn losses_without_a_queue_do_not_lower_the_rate() {
    for loss in [0.05, 0.1, 0.25] {
        let conditions = Conditions { loss, jitter: ms(5), ..delayed(30) };
        let mut net = game(conditions, conditions, 100_000.0, 5_000.0);
        net.run(60 * SECOND);
        let (game, heard) = net.pair(0);
        let goodput = heard.goodput(10 * SECOND, net.now);
        println!("loss {loss}: {goodput:.0} B/s, {:?}", game.figures);
        assert!(goodput >= 95_000.0 * (1.0 - loss) * if loss > 0.2 { 0.8 } else { 1.0 }, "{goodput} at {loss}");
        assert!(game.figures.rate >= 100_000 || loss > 0.2, "{:?}", game.figures);
    }
}

#[test]
fn the_rate_grows_to_what_is_wanted() {
    let conditions = Conditions { loss: 0.01, jitter: ms(5), ..delayed(30) };
    let mut net = game(conditions, conditions, 3_000_000.0, 5_000.0);
    net.run(3 * SECOND);
    let (_, heard) = net.pair(0);
    let goodput = heard.goodput(2 * SECOND, net.now);
    assert!(goodput >= 2_500_000.0, "{goodput}");
}

#[test]
fn jitter_is_no_queue() {
    for (conditions, wants) in
        [(Conditions::WIFI, 200_000.0), (Conditions::CELLULAR, 100_000.0), (Conditions::TERRIBLE, 30_000.0)]
    {
        let mut net = game(conditions, conditions, wants, 5_000.0);
        net.run(60 * SECOND);
        let (game, heard) = net.pair(0);
        let goodput = heard.goodput(5 * SECOND, net.now);
        println!("{wants}: {goodput:.0} B/s, {:?}", game.figures);
        let lost = if conditions == Conditions::TERRIBLE { 0.6 } else { 0.9 };
        assert!(goodput >= wants * lost, "{goodput} of {wants}");
    }
}

#[test]
fn a_place_without_a_queue_is_seen_by_its_losses() {
    let conditions = narrow(50_000, ms(30));
    let mut net = game(conditions, delayed(30), 200_000.0, 0.0);
    net.run(60 * SECOND);
    let (game, heard) = net.pair(0);
    let goodput = heard.goodput(20 * SECOND, net.now);
    let lost = net.paths[0].lost() as f64 / net.paths[0].sent() as f64;
    println!("{goodput:.0} B/s, {lost} lost, {:?}", game.figures);
    assert!(goodput >= 35_000.0, "{goodput}");
    assert!(lost < 0.3, "{lost}");
}

#[test]
fn those_who_share_a_path_all_get_their_share() {
    let conditions = narrow(200_000, ms(500));
    let mut net = Net::new(LINKS, conditions, delayed(30), 5);
    net.players[0].wants = 300_000.0;
    net.run(10 * SECOND);
    for index in 0..LINKS {
        net.players[2 * index].wants = 300_000.0;
    }
    let from = net.now + 20 * SECOND;
    net.run(60 * SECOND);
    let shares: Vec<f64> = (0..LINKS).map(|index| net.pair(index).1.goodput(from, net.now)).collect();
    let took: Vec<_> = (0..LINKS).map(|index| net.pair(index).1.took(true, from, net.now)[1]).collect();
    println!("{shares:?} {took:?}");
    assert!(shares.iter().all(|share| *share >= 0.3 * 200_000.0 / LINKS as f64), "{shares:?}");
    assert!(shares.iter().sum::<f64>() >= 130_000.0, "{shares:?}");
    assert!(took.iter().all(|took| *took <= ms(400)), "{took:?}");
}

#[test]
fn messages_and_state_share_the_rate() {
    let mut net = game(narrow(60_000, ms(500)), delayed(30), 200_000.0, 0.0);
    net.events = 1_000 * SECOND;
    net.run(5 * SECOND);
    let from = net.now;
    for _ in 0..10 {
        let mut message = (net.now.as_nanos() as u64).to_le_bytes().to_vec();
        message.resize(60_000, 0);
        let now = net.now;
        net.players[0].link.handle(now, Input::Message(Channel::Events, message.into())).expect("there is room");
    }
    while net.players[0].link.queued() > 0 && net.now < from + 60 * SECOND {
        net.run(ms(100));
    }
    let (time, heard) = (net.now - from, net.pair(0).1);
    let (state, took) = (heard.goodput(from, net.now), heard.took(false, from + SECOND, net.now));
    println!("600 kB in {time:?} beside {state:.0} B/s, which take {took:?}");
    assert!(time <= 30 * SECOND, "{time:?} for 600 kB at 60 kB/s, of which half is theirs");
    assert!(state >= 15_000.0, "{state}");
    assert!(took[1] <= ms(300), "{took:?}");
}

#[test]
fn little_is_sent_to_a_path_that_has_stopped_and_all_goes_on_when_it_goes_on() {
    let mut net = game(delayed(30), delayed(30), 100_000.0, 100_000.0);
    net.run(5 * SECOND);
    let before = net.players[0].sent;
    net.paths[0].set(Conditions { loss: 1.0, ..delayed(30) });
    net.run(1_900 * ms(1));
    let meanwhile = net.players[0].sent - before;
    assert!(meanwhile < 60_000, "{meanwhile} bytes in 1.9 s");
    net.paths[0].set(delayed(30));
    let from = net.now;
    net.run(SECOND);
    let goodput = net.pair(0).1.goodput(from + ms(500), net.now);
    assert!(goodput >= 90_000.0, "{goodput}");
}

#[test]
fn a_path_that_becomes_longer_is_no_queue_for_long() {
    let mut net = game(delayed(20), delayed(20), 100_000.0, 5_000.0);
    net.run(10 * SECOND);
    net.paths.iter_mut().for_each(|path| path.set(delayed(80)));
    let from = net.now;
    net.run(15 * SECOND);
    let heard = net.pair(0).1;
    let goodputs: Vec<f64> =
        (0..15).map(|second| heard.goodput(from + second * SECOND, from + (second + 1) * SECOND).round()).collect();
    println!("{goodputs:?}");
    assert!(goodputs[9..].iter().all(|goodput| *goodput >= 80_000.0), "{goodputs:?}");
}

#[test]
fn a_full_path_says_so() {
    let mut net = game(delayed(30), delayed(30), 100_000.0, 5_000.0);
    net.run(5 * SECOND);
    assert_eq!((net.players[0].figures.quality, net.players[0].figures.cause), (Quality::Good, None));
    net.paths[0].set(narrow(12_000, ms(500)));
    net.run(10 * SECOND);
    let figures = net.players[0].figures;
    assert_eq!(figures.quality, Quality::Poor, "{figures:?}");
    assert!(matches!(figures.cause, Some(Cause::Narrow | Cause::Queueing)), "{figures:?}");
}
