//! What is said about rooms, besides who is in them: lobbies, what a leader may change, and quick match?
//!
//! A lobby is the face of a room: what a menu shows of it, and what its members know of its settings. All of this is
//! said to peers with [`SUBPROTOCOL`](super::SUBPROTOCOL) only.

use core::fmt::Write;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{PeerId, Topology};

use super::query;

pub use self::credentials::Credentials;

mod credentials;

/// The longest name of a game, in bytes.
pub const MAX_GAME: usize = 64;
/// The longest version, in bytes.
pub const MAX_VERSION: usize = 32;
/// The longest password, in bytes.
pub const MAX_PASSWORD: usize = 128;
/// The longest ticket, in bytes: more than the time and the signature that our server makes one of.
pub const MAX_TICKET: usize = 128;
/// The most entries of [`Metadata`].
pub const MAX_ENTRIES: usize = 16;
/// The longest key of an entry, in bytes.
pub const MAX_KEY: usize = 32;
/// The longest value of an entry, in bytes.
pub const MAX_VALUE: usize = 128;
/// The most bytes of all keys and values together.
pub const MAX_METADATA: usize = 1024;
/// The most lobbies in one message of the server.
pub const MAX_PAGE: u32 = 50;
/// The most lobbies that one watcher is told of.
pub const MAX_WATCHED: usize = 200;
/// The most peers of one quick match.
pub const MAX_MATCH: u32 = 64;

/// A short map of short strings that a game tells about a room: the map, the mode, the level of skill.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Metadata(BTreeMap<String, String>);

/// Why something about a room cannot be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLong {
    /// More entries than [`MAX_ENTRIES`].
    #[error("metadata has at most {MAX_ENTRIES} entries: leave some out")]
    Entries,
    /// A key that is empty, longer than [`MAX_KEY`], or of other characters.
    #[error("a key of metadata has 1 to {MAX_KEY} of these: A-Z a-z 0-9 - _ .")]
    Key,
    /// A value longer than [`MAX_VALUE`], or with control characters.
    #[error("a value of metadata has at most {MAX_VALUE} bytes, and no control characters: shorten it")]
    Value,
    /// More bytes than [`MAX_METADATA`].
    #[error("metadata has at most {MAX_METADATA} bytes: leave some out")]
    Metadata,
    /// A game's name longer than [`MAX_GAME`], or with control characters.
    #[error("the name of a game has at most {MAX_GAME} bytes, and no control characters: shorten it")]
    Game,
    /// A version longer than [`MAX_VERSION`], or with control characters.
    #[error("a version has at most {MAX_VERSION} bytes, and no control characters: shorten it")]
    Version,
    /// A password that is empty or longer than [`MAX_PASSWORD`].
    #[error("a password has 1 to {MAX_PASSWORD} bytes: leave it out, or shorten it")]
    Password,
    /// A ticket that is empty or longer than [`MAX_TICKET`].
    #[error("a ticket has 1 to {MAX_TICKET} bytes: show it as the game's server handed it out, or leave it out")]
    Ticket,
}

impl Metadata {
    /// Those entries.
    ///
    /// # Errors
    /// Too many of them, or one that is too long: see [`TooLong`].
    pub fn new<K: Into<String>, V: Into<String>>(entries: impl IntoIterator<Item = (K, V)>) -> Result<Self, TooLong> {
        let mut metadata = Self::default();
        for (key, value) in entries {
            metadata.set(key, value)?;
        }
        Ok(metadata)
    }

    /// Sets one entry.
    ///
    /// # Errors
    /// Nothing is changed: see [`TooLong`].
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) -> Result<(), TooLong> {
        let (key, value) = (key.into(), value.into());
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
        if key.is_empty() || key.len() > MAX_KEY || !key.bytes().all(plain) {
            return Err(TooLong::Key);
        }
        if !fits(&value, MAX_VALUE) {
            return Err(TooLong::Value);
        }
        if self.0.len() >= MAX_ENTRIES && !self.0.contains_key(&key) {
            return Err(TooLong::Entries);
        }
        let others = self.iter().filter(|(other, _)| *other != key).map(|(key, value)| key.len() + value.len());
        if others.sum::<usize>() + key.len() + value.len() > MAX_METADATA {
            return Err(TooLong::Metadata);
        }
        self.0.insert(key, value);
        Ok(())
    }

    /// Takes one entry away; whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        self.0.remove(key).is_some()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All entries, by their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether every entry of `other` is in here.
    pub fn has_all(&self, other: &Self) -> bool {
        other.iter().all(|(key, value)| self.get(key) == Some(value))
    }
}

