//! Who may come into a room: is it locked, was this one removed from it, and does it know the password?

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use coplay_proto::{
    PeerId,
    signal::{SignalError, lobby::MAX_MATCH},
};
use tokio::time::Instant;

use crate::{
    budget::Budget,
    secrets::{PasswordHash, Secrets},
    shares::household,
};

/// How many addresses of removed peers a room remembers. The oldest is forgotten first.
const REMEMBERED: usize = 64;
/// How many wrong passwords of one address at once, and how often then.
const BY_ADDRESS: (u32, Duration) = (5, Duration::from_secs(10));
/// How many of all addresses together. Above what a game's friends mistype, far below what guessing takes.
const BY_ROOM: (u32, Duration) = (100, Duration::from_millis(200));
/// How many addresses with wrong passwords a room remembers. Further ones have only what all have together.
const GUESSERS: usize = 256;

/// What stands between a newcomer and a room.
#[derive(Debug)]
pub(crate) struct RoomDoor {
    pub(crate) locked: bool,
    /// Who may come in though it is locked, if they prove that they have these ids, and until when.
    returning: Option<(Vec<PeerId>, Instant)>,
    password: Option<PasswordHash>,
    removed: VecDeque<(IpAddr, Instant)>,
    guesses: HashMap<IpAddr, Budget>,
    all_guesses: Budget,
}

impl RoomDoor {
    pub(crate) fn new(password: Option<PasswordHash>, now: Instant) -> Self {
        Self {
            locked: false,
            returning: None,
            password,
            removed: VecDeque::new(),
            guesses: HashMap::new(),
            all_guesses: Budget::new(BY_ROOM.0, BY_ROOM.1, now),
        }
    }

    pub(crate) fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// Nobody comes in from this address until then.
    pub(crate) fn ban(&mut self, from: Option<IpAddr>, until: Instant) {
        let Some(from) = from.map(household) else { return };
        self.removed.retain(|(address, _)| *address != from);
        if self.removed.len() >= REMEMBERED {
            self.removed.pop_front();
        }
        self.removed.push_back((from, until));
    }

    /// These may come in though the room is locked, each once and until then; in place of those named before, and
    /// [`MAX_MATCH`] of them at most.
    pub(crate) fn expect(&mut self, peers: Vec<PeerId>, until: Instant) {
        self.returning = Some((peers.into_iter().take(MAX_MATCH as usize).collect(), until));
    }

    /// This one is back, or is not to be.
    pub(crate) fn expect_no_more(&mut self, peer: PeerId) {
        if let Some((peers, _)) = &mut self.returning {
            peers.retain(|other| *other != peer);
        }
        self.returning.take_if(|(peers, _)| peers.is_empty());
    }

    /// The password is this one from now on.
    pub(crate) fn set_password(&mut self, password: PasswordHash) {
        self.password = Some(password);
    }

    /// Whether a newcomer may come in. `proven` is the id that it had before, if it has proven one.
    pub(crate) fn admit(
        &mut self,
        from: Option<IpAddr>,
        proven: Option<PeerId>,
        password: Option<&str>,
        secrets: &Secrets,
        now: Instant,
    ) -> Result<(), SignalError> {
        let from = from.map(household);
        self.removed.retain(|(_, until)| *until > now);
        if let Some((_, until)) = self.removed.iter().find(|(address, _)| Some(*address) == from) {
            return Err(SignalError::Kicked { seconds: seconds(*until - now) });
        }
        if let Some(hash) = &self.password {
            let Some(password) = password else { return Err(SignalError::PasswordNeeded) };
            let own = from.and_then(|from| self.guesses.get(&from)?.wait(now));
            if let Some(wait) = own.max(self.all_guesses.wait(now)) {
                return Err(SignalError::TooManyAttempts { seconds: seconds(wait) });
            }
            if !secrets.is_password(hash, password) {
                self.guessed(from, now);
                return Err(SignalError::WrongPassword);
            }
        }
        self.returning.take_if(|(_, until)| *until <= now);
        let expected =
            proven.is_some_and(|peer| self.returning.as_ref().is_some_and(|(peers, _)| peers.contains(&peer)));
        if self.locked && !expected { Err(SignalError::RoomLocked) } else { Ok(()) }
    }

    fn guessed(&mut self, from: Option<IpAddr>, now: Instant) {
        self.all_guesses.spend(now);
        let Some(from) = from else { return };
        if self.guesses.len() >= GUESSERS {
            self.guesses.retain(|_, budget| !budget.is_full(now));
        }
        if self.guesses.len() < GUESSERS || self.guesses.contains_key(&from) {
            self.guesses.entry(from).or_insert_with(|| Budget::new(BY_ADDRESS.0, BY_ADDRESS.1, now)).spend(now);
        }
    }
}

