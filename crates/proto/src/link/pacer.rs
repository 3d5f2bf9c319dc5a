//! When may messages go? So that they share the rate with state, and do not go all at once.

use core::time::Duration;

use super::{MAX_DATAGRAM, rate::Rate};

/// See the top of the file.
#[derive(Clone, Debug)]
pub(super) struct Pacer {
    tokens: f64,
    at: Duration,
    /// Bytes of state that were sent, and not taken off yet.
    state: f64,
}

impl Pacer {
    /// Bytes that may go at once, at first and later, besides those of [`Self::BURST`].
    const BURST_BYTES: (usize, usize) = (16 * MAX_DATAGRAM, 2 * MAX_DATAGRAM);
    const BURST: Duration = Duration::from_millis(20);

    pub(super) const fn new(now: Duration) -> Self {
        Self { tokens: Self::BURST_BYTES.0 as f64, at: now, state: 0.0 }
    }

    /// Time has passed.
    pub(super) fn refill(&mut self, now: Duration, rate: &Rate) {
        let bytes = rate.bytes() * now.saturating_sub(self.at).as_secs_f64();
        let (first, later) = Self::BURST_BYTES;
        let most = rate.bytes() * Self::BURST.as_secs_f64() + if rate.is_first() { first } else { later } as f64;
        // What state was sent is taken off, but half of the rate is left for messages.
        let taken = self.state.min(bytes / 2.0);
        self.state = (self.state - taken).min(rate.bytes());
        self.tokens = (self.tokens + bytes - taken).min(most);
        self.at = self.at.max(now);
    }

    pub(super) fn sent(&mut self, messages: usize, state: usize) {
        self.tokens -= messages as f64;
        self.state += state as f64;
    }

    /// How many bytes of messages may go now.
    pub(super) const fn room(&self) -> usize {
        self.tokens as usize
    }

    /// When so many may go.
    pub(super) fn deadline(&self, bytes: usize, rate: &Rate) -> Duration {
        let missing = (bytes as f64 - self.tokens).max(0.0);
        self.at + Duration::from_secs_f64(missing / rate.bytes()) + Duration::from_micros(10)
    }
}
