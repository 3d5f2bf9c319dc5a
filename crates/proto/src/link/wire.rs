//! How a datagram is laid out. The bytes themselves are in `docs/WIRE.md`, section Link.

use core::time::Duration;

use bytes::{Buf, Bytes};

use crate::{Channel, EventChannel, codec::varint};

use super::{MAX_DATAGRAM, MAX_MESSAGE, MAX_UNRELIABLE};

/// The version of this layout: the upper half of the first byte.
const VERSION: u8 = 1 << 4;
/// The sender wants to hear that the datagram came.
const ELICITING: u8 = 1;
/// What has been received follows.
const ACK: u8 = 1 << 1;
/// The receive queue is full: fragments are refused until it is not.
const FULL: u8 = 1 << 2;

const STATE: u8 = 1;
const MESSAGE: u8 = 2;
const FRAGMENT: u8 = 3;
const GOODBYE: u8 = 4;
const UNRELIABLE: u8 = 5;

/// The byte of the first channel that a game has named.
const NAMED: u8 = 16;

/// The first byte, the sequence number, and the acks.
pub(super) const MAX_HEADER: usize = 3 + 8;
/// Kind and length of a part.
const MAX_PART_HEADER: usize = 3;
/// Channel, number, index and count of a fragment.
const FRAGMENT_HEADER: usize = 5;
/// Channel and number of a message.
const MESSAGE_HEADER: usize = 3;
/// The bytes of each fragment of a message but the last.
pub(super) const FRAGMENT_BYTES: usize = MAX_DATAGRAM - MAX_HEADER - MAX_PART_HEADER - FRAGMENT_HEADER;
/// The most fragments of a message.
pub(super) const MAX_FRAGMENTS: usize = MAX_MESSAGE.div_ceil(FRAGMENT_BYTES);
/// What one step of the hold time on the wire is.
const HOLD_UNIT: Duration = Duration::from_micros(8);
/// How many channels there are whose messages are numbered.
const NUMBERED: usize = 3 + EventChannel::MOST as usize;
/// What a goodbye says of one channel.
const END_BYTES: usize = 3;

const _: () = assert!(super::MAX_STATE + MAX_HEADER + MAX_PART_HEADER <= MAX_DATAGRAM);
const _: () = assert!(MAX_UNRELIABLE + MAX_HEADER + MAX_PART_HEADER <= MAX_DATAGRAM);
const _: () = assert!(MAX_FRAGMENTS <= 64, "the fragments of a message are counted in the bits of an u64");

/// What a datagram begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The lower bits of the datagram's sequence number.
    pub(super) sequence: u16,
    /// Whether an ack is wanted.
    pub(super) eliciting: bool,
    /// What the sender has received, if anything.
    pub(super) ack: Option<Ack>,
}

/// What has been received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ack {
    /// The lower bits of the newest sequence number seen.
    pub(super) newest: u16,
    /// Bit n: whether the datagram n before the newest was accepted.
    pub(super) accepted: u32,
    /// How long ago the newest came. None if that is too long to be said (half a second).
    pub(super) hold: Option<Duration>,
    /// Whether fragments are refused for now.
    pub(super) full: bool,
}

/// What a datagram carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    State(Bytes),
    /// A whole message has one fragment.
    Fragment {
        channel: Channel,
        number: u16,
        index: u8,
        count: u8,
        bytes: Bytes,
    },
    /// No more messages come than these.
    Goodbye(Ends),
    /// An event that is not numbered, and sent once.
    Unreliable(Bytes),
}

/// For each channel that was made use of, the lower bits of the number of the first message that does not come any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends([Option<u16>; NUMBERED]);

impl Ends {
    /// Names the end of a channel. False if it has one, or has none ever.
    pub(super) fn set(&mut self, channel: Channel, end: u16) -> bool {
        let place = Channel::reliable().position(|other| other == channel).and_then(|place| self.0.get_mut(place));
        place.is_some_and(|place| place.replace(end).is_none())
    }

    /// In the order of the channels.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Channel, u16)> {
        Channel::reliable().zip(self.0).filter_map(|(channel, end)| Some((channel, end?)))
    }
}

const fn channel_byte(channel: Channel) -> u8 {
    match channel {
        Channel::Control => 0,
        Channel::Events => 1,
        Channel::Unordered => 2,
        // Has parts of its own.
        Channel::Unreliable => 3,
        Channel::Named(named) => NAMED + named.number(),
    }
}

