//! How messages arrive exactly once and in order: cut into fragments here, put together there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::Channel;

use super::{
    CONTROL_RESERVE, MAX_DATAGRAM, MAX_MESSAGE, Refused,
    receipts::FragmentId,
    wire::{self, FRAGMENT_BYTES, MAX_HEADER},
};

/// The number of the first message of a channel: not zero, so that all that are near it have one too.
const FIRST_NUMBER: u64 = 1 << 16;
/// How far the number of a message may be ahead of the oldest that is not acked.
const MESSAGE_WINDOW: u64 = 1024;
/// The most messages of a channel that wait to be acked, so that 16 bits tell them apart.
const MAX_WAITING: usize = 1 << 14;
/// The most messages that wait to be taken by the session.
const MAX_DELIVERED: usize = 1 << 13;
/// What a fragment takes of the window besides its bytes: its headers, so that empty messages are not free.
const FRAGMENT_COST: usize = MAX_DATAGRAM - MAX_HEADER - FRAGMENT_BYTES;
/// How many fragments that do not fit a datagram are passed over for one that does.
const MAX_PASSED_OVER: usize = 16;

/// The channels, in the order in which they are served.
const CHANNELS: [Channel; 2] = [Channel::Control, Channel::Events];

/// Messages on their way to the peer.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    control: Queue,
    events: Queue,
    /// Bytes of all messages that are not acked.
    bytes: usize,
    limit: usize,
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
}

impl Outgoing {
    pub(super) fn new(limit: usize) -> Self {
        Self { control: Queue::new(), events: Queue::new(), bytes: 0, limit }
    }

    pub(super) fn push(&mut self, channel: Channel, bytes: Bytes) -> Result<(), Refused> {
        if bytes.len() > MAX_MESSAGE {
            return Err(Refused::TooLarge { size: bytes.len(), limit: MAX_MESSAGE });
        }
        let reserve = if channel == Channel::Control { CONTROL_RESERVE } else { 0 };
        let full = self.bytes + bytes.len() > self.limit + reserve;
        let (limit, queue) = (self.limit, self.queue(channel));
        if full || queue.messages.len() >= MAX_WAITING {
            return Err(Refused::QueueFull { limit });
        }
        let count = bytes.len().div_ceil(FRAGMENT_BYTES).max(1) as u8;
        let number = queue.end();
        queue.due.extend((0..count).map(|index| (number, index)));
        let size = bytes.len();
        queue.messages.push_back(Some(Waiting { bytes, open: u64::MAX >> (64 - u32::from(count)), count }));
        self.bytes += size;
        Ok(())
    }

    /// Writes the next fragments that fit, at most so many bytes in all (`room`), into a datagram.
    pub(super) fn fill(&mut self, datagram: &mut wire::Datagram, mut room: usize) -> (usize, Vec<FragmentId>) {
        let (before, mut written) = (room, Vec::new());
        for channel in CHANNELS {
            let queue = self.queue(channel);
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
                if cost > room {
                    // What is smaller must not go first here, or the window might never be free for this one.
                    return (before - room, written);
                }
                if datagram.room(count == 1).is_none_or(|fits| bytes.len() > fits) {
                    passed_over += 1;
                    continue;
                }
                datagram.fragment(channel, number as u16, index, count, &bytes);
                room -= cost;
                written.push(FragmentId { channel, number, index });
                queue.due.remove(&place);
            }
        }
        (before - room, written)
    }

    /// What the next fragment to be sent takes of the window.
    pub(super) fn next_size(&self) -> Option<usize> {
        self.control.next_size().or_else(|| self.events.next_size())
    }

    /// The peer has this fragment.
    pub(super) fn arrived(&mut self, fragment: FragmentId) {
        let queue = self.queue(fragment.channel);
        queue.due.remove(&(fragment.number, fragment.index));
        let Some(waiting) = queue.waiting(fragment.number) else { return };
        waiting.open &= !(1 << fragment.index);
        if waiting.open != 0 {
            return;
        }
        let size = waiting.bytes.len();
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
        let queue = self.queue(fragment.channel);
        if queue.waiting(fragment.number).is_some_and(|waiting| waiting.open >> fragment.index & 1 == 1) {
            queue.due.insert((fragment.number, fragment.index));
        }
    }

    /// Whether everything was acked.
    pub(super) fn is_empty(&self) -> bool {
        self.control.messages.is_empty() && self.events.messages.is_empty()
    }

    /// Bytes of the messages that are not acked.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// For each channel, the number that the next message would have.
    pub(super) fn ends(&self) -> [u64; 2] {
        [self.control.end(), self.events.end()]
    }

    const fn queue(&mut self, channel: Channel) -> &mut Queue {
        match channel {
            Channel::Control => &mut self.control,
            Channel::Events => &mut self.events,
        }
    }
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

