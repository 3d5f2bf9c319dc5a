//! How much of blobs may be under way, so that nothing else waits for it?
//!
//! Both lanes share one path and one congestion window. What tells whether frames and events wait is how long a chunk takes
//! until it is reported: in the socket's buffer, in SCTP's queue and in the path's, all that is ahead of it is ahead of them,
//! too. The least that it ever took is the idle path's round trip. So as much is under way as arrives in that time and a
//! quarter more (as in RFC 6817, the target is a delay and not a loss): an event then takes a quarter of a round trip longer
//! at the most, which is half of the way that it has. Each round the window becomes what this would have been with the round
//! trip seen; at most twice, at least an eighth as large, and a fifth larger at least while nothing is seen of a queue. And if
//! a chunk takes twice as long as it may, the window is halved without waiting for its report.

use core::time::Duration;
use std::collections::VecDeque;

/// The window before anything is known of the path, and after a pause: what a path of 1 Mbit/s takes in 65 ms.
const FIRST: usize = 8 * 1024;
/// What is left of it at least: two small chunks, so that the path is never idle.
const LEAST: usize = 2 * LEAST_CHUNK;
/// A chunk that goes with one packet.
const LEAST_CHUNK: usize = 1_100;
/// How many chunks make a window: an event that waits for a chunk to go out waits so much of a round trip.
const CHUNKS: usize = 16;
/// How much longer a chunk may take than on the idle path: a quarter of that, but what timers and threads take anyway, and
/// not so much that a link takes it for a queue, which holds its rate from 20 ms on.
const LEAST_DELAY: Duration = Duration::from_millis(5);
const MOST_DELAY: Duration = Duration::from_millis(15);
/// How much it grows in a round at least, while nothing is seen of a queue: on a long path what it may be longer is a small part
/// of the way, and to grow by that alone would take a minute.
const GROWTH: f64 = 1.2;
/// How many chunks tell how long they take now: the least of them counts, the others had jitter.
const SAMPLES: u32 = 4;
/// After so long without anything under way, the window begins anew.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the window is made half for a round, so that the queue that it keeps up drains, and the idle path is seen.
const PROBE: Duration = Duration::from_secs(20);
/// For how long the idle path is believed to be what it was: a few probes.
const BELIEVED: Duration = Duration::from_secs(60);

/// What is under way to one peer.
#[derive(Debug)]
pub(super) struct Window {
    size: usize,
    most: usize,
    under_way: VecDeque<Flight>,
    bytes: usize,
    idle: Idle,
    round: Round,
    /// Something waited for the window since the last round.
    limited: bool,
    /// When nothing was under way any more.
    rested: Option<Duration>,
    probe: Probe,
    pace: Option<Pace>,
}

/// A chunk under way.
#[derive(Debug)]
struct Flight {
    number: u64,
    /// Where in its blob it ends.
    end: u64,
    bytes: usize,
    at: Duration,
}

/// What chunks took that were sent since.
#[derive(Debug, Default)]
struct Round {
    since: Duration,
    samples: u32,
    least: Option<Duration>,
}

#[derive(Debug)]
enum Probe {
    Due(Duration),
    /// The window is to be that large again.
    Drains(usize),
}

/// The least that a chunk took, in each stretch of a sixth of [`BELIEVED`].
#[derive(Debug, Default)]
struct Idle(VecDeque<(Duration, Duration)>);

/// So many bytes a second, and what of them is left.
#[derive(Debug)]
struct Pace {
    rate: u32,
    left: f64,
    filled: Duration,
}

impl Window {
    pub(super) const fn new(now: Duration, most: usize) -> Self {
        let most = if most > LEAST { most } else { LEAST };
        Self {
            size: if most < FIRST { most } else { FIRST },
            most,
            under_way: VecDeque::new(),
            bytes: 0,
            idle: Idle(VecDeque::new()),
            round: Round { since: now, samples: 0, least: None },
            limited: false,
            rested: Some(now),
            probe: Probe::Due(now.saturating_add(PROBE)),
            pace: None,
        }
    }

