//! What a link knows of its path: how long a round trip takes, how much is lost, how much it may have under way.

use core::time::Duration;

use super::MAX_DATAGRAM;

/// The round trip to assume before one was measured: ICE has just made one, so it is no second as in RFC 6298.
const FIRST_ROUND_TRIP: Duration = Duration::from_millis(200);
/// The least slack over the smoothed round trip: timers and threads are not more exact than that.
const LEAST_SLACK: Duration = Duration::from_millis(10);

/// Round trips, smoothed as RFC 6298, section 2, does.
#[derive(Clone, Debug, Default)]
pub(super) struct RoundTrip {
    smoothed: Option<Duration>,
    deviation: Duration,
}

impl RoundTrip {
    /// Takes a measurement in.
    pub(super) fn measure(&mut self, sample: Duration) {
        match self.smoothed {
            None => {
                self.smoothed = Some(sample);
                self.deviation = sample / 2;
            }
            Some(smoothed) => {
                self.deviation = (self.deviation * 3 + smoothed.abs_diff(sample)) / 4;
                self.smoothed = Some((smoothed * 7 + sample) / 8);
            }
        }
    }

    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    pub(super) fn deviation(&self) -> Duration {
        self.deviation
    }

    /// How long an ack takes at the most, if nothing is lost and the peer sends it at once.
    pub(super) fn limit(&self) -> Duration {
        self.smoothed.unwrap_or(FIRST_ROUND_TRIP) + (self.deviation * 4).max(LEAST_SLACK)
    }
}

/// What became of the last datagrams.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcomes {
    /// Bit n: whether the datagram n before the newest was lost.
    lost: u128,
    known: u32,
}

impl Outcomes {
    /// How many datagrams the share of loss is about.
    pub(super) const WINDOW: u32 = u128::BITS;

    pub(super) fn push(&mut self, lost: bool) {
        self.lost = self.lost << 1 | u128::from(lost);
        self.known = (self.known + 1).min(Self::WINDOW);
    }

    /// From 0 to 1.
    pub(super) fn share(&self) -> f32 {
        if self.known == 0 { 0.0 } else { self.lost.count_ones() as f32 / self.known as f32 }
    }
}

/// How many bytes of messages may be under way: a safeguard against feeding a congested path, not a rate control.
///
/// Doubles each round trip until something is lost, then grows by a datagram each round trip; a loss halves it, at
/// most once a round trip (RFC 5681, sections 3.1 and 3.2). State is not subject to it.
#[derive(Clone, Debug)]
pub(super) struct Window {
    size: usize,
    threshold: usize,
    under_way: usize,
    /// Losses of datagrams sent before this one have been answered.
    answered: u64,
    /// The peer refuses messages, so that what it does not ack says nothing of the path.
    held: bool,
}

impl Window {
    const FIRST: usize = 16 * MAX_DATAGRAM;
    /// What is left on the worst path, or a lossy but not congested one would come to a stop.
    const LEAST: usize = 4 * MAX_DATAGRAM;
    const MOST: usize = 1024 * MAX_DATAGRAM;

    pub(super) const fn new() -> Self {
        Self { size: Self::FIRST, threshold: Self::MOST, under_way: 0, answered: 0, held: false }
    }

    /// How many more bytes may be sent: at least a datagram's, if nothing is under way.
    pub(super) const fn room(&self) -> usize {
        self.size.saturating_sub(self.under_way)
    }

    /// Whether the peer refuses messages.
    pub(super) const fn hold(&mut self, held: bool) {
        self.held = held;
    }

    pub(super) const fn sent(&mut self, bytes: usize) {
        self.under_way += bytes;
    }

    pub(super) fn acked(&mut self, bytes: usize) {
        // Grows only while it is what holds the sender back.
        if self.under_way * 2 >= self.size {
            let by = if self.size < self.threshold { bytes } else { MAX_DATAGRAM * bytes / self.size };
            self.size = (self.size + by).min(Self::MOST);
        }
        self.under_way = self.under_way.saturating_sub(bytes);
    }

    /// Bytes of the datagram with this sequence number are lost; `next` is the next one to be sent.
    pub(super) fn lost(&mut self, bytes: usize, sequence: u64, next: u64) {
        self.under_way = self.under_way.saturating_sub(bytes);
        if bytes > 0 && sequence >= self.answered && !self.held {
            self.answered = next;
            self.size = (self.size / 2).max(Self::LEAST);
            self.threshold = self.size;
        }
    }

    #[cfg(test)]
    pub(super) const fn under_way(&self) -> usize {
        self.under_way
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn round_trips_are_smoothed_as_rfc_6298_says() {
        let mut round_trip = RoundTrip::default();
        assert_eq!(round_trip.limit(), ms(210));
        round_trip.measure(ms(80));
        assert_eq!((round_trip.smoothed(), round_trip.deviation()), (Some(ms(80)), ms(40)));
        assert_eq!(round_trip.limit(), ms(240));
        round_trip.measure(ms(160));
        assert_eq!((round_trip.smoothed(), round_trip.deviation()), (Some(ms(90)), ms(50)));
        for _ in 0..100 {
            round_trip.measure(ms(60));
        }
        assert_eq!(round_trip.limit().as_millis(), 70, "a steady path is waited for little longer than it takes");
    }

    #[test]
    fn the_share_of_loss_is_that_of_the_window() {
        let mut outcomes = Outcomes::default();
        assert_eq!(outcomes.share().to_bits(), 0.0_f32.to_bits());
        (0..4).for_each(|index| outcomes.push(index == 0));
        assert!((outcomes.share() - 0.25).abs() < 1e-6);
        (0..Outcomes::WINDOW).for_each(|index| outcomes.push(index % 2 == 0));
        assert!((outcomes.share() - 0.5).abs() < 1e-6);
    }

    #[test]
    fn the_window_grows_when_full_and_halves_once_a_round_trip() {
        let mut window = Window::new();
        window.sent(MAX_DATAGRAM);
        window.acked(MAX_DATAGRAM);
        assert_eq!(window.size, Window::FIRST, "what was not used does not grow");
        window.sent(Window::FIRST);
        assert_eq!(window.room(), 0);
        window.acked(Window::FIRST / 2);
        window.acked(Window::FIRST / 2);
        assert!(window.size > Window::FIRST);
        assert_eq!(window.under_way(), 0);
        let before = window.size;
        window.sent(4 * MAX_DATAGRAM);
        window.lost(MAX_DATAGRAM, 10, 14);
        window.lost(MAX_DATAGRAM, 11, 14);
        assert_eq!(window.size, before / 2);
        window.lost(MAX_DATAGRAM, 14, 20);
        assert_eq!(window.size, before / 4);
        window.hold(true);
        window.lost(MAX_DATAGRAM, 20, 30);
        assert_eq!(window.size, before / 4, "what the peer refuses is no loss");
        window.hold(false);
        (30..60).for_each(|sequence| window.lost(1, sequence, sequence + 1));
        assert_eq!(window.size, Window::LEAST);
    }
}
