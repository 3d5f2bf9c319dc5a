//! What `renet` gives a game: its default reliable, ordered channel over `renet_netcode`, driven once a frame in the order in
//! which `bevy_renet` does it: update, receive, the game, send. Side A has a server for each client.

use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use renet::{ConnectionConfig, DefaultChannel, RenetClient, RenetServer};
use renet_netcode::{
    ClientAuthentication, NetcodeClientTransport, NetcodeServerTransport, ServerAuthentication, ServerConfig,
};

use crate::{
    Settings,
    game::{Connection, Way},
};

const PROTOCOL: u64 = 7;
/// Of the one client of each server.
const CLIENT: u64 = 1;

pub(super) fn connect(settings: &Settings) -> Result<Vec<Box<dyn Connection>>, String> {
    let first: SocketAddr = settings.address.parse().map_err(|error| format!("{}: {error}", settings.address))?;
    let numbers = 0..u16::try_from(settings.count).map_err(|error| error.to_string())?;
    numbers
        .map(|number| -> Result<Box<dyn Connection>, String> {
            let address = SocketAddr::new(first.ip(), first.port() + number);
            if settings.leads { Ok(Box::new(Server::new(address)?)) } else { Ok(Box::new(Client::new(address)?)) }
        })
        .collect()
}

struct Server {
    server: RenetServer,
    transport: NetcodeServerTransport,
    updated: Instant,
}

impl Server {
    fn new(address: SocketAddr) -> Result<Self, String> {
        let socket = UdpSocket::bind(address).map_err(|error| format!("{address}: {error}"))?;
        let config = ServerConfig {
            current_time: since_1970(),
            max_clients: 1,
            protocol_id: PROTOCOL,
            public_addresses: vec![address],
            authentication: ServerAuthentication::Unsecure,
        };
        let transport = NetcodeServerTransport::new(config, socket).map_err(|error| error.to_string())?;
        Ok(Self { server: RenetServer::new(ConnectionConfig::default()), transport, updated: Instant::now() })
    }
}

impl Connection for Server {
    fn begin(&mut self) -> Result<bool, String> {
        let passed = since(&mut self.updated);
        self.server.update(passed);
        self.transport.update(passed, &mut self.server).map_err(|error| error.to_string())?;
        Ok(self.server.is_connected(CLIENT))
    }

    fn receive(&mut self) -> Option<Bytes> {
        self.server.receive_message(CLIENT, DefaultChannel::ReliableOrdered)
    }

    fn send(&mut self, bytes: Bytes, way: Way) {
        if way == Way::Reliably {
            self.server.send_message(CLIENT, DefaultChannel::ReliableOrdered, bytes);
        }
    }

    fn end(&mut self) {
        self.transport.send_packets(&mut self.server);
    }
}

struct Client {
    client: RenetClient,
    transport: NetcodeClientTransport,
    updated: Instant,
}

impl Client {
    fn new(server_addr: SocketAddr) -> Result<Self, String> {
        let socket = UdpSocket::bind("0.0.0.0:0").map_err(|error| format!("no port: {error}"))?;
        let authentication =
            ClientAuthentication::Unsecure { protocol_id: PROTOCOL, client_id: CLIENT, server_addr, user_data: None };
        let transport = NetcodeClientTransport::new(since_1970(), authentication, socket);
        let transport = transport.map_err(|error| error.to_string())?;
        Ok(Self { client: RenetClient::new(ConnectionConfig::default()), transport, updated: Instant::now() })
    }
}

impl Connection for Client {
    fn begin(&mut self) -> Result<bool, String> {
        let passed = since(&mut self.updated);
        self.client.update(passed);
        self.transport.update(passed, &mut self.client).map_err(|error| error.to_string())?;
        Ok(self.client.is_connected())
    }

    fn receive(&mut self) -> Option<Bytes> {
        self.client.receive_message(DefaultChannel::ReliableOrdered)
    }

    fn send(&mut self, bytes: Bytes, way: Way) {
        if way == Way::Reliably {
            self.client.send_message(DefaultChannel::ReliableOrdered, bytes);
        }
    }

    fn end(&mut self) {
        // An error says that it is not connected, which the next frame tells.
        let _ = self.transport.send_packets(&mut self.client);
    }
}

/// How long ago that was, and from now on counts from now.
fn since(updated: &mut Instant) -> Duration {
    let now = Instant::now();
    now - std::mem::replace(updated, now)
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
