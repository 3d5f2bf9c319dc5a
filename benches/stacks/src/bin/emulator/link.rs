//! What is on its way between two ends, and what comes out when? In the caller's time, so that tests need none.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use coplay_proto::rng::Rng;

use super::{
    path::{Conditions, Fate, Path},
    traffic::{Counters, Flow},
};

/// The most packets under way; more are lost, and counted as dropped.
const MOST_UNDER_WAY: usize = 1 << 16;
/// The most flows that have a path of their own. Where there are more, all begin anew.
const MOST_FLOWS: usize = 1 << 12;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    A,
    B,
    /// A server, if there is one.
    S,
}

pub(super) const SIDES: [Side; 2] = [Side::A, Side::B];

/// What is between the sides: A and B, and a server if there is one.
#[derive(Debug)]
pub(super) struct Link {
    /// By who sends.
    directions: [Direction; 3],
    /// What TCP meets instead, whoever sends: the way to signaling, which is another one than that between peers.
    tcp: Option<Conditions>,
    rng: Rng,
    /// By when they are due, then by the order in which they were sent.
    due: BinaryHeap<Reverse<(Duration, u64, Side, What)>>,
    sent: u64,
}

#[derive(Debug, Default)]
struct Direction {
    conditions: Conditions,
    paths: BTreeMap<Flow, Path<Vec<u8>>>,
    counters: Counters,
}

/// What is due.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Arrival(Vec<u8>),
    /// The first packet of a path is through its narrow place.
    Service(Flow),
}

impl Link {
    /// Nothing is lost, and all arrives at once, until conditions are set. Same seed, and the same packets at the same times:
    /// same fate.
    pub(super) fn new(seed: u64) -> Self {
        Self { directions: Default::default(), tcp: None, rng: Rng::new(seed), due: BinaryHeap::new(), sent: 0 }
    }

    /// What what this side sends meets, from now on.
    pub(super) fn set(&mut self, side: Side, conditions: Conditions) {
        self.directions[side as usize].conditions = conditions;
    }

    /// What TCP meets instead, from now on.
    pub(super) fn set_tcp(&mut self, conditions: Conditions) {
        self.tcp = Some(conditions);
    }

    /// A packet that this side sends.
    pub(super) fn send(&mut self, now: Duration, side: Side, packet: Vec<u8>) {
        let direction = &mut self.directions[side as usize];
        direction.counters.count(&packet);
        if self.due.len() >= MOST_UNDER_WAY {
            direction.counters.dropped += 1;
            return;
        }
        let flow = Flow::of(&packet);
        if direction.paths.len() >= MOST_FLOWS && !direction.paths.contains_key(&flow) {
            direction.paths.clear();
        }
        let rng = &mut self.rng;
        let path = direction.paths.entry(flow).or_insert_with(|| Path::new(rng.next_u64()));
        let bytes = packet.len();
        let conditions = self.tcp.as_ref().filter(|_| flow.is_tcp()).unwrap_or(&direction.conditions);
        let (fate, packet) = path.send(now, conditions, packet, bytes);
        direction.counters.most_queued = direction.counters.most_queued.max(path.queued() as u64);
        self.meet(side, fate, packet, flow);
    }

    /// The next packet that has arrived by now, and who sent it.
    pub(super) fn next(&mut self, now: Duration) -> Option<(Side, Vec<u8>)> {
        while self.deadline().is_some_and(|due| due <= now) {
            let Reverse((due, _, side, what)) = self.due.pop()?;
            let flow = match what {
                What::Arrival(packet) => return Some((side, packet)),
                What::Service(flow) => flow,
            };
            let direction = &mut self.directions[side as usize];
            let conditions = self.tcp.as_ref().filter(|_| flow.is_tcp()).unwrap_or(&direction.conditions);
            let served = direction.paths.get_mut(&flow).and_then(|path| path.serve(due, conditions));
            if let Some((packet, fate, next)) = served {
                if let Some(next) = next {
                    self.push(next, side, What::Service(flow));
                }
                self.meet(side, fate, Some(packet), flow);
            }
        }
        None
    }

