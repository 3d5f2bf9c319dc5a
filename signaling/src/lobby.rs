//! Which rooms are in the public list, and what has changed in it since somebody looked?
//!
//! The index is a map under a lock that is held for look-ups, and for 256 entries at a time by who looks for some. A room writes its own entry, by the [`Listed`] that it
//! holds, and the entry is gone when that is dropped. Who watches keeps the number of the change up to which it was
//! told, so that the index knows nothing of watchers, however slow or many.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use coplay_proto::signal::{
    SignalError,
    lobby::{Lobby, LobbyFilter, LobbyNews, LobbyPage, LobbyQuery, MAX_PAGE, MAX_WATCHED},
};
use tokio::sync::watch;

use crate::shares::{PerAddress, Share};

pub(crate) mod browse;

/// How many lobbies are looked at in one go. Rooms that change theirs wait meanwhile.
const LOOK: usize = 256;
/// How many that are gone are remembered. Who was not told by then is told everything anew.
const GONE: usize = 1024;

/// The public list.
#[derive(Debug)]
pub(crate) struct Lobbies {
    most: usize,
    owners: Arc<PerAddress>,
    index: Mutex<Index>,
    /// The number of the last change.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Index {
    change: u64,
    lobbies: BTreeMap<String, Entry>,
    /// Each lobby once, by the number of its last change.
    changes: BTreeMap<u64, String>,
    gone: VecDeque<(u64, String)>,
    /// Of those that went with this change or before, some are not in `gone` any more.
    forgotten: u64,
}

#[derive(Debug)]
struct Entry {
    lobby: Arc<Lobby>,
    change: u64,
}

/// A room's entry, for as long as this is there.
#[derive(Debug)]
pub(crate) struct Listed {
    lobbies: Arc<Lobbies>,
    code: String,
    _share: Share,
}

impl Lobbies {
    /// At most so many lobbies, and so many of one address.
    pub(crate) fn new(most: u32, per_address: u32) -> Arc<Self> {
        Arc::new(Self {
            most: most as usize,
            owners: PerAddress::new(per_address),
            index: Mutex::default(),
            changed: watch::Sender::new(0),
        })
    }

    /// Puts a lobby into the list, for whoever made its room.
    pub(crate) fn list(self: &Arc<Self>, owner: Option<IpAddr>, lobby: Lobby) -> Result<Listed, SignalError> {
        let share = self.owners.take(owner).ok_or(SignalError::TooMuch)?;
        let code = lobby.code.clone();
        let change = {
            let mut index = self.lock();
            if index.lobbies.len() >= self.most {
                return Err(SignalError::ServerFull);
            }
            index.set(lobby)
        };
        self.changed.send_replace(change);
        Ok(Listed { lobbies: self.clone(), code, _share: share })
    }

    /// A page of those that a filter takes.
    pub(crate) fn page(&self, query: &LobbyQuery) -> LobbyPage {
        let limit = if query.limit == 0 { MAX_PAGE } else { query.limit.min(MAX_PAGE) };
        let (lobbies, more) = self.matching(&query.filter, query.after.as_deref(), limit as usize);
        let next = lobbies.last().filter(|_| more).map(|lobby| lobby.code.clone());
        LobbyPage { lobbies: lobbies.iter().map(|lobby| (**lobby).clone()).collect(), next }
    }

    /// So many of those that a filter takes, behind a code; and whether there are more. What changes meanwhile is in it or
    /// not.
    fn matching(&self, filter: &LobbyFilter, after: Option<&str>, most: usize) -> (Vec<Arc<Lobby>>, bool) {
        let mut lobbies = Vec::new();
        let mut after = after.map(str::to_owned);
        loop {
            let index = self.lock();
            let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut looked_at = 0;
            let mut last = None;
            for (code, Entry { lobby, .. }) in index.lobbies.range::<str, _>((from, Bound::Unbounded)).take(LOOK) {
                if filter.takes(lobby) {
                    if lobbies.len() >= most {
                        return (lobbies, true);
                    }
                    lobbies.push(lobby.clone());
                }
                looked_at += 1;
                last = Some(code);
            }
            if looked_at < LOOK {
                return (lobbies, false);
            }
            after = last.cloned();
        }
    }

