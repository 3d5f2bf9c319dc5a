//! How do two of ours know of each other, within signals that any server passes on and any WebRTC peer can use, which link a
//! description is for?
//!
//! A description has one attribute more, which everybody else passes over (RFC 8866, section 5.13):
//!
//! ```text
//! a=coplay:7            offer 7, or the answer to it
//! a=coplay:9 mends 7    the same, for a connection in place of that of the link which began with offer 7
//! ```
//!
//! and two words are candidates without an address, which say that there are no more (RFC 8838, section 8.2) to others:
//! `coplay-ask-7` and `coplay-gone-7` in place of the fragment of a username. Numbers are those of who makes the offers.

use serde_json::{Value, json};

const ATTRIBUTE: &str = "a=coplay:";
const MENDS: &str = " mends ";
/// Before the numbers of words.
const ASK: &str = "coplay-ask-";
const GONE: &str = "coplay-gone-";

/// What a description says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The number of the offer, or of the one that is answered.
    pub(super) offer: u64,
    /// The offer with which the link began, by who says so, whose connection it is to replace.
    pub(super) mends: Option<u64>,
}

/// What is said without a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Nothing is heard of the peer over the link that began with this offer: it is to make another.
    Ask(u64),
    /// There is no such link here.
    Gone(u64),
}

impl Mark {
    /// The description with this mark.
    pub(super) fn put(self, sdp: &str) -> String {
        let mends = self.mends.map_or_else(String::new, |link| format!("{MENDS}{link}"));
        let line = format!("{ATTRIBUTE}{}{mends}\r\n", self.offer);
        // Before the media, so that it is the session's.
        let at = if sdp.starts_with("m=") { 0 } else { sdp.find("\nm=").map_or(sdp.len(), |at| at + 1) };
        let (session, media) = sdp.split_at(at);
        [session, &line, media].concat()
    }

    /// The description without its mark, and that, if it has one.
    pub(super) fn take(sdp: &str) -> (Option<Self>, String) {
        let mut mark = None;
        let rest = sdp.split_inclusive('\n').filter(|line| match line.strip_prefix(ATTRIBUTE) {
            None => true,
            Some(text) => {
                mark = Self::read(text.trim_end());
                false
            }
        });
        let rest = rest.collect();
        (mark, rest)
    }

    fn read(text: &str) -> Option<Self> {
        let (offer, mends) = match text.split_once(MENDS) {
            None => (text, None),
            Some((offer, link)) => (offer, Some(link.parse().ok()?)),
        };
        Some(Self { offer: offer.parse().ok()?, mends })
    }
}

impl Word {
    /// As the JSON of a candidate.
    pub(super) fn write(self) -> String {
        let word = match self {
            Self::Ask(link) => format!("{ASK}{link}"),
            Self::Gone(link) => format!("{GONE}{link}"),
        };
        json!({ "candidate": "", "sdpMid": "0", "sdpMLineIndex": 0, "usernameFragment": word }).to_string()
    }

    /// What the JSON of a candidate says, if it is a word.
    pub(super) fn read(candidate: &str) -> Option<Self> {
        // Most are none, and need not be read twice.
        if !candidate.contains("coplay-") {
            return None;
        }
        let init: Value = serde_json::from_str(candidate).ok()?;
        let word = init.get("usernameFragment")?.as_str().filter(|_| init.get("candidate") == Some(&"".into()))?;
        let number = |prefix| word.strip_prefix(prefix)?.parse().ok();
        number(ASK).map(Self::Ask).or_else(|| number(GONE).map(Self::Gone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_put_and_taken_and_the_rest_is_as_it_was() {
        let sdp = "v=0\r\ns=-\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\n";
        for mark in [Mark { offer: 7, mends: None }, Mark { offer: u64::MAX, mends: Some(7) }] {
            let marked = mark.put(sdp);
            assert!(marked.contains("s=-\r\na=coplay:"), "{marked}");
            assert_eq!(Mark::take(&marked), (Some(mark), sdp.to_owned()));
        }
        assert_eq!(Mark::take(sdp), (None, sdp.to_owned()));
        for nonsense in ["", "x", "7 mends", "7 mends x", "-1", "99999999999999999999999"] {
            assert_eq!(Mark::take(&format!("{ATTRIBUTE}{nonsense}\r\n{sdp}")), (None, sdp.to_owned()), "{nonsense}");
        }
    }

    #[test]
    fn a_word_is_a_candidate_that_has_no_address() {
        for word in [Word::Ask(7), Word::Gone(u64::MAX)] {
            assert_eq!(Word::read(&word.write()), Some(word));
        }
        let with_address = Word::Ask(7).write().replace(r#""candidate":"""#, r#""candidate":"candidate:1 1 udp""#);
        for other in [&with_address, "null", "coplay-", "{}", r#"{"candidate":"","usernameFragment":"coplay-ask-x"}"#] {
            assert_eq!(Word::read(other), None, "{other}");
        }
    }
}
