//! How much may be sent to the peer? What the path is seen to carry, a little short of where a queue builds up.
//!
//! Loss alone says little: wireless paths lose without being full. What a full path does is to make datagrams wait, and
//! while they wait, what gets through is just what it carries. So by rounds of about a round trip: while the least round
//! trip of a round is well above the least of the last seconds, the rate is what got through, less what it takes to
//! drain the queue; otherwise it grows if it is made use of.

use core::time::Duration;

use super::FIRST_RATE;

/// Bytes a second that losses alone leave: almost every path carries so much.
const LEAST_BY_LOSS: f64 = 24_000.0;
const MOST: f64 = 64_000_000.0;
/// A round is at least this long, so that what came in it says something, and ends without the round trips that it wants
/// after the other.
const ROUND: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// Round trips of a round whose least says that there is a queue.
const SAMPLES: u32 = 3;
/// Waiting beyond this is a queue: three times the jitter within these limits. Half of the least is more than a frame, by
/// which round trips differ where a peer answers by frames.
const QUEUE: (Duration, Duration) = (Duration::from_millis(40), Duration::from_millis(80));
/// For how long the least round trip counts, and after the same time again it is forgotten.
const LEAST_WINDOW: Duration = Duration::from_secs(5);
/// A queue that is still there after so long is not ours: the path has become longer, or others fill it.
const NOT_OURS: Duration = Duration::from_secs(3);
/// What got through so many seconds ago counts half of what gets through now.
const DRAINED: f64 = 0.4;
/// After so long without a queue the rate grows by more than some percents a round: a second later by a quarter.
const CALM: Duration = Duration::from_secs(2);
/// The share of losses that may have nothing to do with how much is sent, until that is tried out.
const TOLERANCE: f32 = 0.15;
/// For how long the answer of such a trial counts, about.
const TOLERANCE_FADES: Duration = Duration::from_secs(30);
/// After so many datagrams a trial has its answer.
const TRIAL: u64 = 128;

/// The rate to send at, and what it follows from.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    /// Bytes a second.
    rate: f64,
    round: Round,
    least: LeastRoundTrip,
    /// How much the round trip differs from one to the next.
    jitter: Duration,
    previous: Option<Duration>,
    /// How long datagrams seem to wait in rounds without a queue.
    noise: Duration,
    /// How long datagrams waited in the last round.
    queueing: Duration,
    /// What got through while there was a queue, the last time that there was one.
    capacity: Option<f64>,
    /// What got through since, and in how many seconds: the last ones above all.
    drained: (f64, f64),
    /// Since when there is a queue.
    queued: Option<Duration>,
    /// When there was one last.
    calm: Duration,
    losses: LossTrial,
    /// Bytes a second that were sent in the last round, and those of messages.
    used: f64,
    messages: f64,
    /// Messages wait for the rate.
    pressed: bool,
}

/// What happened since the last judgement.
#[derive(Clone, Debug, Default)]
struct Round {
    /// When what was acked last before it had come.
    began: Option<Duration>,
    /// When what was acked last has come.
    latest: Duration,
    acked: usize,
    sent: usize,
    messages: usize,
    samples: u32,
    least: Duration,
}

impl Rate {
    /// Bytes a second that are left on the worst path: by its inputs and events a game is still played.
    pub(super) const LEAST: f64 = 8_000.0;

    pub(super) fn new() -> Self {
        Self {
            rate: f64::from(FIRST_RATE),
            round: Round::default(),
            least: LeastRoundTrip::default(),
            jitter: Duration::ZERO,
            previous: None,
            noise: Duration::ZERO,
            queueing: Duration::ZERO,
            capacity: None,
            drained: (0.0, 0.0),
            queued: None,
            calm: Duration::ZERO,
            losses: LossTrial::default(),
            used: 0.0,
            messages: 0.0,
            pressed: false,
        }
    }

    /// Bytes a second, of everything.
    pub(super) const fn bytes(&self) -> f64 {
        self.rate
    }

