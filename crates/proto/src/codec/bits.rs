//! How fields that are no whole bytes are packed: the lowest bit first, no gaps.
//!
//! Bit 0 of the stream is the lowest bit of the first byte. An integer of n bits is written from its lowest bit on, so
//! that what is byte-aligned is plain little endian.

use super::{DecodeError, varint};

/// Packs values into bytes.
#[derive(Clone, Debug, Default)]
pub struct BitWriter {
    /// Whole bytes.
    bytes: Vec<u8>,
    /// The bits after them, fewer than eight.
    pending: u64,
    /// How many they are.
    used: u32,
}

impl BitWriter {
    /// A writer of nothing yet.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), pending: 0, used: 0 }
    }

    /// A writer with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), pending: 0, used: 0 }
    }

    /// Writes the lowest `count` bits of `value`, at most 64; those above are ignored.
    pub fn write_bits(&mut self, value: u64, count: u32) {
        debug_assert!(count <= 64, "an integer has at most 64 bits");
        if count > 32 {
            self.write_up_to_32(value, 32);
            self.write_up_to_32(value >> 32, count.min(64) - 32);
        } else {
            self.write_up_to_32(value, count);
        }
    }

    /// Writes one bit.
    pub fn write_bool(&mut self, value: bool) {
        self.write_up_to_32(u64::from(value), 1);
    }

    /// Writes a whole byte.
    pub fn write_u8(&mut self, value: u8) {
        self.write_up_to_32(u64::from(value), 8);
    }

    /// Writes an integer in as few groups of eight bits as it needs ([`varint`]).
    pub fn write_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.write_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.write_u8(value as u8);
    }

    /// Writes a signed integer, short if its magnitude is small ([`varint::zigzag`]).
    pub fn write_signed(&mut self, value: i64) {
        self.write_varint(varint::zigzag(value));
    }

    /// Writes a float by its 32 bits. All NaNs become one, so that equal values are equal bits.
    pub fn write_f32(&mut self, value: f32) {
        let value = if value.is_nan() { f32::NAN } else { value };
        self.write_bits(u64::from(value.to_bits()), 32);
    }

    /// Writes a float by its 64 bits. All NaNs become one, so that equal values are equal bits.
    pub fn write_f64(&mut self, value: f64) {
        let value = if value.is_nan() { f64::NAN } else { value };
        self.write_bits(value.to_bits(), 64);
    }

    /// Writes how many bytes there are, pads to a whole byte, and writes them.
    pub fn write_bytes(&mut self, bytes: &[u8]) {
        self.write_varint(bytes.len() as u64);
        self.align();
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes a text as [`Self::write_bytes`] does.
    pub fn write_str(&mut self, text: &str) {
        self.write_bytes(text.as_bytes());
    }

    /// Writes the first `count` bits of what another writer packed. Bits that are not there count as zero.
    pub fn append(&mut self, bits: &[u8], count: usize) {
        let (whole, odd) = (count / 8, (count % 8) as u32);
        let mut rest = bits.iter().copied().chain(core::iter::repeat(0));
        if self.used == 0 {
            self.bytes.extend(rest.by_ref().take(whole));
        } else {
            for byte in rest.by_ref().take(whole) {
                self.write_u8(byte);
            }
        }
        if odd > 0 {
            self.write_bits(u64::from(rest.next().unwrap_or(0)), odd);
        }
    }

    /// Pads with zeros to a whole byte.
    pub fn align(&mut self) {
        if self.used > 0 {
            self.bytes.push(self.pending as u8);
            self.pending = 0;
            self.used = 0;
        }
    }

    /// How many bits were written.
    pub const fn bit_len(&self) -> usize {
        self.bytes.len() * 8 + self.used as usize
    }

    /// How many bytes they fill.
    pub const fn byte_len(&self) -> usize {
        self.bit_len().div_ceil(8)
    }

    /// Whether nothing was written.
    pub const fn is_empty(&self) -> bool {
        self.bit_len() == 0
    }

    /// Takes back what was written after the first `bits` bits. Does nothing if there are no more.
    pub fn rewind(&mut self, bits: usize) {
        if bits >= self.bit_len() {
            return;
        }
        let (whole, odd) = (bits / 8, (bits % 8) as u32);
        let cut = self.bytes.get(whole).map_or(self.pending, |byte| u64::from(*byte));
        self.bytes.truncate(whole);
        self.pending = cut & ((1 << odd) - 1);
        self.used = odd;
    }

    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        self.rewind(0);
    }

    /// The bytes, the last one padded with zeros.
    pub fn finish(mut self) -> Vec<u8> {
        self.align();
        self.bytes
    }

    /// The bytes, the last one padded with zeros; the writer can be written on from there, or cleared and used again.
    pub fn aligned(&mut self) -> &[u8] {
        self.align();
        &self.bytes
    }

    fn write_up_to_32(&mut self, value: u64, count: u32) {
        let value = value & ((1 << count) - 1);
        self.pending |= value << self.used;
        self.used += count;
        while self.used >= 8 {
            self.bytes.push(self.pending as u8);
            self.pending >>= 8;
            self.used -= 8;
        }
    }
}

