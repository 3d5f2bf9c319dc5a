//! How much of something may still be used now? A token bucket.

use tokio::time::Instant;

/// What is left of an amount that refills steadily.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tokens {
    held: f64,
    filled: Instant,
}

/// How much there can be at most, and how much comes back each second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refill {
    pub(crate) burst: u32,
    pub(crate) rate: u32,
}

impl Tokens {
    pub(crate) fn full(refill: Refill, now: Instant) -> Self {
        Self { held: refill.burst.into(), filled: now }
    }

    /// Takes `cost` at `now`; if there is not as much, nothing is taken, and the answer is false.
    pub(crate) fn take(&mut self, cost: u32, refill: Refill, now: Instant) -> bool {
        let elapsed = now.duration_since(self.filled).as_secs_f64();
        self.held = f64::from(refill.rate).mul_add(elapsed, self.held).min(refill.burst.into());
        self.filled = now;
        let enough = self.held >= f64::from(cost);
        if enough {
            self.held -= f64::from(cost);
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let refill = Refill { burst: 10, rate: 2 };
        let start = Instant::now();
        let mut tokens = Tokens::full(refill, start);
        assert!(tokens.take(10, refill, start) && !tokens.take(1, refill, start));
        let later = start + Duration::from_secs(1);
        assert!(!tokens.take(3, refill, later) && tokens.take(2, refill, later), "what was refused cost nothing");
        let much_later = start + Duration::from_secs(1000);
        assert!(!tokens.take(11, refill, much_later) && tokens.take(10, refill, much_later), "rest saves one burst");
    }
}