impl TryFrom<BTreeMap<String, String>> for Metadata {
    type Error = TooLong;

    fn try_from(entries: BTreeMap<String, String>) -> Result<Self, TooLong> {
        Self::new(entries)
    }
}

impl From<Metadata> for BTreeMap<String, String> {
    fn from(metadata: Metadata) -> Self {
        metadata.0
    }
}

/// What whoever makes a room says about it. Goes into the room's URL, see [`Self::append_to`]. Who joins a room that is
/// there changes nothing by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Whether the room is in the public list. Default no: only who knows its name or code finds it.
    pub public: bool,
    /// The game, at most [`MAX_GAME`] bytes.
    pub game: String,
    /// The version of the game, at most [`MAX_VERSION`] bytes. Compared letter by letter.
    pub version: String,
    /// What else is to be known.
    pub metadata: Metadata,
}

impl Listing {
    /// Whether the names are short enough.
    ///
    /// # Errors
    /// The one that is not.
    pub fn check(&self) -> Result<(), TooLong> {
        if !fits(&self.game, MAX_GAME) {
            return Err(TooLong::Game);
        }
        if !fits(&self.version, MAX_VERSION) {
            return Err(TooLong::Version);
        }
        Ok(())
    }

    /// Adds this to a room's URL.
    pub fn append_to(&self, url: &mut String) {
        if self.public {
            append(url, query::PUBLIC, "1");
        }
        append_if(url, query::GAME, &self.game);
        append_if(url, query::VERSION, &self.version);
        for (key, value) in self.metadata.iter() {
            append(url, &format!("{}{key}", query::META), value);
        }
    }
}

/// The face of a room: what a menu shows, and what its members know of its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lobby {
    /// The room's name, which is the code to join it by.
    pub code: String,
    /// The game; empty if nobody said.
    pub game: String,
    /// The version of the game; empty if nobody said.
    pub version: String,
    /// How many are in it, those included whose connection to signaling is lost and who may still come back.
    pub players: u32,
    /// How many it takes.
    pub max: u32,
    /// Whom its members are connected with.
    pub topology: Topology,
    /// Whether it is in the public list.
    pub public: bool,
    /// Whether nobody else may come in for now.
    pub locked: bool,
    /// Whether a password is needed.
    pub has_password: bool,
    /// What else the game says about it.
    pub metadata: Metadata,
}

/// Which lobbies are wanted. The default is all of them, the full and the locked too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LobbyFilter {
    /// Of this game only.
    pub game: Option<String>,
    /// Of this version only.
    pub version: Option<String>,
    /// With all of these entries only.
    pub metadata: Metadata,
    /// With at least so many free seats. From 1 on, those that are locked are left out too.
    pub free: u32,
}

impl Lobby {
    /// The URL by which this room is entered, or made anew as it is, of a signaling server such as `ws://HOST:PORT`. That
    /// it is locked, and its password, are not in a URL.
    pub fn url(&self, server: &str) -> String {
        let mut url = format!("{}/", server.trim_end_matches('/'));
        encode(&mut url, &self.code);
        append(&mut url, query::TOPOLOGY, name_of(self.topology));
        append(&mut url, query::MAX, &self.max.to_string());
        let Self { public, game, version, metadata, .. } = self.clone();
        Listing { public, game, version, metadata }.append_to(&mut url);
        url
    }
}

impl LobbyFilter {
    /// Whether a lobby is one of those.
    pub fn takes(&self, lobby: &Lobby) -> bool {
        let same = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
        same(&self.game, &lobby.game)
            && same(&self.version, &lobby.version)
            && lobby.metadata.has_all(&self.metadata)
            && (self.free == 0 || !lobby.locked && lobby.max.saturating_sub(lobby.players) >= self.free)
    }
}

