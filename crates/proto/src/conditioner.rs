//! What a path does to what is sent over it: seeded latency, jitter, loss, bursts, duplication, reordering, bandwidth.
//!
//! A conditioner stands for one direction of one path. It has no clock and no socket: what is pushed into it comes out
//! of [`Conditioner::pop`] later, twice, or never.
//!
//! ```
//! use std::time::Duration;
//! use coplay_proto::conditioner::{Conditioner, Conditions};
//!
//! let mut path = Conditioner::new(Conditions { latency: Duration::from_millis(30), ..Conditions::PERFECT }, 1);
//! path.push(Duration::ZERO, "hello", 5);
//! assert_eq!(path.pop(Duration::from_millis(29)), None);
//! assert_eq!(path.deadline(), Some(Duration::from_millis(30)));
//! assert_eq!(path.pop(Duration::from_millis(30)), Some("hello"));
//! ```

mod text;

use core::time::Duration;
use std::collections::BTreeMap;

pub use text::ConditionsError;

use crate::rng::Rng;

/// The most that is on its way at once, whatever the conditions say; what comes on top is lost.
pub const MAX_ON_THE_WAY: usize = 1 << 16;

/// What a path is like, in one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// How long it takes to the other end, on average.
    pub latency: Duration,
    /// How much longer or shorter it takes at the most. What is in the middle is likelier. Keeps the order.
    pub jitter: Duration,
    /// Share that is lost, 0 to 1.
    pub loss: f64,
    /// Times at which more is lost.
    pub bursts: Option<Bursts>,
    /// Share that arrives twice, 0 to 1.
    pub duplication: f64,
    /// Share that is held back by up to four times the jitter, and 5 ms more, and so overtaken by what was sent later.
    pub reordering: f64,
    /// Bytes a second that fit through. None: any number.
    pub bandwidth: Option<u32>,
    /// Bytes that wait while others go through; more are lost. Matters only with a bandwidth.
    pub queue: usize,
}

/// Losses that come together, by the model of Gilbert and Elliott.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bursts {
    /// Probability, with each thing sent, that a burst begins.
    pub begin: f64,
    /// Probability, with each thing sent, that it ends: on average it is about 1 / `end` things long.
    pub end: f64,
    /// Share that is lost meanwhile, 0 to 1.
    pub loss: f64,
}

impl Conditions {
    /// At once, and everything.
    pub const PERFECT: Self = Self {
        latency: Duration::ZERO,
        jitter: Duration::ZERO,
        loss: 0.0,
        bursts: None,
        duplication: 0.0,
        reordering: 0.0,
        bandwidth: None,
        queue: 0,
    };

    /// A cable in one house: 0.5 ms each way, 0.2 ms jitter, nothing lost, 100 MB/s.
    pub const LAN: Self = Self {
        latency: Duration::from_micros(500),
        jitter: Duration::from_micros(200),
        bandwidth: Some(100_000_000),
        queue: 1 << 20,
        ..Self::PERFECT
    };

    /// Two homes of one country, by wireless: 15 ms each way, 5 ms jitter, 0.5 % loss and short bursts, 2.5 MB/s.
    pub const WIFI: Self = Self {
        latency: Duration::from_millis(15),
        jitter: Duration::from_millis(5),
        loss: 0.005,
        bursts: Some(Bursts { begin: 0.001, end: 0.3, loss: 0.5 }),
        duplication: 0.001,
        reordering: 0.005,
        bandwidth: Some(2_500_000),
        queue: 128 * 1024,
    };

    /// A phone on the move: 45 ms each way, 15 ms jitter, 1 % loss and bursts of about seven datagrams, 600 kB/s.
    pub const CELLULAR: Self = Self {
        latency: Duration::from_millis(45),
        jitter: Duration::from_millis(15),
        loss: 0.01,
        bursts: Some(Bursts { begin: 0.003, end: 0.15, loss: 0.6 }),
        duplication: 0.001,
        reordering: 0.01,
        bandwidth: Some(600_000),
        queue: 96 * 1024,
    };

    /// Hardly playable: 120 ms each way, 50 ms jitter, 10 % loss and bursts of ten datagrams, 1 % twice, 128 kB/s.
    pub const TERRIBLE: Self = Self {
        latency: Duration::from_millis(120),
        jitter: Duration::from_millis(50),
        loss: 0.1,
        bursts: Some(Bursts { begin: 0.01, end: 0.1, loss: 0.8 }),
        duplication: 0.01,
        reordering: 0.05,
        bandwidth: Some(128_000),
        queue: 32 * 1024,
    };
}

