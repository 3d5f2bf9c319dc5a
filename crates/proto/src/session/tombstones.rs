//! Which entities are gone for good: intervals of each creator's counter, so that a long match stays small.

use std::collections::BTreeMap;

use crate::{MemberId, NetId};

/// The most intervals of one creator. A peer that asks for more (by ending entities it never made) loses the ids
/// between its two lowest ones.
const MAX_INTERVALS: usize = super::MAX_ENTITIES + 1;
/// The most intervals of all creators. Beyond, each creator's are joined as above, and no new creators are noted.
const MAX_TOTAL: usize = 1 << 20;

/// Closed intervals of the counters of one creator: first to last.
pub(super) type Intervals = Vec<(u32, u32)>;

/// All despawns of the session.
#[derive(Clone, Debug, Default)]
pub(super) struct Tombstones {
    creators: BTreeMap<MemberId, BTreeMap<u32, u32>>,
    total: usize,
}

impl Tombstones {
    /// Whether the entity is gone.
    pub(super) fn contains(&self, entity: NetId) -> bool {
        let Some(intervals) = self.creators.get(&entity.creator) else { return false };
        intervals.range(..=entity.counter).next_back().is_some_and(|(_, last)| *last >= entity.counter)
    }

    /// Notes that the entity is gone. Says whether that is new.
    pub(super) fn insert(&mut self, entity: NetId) -> bool {
        if self.contains(entity) {
            return false;
        }
        self.insert_interval(entity.creator, entity.counter, entity.counter);
        true
    }

    /// Notes that all of these are gone.
    pub(super) fn insert_interval(&mut self, creator: MemberId, first: u32, last: u32) {
        let full = self.total >= MAX_TOTAL;
        if first > last || (full && !self.creators.contains_key(&creator)) {
            return;
        }
        let intervals = self.creators.entry(creator).or_default();
        let before = intervals.len();
        let (mut first, mut last) = (first, last);
        // Swallows every interval that overlaps the new one or touches it.
        while let Some((&from, &to)) = intervals.range(..=last.saturating_add(1)).next_back() {
            if to.saturating_add(1) < first {
                break;
            }
            intervals.remove(&from);
            first = first.min(from);
            last = last.max(to);
        }
        intervals.insert(first, last);
        if (full || intervals.len() > MAX_INTERVALS)
            && intervals.len() > 1
            && let (Some((lowest, _)), Some((_, end))) = (intervals.pop_first(), intervals.pop_first())
        {
            intervals.insert(lowest, end);
        }
        self.total = self.total + intervals.len() - before;
    }

    /// Everything, for another peer: in pieces of at most so many intervals.
    pub(super) fn pieces(&self, most: usize) -> Vec<Vec<(MemberId, Intervals)>> {
        let mut pieces = Vec::new();
        let mut piece: Vec<(MemberId, Intervals)> = Vec::new();
        let mut count = 0;
        for (creator, intervals) in &self.creators {
            let mut of_creator = Intervals::new();
            for (first, last) in intervals {
                of_creator.push((*first, *last));
                count += 1;
                if count == most {
                    piece.push((*creator, core::mem::take(&mut of_creator)));
                    pieces.push(core::mem::take(&mut piece));
                    count = 0;
                }
            }
            if !of_creator.is_empty() {
                piece.push((*creator, of_creator));
            }
        }
        if !piece.is_empty() {
            pieces.push(piece);
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const CREATOR: MemberId = MemberId { slot: 3, incarnation: 1 };

    fn net(counter: u32) -> NetId {
        NetId { creator: CREATOR, counter }
    }

    proptest! {
        #[test]
        fn they_are_the_set_of_what_was_inserted(
            intervals in proptest::collection::vec((0_u32..60, 0_u32..6), 0..40),
            piece in 1_usize..5,
        ) {
            let mut tombstones = Tombstones::default();
            let mut set = BTreeSet::new();
            for (first, length) in intervals {
                tombstones.insert_interval(CREATOR, first, first + length);
                set.extend(first..=first + length);
            }
            let mut copy = Tombstones::default();
            for (creator, intervals) in tombstones.pieces(piece).into_iter().flatten() {
                for (first, last) in intervals {
                    copy.insert_interval(creator, first, last);
                }
            }
            for counter in 0..70 {
                prop_assert_eq!(tombstones.contains(net(counter)), set.contains(&counter));
                prop_assert_eq!(copy.contains(net(counter)), set.contains(&counter));
            }
            let gaps = set.iter().filter(|counter| !set.contains(&(*counter + 1))).count();
            prop_assert_eq!(tombstones.creators.get(&CREATOR).map_or(0, BTreeMap::len), gaps);
            prop_assert_eq!(tombstones.total, gaps);
        }
    }

    #[test]
    fn neighbours_become_one_interval() {
        let mut tombstones = Tombstones::default();
        assert!(tombstones.insert(net(4)));
        assert!(tombstones.insert(net(6)));
        assert!(tombstones.insert(net(5)));
        assert!(!tombstones.insert(net(5)));
        assert_eq!(tombstones.pieces(9), [vec![(CREATOR, vec![(4, 6)])]]);
        tombstones.insert_interval(CREATOR, 0, u32::MAX);
        assert!(tombstones.contains(net(u32::MAX)));
        assert_eq!(tombstones.pieces(9), [vec![(CREATOR, vec![(0, u32::MAX)])]]);
    }

    #[test]
    fn they_stay_bounded() {
        let mut tombstones = Tombstones::default();
        for counter in 0..=MAX_INTERVALS as u32 {
            tombstones.insert(net(counter * 2));
        }
        assert_eq!(tombstones.creators.get(&CREATOR).map(BTreeMap::len), Some(MAX_INTERVALS));
        assert!(tombstones.contains(net(1)), "the lowest gap was given up");
        assert!(!tombstones.contains(net(3)));
    }
}
