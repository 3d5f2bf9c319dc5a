//! How a session's frame is laid out: acks, tick, records. Both directions; `docs/WIRE.md` has the table.

use bytes::Bytes;

use crate::{
    MemberId, NetId, Tick,
    codec::{BitReader, BitWriter, DecodeError},
    link::MAX_STATE,
};

/// The most values of one input in one record.
pub(super) const MAX_REDUNDANCY: usize = 3;
/// The most ack blocks of one frame.
pub(super) const MAX_BLOCKS: usize = 4;
/// How many sequences one ack block covers: its own, and those just before it.
pub(super) const BLOCK: u32 = 33;

const STATE: u64 = 0;
const END: u64 = 1;
const INPUT: u64 = 2;

/// Which frames came: `newest`, and for each bit i of `bits` also `newest - 1 - i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AckBlock {
    pub(super) newest: u16,
    pub(super) bits: u32,
}

/// What comes before the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The sender's count of frames on this link, its lowest 16 bits.
    pub(super) seq: u16,
    /// Of which session and which two members ([`super::membership::SessionId::pair_tag`]).
    pub(super) tag: u16,
    /// The sender's tick.
    pub(super) tick: Tick,
    /// From the leader: the 256ths of a tick that have gone by since, to set clocks by.
    pub(super) fraction: Option<u8>,
    /// Whether the frame is to be acked.
    pub(super) eliciting: bool,
    pub(super) acks: Vec<AckBlock>,
}

/// What goes with an entity until it is acked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) owner: MemberId,
    pub(super) controller: Option<MemberId>,
    /// Of how many components there is to hear. To the owner itself, when it is given the entity: before it is in charge.
    /// From the host, when the owner has changed: before what else a guest has is void.
    pub(super) handoff: Option<u32>,
}

/// One component of a state record. No value: it was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PartRecord {
    /// The type's index in the sender's schema.
    pub(super) component: u16,
    pub(super) value: Option<Bytes>,
    pub(super) tick: Tick,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    State { entity: NetId, epoch: u32, meta: Option<Meta>, parts: Vec<PartRecord> },
    End { entity: NetId, epoch: u32 },
    Input { entity: NetId, input: u16, values: Vec<(Tick, Bytes)> },
}

/// Writes a frame.
#[derive(Debug)]
pub(super) struct FrameWriter {
    bits: BitWriter,
    scratch: BitWriter,
    tick: Tick,
    creator: Option<MemberId>,
    records: usize,
}

impl FrameWriter {
    pub(super) fn new(header: &Header) -> Self {
        let mut bits = BitWriter::with_capacity(MAX_STATE);
        bits.write_bits(u64::from(header.seq), 16);
        bits.write_bits(u64::from(header.tag), 16);
        bits.write_bits(u64::from(header.tick.0), 32);
        bits.write_bool(header.eliciting);
        bits.write_bool(header.fraction.is_some());
        if let Some(fraction) = header.fraction {
            bits.write_u8(fraction);
        }
        for block in header.acks.iter().take(MAX_BLOCKS) {
            bits.write_bool(true);
            bits.write_bits(u64::from(block.newest), 16);
            bits.write_bits(u64::from(block.bits), 32);
        }
        bits.write_bool(false);
        bits.align();
        Self { bits, scratch: BitWriter::new(), tick: header.tick, creator: None, records: 0 }
    }

