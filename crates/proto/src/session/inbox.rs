//! Which frames of a peer have come, and which of them it has to be told of.

use std::collections::BTreeSet;

use super::frame::{AckBlock, BLOCK, MAX_BLOCKS};

/// How far a frame may be behind the newest; what is older is dropped, as it cannot be told from a duplicate.
const WINDOW: u32 = 1024;

/// The receiving side of one link's frames.
#[derive(Clone, Debug, Default)]
pub(super) struct Inbox {
    newest: Option<u32>,
    received: BTreeSet<u32>,
    unreported: BTreeSet<u32>,
    owed: bool,
}

impl Inbox {
    /// The newest frame that came.
    #[cfg(test)]
    pub(super) const fn newest(&self) -> Option<u32> {
        self.newest
    }

    /// The whole sequence number of a frame, if it is new. Changes nothing yet.
    pub(super) fn expand(&self, seq: u16) -> Option<u32> {
        let Some(newest) = self.newest else { return Some(u32::from(seq)) };
        let ahead = seq.wrapping_sub(newest as u16).cast_signed();
        let seq = newest.checked_add_signed(i32::from(ahead))?;
        let old = seq.saturating_add(WINDOW) <= newest;
        (!old && !self.received.contains(&seq)).then_some(seq)
    }

    /// Notes that the frame was applied.
    pub(super) fn note(&mut self, seq: u32, eliciting: bool) {
        let newest = self.newest.map_or(seq, |newest| newest.max(seq));
        self.newest = Some(newest);
        self.received.insert(seq);
        let oldest = newest.saturating_sub(WINDOW - 1);
        self.received = self.received.split_off(&oldest);
        if eliciting {
            self.unreported.insert(seq);
            self.unreported = self.unreported.split_off(&oldest);
            self.owed = true;
        }
    }

    /// Whether the peer waits for acks that no frame has told it of.
    pub(super) const fn owes(&self) -> bool {
        self.owed
    }

    /// Takes the acks for one frame: first the newest ones, told again and again, then those it was never told of.
    pub(super) fn acks(&mut self) -> Vec<AckBlock> {
        let Some(mut at) = self.newest else { return Vec::new() };
        let mut blocks = Vec::new();
        while blocks.len() < MAX_BLOCKS {
            let oldest = at.saturating_sub(BLOCK - 1);
            let mut bits = 0;
            for seq in self.received.range(oldest..at) {
                bits |= 1 << (at - 1 - seq);
            }
            blocks.push(AckBlock { newest: at as u16, bits });
            self.unreported.split_off(&oldest);
            match self.unreported.last() {
                Some(next) => at = *next,
                None => break,
            }
        }
        self.owed = !self.unreported.is_empty();
        blocks
    }
}

/// The sequence numbers that a block names, where `sent` is the count of frames sent so far. Others are not named.
pub(super) fn acked(block: AckBlock, sent: u32) -> impl Iterator<Item = u32> {
    let behind = (sent.wrapping_sub(1) as u16).wrapping_sub(block.newest);
    let newest = sent.checked_sub(1).and_then(|last| last.checked_sub(u32::from(behind)));
    newest.into_iter().flat_map(move |newest| {
        let earlier = (0..32).filter(move |bit| block.bits >> bit & 1 == 1);
        core::iter::once(Some(newest)).chain(earlier.map(move |bit| newest.checked_sub(bit + 1))).flatten()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_frame_that_came_is_acked_and_no_other(
            steps in proptest::collection::vec((0_u32..120, 0.0_f64..1.0), 1..60),
            loss in 0_u64..60,
        ) {
            let mut rng = crate::rng::Rng::new(loss);
            let (mut inbox, mut sent) = (Inbox::default(), 0_u32);
            let (mut came, mut told) = (BTreeSet::new(), BTreeSet::new());
            for (burst, _) in steps {
                for _ in 0..burst {
                    if !rng.chance(loss as f64 / 100.0) {
                        let seq = inbox.expand(sent as u16).expect("new");
                        prop_assert_eq!(seq, sent);
                        inbox.note(seq, true);
                        prop_assert_eq!(inbox.expand(sent as u16), None, "a duplicate");
                        came.insert(sent);
                    }
                    sent += 1;
                }
                while inbox.owes() {
                    for block in inbox.acks() {
                        told.extend(acked(block, sent));
                    }
                }
                prop_assert_eq!(&told, &came);
            }
        }

        #[test]
        fn acks_of_what_was_never_sent_name_nothing_beyond(newest in any::<u16>(), bits in any::<u32>(), sent in 0_u32..200_000) {
            let beyond = acked(AckBlock { newest, bits }, sent).any(|seq| seq >= sent);
            prop_assert!(!beyond);
        }
    }

    #[test]
    fn sequences_go_on_past_sixteen_bits_and_old_ones_are_dropped() {
        let mut inbox = Inbox::default();
        for seq in 0..70_000_u32 {
            assert_eq!(inbox.expand(seq as u16), Some(seq));
            inbox.note(seq, false);
        }
        assert_eq!(inbox.expand(70_010_u32 as u16), Some(70_010));
        inbox.note(70_010, false);
        assert_eq!(inbox.expand((70_010_u32 - WINDOW) as u16), None);
        assert_eq!(inbox.expand(70_005_u32 as u16), Some(70_005));
        assert!(!inbox.owes());
    }

    #[test]
    fn acks_owe_nothing_in_return() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.acks(), []);
        inbox.note(0, true);
        inbox.note(1, false);
        assert!(inbox.owes());
        assert_eq!(inbox.acks(), [AckBlock { newest: 1, bits: 1 }]);
        assert!(!inbox.owes());
        assert_eq!(inbox.acks(), [AckBlock { newest: 1, bits: 1 }], "the newest are told again");
    }
}
