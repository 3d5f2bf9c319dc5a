//! Who moves datagrams between the sockets of one connection, its machines and the caller? One task, without another between.
//!
//! ```text
//!   caller ──outlets──▶ ┌────────┐ ──▶ Connection ──▶ ┌─────────┐
//!   engine ──orders───▶ │ Driver │                    │ sockets │ ◀──▶ peer, and relays by `Servers`
//!    inbox ◀─────────── └────────┘ ◀── Connection ◀── └─────────┘
//! ```

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use coplay_proto::{Lane, signal::Signal};
use rtc_ice::candidate::Candidate;
use tokio::{
    sync::{
        mpsc::{self, error::TryRecvError},
        watch,
    },
    task::JoinSet,
    time::sleep_until,
};

use super::{
    engine::Report,
    gather::External,
    inbox::Share,
    lanes::{FLUSHING, Inlets},
    mdns,
    peer::{Order, Shared},
    rtc::{
        candidate::{Local, Remote},
        connection::{Connection, Event},
        relaying::{Servers, Told},
    },
    servers::Server,
    sockets::{BATCH, DATAGRAM, Sockets, Source},
};
use crate::{IceTransportPolicy, PathKind, switchboard::Attempt};

/// How often [`crate::Path`] is brought up to date.
const PATH_INTERVAL: Duration = Duration::from_secs(1);
/// The most addresses of a server that are asked, and hidden addresses that are looked up.
const MAX_LOOKED_UP: usize = 2;
const MAX_HIDDEN: usize = 8;

/// What was looked up.
pub(super) enum Found {
    Server(Box<Server>, Vec<SocketAddr>),
    Peer(Box<Candidate>, Option<IpAddr>),
}

/// One connection, from its first order to its end.
pub(super) struct Driver {
    pub(super) shared: Arc<Shared>,
    pub(super) attempt: Attempt,
    pub(super) connection: Connection,
    pub(super) sockets: Sockets,
    pub(super) servers: Servers,
    pub(super) external: External,
    pub(super) inlets: Inlets,
    pub(super) admitted: watch::Receiver<bool>,
    pub(super) lookups: JoinSet<Found>,
    pub(super) state: State,
}

/// How far it is.
#[derive(Default)]
pub(super) struct State {
    share: Share,
    /// A reliable message that the inbox has no room for.
    stuck: Option<(Lane, Bytes)>,
    /// This side has described itself.
    described: bool,
    open: bool,
    /// The engine and then the caller know.
    admitted: bool,
    /// The peer ended it, which is told once all messages are handed out.
    closed: bool,
    path: Option<PathKind>,
    path_at: Option<Instant>,
    hidden: usize,
}

/// Why the loop goes around.
enum Turn {
    Order(Option<Order>),
    Readable(Source),
    Send(Lane, Option<Bytes>),
    Found(Found),
    Admitted,
    Due,
}

impl Driver {
    /// Makes the offer.
    pub(super) async fn offer(&mut self) {
        let sdp = self.connection.describe().write(self.session());
        self.shared.report(self.attempt, Report::Described(Signal::Offer(sdp))).await;
        self.gather().await;
    }

    /// Runs until the engine wants no more of it.
    pub(super) async fn run(&mut self, mut orders: mpsc::Receiver<Order>) {
        let timer = sleep_until(Instant::now().into());
        tokio::pin!(timer);
        let mut buffer = vec![0; DATAGRAM];
        loop {
            self.settle().await;
            let due = self.due();
            if timer.deadline().into_std() != due {
                timer.as_mut().reset(due.into());
            }
            let turn = {
                let Self { sockets, inlets, lookups, admitted, state, connection, shared, .. } = self;
                let sends = state.open && state.admitted;
                tokio::select! {
                    biased;
                    order = orders.recv() => Turn::Order(order),
                    source = sockets.readable() => Turn::Readable(source),
                    bytes = inlets.unreliable.recv(), if sends => Turn::Send(Lane::Unreliable, bytes),
                    bytes = inlets.reliable.recv(), if sends && connection.has_room() => Turn::Send(Lane::Reliable, bytes),
                    Some(Ok(found)) = lookups.join_next() => Turn::Found(found),
                    Ok(_) = admitted.wait_for(|&admitted| admitted), if !state.admitted => Turn::Admitted,
                    () = shared.inbox.room(), if state.stuck.is_some() => Turn::Due,
                    () = &mut timer => Turn::Due,
                }
            };
            match turn {
                Turn::Order(Some(order)) => self.obey(order).await,
                Turn::Order(None) => return self.stop(&mut buffer).await,
                Turn::Readable(source) => self.read(source, &mut buffer),
                Turn::Send(lane, Some(bytes)) => self.connection.send(Instant::now(), lane, &bytes),
                // The caller wants no more of it; the engine says so, too.
                Turn::Send(_, None) => match orders.recv().await {
                    Some(order) => self.obey(order).await,
                    None => return self.stop(&mut buffer).await,
                },
                Turn::Found(found) => self.found(found).await,
                Turn::Admitted => self.state.admitted = true,
                Turn::Due => self.elapsed(),
            }
        }
    }