    /// Bytes a second that are left for state: what messages do not take, and at least half.
    pub(super) fn state(&self) -> f64 {
        let rest = if self.pressed { 0.0 } else { self.rate - self.messages };
        rest.max(self.rate / 2.0)
    }

    /// How long datagrams wait on their way.
    pub(super) const fn queueing(&self) -> Duration {
        self.queueing
    }

    /// Whether the path is full.
    pub(super) const fn is_queued(&self) -> bool {
        self.queued.is_some()
    }

    /// Whether nothing has shown yet how much the path carries.
    pub(super) const fn is_first(&self) -> bool {
        self.capacity.is_none()
    }

    /// The round trip of a path without a queue.
    pub(super) fn least(&self) -> Option<Duration> {
        self.least.get()
    }

    /// A datagram was sent; so many bytes of it are messages.
    pub(super) const fn sent(&mut self, bytes: usize, messages: usize) {
        self.round.sent += bytes;
        self.round.messages += messages;
    }

    /// Whether messages wait for the rate.
    pub(super) const fn press(&mut self, pressed: bool) {
        self.pressed = pressed;
    }

    /// For a while nothing came through, whatever was sent: so losses say nothing for now.
    pub(super) const fn stalled(&mut self, known: u64) {
        self.losses.since = known + TRIAL;
    }

    /// Bytes were acked that came at `arrived`, by our clock and a way later. `round_trip`: of the newest of them.
    /// `loss`: the share of the last datagrams that were lost, and of how many in all it is known.
    pub(super) fn acked(
        &mut self,
        now: Duration,
        arrived: Duration,
        bytes: usize,
        round_trip: Option<Duration>,
        loss: (f32, u64),
    ) {
        if let Some(round_trip) = round_trip {
            self.measure(now, round_trip);
        }
        let round = &mut self.round;
        let Some(began) = round.began else {
            // What was acked first is not what came since.
            *round = Round { began: Some(arrived), latest: arrived, ..Round::default() };
            return;
        };
        round.acked += bytes;
        round.latest = round.latest.max(arrived);
        let time = round.latest.saturating_sub(began);
        let (least, most) = ROUND;
        if time >= self.least.get().unwrap_or_default().max(least) && (round.samples >= SAMPLES || time >= most) {
            let latest = round.latest;
            let round = core::mem::take(round);
            self.round.began = Some(latest);
            self.judge(now, &round, time, loss);
        }
    }

    fn measure(&mut self, now: Duration, round_trip: Duration) {
        self.least.measure(now, round_trip);
        let round = &mut self.round;
        round.least = if round.samples == 0 { round_trip } else { round.least.min(round_trip) };
        round.samples += 1;
        // A queue that builds up is no jitter.
        let waits = round_trip.saturating_sub(self.least.get().unwrap_or_default());
        if let Some(previous) = self.previous.replace(round_trip).filter(|_| waits <= QUEUE.1) {
            self.jitter = (self.jitter * 31 + round_trip.abs_diff(previous)) / 32;
        }
    }

