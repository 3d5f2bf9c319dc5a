//! How does a peer whose seat is gone enter its room anew as who it was, and what does it make of what it finds there?
//!
//! Its links live on meanwhile, and the others know it by the id that it has. With the secret of that id it gets the same one
//! again, from any server of ours. Nobody who is linked with it is dialled anew; who leads restores what the room was.

use std::time::Duration;

use coplay_proto::{
    PeerId, Topology,
    signal::{
        ClientMessage, Leader, SignalError, Welcome,
        lobby::{Credentials, Lobby, RoomCommand},
        query,
    },
};

use super::{
    Output, Signaling, Switchboard,
    handshake::{Handshake, Role},
    relay::Relay,
};
use crate::{Dial, Down, RelayPolicy, RoomEvent, SignalingState, SocketEvent};

/// The longest secret that is kept, in bytes. Ours have 22.
const MAX_SECRET: usize = 64;

/// What is known of the room, to enter it anew.
#[derive(Default)]
pub(super) struct Past {
    /// What proves our id; `None` if nothing does, or it was of no use.
    secret: Option<String>,
    /// The room as it was told last; `None` for those that cannot be entered anew (groups, servers that are not ours).
    lobby: Option<Box<Lobby>>,
    /// Who leads, as signaling says.
    leader: Option<Leader>,
    /// Who led before the room was made anew, as long as there is a link to it and nobody leads since.
    former: Option<Leader>,
}

impl Past {
    /// Of a room that was just entered.
    pub(super) fn of(welcome: &Welcome) -> Self {
        Self {
            secret: welcome.secret.clone().filter(|secret| is_token(secret)),
            lobby: welcome.lobby.clone().filter(|lobby| !lobby.code.is_empty()),
            leader: Some(welcome.leader),
            ..Self::default()
        }
    }

    /// The room's settings changed.
    pub(super) fn told(&mut self, lobby: &Lobby) {
        if let Some(known) = &mut self.lobby {
            **known = lobby.clone();
        }
    }
}

impl Switchboard {
    /// Whether the room can be entered anew as who we are. If so, signaling is dialled with what it takes: see [`Self::dial`].
    pub(super) fn may_reenter(&self) -> bool {
        self.me.is_some() && self.past.secret.is_some() && self.past.lobby.is_some()
    }

    /// What to connect to signaling with. A seat that is there is preferred by the server.
    pub(super) fn dial(&self) -> Dial {
        let lobby = self.past.lobby.as_ref().filter(|_| self.may_reenter());
        let url = lobby.map(|lobby| with_ticket(lobby.url(server_of(&self.config.url)), &self.config.url));
        let leads = url.is_some() && self.past.former.is_none();
        let ours = self.past.leader.filter(|leader| leads && Some(leader.peer) == self.me);
        let credentials = Credentials {
            password: self.config.password.clone(),
            ticket: self.config.ticket.clone(),
            resumable: self.config.resume,
            resume: self.resume.clone(),
            secret: self.past.secret.clone().filter(|_| url.is_some()),
            led: ours.map(|leader| leader.term),
            relays: self.config.relay != RelayPolicy::Never,
        };
        Dial { dialect: self.dialer.dialect(), url, credentials }
    }

