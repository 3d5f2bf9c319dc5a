//! Is there room for another event to this peer, and does it take any at all?

use core::time::Duration;

use super::config::SLOW;
use crate::link::{UNRELIABLE_COST, UNRELIABLE_QUEUE};

/// The most of the time between two reports that counts: if it is longer, this side was asleep.
const STEP: Duration = Duration::from_millis(500);

/// Messages that wait for a peer, as far as the session knows: what was last reported, and what it has handed over since.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendQueue {
    reported: usize,
    since: usize,
    /// Of those that may be lost, since the last report.
    fleeting: usize,
    /// When the last report was.
    at: Duration,
    /// How long something has waited, and nothing was taken.
    stalled: Duration,
}

impl SendQueue {
    pub(super) const fn new(now: Duration) -> Self {
        Self { reported: 0, since: 0, fleeting: 0, at: now, stalled: Duration::ZERO }
    }

    /// A message with so many bytes is handed over.
    pub(super) const fn handed(&mut self, bytes: usize) {
        self.since += bytes;
    }

    /// The same for one that may be lost.
    pub(super) const fn handed_fleeting(&mut self, bytes: usize) {
        self.fleeting += bytes + UNRELIABLE_COST;
    }

    pub(super) const fn waiting(&self) -> usize {
        self.reported + self.since
    }

    /// Whether there is room for so many bytes, of `limit`. One message always finds room where nothing waits.
    pub(super) const fn fits(&self, bytes: usize, limit: usize) -> bool {
        let waiting = self.waiting();
        waiting == 0 || waiting + bytes <= limit
    }

    /// The same for one that may be lost, of [`UNRELIABLE_QUEUE`].
    pub(super) const fn fits_fleeting(&self, bytes: usize) -> bool {
        self.fleeting + bytes + UNRELIABLE_COST <= UNRELIABLE_QUEUE
    }

    /// So many bytes wait now. `counts`: the peer is heard, and they are many.
    pub(super) fn report(&mut self, now: Duration, waiting: usize, counts: bool) {
        let took = waiting < self.waiting() || self.reported == 0;
        let step = now.saturating_sub(self.at).min(STEP);
        if took || waiting == 0 {
            self.stalled = Duration::ZERO;
        } else if counts {
            self.stalled += step;
        }
        (self.reported, self.since, self.fleeting, self.at) = (waiting, 0, 0, now);
    }

    /// Whether the peer has taken nothing for [`SLOW`] while that counted.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled >= SLOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn there_is_room_until_the_limit_and_again_when_something_was_taken() {
        let mut queue = SendQueue::new(ms(0));
        assert!(queue.fits(2_000, 1_000), "the first always");
        queue.handed(600);
        assert!(queue.fits(400, 1_000) && !queue.fits(401, 1_000));
        queue.report(ms(16), 600, true);
        assert!(!queue.fits(401, 1_000), "what was reported is not counted twice");
        queue.report(ms(32), 100, true);
        assert!(queue.fits(900, 1_000));
    }

    #[test]
    fn only_who_is_there_and_takes_nothing_is_stalled() {
        let run = |taken: usize, heard: bool, step: Duration| {
            let mut queue = SendQueue::new(ms(0));
            queue.handed(100_000);
            let (mut now, mut waiting) = (ms(0), 100_000);
            while now < SLOW * 2 && !queue.is_stalled() {
                now += step;
                waiting -= taken;
                queue.report(now, waiting, heard);
            }
            queue.is_stalled().then_some(now)
        };
        let stalled = run(0, true, ms(10)).expect("takes nothing");
        assert!((SLOW..SLOW + ms(30)).contains(&stalled), "{stalled:?}");
        assert_eq!(run(1, true, ms(10)), None, "ever so little");
        assert_eq!(run(0, false, ms(10)), None, "the link has a verdict of its own on who is silent");
        assert_eq!(run(0, true, SLOW), None, "this side was asleep");
    }

    #[test]
    fn what_may_be_lost_has_a_queue_of_its_own() {
        let mut queue = SendQueue::new(ms(0));
        let count = (0..).take_while(|_| {
            let fits = queue.fits_fleeting(100);
            queue.handed_fleeting(100);
            fits
        });
        assert_eq!(count.count(), UNRELIABLE_QUEUE / 108);
        assert!(queue.fits(1_000, 1_000));
        queue.report(ms(16), 0, true);
        assert!(queue.fits_fleeting(100));
    }
}