/// Messages on their way from the peer.
///
/// What the session has not taken, and what waits for older messages or its other fragments, is bounded: at the most
/// the limit, and one message more for each channel, since the next one in order must always find room.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    control: Assembly,
    events: Assembly,
    /// Sizes of the messages that the session has not taken yet.
    delivered: VecDeque<usize>,
    /// Their sum.
    untaken: usize,
    /// How much was taken of the first of them.
    taken: usize,
    /// Bytes of fragments that wait for others.
    buffered: usize,
    limit: usize,
}

#[derive(Clone, Debug)]
struct Assembly {
    /// The number of the next message in order.
    next: u64,
    messages: BTreeMap<u64, Partial>,
}

#[derive(Clone, Debug)]
struct Partial {
    count: u8,
    /// Bit n: whether fragment n is here.
    here: u64,
    fragments: Vec<(u8, Bytes)>,
}

/// What becomes of a fragment that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is kept, or was there before. `in_order`: nothing that comes before it is missing.
    Taken { in_order: bool },
    /// There is no room for it: it is to come again.
    Refused,
}

impl Incoming {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            control: Assembly::new(),
            events: Assembly::new(),
            delivered: VecDeque::new(),
            untaken: 0,
            taken: 0,
            buffered: 0,
            limit,
        }
    }

    pub(super) fn admit(
        &mut self,
        channel: Channel,
        number: u16,
        index: u8,
        count: u8,
        bytes: Bytes,
    ) -> Result<Admission, &'static str> {
        let (untaken, buffered, limit, is_full) = (self.untaken, self.buffered, self.limit, self.is_full());
        let assembly = self.assembly(channel);
        let number = wire::expand(number, assembly.next);
        if number < assembly.next {
            return Ok(Admission::Taken { in_order: true });
        }
        if number >= assembly.next + MESSAGE_WINDOW {
            return Err("a message is too far ahead of those before it");
        }
        let known = assembly.messages.get(&number);
        if known.is_some_and(|known| known.count != count) {
            return Err("a message has now so many fragments and now so many");
        }
        let in_order = number == assembly.next;
        if known.is_some_and(|known| known.here >> index & 1 == 1) {
            return Ok(Admission::Taken { in_order });
        }
        let fits = if in_order { !is_full } else { untaken + buffered + bytes.len() <= limit };
        if !fits {
            return Ok(Admission::Refused);
        }
        let new = || Partial { count, here: 0, fragments: Vec::new() };
        let partial = assembly.messages.entry(number).or_insert_with(new);
        partial.here |= 1 << index;
        let size = bytes.len();
        partial.fragments.push((index, bytes));
        self.buffered += size;
        Ok(Admission::Taken { in_order })
    }

    /// The next message that is whole and in order, as long as the session takes what it gets.
    pub(super) fn deliver(&mut self) -> Option<(Channel, Bytes)> {
        if self.is_full() {
            return None;
        }
        for channel in CHANNELS {
            let assembly = self.assembly(channel);
            if let Some(first) = assembly.messages.first_entry()
                && *first.key() == assembly.next
                && first.get().fragments.len() == usize::from(first.get().count)
            {
                let bytes = join(first.remove().fragments);
                assembly.next += 1;
                self.buffered -= bytes.len();
                self.untaken += bytes.len();
                self.delivered.push_back(bytes.len());
                return Some((channel, bytes));
            }
        }
        None
    }

    /// The session took messages with so many bytes.
    pub(super) fn take(&mut self, bytes: usize) {
        self.taken += bytes;
        while let Some(size) = self.delivered.front().copied().filter(|size| *size <= self.taken) {
            self.delivered.pop_front();
            self.taken -= size;
            self.untaken -= size;
        }
        if self.delivered.is_empty() {
            self.taken = 0;
        }
    }

    /// Whether nothing more is delivered until the session takes something.
    pub(super) fn is_full(&self) -> bool {
        self.untaken >= self.limit || self.delivered.len() >= MAX_DELIVERED
    }

    /// Whether the session has taken enough for the peer to go on.
    pub(super) fn has_room_again(&self) -> bool {
        self.untaken <= self.limit / 2 && self.delivered.len() <= MAX_DELIVERED / 2
    }

    /// Whether all messages before these were delivered.
    pub(super) fn has_reached(&self, ends: [u16; 2]) -> bool {
        let [control, events] = ends;
        let reached = |assembly: &Assembly, end| wire::expand(end, assembly.next) <= assembly.next;
        reached(&self.control, control) && reached(&self.events, events)
    }

    const fn assembly(&mut self, channel: Channel) -> &mut Assembly {
        match channel {
            Channel::Control => &mut self.control,
            Channel::Events => &mut self.events,
        }
    }
}

