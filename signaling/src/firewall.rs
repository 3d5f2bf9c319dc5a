//! Which signals may one member of a room send another? Those of a handshake, in their order, and no more of them than
//! one takes.
//!
//! What they look like is checked in [`shape`], who may send them now in [`Handshakes`]. Both protect unmodified
//! `matchbox_socket` 0.15 peers, which panic on some that are neither.

use std::collections::HashMap;

use coplay_proto::{PeerId, signal::Signal};

pub(crate) mod shape;

/// How many candidates each side may send for one offer. A machine with many interfaces has twenty or so.
pub const MAX_CANDIDATES: u32 = 64;

/// What a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Offer,
    Answer,
    Candidate,
    /// Anything, where the server is told not to look (`Config::opaque_signals`).
    Opaque,
}

impl From<&Signal> for Kind {
    fn from(signal: &Signal) -> Self {
        match signal {
            Signal::Offer(_) => Self::Offer,
            Signal::Answer(_) => Self::Answer,
            Signal::IceCandidate(_) => Self::Candidate,
        }
    }
}

/// Why a signal is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Dropped {
    /// The two are not to be connected, or one of them is not there (any more).
    Stranger,
    /// The other one of the two makes the offers.
    Role,
    /// There is no offer that is not answered yet.
    Answered,
    /// More candidates than a handshake takes.
    Candidates,
    /// A candidate for a peer that does not keep up with what it is sent.
    Slow,
}

impl Dropped {
    /// Its name in the metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::Role => "role",
            Self::Answered => "answered",
            Self::Candidates => "candidates",
            Self::Slow => "slow",
        }
    }
}

/// How far the pairs of a group are. A pair that has said nothing takes no memory; there are at most as many as the
/// group has pairs.
#[derive(Debug, Default)]
pub(crate) struct Handshakes {
    /// By who offers and who answers.
    pairs: HashMap<(PeerId, PeerId), Handshake>,
}

#[derive(Debug, Default)]
struct Handshake {
    offers: u32,
    answers: u32,
    /// For the last offer: of who offers, of who answers.
    candidates: [u32; 2],
}

impl Handshakes {
    /// Whether `from` may send this to `to` now, where `offers` says that of the two it is `from` who was told to make
    /// the offer. It may offer again at any time (its handshake failed), which starts a handshake anew; each offer may
    /// be answered once. Candidates may overtake their offer.
    pub(crate) fn admit(&mut self, from: PeerId, to: PeerId, offers: bool, kind: Kind) -> Result<(), Dropped> {
        if kind == Kind::Opaque {
            return Ok(());
        }
        let pair = self.pairs.entry(if offers { (from, to) } else { (to, from) }).or_default();
        match (kind, offers) {
            (Kind::Offer, true) => {
                pair.offers = pair.offers.saturating_add(1);
                pair.candidates = [0; 2];
                Ok(())
            }
            (Kind::Answer, false) if pair.answers < pair.offers => {
                pair.answers += 1;
                Ok(())
            }
            (Kind::Answer, false) => Err(Dropped::Answered),
            (Kind::Offer | Kind::Answer, _) => Err(Dropped::Role),
            (Kind::Candidate | Kind::Opaque, _) => {
                let [ours, theirs] = &mut pair.candidates;
                let count = if offers { ours } else { theirs };
                if *count >= MAX_CANDIDATES {
                    return Err(Dropped::Candidates);
                }
                *count += 1;
                Ok(())
            }
        }
    }

    /// A member is gone, and what it said with it.
    pub(crate) fn forget(&mut self, peer: PeerId) {
        self.pairs.retain(|(offers, answers), _| *offers != peer && *answers != peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PeerId = PeerId::from_u128(0xa);
    const B: PeerId = PeerId::from_u128(0xb);

    #[test]
    fn one_offers_the_other_answers_once() {
        let mut pairs = Handshakes::default();
        assert_eq!(pairs.admit(B, A, false, Kind::Answer), Err(Dropped::Answered), "nothing was offered");
        assert_eq!(pairs.admit(B, A, false, Kind::Offer), Err(Dropped::Role));
        assert_eq!(pairs.admit(A, B, true, Kind::Offer), Ok(()));
        assert_eq!(pairs.admit(A, B, true, Kind::Answer), Err(Dropped::Role));
        assert_eq!(pairs.admit(B, A, false, Kind::Answer), Ok(()));
        assert_eq!(pairs.admit(B, A, false, Kind::Answer), Err(Dropped::Answered), "twice");
        // The handshake failed: again. The answer to the first offer may come after the second one.
        assert_eq!(pairs.admit(A, B, true, Kind::Offer), Ok(()));
        assert_eq!(pairs.admit(A, B, true, Kind::Offer), Ok(()));
        assert_eq!(pairs.admit(B, A, false, Kind::Answer), Ok(()));
        assert_eq!(pairs.admit(B, A, false, Kind::Answer), Ok(()));
        assert_eq!(pairs.admit(B, A, false, Kind::Answer), Err(Dropped::Answered));
    }

    #[test]
    fn each_side_has_so_many_candidates_for_an_offer() {
        let mut pairs = Handshakes::default();
        for _ in 0..2 {
            assert_eq!(pairs.admit(A, B, true, Kind::Offer), Ok(()));
            for (from, to, offers) in [(A, B, true), (B, A, false)] {
                for _ in 0..MAX_CANDIDATES {
                    assert_eq!(pairs.admit(from, to, offers, Kind::Candidate), Ok(()));
                }
                assert_eq!(pairs.admit(from, to, offers, Kind::Candidate), Err(Dropped::Candidates));
            }
        }
    }

    #[test]
    fn nothing_is_kept_of_who_left() {
        let mut pairs = Handshakes::default();
        pairs.admit(A, B, true, Kind::Offer).unwrap();
        pairs.forget(B);
        assert!(pairs.pairs.is_empty());
        assert_eq!(pairs.admit(A, B, true, Kind::Opaque), Ok(()));
        assert!(pairs.pairs.is_empty(), "what is not looked at is not counted");
    }
}
