//! What time it is in the room: ticks since the founding, by the leader's monotonic time.
//!
//! The leader's clock is its own. The others set theirs once when they are admitted, and then follow: each frame of
//! the leader is a sample, half a round trip old; the clock runs towards the middle of the last samples, at most 5 %
//! faster or slower than real time, and never jumps.

use core::time::Duration;
use std::collections::VecDeque;

/// The most that a clock runs faster or slower to catch up.
const MAX_SLEW: f64 = 0.05;
/// Seconds in which an error would be made good, were it not for [`MAX_SLEW`].
const CATCH_UP: f64 = 1.0;
/// Samples that count.
const SAMPLES: usize = 16;

/// The room's clock.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    rate: f64,
    anchor: Duration,
    ticks: f64,
    /// How much faster than real time it runs.
    slew: f64,
    /// The leader's ticks less ours, as far as each sample says.
    errors: VecDeque<f64>,
}

impl Clock {
    /// A clock of so many ticks a second that starts now at 0.
    pub(super) fn new(now: Duration, rate: f64) -> Self {
        Self { rate, anchor: now, ticks: 0.0, slew: 0.0, errors: VecDeque::new() }
    }

    /// Ticks since the founding. Never less than 0.
    pub(super) fn ticks(&self, now: Duration) -> f64 {
        (self.ticks + self.since_anchor(now) * self.rate * (1.0 + self.slew)).max(0.0)
    }

    /// Sets the clock, once.
    pub(super) fn set(&mut self, now: Duration, ticks: f64) {
        *self = Self { ticks, ..Self::new(now, self.rate) };
    }

    /// From now on this peer's time is the room's.
    pub(super) fn lead(&mut self, now: Duration) {
        self.ticks = self.ticks(now);
        self.anchor = now;
        self.slew = 0.0;
        self.errors.clear();
    }

    /// The leader's clock said this, so long ago.
    pub(super) fn sample(&mut self, now: Duration, leader: f64, age: Duration) {
        let ours = self.ticks(now);
        let error = leader + age.as_secs_f64() * self.rate - ours;
        // The earlier samples are of a clock that has moved since, by what was slewed.
        let slewed = self.since_anchor(now) * self.rate * self.slew;
        for earlier in &mut self.errors {
            *earlier -= slewed;
        }
        self.errors.push_back(error);
        if self.errors.len() > SAMPLES {
            self.errors.pop_front();
        }
        self.anchor = now;
        self.ticks = ours;
        let mut sorted: Vec<f64> = self.errors.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
        self.slew = (middle / self.rate / CATCH_UP).clamp(-MAX_SLEW, MAX_SLEW);
    }

    /// Seconds, negative if time was asked for that has been.
    fn since_anchor(&self, now: Duration) -> f64 {
        now.as_secs_f64() - self.anchor.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    const FRAME: Duration = Duration::from_millis(16);

    #[test]
    fn it_counts_from_the_founding() {
        let clock = Clock::new(Duration::from_secs(3), 60.0);
        assert_eq!(clock.ticks(Duration::from_secs(3)), 0.0);
        assert_eq!(clock.ticks(Duration::from_secs(5)), 120.0);
        assert_eq!(clock.ticks(Duration::ZERO), 0.0);
    }

    #[test]
    fn it_follows_without_jumps_and_at_most_five_percent_off() {
        let leader = Clock::new(Duration::ZERO, 60.0);
        let mut follower = Clock::new(Duration::ZERO, 60.0);
        let mut rng = Rng::new(5);
        let mut now = Duration::from_secs(1);
        // 12 ticks behind, over a path of 40 ms one way with jitter.
        follower.set(now, 48.0);
        let mut before = follower.ticks(now);
        for frame in 0..600 {
            now += FRAME;
            let ticks = follower.ticks(now);
            let step = (ticks - before) / (60.0 * FRAME.as_secs_f64());
            assert!((0.949..1.051).contains(&step), "frame {frame}: {step}");
            before = ticks;
            let age = Duration::from_millis(30 + rng.below(20));
            follower.sample(now, leader.ticks(now - age), Duration::from_millis(40));
        }
        let error = leader.ticks(now) - follower.ticks(now);
        assert!(error.abs() < 0.3, "{error} ticks");
    }

    #[test]
    fn whoever_takes_the_lead_goes_on_where_it_is() {
        let mut clock = Clock::new(Duration::ZERO, 60.0);
        clock.set(Duration::from_secs(1), 100.0);
        clock.sample(Duration::from_secs(2), 500.0, Duration::ZERO);
        let now = Duration::from_secs(3);
        let ticks = clock.ticks(now);
        clock.lead(now);
        assert_eq!(clock.ticks(now), ticks);
        assert_eq!(clock.ticks(now + Duration::from_secs(1)), ticks + 60.0);
    }
}