/// Rounded up, so that it is not too early then.
fn seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(n: u32) -> Option<IpAddr> {
        Some(Ipv4Addr::from_bits(0x0a00_0000 + n).into())
    }

    #[test]
    fn a_password_is_guessed_a_few_times_by_an_address_and_not_often_by_all() {
        let (secrets, now) = (Secrets::new(), Instant::now());
        let mut door = RoomDoor::new(secrets.hash("right"), now);
        assert_eq!(door.admit(address(1), None, None, &secrets, now), Err(SignalError::PasswordNeeded));
        for _ in 0..5 {
            assert_eq!(door.admit(address(1), None, Some("wrong"), &secrets, now), Err(SignalError::WrongPassword));
        }
        let wait = Err(SignalError::TooManyAttempts { seconds: 10 });
        assert_eq!(
            door.admit(address(1), None, Some("right"), &secrets, now),
            wait,
            "not even the right one is looked at"
        );
        assert_eq!(door.admit(address(2), None, Some("right"), &secrets, now), Ok(()), "another address has its own");
        assert_eq!(door.admit(address(1), None, Some("right"), &secrets, now + Duration::from_secs(10)), Ok(()));

        let mut tried = 0;
        for n in 0..1000 {
            tried +=
                u32::from(door.admit(address(n), None, Some("x"), &secrets, now) == Err(SignalError::WrongPassword));
        }
        assert_eq!(tried, 95, "of all addresses together");
        let wait = door.admit(address(5000), None, Some("x"), &secrets, now);
        assert_eq!(wait, Err(SignalError::TooManyAttempts { seconds: 1 }));
        assert!(door.guesses.len() <= GUESSERS);
    }

    #[test]
    fn guessers_are_remembered_up_to_a_bound_and_forgotten_in_time() {
        let (secrets, start) = (Secrets::new(), Instant::now());
        let mut door = RoomDoor::new(secrets.hash("right"), start);
        for n in 0..2000 {
            let now = start + BY_ROOM.1 * n;
            assert_eq!(door.admit(address(n), None, Some("x"), &secrets, now), Err(SignalError::WrongPassword), "{n}");
            assert!(door.guesses.len() <= GUESSERS);
        }
        let late = start + Duration::from_secs(4000);
        assert_eq!(door.admit(address(9999), None, Some("x"), &secrets, late), Err(SignalError::WrongPassword));
        assert!(door.guesses.len() < GUESSERS);
    }

    #[test]
    fn who_was_removed_stays_out_for_a_while_and_a_locked_room_lets_nobody_in() {
        let (secrets, now) = (Secrets::new(), Instant::now());
        let mut door = RoomDoor::new(None, now);
        door.ban(address(1), now + Duration::from_secs(60));
        let kicked = Err(SignalError::Kicked { seconds: 60 });
        assert_eq!(door.admit(address(1), None, None, &secrets, now), kicked);
        assert_eq!(door.admit(address(2), None, None, &secrets, now), Ok(()));
        assert_eq!(door.admit(None, None, None, &secrets, now), Ok(()));
        assert_eq!(door.admit(address(1), None, None, &secrets, now + Duration::from_secs(60)), Ok(()));
        door.locked = true;
        let peer = Some(PeerId::from_u128(7));
        for proven in [None, peer] {
            assert_eq!(door.admit(address(2), proven, None, &secrets, now), Err(SignalError::RoomLocked));
        }
        door.expect(peer.into_iter().collect(), now + Duration::from_secs(30));
        assert_eq!(door.admit(address(2), peer, None, &secrets, now), Ok(()), "one who was in it before");
        assert_eq!(door.admit(address(2), None, None, &secrets, now), Err(SignalError::RoomLocked));
        door.ban(address(1), now + Duration::from_secs(60));
        assert_eq!(door.admit(address(1), peer, None, &secrets, now), kicked, "nobody who was removed");
        for n in 0..1000 {
            door.ban(address(n), now + Duration::from_secs(60));
        }
        assert_eq!(door.removed.len(), REMEMBERED);
    }

    #[test]
    fn who_is_expected_comes_in_once_and_in_time() {
        let (secrets, now) = (Secrets::new(), Instant::now());
        let mut door = RoomDoor::new(None, now);
        door.locked = true;
        let (peer, locked) = (PeerId::from_u128, Err(SignalError::RoomLocked));
        let until = now + Duration::from_secs(30);
        door.expect((0..1000).map(peer).collect(), until);
        assert_eq!(door.returning.as_ref().map(|(peers, _)| peers.len()), Some(MAX_MATCH as usize), "a bound");
        door.expect(vec![peer(1), peer(2), peer(3)], until);
        for n in [1, 2] {
            assert_eq!(door.admit(address(1), Some(peer(n)), None, &secrets, now), Ok(()));
        }
        door.expect_no_more(peer(1));
        assert_eq!(door.admit(address(1), Some(peer(1)), None, &secrets, now), locked, "it was back, or was removed");
        assert_eq!(door.admit(address(1), Some(peer(2)), None, &secrets, now), Ok(()), "of others nothing changes");
        assert_eq!(door.admit(address(1), Some(peer(2)), None, &secrets, until), locked, "too late");
        assert!(door.returning.is_none(), "nobody is remembered for longer");
        door.expect(vec![peer(4)], until);
        door.expect_no_more(peer(4));
        assert!(door.returning.is_none());
    }
}
