//! The loop of the socket's thread: does what the switchboard says, and tells it what happened.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::pending,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use coplay_proto::{
    Lane, PeerId,
    signal::{Signal, lobby::RoomCommand},
};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    inbox::{Inbox, Inward},
    lanes::Outlets,
    peer::{self, Order, Shared},
    ports::Ports,
    relays::Relays,
    rtc::dtls::Identity,
    websocket::WebSocket,
};
use crate::{
    PathKind, Signaller, SignallerEvent, SocketConfig, SocketError, SocketEvent, Transport, clock,
    switchboard::{Attempt, Input, Output, Switchboard},
};

/// The most reports that wait for the engine; the peers' tasks wait beyond.
const REPORTS: usize = 1024;
/// The most orders that wait for one attempt's task. More than an attempt can get: two descriptions and its candidates.
const ORDERS: usize = 128;
/// How long the thread stays to close connections orderly, once the caller dropped the socket.
const CLOSING: Duration = Duration::from_secs(1);

/// What the caller wants. To end everything, it drops the sender.
pub(super) enum Command {
    Disconnect(PeerId),
    Silence(PeerId, bool),
    Room(RoomCommand),
}

/// What an attempt's task tells.
pub(super) enum Report {
    Described(Signal),
    Candidate(String),
    Reached,
    Path(PathKind),
    LaneOpen(Lane),
    LaneClosed,
    Failed(String),
    Refused(String),
}

/// Runs until the caller drops its end of `commands`.
pub(super) async fn run(
    config: SocketConfig,
    signaller: Option<Box<dyn Signaller>>,
    mut commands: mpsc::Receiver<Command>,
    inbox: Inbox,
) {
    let (report, mut reports) = mpsc::channel(REPORTS);
    let (mut signaller, closed) = match signaller {
        Some(signaller) => (signaller, None),
        None => {
            let (socket, closed) = WebSocket::new(config.url.clone());
            (Box::new(socket) as Box<dyn Signaller>, Some(closed))
        }
    };
    let signalled = Arc::new(Notify::new());
    let wake = signalled.clone();
    signaller.set_waker(Arc::new(move || wake.notify_one()));
    // Which one of many peers this is, to spread them: the address of something is random enough.
    let seed = Arc::as_ptr(&signalled) as u64 ^ u64::from(std::process::id()) << 32;
    let ports = Ports::new(config.udp_ports.clone());
    let identity = match Identity::new() {
        Ok(identity) => Arc::new(identity),
        Err(reason) => return inbox.fail(SocketError::Unavailable { reason }),
    };
    let mut engine = Engine {
        switchboard: Switchboard::new(clock::now(), config.clone(), seed),
        signaller,
        shared: Arc::new(Shared { config, inbox, reports: report, ports, identity, no_mdns: AtomicBool::new(false) }),
        peers: BTreeMap::new(),
        before: BTreeMap::new(),
        relays: Relays::default(),
        tasks: JoinSet::new(),
    };
    let relayed = engine.relays.wake();
    engine.tell(Input::Elapsed).await;
    loop {
        let deadline = engine.switchboard.deadline().map(|due| due.saturating_sub(clock::now()));
        let input = tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Disconnect(peer)) => {
                    // What was sent before goes out before.
                    engine.relay().await;
                    Some(Input::Disconnect(peer))
                }
                Some(Command::Silence(peer, silent)) => Some(Input::Silence(peer, silent)),
                Some(Command::Room(command)) => Some(Input::Command(command)),
                None => break,
            },
            report = reports.recv() => report.and_then(|(attempt, report)| engine.input(attempt, report)),
            () = signalled.notified() => None,
            () = relayed.notified() => None,
            () = async { match deadline { Some(due) => sleep(due).await, None => pending().await } } => {
                Some(Input::Elapsed)
            }
            Some(_) = engine.tasks.join_next() => None,
        };
        if let Some(input) = input {
            engine.tell(input).await;
        }
        while let Some(event) = engine.signaller.poll() {
            // What there is no room for is as lost on the way: what is to arrive comes again.
            if !(matches!(event, SignallerEvent::Relayed(_)) && engine.shared.inbox.is_full()) {
                engine.tell(Input::Signaller(event)).await;
            }
        }
        engine.relay().await;
    }
    engine.close(reports, closed).await;
}

struct Engine {
    switchboard: Switchboard,
    signaller: Box<dyn Signaller>,
    shared: Arc<Shared>,
    peers: BTreeMap<PeerId, Seat>,
    /// The attempts before those, whose connections carry until these are open: see `switchboard::mending`.
    before: BTreeMap<Attempt, Seat>,
    relays: Relays,
    tasks: JoinSet<()>,
}

/// The attempt that runs for a peer.
struct Seat {
    attempt: Attempt,
    orders: mpsc::Sender<Order>,
    admit: watch::Sender<bool>,
    /// The caller's end of the lanes, until it is told of the peer.
    outlets: Option<Outlets>,
    open: [bool; 2],
}

impl Engine {
    async fn tell(&mut self, input: Input) {
        self.switchboard.handle(clock::now(), input);
        self.obey().await;
    }

    /// Has what the caller sent to peers by the relay go there, as far as there is room.
    async fn relay(&mut self) {
        if self.relays.hand_over(&mut self.switchboard) {
            self.obey().await;
        }
    }

    async fn obey(&mut self) {
        while let Some(output) = self.switchboard.poll() {
            self.execute(output).await;
        }
    }

