//! How does a peer get into a room? What is asked for, by whom to meet the others, and the start of the session.

use std::{fmt, net::IpAddr, ops::RangeInclusive, sync::Arc};

use bevy_app::App;
use bevy_ecs::{event::Event, observer::On, resource::Resource, system::Commands, world::World};
use coplay_proto::{
    Topology,
    link::LinkConfig,
    session::{Session, SessionConfig},
    signal::{
        IceServer,
        lobby::{Listing, Lobby, MAX_PASSWORD, MAX_TICKET, Password, QuickMatch, Ticket, TooLong},
        query,
    },
};
use coplay_socket::{IceTransportPolicy, Network, NetworkConfig, RelayPolicy, Socket, SocketConfig};

use crate::{
    blob_policy::BlobPolicy,
    blobs::Blobs,
    conditions::Applied,
    net::{Clock, Links, Net},
    registry,
    relay::Relay,
    room::{self, Room, RoomError, RoomState},
};

/// Ticks a second, unless the plugin is told otherwise.
pub(crate) const TICK_RATE: u16 = 60;

/// Joins a room, and leaves the present one first. Trigger it: `commands.trigger(JoinRoom::room("attic").host())`.
///
/// [`RoomState`] becomes `Joining` at once, then `Joined`; or `Offline` again, and [`RoomFailed`](crate::RoomFailed)
/// says why.
#[derive(Event, Clone, Debug)]
pub struct JoinRoom {
    way: Way,
    topology: Topology,
    signaling: Option<String>,
    existing: bool,
    max_players: Option<u16>,
    listing: Listing,
    /// What of the above cannot be said.
    mistake: Option<TooLong>,
    socket: SocketConfig,
    connect: Option<Connect>,
}

impl JoinRoom {
    /// The room of this name, which is made if it is not there. A name is a code to join by, and the other way round.
    ///
    /// A name has 1 to 64 bytes of `A-Z a-z 0-9 - _ . ~ : @ +`; capitals and small letters differ. With another one,
    /// which a player may have typed, the present room is left as with any, and [`RoomFailed`](crate::RoomFailed) tells
    /// what is allowed ([`RoomError::Name`], N0009).
    pub fn room(name: impl Into<String>) -> Self {
        Self { way: Way::Room(name.into()), ..Self::new_room() }
    }

    /// A new room with a short code: [`Room::code`].
    pub fn new_room() -> Self {
        Self {
            way: Way::NewRoom,
            topology: Topology::Mesh,
            signaling: None,
            existing: false,
            max_players: None,
            listing: Listing::default(),
            mistake: None,
            socket: SocketConfig::default(),
            connect: None,
        }
    }

    /// A new room with so many players, 2 to 64, whoever they are: those who ask for as many, of the same
    /// [game](Self::game), [version](Self::version) and topology, meet in the order in which they asked.
    ///
    /// Until there are enough, [`RoomState`] is `Joining`, and [`MatchWaiting`](crate::MatchWaiting) says how many wait;
    /// [`LeaveRoom`] waits no more. It needs `coplay-signaling`: a `matchbox_server` knows no such thing.
    ///
    /// `Joined` does not say that all of them are there: one may leave just as the match is made. Its seat goes to the next
    /// who asks for the same, until some time after the others began to play. So a game may see `Joined` with fewer players
    /// than it asked for, and [`PeerJoined`](crate::PeerJoined) later, and waits with its start for as many as it needs.
    pub fn quick_match(players: u16) -> Self {
        Self { way: Way::QuickMatch(players), ..Self::new_room() }
    }

    /// Every peer owns what it spawns, and is connected with every other. The default.
    #[must_use]
    pub fn mesh(mut self) -> Self {
        self.topology = Topology::Mesh;
        self
    }

    /// The first peer in the room is its host: all others are connected with it, and it decides.
    #[must_use]
    pub fn host(mut self) -> Self {
        self.topology = Topology::Host;
        self
    }

