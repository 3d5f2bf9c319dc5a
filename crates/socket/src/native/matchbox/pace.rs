//! How fast may a lane be filled where nothing tells how much of it has drained?
//!
//! matchbox has no bound for what waits to be sent, and tells nobody how much that is. So what goes into it is kept to a
//! rate that a game does not reach. What a path takes more slowly waits within matchbox, until ICE gives the peer up after
//! 30 s without an answer: 60 MiB a lane at the most.

use std::time::Duration;

/// Bytes a second: a game's state is some 70 kB a second to a peer.
const RATE: f64 = 2.0 * 1024.0 * 1024.0;
/// Bytes at once.
const BURST: f64 = 256.0 * 1024.0;

/// A token bucket of bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Less than nothing after a datagram that was larger than what there was.
    tokens: f64,
    at: Duration,
}

impl Pace {
    pub(super) const fn new(now: Duration) -> Self {
        Self { tokens: BURST, at: now }
    }

    /// How long to wait for the next datagram; `None` if it may be sent now.
    pub(super) fn wait(self, now: Duration) -> Option<Duration> {
        let tokens = self.tokens_at(now);
        (tokens <= 0.0).then(|| Duration::from_secs_f64(-tokens / RATE) + Duration::from_millis(1))
    }

    /// A datagram is sent.
    pub(super) fn spend(&mut self, now: Duration, bytes: usize) {
        self.tokens = self.tokens_at(now) - bytes as f64;
        self.at = now;
    }

    fn tokens_at(self, now: Duration) -> f64 {
        let since = now.saturating_sub(self.at).as_secs_f64();
        BURST.min(self.tokens + since * RATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_then_no_more_than_the_rate() {
        let mut now = Duration::from_secs(100);
        let mut pace = Pace::new(now);
        let mut sent = 0;
        while pace.wait(now).is_none() {
            pace.spend(now, 16 * 1024);
            sent += 16 * 1024;
        }
        assert_eq!(sent, 256 * 1024);
        let end = now + Duration::from_secs(10);
        while now < end {
            match pace.wait(now) {
                Some(wait) => now += wait,
                None => {
                    pace.spend(now, 1024);
                    sent += 1024;
                }
            }
        }
        let rate = (sent - 256 * 1024) as f64 / 10.0;
        assert!((0.5..=1.01).contains(&(rate / RATE)), "{rate}");
        // Silence saves no more than a burst.
        now += Duration::from_secs(1000);
        let mut saved = 0;
        while pace.wait(now).is_none() {
            pace.spend(now, 1024);
            saved += 1024;
        }
        assert_eq!(saved, 256 * 1024);
    }
}
