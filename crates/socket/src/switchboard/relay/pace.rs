//! How much may be sent through the relay now, so that it drops nothing?

use std::time::Duration;

use coplay_proto::signal::relay::{MAX_FRAME, RelayOffer};

/// What unreliable frames leave for those that are to arrive: the longest of them, and a few.
const RESERVE_BYTES: f64 = MAX_FRAME as f64;
const RESERVE_FRAMES: f64 = 4.0;

/// What one socket may still send to all peers that it relays to.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Each second, and at once.
    bytes: f64,
    frames: f64,
    held_bytes: f64,
    held_frames: f64,
    filled: Duration,
}

impl Pace {
    pub(crate) fn new(now: Duration, offer: RelayOffer) -> Self {
        let (bytes, frames) = (f64::from(offer.bytes), f64::from(offer.frames));
        let mut pace = Self { bytes, frames, held_bytes: 0.0, held_frames: 0.0, filled: now };
        (pace.held_bytes, pace.held_frames) = pace.most();
        pace
    }

    /// A server takes four of the longest frames at once, however slow it is.
    fn most(&self) -> (f64, f64) {
        (self.bytes.max(2.0 * RESERVE_BYTES), self.frames.max(RESERVE_FRAMES))
    }

    /// Takes a frame out that is lost if there is no room for it.
    pub(crate) fn spare(&mut self, now: Duration, bytes: usize) -> bool {
        self.fill(now);
        // Of a server that lets few frames through, all are for what is to arrive.
        let reserve = RESERVE_FRAMES.min(self.most().1 / 2.0);
        let enough = self.held_bytes - bytes as f64 >= RESERVE_BYTES && self.held_frames - 1.0 >= reserve;
        enough && self.take(now, bytes)
    }

    /// Takes a frame out that is to arrive.
    pub(crate) fn take(&mut self, now: Duration, bytes: usize) -> bool {
        let enough = self.wait(now, bytes).is_zero();
        if enough {
            self.held_bytes -= bytes as f64;
            self.held_frames -= 1.0;
        }
        enough
    }

    /// How long it is until such a frame can be taken out.
    pub(crate) fn wait(&mut self, now: Duration, bytes: usize) -> Duration {
        self.fill(now);
        let missing = |wanted: f64, held: f64, rate: f64| (wanted - held).max(0.0) / rate.max(1.0);
        let seconds =
            missing(bytes as f64, self.held_bytes, self.bytes).max(missing(1.0, self.held_frames, self.frames));
        // Rounded up: it is there then.
        if seconds > 0.0 {
            Duration::from_secs_f64(seconds.min(60.0)) + Duration::from_millis(1)
        } else {
            Duration::ZERO
        }
    }

    fn fill(&mut self, now: Duration) {
        let seconds = now.saturating_sub(self.filled).as_secs_f64();
        let (most_bytes, most_frames) = self.most();
        self.held_bytes = (self.held_bytes + seconds * self.bytes).min(most_bytes);
        self.held_frames = (self.held_frames + seconds * self.frames).min(most_frames);
        self.filled = self.filled.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_arrive_comes_before_what_may_be_lost() {
        let mut pace = Pace::new(Duration::ZERO, RelayOffer { bytes: 100_000, frames: 1_000 });
        let mut sent = 0;
        while pace.spare(Duration::ZERO, 1_000) {
            sent += 1_000;
        }
        assert!((80_000..=100_000 - MAX_FRAME).contains(&sent), "{sent}");
        assert!(pace.take(Duration::ZERO, 16_000), "that was left for it");
        let wait = pace.wait(Duration::ZERO, 16_000);
        assert!(wait > Duration::from_millis(100) && wait < Duration::from_millis(170), "{wait:?}");
        assert!(!pace.take(wait / 2, 16_000) && pace.take(wait, 16_000));
    }

    #[test]
    fn in_any_second_there_is_no_more_than_a_second_s_worth_and_what_was_saved() {
        let mut pace = Pace::new(Duration::ZERO, RelayOffer { bytes: 1_000_000, frames: 50 });
        let at = |ms| Duration::from_millis(ms);
        let frames = (0..10_000).filter(|ms| pace.take(at(*ms), 10)).count();
        assert!((540..=551).contains(&frames), "50 at once and 50 a second: {frames}");
        assert!(pace.wait(at(10_000), 10) <= at(22));
    }
}