    /// The signaling server: `ws://` or `wss://`, host and port. Default: on native the environment variable
    /// `COPLAY_SIGNALING`, else `ws://127.0.0.1:3536`; in the browser `?signaling=` of the page's URL, else the host that
    /// the page is from.
    ///
    /// Without a path or a query: where the server asks for tickets, see [`Self::ticket`].
    #[must_use]
    pub fn signaling(mut self, url: impl Into<String>) -> Self {
        self.signaling = Some(url.into());
        self
    }

    /// Joins the room only if it is there: for a code that a person typed.
    #[must_use]
    pub fn existing(mut self) -> Self {
        self.existing = true;
        self
    }

    /// The most players that the room takes, this one included; whoever makes the room decides. Default: 16 in a mesh,
    /// 64 under a host.
    #[must_use]
    pub fn max_players(mut self, players: u16) -> Self {
        self.max_players = Some(players);
        self
    }

    /// Puts the room, if this peer makes it, into the public list: [`WatchLobbies`](crate::WatchLobbies).
    #[must_use]
    pub fn public(mut self) -> Self {
        self.listing.public = true;
        self
    }

    /// The game's name, at most 64 bytes: what the public list is filtered by, and quick matches are made by. One
    /// signaling server may serve many games. Default empty.
    #[must_use]
    pub fn game(mut self, name: impl Into<String>) -> Self {
        self.listing.game = name.into();
        self
    }

