//! How often may something be done? So many times at once, and then once every so long.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket that counts.
#[derive(Debug)]
pub(crate) struct Budget {
    most: u32,
    every: Duration,
    /// When it will be full again: each use puts that off.
    full: Instant,
}

impl Budget {
    /// `most` at once, then one `every` so long.
    pub(crate) fn new(most: u32, every: Duration, now: Instant) -> Self {
        Self { most: most.max(1), every, full: now }
    }

    /// How long it takes until it may be done; `None` if it may be done now.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        // It is done if the bucket, one less full, is still no emptier than empty.
        let missing = self.full.saturating_duration_since(now) + self.every;
        missing.checked_sub(self.every * self.most).filter(|wait| !wait.is_zero())
    }

    /// Uses it once, which must be possible.
    pub(crate) fn spend(&mut self, now: Instant) {
        self.full = self.full.max(now) + self.every;
    }

    /// Uses it once, if it may be.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let may = self.wait(now).is_none();
        if may {
            self.spend(now);
        }
        may
    }

    /// Whether it is as good as new.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        self.full <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_at_once_and_then_one_every_so_long() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut budget = Budget::new(3, Duration::from_secs(1), start);
        assert!((0..3).all(|_| budget.take(start)) && !budget.take(start));
        assert_eq!(budget.wait(at(400)), Some(Duration::from_millis(600)));
        assert!(budget.take(at(1000)) && !budget.take(at(1999)) && budget.take(at(2000)));
        assert!(!budget.is_full(at(4999)) && budget.is_full(at(5000)));
        assert!((0..3).all(|_| budget.take(at(60_000))) && !budget.take(at(60_000)), "rest saves no more than that");
    }
}