    /// Comes with each change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let index = self.lock();
        index.lobbies.is_empty() && index.changes.is_empty() && self.owners.is_empty()
    }

    /// Held for a look-up, or for [`LOOK`] of them. Nothing in here panics; if it did, the index would still be whole enough.
    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    /// Another state of the lobby.
    pub(crate) fn update(&self, lobby: Lobby) {
        let change = self.lobbies.lock().set(lobby);
        self.lobbies.changed.send_replace(change);
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let change = self.lobbies.lock().remove(&self.code);
        self.lobbies.changed.send_replace(change);
    }
}

impl Index {
    fn set(&mut self, lobby: Lobby) -> u64 {
        self.change += 1;
        let code = lobby.code.clone();
        let entry = Entry { lobby: Arc::new(lobby), change: self.change };
        if let Some(old) = self.lobbies.insert(code.clone(), entry) {
            self.changes.remove(&old.change);
        }
        self.changes.insert(self.change, code);
        self.change
    }

    fn remove(&mut self, code: &str) -> u64 {
        if let Some(old) = self.lobbies.remove(code) {
            self.change += 1;
            self.changes.remove(&old.change);
            self.gone.push_back((self.change, code.to_owned()));
            if self.gone.len() > GONE
                && let Some((change, _)) = self.gone.pop_front()
            {
                self.forgotten = change;
            }
        }
        self.change
    }
}

/// What somebody wants to know of the list, and was told.
#[derive(Debug)]
pub(crate) struct Watcher {
    filter: LobbyFilter,
    told: BTreeSet<String>,
    /// The last change that was looked at; `None` before the first look.
    seen: Option<u64>,
    /// There are lobbies of the filter that were not told, because there are too many.
    more: bool,
}

impl Watcher {
    pub(crate) fn new(filter: LobbyFilter) -> Self {
        Self { filter, told: BTreeSet::new(), seen: None, more: false }
    }

    /// What to tell now, in messages of a bounded size.
    pub(crate) fn news(&mut self, lobbies: &Lobbies) -> Vec<LobbyNews> {
        let index = lobbies.lock();
        match self.seen.filter(|seen| *seen >= index.forgotten).and_then(|seen| self.changes(&index, seen)) {
            Some(news) => split(news),
            None => {
                // What changes while it looks is told again next time.
                self.seen = Some(index.change);
                drop(index);
                let (all, more) = lobbies.matching(&self.filter, None, MAX_WATCHED);
                self.more = more;
                self.told = all.iter().map(|lobby| lobby.code.clone()).collect();
                let lobbies = all.iter().map(|lobby| (**lobby).clone()).collect();
                split(LobbyNews { reset: true, lobbies, gone: Vec::new() })
            }
        }
    }

    /// What is new since a change; `None` if everything is to be told anew.
    fn changes(&mut self, index: &Index, seen: u64) -> Option<LobbyNews> {
        let mut news = LobbyNews::default();
        let gone = index.gone.iter().rev().take_while(|(change, _)| *change > seen);
        // One that went may be there again by the same name.
        for (_, code) in gone.filter(|(_, code)| !index.lobbies.contains_key(code)) {
            if self.told.remove(code) {
                news.gone.push(code.clone());
            }
        }
        for (_, code) in index.changes.range((Bound::Excluded(seen), Bound::Unbounded)) {
            let Some(lobby) = index.lobbies.get(code).map(|entry| &entry.lobby) else { continue };
            if !self.filter.takes(lobby) {
                if self.told.remove(code) {
                    news.gone.push(code.clone());
                }
            } else if self.told.contains(code) || self.told.len() < MAX_WATCHED {
                self.told.insert(code.clone());
                news.lobbies.push((**lobby).clone());
            } else {
                self.more = true;
            }
        }
        self.seen = Some(index.change);
        // Others may have their place.
        (news.gone.is_empty() || !self.more).then_some(news)
    }
}

/// In messages that have at most [`MAX_PAGE`] lobbies, or none if there is nothing to tell.
fn split(news: LobbyNews) -> Vec<LobbyNews> {
    let LobbyNews { mut reset, lobbies, gone } = news;
    let mut messages = Vec::new();
    if !gone.is_empty() || lobbies.is_empty() && reset {
        messages.push(LobbyNews { reset: std::mem::take(&mut reset), lobbies: Vec::new(), gone });
    }
    for some in lobbies.chunks(MAX_PAGE as usize) {
        messages.push(LobbyNews { reset: std::mem::take(&mut reset), lobbies: some.to_vec(), gone: Vec::new() });
    }
    messages
}

#[cfg(test)]
mod tests;
