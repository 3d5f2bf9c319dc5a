//! What sessions say to each other on the control channel, and how it is written.
//!
//! A message is one byte of kind and what follows. Kind 0 is the greeting: a version of 16 bits, lowest byte first,
//! and only then what this version means by it. This much never changes, so that any two versions understand that
//! they are two. Kind 1 is everything else: the session's tag and a [`Control`], by bincode.

use serde::{Deserialize, Serialize};

use super::membership::{RosterWire, Seat, SessionInfo};
use super::tombstones::Intervals;
use crate::{MemberId, NetId, PROTOCOL_VERSION, PeerId, Term, Topology, codec::opaque, schema::Schema};

const HELLO: u8 = 0;
const CONTROL: u8 = 1;
/// The most intervals of one [`Control::Tombstones`], so that it fits a message.
pub(super) const MAX_TOMBSTONES: usize = 2048;

/// What both sides of a link say first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) topology: Topology,
    /// Ticks a second.
    pub(super) tick_rate: u16,
    pub(super) session: Option<SessionInfo>,
    pub(super) schema: Schema,
}

/// Everything else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Control {
    /// The sender's session is this one now, or none.
    Session(Option<SessionInfo>),
    /// The sender asks to be admitted.
    Ask,
    /// A member asks for the [`Self::Roster`].
    AskRoster,
    /// The answer: the asker is in. `ticks` is the room's clock as it is said.
    Welcome { you: MemberId, ticks: f64, roster: RosterWire },
    /// The answer: the session takes no more than so many.
    Full(u16),
    /// From a new leader, or to a member that asked: this is the membership.
    Roster(RosterWire),
    /// From the leader: a peer was admitted.
    Join(Term, Seat),
    /// From the leader: a member has left. Passed on by others to the member itself, if it still has links. To the
    /// leader: the sender itself leaves, as its link to the leader is too slow.
    Leave(Term, MemberId, LeaveReason),
    /// To the longest member: the sender has lost its link to the leader of this term.
    Lost(Term),
    /// From the leader: the session is over, its members are to join that of this peer.
    Absorbed(Term, PeerId),
    /// These entities are gone for good.
    Tombstones(Vec<(MemberId, Intervals)>),
    /// The sender has given the entity, that it owned, to this member, with this epoch.
    Grant(NetId, u32, MemberId),
    /// The sender turned down what the receiver said of the entity, and wants it again now.
    Want(NetId),
}

/// Why a member is gone, as the leader says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum LeaveReason {
    Goodbye,
    Kicked,
    Lost,
    /// It was in another session meanwhile, and gets another seat at once.
    Returns,
    /// More was sent over its link than that carries.
    TooSlow,
}

/// A message that was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Message {
    Hello(Box<Hello>),
    /// A greeting in another version.
    OtherVersion(u16),
    Control(u16, Control),
}

/// Writes a greeting.
pub(super) fn encode_hello(hello: &Hello) -> Vec<u8> {
    let mut bytes = vec![HELLO];
    bytes.extend(PROTOCOL_VERSION.to_le_bytes());
    // The schema is bounded to fit, and nothing else grows.
    bytes.extend(opaque::encode(hello).unwrap_or_default());
    bytes
}

/// Writes a message of the session with this tag.
pub(super) fn encode(tag: u16, control: &Control) -> Vec<u8> {
    let mut bytes = vec![CONTROL];
    bytes.extend(tag.to_le_bytes());
    // All lists are bounded to fit.
    bytes.extend(opaque::encode(control).unwrap_or_default());
    bytes
}