    /// We are in the room again, by our id.
    pub(super) fn reentered(&mut self, now: Duration, welcome: Welcome) {
        tracing::debug!(room = welcome.room, leader = %welcome.leader.peer, "in the room again, as who we were");
        self.ice_servers = self.config.ice_servers.iter().cloned().chain(welcome.ice_servers).collect();
        self.resume = welcome.resume;
        self.room = welcome.room.as_str().into();
        self.connected(now);
        self.offered(now, welcome.relay);
        self.event(SocketEvent::Room(RoomEvent::Resumed));

        let known = self.past.former.or(self.past.leader);
        self.past.former = known.filter(|known| Some(known.peer) != self.me && self.is_linked(known.peer));
        self.led_by(welcome.leader);

        self.met.clear();
        // Who came before us was told of us, and offers if it has no link.
        let before: Vec<PeerId> =
            welcome.members.iter().copied().take_while(|member| Some(*member) != self.me).collect();
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            let (linked, is_before) = (self.is_linked(peer), before.contains(&peer));
            let Some(handshake) = self.peers.get_mut(&peer) else { continue };
            let ours = handshake.role == Role::Offers;
            if is_before {
                handshake.role = Role::Answers;
                handshake.retry_at = None;
            }
            if !linked && (ours || !is_before) {
                // What was said to each other is lost, and one of the two begins anew.
                self.forget(peer, None);
            }
        }
        self.mend_again(now);
        let Some(lobby) = welcome.lobby else { return };
        let was = self.past.lobby.replace(lobby.clone());
        self.event(SocketEvent::Room(RoomEvent::Settings(lobby.clone())));
        if let Some(was) = was.filter(|_| Some(welcome.leader.peer) == self.me) {
            self.restore(*was, &lobby, &welcome.members);
        }
    }

    /// Makes the room what it was, as its leader may.
    fn restore(&mut self, was: Lobby, is: &Lobby, members: &[PeerId]) {
        let mut commands = Vec::new();
        if was.locked {
            // Before it is locked, so that nobody of them finds it so.
            let linked = self.peers.keys().copied().filter(|peer| self.is_linked(*peer) && !members.contains(peer));
            let returning: Vec<PeerId> = linked.collect();
            commands.extend((!returning.is_empty()).then_some(RoomCommand::Returning(returning)));
            commands.extend((!is.locked).then_some(RoomCommand::Lock(true)));
        }
        commands.extend((was.max != is.max).then_some(RoomCommand::Max(was.max)));
        commands.extend((was.public != is.public).then_some(RoomCommand::Public(was.public)));
        commands.extend((was.metadata != is.metadata).then(|| RoomCommand::Metadata(was.metadata.clone())));
        self.past.told(&was);
        self.out.extend(commands.into_iter().map(|command| Output::Send(ClientMessage::Room(command))));
    }

    /// Signaling says who leads. While there is a link to who led before the room was made anew, nobody leads whom the new
    /// room has only because it came first.
    pub(super) fn led_by(&mut self, leader: Leader) {
        self.past.leader = Some(leader);
        self.past.former = self.past.former.filter(|former| former.peer != leader.peer && former.term >= leader.term);
        if self.past.former.is_none() {
            self.event(SocketEvent::Leader(leader));
        }
    }

    /// Whether we are in a host room, and linked with who hosts it, though signaling names another. Nobody else is to be
    /// connected with us then.
    pub(super) fn is_led_by_former(&self) -> bool {
        let host = self.past.lobby.as_ref().is_some_and(|lobby| lobby.topology == Topology::Host);
        host && self.past.former.is_some()
    }

    /// The link to a peer is over.
    pub(super) fn unfollow(&mut self, peer: PeerId) {
        if self.past.former.is_none_or(|former| former.peer != peer) {
            return;
        }
        let owed = self.is_led_by_former();
        self.past.former = None;
        let Some(leader) = self.past.leader else { return };
        self.event(SocketEvent::Leader(leader));
        if owed && Some(leader.peer) == self.me && self.is_up() {
            for peer in self.met.clone() {
                if !self.peers.contains_key(&peer) {
                    self.new_peer(self.now, peer);
                }
            }
        }
    }

    /// Signaling has another id for us. Who is linked with us knows us by ours: we stay who we are, without signaling.
    pub(super) fn renamed(&mut self, now: Duration) {
        let reason = "it has another id for this player now: the connections that are open go on without it";
        tracing::warn!("signaling was started anew, and {reason}");
        (self.past, self.resume) = (Past::default(), None);
        self.out.push_back(Output::HangUp);
        self.signaling = Signaling::Down { again: now };
        self.close_relays("signaling does not know us any more");
        self.event(SocketEvent::Signaling(SignalingState::Lost { reason: reason.into() }));
    }

    /// Signaling does not let us in again, while others are linked with us. What may pass is waited for.
    pub(super) fn kept_out(&mut self, error: &SignalError) -> Down {
        let passes = matches!(
            error,
            SignalError::RoomFull { .. }
                | SignalError::RoomLocked
                | SignalError::TooMuch
                | SignalError::TooManyAttempts { .. }
                | SignalError::ServerFull
                | SignalError::Stopping
        );
        if !passes {
            (self.past, self.resume) = (Past::default(), None);
        }
        Down::Lost(error.to_string())
    }

    /// Whether the peer was handed out as open, and is that still.
    pub(super) fn is_linked(&self, peer: PeerId) -> bool {
        let linked = self.peers.get(&peer).is_some_and(Handshake::is_linked);
        linked || self.live(peer).is_some_and(Relay::is_open)
    }
}

/// Whether this can be offered as a subprotocol, by which browsers and servers set bounds.
fn is_token(secret: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_".contains(&c);
    (1..=MAX_SECRET).contains(&secret.len()) && secret.bytes().all(plain)
}

/// The scheme and the host of a URL.
fn server_of(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(host..).and_then(|rest| rest.find(['/', '?', '#'])).map_or(url.len(), |end| host + end);
    url.get(..end).unwrap_or(url)
}

/// `url` with the ticket that `entered` has.
fn with_ticket(url: String, entered: &str) -> String {
    let query = entered.split_once('?').map_or("", |(_, query)| query);
    let mut parameters = query.split('#').next().unwrap_or_default().split('&');
    let is_ticket = |parameter: &&str| parameter.split_once('=').is_some_and(|(name, _)| name == query::TICKET);
    // A URL of a room has a query.
    parameters.rfind(is_ticket).map_or_else(|| url.clone(), |ticket| format!("{url}&{ticket}"))
}