/// Asks for a page of the public list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LobbyQuery {
    /// Which lobbies.
    pub filter: LobbyFilter,
    /// Those behind this code: the [`LobbyPage::next`] of the page before. `None` for the first page.
    pub after: Option<String>,
    /// How many at most, 1 to [`MAX_PAGE`]; what is beyond counts as the nearest of these. 0, the default, is [`MAX_PAGE`].
    pub limit: u32,
}

/// A page of the public list, in the order of codes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LobbyPage {
    /// The lobbies.
    pub lobbies: Vec<Lobby>,
    /// What to ask for next; `None` if this was the last page.
    pub next: Option<String>,
}

/// What is new in the public list, for who watches it: at most two a second, each with the newest state of a lobby.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LobbyNews {
    /// Everything said before is void: this is the first news to a filter, or too much happened meanwhile.
    pub reset: bool,
    /// New, or changed.
    pub lobbies: Vec<Lobby>,
    /// Gone, or not of the filter any more, by their codes.
    pub gone: Vec<String>,
}

/// What a leader may do with its room. What is not allowed is answered by
/// [`Denied`](super::ServerMessage::Denied), what is done by [`Room`](super::ServerMessage::Room) to all members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomCommand {
    /// Whether nobody else may come in from now on. Who is in stays, and may come back by its resume token.
    Lock(bool),
    /// Removes a member. Nobody comes in from its address for a while.
    Kick(PeerId),
    /// Other metadata, in place of all there was.
    Metadata(Metadata),
    /// How many the room takes, 1 to what the server allows. Who is in stays, even if they are more.
    Max(u32),
    /// Whether the room is in the public list.
    Public(bool),
    /// These, who prove their ids, may come in though the room is locked; in place of those who were named before, and at
    /// most [`MAX_MATCH`] of them: each once, within 30 s or what the server takes for it, and not after [`Self::Kick`]. They
    /// were in it before the server was started anew, and are not back yet.
    Returning(Vec<PeerId>),
}

/// How it goes with a quick match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchStatus {
    /// How many wait for the same, this peer included, up to [`Self::size`].
    pub waiting: u32,
    /// How many it takes.
    pub size: u32,
}

/// With whom a peer wants to play, whoever that is: those who ask for exactly the same meet, in the order of arrival.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QuickMatch {
    /// The game, at most [`MAX_GAME`] bytes.
    pub game: String,
    /// The version of the game, at most [`MAX_VERSION`] bytes.
    pub version: String,
    /// How many are to play, 2 to [`MAX_MATCH`].
    pub size: u32,
    /// Whom they are to be connected with.
    pub topology: Topology,
}

impl QuickMatch {
    /// The URL to ask at, of a signaling server such as `ws://HOST:PORT`.
    pub fn url(&self, server: &str) -> String {
        let mut url = format!("{}{}", server.trim_end_matches('/'), super::path::MATCH);
        append(&mut url, query::SIZE, &self.size.to_string());
        append(&mut url, query::TOPOLOGY, name_of(self.topology));
        append_if(&mut url, query::GAME, &self.game);
        append_if(&mut url, query::VERSION, &self.version);
        url
    }
}

/// A password, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The password, for whoever says or checks it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Password {
    fn from(password: T) -> Self {
        Self(password.into())
    }
}

impl core::fmt::Debug for Password {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Password(..)")
    }
}

/// A ticket of the game's own server, for signaling servers that let nobody in without one. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket(String);

impl Ticket {
    /// The ticket, for whoever shows or checks it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Ticket {
    fn from(ticket: T) -> Self {
        Self(ticket.into())
    }
}

impl core::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Ticket(..)")
    }
}

fn fits(text: &str, most: usize) -> bool {
    text.len() <= most && !text.chars().any(char::is_control)
}

fn name_of(topology: Topology) -> &'static str {
    match topology {
        Topology::Host => "host",
        Topology::Mesh => "mesh",
    }
}

fn append_if(url: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        append(url, name, value);
    }
}

