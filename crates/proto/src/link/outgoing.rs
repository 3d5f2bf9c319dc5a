//! How messages get to the peer: cut into fragments, sent, copied, and sent again until they arrive.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::Channel;

use super::{
    CONTROL_RESERVE, MAX_DATAGRAM, MAX_MESSAGE, Refused,
    copies::{Copies, Copy, MAX_COPIED, Redundancy},
    fleeting::Fleeting,
    receipts::FragmentId,
    wire::{self, Ends, FRAGMENT_BYTES, MAX_HEADER},
};

/// The number of the first message of a channel: not zero, so that all that are near it have one too.
pub(super) const FIRST_NUMBER: u64 = 1 << 16;
/// How far the number of a message may be ahead of the oldest that is not acked.
pub(super) const MESSAGE_WINDOW: u64 = 1024;
/// The most messages of a channel that wait to be acked, so that 16 bits tell them apart.
const MAX_WAITING: usize = 1 << 14;
/// What a fragment takes of the window besides its bytes: its headers, so that empty messages are not free.
const FRAGMENT_COST: usize = MAX_DATAGRAM - MAX_HEADER - FRAGMENT_BYTES;
/// How many fragments that do not fit a datagram are passed over for one that does.
const MAX_PASSED_OVER: usize = 16;

/// Messages on their way to the peer.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    /// Of the channels that were made use of.
    queues: BTreeMap<Channel, Queue>,
    /// What is sent once.
    fleeting: Fleeting,
    /// The channel of events that the next datagram begins with, or one after it: none keeps out another.
    turn: Channel,
    copies: Copies,
    /// Bytes of all messages that are not acked.
    bytes: usize,
    limit: usize,
}

/// What was written into a datagram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filled {
    /// What it takes of the window.
    pub(super) bytes: usize,
    pub(super) fragments: Vec<FragmentId>,
    /// Messages that are under way already, and need not be repeated if this is lost.
    pub(super) copies: Vec<FragmentId>,
}

#[derive(Clone, Debug)]
struct Queue {
    /// The number of the first of `messages`.
    first: u64,
    /// None where a message was acked before an older one.
    messages: VecDeque<Option<Waiting>>,
    /// Fragments to be sent, by number and index.
    due: BTreeSet<(u64, u8)>,
}

#[derive(Clone, Debug)]
struct Waiting {
    bytes: Bytes,
    /// Bit n: whether the fragment n is yet to be acked.
    open: u64,
    count: u8,
    /// Whether it was lost before.
    lost: bool,
    /// The copy to follow.
    copy: Option<Copy>,
}