/// One direction of a path.
#[derive(Clone, Debug)]
pub struct Conditioner<T> {
    conditions: Conditions,
    rng: Rng,
    /// By when they arrive, then by the order in which they were sent.
    on_the_way: BTreeMap<(Duration, u64), T>,
    sent: u64,
    lost: u64,
    /// When the latest of those that keep the order arrives.
    latest: Duration,
    /// When the last byte that was sent has gone through.
    through: Duration,
    in_burst: bool,
}

impl<T> Conditioner<T> {
    /// A path like this, on which nothing is under way. Same seed, same fate.
    pub const fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions,
            rng: Rng::new(seed),
            on_the_way: BTreeMap::new(),
            sent: 0,
            lost: 0,
            latest: Duration::ZERO,
            through: Duration::ZERO,
            in_burst: false,
        }
    }

    /// What the path is like now.
    pub const fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// Changes what the path is like, for what is sent from now on.
    pub const fn set(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// Sends something that counts as so many bytes. `now` never goes back.
    pub fn push(&mut self, now: Duration, item: T, bytes: usize)
    where
        T: Clone,
    {
        self.sent += 1;
        let Some(through) = self.squeeze(now, bytes) else {
            self.lost += 1;
            return;
        };
        // The burst goes on whether or not this is lost anyway, so that each condition is what it says.
        let in_burst = self.turn_burst();
        if self.rng.chance(self.conditions.loss) || in_burst {
            self.lost += 1;
            return;
        }
        if self.rng.chance(self.conditions.duplication) {
            self.deliver(through, item.clone());
        }
        self.deliver(through, item);
    }

    /// The next thing that has arrived by now.
    pub fn pop(&mut self, now: Duration) -> Option<T> {
        let first = self.on_the_way.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    /// When the next thing arrives.
    pub fn deadline(&self) -> Option<Duration> {
        self.on_the_way.first_key_value().map(|((at, _), _)| *at)
    }

    /// How much has been sent.
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// How much of it was lost.
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// When this is through the narrowest place, if it fits into the queue before it.
    fn squeeze(&mut self, now: Duration, bytes: usize) -> Option<Duration> {
        if self.on_the_way.len() >= MAX_ON_THE_WAY {
            return None;
        }
        let Some(bandwidth) = self.conditions.bandwidth else { return Some(now) };
        let time = |bytes: usize| Duration::from_nanos(bytes as u64 * 1_000_000_000 / u64::from(bandwidth.max(1)));
        let start = self.through.max(now);
        if start - now > time(self.conditions.queue) {
            return None;
        }
        self.through = start + time(bytes);
        Some(self.through)
    }

    /// Whether a burst takes this.
    fn turn_burst(&mut self) -> bool {
        let Some(bursts) = self.conditions.bursts else {
            self.in_burst = false;
            return false;
        };
        let turns = self.rng.chance(if self.in_burst { bursts.end } else { bursts.begin });
        self.in_burst ^= turns;
        self.in_burst && self.rng.chance(bursts.loss)
    }

    fn deliver(&mut self, through: Duration, item: T) {
        let Conditions { latency, jitter, reordering, .. } = self.conditions;
        let jitter = u64::try_from(jitter.as_nanos()).unwrap_or(u64::MAX / 8);
        // The mean of two: what is in the middle is likelier.
        let spread = u64::midpoint(self.rng.below(2 * jitter + 1), self.rng.below(2 * jitter + 1));
        let mut at = (through + latency + Duration::from_nanos(spread))
            .saturating_sub(Duration::from_nanos(jitter))
            .max(through);
        if self.rng.chance(reordering) {
            at += Duration::from_nanos(self.rng.below(4 * jitter + 5_000_000));
        } else {
            at = at.max(self.latest);
            self.latest = at;
        }
        let count = self.sent * 2 + u64::from(self.on_the_way.contains_key(&(at, self.sent * 2)));
        self.on_the_way.insert((at, count), item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Sends one item of 100 bytes every ms; what arrived, and when.
    fn run(conditions: Conditions, seed: u64, count: u64) -> Vec<(u64, Duration)> {
        let mut path = Conditioner::new(conditions, seed);
        (0..count).for_each(|index| path.push(ms(index), index, 100));
        let mut arrived = Vec::new();
        while let Some(at) = path.deadline() {
            arrived.extend(path.pop(at).map(|index| (index, at)));
        }
        assert_eq!(path.sent(), count);
        arrived
    }

    /// Each with the next.
    fn pairs<T>(items: &[T]) -> impl Iterator<Item = (&T, &T)> {
        items.iter().zip(items.iter().skip(1))
    }

    /// Share of `count` that is missing from what arrived.
    fn lost(conditions: Conditions) -> f64 {
        let mut arrived: Vec<u64> = run(conditions, 5, 20_000).into_iter().map(|(index, _)| index).collect();
        arrived.sort_unstable();
        arrived.dedup();
        1.0 - arrived.len() as f64 / 20_000.0
    }

    #[test]
    fn a_perfect_path_is_no_path() {
        let expected: Vec<_> = (0..100).map(|index| (index, ms(index))).collect();
        assert_eq!(run(Conditions::PERFECT, 1, 100), expected);
    }

    #[test]
    fn same_seed_same_fate() {
        assert_eq!(run(Conditions::TERRIBLE, 3, 2_000), run(Conditions::TERRIBLE, 3, 2_000));
        assert_ne!(run(Conditions::TERRIBLE, 3, 2_000), run(Conditions::TERRIBLE, 4, 2_000));
    }

    #[test]
    fn latency_and_jitter_are_as_said_and_keep_the_order() {
        let arrived = run(Conditions { latency: ms(30), jitter: ms(10), ..Conditions::PERFECT }, 1, 5_000);
        assert_eq!(arrived.len(), 5_000);
        assert!(arrived.is_sorted());
        let delays: Vec<Duration> = arrived.iter().map(|(index, at)| *at - ms(*index)).collect();
        assert!(delays.iter().all(|delay| (ms(20)..=ms(40)).contains(delay)));
        let alone = Conditions { latency: ms(30), jitter: ms(10), ..Conditions::PERFECT };
        let mut path = Conditioner::new(alone, 1);
        let mut sum = Duration::ZERO;
        for second in 0..1_000 {
            let now = Duration::from_secs(second);
            path.push(now, (), 1);
            let at = path.deadline().unwrap();
            sum += at - now;
            assert_eq!(path.pop(at), Some(()));
        }
        assert!((ms(29)..ms(31)).contains(&(sum / 1_000)), "{sum:?}");
    }

    #[test]
    fn losses_are_as_many_as_said() {
        assert!((lost(Conditions { loss: 0.2, ..Conditions::PERFECT }) - 0.2).abs() < 0.01);
        // A burst takes begin / (begin + end) of the time.
        let bursts = Some(Bursts { begin: 0.01, end: 0.1, loss: 0.5 });
        assert!((lost(Conditions { bursts, ..Conditions::PERFECT }) - 0.5 / 11.0).abs() < 0.015);
        assert!((lost(Conditions { loss: 1.0, ..Conditions::PERFECT }) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn bursts_lose_what_is_next_to_each_other() {
        let bursts = Some(Bursts { begin: 0.01, end: 0.1, loss: 1.0 });
        let arrived = run(Conditions { bursts, ..Conditions::PERFECT }, 1, 20_000);
        let gaps: Vec<u64> = pairs(&arrived).map(|(one, next)| next.0 - one.0 - 1).filter(|gap| *gap > 0).collect();
        let mean = gaps.iter().sum::<u64>() as f64 / gaps.len() as f64;
        assert!((8.0..12.0).contains(&mean), "a burst is about ten long: {mean}");
    }

    #[test]
    fn duplicates_and_stragglers_are_as_many_as_said() {
        let twice = run(Conditions { duplication: 0.1, ..Conditions::PERFECT }, 1, 10_000);
        assert!((10_900..11_100).contains(&twice.len()), "{}", twice.len());
        let shuffled =
            run(Conditions { reordering: 0.1, latency: ms(20), jitter: ms(2), ..Conditions::PERFECT }, 1, 10_000);
        assert_eq!(shuffled.len(), 10_000);
        let overtaken = pairs(&shuffled).filter(|(one, next)| next.0 < one.0).count();
        assert!((500..1_000).contains(&overtaken), "{overtaken}");
    }

    #[test]
    fn what_does_not_fit_waits_and_what_does_not_fit_the_queue_is_lost() {
        // 100 bytes each ms are 100 kB/s: half of it fits.
        let narrow = Conditions { bandwidth: Some(50_000), queue: 2_000, ..Conditions::PERFECT };
        let arrived = run(narrow, 1, 1_000);
        assert!((515..525).contains(&arrived.len()), "{}", arrived.len());
        assert!(pairs(&arrived).all(|(one, next)| next.1 - one.1 >= ms(2)), "one each 2 ms");
        let longest = arrived.iter().map(|(index, at)| *at - ms(*index)).max();
        assert!(longest <= Some(ms(43)), "the queue holds 40 ms: {longest:?}");
    }

    #[test]
    fn what_is_on_its_way_is_bounded() {
        let mut path = Conditioner::new(Conditions { latency: ms(1), ..Conditions::PERFECT }, 1);
        (0..=MAX_ON_THE_WAY).for_each(|index| path.push(Duration::ZERO, index, 1));
        assert_eq!(path.lost(), 1);
    }
}
