//! What do others see of a room, and what may its leader change about it?

use std::{net::IpAddr, sync::Arc, time::Duration};

use coplay_proto::{
    PeerId,
    signal::{
        SignalError,
        lobby::{Listing, Lobby, RoomCommand},
    },
};
use tokio::time::Instant;

use super::{door::RoomDoor, group::Group};
use crate::{
    ask::Ask,
    budget::Budget,
    lobby::{Listed, Lobbies},
    turn::Relays,
    wire::malformed,
};

/// How many commands of a leader at once, and how often then: each is told to every member.
const COMMANDS: (u32, Duration) = (32, Duration::from_millis(250));

/// The settings of a room, as its maker and its leaders want them.
#[derive(Debug)]
pub(crate) struct Face {
    code: String,
    listing: Listing,
    /// Of whose share of the public list it is.
    maker: Option<IpAddr>,
    listed: Option<Listed>,
    /// What the public list was told last.
    shown: Option<Lobby>,
    commands: Budget,
}

/// What every command may need.
pub(crate) struct Powers<'a> {
    pub(crate) lobbies: &'a Arc<Lobbies>,
    pub(crate) room_peers: u32,
    /// The embedded TURN server, if there is one.
    pub(crate) relays: Option<&'a Relays>,
    pub(crate) banned_for: Duration,
    /// How long those may take who come back to a locked room.
    pub(crate) returning_for: Duration,
    pub(crate) now: Instant,
}

impl Face {
    pub(crate) fn new(code: String, ask: &Ask, maker: Option<IpAddr>, now: Instant) -> Self {
        let commands = Budget::new(COMMANDS.0, COMMANDS.1, now);
        Self { code, listing: ask.listing.clone(), maker, listed: None, shown: None, commands }
    }

    /// The room as others see it, with so many players.
    pub(crate) fn lobby(&self, group: &Group, door: &RoomDoor, players: usize) -> Lobby {
        let Listing { public, game, version, metadata } = self.listing.clone();
        Lobby {
            code: self.code.clone(),
            game,
            version,
            players: u32::try_from(players).unwrap_or(u32::MAX),
            max: group.capacity(),
            topology: group.topology(),
            public,
            locked: door.locked,
            has_password: door.has_password(),
            metadata,
        }
    }

    /// Brings the public list up to date. Fails if the room has no place in it; it is not public then.
    pub(crate) fn show(
        &mut self,
        group: &Group,
        door: &RoomDoor,
        players: usize,
        lobbies: &Arc<Lobbies>,
    ) -> Result<(), SignalError> {
        if !self.listing.public {
            (self.listed, self.shown) = (None, None);
            return Ok(());
        }
        let lobby = self.lobby(group, door, players);
        if self.shown.as_ref() == Some(&lobby) {
            return Ok(());
        }
        match &self.listed {
            Some(listed) => listed.update(lobby.clone()),
            None => match lobbies.list(self.maker, lobby.clone()) {
                Ok(listed) => self.listed = Some(listed),
                Err(error) => {
                    self.listing.public = false;
                    return Err(error);
                }
            },
        }
        self.shown = Some(lobby);
        Ok(())
    }

    /// Does what a member wants, if it may.
    pub(crate) fn obey(
        &mut self,
        group: &mut Group,
        door: &mut RoomDoor,
        from: PeerId,
        command: RoomCommand,
        powers: &Powers<'_>,
    ) -> Result<(), SignalError> {
        if !group.is_led_by(from) {
            return Err(SignalError::NotLeader);
        }
        if !self.commands.take(powers.now) {
            return Err(SignalError::TooMuch);
        }
        match command {
            RoomCommand::Lock(locked) => door.locked = locked,
            RoomCommand::Returning(peers) => door.expect(peers, powers.now + powers.returning_for),
            RoomCommand::Metadata(metadata) => self.listing.metadata = metadata,
            RoomCommand::Max(max) if (1..=powers.room_peers).contains(&max) => group.set_max(max),
            RoomCommand::Max(_) => {
                return Err(malformed(format!("a room takes 1 to {} peers", powers.room_peers)));
            }
            RoomCommand::Kick(peer) if peer == from => return Err(malformed("to leave a room, close the connection")),
            RoomCommand::Kick(peer) => {
                door.expect_no_more(peer);
                let seconds = u32::try_from(powers.banned_for.as_secs()).unwrap_or(u32::MAX);
                if let Some(address) = group.kick(peer, SignalError::Kicked { seconds }) {
                    tracing::debug!(%peer, from = address.map(tracing::field::display), "a peer is removed by the leader");
                    door.ban(address, powers.now + powers.banned_for);
                    // One that was a member: nobody ends what peers of other rooms relay.
                    if let Some(relays) = powers.relays {
                        relays.revoke(peer);
                    }
                }
            }
            RoomCommand::Public(public) => {
                self.listing.public = public;
                self.show(group, door, group.len(), powers.lobbies)?;
            }
        }
        Ok(())
    }
}