impl Outgoing {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            queues: BTreeMap::new(),
            fleeting: Fleeting::default(),
            turn: Channel::Events,
            copies: Copies::default(),
            bytes: 0,
            limit,
        }
    }

    pub(super) fn push(&mut self, now: Duration, channel: Channel, bytes: Bytes) -> Result<(), Refused> {
        if channel == Channel::Unreliable {
            return self.fleeting.push(now, bytes);
        }
        if bytes.len() > MAX_MESSAGE {
            return Err(Refused::TooLarge { size: bytes.len(), limit: MAX_MESSAGE });
        }
        let reserve = if channel == Channel::Control { CONTROL_RESERVE } else { 0 };
        let full = self.bytes + bytes.len() > self.limit + reserve;
        let (limit, queue) = (self.limit, self.queues.entry(channel).or_insert_with(Queue::new));
        if full || queue.messages.len() >= MAX_WAITING {
            return Err(Refused::QueueFull { limit });
        }
        let count = bytes.len().div_ceil(FRAGMENT_BYTES).max(1) as u8;
        let number = queue.end();
        queue.due.extend((0..count).map(|index| (number, index)));
        let size = bytes.len();
        let open = u64::MAX >> (64 - u32::from(count));
        queue.messages.push_back(Some(Waiting { bytes, open, count, lost: false, copy: None }));
        self.bytes += size;
        Ok(())
    }

    /// Writes the next fragments that fit, at most so many bytes in all (`room`), into a datagram that is made now, and
    /// then copies, if there are any to be.
    pub(super) fn fill(
        &mut self,
        now: Duration,
        datagram: &mut wire::Datagram,
        room: usize,
        redundancy: Option<Redundancy>,
    ) -> Filled {
        let mut filled = Filled::default();
        if !self.fill_channel(now, Channel::Control, datagram, room, redundancy, &mut filled) {
            return filled;
        }
        let mut first = None;
        for channel in rotation(self.turn) {
            let before = filled.bytes;
            if !self.fill_channel(now, channel, datagram, room, redundancy, &mut filled) {
                self.turn = channel;
                return filled;
            }
            if filled.bytes > before {
                first = first.or(Some(channel));
            }
        }
        if let Some(first) = first {
            self.turn = Channel::events().find(|channel| *channel > first).unwrap_or(Channel::Events);
        }
        if redundancy.is_some() && self.next_size().is_none() {
            self.fill_copies(now, datagram, room, &mut filled);
        }
        filled
    }

    /// Writes the fragments of a channel that fit. False if there is no room for the next one.
    fn fill_channel(
        &mut self,
        now: Duration,
        channel: Channel,
        datagram: &mut wire::Datagram,
        room: usize,
        redundancy: Option<Redundancy>,
        filled: &mut Filled,
    ) -> bool {
        if channel == Channel::Unreliable {
            return self.fleeting.fill(datagram, room, &mut filled.bytes);
        }
        let Some(queue) = self.queues.get_mut(&channel) else { return true };
        let mut after = (0, 0);
        let mut passed_over = 0;
        while let Some(&place) = queue.due.range(after..).next()
            && place.0 < queue.first + MESSAGE_WINDOW
            && passed_over < MAX_PASSED_OVER
        {
            let (number, index) = place;
            after = (number, index + 1);
            let Some((bytes, count)) = queue.fragment(number, index) else {
                queue.due.remove(&place);
                continue;
            };
            let cost = bytes.len() + FRAGMENT_COST;
            if filled.bytes + cost > room {
                // What is smaller must not go first here, or the window might never be free for this one.
                return false;
            }
            if datagram.room(count == 1).is_none_or(|fits| bytes.len() > fits) {
                passed_over += 1;
                continue;
            }
            datagram.fragment(channel, number as u16, index, count, &bytes);
            filled.bytes += cost;
            filled.fragments.push(FragmentId { channel, number, index });
            queue.due.remove(&place);
            if let Some(waiting) = queue.waiting(number).filter(|_| count == 1 && bytes.len() <= MAX_COPIED) {
                waiting.copy = self.copies.sent(now, (channel, number), cost, waiting.lost, redundancy);
            }
        }
        true
    }

    fn fill_copies(&mut self, now: Duration, datagram: &mut wire::Datagram, room: usize, filled: &mut Filled) {
        for copy in self.copies.along(now) {
            let Some((bytes, cost)) = self.copy(copy) else { continue };
            if filled.bytes + cost > room || datagram.room(true).is_none_or(|fits| bytes.len() > fits) {
                continue;
            }
            datagram.fragment(copy.channel, copy.number as u16, 0, 1, &bytes);
            filled.bytes += cost;
            filled.copies.push(FragmentId { channel: copy.channel, number: copy.number, index: 0 });
            let next = self.copies.copied(now, copy, cost);
            if let Some(waiting) = self.waiting(copy.channel, copy.number) {
                waiting.copy = next;
            }
        }
    }

    /// Whether a copy goes by itself now. `may`: whether there is room for it; if not, it goes no more.
    pub(super) fn has_copy(&mut self, now: Duration, may: bool) -> bool {
        while let Some((at, copy)) = self.copies.first()
            && at <= now
        {
            if may && self.copy(copy).is_some() {
                return true;
            }
            self.drop_copy(copy.channel, copy.number);
        }
        false
    }

    /// When a copy goes by itself.
    pub(super) fn copy_due(&self) -> Option<Duration> {
        self.copies.first().map(|(at, _)| at)
    }

    /// The bytes of a copy, and what it takes of the window; none if it is not to be sent any more.
    fn copy(&mut self, copy: Copy) -> Option<(Bytes, usize)> {
        let fragment = self.queues.get(&copy.channel).and_then(|queue| queue.fragment(copy.number, 0));
        if let Some((bytes, _)) = fragment
            && let cost = bytes.len() + FRAGMENT_COST
            && self.copies.affords(&copy, cost)
        {
            return Some((bytes, cost));
        }
        self.drop_copy(copy.channel, copy.number);
        None
    }

    fn drop_copy(&mut self, channel: Channel, number: u64) {
        if let Some(copy) = self.waiting(channel, number).and_then(|waiting| waiting.copy.take()) {
            self.copies.forget(copy);
        }
    }

    /// What the next fragment to be sent takes of the window.
    pub(super) fn next_size(&self) -> Option<usize> {
        let size = |channel: Channel| match channel {
            Channel::Unreliable => self.fleeting.next_size(),
            _ => self.queues.get(&channel)?.next_size(),
        };
        core::iter::once(Channel::Control).chain(rotation(self.turn)).find_map(size)
    }

    /// Drops what is too old to be sent at all.
    pub(super) fn expire(&mut self, now: Duration) {
        self.fleeting.expire(now);
    }

    /// The peer has this fragment.
    pub(super) fn arrived(&mut self, fragment: FragmentId) {
        let Some(queue) = self.queues.get_mut(&fragment.channel) else { return };
        queue.due.remove(&(fragment.number, fragment.index));
        let Some(waiting) = queue.waiting(fragment.number) else { return };
        waiting.open &= !(1 << fragment.index);
        if waiting.open != 0 {
            return;
        }
        let size = waiting.bytes.len();
        self.drop_copy(fragment.channel, fragment.number);
        let Some(queue) = self.queues.get_mut(&fragment.channel) else { return };
        if let Some(place) = queue.slot(fragment.number) {
            *place = None;
        }
        while let Some(None) = queue.messages.front() {
            queue.messages.pop_front();
            queue.first += 1;
        }
        self.bytes -= size;
    }

    /// The peer does not have this fragment, or likely not.
    pub(super) fn lost(&mut self, fragment: FragmentId) {
        if let Some(queue) = self.queues.get_mut(&fragment.channel)
            && let Some(waiting) = queue.waiting(fragment.number)
            && waiting.open >> fragment.index & 1 == 1
        {
            waiting.lost = true;
            queue.due.insert((fragment.number, fragment.index));
            self.drop_copy(fragment.channel, fragment.number);
        }
    }

    /// Whether everything was acked.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.values().all(|queue| queue.messages.is_empty())
    }

    /// Bytes of the messages that are not acked.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// For each channel that was made use of, the number that the next message would have.
    pub(super) fn ends(&self) -> Ends {
        let mut ends = Ends::default();
        for (channel, queue) in &self.queues {
            ends.set(*channel, queue.end() as u16);
        }
        ends
    }

    fn waiting(&mut self, channel: Channel, number: u64) -> Option<&mut Waiting> {
        self.queues.get_mut(&channel)?.waiting(number)
    }
}