/// Adds one parameter to a URL (RFC 3986, section 2.1).
fn append(url: &mut String, name: &str, value: &str) {
    url.push(if url.contains('?') { '&' } else { '?' });
    url.push_str(name);
    url.push('=');
    encode(url, value);
}

/// Adds text to a URL, so that it is read as it is.
fn encode(url: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(byte.into());
        } else {
            // Writing to a string cannot fail.
            let _ = write!(url, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lobby() -> Lobby {
        Lobby {
            code: "ABC".into(),
            game: "arena".into(),
            version: "1".into(),
            players: 3,
            max: 4,
            topology: Topology::Mesh,
            public: true,
            locked: false,
            has_password: false,
            metadata: Metadata::new([("map", "hill"), ("mode", "duel")]).expect("short"),
        }
    }

    #[test]
    fn metadata_is_bounded_in_number_and_length() {
        assert_eq!(Metadata::new([("", "x")]), Err(TooLong::Key));
        assert_eq!(Metadata::new([("a b", "x")]), Err(TooLong::Key));
        assert_eq!(Metadata::new([("k".repeat(MAX_KEY + 1), "x")]), Err(TooLong::Key));
        assert_eq!(Metadata::new([("k", "v".repeat(MAX_VALUE + 1))]), Err(TooLong::Value));
        assert_eq!(Metadata::new([("k", "a\nb")]), Err(TooLong::Value));
        let many = |count: usize| Metadata::new((0..count).map(|n| (format!("k{n}"), "v")));
        assert_eq!(Metadata::new((0..8).map(|n| (format!("k{n}"), "v".repeat(MAX_VALUE)))), Err(TooLong::Metadata));
        assert_eq!(many(MAX_ENTRIES + 1), Err(TooLong::Entries));
        let mut full = many(MAX_ENTRIES).expect("as many as may");
        assert_eq!(full.set("k0", "other"), Ok(()), "one that is there can be changed");
        assert_eq!(full.get("k0"), Some("other"));
    }

    #[test]
    fn a_filter_takes_those_that_have_it_all() {
        let takes = |change: fn(&mut LobbyFilter)| {
            let mut filter = LobbyFilter::default();
            change(&mut filter);
            filter.takes(&lobby())
        };
        assert!(takes(|_| ()));
        assert!(takes(|filter| filter.game = Some("arena".into())) && !takes(|filter| filter.game = Some("a".into())));
        assert!(
            takes(|filter| filter.version = Some("1".into())) && !takes(|filter| filter.version = Some("2".into()))
        );
        assert!(takes(|filter| filter.free = 1) && !takes(|filter| filter.free = 2));
        let with = |key, value| LobbyFilter { metadata: Metadata::new([(key, value)]).unwrap(), ..Default::default() };
        assert!(with("map", "hill").takes(&lobby()));
        assert!(!with("map", "lake").takes(&lobby()) && !with("level", "1").takes(&lobby()));
        let locked = Lobby { locked: true, ..lobby() };
        assert!(LobbyFilter::default().takes(&locked) && !LobbyFilter { free: 1, ..Default::default() }.takes(&locked));
    }

    #[test]
    fn urls_say_what_is_wanted() {
        let mut url = "ws://host/?max=4".to_owned();
        let metadata = Metadata::new([("map", "a b&c")]).expect("short");
        Listing { public: true, game: "arena".into(), version: String::new(), metadata }.append_to(&mut url);
        assert_eq!(url, "ws://host/?max=4&public=1&game=arena&meta.map=a%20b%26c");
        let lobby = Lobby { code: "a:b@c".into(), ..lobby() };
        assert_eq!(
            lobby.url("ws://host:1/"),
            "ws://host:1/a%3Ab%40c?topology=mesh&max=4&public=1&game=arena&version=1&meta.map=hill&meta.mode=duel"
        );
        let quick = QuickMatch { game: "arena".into(), version: "0.1".into(), size: 2, topology: Topology::Host };
        assert_eq!(quick.url("ws://host:1/"), "ws://host:1/-/match?size=2&topology=host&game=arena&version=0.1");
    }
}