/// Unpacks what a [`BitWriter`] packed. A failed read leaves the reader at no particular place.
#[derive(Clone, Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next bit.
    position: usize,
    /// The bit after the last.
    end: usize,
}

impl<'a> BitReader<'a> {
    /// A reader of all these bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, end: bytes.len() * 8 }
    }

    /// Reads an integer of `count` bits, at most 64.
    pub fn read_bits(&mut self, count: u32) -> Result<u64, DecodeError> {
        debug_assert!(count <= 64, "an integer has at most 64 bits");
        if count > 32 {
            let low = self.read_up_to_32(32)?;
            let high = self.read_up_to_32(count.min(64) - 32)?;
            Ok(low | high << 32)
        } else {
            self.read_up_to_32(count)
        }
    }

    /// Reads one bit.
    pub fn read_bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.read_up_to_32(1)? != 0)
    }

    /// Reads a whole byte.
    pub fn read_u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.read_up_to_32(8)? as u8)
    }

    /// Reads what [`BitWriter::write_varint`] wrote.
    pub fn read_varint(&mut self) -> Result<u64, DecodeError> {
        varint::read(|| self.read_u8())
    }

    /// Reads what [`BitWriter::write_signed`] wrote.
    pub fn read_signed(&mut self) -> Result<i64, DecodeError> {
        Ok(varint::unzigzag(self.read_varint()?))
    }

    /// Reads what [`BitWriter::write_f32`] wrote. Any NaN is read as the same one.
    pub fn read_f32(&mut self) -> Result<f32, DecodeError> {
        let value = f32::from_bits(self.read_bits(32)? as u32);
        Ok(if value.is_nan() { f32::NAN } else { value })
    }

    /// Reads what [`BitWriter::write_f64`] wrote. Any NaN is read as the same one.
    pub fn read_f64(&mut self) -> Result<f64, DecodeError> {
        let value = f64::from_bits(self.read_bits(64)?);
        Ok(if value.is_nan() { f64::NAN } else { value })
    }

    /// Reads what [`BitWriter::write_bytes`] wrote, without a copy.
    pub fn read_bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(self.read_varint()?).map_err(|_| DecodeError::Truncated)?;
        self.align()?;
        if length > self.remaining() / 8 {
            return Err(DecodeError::Truncated);
        }
        let start = self.position / 8;
        let bytes = self.bytes.get(start..start + length).ok_or(DecodeError::Truncated)?;
        self.position += length * 8;
        Ok(bytes)
    }

    /// Reads what [`BitWriter::write_str`] wrote, without a copy.
    pub fn read_str(&mut self) -> Result<&'a str, DecodeError> {
        core::str::from_utf8(self.read_bytes()?).map_err(|_| DecodeError::Utf8)
    }

    /// Cuts off the next `bits` bits as a reader of their own: to read a record, or to skip it.
    pub fn take(&mut self, bits: usize) -> Result<Self, DecodeError> {
        if bits > self.remaining() {
            return Err(DecodeError::Truncated);
        }
        let part = Self { bytes: self.bytes, position: self.position, end: self.position + bits };
        self.position = part.end;
        Ok(part)
    }

    /// Goes to the next whole byte. What is skipped must be zero.
    pub fn align(&mut self) -> Result<(), DecodeError> {
        let padding = (self.position.wrapping_neg() % 8).min(self.remaining()) as u32;
        if self.read_up_to_32(padding)? == 0 { Ok(()) } else { Err(DecodeError::Padding) }
    }

    /// How many bits are left.
    pub const fn remaining(&self) -> usize {
        self.end - self.position
    }

    /// Checks that nothing is left but the zeros that fill the last byte.
    pub fn finish(mut self) -> Result<(), DecodeError> {
        self.align()?;
        if self.remaining() == 0 { Ok(()) } else { Err(DecodeError::Trailing) }
    }

    fn read_up_to_32(&mut self, count: u32) -> Result<u64, DecodeError> {
        if count as usize > self.remaining() {
            return Err(DecodeError::Truncated);
        }
        let shift = self.position % 8;
        let rest = self.bytes.get(self.position / 8..).unwrap_or_default();
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(rest) {
            *to = *from;
        }
        self.position += count as usize;
        Ok(u64::from_le_bytes(word) >> shift & ((1 << count) - 1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Word {
        Bits(u64, u32),
        Bool(bool),
        Varint(u64),
        Signed(i64),
        Bytes(Vec<u8>),
        Align,
    }

    fn word() -> impl Strategy<Value = Word> {
        prop_oneof![
            (any::<u64>(), 0_u32..=64).prop_map(|(value, count)| Word::Bits(value, count)),
            any::<bool>().prop_map(Word::Bool),
            (any::<u64>(), 0_u32..64).prop_map(|(value, shift)| Word::Varint(value >> shift)),
            (any::<i64>(), 0_u32..64).prop_map(|(value, shift)| Word::Signed(value >> shift)),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Word::Bytes),
            Just(Word::Align),
        ]
    }

    fn write(writer: &mut BitWriter, words: &[Word]) {
        for word in words {
            match word {
                Word::Bits(value, count) => writer.write_bits(*value, *count),
                Word::Bool(value) => writer.write_bool(*value),
                Word::Varint(value) => writer.write_varint(*value),
                Word::Signed(value) => writer.write_signed(*value),
                Word::Bytes(value) => writer.write_bytes(value),
                Word::Align => writer.align(),
            }
        }
    }

    fn check(reader: &mut BitReader<'_>, words: &[Word]) -> Result<(), DecodeError> {
        for word in words {
            match word {
                Word::Bits(value, count) => {
                    let mask = if *count == 64 { u64::MAX } else { (1 << count) - 1 };
                    assert_eq!(reader.read_bits(*count)?, value & mask);
                }
                Word::Bool(value) => assert_eq!(reader.read_bool()?, *value),
                Word::Varint(value) => assert_eq!(reader.read_varint()?, *value),
                Word::Signed(value) => assert_eq!(reader.read_signed()?, *value),
                Word::Bytes(value) => assert_eq!(reader.read_bytes()?, value),
                Word::Align => reader.align()?,
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(words in proptest::collection::vec(word(), 0..40)) {
            let mut writer = BitWriter::new();
            write(&mut writer, &words);
            let length = writer.byte_len();
            let bytes = writer.finish();
            prop_assert_eq!(bytes.len(), length);
            let mut reader = BitReader::new(&bytes);
            prop_assert_eq!(check(&mut reader, &words), Ok(()));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn what_is_cut_off_is_missed(words in proptest::collection::vec(word(), 1..20), cut in any::<prop::sample::Index>()) {
            let mut writer = BitWriter::new();
            write(&mut writer, &words);
            writer.write_bits(0x5a, 8);
            let bytes = writer.finish();
            let mut words = words;
            words.push(Word::Bits(0x5a, 8));
            let cut = bytes.get(..cut.index(bytes.len())).unwrap();
            prop_assert_eq!(check(&mut BitReader::new(cut), &words), Err(DecodeError::Truncated));
        }

        #[test]
        fn garbage_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64), words in proptest::collection::vec(word(), 0..40)) {
            let mut reader = BitReader::new(&bytes);
            for word in words {
                let before = reader.remaining();
                let _ = match word {
                    Word::Bits(_, count) => reader.read_bits(count).map(drop),
                    Word::Bool(_) => reader.read_bool().map(drop),
                    Word::Varint(_) => reader.read_varint().map(drop),
                    Word::Signed(_) => reader.read_signed().map(drop),
                    Word::Bytes(_) => reader.read_bytes().map(drop),
                    Word::Align => reader.align(),
                };
                prop_assert!(reader.remaining() <= before);
            }
        }

        #[test]
        fn appended_bits_are_those_bits(before in proptest::collection::vec(word(), 0..8), words in proptest::collection::vec(word(), 0..8)) {
            // Alignment is relative to the whole, so only words that do not align can be moved.
            let words: Vec<Word> = words.into_iter().filter(|word| !matches!(word, Word::Bytes(_) | Word::Align)).collect();
            let mut part = BitWriter::new();
            write(&mut part, &words);
            let count = part.bit_len();
            let part = part.finish();
            let (mut appended, mut direct) = (BitWriter::new(), BitWriter::new());
            write(&mut appended, &before);
            appended.append(&part, count);
            write(&mut direct, &before);
            write(&mut direct, &words);
            prop_assert_eq!(appended.bit_len(), direct.bit_len());
            prop_assert_eq!(appended.finish(), direct.finish());
        }

        #[test]
        fn rewound_is_as_if_never_written(before in proptest::collection::vec(word(), 0..8), after in proptest::collection::vec(word(), 0..8)) {
            let mut writer = BitWriter::new();
            write(&mut writer, &before);
            let mark = writer.bit_len();
            let plain = writer.clone();
            write(&mut writer, &after);
            writer.rewind(mark);
            prop_assert_eq!(writer.bit_len(), mark);
            writer.write_bits(5, 3);
            let mut plain = plain;
            plain.write_bits(5, 3);
            prop_assert_eq!(writer.finish(), plain.finish());
        }
    }

    #[test]
    fn the_lowest_bit_comes_first() {
        let mut writer = BitWriter::new();
        writer.write_bool(true);
        writer.write_bits(0b10, 2);
        writer.write_bits(0x1234, 16);
        assert_eq!(writer.bit_len(), 19);
        assert_eq!(writer.finish(), [0b1010_0101, 0b1001_0001, 0b0000_0000]);
    }

    #[test]
    fn a_part_ends_where_it_ends() {
        let mut writer = BitWriter::new();
        writer.write_bits(0b11_0101, 6);
        writer.write_bits(0x2a, 6);
        let bytes = writer.finish();
        let mut reader = BitReader::new(&bytes);
        let mut part = reader.take(6).unwrap();
        assert_eq!(part.read_bits(6), Ok(0b11_0101));
        assert_eq!(part.read_bool(), Err(DecodeError::Truncated));
        assert_eq!(reader.read_bits(6), Ok(0x2a));
        assert!(reader.take(64).is_err());
    }

    #[test]
    fn ends_are_checked() {
        assert_eq!(BitReader::new(&[0]).finish(), Err(DecodeError::Trailing));
        let mut reader = BitReader::new(&[0b0100_0001]);
        assert_eq!(reader.read_bool(), Ok(true));
        assert_eq!(reader.finish(), Err(DecodeError::Padding));
    }

    #[test]
    fn floats_come_back_and_nans_are_one() {
        let mut writer = BitWriter::new();
        writer.write_bool(true);
        for value in [0.0, -0.0, 1.5e-40, f32::MAX, f32::INFINITY, f32::from_bits(0xffc0_0001)] {
            writer.write_f32(value);
        }
        writer.write_f64(-1.0e300);
        writer.write_f64(f64::from_bits(u64::MAX));
        let bytes = writer.finish();
        let mut reader = BitReader::new(&bytes);
        reader.read_bool().unwrap();
        for value in [0.0, -0.0, 1.5e-40, f32::MAX, f32::INFINITY, f32::NAN] {
            assert_eq!(reader.read_f32().map(f32::to_bits), Ok(value.to_bits()));
        }
        assert_eq!(reader.read_f64(), Ok(-1.0e300));
        assert_eq!(reader.read_f64().map(f64::to_bits), Ok(f64::NAN.to_bits()));
    }

    #[test]
    fn a_length_beyond_the_bytes_allocates_nothing() {
        let mut writer = BitWriter::new();
        writer.write_varint(u64::MAX);
        let bytes = writer.finish();
        assert_eq!(BitReader::new(&bytes).read_bytes(), Err(DecodeError::Truncated));
    }
}
