//! What does a link tell of its path, and how good is that for a game?

use core::time::Duration;

/// What a link measured of the path to its peer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Smoothed round trip, without the peer's hold time and whatever the frame rates are.
    pub rtt: Duration,
    /// Mean deviation of the round trip.
    pub jitter: Duration,
    /// How long datagrams wait on their way because the path is full: the round trip above the least of the last seconds.
    pub queueing: Duration,
    /// Share of our datagrams that were lost lately, 0 to 1: of the last 128 whose fate is known.
    pub loss: f32,
    /// Share of the peer's datagrams that did not get here lately, 0 to 1: of the last 128, by the gaps in their numbers.
    pub loss_received: f32,
    /// Bytes sent in datagrams so far.
    pub bytes_sent: u64,
    /// Bytes received in datagrams so far.
    pub bytes_received: u64,
    /// Bytes a second that the path to the peer is thought to carry now, of everything.
    pub rate: u32,
    /// Bytes of state a second that may go to the peer now: what of the rate the messages leave, at least half.
    pub budget: u32,
    /// Bytes of messages that wait to be sent or acked.
    pub waiting: u32,
    /// How good the path is.
    pub quality: Quality,
    /// Why it is not good.
    pub cause: Option<Cause>,
}

/// How good a path is for a game: the worst of what the table at [`Cause`] says. It gets better again when all is a
/// fifth below these limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quality {
    /// The peer is silent. See [`LinkConfig::unresponsive`](super::LinkConfig::unresponsive).
    Lost,
    /// Play suffers: a player should be told.
    Poor,
    /// A careful player feels it.
    Fair,
    /// Nothing to be seen.
    #[default]
    Good,
}

/// What is wrong with a path.
///
/// | cause | fair above | poor above |
/// |---|---|---|
/// | `Narrow`: [`Figures::rate`] below | 32 kB/s | 16 kB/s |
/// | `Queueing` | 75 ms | 200 ms |
/// | `Loss`, `LossReceived` | 3 % | 10 % |
/// | `RoundTrip` | 150 ms | 300 ms |
/// | `Jitter` | 25 ms | 60 ms |
///
/// Where several are alike, the first of these is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Nothing is heard of the peer.
    Silence,
    /// The path carries little.
    Narrow,
    /// The path is full, and datagrams wait.
    Queueing,
    /// The peer does not get what is sent.
    Loss,
    /// What the peer sends does not get here.
    LossReceived,
    /// The way is long.
    RoundTrip,
    /// It is now longer and now shorter.
    Jitter,
}

impl Figures {
    /// Judges the path by the other figures. `before`: what it was until now.
    #[must_use]
    pub(super) fn judged(mut self, silent: bool, before: Quality) -> Self {
        let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
        let percent = |share: f32| f64::from(share) * 100.0;
        let grades = [
            (Cause::Narrow, 1_000_000.0 / f64::from(self.rate.max(1)), 1_000.0 / 32.0, 1_000.0 / 16.0),
            (Cause::Queueing, ms(self.queueing), 75.0, 200.0),
            (Cause::Loss, percent(self.loss), 3.0, 10.0),
            (Cause::LossReceived, percent(self.loss_received), 3.0, 10.0),
            (Cause::RoundTrip, ms(self.rtt), 150.0, 300.0),
            (Cause::Jitter, ms(self.jitter), 25.0, 60.0),
        ];
        let mut worst = if silent { (Quality::Lost, Some(Cause::Silence)) } else { (Quality::Good, None) };
        for (cause, value, fair, poor) in grades {
            let above = |limit: f64, quality: Quality| value > if before <= quality { limit * 0.8 } else { limit };
            let quality = match () {
                () if above(poor, Quality::Poor) => Quality::Poor,
                () if above(fair, Quality::Fair) => Quality::Fair,
                () => Quality::Good,
            };
            if quality < worst.0 {
                worst = (quality, Some(cause));
            }
        }
        (self.quality, self.cause) = worst;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn judged(figures: Figures, before: Quality) -> (Quality, Option<Cause>) {
        let figures = Figures { rate: 100_000, ..figures }.judged(false, before);
        (figures.quality, figures.cause)
    }

    #[test]
    fn the_worst_figure_is_the_cause() {
        let good = Figures { rtt: ms(60), jitter: ms(5), ..Figures::default() };
        assert_eq!(judged(good, Quality::Good), (Quality::Good, None));
        let lossy = Figures { loss: 0.05, ..good };
        assert_eq!(judged(lossy, Quality::Good), (Quality::Fair, Some(Cause::Loss)));
        let far = Figures { rtt: ms(350), ..lossy };
        assert_eq!(judged(far, Quality::Good), (Quality::Poor, Some(Cause::RoundTrip)));
        let unheard = Figures { loss_received: 0.2, ..lossy };
        assert_eq!(judged(unheard, Quality::Good), (Quality::Poor, Some(Cause::LossReceived)));
        let full = Figures { queueing: ms(100), ..good };
        assert_eq!(judged(full, Quality::Good), (Quality::Fair, Some(Cause::Queueing)));
        let narrow = Figures { rate: 15_000, ..good }.judged(false, Quality::Good);
        assert_eq!((narrow.quality, narrow.cause), (Quality::Poor, Some(Cause::Narrow)));
        let silent = far.judged(true, Quality::Poor);
        assert_eq!((silent.quality, silent.cause), (Quality::Lost, Some(Cause::Silence)));
    }

    #[test]
    fn what_is_near_a_limit_does_not_change_to_and_fro() {
        let near = |rtt| judged(Figures { rtt: ms(rtt), ..Figures::default() }, Quality::Fair).0;
        assert_eq!([near(151), near(149), near(125), near(119), near(301)], {
            use Quality::{Fair, Good, Poor};
            [Fair, Fair, Fair, Good, Poor]
        });
        let still = judged(Figures { rtt: ms(250), ..Figures::default() }, Quality::Poor);
        assert_eq!(still.0, Quality::Poor);
        let better = judged(Figures { rtt: ms(230), ..Figures::default() }, Quality::Poor);
        assert_eq!(better.0, Quality::Fair);
    }
}
