//! What becomes of a valid text that is cut, flipped and spliced? Most of it is still there, which finds what plain
//! garbage never reaches.

/// One way to spoil a text. Places are shares of its length, in 65,536ths.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// Ends here.
    End(u16),
    /// Lacks up to so many bytes from here on.
    Cut(u16, u8),
    /// Has another bit here.
    Flip(u16, u8),
    /// Has up to so many bytes of the donor here: from there on.
    Splice(u16, u16, u8),
    /// Lacks this line.
    DropLine(u16),
    /// Has this line so many times more.
    RepeatLine(u16, u8),
    /// Has another number in place of the first from here on.
    Number(u16, u8),
}

/// Numbers that are one too many for something.
const NUMBERS: [&str; 8] = ["", "-1", "0", "65536", "4294967296", "18446744073709551616", "1e999", "0x10"];

/// The most bytes that a text grows to by repetition: more than anybody takes.
const LARGEST: usize = 128 * 1024;

impl Change {
    /// Of each kind one, by the number of the kind.
    pub(crate) fn new(kind: u8, at: u16, from: u16, size: u8) -> Self {
        match kind % 7 {
            0 => Self::End(at),
            1 => Self::Cut(at, size),
            2 => Self::Flip(at, size),
            3 => Self::Splice(at, from, size),
            4 => Self::DropLine(at),
            5 => Self::RepeatLine(at, size),
            _ => Self::Number(at, size),
        }
    }

    fn apply(self, text: &mut Vec<u8>, donor: &[u8]) {
        match self {
            Self::End(at) => text.truncate(place(at, text.len())),
            Self::Cut(at, size) => {
                let start = place(at, text.len());
                let end = text.len().min(start + usize::from(size));
                text.drain(start..end);
            }
            Self::Flip(at, bit) => {
                let at = place(at, text.len());
                if let Some(byte) = text.get_mut(at) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Self::Splice(at, from, size) => {
                let (at, start) = (place(at, text.len()), place(from, donor.len()));
                let end = donor.len().min(start + usize::from(size));
                text.splice(at..at, donor[start..end].iter().copied());
            }
            Self::DropLine(at) => {
                let (start, end) = line(at, text);
                text.drain(start..end);
            }
            Self::RepeatLine(at, times) => {
                let (start, end) = line(at, text);
                let room = LARGEST.saturating_sub(text.len()) / (end - start).max(1);
                let more = text[start..end].repeat(room.min(usize::from(times)));
                text.splice(end..end, more);
            }
            Self::Number(at, which) => {
                let from = place(at, text.len());
                let Some(start) = text[from..].iter().position(u8::is_ascii_digit).map(|start| from + start) else {
                    return;
                };
                let length = text[start..].iter().position(|byte| !byte.is_ascii_digit());
                let end = length.map_or(text.len(), |length| start + length);
                text.splice(start..end, NUMBERS[usize::from(which) % NUMBERS.len()].bytes());
            }
        }
    }
}

/// The text after these changes; what is no UTF-8 any more is as a careless reader has it.
pub(crate) fn changed(text: &str, donor: &str, changes: &[Change]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for change in changes {
        change.apply(&mut bytes, donor.as_bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn place(share: u16, length: usize) -> usize {
    length * usize::from(share) / (usize::from(u16::MAX) + 1)
}

/// Where the line begins and ends that this place is in.
fn line(at: u16, text: &[u8]) -> (usize, usize) {
    let at = place(at, text.len());
    let start = text[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let end = text[at..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |end| at + end + 1);
    (start, end)
}
