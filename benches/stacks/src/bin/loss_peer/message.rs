//! What do the two games send each other? Messages of 64 bytes.

use bytes::Bytes;

use crate::game::{Order, Way};

/// Of every message.
pub(crate) const SIZE: usize = 64;

const DATA: u8 = 0;
const ORDER: u8 = 1;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Message {
    /// One of those that are measured: which, and when it was handed over, in ms since 1970.
    Data { phase: u16, number: u32, sent: f64 },
    /// Side A has side B send.
    Order(Order),
}

impl Message {
    pub(crate) fn write(&self) -> Bytes {
        let mut bytes = vec![0; SIZE];
        let mut put = |at: usize, what: &[u8]| {
            if let Some(place) = bytes.get_mut(at..at + what.len()) {
                place.copy_from_slice(what);
            }
        };
        match self {
            Self::Data { phase, number, sent } => {
                put(0, &[DATA]);
                put(2, &phase.to_le_bytes());
                put(4, &number.to_le_bytes());
                put(8, &sent.to_le_bytes());
            }
            Self::Order(order) => {
                put(0, &[ORDER, u8::from(order.way == Way::Once)]);
                put(2, &order.phase.to_le_bytes());
                put(4, &order.count.to_le_bytes());
                put(8, &order.every.to_le_bytes());
            }
        }
        bytes.into()
    }

    /// None if it is something else, such as state.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SIZE] = bytes.try_into().ok()?;
        let [kind, once, p0, p1, n0, n1, n2, n3, s0, s1, s2, s3, s4, s5, s6, s7, ..] = *bytes;
        let (phase, number) = (u16::from_le_bytes([p0, p1]), u32::from_le_bytes([n0, n1, n2, n3]));
        match kind {
            DATA => Some(Self::Data { phase, number, sent: f64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]) }),
            ORDER => {
                let way = if once == 1 { Way::Once } else { Way::Reliably };
                Some(Self::Order(Order { phase, count: number, every: u32::from_le_bytes([s0, s1, s2, s3]), way }))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let messages = [
            Message::Data { phase: 513, number: 70_000, sent: 1_794_000_000_123.456 },
            Message::Order(Order { phase: 7, count: 100, every: 12, way: Way::Reliably }),
            Message::Order(Order { phase: 7, count: 100, every: 3, way: Way::Once }),
        ];
        for message in messages {
            let bytes = message.write();
            assert_eq!((bytes.len(), Message::read(&bytes)), (SIZE, Some(message)));
        }
        assert_eq!(Message::read(&[0; SIZE - 1]), None);
        assert_eq!(Message::read(&[9; SIZE]), None);
    }
}
