//! What becomes of the packets of one direction of one path: when they arrive, or why they do not.

use std::{collections::VecDeque, time::Duration};

use coplay_proto::rng::Rng;
use serde::Deserialize;

/// What a path is like, in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Conditions {
    /// How long a packet takes that meets no other, in ms.
    pub(super) delay_ms: f64,
    /// By how much that varies at the most, in ms: evenly from `delay_ms - jitter_ms` to `delay_ms + jitter_ms`.
    pub(super) jitter_ms: f64,
    /// Whether jitter lets one packet overtake another. By default it does not, as in a queue.
    pub(super) reorder: bool,
    /// Share of the packets that is lost, each on its own, 0 to 1.
    pub(super) loss: f64,
    /// Losses that come together.
    pub(super) bursts: Option<Bursts>,
    /// What goes through, in kbit/s of IP packets. None: any amount.
    pub(super) rate_kbit: Option<f64>,
    /// Bytes that may wait while others go through; packets beyond are lost. Matters only with a rate.
    pub(super) queue_bytes: usize,
}

/// Losses that come together: the model of Gilbert and Elliott in continuous time. Good and bad times take turns, each
/// exponentially distributed; in bad times all is lost. By time and not by packets, so that a burst is as long for who sends
/// little as for who sends much.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bursts {
    /// Share of the time that is bad, above 0 and below 1.
    pub(super) share: f64,
    /// How long a bad time is on average, in ms.
    pub(super) length_ms: f64,
}

/// What a packet that is sent, or is through the narrow place, has to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It arrives then.
    Arrives(Duration),
    /// It waits; [`Path::serve`] is to be called then, unless that was said of another one already.
    Waits(Option<Duration>),
    /// It is lost on the way.
    Lost,
    /// There is no room for it before the narrow place.
    Dropped,
}

/// One direction of a path, for packets of any kind.
#[derive(Debug)]
pub(super) struct Path<P> {
    rng: Rng,
    /// When the latest that keeps the order arrives.
    latest: Duration,
    /// Before the narrow place, the first of them on its way through it.
    waiting: VecDeque<(P, usize)>,
    waiting_bytes: usize,
    weather: Option<Weather>,
}

/// Whether it is a bad time, and until when.
#[derive(Debug)]
struct Weather {
    bad: bool,
    until: Duration,
}

impl<P> Path<P> {
    pub(super) fn new(seed: u64) -> Self {
        let (waiting, latest) = (VecDeque::new(), Duration::ZERO);
        Self { rng: Rng::new(seed), latest, waiting, waiting_bytes: 0, weather: None }
    }

    /// Sends a packet of so many bytes; gives it back unless it waits. `now` never goes back.
    pub(super) fn send(
        &mut self,
        now: Duration,
        conditions: &Conditions,
        packet: P,
        bytes: usize,
    ) -> (Fate, Option<P>) {
        let Some(rate) = conditions.rate_kbit else {
            if self.waiting.is_empty() {
                return (self.travel(now, conditions), Some(packet));
            }
            // What waits from narrower times goes first.
            self.waiting.push_back((packet, bytes));
            self.waiting_bytes += bytes;
            return (Fate::Waits(None), None);
        };
        let idle = self.waiting.is_empty();
        if !idle && self.waiting_bytes + bytes > conditions.queue_bytes {
            return (Fate::Dropped, Some(packet));
        }
        self.waiting.push_back((packet, bytes));
        self.waiting_bytes += bytes;
        (Fate::Waits(idle.then(|| now + time(bytes, rate))), None)
    }

    /// The first that waits is through the narrow place: what becomes of it, and when the next one is through.
    pub(super) fn serve(&mut self, now: Duration, conditions: &Conditions) -> Option<(P, Fate, Option<Duration>)> {
        let (packet, bytes) = self.waiting.pop_front()?;
        self.waiting_bytes -= bytes;
        let next =
            self.waiting.front().map(|(_, bytes)| conditions.rate_kbit.map_or(now, |rate| now + time(*bytes, rate)));
        Some((packet, self.travel(now, conditions), next))
    }

    /// Bytes before the narrow place.
    pub(super) const fn queued(&self) -> usize {
        self.waiting_bytes
    }

    /// What becomes of a packet that no other one is in the way of.
    fn travel(&mut self, now: Duration, conditions: &Conditions) -> Fate {
        // Both are asked each time, so that each is what it says.
        let bad = self.is_bad(now, conditions.bursts);
        if self.rng.chance(conditions.loss) || bad {
            return Fate::Lost;
        }
        let jitter = (self.rng.unit() * 2.0 - 1.0) * conditions.jitter_ms;
        let mut at = now + ms((conditions.delay_ms + jitter).max(0.0));
        if !conditions.reorder {
            at = at.max(self.latest);
            self.latest = at;
        }
        Fate::Arrives(at)
    }

    fn is_bad(&mut self, now: Duration, bursts: Option<Bursts>) -> bool {
        let Some(Bursts { share, length_ms }) = bursts.filter(|bursts| bursts.share > 0.0) else {
            self.weather = None;
            return false;
        };
        let good_ms = length_ms * (1.0 - share) / share;
        let rng = &mut self.rng;
        let lasts = |rng: &mut Rng, bad: bool| ms(-(1.0 - rng.unit()).ln() * if bad { length_ms } else { good_ms });
        // A time without end was long enough to forget how it began.
        let forgotten = self.weather.as_ref().is_none_or(|weather| now > weather.until + ms(1e3 * good_ms));
        if forgotten {
            let bad = rng.chance(share);
            self.weather = Some(Weather { bad, until: now + lasts(rng, bad) });
            return bad;
        }
        self.weather.as_mut().is_some_and(|weather| {
            while weather.until <= now {
                weather.bad = !weather.bad;
                weather.until += lasts(rng, weather.bad).max(Duration::from_micros(1));
            }
            weather.bad
        })
    }
}

/// How long so many bytes take through the narrow place.
fn time(bytes: usize, rate_kbit: f64) -> Duration {
    ms(bytes as f64 * 8.0 / rate_kbit.max(1e-3))
}

/// A time that a person named: one that is none, or beyond an hour, is cut.
fn ms(ms: f64) -> Duration {
    Duration::from_secs_f64((ms / 1e3).clamp(0.0, 3_600.0))
}
