//! Which events wait here for a member or an entity that they name, and what waits behind them.
//!
//! An event that is in order with others has those behind it wait, too: those of the same sender and channel, and no
//! others. What waits is bounded in bytes, in lines and in time. Where it is too much, whoever has most of it gives way: so
//! that what one member says cannot have others' events come too early.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::{TypeId, config::HELD_OVERHEAD, envelope::About};
use crate::{Channel, MemberId};

/// How long an event waits for an entity that it is about; then it is delivered without.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// The most bytes of events that wait, of what comes over one link.
pub(super) const MAX_PARKED: usize = 1 << 20;
/// The most lines in which they do: each is looked at once a frame.
const MAX_LINES: usize = 1024;

/// An event that has come, in our own words.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    pub(super) origin: MemberId,
    pub(super) channel: Channel,
    pub(super) seen: bool,
    pub(super) about: Vec<About<TypeId>>,
    pub(super) event: TypeId,
    pub(super) value: Bytes,
    /// Until when it waits.
    pub(super) until: Duration,
}

impl Arrived {
    fn size(&self) -> usize {
        let about = self.about.iter().map(|about| HELD_OVERHEAD + 8 * about.parts.len()).sum::<usize>();
        self.value.len() + about + HELD_OVERHEAD
    }
}

/// Of what is waited for in order: the sender and the channel. What is in no order has a number of its own.
pub(super) type Line = (MemberId, Channel, u64);

/// What waits, of what came over one link.
#[derive(Debug, Default)]
pub(super) struct Parking {
    lines: BTreeMap<Line, VecDeque<Arrived>>,
    bytes: usize,
    /// Of each sender that has some.
    shares: BTreeMap<MemberId, Share>,
    numbers: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Share {
    bytes: usize,
    lines: usize,
}

impl Parking {
    /// If there is more than may wait: in which line the first is not to wait any more. In this one, in which something
    /// came last, unless another sender has more.
    pub(super) fn overflow(&self, last: Line) -> Option<Line> {
        let size = |share: &Share| if self.bytes > MAX_PARKED { share.bytes } else { share.lines };
        if self.bytes <= MAX_PARKED && self.lines.len() <= MAX_LINES {
            return None;
        }
        let (origin, most) = self.shares.iter().max_by_key(|(_, share)| size(share))?;
        let own = self.shares.get(&last.0).map_or(0, size);
        if own == size(most) && self.lines.contains_key(&last) {
            return Some(last);
        }
        self.lines.range((*origin, Channel::Control, 0)..).next().map(|(line, _)| *line)
    }

    #[cfg(test)]
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether something of this sender and channel waits that the next event is to come after.
    pub(super) fn holds_up(&self, origin: MemberId, channel: Channel) -> bool {
        channel.is_ordered() && self.lines.contains_key(&(origin, channel, 0))
    }

    pub(super) fn push(&mut self, arrived: Arrived) -> Line {
        let number = if arrived.channel.is_ordered() {
            0
        } else {
            self.numbers += 1;
            self.numbers
        };
        let line = (arrived.origin, arrived.channel, number);
        let size = arrived.size();
        let waiting = self.lines.entry(line).or_default();
        let share = self.shares.entry(line.0).or_default();
        share.lines += usize::from(waiting.is_empty());
        share.bytes += size;
        self.bytes += size;
        waiting.push_back(arrived);
        line
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = Line> {
        self.lines.keys().copied()
    }

    /// The first that waits in a line.
    pub(super) fn first(&self, line: Line) -> Option<&Arrived> {
        self.lines.get(&line)?.front()
    }

    pub(super) fn take_first(&mut self, line: Line) -> Option<Arrived> {
        let waiting = self.lines.get_mut(&line)?;
        let first = waiting.pop_front()?;
        let share = self.shares.entry(line.0).or_default();
        share.bytes -= first.size();
        self.bytes -= first.size();
        if waiting.is_empty() {
            self.lines.remove(&line);
            share.lines -= 1;
            if share.lines == 0 {
                self.shares.remove(&line.0);
            }
        }
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(slot: u16, channel: Channel, number: u8) -> Arrived {
        let origin = MemberId { slot, incarnation: 0 };
        let value = vec![number].into();
        Arrived { origin, channel, seen: false, about: Vec::new(), event: TypeId(0), value, until: PATIENCE }
    }

    #[test]
    fn only_what_comes_after_it_in_order_waits_behind_it() {
        let mut parking = Parking::default();
        let one = parking.push(arrived(1, Channel::Events, 0));
        let origin = MemberId { slot: 1, incarnation: 0 };
        assert!(parking.holds_up(origin, Channel::Events));
        assert!(!parking.holds_up(MemberId { slot: 2, incarnation: 0 }, Channel::Events));
        assert!(!parking.holds_up(origin, Channel::Control));
        let loose = parking.push(arrived(1, Channel::Unordered, 1));
        assert!(!parking.holds_up(origin, Channel::Unordered));
        assert_ne!(loose, parking.push(arrived(1, Channel::Unordered, 2)));
        assert_eq!(parking.push(arrived(1, Channel::Events, 3)), one);
        let taken =
            core::iter::from_fn(|| parking.take_first(one)).filter_map(|arrived| arrived.value.first().copied());
        assert_eq!(taken.collect::<Vec<_>>(), [0, 3]);
        for line in parking.lines().collect::<Vec<_>>() {
            parking.take_first(line);
        }
        assert!(parking.lines.is_empty() && parking.shares.is_empty() && parking.bytes == 0);
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_and_in_lines() {
        let most = |channel| {
            let mut parking = Parking::default();
            let mut count = 0;
            loop {
                let line = parking.push(arrived(1, channel, 0));
                if parking.overflow(line) == Some(line) {
                    break count;
                }
                count += 1;
            }
        };
        assert_eq!(most(Channel::Events), MAX_PARKED / (HELD_OVERHEAD + 1));
        assert_eq!(most(Channel::Unordered), MAX_LINES);
    }

    #[test]
    fn whoever_has_most_of_what_is_too_much_gives_way() {
        for channel in [Channel::Events, Channel::Unordered] {
            let mut parking = Parking::default();
            let line = parking.push(arrived(2, Channel::Events, 7));
            let mut flood = 0;
            while parking.overflow(line).is_none() {
                parking.push(arrived(1, channel, 0));
                flood += 1;
            }
            assert!(flood >= MAX_LINES);
            // Another one says something, and again.
            for _ in 0..10 {
                let line = parking.push(arrived(2, Channel::Events, 8));
                while let Some(full) = parking.overflow(line) {
                    assert_eq!(full.0.slot, 1, "{channel:?}");
                    parking.take_first(full);
                }
            }
            assert_eq!(parking.lines.get(&line).map(VecDeque::len), Some(11));
        }
    }
}