    /// The game's version, at most 32 bytes, compared letter by letter. Default empty.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.listing.version = version.into();
        self
    }

    /// Something else that a menu is to know of the room, if this peer makes it, such as `("map", "canyon")`. At most 16
    /// keys of 1 to 32 of `A-Z a-z 0-9 - _ .`, values of at most 128 bytes, 1 KiB in all; more, and
    /// [`RoomFailed`](crate::RoomFailed) says what is too long (N0012). [`ChangeRoom`](crate::ChangeRoom) changes it.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        if let Err(mistake) = self.listing.metadata.set(key, value) {
            self.mistake.get_or_insert(mistake);
        }
        self
    }

    /// The password of the room, at most 128 bytes: asked of everyone who joins, and set by whoever makes it. Without the
    /// right one [`RoomFailed`](crate::RoomFailed) says `PasswordNeeded`, `WrongPassword` or `TooManyAttempts`
    /// ([`SignalError`](crate::SignalError)).
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.socket.password = Some(Password::from(password));
        self
    }

    /// A ticket of the game's own server, at most 128 bytes, where the signaling server lets nobody in without one
    /// (`--ticket-secret-file`): the game logs in to its server, and gets the ticket from there. Default none. Without a
    /// good one [`RoomFailed`](crate::RoomFailed) says `TicketRefused` ([`SignalError`](crate::SignalError)). A
    /// [quick match](Self::quick_match) and a [new room](Self::new_room) take one for any room.
    #[must_use]
    pub fn ticket(mut self, ticket: impl Into<String>) -> Self {
        self.socket.ticket = Some(Ticket::from(ticket));
        self
    }

    /// Whether peers may be connected by the signaling server where WebRTC does not connect them. Default: they may.
    #[must_use]
    pub fn relay(mut self, policy: RelayPolicy) -> Self {
        self.socket.relay = policy;
        self
    }

    /// The UDP ports to connect by, on native: the first that is free is that of all peers, so `5000..=5000` is enough, and
    /// a host behind a firewall needs one rule. More are for several games on one machine. Default any, other ones for each
    /// peer.
    #[must_use]
    pub fn udp_ports(mut self, ports: RangeInclusive<u16>) -> Self {
        self.socket.udp_ports = Some(ports);
        self
    }

    /// The addresses that the internet has for this machine, on native, where a router or a cloud forwards them:
    /// peers are told of them. Default none.
    #[must_use]
    pub fn external_ips(mut self, ips: impl IntoIterator<Item = IpAddr>) -> Self {
        self.socket.external_ips = ips.into_iter().collect();
        self
    }

    /// Another STUN or TURN server, besides those that the signaling server names.
    #[must_use]
    pub fn ice_server(mut self, server: IceServer) -> Self {
        self.socket.ice_servers.push(server);
        self
    }

    /// Whether peers may learn each other's addresses. Default: they do.
    #[must_use]
    pub fn ice_transport_policy(mut self, policy: IceTransportPolicy) -> Self {
        self.socket.ice_transport_policy = policy;
        self
    }

    /// Has `matchbox_socket` make the connections. It is the same to the game and to other peers, whatever they connect by;
    /// `docs/MATCHBOX.md` has what it cannot do. With the cargo feature `matchbox`.
    #[cfg(feature = "matchbox")]
    #[must_use]
    pub fn matchbox(mut self) -> Self {
        self.socket.transport = coplay_socket::Transport::Matchbox;
        self
    }

    /// Connects by this socket instead of WebRTC. It is given the room's URL, of the form of
    /// [`coplay_proto::signal`].
    #[must_use]
    pub fn socket(mut self, connect: impl Fn(&str) -> Box<dyn Socket> + Send + Sync + 'static) -> Self {
        self.connect = Some(Connect { socket: Arc::new(connect), inline: false });
        self
    }

    /// As [`Self::socket`], but driven by the app's own time.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn inline(mut self, connect: impl Fn(&str) -> Box<dyn Socket> + Send + Sync + 'static) -> Self {
        self.connect = Some(Connect { socket: Arc::new(connect), inline: true });
        self
    }

    fn url(&self) -> String {
        let (server, topology) = (self.server(), self.topology);
        let Listing { public, game, version, metadata } = self.listing.clone();
        if let Way::QuickMatch(players) = self.way {
            return QuickMatch { game, version, size: players.into(), topology }.url(&server);
        }
        let room = Lobby {
            code: self.name().to_owned(),
            game,
            version,
            players: 0,
            // What the session goes by as well, so that signaling turns away whom the session would.
            max: self.players().into(),
            topology,
            public,
            locked: false,
            has_password: false,
            metadata,
        };
        let mut url = room.url(&server);
        if self.existing {
            url.push_str(&format!("&{}=1", query::EXISTING));
        }
        url
    }

    /// The signaling server.
    fn server(&self) -> String {
        self.signaling.clone().unwrap_or_else(coplay_socket::default_signaling_url)
    }

    /// How many players the room takes.
    fn players(&self) -> u16 {
        let default = SessionConfig::default_max_players(self.topology);
        match self.way {
            Way::QuickMatch(players) => players,
            _ => self.max_players.unwrap_or(default),
        }
    }

    /// The room's name, if it is known.
    fn name(&self) -> &str {
        match &self.way {
            Way::Room(name) => name,
            Way::NewRoom | Way::QuickMatch(_) => "",
        }
    }

    /// Whether all of it can be said.
    fn check(&self) -> Result<(), RoomError> {
        if let Way::Room(name) = &self.way {
            room::check_name(name)?;
        }
        let password = self.socket.password.as_ref().map(Password::expose);
        let ticket = self.socket.ticket.as_ref().map(Ticket::expose);
        match self.mistake {
            Some(mistake) => Err(mistake.into()),
            None if password.is_some_and(|password| !(1..=MAX_PASSWORD).contains(&password.len())) => {
                Err(TooLong::Password.into())
            }
            None if ticket.is_some_and(|ticket| !(1..=MAX_TICKET).contains(&ticket.len())) => {
                Err(TooLong::Ticket.into())
            }
            None => Ok(self.listing.check()?),
        }
    }
}

/// Which room is meant.
#[derive(Clone, Debug)]
enum Way {
    Room(String),
    NewRoom,
    QuickMatch(u16),
}

/// Leaves the room. Trigger it: `commands.trigger(LeaveRoom)`.
///
/// What other peers own is despawned, what is owned here stays, and the game goes on offline.
#[derive(Event, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaveRoom;

/// What makes the socket, if it is not to be WebRTC.
#[derive(Clone)]
struct Connect {
    socket: Arc<dyn Fn(&str) -> Box<dyn Socket> + Send + Sync>,
    inline: bool,
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect").field("inline", &self.inline).finish_non_exhaustive()
    }
}

