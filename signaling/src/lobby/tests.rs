//! Is a watcher's picture the list, is a lobby told of no more than once a look, and is nothing left?

use std::collections::BTreeMap;

use coplay_proto::{Topology, signal::lobby::Metadata};
use proptest::prelude::*;

use super::*;

fn lobby(code: &str, players: u32) -> Lobby {
    Lobby {
        code: code.into(),
        game: "arena".into(),
        version: "1".into(),
        players,
        max: 4,
        topology: Topology::Mesh,
        public: true,
        locked: false,
        has_password: false,
        metadata: Metadata::default(),
    }
}

/// What somebody sees who believes the news.
#[derive(Default)]
struct Picture(BTreeMap<String, Lobby>);

impl Picture {
    /// Returns how many lobbies the news were about.
    fn take(&mut self, news: Vec<LobbyNews>) -> usize {
        let mut told = 0;
        for LobbyNews { reset, lobbies, gone } in news {
            assert!(lobbies.len() <= MAX_PAGE as usize);
            told += lobbies.len() + gone.len();
            if reset {
                self.0.clear();
            }
            for code in gone {
                self.0.remove(&code);
            }
            self.0.extend(lobbies.into_iter().map(|lobby| (lobby.code.clone(), lobby)));
        }
        told
    }
}

fn names(page: &LobbyPage) -> Vec<&str> {
    page.lobbies.iter().map(|lobby| lobby.code.as_str()).collect()
}

#[test]
fn a_long_list_is_looked_through_in_pieces_and_nothing_is_left_out() {
    let count = 3 * LOOK as u32;
    let lobbies = Lobbies::new(count, 1000);
    let all: Vec<_> = (0..count).map(|n| lobbies.list(None, lobby(&format!("R{n:04}"), n % 5)).unwrap()).collect();
    let changed = [0, 1, LOOK - 1, LOOK, LOOK + 1, 2 * LOOK, 3 * LOOK - 1];
    for at in changed {
        let only = Lobby { game: "go".into(), ..lobby(&format!("R{at:04}"), 0) };
        all[at].update(only.clone());
        let filter = LobbyFilter { game: Some("go".into()), ..LobbyFilter::default() };
        let page = lobbies.page(&LobbyQuery { filter: filter.clone(), ..LobbyQuery::default() });
        assert_eq!((&page.lobbies[..], page.next), (&[only.clone()][..], None), "{at}");
        assert_eq!(Picture::default().take(Watcher::new(filter).news(&lobbies)), 1);
        all[at].update(lobby(&only.code, 0));
    }
    let filter = LobbyFilter { free: 1, ..LobbyFilter::default() };
    let (found, more) = lobbies.matching(&filter, None, count as usize);
    let expected: Vec<_> =
        (0..count).filter(|n| n % 5 < 4 || changed.contains(&(*n as usize))).map(|n| format!("R{n:04}")).collect();
    assert!(!more && found.iter().map(|lobby| lobby.code.clone()).eq(expected));
    let (found, more) = lobbies.matching(&LobbyFilter::default(), Some("R0255"), 1);
    assert!(found[0].code == "R0256" && more);
}