    /// Tells the addresses of this machine: after its description, which they belong to.
    async fn gather(&mut self) {
        self.state.described = true;
        if self.shared.config.ice_transport_policy == IceTransportPolicy::Relay {
            return;
        }
        let locals: Vec<Local> = self.sockets.hosts().collect();
        for local in locals {
            self.connection.add_local(Instant::now(), local);
            for local in std::iter::once(local).chain(self.external.addresses(&local)) {
                self.tell(&local).await;
            }
        }
    }

    async fn tell(&self, local: &Local) {
        self.shared.report(self.attempt, Report::Candidate(self.connection.tell(local))).await;
    }

    /// Tells apart what descriptions say of several sessions; nothing depends on it.
    fn session(&self) -> u64 {
        self.attempt.number
    }

    async fn obey(&mut self, order: Order) {
        let now = Instant::now();
        match order {
            Order::Describe(Signal::IceCandidate(_)) => {}
            Order::Describe(description) => {
                let (Signal::Offer(sdp) | Signal::Answer(sdp) | Signal::IceCandidate(sdp)) = &description;
                let remotes = match self.connection.accept(now, sdp) {
                    Ok(remotes) => remotes,
                    Err(error) => return self.shared.report(self.attempt, Report::Refused(error.to_string())).await,
                };
                if matches!(description, Signal::Offer(_)) {
                    let sdp = self.connection.describe().write(self.session());
                    self.shared.report(self.attempt, Report::Described(Signal::Answer(sdp))).await;
                    self.gather().await;
                }
                for remote in remotes {
                    self.remote(remote);
                }
            }
            Order::Candidate(json) => match Remote::read(&json) {
                Some(remote) => self.remote(remote),
                None => tracing::debug!(peer = %self.attempt.peer, "passed over a candidate"),
            },
        }
    }

    fn remote(&mut self, remote: Remote) {
        let now = Instant::now();
        match remote {
            Remote::Known(candidate) => {
                self.servers.permit(now, candidate.addr());
                self.connection.add_remote(now, candidate);
            }
            Remote::Hidden { name, candidate } if self.state.hidden < MAX_HIDDEN => {
                self.state.hidden += 1;
                let shared = self.shared.clone();
                self.lookups.spawn_local(async move {
                    Found::Peer(Box::new(candidate), mdns::look_up(&name, &shared.no_mdns).await)
                });
            }
            Remote::Hidden { .. } => {}
        }
    }

    async fn found(&mut self, found: Found) {
        let now = Instant::now();
        match found {
            Found::Peer(mut candidate, Some(ip)) => {
                if candidate.set_ip(&ip).is_ok() {
                    self.remote(Remote::Known(*candidate));
                }
            }
            Found::Peer(_, None) => {}
            Found::Server(server, addresses) => {
                let mut asked = Vec::new();
                for address in addresses {
                    // One of each family, from where the system would send.
                    if asked.len() < MAX_LOOKED_UP
                        && asked.iter().all(|it: &SocketAddr| it.is_ipv4() != address.is_ipv4())
                    {
                        let relay = server.relay.as_ref();
                        let Some(base) = self.sockets.base(address, relay.is_some()) else { continue };
                        self.servers.ask(now, &self.shared.identity, base, address, relay);
                        asked.push(address);
                    }
                }
            }
        }
    }

    fn read(&mut self, source: Source, buffer: &mut [u8]) {
        for _ in 0..BATCH {
            let (size, here, from) = match self.sockets.receive(source, buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Such as that nobody listened where something was sent to.
                Err(_) => continue,
            };
            let now = Instant::now();
            let Some(bytes) = buffer.get(..size) else { continue };
            if !self.servers.handle_input(now, here, from, bytes) {
                self.connection.handle_input(now, here, from, bytes);
            }
            self.pass(now);
        }
    }

    /// Sends what the caller has for the peer: in each turn, so that a flood from there does not keep it here.
    fn hand_over(&mut self, now: Instant) {
        for _ in 0..BATCH {
            let Ok(bytes) = self.inlets.unreliable.try_recv() else { break };
            self.connection.send(now, Lane::Unreliable, &bytes);
        }
        for _ in 0..BATCH {
            if !self.connection.has_room() {
                break;
            }
            let Ok(bytes) = self.inlets.reliable.try_recv() else { break };
            self.connection.send(now, Lane::Reliable, &bytes);
        }
    }