fn channel_of(byte: u8) -> Result<Channel, &'static str> {
    match byte {
        0 => Ok(Channel::Control),
        1 => Ok(Channel::Events),
        2 => Ok(Channel::Unordered),
        _ => {
            let named = byte.checked_sub(NAMED).and_then(EventChannel::new);
            named.map(Channel::Named).ok_or("a message is for no channel")
        }
    }
}

/// A datagram being written.
#[derive(Debug)]
pub(super) struct Datagram {
    bytes: Vec<u8>,
    eliciting: bool,
}

impl Datagram {
    pub(super) fn new(sequence: u16, ack: Option<Ack>) -> Self {
        let mut bytes = Vec::with_capacity(MAX_DATAGRAM);
        bytes.push(VERSION);
        bytes.extend(sequence.to_le_bytes());
        let mut flags = 0;
        if let Some(ack) = ack {
            flags |= ACK;
            if ack.full {
                flags |= FULL;
            }
            bytes.extend(ack.newest.to_le_bytes());
            bytes.extend(ack.accepted.to_le_bytes());
            let units = ack.hold.map_or(u128::MAX, |hold| hold.as_nanos() / HOLD_UNIT.as_nanos());
            bytes.extend(u16::try_from(units).unwrap_or(u16::MAX).to_le_bytes());
        }
        if let Some(first) = bytes.first_mut() {
            *first |= flags;
        }
        Self { bytes, eliciting: false }
    }

    /// Asks for an ack.
    pub(super) fn elicit(&mut self) {
        self.eliciting = true;
    }

    pub(super) const fn is_eliciting(&self) -> bool {
        self.eliciting
    }

    /// The most bytes that a fragment may have to fit. `whole`: the fragment is a whole message.
    pub(super) fn room(&self, whole: bool) -> Option<usize> {
        let header = MAX_PART_HEADER + if whole { MESSAGE_HEADER } else { FRAGMENT_HEADER };
        MAX_DATAGRAM.checked_sub(self.bytes.len() + header)
    }

    /// At most [`super::MAX_STATE`] bytes, before anything else.
    pub(super) fn state(&mut self, state: &[u8]) {
        self.part(STATE, state.len());
        self.bytes.extend_from_slice(state);
    }