    /// The peer is reached by another path, which takes so many bytes a second.
    pub(super) fn renew(&mut self, now: Duration, pace: Option<u32>) {
        self.idle.0.clear();
        self.size = self.size.min(FIRST).min(self.most);
        self.begin_round(now);
        self.probe = Probe::Due(now + PROBE);
        let pace = pace.map(|rate| Pace { rate: rate.max(1), left: 0.0, filled: now });
        self.pace = pace;
    }

    /// How large the next chunk may be; none while there is no room for one.
    pub(super) fn room(&mut self, now: Duration, most: usize) -> Option<usize> {
        if self.under_way.is_empty() && self.rested.is_some_and(|rested| rested + PAUSE <= now) {
            self.size = self.size.min(FIRST);
            self.begin_round(now);
        }
        self.shrink_if_overdue(now);
        let chunk = (self.size / CHUNKS).clamp(LEAST_CHUNK, most.max(LEAST_CHUNK)).min(most);
        if self.bytes + chunk > self.size && !self.under_way.is_empty() {
            self.limited = true;
            return None;
        }
        let chunk = match &mut self.pace {
            Some(pace) => pace.room(now, chunk)?,
            None => chunk,
        };
        Some(chunk)
    }

    /// When there is room that there is not now, by the passing of time alone.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.pace.as_ref().map(Pace::deadline)
    }

    /// A chunk is sent.
    pub(super) fn sent(&mut self, now: Duration, number: u64, end: u64, bytes: usize) {
        self.under_way.push_back(Flight { number, end, bytes, at: now });
        self.bytes += bytes;
        self.rested = None;
        if let Some(pace) = &mut self.pace {
            pace.left -= bytes as f64;
        }
    }

    /// All of this blob that ends there or before has arrived.
    pub(super) fn arrived(&mut self, now: Duration, number: u64, end: u64) {
        let mut newest = None;
        self.remove(now, |flight| {
            let arrived = flight.number == number && flight.end <= end;
            if arrived {
                newest = Some(flight.at);
            }
            arrived
        });
        if let Some(at) = newest {
            self.measure(now, at);
        }
    }

    /// Nothing more is heard of this blob.
    pub(super) fn forget(&mut self, now: Duration, number: u64) {
        self.remove(now, |flight| flight.number == number);
    }

    fn remove(&mut self, now: Duration, mut which: impl FnMut(&Flight) -> bool) {
        let mut gone = 0;
        self.under_way.retain(|flight| {
            let goes = which(flight);
            gone += if goes { flight.bytes } else { 0 };
            !goes
        });
        self.bytes -= gone;
        if self.under_way.is_empty() && self.rested.is_none() {
            self.rested = Some(now);
        }
    }

    fn measure(&mut self, now: Duration, at: Duration) {
        let took = now.saturating_sub(at);
        self.idle.measure(now, took);
        if at < self.round.since {
            return;
        }
        self.round.samples += 1;
        let least = self.round.least.map_or(took, |least| least.min(took));
        self.round.least = Some(least);
        if self.round.samples >= SAMPLES || now >= self.round.since + 3 * least {
            self.adapt(now, least);
        }
    }

    /// The round is over: the path takes so long now.
    fn adapt(&mut self, now: Duration, takes: Duration) {
        let Some(idle) = self.idle.least() else { return };
        match self.probe {
            Probe::Drains(size) => {
                self.size = size;
                self.probe = Probe::Due(now + PROBE);
            }
            Probe::Due(at) if at <= now => {
                self.probe = Probe::Drains(self.size);
                self.size = (self.size / 2).max(LEAST);
            }
            Probe::Due(_) => {
                let target = target(idle);
                let factor = (target.as_secs_f64() / takes.as_secs_f64().max(1e-6)).clamp(0.125, 2.0);
                let is_idle = takes - idle <= (target - idle) / 4;
                let factor = if is_idle { factor.max(GROWTH) } else { factor };
                // It grows only while it is what holds the sender back.
                if factor < 1.0 || self.limited {
                    self.scale(factor);
                }
            }
        }
        self.begin_round(now);
    }

    /// A chunk of this round takes twice as long as any should: the path has become narrower, or something was lost.
    fn shrink_if_overdue(&mut self, now: Duration) {
        let since = self.round.since;
        let before = self.under_way.partition_point(|flight| flight.at < since);
        if let (Some(idle), Some(oldest)) = (self.idle.least(), self.under_way.get(before))
            && now > oldest.at + 2 * target(idle)
        {
            self.scale(0.5);
            self.probe = Probe::Due(now + PROBE);
            self.begin_round(now);
        }
    }

    fn scale(&mut self, factor: f64) {
        self.size = ((self.size as f64 * factor) as usize).clamp(LEAST, self.most);
    }

    fn begin_round(&mut self, now: Duration) {
        self.round = Round { since: now, samples: 0, least: None };
        self.limited = false;
    }

    /// How many bytes are under way.
    pub(super) const fn under_way(&self) -> usize {
        self.bytes
    }
}

