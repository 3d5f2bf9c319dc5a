//! Who is let to the door? Asked of each request for a WebSocket, before anything is done for it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

use axum::http::HeaderMap;
use coplay_proto::signal::{
    SignalError,
    lobby::{Credentials, Ticket},
};
use tokio::time::Instant;

use crate::{
    Secret,
    addresses::{Addresses, Visitor},
    ask::Where,
    origin::Origins,
    proxies::Proxies,
    ticket,
};

/// What decides it.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) proxies: Proxies,
    pub(crate) origins: Origins,
    /// With what tickets are signed, if they are asked for.
    pub(crate) tickets: Option<Secret>,
}

impl Guard {
    /// The address of who comes over a connection from `from`; unknown where another server accepted it.
    pub(crate) fn client(&self, from: Option<SocketAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        from.map(|from| self.proxies.client(from, headers))
    }

    /// Who comes from an address, if that does not come too often and its page may be here.
    pub(crate) fn visit(&self, address: Option<IpAddr>, headers: &HeaderMap) -> Result<Visitor, SignalError> {
        let visitor = self.addresses.visit(address, Instant::now()).ok_or(SignalError::TooMuch)?;
        self.origins.check(headers)?;
        Ok(visitor)
    }

    /// Whether `visitor` may have what it asks for, with what it knows. Who guesses wrong too often has to wait, also with
    /// what is right.
    pub(crate) fn check(&self, visitor: &Visitor, to: &Where, known: &Credentials) -> Result<(), SignalError> {
        // A quick match makes a room whose name the server chooses, and the list tells of all: a ticket for any room.
        let (room, existing) = match to {
            Where::Room(ask) => (ask.room.as_deref(), ask.existing),
            Where::Lobbies | Where::Match(_) => (None, false),
        };
        let guesses = existing || known.password.is_some() || self.tickets.is_some();
        if guesses && !visitor.may_guess() {
            return Err(SignalError::TooMuch);
        }
        let Some(secret) = &self.tickets else { return Ok(()) };
        let (shown, now) = (known.ticket.as_ref().map(Ticket::expose), SystemTime::now());
        let checked = ticket::check(secret, shown, room, now).or_else(|error| {
            // A code may be typed in small letters, and is signed in capitals.
            let capitals = room.filter(|_| existing).map(str::to_ascii_uppercase).ok_or(error)?;
            ticket::check(secret, shown, Some(&capitals), now)
        });
        if checked.is_err() {
            visitor.failed();
        }
        checked
    }
}