    fn judge(&mut self, now: Duration, round: &Round, time: Duration, loss: (f32, u64)) {
        let seconds = time.as_secs_f64();
        let got_through = round.acked as f64 / seconds;
        self.messages = round.messages as f64 / seconds;
        let used = round.sent as f64 / seconds;
        let used_before = core::mem::replace(&mut self.used, used);
        let before = self.queueing;
        if round.samples > 0 {
            self.queueing = round.least.saturating_sub(self.least.get().unwrap_or_default());
        }
        let limit = (self.jitter * 3).max(self.noise * 2).clamp(QUEUE.0, QUEUE.1);
        let above = round.samples >= SAMPLES && self.queueing > limit;
        let waits = above && (before > limit || self.queueing > limit * 2);
        if waits && self.queued.is_some_and(|since| since + NOT_OURS <= now) {
            self.least.forget(round.least);
            self.queued = None;
            self.calm = now;
        } else if waits {
            let first = self.queued.is_none();
            let since = *self.queued.get_or_insert(now);
            if first {
                self.drained = (0.0, 0.0);
            }
            // Of some rounds, as acks that had to wait come all at once.
            let fades = (-seconds / DRAINED).exp2();
            let (bytes, time) = self.drained;
            self.drained = (bytes * fades + round.acked as f64, time * fades + seconds);
            let capacity = self.drained.0 / self.drained.1;
            self.capacity = Some(capacity);
            self.calm = now;
            // The longer it takes, the less.
            let patience = 1.0 - now.saturating_sub(since).as_secs_f64() / (NOT_OURS * 2).as_secs_f64();
            let drained = capacity * (0.9 - self.queueing.as_secs_f64() / 0.6).clamp(0.2, 0.9) * patience;
            self.set(if first { drained.min(self.rate) } else { drained });
        } else if self.queued.take().is_some() {
            self.set(self.capacity.unwrap_or(self.rate) * 0.85);
        } else {
            let made_use_of = used >= self.rate * if self.pressed { 0.5 } else { 0.75 };
            if self.queueing <= QUEUE.1 {
                self.noise = (self.noise * 15 + self.queueing) / 16;
            }
            if made_use_of && self.queueing > limit / 2 {
                // It may begin to fill.
                self.calm = now;
                if above {
                    self.capacity = Some(got_through);
                    self.set(self.rate.min(got_through));
                }
                return;
            }
            match self.losses.judge(loss, time, used >= self.rate * 0.5) {
                Verdict::TooMany => {
                    self.capacity = Some(got_through);
                    self.calm = now;
                    self.losses.began(loss, self.rate);
                    self.set((got_through * 0.85).max(LEAST_BY_LOSS).min(self.rate));
                }
                Verdict::NotOurs(before) => self.set(self.rate.max(before)),
                // What was sent a round trip ago is what gets through now, or there is no more to be had.
                Verdict::None if made_use_of && got_through >= used_before * 0.6 => {
                    self.grow(now, 1.25 * got_through / f64::from(1.0 - loss.0.min(0.9)));
                }
                Verdict::None => {}
                Verdict::Open => self.calm = now,
            }
        }
    }

    /// `most`: what makes it wait and see what comes of the last step.
    fn grow(&mut self, now: Duration, most: f64) {
        let calm = now.saturating_sub(self.calm);
        let grown = match self.capacity {
            None => self.rate * 2.0,
            Some(_) if calm > CALM => {
                let grown = self.rate * (1.0 + (calm - CALM).as_secs_f64().min(1.0) / 4.0);
                grown.min(most.max(self.rate))
            }
            Some(capacity) => {
                // The part that does not depend on the rate lets a small one catch up with those that it shares with.
                let step = self.rate * 0.02 + 400.0;
                self.rate + if self.rate < capacity * 0.95 { step } else { step / 3.0 }
            }
        };
        self.set(grown);
    }

    const fn set(&mut self, rate: f64) {
        self.rate = rate.clamp(Self::LEAST, MOST);
    }
}

/// The least round trip of the last seconds.
#[derive(Clone, Debug, Default)]
struct LeastRoundTrip {
    current: Option<Duration>,
    before: Option<Duration>,
    turned: Duration,
}

impl LeastRoundTrip {
    fn measure(&mut self, now: Duration, round_trip: Duration) {
        if self.turned + LEAST_WINDOW <= now {
            self.before = self.current.take();
            self.turned = now;
        }
        self.current = Some(self.current.map_or(round_trip, |least| least.min(round_trip)));
    }

    fn get(&self) -> Option<Duration> {
        self.current.into_iter().chain(self.before).min()
    }

    /// From now on it is this.
    const fn forget(&mut self, round_trip: Duration) {
        self.current = Some(round_trip);
        self.before = None;
    }
}

