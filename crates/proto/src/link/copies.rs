//! When does a small message go again before anybody can know whether it was lost?
//!
//! A lone message that is lost comes one and a half round trips late, since its loss shows by an ack that does not
//! come. Where datagrams are being lost, a copy that follows it a little later comes in time.

use core::time::Duration;
use std::collections::BTreeSet;

use crate::Channel;

/// The most bytes of a message that is copied: what is larger is rare, or bulk.
pub(super) const MAX_COPIED: usize = 512;
/// The least share of datagrams lost at which copies are worth their bytes: from the first loss on that is not long ago.
const LEAST_LOSS: f32 = 0.0015;
/// The share of messages of which neither the first nor a copy may arrive; more copies are sent beyond.
const LEFT_OVER: f32 = 0.003;
/// The most copies before a loss is known.
const MOST: u8 = 2;
/// Copies of what is known lost, where losses come in bursts: where more than this share follows another one.
const AFTER_LOSS: u8 = 3;
const BURSTS: f32 = 0.3;
/// Below this round trip, what is lost is repeated as soon as a copy would come.
const LEAST_ROUND_TRIP: Duration = Duration::from_millis(10);
/// The least and the most time between two copies; between them it is a third of a round trip. A burst of losses is
/// often longer than a few ms; and a copy that comes alone is just behind the frame of 60 a second that it goes with.
const GAP: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(17));
/// The same after a loss.
const GAP_AFTER_LOSS: Duration = Duration::from_millis(6);
/// For ten bytes sent for the first time, so many may be sent again: with them, less than three times as many.
const CREDIT_OF_TEN: usize = 17;
/// The most bytes of such credit.
const MAX_CREDIT: usize = 16 * MAX_COPIED;
/// The most messages of which copies are to follow; for more there are none.
const MAX_PLANNED: usize = 256;

/// How many copies there are to be of a message that is sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Redundancy {
    copies: u8,
    gap: Duration,
    after_loss: u8,
}

#[cfg(test)]
impl Redundancy {
    pub(super) const fn of(copies: u8, gap: Duration) -> Self {
        Self { copies, gap, after_loss: 0 }
    }
}

/// What became of datagrams lately, by which copies are planned: of more of them than the figure for people, so that
/// seldom losses are not forgotten.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses {
    known: u16,
    share: f32,
    /// Of those that came just after a lost one.
    in_bursts: f32,
    last: bool,
}

impl Losses {
    /// How many datagrams are averaged over, and how many of those after a lost one.
    const WINDOW: u16 = 512;
    const BURST_WINDOW: f32 = 16.0;

    /// In the order in which they were sent.
    pub(super) fn push(&mut self, lost: bool) {
        let value = f32::from(u8::from(lost));
        self.known = (self.known + 1).min(Self::WINDOW);
        self.share += (value - self.share) / f32::from(self.known);
        if core::mem::replace(&mut self.last, lost) {
            self.in_bursts += (value - self.in_bursts) / Self::BURST_WINDOW;
        }
    }

    /// None while copies are not worth it. `recent`: the share lost of the last datagrams.
    pub(super) fn redundancy(&self, recent: f32, round_trip: Option<Duration>) -> Option<Redundancy> {
        let round_trip = round_trip.filter(|round_trip| *round_trip >= LEAST_ROUND_TRIP)?;
        let loss = self.share.max(recent);
        if loss < LEAST_LOSS {
            return None;
        }
        let copies = if loss * self.in_bursts.max(loss) > LEFT_OVER { MOST } else { 1 };
        let after_loss = if self.in_bursts > BURSTS { AFTER_LOSS } else { 0 };
        Some(Redundancy { copies, gap: (round_trip / 3).clamp(GAP.0, GAP.1), after_loss })
    }
}

/// A copy to be sent: the first ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Copy {
    /// When it goes by itself.
    alone: Duration,
    /// From when on it goes with what is sent anyway.
    along: Duration,
    pub(super) channel: Channel,
    pub(super) number: u64,
    left: u8,
    gap: Duration,
    /// The message was lost before.
    lost: bool,
}

/// The copies to be sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Copies {
    planned: BTreeSet<Copy>,
    /// How many bytes may be sent again.
    credit: usize,
}