impl Assembly {
    const fn new() -> Self {
        Self { next: FIRST_NUMBER, messages: BTreeMap::new() }
    }
}

/// One fragment is passed on as it is, several are copied together.
fn join(mut fragments: Vec<(u8, Bytes)>) -> Bytes {
    if fragments.len() == 1 {
        return fragments.pop().map(|(_, bytes)| bytes).unwrap_or_default();
    }
    fragments.sort_unstable_by_key(|(index, _)| *index);
    let mut whole = Vec::with_capacity(fragments.iter().map(|(_, bytes)| bytes.len()).sum());
    fragments.iter().for_each(|(_, bytes)| whole.extend_from_slice(bytes));
    whole.into()
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
            outgoing.push(Channel::Events, vec![7; *size].into()).unwrap();
        }
        outgoing
    }

    /// Numbers and indices of what the next datagram takes.
    fn next(outgoing: &mut Outgoing, room: usize) -> Vec<(u64, u8)> {
        let (_, fragments) = outgoing.fill(&mut datagram(), room);
        fragments.into_iter().map(|fragment| (fragment.number - FIRST_NUMBER, fragment.index)).collect()
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
        assert_eq!(outgoing.ends(), [FIRST_NUMBER, FIRST_NUMBER + 2]);
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
        let (bytes, fragments) = outgoing.fill(&mut part_full, 10_000);
        assert_eq!((bytes, fragments), (20 + FRAGMENT_COST, vec![fragment(2, 0)]));
        let mut outgoing = self::outgoing(&[900, 20]);
        assert_eq!(next(&mut outgoing, 800), []);
        assert_eq!(next(&mut outgoing, 907), []);
        assert_eq!(next(&mut outgoing, 908), [(0, 0)]);
    }

    #[test]
    fn control_goes_before_events() {
        let mut outgoing = outgoing(&[10]);
        outgoing.push(Channel::Control, vec![1; 10].into()).unwrap();
        let (_, fragments) = outgoing.fill(&mut datagram(), 10_000);
        assert_eq!(fragments.first().map(|fragment| fragment.channel), Some(Channel::Control));
        assert_eq!(fragments.len(), 2);
    }

    #[test]
    fn no_more_messages_are_under_way_than_the_receiver_tells_apart() {
        let mut outgoing = outgoing(&[0; MAX_WAITING]);
        let full = outgoing.push(Channel::Events, Bytes::new());
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

    fn admit(
        incoming: &mut Incoming,
        number: u16,
        index: u8,
        count: u8,
        size: usize,
    ) -> Result<Admission, &'static str> {
        incoming.admit(Channel::Events, number, index, count, vec![index; size].into())
    }

    const IN_ORDER: Result<Admission, &str> = Ok(Admission::Taken { in_order: true });
    const AHEAD: Result<Admission, &str> = Ok(Admission::Taken { in_order: false });

    #[test]
    fn messages_are_delivered_whole_and_in_order() {
        let mut incoming = Incoming::new(100_000);
        assert_eq!(admit(&mut incoming, 1, 0, 1, 3), AHEAD);
        assert_eq!(admit(&mut incoming, 0, 1, 2, 3), IN_ORDER);
        assert_eq!(incoming.deliver(), None);
        assert_eq!(admit(&mut incoming, 0, 1, 2, 3), IN_ORDER, "again");
        assert_eq!(admit(&mut incoming, 0, 0, 2, 3), IN_ORDER);
        assert_eq!(incoming.deliver(), Some((Channel::Events, vec![0, 0, 0, 1, 1, 1].into())));
        assert_eq!(incoming.deliver(), Some((Channel::Events, vec![0, 0, 0].into())));
        assert_eq!(admit(&mut incoming, 1, 0, 1, 3), IN_ORDER, "what was delivered is only acked");
        assert_eq!(incoming.deliver(), None);
        assert_eq!(incoming.buffered, 0);
    }

    #[test]
    fn what_waits_is_bounded_and_the_next_in_order_always_has_room() {
        let mut incoming = Incoming::new(1_000);
        assert_eq!(admit(&mut incoming, 1, 0, 1, 600), AHEAD);
        assert_eq!(admit(&mut incoming, 2, 0, 1, 500), Ok(Admission::Refused));
        assert_eq!(admit(&mut incoming, 2, 0, 1, 400), AHEAD);
        assert_eq!(admit(&mut incoming, 0, 0, 1, 900), IN_ORDER);
        let delivered = core::iter::from_fn(|| incoming.deliver()).count();
        assert_eq!(delivered, 2, "until the session has as much as it may");
        assert_eq!(admit(&mut incoming, 3, 0, 1, 1), Ok(Admission::Refused));
        assert!(incoming.is_full() && !incoming.has_room_again());
        incoming.take(900);
        assert!(!incoming.is_full() && !incoming.has_room_again());
        assert_eq!(core::iter::from_fn(|| incoming.deliver()).count(), 1);
        incoming.take(300);
        incoming.take(300);
        assert!(incoming.has_room_again());
        assert_eq!(incoming.untaken, 400);
    }

    #[test]
    fn messages_without_bytes_are_counted_too() {
        let mut incoming = Incoming::new(1_000);
        for number in 0..MAX_DELIVERED {
            assert_eq!(admit(&mut incoming, number as u16, 0, 1, 0), IN_ORDER);
            assert!(incoming.deliver().is_some());
        }
        assert_eq!(admit(&mut incoming, MAX_DELIVERED as u16, 0, 1, 0), Ok(Admission::Refused));
        incoming.take(0);
        assert!(incoming.has_room_again());
    }

    #[test]
    fn what_no_peer_sends_is_an_error() {
        let mut incoming = Incoming::new(1_000);
        assert_eq!(admit(&mut incoming, 1_023, 0, 1, 1), AHEAD);
        assert!(admit(&mut incoming, 1_024, 0, 1, 1).is_err());
        assert_eq!(admit(&mut incoming, 5, 0, 2, 1), AHEAD);
        assert!(admit(&mut incoming, 5, 1, 3, 1).is_err());
        assert_eq!(admit(&mut incoming, 65_535, 0, 1, 1), IN_ORDER, "one that was delivered long ago");
    }

    #[test]
    fn an_end_is_reached_when_all_before_it_is_delivered() {
        let mut incoming = Incoming::new(1_000);
        assert!(incoming.has_reached([0, 0]));
        assert!(!incoming.has_reached([0, 1]));
        admit(&mut incoming, 0, 0, 1, 5).unwrap();
        assert!(!incoming.has_reached([0, 1]));
        incoming.deliver();
        assert!(incoming.has_reached([0, 1]));
        assert!(!incoming.has_reached([1, 1]));
    }
}