#[test]
fn the_list_comes_in_pages_and_ends() {
    let lobbies = Lobbies::new(1000, 1000);
    let _listed: Vec<_> = (0..120).map(|n| lobbies.list(None, lobby(&format!("R{n:03}"), n % 5)).unwrap()).collect();
    let mut query = LobbyQuery { limit: 7, ..LobbyQuery::default() };
    query.filter.free = 1;
    let mut seen = Vec::new();
    loop {
        let page = lobbies.page(&query);
        assert!(page.lobbies.len() <= 7);
        seen.extend(names(&page).into_iter().map(str::to_owned));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    let expected: Vec<_> = (0..120).filter(|n| n % 5 < 4).map(|n| format!("R{n:03}")).collect();
    assert_eq!(seen, expected, "those with a free seat, each once");
    for limit in [0, 1000] {
        let page = lobbies.page(&LobbyQuery { limit, ..LobbyQuery::default() });
        assert_eq!((page.lobbies.len(), page.next.as_deref()), (50, Some("R049")), "as many as fit into a page");
    }
}

#[test]
fn a_watcher_is_told_of_changes_once_and_of_nothing_else() {
    let lobbies = Lobbies::new(1000, 1000);
    let a = lobbies.list(None, lobby("A", 1)).unwrap();
    let filter = LobbyFilter { free: 1, ..LobbyFilter::default() };
    let (mut watcher, mut picture) = (Watcher::new(filter), Picture::default());
    assert_eq!(picture.take(watcher.news(&lobbies)), 1);
    assert_eq!(watcher.news(&lobbies), [], "nothing new");
    for players in 1..4 {
        a.update(lobby("A", players));
    }
    let b = lobbies.list(None, lobby("B", 1)).unwrap();
    let news = watcher.news(&lobbies);
    let expected = LobbyNews { reset: false, lobbies: vec![lobby("A", 3), lobby("B", 1)], gone: Vec::new() };
    assert_eq!(news, [expected], "the newest state alone");
    a.update(lobby("A", 4));
    drop(b);
    let [LobbyNews { reset: false, gone, .. }] = &watcher.news(&lobbies)[..] else { panic!("one message") };
    assert_eq!(gone.iter().collect::<BTreeSet<_>>().len(), 2, "full, and gone: {gone:?}");
    a.update(lobby("A", 2));
    assert_eq!(watcher.news(&lobbies)[0].lobbies, [lobby("A", 2)], "there is a seat again");
    let nothing = &Watcher::new(LobbyFilter { game: Some("x".into()), ..LobbyFilter::default() }).news(&lobbies)[0];
    assert!(nothing.reset && nothing.lobbies.is_empty(), "an empty list is told too");
}

#[test]
fn who_was_not_told_for_long_is_told_everything_anew() {
    let lobbies = Lobbies::new(10_000, 10_000);
    let mut watcher = Watcher::new(LobbyFilter::default());
    let first = lobbies.list(None, lobby("FIRST", 1)).unwrap();
    watcher.news(&lobbies);
    drop(first);
    for n in 0..2 * GONE {
        drop(lobbies.list(None, lobby(&format!("{n}"), 1)).unwrap());
    }
    assert_eq!(watcher.news(&lobbies), [LobbyNews { reset: true, ..LobbyNews::default() }]);
    assert_eq!(lobbies.lock().gone.len(), GONE);
}

#[test]
fn the_list_is_bounded_in_all_and_by_address() {
    let lobbies = Lobbies::new(3, 2);
    let list = |code: &str, owner: &str| lobbies.list(Some(owner.parse().unwrap()), lobby(code, 1));
    let (a, b) = (list("A", "192.0.2.1").unwrap(), list("B", "192.0.2.1").unwrap());
    assert_eq!(list("C", "192.0.2.1").err(), Some(SignalError::TooMuch));
    let c = list("C", "192.0.2.2").unwrap();
    assert_eq!(list("D", "192.0.2.3").err(), Some(SignalError::ServerFull));
    drop(a);
    let d = list("D", "192.0.2.1").unwrap();
    drop((b, c, d));
    assert!(lobbies.is_empty());
}

proptest! {
    /// Lobbies come, change and go at random: whoever looks now and then sees the list as it is, up to as many as are told.
    #[test]
    fn pictures_are_the_list(steps in prop::collection::vec((0..300_usize, 0..6_u32, 0..10_u8), 1..600)) {
        let lobbies = Lobbies::new(1000, 1000);
        let filter = LobbyFilter { free: 1, ..LobbyFilter::default() };
        let (mut watcher, mut picture) = (Watcher::new(filter.clone()), Picture::default());
        let mut listed: BTreeMap<String, Listed> = BTreeMap::new();
        for (code, players, look) in steps {
            let code = format!("{code:03}");
            match listed.get(&code) {
                Some(_) if players == 5 => drop(listed.remove(&code)),
                Some(entry) => entry.update(lobby(&code, players)),
                None => drop(listed.insert(code.clone(), lobbies.list(None, lobby(&code, players)).unwrap())),
            }
            if look > 0 {
                continue;
            }
            picture.take(watcher.news(&lobbies));
            let (all, more) = lobbies.matching(&filter, None, usize::MAX);
            prop_assert!(!more);
            for (code, seen) in &picture.0 {
                prop_assert!(all.iter().any(|lobby| lobby.code == *code && **lobby == *seen), "{code} is not so");
            }
            prop_assert_eq!(picture.0.len(), all.len().min(MAX_WATCHED));
        }
        listed.clear();
        picture.take(watcher.news(&lobbies));
        prop_assert!(picture.0.is_empty() && lobbies.is_empty());
    }
}
