//! Where are session and links, and what goes between them? The network side of a frame.

use core::time::Duration;
use std::collections::VecDeque;

use bevy_app::AppExit;
use bevy_ecs::{message::MessageReader, resource::Resource, system::Commands, world::World};
use bevy_time::{Real, Time};
use bytes::Bytes;
use coplay_proto::{
    Channel, NetId, PeerId, Topology, bulk,
    link::{Figures, LinkEvent},
    session::{Fact, Input, Output, Session},
};
use coplay_socket::{Entered, Network, NetworkEvent, Path, RoomEvent, SocketError};

use crate::{blobs::Blobs, peers, registry::Type, relay::Relay, room, room::RoomError, settings};

/// The most that one frame of the game takes from the links, and the most bytes of it, so that nobody can keep a frame busy
/// by sending without a pause. What is left is taken with the next frame. It is as much as may wait for a frame.
const EVENTS_A_FRAME: usize = 4096;
const BYTES_A_FRAME: usize = 4 << 20;

/// The room's session, and what it has told that is not applied yet.
#[derive(Resource, Default)]
pub(crate) struct Net {
    pub(crate) session: Option<Session>,
    pub(crate) facts: VecDeque<Fact>,
    /// As the host: events of guests that wait to be passed on.
    pub(crate) relay: Relay,
    pub(crate) topology: Topology,
    /// Ticks a second.
    pub(crate) rate: f64,
}

/// The links; on the web they are bound to the main thread.
#[derive(Default)]
pub(crate) struct Links(pub(crate) Option<Network>);

/// The time of this frame, on the clock that session and links are given.
#[derive(Resource, Debug, Default)]
pub(crate) struct Clock {
    pub(crate) now: Duration,
    /// What the clock said when the app started.
    pub(crate) start: Duration,
}

impl Net {
    /// Whether we are in a session.
    pub(crate) fn is_admitted(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.me().is_some())
    }

    /// Whether this peer leads the session.
    pub(crate) fn is_leader(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_leader)
    }

    /// Who owns the entity with this name.
    pub(crate) fn owner_of(&self, id: Option<NetId>) -> Option<PeerId> {
        self.session.as_ref()?.owner(id?)
    }

    /// The newest value of a component.
    pub(crate) fn value(&self, id: NetId, component: Type) -> Option<&Bytes> {
        self.session.as_ref()?.value(id, component)
    }

    /// Whether no entity of this name can come any more.
    pub(crate) fn is_gone(&self, id: NetId) -> bool {
        self.session.as_ref().is_none_or(|session| session.is_gone(id))
    }

    /// The room's tick, and how many of them make a second.
    pub(crate) fn tick(&self, now: Duration) -> Option<(f64, f64)> {
        let session = self.session.as_ref().filter(|session| session.me().is_some())?;
        Some((session.tick(now), self.rate))
    }
}

/// Takes what has arrived: [`NetSystems::Poll`](crate::NetSystems::Poll).
pub(crate) fn poll(world: &mut World) {
    let elapsed = world.resource::<Time<Real>>().elapsed();
    let clock = &mut *world.resource_mut::<Clock>();
    clock.now = clock.start + elapsed;
    let now = clock.now;
    let Some(mut network) = world.non_send_mut::<Links>().0.take() else { return };
    network.turn(now);
    let news = hear(&mut world.resource_mut::<Net>(), &mut network, now);
    world.non_send_mut::<Links>().0 = Some(network);
    for entered in news.entered {
        room::entered(world, entered);
    }
    for (peer, figures) in news.figures {
        peers::measured(world, peer, &figures);
    }
    for (peer, path) in news.paths {
        peers::reached(world, peer, &path);
    }
    for (peer, fact) in news.blobs {
        world.resource_mut::<Blobs>().told(peer, fact);
    }
    for event in news.room {
        settings::told(world, event);
    }
    if let Some(error) = news.failed {
        room::close(world, Some(RoomError::Socket(error)));
    }
}

/// What the links had to tell that is none of the session's business.
#[derive(Default)]
struct News {
    entered: Vec<Entered>,
    figures: Vec<(PeerId, Figures)>,
    paths: Vec<(PeerId, Path)>,
    blobs: Vec<(PeerId, bulk::Fact)>,
    room: Vec<RoomEvent>,
    failed: Option<SocketError>,
}