    /// When the next thing is due.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.due.peek().map(|Reverse((due, ..))| *due)
    }

    /// What this side sent so far.
    pub(super) fn counters(&mut self, side: Side) -> Counters {
        let counters = &mut self.directions[side as usize].counters;
        let told = *counters;
        counters.most_queued = 0;
        told
    }

    fn meet(&mut self, side: Side, fate: Fate, packet: Option<Vec<u8>>, flow: Flow) {
        let counters = &mut self.directions[side as usize].counters;
        match (fate, packet) {
            (Fate::Arrives(at), Some(packet)) => self.push(at, side, What::Arrival(packet)),
            (Fate::Waits(Some(at)), _) => self.push(at, side, What::Service(flow)),
            (Fate::Lost, _) => counters.lost += 1,
            (Fate::Dropped, _) => counters.dropped += 1,
            (Fate::Arrives(_) | Fate::Waits(None), _) => {}
        }
    }

    fn push(&mut self, due: Duration, side: Side, what: What) {
        self.sent += 1;
        self.due.push(Reverse((due, self.sent, side, what)));
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{path::Bursts, traffic::tests::packet},
        *,
    };

    const UDP: u8 = 17;

    fn ms(ms: f64) -> Duration {
        Duration::from_secs_f64(ms / 1e3)
    }

    /// A packet that tells when it was sent, of the flow of this port.
    fn stamped(now: Duration, port: u16, bytes: usize) -> Vec<u8> {
        let mut packet = packet(UDP, (1, port), (2, 9), bytes);
        packet[24..32].copy_from_slice(&(now.as_nanos() as u64).to_le_bytes());
        packet
    }

    fn sent_at(packet: &[u8]) -> Duration {
        Duration::from_nanos(u64::from_le_bytes(packet[24..32].try_into().expect("eight bytes")))
    }

    /// Sends packets of 100 bytes so far apart; when each was sent and arrived, in the order of arrival.
    fn run(conditions: Conditions, seed: u64, count: u32, apart: Duration) -> Vec<(Duration, Duration)> {
        let mut link = Link::new(seed);
        link.set(Side::A, conditions);
        let mut arrived = Vec::new();
        for index in 0..count {
            let now = apart * index;
            while let Some(due) = link.deadline().filter(|due| *due <= now) {
                arrived.extend(link.next(due).map(|(_, packet)| (sent_at(&packet), due)));
            }
            link.send(now, Side::A, stamped(now, 1, 100));
        }
        while let Some(due) = link.deadline() {
            arrived.extend(link.next(due).map(|(_, packet)| (sent_at(&packet), due)));
        }
        let counters = link.counters(Side::A);
        assert_eq!(arrived.len() as u64 + counters.lost + counters.dropped, u64::from(count));
        arrived
    }

    fn latencies(arrived: &[(Duration, Duration)]) -> impl Iterator<Item = Duration> {
        arrived.iter().map(|(sent, at)| *at - *sent)
    }

    #[test]
    fn without_conditions_everything_arrives_at_once_in_both_directions() {
        let mut link = Link::new(1);
        for side in SIDES {
            link.send(ms(7.0), side, stamped(ms(7.0), 1, 60));
            let (from, packet) = link.next(ms(7.0)).expect("it is there");
            assert_eq!((from, packet.len()), (side, 60));
        }
        assert_eq!(link.next(ms(1e9)), None);
    }

    #[test]
    fn each_direction_has_conditions_of_its_own() {
        let mut link = Link::new(1);
        link.set(Side::A, Conditions { delay_ms: 30.0, ..Conditions::default() });
        link.set(Side::B, Conditions { loss: 1.0, ..Conditions::default() });
        link.send(ms(0.0), Side::A, stamped(ms(0.0), 1, 60));
        link.send(ms(0.0), Side::B, stamped(ms(0.0), 1, 60));
        assert_eq!(link.next(ms(29.9)), None);
        assert_eq!(link.next(ms(30.0)).map(|(side, _)| side), Some(Side::A));
        assert_eq!(link.next(ms(1e9)), None);
        assert_eq!((link.counters(Side::A).lost, link.counters(Side::B).lost), (0, 1));
    }

    #[test]
    fn tcp_has_conditions_of_its_own_once_they_are_set() {
        let mut link = Link::new(1);
        link.set(Side::A, Conditions { delay_ms: 30.0, loss: 1.0, ..Conditions::default() });
        let tcp = || packet(6, (1, 1), (3, 9), 60);
        link.send(ms(0.0), Side::A, tcp());
        assert_eq!(link.next(ms(1e9)), None);
        link.set_tcp(Conditions { delay_ms: 20.0, ..Conditions::default() });
        for side in [Side::A, Side::S] {
            link.send(ms(0.0), side, tcp());
            assert_eq!(link.next(ms(19.9)), None);
            assert_eq!(link.next(ms(20.0)), Some((side, tcp())));
        }
        link.send(ms(0.0), Side::A, stamped(ms(0.0), 1, 60));
        assert_eq!(link.next(ms(1e9)), None);
    }

    #[test]
    fn same_seed_same_fate() {
        let rough = Conditions {
            delay_ms: 30.0,
            jitter_ms: 5.0,
            loss: 0.05,
            bursts: Some(Bursts { share: 0.02, length_ms: 50.0 }),
            ..Conditions::default()
        };
        assert_eq!(run(rough, 3, 2_000, ms(5.0)), run(rough, 3, 2_000, ms(5.0)));
        assert_ne!(run(rough, 3, 2_000, ms(5.0)), run(rough, 4, 2_000, ms(5.0)));
    }

    #[test]
    fn delay_and_jitter_are_as_said() {
        let arrived = run(Conditions { delay_ms: 30.0, jitter_ms: 5.0, ..Conditions::default() }, 1, 10_000, ms(20.0));
        assert!(latencies(&arrived).all(|latency| (ms(25.0)..=ms(35.0)).contains(&latency)));
        let mean = latencies(&arrived).sum::<Duration>() / 10_000;
        assert!((ms(29.9)..ms(30.1)).contains(&mean), "{mean:?}");
        assert!(latencies(&arrived).any(|latency| latency < ms(25.1)));
        assert!(latencies(&arrived).any(|latency| latency > ms(34.9)));
    }

    #[test]
    fn jitter_reorders_only_where_it_may() {
        let jitter = Conditions { delay_ms: 30.0, jitter_ms: 5.0, ..Conditions::default() };
        let in_order = |arrived: &[(Duration, Duration)]| arrived.is_sorted_by_key(|(sent, _)| *sent);
        assert!(in_order(&run(jitter, 1, 2_000, ms(1.0))));
        let reorder = Conditions { reorder: true, ..jitter };
        assert!(!in_order(&run(reorder, 1, 2_000, ms(1.0))));
        assert!(in_order(&run(reorder, 1, 2_000, ms(10.0))), "ten apart are too far to meet");
    }

    #[test]
    fn losses_are_as_many_as_said_and_independent() {
        let arrived = run(Conditions { loss: 0.1, ..Conditions::default() }, 5, 50_000, ms(5.0));
        let lost = 1.0 - arrived.len() as f64 / 50_000.0;
        assert!((lost - 0.1).abs() < 0.005, "{lost}");
        // Of those that follow a lost one, as many are lost as of the others.
        let gaps: Vec<u64> = gaps(&arrived, ms(5.0));
        let alone = gaps.iter().filter(|gap| **gap == 1).count() as f64 / gaps.len() as f64;
        assert!((alone - 0.9).abs() < 0.02, "{alone}");
    }

    /// How many are missing, wherever some are.
    fn gaps(arrived: &[(Duration, Duration)], apart: Duration) -> Vec<u64> {
        let numbers = arrived.iter().map(|(sent, _)| (sent.as_nanos() / apart.as_nanos()) as u64);
        let pairs = numbers.clone().zip(numbers.skip(1));
        pairs.map(|(one, next)| next - one - 1).filter(|gap| *gap > 0).collect()
    }

    #[test]
    fn bursts_take_as_much_time_as_said_and_last_as_long() {
        for apart in [ms(1.0), ms(5.0)] {
            let bursts = Some(Bursts { share: 0.02, length_ms: 50.0 });
            let arrived = run(Conditions { bursts, ..Conditions::default() }, 5, 500_000, apart);
            let lost = 1.0 - arrived.len() as f64 / 500_000.0;
            assert!((lost - 0.02).abs() < 0.004, "{lost}");
            let gaps = gaps(&arrived, apart);
            let mean = apart.as_secs_f64() * 1e3 * gaps.iter().sum::<u64>() as f64 / gaps.len() as f64;
            assert!((42.0..62.0).contains(&mean), "however much is sent, a burst lasts 50 ms: {mean}");
        }
    }

    #[test]
    fn a_path_begins_in_any_weather_and_a_burst_at_its_begin_is_no_longer_than_others() {
        let mut link = Link::new(7);
        let bursts = Some(Bursts { share: 0.2, length_ms: 50.0 });
        link.set(Side::A, Conditions { bursts, ..Conditions::default() });
        let mut arrived = |at: f64| {
            let through = (0..1_000).filter(|port| {
                link.send(ms(at), Side::A, stamped(ms(at), *port, 60));
                link.next(ms(at)).is_some()
            });
            through.count()
        };
        let shares = [0.0, 50.0, 100.0, 1_000.0].map(|at| arrived(at) as f64 / 1_000.0);
        assert!(shares.iter().all(|share| (0.76..0.84).contains(share)), "{shares:?}");
        assert_eq!(link.counters(Side::A).udp_packets, 4_000);
    }

    #[test]
    fn what_does_not_fit_waits_and_what_does_not_fit_the_queue_is_dropped() {
        // 100 bytes each ms are 800 kbit/s: half of it fits.
        let narrow = Conditions { rate_kbit: Some(400.0), queue_bytes: 2_000, ..Conditions::default() };
        let arrived = run(narrow, 1, 1_000, ms(1.0));
        assert!((510..=525).contains(&arrived.len()), "{}", arrived.len());
        let pairs = arrived.iter().zip(arrived.iter().skip(1));
        assert!(pairs.clone().count() > 0 && pairs.into_iter().all(|(one, next)| next.1 - one.1 >= ms(1.999)));
        let longest = latencies(&arrived).max();
        assert!((Some(ms(38.0))..=Some(ms(42.0))).contains(&longest), "the queue holds 40 ms: {longest:?}");
    }

    #[test]
    fn each_flow_has_a_queue_of_its_own() {
        let mut link = Link::new(1);
        link.set(Side::A, Conditions { rate_kbit: Some(8.0), queue_bytes: 10_000, ..Conditions::default() });
        for port in [1, 1, 2] {
            link.send(ms(0.0), Side::A, stamped(ms(0.0), port, 100));
        }
        assert!(link.next(ms(100.0)).is_some() && link.next(ms(100.0)).is_some());
        assert_eq!(link.next(ms(100.0)), None);
        assert!(link.next(ms(200.0)).is_some());
        assert_eq!(link.counters(Side::A).most_queued, 200);
    }

    #[test]
    fn what_waits_goes_on_faster_when_the_path_widens() {
        let mut link = Link::new(1);
        let narrow = Conditions { rate_kbit: Some(8.0), queue_bytes: 10_000, ..Conditions::default() };
        link.set(Side::A, narrow);
        for _ in 0..50 {
            link.send(ms(0.0), Side::A, stamped(ms(0.0), 1, 100));
        }
        assert!(link.next(ms(100.0)).is_some());
        link.set(Side::A, Conditions { rate_kbit: Some(800.0), ..narrow });
        // The second is under way at the old pace until 200 ms; then one each ms.
        let arrived = |link: &mut Link, at| std::iter::from_fn(|| link.next(ms(at))).count();
        assert_eq!(arrived(&mut link, 199.0), 0);
        assert_eq!(arrived(&mut link, 220.5), 21);
        link.set(Side::A, Conditions::default());
        link.send(ms(220.5), Side::A, stamped(ms(220.5), 1, 60));
        assert_eq!(arrived(&mut link, 221.5), 29, "the rest at once, and what came after behind it");
    }

    #[test]
    fn what_is_under_way_is_bounded() {
        let mut link = Link::new(1);
        link.set(Side::A, Conditions { delay_ms: 1.0, ..Conditions::default() });
        for _ in 0..=MOST_UNDER_WAY {
            link.send(ms(0.0), Side::A, stamped(ms(0.0), 1, 60));
        }
        assert_eq!(link.counters(Side::A).dropped, 1);
        for port in 0..=MOST_FLOWS {
            link.send(ms(2.0), Side::B, stamped(ms(2.0), port as u16, 60));
        }
        assert!(link.directions[1].paths.len() <= MOST_FLOWS);
    }
}