    fn input(&mut self, attempt: Attempt, report: Report) -> Option<Input> {
        Some(match report {
            Report::Described(description) => Input::LocalDescription(attempt, description),
            Report::Candidate(candidate) => Input::LocalCandidate(attempt, candidate),
            Report::Reached => Input::Reached(attempt),
            Report::Path(kind) => Input::Path(attempt, kind),
            Report::LaneOpen(lane) => {
                let seat = self.peers.get_mut(&attempt.peer).filter(|seat| seat.attempt == attempt)?;
                let [unreliable, reliable] = &mut seat.open;
                match lane {
                    Lane::Unreliable => *unreliable = true,
                    Lane::Reliable => *reliable = true,
                }
                if !(*unreliable && *reliable) {
                    return None;
                }
                Input::Open(attempt)
            }
            Report::LaneClosed => Input::Closed(attempt),
            Report::Failed(why) => Input::Failed(attempt, why),
            Report::Refused(why) => Input::Refused(attempt, why),
        })
    }

    async fn execute(&mut self, output: Output) {
        match output {
            Output::Dial(dial) => self.signaller.dial(dial),
            Output::HangUp => self.signaller.hang_up(),
            Output::Send(message) => self.signaller.send(message),
            Output::Start { attempt, ice_servers, offer } => {
                let (orders, received) = mpsc::channel(ORDERS);
                let (admit, admitted) = watch::channel(false);
                let (outlets, inlets) = Outlets::new(None);
                let shared = self.shared.clone();
                match shared.config.transport {
                    Transport::WebRtc => {
                        self.tasks.spawn_local(peer::run(
                            shared,
                            attempt,
                            ice_servers,
                            offer,
                            inlets,
                            admitted,
                            received,
                        ));
                    }
                    #[cfg(feature = "matchbox")]
                    Transport::Matchbox => {
                        let run = super::matchbox::run;
                        self.tasks.spawn_local(run(shared, attempt, ice_servers, offer, inlets, admitted, received));
                    }
                }
                let seat = Seat { attempt, orders, admit, outlets: Some(outlets), open: [false; 2] };
                let before = self.peers.insert(attempt.peer, seat);
                self.before.extend(before.map(|seat| (seat.attempt, seat)));
            }
            Output::Describe(attempt, description) => self.order(attempt, Order::Describe(description)),
            Output::Candidate(attempt, candidate) => self.order(attempt, Order::Candidate(candidate)),
            Output::Stop(attempt) => {
                if self.peers.get(&attempt.peer).is_some_and(|seat| seat.attempt == attempt) {
                    self.peers.remove(&attempt.peer);
                }
                self.before.remove(&attempt);
                self.relays.stop(attempt);
            }
            Output::Relay(frame) => self.signaller.relay(frame),
            Output::RelayOpen(attempt) => {
                let outlets = self.relays.open(attempt);
                self.shared.inbox.news(Inward::Opened(attempt, outlets)).await;
            }
            Output::Received(attempt, lane, bytes) => {
                self.relays.measured(attempt, self.switchboard.relay_rtt(attempt));
                if let Some(share) = self.relays.share(attempt) {
                    self.shared.inbox.datagram(attempt, lane, bytes, share).await;
                }
            }
            Output::Moved(attempt) => {
                let Some(seat) = self.peers.get_mut(&attempt.peer) else { return };
                let Some(outlets) = seat.outlets.take() else { return };
                self.shared.inbox.news(Inward::Moved(attempt, outlets)).await;
            }
            Output::Admit(attempt) => {
                if let Some(seat) = self.peers.get(&attempt.peer).filter(|seat| seat.attempt == attempt) {
                    let _ = seat.admit.send(true);
                }
            }
            Output::Mended(attempt) => {
                let Some(seat) = self.peers.get_mut(&attempt.peer) else { return };
                let Some(outlets) = seat.outlets.take() else { return };
                self.shared.inbox.news(Inward::Mended(attempt, outlets)).await;
                let _ = seat.admit.send(true);
            }
            Output::MendedByRelay(attempt) => {
                let outlets = self.relays.open(attempt);
                self.shared.inbox.news(Inward::Mended(attempt, outlets)).await;
            }
            Output::Event(SocketEvent::Opened(peer)) => {
                let Some(seat) = self.peers.get_mut(&peer) else { return };
                let Some(outlets) = seat.outlets.take() else { return };
                self.shared.inbox.news(Inward::Opened(seat.attempt, outlets)).await;
                let _ = seat.admit.send(true);
            }
            Output::Event(event) => self.shared.inbox.news(Inward::Event(event)).await,
        }
    }

    fn order(&self, attempt: Attempt, order: Order) {
        if let Some(seat) = self.peers.get(&attempt.peer).filter(|seat| seat.attempt == attempt)
            && seat.orders.try_send(order).is_err()
        {
            tracing::debug!(peer = %attempt.peer, "an attempt does not take its orders: left to its deadline");
        }
    }

    /// Closes every connection, so that the peers and signaling learn of it at once and not by silence.
    async fn close(
        mut self,
        mut reports: mpsc::Receiver<(Attempt, Report)>,
        mut signaling: Option<mpsc::Receiver<Infallible>>,
    ) {
        self.peers.clear();
        self.before.clear();
        self.relay().await;
        self.switchboard.leave(clock::now());
        while let Some(output) = self.switchboard.poll() {
            if let Output::Relay(frame) = output {
                self.signaller.relay(frame);
            }
        }
        drop(self.signaller);
        let all = async {
            loop {
                tokio::select! {
                    task = self.tasks.join_next() => if task.is_none() { break },
                    // Taken so that no task waits for room to report.
                    Some(_) = reports.recv() => {}
                }
            }
            // Signaling keeps the seat of who does not say that it leaves.
            if let Some(signaling) = &mut signaling {
                signaling.recv().await;
            }
        };
        if timeout(CLOSING, all).await.is_err() {
            tracing::debug!("some connections did not close in time");
        }
    }
}