    /// At most [`Self::room`] bytes.
    pub(super) fn fragment(&mut self, channel: Channel, number: u16, index: u8, count: u8, bytes: &[u8]) {
        let channel = channel_byte(channel);
        let [low, high] = number.to_le_bytes();
        if count == 1 {
            self.part(MESSAGE, MESSAGE_HEADER + bytes.len());
            self.bytes.extend([channel, low, high]);
        } else {
            self.part(FRAGMENT, FRAGMENT_HEADER + bytes.len());
            self.bytes.extend([channel, low, high, index, count]);
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Says goodbye, if there is room for it.
    pub(super) fn goodbye(&mut self, ends: &Ends) -> bool {
        let length = END_BYTES * ends.iter().count();
        let fits = self.bytes.len() + MAX_PART_HEADER + length <= MAX_DATAGRAM;
        if fits {
            self.part(GOODBYE, length);
            for (channel, end) in ends.iter() {
                let [low, high] = end.to_le_bytes();
                self.bytes.extend([channel_byte(channel), low, high]);
            }
        }
        fits
    }

    /// At most [`Self::unreliable_room`] bytes.
    pub(super) fn unreliable(&mut self, bytes: &[u8]) {
        self.part(UNRELIABLE, bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn unreliable_room(&self) -> Option<usize> {
        MAX_DATAGRAM.checked_sub(self.bytes.len() + MAX_PART_HEADER)
    }

    pub(super) fn finish(mut self) -> Bytes {
        debug_assert!(self.bytes.len() <= MAX_DATAGRAM, "a datagram of {} bytes", self.bytes.len());
        if let Some(first) = self.bytes.first_mut() {
            *first |= if self.eliciting { ELICITING } else { 0 };
        }
        self.bytes.into()
    }

    fn part(&mut self, kind: u8, length: usize) {
        self.eliciting = true;
        self.bytes.push(kind);
        varint::put(&mut self.bytes, length as u64);
    }
}

/// Reads the header, and checks that all of the parts that follow can be read.
pub(super) fn parse(mut bytes: Bytes) -> Result<(Header, Parts), &'static str> {
    if bytes.len() > MAX_DATAGRAM {
        return Err("a datagram is longer than any may be");
    }
    let short = |_| "a datagram ends within its header";
    let flags = bytes.try_get_u8().map_err(short)?;
    if flags & 0xf0 != VERSION {
        return Err("a datagram is not of this version of coplay's link");
    }
    if flags & !(VERSION | ELICITING | ACK | FULL) != 0 || flags & (ACK | FULL) == FULL {
        return Err("a datagram has flags that nobody sets");
    }
    let sequence = bytes.try_get_u16_le().map_err(short)?;
    let ack = if flags & ACK == 0 {
        None
    } else {
        let newest = bytes.try_get_u16_le().map_err(short)?;
        let accepted = bytes.try_get_u32_le().map_err(short)?;
        let units = bytes.try_get_u16_le().map_err(short)?;
        let hold = (units != u16::MAX).then(|| HOLD_UNIT * u32::from(units));
        Some(Ack { newest, accepted, hold, full: flags & FULL != 0 })
    };
    let parts = Parts(bytes);
    if flags & ELICITING == 0 && !parts.0.is_empty() {
        return Err("a datagram that wants no ack carries something");
    }
    parts.clone().try_for_each(|part| part.map(drop))?;
    Ok((Header { sequence, eliciting: flags & ELICITING != 0, ack }, parts))
}

/// The parts of a datagram.
#[derive(Clone, Debug)]
pub(super) struct Parts(Bytes);

impl Iterator for Parts {
    type Item = Result<Part, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let part = self.part();
        if part.is_err() {
            self.0.clear();
        }
        Some(part)
    }
}

impl Parts {
    fn part(&mut self) -> Result<Part, &'static str> {
        let short = |_| "a part ends within its header";
        let kind = self.0.try_get_u8().map_err(short)?;
        let mut rest = self.0.as_ref();
        let length = varint::take(&mut rest).map_err(|_| "a part has no length")?;
        self.0.advance(self.0.len() - rest.len());
        let length = usize::try_from(length).ok().filter(|length| *length <= self.0.len());
        let mut bytes = self.0.split_to(length.ok_or("a part is longer than its datagram")?);
        match kind {
            STATE => Ok(Part::State(bytes)),
            MESSAGE | FRAGMENT => {
                let channel = channel_of(bytes.try_get_u8().map_err(short)?)?;
                let number = bytes.try_get_u16_le().map_err(short)?;
                let (index, count) = if kind == MESSAGE {
                    (0, 1)
                } else {
                    (bytes.try_get_u8().map_err(short)?, bytes.try_get_u8().map_err(short)?)
                };
                check_fragment(kind, index, count, bytes.len())?;
                Ok(Part::Fragment { channel, number, index, count, bytes })
            }
            GOODBYE => {
                let mut ends = Ends::default();
                while !bytes.is_empty() {
                    let channel = channel_of(bytes.try_get_u8().map_err(short)?)?;
                    if !ends.set(channel, bytes.try_get_u16_le().map_err(short)?) {
                        return Err("a goodbye names a channel twice");
                    }
                }
                Ok(Part::Goodbye(ends))
            }
            UNRELIABLE => Ok(Part::Unreliable(bytes)),
            _ => Err("a part is of no kind"),
        }
    }
}

fn check_fragment(kind: u8, index: u8, count: u8, length: usize) -> Result<(), &'static str> {
    let last = index.checked_add(1) == Some(count);
    let before = usize::from(index) * FRAGMENT_BYTES;
    if kind == FRAGMENT && (count < 2 || index >= count || length == 0) {
        Err("a fragment has no place in its message")
    } else if before + length > MAX_MESSAGE || usize::from(count) > MAX_FRAGMENTS {
        Err("a message is larger than any may be")
    } else if kind == FRAGMENT && (length > FRAGMENT_BYTES || !last && length < FRAGMENT_BYTES) {
        Err("a fragment has a size that none has")
    } else {
        Ok(())
    }
}