impl Copies {
    /// A message of `cost` bytes in all goes out now: for the first time, or because it was `lost`. Returns the copy to
    /// follow.
    pub(super) fn sent(
        &mut self,
        now: Duration,
        (channel, number): (Channel, u64),
        cost: usize,
        lost: bool,
        redundancy: Option<Redundancy>,
    ) -> Option<Copy> {
        if lost {
            self.credit = self.credit.saturating_sub(cost);
        } else {
            self.credit = (self.credit + cost * CREDIT_OF_TEN / 10).min(MAX_CREDIT);
        }
        let Redundancy { copies, gap, after_loss } = redundancy?;
        let (left, gap) = if lost { (after_loss, GAP_AFTER_LOSS) } else { (copies, gap) };
        if left == 0 {
            return None;
        }
        self.plan(Copy { alone: now + gap, along: now + gap / 2, channel, number, left, gap, lost })
    }

    /// Whether there is credit for a copy of so many bytes in all.
    pub(super) const fn affords(&self, copy: &Copy, cost: usize) -> bool {
        // Something is left for those that are known lost: they are late already.
        self.credit >= if copy.lost { cost } else { cost * 3 }
    }

    /// A copy of so many bytes goes out now. Returns the one to follow, if any.
    pub(super) fn copied(&mut self, now: Duration, copy: Copy, cost: usize) -> Option<Copy> {
        self.planned.remove(&copy);
        self.credit = self.credit.saturating_sub(cost);
        let left = copy.left.checked_sub(1).filter(|left| *left > 0)?;
        self.plan(Copy { alone: now + copy.gap, along: now + copy.gap / 2, left, ..copy })
    }

    /// There is to be no such copy.
    pub(super) fn forget(&mut self, copy: Copy) {
        self.planned.remove(&copy);
    }

    /// Copies that may go now.
    pub(super) fn along(&self, now: Duration) -> Vec<Copy> {
        self.planned.iter().take(MAX_PLANNED).filter(|copy| copy.along <= now).copied().collect()
    }

    /// The first one, and when it goes by itself.
    pub(super) fn first(&self) -> Option<(Duration, Copy)> {
        self.planned.first().map(|copy| (copy.alone, *copy))
    }

    fn plan(&mut self, copy: Copy) -> Option<Copy> {
        (self.planned.len() < MAX_PLANNED && self.planned.insert(copy)).then_some(copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// The copies planned after so many datagrams, of which every so manieth is the first of a run of lost ones.
    fn copies(every: u32, run: u32) -> u8 {
        let mut losses = Losses::default();
        (0..3_000).for_each(|index| losses.push(every > 0 && index % every < run));
        losses.redundancy(0.0, Some(ms(60))).map_or(0, |redundancy| redundancy.copies)
    }

    #[test]
    fn the_worse_the_losses_the_more_copies() {
        assert_eq!(copies(0, 0), 0);
        assert_eq!(copies(1_000, 1), 0);
        assert_eq!(copies(50, 1), 1);
        assert_eq!(copies(10, 1), 2);
        assert_eq!(copies(150, 3), 2, "those in a row take copies, too");
    }

    #[test]
    fn a_short_round_trip_needs_no_copies() {
        let mut losses = Losses::default();
        (0..100).for_each(|index| losses.push(index % 10 == 0));
        assert_eq!(losses.redundancy(0.0, None), None);
        assert_eq!(losses.redundancy(0.0, Some(ms(9))), None);
        assert_eq!(losses.redundancy(0.0, Some(ms(12))).map(|redundancy| redundancy.gap), Some(ms(10)));
        assert_eq!(losses.redundancy(0.0, Some(ms(300))).map(|redundancy| redundancy.gap), Some(ms(17)));
    }

    #[test]
    fn the_credit_keeps_copies_below_three_times_the_bytes() {
        let redundancy = Some(Redundancy::of(2, ms(20)));
        let mut copies = Copies::default();
        let mut sent = 0;
        for number in 0..1_000 {
            let mut next = copies.sent(ms(number * 100), (Channel::Events, number), 100, false, redundancy);
            while let Some(copy) = next {
                assert_eq!(copies.first().map(|(_, first)| first), next);
                next = None;
                if copies.affords(&copy, 100) {
                    sent += 1;
                    next = copies.copied(ms(number * 100 + 20), copy, 100);
                }
                copies.forget(copy);
            }
        }
        assert!((1_690..=1_700).contains(&sent), "{sent}");
        assert_eq!(copies.first(), None);
    }

    #[test]
    fn what_is_planned_is_bounded() {
        let redundancy = Some(Redundancy::of(2, ms(20)));
        let mut copies = Copies::default();
        (0..1_000).for_each(|number| _ = copies.sent(ms(0), (Channel::Events, number), 10, false, redundancy));
        assert_eq!(copies.along(ms(9)).len(), 0);
        assert_eq!(copies.along(ms(10)).len(), MAX_PLANNED);
        assert_eq!(copies.first().map(|(at, _)| at), Some(ms(20)));
    }
}