/// Reads a message. The error says what was wrong with it.
pub(super) fn decode(bytes: &[u8]) -> Result<Message, &'static str> {
    let [kind, low, high, rest @ ..] = bytes else { return Err("a control message of less than three bytes") };
    let word = u16::from_le_bytes([*low, *high]);
    match *kind {
        HELLO if word != PROTOCOL_VERSION => Ok(Message::OtherVersion(word)),
        HELLO => opaque::decode(rest).map(Message::Hello).map_err(|_| "a greeting that cannot be read"),
        CONTROL => opaque::decode(rest)
            .map(|control| Message::Control(word, control))
            .map_err(|_| "a control message that cannot be read"),
        _ => Err("a control message of an unknown kind"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_greeting_of_another_version_is_known_as_such_whatever_follows() {
        assert_eq!(decode(&[0, 0x34, 0x12, 9, 9, 9]), Ok(Message::OtherVersion(0x1234)));
        assert_eq!(decode(&[0, 0x34, 0x12]), Ok(Message::OtherVersion(0x1234)));
    }

    #[test]
    fn what_is_written_is_read() {
        let hello = Hello { topology: Topology::Host, tick_rate: 60, session: None, schema: Schema::default() };
        assert_eq!(decode(&encode_hello(&hello)), Ok(Message::Hello(Box::new(hello))));
        let entity = NetId { creator: MemberId { slot: 1, incarnation: 2 }, counter: 3 };
        for control in [Control::Ask, Control::Want(entity), Control::Lost(Term(4)), Control::Full(3)] {
            assert_eq!(decode(&encode(7, &control)), Ok(Message::Control(7, control)));
        }
    }

    #[test]
    fn the_longest_messages_fit() {
        let far = MemberId { slot: u16::MAX - 1, incarnation: u16::MAX - 1 };
        let intervals = vec![(u32::MAX - 1, u32::MAX); MAX_TOMBSTONES];
        let tombstones = encode(0, &Control::Tombstones(vec![(far, intervals)]));
        assert!(tombstones.len() < crate::link::MAX_MESSAGE, "{}", tombstones.len());
        let seat = Seat { peer: PeerId::from_u128(u128::MAX), member: far, order: u32::MAX };
        let wire = RosterWire {
            id: super::super::membership::SessionId { founder: Some(seat.peer), count: u16::MAX },
            term: Term(u32::MAX),
            leader: seat.peer,
            seats: vec![seat; usize::from(super::super::MAX_MEMBERS)],
            incarnations: vec![u16::MAX; usize::from(super::super::MAX_MEMBERS)],
            next_order: u32::MAX,
        };
        let welcome = encode(0, &Control::Welcome { you: far, ticks: 0.0, roster: wire });
        assert!(welcome.len() > 1000 && welcome.len() < crate::link::MAX_MESSAGE, "{}", welcome.len());
    }

    #[test]
    fn the_largest_schema_fits() {
        use crate::schema::{Delivery, FieldSchema, MAX_FIELDS, TypeKind, TypeSchema};
        // As many names as there can be in all the text that there can be: each of one byte, or two, counts as five.
        let field = |index: usize| FieldSchema { name: char::from(b'0' + index as u8 % 10).into(), coding: "c".into() };
        let fields: Vec<FieldSchema> = (0..MAX_FIELDS).map(field).collect();
        let shared = |index: usize| {
            let name = format!("{index:02}");
            let delivery = Delivery::default();
            TypeSchema { name, kind: TypeKind::Component, optional: true, delivery, fields: fields.clone() }
        };
        let most = (1..).take_while(|count| Schema::new((0..*count).map(shared).collect()).is_ok()).last();
        let schema = Schema::new((0..most.expect("some")).map(shared).collect()).expect("fits");
        let hello = Hello { topology: Topology::Host, tick_rate: 60, session: None, schema };
        let message = encode_hello(&hello);
        assert!(message.len() < crate::link::MAX_MESSAGE, "{}", message.len());
        assert_eq!(decode(&message), Ok(Message::Hello(Box::new(hello))));
    }

    proptest! {
        #[test]
        fn garbage_is_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0_u8..3) {
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            let _ = decode(&bytes);
        }
    }
}