    /// Whether no record was written yet.
    pub(super) const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Writes as many of these components as fit; says how many. None, and nothing is written, if not even one fits
    /// (or the bare record, where there are none), or if not all do and `whole` is asked for.
    pub(super) fn state<'a>(
        &mut self,
        entity: NetId,
        epoch: u32,
        meta: Option<Meta>,
        parts: impl Iterator<Item = (u16, Option<&'a Bytes>, Tick)>,
        whole: bool,
    ) -> Option<usize> {
        self.begin(STATE, entity);
        let scratch = &mut self.scratch;
        scratch.write_bool(epoch > 0);
        if epoch > 0 {
            scratch.write_varint(u64::from(epoch));
        }
        scratch.write_bool(meta.is_some());
        if let Some(Meta { owner, controller, handoff }) = meta {
            scratch.write_bool(owner != entity.creator);
            if owner != entity.creator {
                write_member(scratch, owner);
            }
            scratch.write_bool(controller.is_some());
            if let Some(controller) = controller {
                scratch.write_bool(controller != owner);
                if controller != owner {
                    write_member(scratch, controller);
                }
            }
            scratch.write_bool(handoff.is_some());
            if let Some(count) = handoff {
                scratch.write_varint(u64::from(count));
            }
        }
        let room = MAX_STATE.saturating_sub(self.bits.byte_len());
        let (mut written, mut all) = (0, true);
        for (component, value, tick) in parts {
            let before = self.scratch.bit_len();
            let scratch = &mut self.scratch;
            scratch.write_bool(true);
            scratch.write_varint(u64::from(component));
            // Room for a baseline that the value is a difference to; a value is whole now.
            scratch.write_bool(false);
            scratch.write_bool(value.is_some());
            write_age(scratch, self.tick, tick);
            if let Some(value) = value {
                scratch.write_bytes(value);
            }
            // One bit ends the list; two bytes say how long the record is.
            if (self.scratch.bit_len() + 1).div_ceil(8) + 2 > room {
                self.scratch.rewind(before);
                all = false;
                break;
            }
            written += 1;
        }
        self.scratch.write_bool(false);
        let enough = all || (written > 0 && !whole);
        (enough && self.commit(entity)).then_some(written)
    }

    /// Writes that an entity is gone. False if it does not fit.
    pub(super) fn end(&mut self, entity: NetId, epoch: u32) -> bool {
        self.begin(END, entity);
        self.scratch.write_varint(u64::from(epoch));
        self.commit(entity)
    }

    /// Writes the last values of an input. False if they do not fit.
    pub(super) fn input<'a>(
        &mut self,
        entity: NetId,
        input: u16,
        values: impl ExactSizeIterator<Item = (Tick, &'a Bytes)>,
    ) -> bool {
        self.begin(INPUT, entity);
        self.scratch.write_varint(u64::from(input));
        self.scratch.write_bits(values.len().min(MAX_REDUNDANCY) as u64, 2);
        for (tick, value) in values.take(MAX_REDUNDANCY) {
            write_age(&mut self.scratch, self.tick, tick);
            self.scratch.write_bytes(value);
        }
        self.commit(entity)
    }

    pub(super) fn finish(self) -> Bytes {
        self.bits.finish().into()
    }

    fn begin(&mut self, kind: u64, entity: NetId) {
        self.scratch.clear();
        self.scratch.write_bits(kind, 2);
        let same = self.creator == Some(entity.creator);
        self.scratch.write_bool(same);
        if !same {
            write_member(&mut self.scratch, entity.creator);
        }
        self.scratch.write_varint(u64::from(entity.counter));
    }

    fn commit(&mut self, entity: NetId) -> bool {
        let record = self.scratch.aligned();
        if self.bits.byte_len() + 2 + record.len() > MAX_STATE {
            return false;
        }
        self.bits.write_bytes(record);
        self.creator = Some(entity.creator);
        self.records += 1;
        true
    }
}

/// Reads a frame. The error says what was wrong with it.
pub(super) fn read(frame: &[u8]) -> Result<(Header, Vec<Record>), &'static str> {
    if frame.len() > MAX_STATE {
        return Err("a frame that is too long");
    }
    let mut bits = BitReader::new(frame);
    let header = read_header(&mut bits).map_err(|_| "a frame whose header cannot be read")?;
    let mut records = Vec::new();
    let mut creator = None;
    while bits.remaining() > 0 {
        let record = bits.read_bytes().map_err(|_| "a record that is longer than its frame")?;
        let record = read_record(record, header.tick, &mut creator).map_err(|_| "a record that cannot be read")?;
        records.extend(record);
    }
    Ok((header, records))
}