/// How long a chunk may take, where it takes so long on the idle path.
fn target(idle: Duration) -> Duration {
    idle + (idle / 4).clamp(LEAST_DELAY, MOST_DELAY)
}

impl Idle {
    fn measure(&mut self, now: Duration, took: Duration) {
        let stretch = BELIEVED / 6;
        match self.0.back_mut() {
            Some((since, least)) if *since + stretch > now => *least = took.min(*least),
            _ => self.0.push_back((now, took)),
        }
        while self.0.front().is_some_and(|(since, _)| *since + BELIEVED + stretch <= now) {
            self.0.pop_front();
        }
    }

    fn least(&self) -> Option<Duration> {
        self.0.iter().map(|(_, least)| *least).min()
    }
}

impl Pace {
    /// What is saved up at the most: a quarter of a second's worth, or one small chunk.
    fn most(&self) -> f64 {
        (f64::from(self.rate) / 4.0).max(LEAST_CHUNK as f64)
    }

    fn room(&mut self, now: Duration, chunk: usize) -> Option<usize> {
        let since = now.saturating_sub(self.filled).as_secs_f64();
        self.left = since.mul_add(f64::from(self.rate), self.left).min(self.most());
        self.filled = self.filled.max(now);
        (self.left >= LEAST_CHUNK as f64).then(|| chunk.min(self.left as usize))
    }