/// Whether losses have to do with how much is sent: less is sent for a while, to see whether less is lost.
#[derive(Clone, Debug)]
struct LossTrial {
    tolerance: f32,
    /// The share lost and the rate before, and how many datagrams were known of.
    trial: Option<(f32, f64, u64)>,
    /// The same of the last trial.
    since: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// No more is lost than may be.
    None,
    /// So much is lost that less is to be sent, to see what comes of it.
    TooMany,
    /// It makes no difference: the rate before was right.
    NotOurs(f64),
    /// A trial is under way.
    Open,
}

impl Default for LossTrial {
    fn default() -> Self {
        Self { tolerance: TOLERANCE, trial: None, since: 0 }
    }
}

impl LossTrial {
    /// Less is sent from now on.
    const fn began(&mut self, (share, known): (f32, u64), rate: f64) {
        self.trial = Some((share, rate, known));
    }

    fn judge(&mut self, (share, known): (f32, u64), time: Duration, used: bool) -> Verdict {
        let fades = (time.as_secs_f32() / TOLERANCE_FADES.as_secs_f32()).min(1.0);
        self.tolerance += (TOLERANCE - self.tolerance) * fades;
        if let Some((before, rate, at)) = self.trial {
            if known < at + TRIAL {
                return Verdict::Open;
            }
            self.trial = None;
            self.since = known;
            if share > before * 0.5 {
                self.tolerance = (share * 1.5).min(0.95);
                return Verdict::NotOurs(rate);
            }
        }
        if share <= self.tolerance {
            Verdict::None
        } else if used && known >= self.since + TRIAL / 2 {
            Verdict::TooMany
        } else {
            Verdict::Open
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_least_round_trip_is_that_of_the_last_seconds() {
        let mut least = LeastRoundTrip::default();
        assert_eq!(least.get(), None);
        least.measure(ms(5_000), ms(60));
        least.measure(ms(5_100), ms(40));
        least.measure(ms(9_000), ms(90));
        assert_eq!(least.get(), Some(ms(40)));
        least.measure(ms(10_200), ms(95));
        assert_eq!(least.get(), Some(ms(40)));
        least.measure(ms(15_300), ms(95));
        assert_eq!(least.get(), Some(ms(95)));
        least.forget(ms(200));
        assert_eq!(least.get(), Some(ms(200)));
    }

    #[test]
    fn losses_that_go_with_the_rate_are_told_from_those_that_do_not() {
        let judge = |trial: &mut LossTrial, share: f32, known: u64| trial.judge((share, known), ms(60), true);
        for (after, verdict) in [(0.05, Verdict::None), (0.28, Verdict::NotOurs(90_000.0))] {
            let mut trial = LossTrial::default();
            assert_eq!(judge(&mut trial, 0.1, 1_000), Verdict::None);
            assert_eq!(judge(&mut trial, 0.3, 1_001), Verdict::TooMany);
            trial.began((0.3, 1_001), 90_000.0);
            assert_eq!(judge(&mut trial, 0.3, 1_100), Verdict::Open);
            assert_eq!(judge(&mut trial, after, 1_129), verdict);
            if after > TOLERANCE {
                assert_eq!(judge(&mut trial, after, 1_400), Verdict::None, "it is tolerated");
            } else {
                assert_eq!(judge(&mut trial, 0.3, 1_400), Verdict::TooMany);
            }
        }
    }

    #[test]
    fn what_is_asked_for_and_not_carried_does_not_make_the_rate_grow() {
        let mut rate = Rate::new();
        let mut now = ms(0);
        for round in 0..40 {
            // Twice as much is sent as comes.
            rate.sent(20_000, 0);
            now += ms(60);
            for _ in 0..SAMPLES {
                rate.acked(now, now, 3_000, Some(ms(60)), (0.0, 0));
            }
            assert!(rate.bytes() <= f64::from(FIRST_RATE) * 2.0, "{} in round {round}", rate.bytes());
        }
    }
}