/// The sequence number, or message number, whose lower bits these are, nearest to `near`.
pub(super) const fn expand(wire: u16, near: u64) -> u64 {
    let ahead = wire.wrapping_sub(near as u16) as i16;
    near.saturating_add_signed(ahead as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ack() -> impl Strategy<Value = Option<Ack>> {
        let hold = proptest::option::of((0_u32..65_535).prop_map(|units| HOLD_UNIT * units));
        let ack = (any::<u16>(), any::<u32>(), hold, any::<bool>());
        proptest::option::of(ack.prop_map(|(newest, accepted, hold, full)| Ack { newest, accepted, hold, full }))
    }

    fn ends() -> impl Strategy<Value = Ends> {
        any::<[Option<u16>; NUMBERED]>().prop_map(Ends)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            sequence in any::<u16>(),
            ack in ack(),
            state in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..400)),
            message in proptest::collection::vec(any::<u8>(), 0..400),
            ends in ends(),
            effect in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let mut datagram = Datagram::new(sequence, ack);
            let mut parts = Vec::new();
            if let Some(state) = state {
                datagram.state(&state);
                parts.push(Part::State(state.into()));
            }
            datagram.fragment(Channel::Events, 7, 0, 1, &message);
            parts.push(Part::Fragment { channel: Channel::Events, number: 7, index: 0, count: 1, bytes: message.into() });
            datagram.fragment(Channel::Control, 9, 2, 3, b"end");
            parts.push(Part::Fragment { channel: Channel::Control, number: 9, index: 2, count: 3, bytes: "end".into() });
            let named = Channel::Named(EventChannel::new(14).unwrap());
            datagram.fragment(named, 3, 0, 1, b"named");
            parts.push(Part::Fragment { channel: named, number: 3, index: 0, count: 1, bytes: "named".into() });
            datagram.unreliable(&effect);
            parts.push(Part::Unreliable(effect.into()));
            prop_assert!(datagram.goodbye(&ends));
            parts.push(Part::Goodbye(ends));
            let (header, read) = parse(datagram.finish()).unwrap();
            prop_assert_eq!(header, Header { sequence, eliciting: true, ack });
            prop_assert_eq!(read.collect::<Result<Vec<_>, _>>().unwrap(), parts);
        }

        #[test]
        fn garbage_is_read_or_refused(first in 0_u8..8, rest in proptest::collection::vec(any::<u8>(), 0..1200)) {
            let mut bytes = vec![VERSION | first];
            bytes.extend(rest);
            if let Ok((_, parts)) = parse(bytes.into()) {
                prop_assert!(parts.into_iter().all(|part| part.is_ok()), "what was checked can be read");
            }
        }

        #[test]
        fn numbers_are_expanded_to_the_nearest(near in 40_000_u64..1 << 48, ahead in -32_768_i64..32_768) {
            let number = near.saturating_add_signed(ahead);
            prop_assert_eq!(expand(number as u16, near), number);
        }
    }

    #[test]
    fn the_largest_fragment_fills_a_datagram() {
        let ack = Ack { newest: 1, accepted: 1, hold: None, full: false };
        let mut datagram = Datagram::new(3, Some(ack));
        assert_eq!(datagram.room(false), Some(FRAGMENT_BYTES));
        datagram.fragment(Channel::Control, 1, 0, 2, &[7; FRAGMENT_BYTES]);
        assert_eq!(datagram.room(false), None);
        assert_eq!(datagram.finish().len(), MAX_DATAGRAM);
    }

    #[test]
    fn the_longest_goodbye_waits_for_a_datagram_with_room() {
        let ack = Ack { newest: 1, accepted: 1, hold: None, full: false };
        let ends = Ends([Some(7); NUMBERED]);
        assert_eq!(ends.iter().count(), Channel::reliable().count(), "each channel has its end");
        let mut datagram = Datagram::new(3, Some(ack));
        datagram.state(&[7; crate::link::MAX_STATE]);
        assert!(!datagram.goodbye(&ends));
        assert_eq!(datagram.finish().len(), MAX_HEADER + MAX_PART_HEADER + crate::link::MAX_STATE);
        let mut datagram = Datagram::new(3, Some(ack));
        assert!(datagram.goodbye(&ends));
    }

    #[test]
    fn the_largest_unreliable_event_fits_with_an_ack() {
        let ack = Ack { newest: 1, accepted: 1, hold: None, full: false };
        let mut datagram = Datagram::new(3, Some(ack));
        assert_eq!(datagram.unreliable_room(), Some(MAX_UNRELIABLE));
        datagram.unreliable(&[7; MAX_UNRELIABLE]);
        assert_eq!(datagram.finish().len(), MAX_DATAGRAM);
    }

    /// What docs/WIRE.md says, byte by byte.
    #[test]
    fn parts_are_laid_out_as_the_book_says() {
        let named = Channel::Named(EventChannel::new(2).unwrap());
        let mut ends = Ends::default();
        assert!(ends.set(Channel::Control, 1) && ends.set(named, 0x0203) && !ends.set(Channel::Unreliable, 1));
        let mut datagram = Datagram::new(0x0102, None);
        datagram.fragment(Channel::Control, 1, 0, 1, b"c");
        datagram.fragment(Channel::Events, 2, 0, 1, b"e");
        datagram.fragment(Channel::Unordered, 3, 0, 1, b"u");
        datagram.fragment(named, 4, 0, 1, b"n");
        datagram.unreliable(b"x");
        datagram.goodbye(&ends);
        let expected: &[&[u8]] = &[
            &[0x11, 0x02, 0x01],
            &[2, 4, 0, 1, 0, b'c'],
            &[2, 4, 1, 2, 0, b'e'],
            &[2, 4, 2, 3, 0, b'u'],
            &[2, 4, 18, 4, 0, b'n'],
            &[5, 1, b'x'],
            &[4, 6, 0, 1, 0, 18, 3, 2],
        ];
        assert_eq!(datagram.finish(), expected.concat());
    }

    #[test]
    fn an_ack_alone_wants_none() {
        let ack = Ack { newest: 1, accepted: 5, hold: Some(HOLD_UNIT), full: true };
        let bytes = Datagram::new(9, Some(ack)).finish();
        assert_eq!(bytes.len(), MAX_HEADER);
        let (header, mut parts) = parse(bytes).unwrap();
        assert_eq!(header, Header { sequence: 9, eliciting: false, ack: Some(ack) });
        assert_eq!(parts.next(), None);
    }

    fn refused(bytes: &[u8]) -> &'static str {
        parse(Bytes::copy_from_slice(bytes)).unwrap_err()
    }

    #[test]
    fn what_no_peer_sends_is_refused() {
        assert_eq!(refused(&[]), "a datagram ends within its header");
        assert_eq!(refused(&[0x20, 0, 0]), "a datagram is not of this version of coplay's link");
        assert_eq!(refused(&[0x18, 0, 0]), "a datagram has flags that nobody sets");
        assert_eq!(refused(&[0x14, 0, 0]), "a datagram has flags that nobody sets");
        assert_eq!(refused(&[0x12, 0, 0, 1]), "a datagram ends within its header");
        assert_eq!(refused(&[0x10, 0, 0, 1]), "a datagram that wants no ack carries something");
        assert_eq!(refused(&[0x11, 0, 0, 1]), "a part has no length");
        assert_eq!(refused(&[0x11, 0, 0, 1, 9, 0]), "a part is longer than its datagram");
        assert_eq!(refused(&[0x11, 0, 0, 77, 0]), "a part is of no kind");
        assert_eq!(refused(&[0x11, 0, 0, MESSAGE, 3, 3, 0, 0]), "a message is for no channel");
        assert_eq!(refused(&[0x11, 0, 0, MESSAGE, 3, 31, 0, 0]), "a message is for no channel");
        assert_eq!(refused(&[0x11, 0, 0, FRAGMENT, 6, 0, 0, 0, 1, 1, 0]), "a fragment has no place in its message");
        assert_eq!(refused(&[0x11, 0, 0, FRAGMENT, 6, 0, 0, 0, 0, 2, 0]), "a fragment has a size that none has");
        assert_eq!(refused(&[0x11, 0, 0, FRAGMENT, 6, 0, 0, 0, 59, 60, 0]), "a message is larger than any may be");
        assert_eq!(refused(&[0x11, 0, 0, GOODBYE, 4, 0, 0, 0, 0]), "a part ends within its header");
        assert_eq!(refused(&[0x11, 0, 0, GOODBYE, 6, 0, 0, 0, 0, 1, 0]), "a goodbye names a channel twice");
        assert_eq!(refused(&[0x11, 0, 0, GOODBYE, 3, 3, 0, 0]), "a message is for no channel");
        assert_eq!(refused(&[0x11; MAX_DATAGRAM + 1]), "a datagram is longer than any may be");
    }

    #[test]
    fn a_message_cannot_be_larger_by_its_last_fragment() {
        let mut datagram = Datagram::new(1, None);
        let last = MAX_FRAGMENTS as u8 - 1;
        let most = MAX_MESSAGE - FRAGMENT_BYTES * usize::from(last);
        datagram.fragment(Channel::Control, 0, last, MAX_FRAGMENTS as u8, &vec![0; most]);
        assert!(parse(datagram.finish()).is_ok());
        let mut datagram = Datagram::new(1, None);
        datagram.fragment(Channel::Control, 0, last, MAX_FRAGMENTS as u8, &vec![0; most + 1]);
        assert_eq!(parse(datagram.finish()).unwrap_err(), "a message is larger than any may be");
    }
}