fn read_header(bits: &mut BitReader<'_>) -> Result<Header, DecodeError> {
    let seq = bits.read_bits(16)? as u16;
    let tag = bits.read_bits(16)? as u16;
    let tick = Tick(bits.read_bits(32)? as u32);
    let eliciting = bits.read_bool()?;
    let fraction = if bits.read_bool()? { Some(bits.read_u8()?) } else { None };
    let mut acks = Vec::new();
    while bits.read_bool()? {
        if acks.len() == MAX_BLOCKS {
            return Err(DecodeError::TooLarge(MAX_BLOCKS));
        }
        acks.push(AckBlock { newest: bits.read_bits(16)? as u16, bits: bits.read_bits(32)? as u32 });
    }
    bits.align()?;
    Ok(Header { seq, tag, tick, fraction, eliciting, acks })
}

/// None if the record is of a kind that this version does not know.
fn read_record(record: &[u8], frame: Tick, creator: &mut Option<MemberId>) -> Result<Option<Record>, DecodeError> {
    let mut bits = BitReader::new(record);
    let kind = bits.read_bits(2)?;
    if kind > INPUT {
        return Ok(None);
    }
    let same = bits.read_bool()?;
    let by = if same { creator.ok_or(DecodeError::Truncated)? } else { read_member(&mut bits)? };
    *creator = Some(by);
    let entity = NetId { creator: by, counter: read_u32(&mut bits)? };
    let record = match kind {
        STATE => read_state(&mut bits, frame, entity)?,
        END => Record::End { entity, epoch: read_u32(&mut bits)? },
        _ => {
            let input = read_u16(&mut bits)?;
            let count = bits.read_bits(2)?;
            let mut values = Vec::new();
            for _ in 0..count {
                let tick = read_age(&mut bits, frame)?;
                values.push((tick, Bytes::copy_from_slice(bits.read_bytes()?)));
            }
            Record::Input { entity, input, values }
        }
    };
    bits.finish()?;
    Ok(Some(record))
}

fn read_state(bits: &mut BitReader<'_>, frame: Tick, entity: NetId) -> Result<Record, DecodeError> {
    let epoch = if bits.read_bool()? { read_u32(bits)? } else { 0 };
    let meta = if bits.read_bool()? {
        let owner = if bits.read_bool()? { read_member(bits)? } else { entity.creator };
        let controller = match bits.read_bool()? {
            true if bits.read_bool()? => Some(read_member(bits)?),
            true => Some(owner),
            false => None,
        };
        let handoff = if bits.read_bool()? { Some(read_u32(bits)?) } else { None };
        Some(Meta { owner, controller, handoff })
    } else {
        None
    };
    let mut parts = Vec::new();
    while bits.read_bool()? {
        let component = read_u16(bits)?;
        let baseline = bits.read_bool()?;
        if baseline {
            return Err(DecodeError::Opaque("baseline"));
        }
        let present = bits.read_bool()?;
        let tick = read_age(bits, frame)?;
        // Copied, so that what is kept of a value is not the whole frame.
        let value = if present { Some(Bytes::copy_from_slice(bits.read_bytes()?)) } else { None };
        parts.push(PartRecord { component, value, tick });
    }
    Ok(Record::State { entity, epoch, meta, parts })
}

pub(super) fn write_member(bits: &mut BitWriter, member: MemberId) {
    bits.write_varint(u64::from(member.slot));
    bits.write_varint(u64::from(member.incarnation));
}

pub(super) fn read_member(bits: &mut BitReader<'_>) -> Result<MemberId, DecodeError> {
    Ok(MemberId { slot: read_u16(bits)?, incarnation: read_u16(bits)? })
}