fn hear(net: &mut Net, network: &mut Network, now: Duration) -> News {
    let mut news = News::default();
    let Net { session: Some(session), facts, relay, .. } = net else { return news };
    // First what the game has sent since it was last passed on, so that nothing that waits is left out of the report.
    send(now, session, network, facts);
    for (peer, waiting) in network.waiting() {
        session.handle(now, Input::Waiting(peer, waiting));
    }
    relay.release(now, session, network, facts);
    let mut bytes = 0;
    for _ in 0..EVENTS_A_FRAME {
        if bytes >= BYTES_A_FRAME {
            break;
        }
        let Some(event) = network.poll() else { break };
        match event {
            NetworkEvent::Entered(entered) => {
                session.handle(now, Input::Entered { me: entered.me, leader: entered.leader });
                news.entered.push(entered);
            }
            NetworkEvent::Leader(leader) => session.handle(now, Input::Leader(leader)),
            NetworkEvent::Link(peer, event) => {
                if let LinkEvent::Figures(figures) = &event {
                    news.figures.push((peer, *figures));
                }
                match event {
                    LinkEvent::Message(Channel::Control, message) => {
                        let size = message.len();
                        bytes += size;
                        let event = LinkEvent::Message(Channel::Control, message);
                        session.handle(now, Input::Link(peer, event));
                        network.consumed(peer, size);
                    }
                    LinkEvent::Message(channel, message) => {
                        bytes += message.len();
                        relay.event(now, peer, channel, message, session, network, facts);
                    }
                    event => {
                        if let LinkEvent::State(frame) = &event {
                            bytes += frame.len();
                        } else if let LinkEvent::Closed(_) = &event {
                            relay.forget(peer);
                        }
                        session.handle(now, Input::Link(peer, event));
                    }
                }
            }
            NetworkEvent::Path(peer, path) => news.paths.push((peer, path)),
            NetworkEvent::Blob(peer, fact) => {
                bytes += match &fact {
                    bulk::Fact::Chunk { bytes, .. } | bulk::Fact::Received { bytes: Some(bytes), .. } => bytes.len(),
                    _ => 0,
                };
                news.blobs.push((peer, fact));
            }
            NetworkEvent::Room(event) => news.room.push(event),
            NetworkEvent::Signaling(state) => tracing::debug!("signaling: {state:?}"),
            NetworkEvent::Failed(error) => news.failed = Some(error),
        }
    }
    session.handle(now, Input::Elapsed);
    send(now, session, network, facts);
    news
}

/// Passes on what the session wants done.
pub(crate) fn send(now: Duration, session: &mut Session, network: &mut Network, facts: &mut VecDeque<Fact>) {
    while let Some(output) = session.poll() {
        match output {
            Output::State(peer, bytes) => network.state(peer, bytes),
            Output::Message(peer, channel, bytes) => {
                if let Err(full) = network.message(peer, channel, bytes)
                    && channel != Channel::Unreliable
                {
                    // An event that is not sent would be missing for ever; a peer that is gone can come again.
                    tracing::warn!("a message to {peer} is lost: {full}");
                    session.handle(now, Input::Overflow(peer));
                }
            }
            Output::Disconnect(peer, reason) => {
                tracing::debug!("disconnected: {peer} {reason}");
                network.disconnect(peer);
            }
            Output::Fact(fact) => facts.push_back(fact),
        }
    }
}

/// Passes on what the session wants done since the last poll, in as few datagrams as can be.
pub(crate) fn drain(world: &mut World) {
    let now = world.resource::<Clock>().now;
    let Some(mut network) = world.non_send_mut::<Links>().0.take() else { return };
    let net = &mut *world.resource_mut::<Net>();
    if let Some(session) = &mut net.session {
        send(now, session, &mut network, &mut net.facts);
    }
    network.turn(now);
    world.non_send_mut::<Links>().0 = Some(network);
}

/// How long the app waits, when it exits, for its goodbyes to be heard.
const PARTING: Duration = Duration::from_millis(200);

/// Says goodbye before the process ends.
pub(crate) fn part(mut exits: MessageReader<AppExit>, mut commands: Commands) {
    if exits.read().next().is_some() {
        commands.queue(|world: &mut World| {
            if let Some(session) = &mut world.resource_mut::<Net>().session {
                session.leave();
            }
            drain(world);
            if let Some(network) = world.non_send_mut::<Links>().0.take() {
                network.close(PARTING);
            }
        });
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use bevy_app::{App, TaskPoolPlugin};
    use coplay_proto::Lane;
    use coplay_socket::{SendError, SignalingState, Socket, SocketEvent, Waker};

    use super::*;
    use crate::{CoplayPlugins, JoinRoom};

    /// Has very much to tell at once.
    struct Flood(usize);

    impl Socket for Flood {
        fn poll(&mut self, _: Duration) -> Option<SocketEvent> {
            self.0 = self.0.checked_sub(1)?;
            Some(SocketEvent::Signaling(SignalingState::Connecting))
        }

        fn send(&mut self, _: PeerId, _: Lane, _: Bytes) -> Result<(), SendError> {
            Err(SendError::UnknownPeer)
        }

        fn disconnect(&mut self, _: PeerId) {}

        fn path(&self, _: PeerId) -> Option<Path> {
            None
        }

        fn set_waker(&mut self, _: Waker) {}
    }

    #[test]
    fn a_frame_takes_so_much_and_leaves_the_rest_for_the_next() {
        let join = JoinRoom::room("flooded").inline(|_| Box::new(Flood(2 * EVENTS_A_FRAME + 10)));
        let mut app = App::new();
        app.add_plugins((TaskPoolPlugin::default(), CoplayPlugins::joining(join)));
        app.finish();
        app.cleanup();
        // It joins at the end of the first frame's start-up, so that this one hears it, or the next.
        let left = |app: &mut App| {
            let mut links = app.world_mut().non_send_mut::<Links>();
            let network = links.0.as_mut().expect("on its way into a room");
            std::iter::from_fn(|| network.poll()).count()
        };
        app.update();
        app.update();
        let heard_two = left(&mut app);
        assert!(heard_two == 10 || heard_two == EVENTS_A_FRAME + 10, "{heard_two} are left");
    }
}