/// All channels of events, from this one on, and around.
fn rotation(turn: Channel) -> impl Iterator<Item = Channel> {
    let before = Channel::events().take_while(move |channel| *channel < turn);
    Channel::events().skip_while(move |channel| *channel < turn).chain(before)
}

impl Queue {
    const fn new() -> Self {
        Self { first: FIRST_NUMBER, messages: VecDeque::new(), due: BTreeSet::new() }
    }

    fn end(&self) -> u64 {
        self.first + self.messages.len() as u64
    }

    fn slot(&mut self, number: u64) -> Option<&mut Option<Waiting>> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.messages.get_mut(index)
    }

    fn waiting(&mut self, number: u64) -> Option<&mut Waiting> {
        self.slot(number)?.as_mut()
    }

    fn next_size(&self) -> Option<usize> {
        let (number, index) = *self.due.first()?;
        let (bytes, _) = self.fragment(number, index).filter(|_| number < self.first + MESSAGE_WINDOW)?;
        Some(bytes.len() + FRAGMENT_COST)
    }

    fn fragment(&self, number: u64, index: u8) -> Option<(Bytes, u8)> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let waiting = self.messages.get(at)?.as_ref()?;
        let start = usize::from(index) * FRAGMENT_BYTES;
        let end = (start + FRAGMENT_BYTES).min(waiting.bytes.len());
        (start <= end).then(|| (waiting.bytes.slice(start..end), waiting.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram() -> wire::Datagram {
        wire::Datagram::new(0, None)
    }

    fn outgoing(sizes: &[usize]) -> Outgoing {
        let mut outgoing = Outgoing::new(1 << 20);
        for size in sizes {
            outgoing.push(Duration::ZERO, Channel::Events, vec![7; *size].into()).unwrap();
        }
        outgoing
    }

    /// Numbers and indices of what the next datagram takes.
    fn next(outgoing: &mut Outgoing, room: usize) -> Vec<(u64, u8)> {
        let filled = outgoing.fill(Duration::ZERO, &mut datagram(), room, None);
        filled.fragments.into_iter().map(|fragment| (fragment.number - FIRST_NUMBER, fragment.index)).collect()
    }

    const fn fragment(number: u64, index: u8) -> FragmentId {
        FragmentId { channel: Channel::Events, number: FIRST_NUMBER + number, index }
    }

    #[test]
    fn a_message_is_cut_and_each_piece_is_sent_once() {
        let mut outgoing = outgoing(&[FRAGMENT_BYTES * 2 + 10, 5]);
        assert_eq!(outgoing.next_size(), Some(FRAGMENT_BYTES + FRAGMENT_COST));
        assert_eq!(next(&mut outgoing, 10_000), [(0, 0)]);
        assert_eq!(next(&mut outgoing, 10_000), [(0, 1)]);
        assert_eq!(next(&mut outgoing, 10_000), [(0, 2), (1, 0)]);
        assert_eq!(outgoing.next_size(), None);
        outgoing.lost(fragment(0, 1));
        assert_eq!(next(&mut outgoing, 10_000), [(0, 1)]);
        (0..3).for_each(|index| outgoing.arrived(fragment(0, index)));
        assert_eq!(outgoing.bytes(), 5);
        outgoing.lost(fragment(0, 1));
        assert_eq!(outgoing.next_size(), None, "what has arrived is not repeated");
        outgoing.arrived(fragment(1, 0));
        assert!(outgoing.is_empty() && outgoing.bytes() == 0);
        assert_eq!(outgoing.ends().iter().collect::<Vec<_>>(), [(Channel::Events, 2)]);
    }

    #[test]
    fn what_was_repeated_and_arrived_after_all_is_not_sent_again() {
        let mut outgoing = outgoing(&[5]);
        next(&mut outgoing, 10_000);
        outgoing.lost(fragment(0, 0));
        outgoing.arrived(fragment(0, 0));
        assert_eq!(outgoing.next_size(), None);
    }

    #[test]
    fn what_does_not_fit_the_datagram_is_passed_over_but_not_what_does_not_fit_the_window() {
        let mut outgoing = outgoing(&[900, 500, 20]);
        let mut part_full = datagram();
        part_full.state(&[0; 1_000]);
        let filled = outgoing.fill(Duration::ZERO, &mut part_full, 10_000, None);
        assert_eq!((filled.bytes, filled.fragments), (20 + FRAGMENT_COST, vec![fragment(2, 0)]));
        let mut outgoing = self::outgoing(&[900, 20]);
        assert_eq!(next(&mut outgoing, 800), []);
        assert_eq!(next(&mut outgoing, 907), []);
        assert_eq!(next(&mut outgoing, 908), [(0, 0)]);
    }

    #[test]
    fn control_goes_before_events() {
        let mut outgoing = outgoing(&[10]);
        outgoing.push(Duration::ZERO, Channel::Control, vec![1; 10].into()).unwrap();
        let fragments = outgoing.fill(Duration::ZERO, &mut datagram(), 10_000, None).fragments;
        assert_eq!(fragments.first().map(|fragment| fragment.channel), Some(Channel::Control));
        assert_eq!(fragments.len(), 2);
    }

    #[test]
    fn no_more_messages_are_under_way_than_the_receiver_tells_apart() {
        let mut outgoing = outgoing(&[0; MAX_WAITING]);
        let full = outgoing.push(Duration::ZERO, Channel::Events, Bytes::new());
        assert_eq!(full, Err(Refused::QueueFull { limit: 1 << 20 }));
        let mut under_way = 0;
        loop {
            match next(&mut outgoing, usize::MAX).len() {
                0 => break,
                count => under_way += count,
            }
        }
        assert_eq!(under_way as u64, MESSAGE_WINDOW);
        outgoing.arrived(fragment(1, 0));
        assert_eq!(outgoing.next_size(), None, "the oldest holds the others back");
        outgoing.arrived(fragment(0, 0));
        assert_eq!(next(&mut outgoing, usize::MAX).len(), 2);
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// What a datagram made at this time takes: numbers of messages, and of copies.
    fn filled(outgoing: &mut Outgoing, now: u64) -> (Vec<u64>, Vec<u64>) {
        let filled = outgoing.fill(ms(now), &mut datagram(), 10_000, Some(Redundancy::of(1, ms(20))));
        let numbers =
            |fragments: Vec<FragmentId>| fragments.into_iter().map(|fragment| fragment.number - FIRST_NUMBER).collect();
        (numbers(filled.fragments), numbers(filled.copies))
    }

    #[test]
    fn a_copy_rides_along_or_goes_alone_and_none_follows_what_arrived() {
        let mut outgoing = outgoing(&[300, 40]);
        // Large ones fill the credit.
        (0..6).for_each(|_| outgoing.push(Duration::ZERO, Channel::Events, vec![1; MAX_COPIED].into()).unwrap());
        while outgoing.next_size().is_some() {
            filled(&mut outgoing, 0);
        }
        (2..8).for_each(|number| outgoing.arrived(fragment(number, 0)));
        assert_eq!(outgoing.copy_due(), Some(ms(20)));
        assert!(!outgoing.has_copy(ms(19), true));
        assert_eq!(filled(&mut outgoing, 9), (vec![], vec![]));
        assert_eq!(filled(&mut outgoing, 10), (vec![], vec![0, 1]));
        assert_eq!(filled(&mut outgoing, 100), (vec![], vec![]), "one copy each");
        assert_eq!(outgoing.copy_due(), None);
        outgoing.push(Duration::ZERO, Channel::Events, vec![1; 40].into()).unwrap();
        assert_eq!(filled(&mut outgoing, 100), (vec![8], vec![]));
        assert!(outgoing.has_copy(ms(120), true));
        outgoing.arrived(fragment(8, 0));
        assert!(!outgoing.has_copy(ms(120), true));
        assert_eq!(outgoing.copy_due(), None);
    }

    #[test]
    fn where_there_is_no_room_a_copy_does_not_wait_for_it() {
        let mut outgoing = outgoing(&[40, 40, 40, 40]);
        assert_eq!(filled(&mut outgoing, 0).0, [0, 1, 2, 3]);
        assert!(!outgoing.has_copy(ms(20), false));
        assert_eq!(outgoing.copy_due(), None);
        outgoing.lost(fragment(0, 0));
        assert_eq!(filled(&mut outgoing, 30), (vec![0], vec![]), "what is lost is repeated all the same");
    }

    #[test]
    fn channels_of_events_take_turns() {
        let named = Channel::Named(crate::EventChannel::new(4).unwrap());
        let mut outgoing = Outgoing::new(1 << 20);
        for channel in [Channel::Events, named, Channel::Unordered] {
            (0..3).for_each(|_| outgoing.push(Duration::ZERO, channel, vec![7; 1_000].into()).unwrap());
        }
        let mut order = Vec::new();
        while outgoing.next_size().is_some() {
            let filled = outgoing.fill(Duration::ZERO, &mut datagram(), 10_000, None);
            order.extend(filled.fragments.iter().map(|fragment| fragment.channel));
        }
        let turn = [Channel::Events, named, Channel::Unordered];
        assert_eq!(order, [turn, turn, turn].concat());
    }

    #[test]
    fn whose_turn_it_is_waits_for_room_and_is_not_passed_by() {
        let named = Channel::Named(crate::EventChannel::new(0).unwrap());
        let mut outgoing = outgoing(&[900, 900]);
        outgoing.push(Duration::ZERO, named, vec![1; 10].into()).unwrap();
        assert_eq!(next(&mut outgoing, 1_000), [(0, 0)], "the next of the same channel has no room");
        assert_eq!(next(&mut outgoing, 100), []);
        assert_eq!(outgoing.next_size(), Some(900 + FRAGMENT_COST));
        assert_eq!(next(&mut outgoing, 10_000), [(1, 0), (0, 0)]);
    }

    #[test]
    fn what_is_sent_once_is_neither_copied_nor_repeated_nor_waited_for() {
        let mut outgoing = Outgoing::new(1 << 20);
        outgoing.push(Duration::ZERO, Channel::Unreliable, vec![7; 50].into()).unwrap();
        assert!(outgoing.is_empty(), "nobody waits for its ack");
        let filled =
            outgoing.fill(Duration::ZERO, &mut datagram(), 10_000, Some(Redundancy::of(2, Duration::from_millis(20))));
        assert_eq!((filled.bytes > 50, filled.fragments.len(), filled.copies.len()), (true, 0, 0));
        assert_eq!((outgoing.next_size(), outgoing.copy_due()), (None, None));
        assert_eq!(outgoing.ends().iter().count(), 0);
    }
}