    fn deadline(&self) -> Duration {
        let missing = (LEAST_CHUNK as f64 - self.left).max(0.0) / f64::from(self.rate);
        // Rounded up: it is there then.
        self.filled + Duration::from_secs_f64(missing) + Duration::from_millis(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A path with a queue of its own: chunks arrive after `idle`, so many bytes a second. Returns the window's size, in
    /// bytes, and how long chunks took at the end.
    fn play(window: &mut Window, from: Duration, seconds: u64, idle: Duration, rate: f64) -> (usize, Duration) {
        let (mut now, mut through, mut sent, mut took) = (from, from, 0, Duration::ZERO);
        let mut under_way: VecDeque<(Duration, u64)> = VecDeque::new();
        while now < from + Duration::from_secs(seconds) {
            while let Some(chunk) = window.room(now, 16_000) {
                sent += chunk as u64;
                window.sent(now, 1, sent, chunk);
                through = through.max(now) + Duration::from_secs_f64(chunk as f64 / rate);
                under_way.push_back((through + idle, sent));
            }
            now += Duration::from_micros(500);
            while let Some(&(at, end)) = under_way.front().filter(|(at, _)| *at <= now) {
                under_way.pop_front();
                took = now - window.under_way.front().unwrap().at;
                window.arrived(at.max(now), 1, end);
            }
        }
        // What is still under way is not heard of any more.
        window.forget(now, 1);
        (window.size, took)
    }

    #[test]
    fn the_window_is_what_the_path_takes_and_a_quarter_more() {
        let mut window = Window::new(ms(0), 1 << 20);
        let (size, took) = play(&mut window, ms(0), 10, ms(60), 2e6);
        // 2 MB/s x 75 ms
        assert!((120_000..200_000).contains(&size), "{size}");
        assert!(took > ms(62) && took < ms(90), "{took:?}");
    }

    #[test]
    fn the_window_is_never_more_than_its_cap_nor_less_than_two_chunks() {
        let mut window = Window::new(ms(0), 100_000);
        assert_eq!(play(&mut window, ms(0), 5, ms(60), 1e9).0, 100_000);
        let mut window = Window::new(ms(0), 1 << 20);
        // Two chunks, and at times a try with more.
        let (size, _) = play(&mut window, ms(0), 200, ms(60), 1e3);
        assert!((LEAST..2 * LEAST).contains(&size), "{size}");
    }

    #[test]
    fn a_path_that_narrows_is_noticed_and_one_that_widens_too() {
        let mut window = Window::new(ms(0), 1 << 20);
        let (wide, _) = play(&mut window, ms(0), 8, ms(50), 2e6);
        let (narrow, took) = play(&mut window, ms(8_000), 8, ms(50), 2e5);
        assert!(narrow < wide / 6, "{wide} {narrow}");
        assert!(took < ms(50) * 2, "{took:?}");
        let (again, _) = play(&mut window, ms(16_000), 8, ms(50), 2e6);
        assert!(again * 4 > wide * 3, "{wide} {again}");
    }

    #[test]
    fn the_idle_path_is_seen_again_and_again() {
        let mut window = Window::new(ms(0), 1 << 20);
        // For ten minutes the window keeps a queue up: if that were taken for the path, it would grow and grow.
        let (_, took) = play(&mut window, ms(0), 600, ms(40), 5e5);
        assert!(took < ms(65), "{took:?}");
        assert!(window.idle.least().unwrap() < ms(48), "{:?}", window.idle);
    }

    #[test]
    fn a_longer_path_is_learnt_after_a_minute_or_at_once_when_it_is_said() {
        let mut window = Window::new(ms(0), 1 << 20);
        play(&mut window, ms(0), 5, ms(20), 2e6);
        window.renew(ms(5_000), None);
        let (size, _) = play(&mut window, ms(5_000), 10, ms(200), 2e6);
        assert!(size > 300_000, "{size}");
        let mut window = Window::new(ms(0), 1 << 20);
        play(&mut window, ms(0), 5, ms(20), 2e6);
        let (size, _) = play(&mut window, ms(5_000), 100, ms(200), 2e6);
        assert!(size > 300_000, "{size}");
    }

    #[test]
    fn after_a_pause_it_begins_anew_and_what_does_not_fill_it_does_not_grow_it() {
        let mut window = Window::new(ms(0), 1 << 20);
        play(&mut window, ms(0), 5, ms(50), 1e7);
        assert!(window.size > 2 * FIRST);
        window.room(ms(7_000), 16_000);
        assert_eq!(window.size, FIRST);
        let mut now = ms(7_000);
        for number in 0..100 {
            window.sent(now, number, 100, 100);
            now += ms(50);
            window.arrived(now, number, 100);
        }
        assert_eq!(window.size, FIRST);
    }

    #[test]
    fn a_paced_window_gives_no_more_than_its_rate() {
        let mut window = Window::new(ms(0), 1 << 20);
        window.renew(ms(0), Some(16_384));
        let (mut now, mut total, mut end) = (ms(0), 0, 0);
        while now < ms(10_000) {
            while let Some(chunk) = window.room(now, 16_000) {
                assert!(chunk <= 4_096);
                (total, end) = (total + chunk, end + chunk as u64);
                window.sent(now, 1, end, chunk);
            }
            assert!(window.deadline().unwrap() > now);
            now = window.deadline().unwrap().max(now + ms(1));
            window.arrived(now, 1, end);
        }
        assert!((155_000..=172_000).contains(&total), "{total}");
    }
}
