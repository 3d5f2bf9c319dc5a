//! Does a peer send more than it may? A token bucket for frames and one for bytes.

use std::time::Duration;

use tokio::time::Instant;

use crate::{Limits, Rate};

/// What one peer may still send.
#[derive(Debug)]
pub(crate) struct Bucket {
    burst: Rate,
    rate: Rate,
    frames: f64,
    bytes: f64,
    filled: Instant,
}

impl Bucket {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        Self::of(limits.burst, limits.rate, now)
    }

    pub(crate) fn of(burst: Rate, rate: Rate, now: Instant) -> Self {
        Self { burst, rate, frames: burst.frames.into(), bytes: burst.bytes.into(), filled: now }
    }

    /// Takes one frame of `bytes` out at `now`; false if that is more than is in it.
    pub(crate) fn take(&mut self, bytes: usize, now: Instant) -> bool {
        self.fill(now);
        self.frames -= 1.0;
        self.bytes -= bytes as f64;
        self.frames >= 0.0 && self.bytes >= 0.0
    }

    /// The same, but nothing is taken where there is not enough.
    pub(crate) fn take_if_enough(&mut self, bytes: usize, now: Instant) -> bool {
        self.fill(now);
        self.frames >= 1.0 && self.bytes >= bytes as f64 && self.take(bytes, now)
    }

    fn fill(&mut self, now: Instant) {
        let elapsed: Duration = now.duration_since(self.filled);
        let fill = |held: f64, rate: u32, burst: u32| {
            f64::from(rate).mul_add(elapsed.as_secs_f64(), held).min(f64::from(burst))
        };
        self.frames = fill(self.frames, self.rate.frames, self.burst.frames);
        self.bytes = fill(self.bytes, self.rate.bytes, self.burst.bytes);
        self.filled = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limits =
            Limits { burst: Rate { frames: 3, bytes: 100 }, rate: Rate { frames: 1, bytes: 10 }, ..Limits::default() };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut bucket = Bucket::new(&limits, start);
        assert!((0..3).all(|_| bucket.take(1, at(0))) && !bucket.take(1, at(0)), "three frames at once");
        let mut bucket = Bucket::new(&limits, start);
        assert!((1..60).all(|second| bucket.take(10, at(second))), "one small frame each second, for ever");
        assert!(bucket.take(100, at(1000)) && !bucket.take(1, at(1000)), "rest saves no more than a burst");
        let mut bucket = Bucket::new(&limits, start);
        assert!(!bucket.take_if_enough(101, at(0)) && bucket.take_if_enough(100, at(0)), "a refusal costs nothing");
        assert!((0..9).all(|_| !bucket.take_if_enough(1, at(0))) && bucket.take_if_enough(10, at(1)));
    }
}