/// Ticks go as their distance to the frame's: one bit where there is none.
pub(super) fn write_age(bits: &mut BitWriter, frame: Tick, tick: Tick) {
    let age = frame.since(tick);
    bits.write_bool(age != 0);
    if age != 0 {
        bits.write_signed(i64::from(age));
    }
}

pub(super) fn read_age(bits: &mut BitReader<'_>, frame: Tick) -> Result<Tick, DecodeError> {
    let age = if bits.read_bool()? { bits.read_signed()? } else { 0 };
    let age = i32::try_from(age).map_err(|_| DecodeError::Varint)?;
    Ok(Tick(frame.0.wrapping_sub(age.cast_unsigned())))
}

pub(super) fn read_u32(bits: &mut BitReader<'_>) -> Result<u32, DecodeError> {
    u32::try_from(bits.read_varint()?).map_err(|_| DecodeError::Varint)
}

pub(super) fn read_u16(bits: &mut BitReader<'_>) -> Result<u16, DecodeError> {
    u16::try_from(bits.read_varint()?).map_err(|_| DecodeError::Varint)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::{MAX_INPUT, MAX_VALUE};

    fn member() -> impl Strategy<Value = MemberId> {
        (any::<u16>(), any::<u16>()).prop_map(|(slot, incarnation)| MemberId { slot, incarnation })
    }

    fn net() -> impl Strategy<Value = NetId> {
        (member(), any::<u32>()).prop_map(|(creator, counter)| NetId { creator, counter })
    }

    fn value() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
    }

    fn record() -> impl Strategy<Value = Record> {
        let tick = || any::<u32>().prop_map(Tick);
        let meta = (member(), proptest::option::of(member()), proptest::option::of(any::<u32>()))
            .prop_map(|(owner, controller, handoff)| Meta { owner, controller, handoff });
        let part = (any::<u16>(), proptest::option::of(value()), tick())
            .prop_map(|(component, value, tick)| PartRecord { component, value, tick });
        prop_oneof![
            (net(), any::<u32>(), proptest::option::of(meta), proptest::collection::vec(part, 0..4))
                .prop_map(|(entity, epoch, meta, parts)| Record::State { entity, epoch, meta, parts }),
            (net(), any::<u32>()).prop_map(|(entity, epoch)| Record::End { entity, epoch }),
            (net(), any::<u16>(), proptest::collection::vec((tick(), value()), 1..=MAX_REDUNDANCY))
                .prop_map(|(entity, input, values)| Record::Input { entity, input, values }),
        ]
    }

    fn header() -> impl Strategy<Value = Header> {
        let block = (any::<u16>(), any::<u32>()).prop_map(|(newest, bits)| AckBlock { newest, bits });
        let acks = proptest::collection::vec(block, 0..=MAX_BLOCKS);
        (any::<u16>(), any::<u16>(), any::<u32>(), proptest::option::of(any::<u8>()), any::<bool>(), acks).prop_map(
            |(seq, tag, tick, fraction, eliciting, acks)| Header {
                seq,
                tag,
                tick: Tick(tick),
                fraction,
                eliciting,
                acks,
            },
        )
    }

    fn write(writer: &mut FrameWriter, record: &Record) -> bool {
        match record {
            Record::State { entity, epoch, meta, parts } => {
                let parts = parts.iter().map(|part| (part.component, part.value.as_ref(), part.tick));
                writer.state(*entity, *epoch, *meta, parts, true).is_some()
            }
            Record::End { entity, epoch } => writer.end(*entity, *epoch),
            Record::Input { entity, input, values } => {
                writer.input(*entity, *input, values.iter().map(|(tick, value)| (*tick, value)))
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(header in header(), records in proptest::collection::vec(record(), 0..6)) {
            let mut writer = FrameWriter::new(&header);
            for record in &records {
                prop_assert!(write(&mut writer, record));
            }
            let frame = writer.finish();
            prop_assert!(frame.len() <= MAX_STATE);
            prop_assert_eq!(read(&frame), Ok((header, records)));
        }

        #[test]
        fn a_frame_never_grows_too_long(header in header(), records in proptest::collection::vec(record(), 60)) {
            let mut writer = FrameWriter::new(&header);
            let written: Vec<Record> = records.into_iter().filter(|record| write(&mut writer, record)).collect();
            let frame = writer.finish();
            prop_assert!(frame.len() <= MAX_STATE);
            prop_assert_eq!(read(&frame), Ok((header, written)));
        }

        #[test]
        fn garbage_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn frames_cut_off_are_read_or_refused(
            header in header(),
            records in proptest::collection::vec(record(), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut writer = FrameWriter::new(&header);
            let written = records.iter().filter(|record| write(&mut writer, record)).count();
            let frame = writer.finish();
            let cut = frame.slice(..cut.index(frame.len()));
            if let Ok((_, records)) = read(&cut) {
                prop_assert!(records.len() < written);
            }
        }
    }

    const FAR: MemberId = MemberId { slot: u16::MAX, incarnation: u16::MAX };
    const WIDE: Header =
        Header { seq: u16::MAX, tag: u16::MAX, tick: Tick(0), fraction: Some(255), eliciting: true, acks: Vec::new() };

    #[test]
    fn the_largest_value_fits_a_frame() {
        let acks = vec![AckBlock { newest: 0, bits: 0 }; MAX_BLOCKS];
        let mut writer = FrameWriter::new(&Header { acks, ..WIDE });
        let near = MemberId { slot: u16::MAX - 1, incarnation: u16::MAX };
        let meta = Meta { owner: near, controller: Some(FAR), handoff: Some(u32::MAX) };
        let value = Bytes::from(vec![1; MAX_VALUE]);
        let part = [(u16::MAX, Some(&value), Tick(1 << 31))];
        let entity = NetId { creator: FAR, counter: u32::MAX };
        assert_eq!(writer.state(entity, u32::MAX, Some(meta), part.into_iter(), true), Some(1));
    }

    #[test]
    fn the_largest_inputs_fit_a_frame() {
        let mut writer = FrameWriter::new(&WIDE);
        let value = Bytes::from(vec![1; MAX_INPUT]);
        let values = [(Tick(1 << 31), &value), (Tick(2), &value), (Tick(3), &value)];
        assert!(writer.input(NetId { creator: FAR, counter: u32::MAX }, u16::MAX, values.into_iter()));
    }

    #[test]
    fn what_does_not_fit_at_once_goes_in_pieces() {
        let value = Bytes::from(vec![1; 400]);
        let parts = || [1, 2, 3].map(|component| (component, Some(&value), Tick(0))).into_iter();
        let entity = NetId { creator: FAR, counter: 0 };
        let mut writer = FrameWriter::new(&WIDE);
        assert_eq!(writer.state(entity, 0, None, parts(), true), None);
        assert!(writer.is_empty());
        assert_eq!(writer.state(entity, 0, None, parts(), false), Some(2));
        assert_eq!(writer.state(entity, 0, None, parts(), false), None, "not one of them fits now");
        let (_, records) = read(&writer.finish()).expect("a frame of ours");
        assert!(matches!(records.as_slice(), [Record::State { parts, .. }] if parts.len() == 2));
    }

    #[test]
    fn records_of_kinds_to_come_are_skipped() {
        let mut bits = BitWriter::new();
        bits.write_bits(0, 64);
        bits.write_bits(0, 3);
        bits.align();
        bits.write_bytes(&[0xff, 1, 2, 3]);
        let mut frame = bits.finish();
        let entity = NetId { creator: FAR, counter: 9 };
        let mut writer = FrameWriter::new(&Header { fraction: None, ..WIDE });
        let start = writer.bits.byte_len();
        assert!(writer.end(entity, 2));
        frame.extend(writer.finish().get(start..).expect("records follow"));
        let (_, records) = read(&frame).expect("the rest is understood");
        assert_eq!(records, [Record::End { entity, epoch: 2 }]);
    }
}
