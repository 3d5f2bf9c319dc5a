//! What waits of the events that are sent once, and when is it too late for them?

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;

use super::{MAX_UNRELIABLE, Refused, UNRELIABLE_COST, UNRELIABLE_PATIENCE, UNRELIABLE_QUEUE, wire::Datagram};

/// Events that may be lost, the oldest first, and when each was handed over.
#[derive(Clone, Debug, Default)]
pub(super) struct Fleeting {
    waiting: VecDeque<(Duration, Bytes)>,
    /// What they take of [`UNRELIABLE_QUEUE`].
    bytes: usize,
}

impl Fleeting {
    pub(super) fn push(&mut self, now: Duration, bytes: Bytes) -> Result<(), Refused> {
        if bytes.len() > MAX_UNRELIABLE {
            return Err(Refused::TooLarge { size: bytes.len(), limit: MAX_UNRELIABLE });
        }
        if self.bytes + bytes.len() + UNRELIABLE_COST > UNRELIABLE_QUEUE {
            return Err(Refused::QueueFull { limit: UNRELIABLE_QUEUE });
        }
        self.bytes += bytes.len() + UNRELIABLE_COST;
        self.waiting.push_back((now, bytes));
        Ok(())
    }

    /// Writes those that fit; `filled` is what of `room` is taken. False if there is no room for the next one.
    pub(super) fn fill(&mut self, datagram: &mut Datagram, room: usize, filled: &mut usize) -> bool {
        while let Some((_, bytes)) = self.waiting.front() {
            let cost = bytes.len() + UNRELIABLE_COST;
            if *filled + cost > room {
                return false;
            }
            if datagram.unreliable_room().is_none_or(|fits| bytes.len() > fits) {
                break;
            }
            datagram.unreliable(bytes);
            *filled += cost;
            self.bytes -= cost;
            self.waiting.pop_front();
        }
        true
    }

    /// What the next one takes of the window.
    pub(super) fn next_size(&self) -> Option<usize> {
        self.waiting.front().map(|(_, bytes)| bytes.len() + UNRELIABLE_COST)
    }

    /// Drops what has waited for too long.
    pub(super) fn expire(&mut self, now: Duration) {
        while let Some((_, bytes)) = self.waiting.pop_front_if(|(at, _)| *at + UNRELIABLE_PATIENCE <= now) {
            self.bytes -= bytes.len() + UNRELIABLE_COST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_in_bytes_and_time() {
        let mut fleeting = Fleeting::default();
        let ms = Duration::from_millis;
        let too_large = fleeting.push(ms(0), vec![0; MAX_UNRELIABLE + 1].into());
        assert_eq!(too_large, Err(Refused::TooLarge { size: MAX_UNRELIABLE + 1, limit: MAX_UNRELIABLE }));
        let count = (0..).take_while(|_| fleeting.push(ms(0), Bytes::new()).is_ok()).count();
        assert_eq!(count, UNRELIABLE_QUEUE / UNRELIABLE_COST);
        assert_eq!(fleeting.push(ms(1), Bytes::new()), Err(Refused::QueueFull { limit: UNRELIABLE_QUEUE }));
        fleeting.expire(UNRELIABLE_PATIENCE - ms(1));
        assert_eq!(fleeting.waiting.len(), count);
        fleeting.expire(UNRELIABLE_PATIENCE);
        assert_eq!((fleeting.waiting.len(), fleeting.bytes), (0, 0));
    }
}
