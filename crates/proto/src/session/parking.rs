//! Which events wait here for a member or an entity that they name, and what waits behind them.
//!
//! An event that is in order with others has those behind it wait, too: those of the same sender and channel, and no
//! others. What waits is bounded in bytes and in time.

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
    numbers: u64,
}

impl Parking {
    /// Whether there is more than may wait.
    pub(super) fn is_full(&self) -> bool {
        self.bytes > MAX_PARKED || self.lines.len() > MAX_LINES
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
        self.bytes += arrived.size();
        self.lines.entry(line).or_default().push_back(arrived);
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
        let first = waiting.pop_front();
        if waiting.is_empty() {
            self.lines.remove(&line);
        }
        self.bytes -= first.as_ref().map_or(0, Arrived::size);
        first
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
        assert!(parking.lines.is_empty() && parking.bytes == 0);
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_and_in_lines() {
        let most = |channel| {
            let mut parking = Parking::default();
            let mut count = 0;
            while !parking.is_full() {
                parking.push(arrived(1, channel, 0));
                count += 1;
            }
            count - 1
        };
        assert_eq!(most(Channel::Events), MAX_PARKED / (HELD_OVERHEAD + 1));
        assert_eq!(most(Channel::Unordered), MAX_LINES);
    }
}