    fn elapsed(&mut self) {
        let now = Instant::now();
        if self.connection.poll_timeout().is_some_and(|due| due <= now) {
            self.connection.handle_timeout(now);
        }
        if self.servers.poll_timeout().is_some_and(|due| due <= now) {
            self.servers.handle_timeout(now);
        }
        self.pass(now);
    }

    /// Sends what there is to be sent, and hands out what came.
    fn pass(&mut self, now: Instant) {
        while let Some(unwrapped) = self.servers.receive() {
            self.connection.handle_input(now, unwrapped.here, unwrapped.from, &unwrapped.bytes);
        }
        while let Some(transmit) = self.connection.poll_transmit() {
            if !self.sockets.send(&transmit) {
                self.servers.send(now, &transmit);
            }
        }
        while let Some(transmit) = self.servers.poll_transmit() {
            self.sockets.send(&transmit);
        }
        if self.state.admitted {
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        loop {
            let next = self.state.stuck.take().or_else(|| self.connection.receive());
            let Some((lane, bytes)) = next else { return };
            if let Err(bytes) = self.shared.inbox.offer(self.attempt, lane, bytes, &self.state.share) {
                self.state.stuck = Some((lane, bytes));
                return;
            }
        }
    }

    /// Does what is left to do after each turn: sends, hands out, and tells the engine what happened.
    async fn settle(&mut self) {
        let now = Instant::now();
        if self.due() <= now {
            self.elapsed();
        }
        self.state.admitted |= *self.admitted.borrow();
        if self.state.open && self.state.admitted {
            self.hand_over(now);
        }
        self.pass(now);
        while self.state.described
            && let Some(told) = self.servers.poll_told()
        {
            self.told(now, told).await;
        }
        while let Some(event) = self.connection.poll_event() {
            let report = match event {
                Event::Reached => Report::Reached,
                Event::Open => {
                    self.state.open = true;
                    self.sockets.secured();
                    self.shared.report(self.attempt, Report::LaneOpen(Lane::Unreliable)).await;
                    Report::LaneOpen(Lane::Reliable)
                }
                Event::Closed => {
                    self.state.closed = true;
                    continue;
                }
                Event::Failed(why) => Report::Failed(why),
            };
            self.shared.report(self.attempt, report).await;
        }
        if self.state.path_at.is_none_or(|at| at <= now) {
            self.path(now).await;
        }
        self.pass(now);
        if self.state.closed && self.state.stuck.is_none() {
            self.state.closed = false;
            self.shared.report(self.attempt, Report::LaneClosed).await;
        }
    }

    async fn told(&mut self, now: Instant, told: Told) {
        let all = self.shared.config.ice_transport_policy == IceTransportPolicy::All;
        match told {
            Told::Reflexive { address, base } if all && address != base => {
                let rank = self.sockets.rank(base);
                self.tell(&Local { kind: PathKind::ServerReflexive, address, base, rank }).await;
            }
            Told::Reflexive { .. } => {}
            Told::Relayed { address, base } => {
                let rank = self.sockets.rank(base);
                let local = Local { kind: PathKind::Relay, address, base, rank };
                self.connection.add_local(now, local);
                self.tell(&local).await;
            }
            Told::Failed(why) => tracing::debug!(peer = %self.attempt.peer, why, "an ICE server does not help"),
        }
    }

    async fn path(&mut self, now: Instant) {
        let Some(path) = self.connection.path(now) else { return };
        self.state.path_at = Some(now + PATH_INTERVAL);
        if self.state.path.replace(path.kind) != Some(path.kind) {
            self.shared.report(self.attempt, Report::Path(path.kind)).await;
        }
        self.inlets.path.set(path);
    }

    fn due(&mut self) -> Instant {
        let timers = self.connection.poll_timeout().into_iter().chain(self.servers.poll_timeout());
        timers.chain(self.state.path_at).min().unwrap_or_else(|| Instant::now() + PATH_INTERVAL)
    }

    /// Sends what waits to be sent, within bounds, and says goodbye.
    async fn stop(&mut self, buffer: &mut [u8]) {
        let end = Instant::now() + FLUSHING;
        // What still comes is for nobody.
        self.state.admitted = false;
        self.state.stuck = None;
        let mut left = self.state.open;
        while left && Instant::now() < end {
            while self.connection.has_room() {
                match self.inlets.reliable.try_recv() {
                    Ok(bytes) => self.connection.send(Instant::now(), Lane::Reliable, &bytes),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            self.pass(Instant::now());
            while self.connection.receive().is_some() {}
            if self.connection.is_idle() && self.inlets.reliable.is_empty() {
                left = false;
                continue;
            }
            let due = self.due().min(end);
            tokio::select! {
                source = self.sockets.readable() => self.read(source, buffer),
                () = sleep_until(due.into()) => self.elapsed(),
            }
        }
        let now = Instant::now();
        self.connection.close(now);
        self.pass(now);
        self.servers.close(now);
        self.pass(now);
    }
}
