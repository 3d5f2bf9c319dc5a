//! What can be chosen just now, and what it is called.

use bevy::prelude::*;
use bevy_coplay::prelude::*;

use super::{Action, FOR_BEGINNERS, Line, Menu, Page};
use crate::chat::peer_name;

/// How many rooms of the list are shown.
const MOST: usize = 8;
/// How many players a leader can have the room take.
const SIZES: [u16; 4] = [2, 4, 8, 16];

pub(super) fn rows(world: &mut World) -> Vec<(String, Action)> {
    let menu = world.resource::<Menu>();
    match menu.page {
        Page::Rooms => rooms(world.resource::<Lobbies>(), menu.beginners),
        Page::Joining => vec![("Cancel".to_owned(), Action::Leave)],
        Page::Room => room(world),
        Page::Typing(..) | Page::Closed => Vec::new(),
    }
}

fn rooms(lobbies: &Lobbies, beginners: bool) -> Vec<(String, Action)> {
    let row = |label: &str, action| (label.to_owned(), action);
    let mut rows = vec![
        row("Quick match for 2", Action::QuickMatch(2)),
        row("Quick match for 3", Action::QuickMatch(3)),
        row("New room", Action::Make(false)),
        row("New public room", Action::Make(true)),
        row("New public room with a password", Action::Type(Line::NewPassword)),
        row("Join by code", Action::Type(Line::Code)),
        match beginners {
            false => row("List rooms for beginners only", Action::Beginners(true)),
            true => row("List all rooms", Action::Beginners(false)),
        },
    ];
    rows.extend(lobbies.iter().take(MOST).map(|lobby| {
        let by = lobby.metadata.get("by").map_or_else(String::new, |name| format!("  by {name}"));
        let password = if lobby.has_password { "  password" } else { "" };
        let beginners = if is_for_beginners(lobby) { "  for beginners" } else { "" };
        let label = format!("Join {}  {}/{} players{by}{password}{beginners}", lobby.code, lobby.players, lobby.max);
        (label, Action::Enter(lobby.code.clone(), lobby.topology))
    }));
    rows
}

fn room(world: &mut World) -> Vec<(String, Action)> {
    let mut peers = world.query::<(&Peer, Option<&Name>)>();
    let mut kicks: Vec<_> = peers.iter(world).map(|(peer, name)| (peer.slot, peer_name(peer, name), peer.id)).collect();
    kicks.sort();
    let room = world.resource::<Room>();
    let mut rows = vec![("Back to the game".to_owned(), Action::Close)];
    if room.is_leader() {
        if let Some(lobby) = room.lobby() {
            let lock = if lobby.locked { "Let others in" } else { "Let nobody else in" };
            let public = if lobby.public { "Take it off the public list" } else { "Put it into the public list" };
            rows.push((lock.to_owned(), Action::Change(ChangeRoom::Lock(!lobby.locked))));
            rows.push((public.to_owned(), Action::Change(ChangeRoom::Public(!lobby.public))));
            rows.push(for_beginners(lobby));
            let size = SIZES.into_iter().find(|size| u32::from(*size) > lobby.max).unwrap_or(SIZES[0]);
            let label = format!("Take {size} players, not {}", lobby.max);
            rows.push((label, Action::Change(ChangeRoom::MaxPlayers(size))));
        }
        rows.extend(kicks.into_iter().map(|(_, name, id)| (format!("Remove {name}"), Action::Kick(id))));
    }
    rows.push(("Leave the room".to_owned(), Action::Leave));
    rows
}

fn is_for_beginners(lobby: &Lobby) -> bool {
    let (key, value) = FOR_BEGINNERS;
    lobby.metadata.get(key) == Some(value)
}

/// Has others told that the room is for beginners, or no more.
fn for_beginners(lobby: &Lobby) -> (String, Action) {
    let (key, value) = FOR_BEGINNERS;
    let mut metadata = lobby.metadata.clone();
    let label = if is_for_beginners(lobby) {
        metadata.remove(key);
        "Do not say that it is for beginners"
    } else {
        // One word more is no news to a room that holds sixteen.
        let _ = metadata.set(key, value);
        "Say that it is for beginners"
    };
    (label.to_owned(), Action::Change(ChangeRoom::Metadata(metadata)))
}
