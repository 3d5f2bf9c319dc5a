//! What a link knows of its path: how long a round trip takes, how much is lost, how much may be under way.

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

/// How many bytes of messages may be under way: what the rate carries until they are acked, so that no more than that
/// goes to a path that has ended.
#[derive(Clone, Debug)]
pub(super) struct Window {
    size: usize,
    under_way: usize,
}

impl Window {
    const FIRST: usize = 16 * MAX_DATAGRAM;
    /// What is left on the worst path.
    const LEAST: usize = 4 * MAX_DATAGRAM;
    const MOST: usize = 1024 * MAX_DATAGRAM;

    pub(super) const fn new() -> Self {
        Self { size: Self::FIRST, under_way: 0 }
    }

    /// How many more bytes may be sent: at least a datagram's, if nothing is under way.
    pub(super) const fn room(&self) -> usize {
        self.size.saturating_sub(self.under_way)
    }

    /// Whether more than half of it is free.
    pub(super) const fn is_roomy(&self) -> bool {
        self.under_way < self.size / 2
    }

    /// From now on, so many bytes a second are acked after this time at the latest.
    pub(super) fn resize(&mut self, rate: f64, time: Duration) {
        self.size = ((rate * time.as_secs_f64()) as usize).clamp(Self::LEAST, Self::MOST);
    }

    pub(super) const fn sent(&mut self, bytes: usize) {
        self.under_way += bytes;
    }

    /// Bytes are not under way any more.
    pub(super) const fn arrived(&mut self, bytes: usize) {
        self.under_way = self.under_way.saturating_sub(bytes);
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
    fn the_window_is_what_the_rate_carries() {
        let mut window = Window::new();
        window.sent(Window::FIRST);
        assert_eq!(window.room(), 0);
        window.resize(1_000_000.0, ms(100));
        assert_eq!(window.room(), 100_000 - Window::FIRST);
        assert!(window.is_roomy());
        window.arrived(Window::FIRST);
        assert_eq!(window.under_way(), 0);
        window.resize(1.0, ms(100));
        assert_eq!(window.room(), Window::LEAST);
    }
}