/// Ticks a second of every room that is joined.
#[derive(Resource, Debug)]
pub(crate) struct TickRate(pub(crate) u16);

pub(crate) fn plugin(app: &mut App) {
    app.add_observer(|room: On<JoinRoom>, mut commands: Commands| {
        let room = room.event().clone();
        commands.queue(move |world: &mut World| join(world, &room));
    });
    app.add_observer(|_leave: On<LeaveRoom>, mut commands: Commands| commands.queue(room::leave));
}

/// Begins to join.
pub(crate) fn join(world: &mut World, asked: &JoinRoom) {
    room::leave(world);
    if let Err(bad) = asked.check() {
        return room::close(world, Some(bad));
    }
    let table = registry::table(world);
    let rate = world.resource::<TickRate>().0;
    let now = world.resource::<Clock>().now;
    let mut config = SessionConfig::new(asked.topology, table.schema.clone());
    config.tick_rate = rate;
    config.max_players = asked.players();
    let url = asked.url();
    tracing::debug!("joining {url}");
    let (bulk, shelf) = (world.resource::<BlobPolicy>().config(), world.resource::<Blobs>().shelf.clone());
    let links = NetworkConfig { link: LinkConfig::default(), bulk, shelf };
    let conditions = world.resource::<Applied>();
    let network = match &asked.connect {
        None => {
            let socket = coplay_socket::connect(SocketConfig { url, ..asked.socket.clone() });
            Network::start(conditions.to(socket), links)
        }
        Some(connect) if connect.inline => Network::inline((connect.socket)(&url), links),
        Some(connect) => Network::start(conditions.to((connect.socket)(&url)), links),
    };
    let net = &mut *world.resource_mut::<Net>();
    net.session = Some(Session::new(now, config));
    net.relay = Relay::default();
    net.topology = asked.topology;
    net.rate = rate.into();
    world.non_send_mut::<Links>().0 = Some(network);
    let room = &mut *world.resource_mut::<Room>();
    room.topology = asked.topology;
    room.code = asked.name().to_owned();
    room.server = asked.server();
    room::set_state(world, RoomState::Joining);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_says_all_that_signaling_has_to_know() {
        let server = "wss://play.example/";
        assert_eq!(JoinRoom::new_room().signaling(server).url(), "wss://play.example/?topology=mesh&max=16");
        let room = JoinRoom::room("a.B:c@d+e").host().max_players(4).existing().signaling(server);
        assert_eq!(room.url(), "wss://play.example/a.B%3Ac%40d%2Be?topology=host&max=4&existing=1");
        let listed =
            JoinRoom::new_room().public().game("tag").version("2").metadata("map", "sea & sky").signaling(server);
        let url = "wss://play.example/?topology=mesh&max=16&public=1&game=tag&version=2&meta.map=sea%20%26%20sky";
        assert_eq!(listed.url(), url);
        let quick = JoinRoom::quick_match(3).host().game("tag").version("2").signaling(server);
        assert_eq!(quick.url(), "wss://play.example/-/match?size=3&topology=host&game=tag&version=2");
    }

    #[test]
    fn what_cannot_be_said_is_known_before_anybody_is_asked() {
        let wrong = |join: JoinRoom| join.check().expect_err("it cannot be said").to_string();
        assert!(wrong(JoinRoom::room("a b")).starts_with("N0009"));
        let error = wrong(JoinRoom::new_room().game("x".repeat(65)));
        assert!(error.starts_with("N0012") && error.contains("64 bytes"), "{error}");
        assert!(
            wrong(JoinRoom::new_room().metadata("map", "x".repeat(129)).metadata("mode", "tag")).contains("128 bytes")
        );
        assert!(wrong(JoinRoom::new_room().password("")).contains("a password has 1 to 128 bytes"));
        assert_eq!(JoinRoom::new_room().password("x").metadata("map", "sea").check(), Ok(()));
    }
}
