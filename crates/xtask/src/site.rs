//! How a page and the signaling server that its players meet on are served on one port, within this process.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    path::PathBuf,
};

use coplay_signaling::{
    Config, Running, Signaling,
    axum::{Router, http::Uri},
};

use crate::{
    pages,
    run::{Result, say},
};

/// Serves until it is dropped.
pub(crate) struct Site {
    signaling: Running,
}

impl Site {
    /// Serves the page of this folder here, to this machine, at any port.
    pub(crate) fn local(page: PathBuf) -> Result<Self> {
        Self::start(page, SocketAddr::from(([127, 0, 0, 1], 0)), &[])
    }

    /// Serves the page of this folder here, and tells the players of these STUN servers besides its own. Where the port is
    /// taken, another one is, so that two matches can be tried at the same time.
    pub(crate) fn start(page: PathBuf, listen: SocketAddr, ice_servers: &[String]) -> Result<Self> {
        let router = Router::new().fallback(move |uri: Uri| async move { pages::file(&page, uri.path()) });
        let config = ice_servers.iter().fold(Config::local().page(router), Config::ice_server);
        let start = |listen| Signaling::spawn(config.clone().listen(listen));
        let signaling = start(listen).or_else(|error| {
            say(&format!("taking another port, because {error}"));
            start(SocketAddr::new(listen.ip(), 0))
        });
        let signaling = signaling.map_err(|error| format!("the signaling server does not start: {error}"))?;
        Ok(Self { signaling })
    }

    /// `HOST:PORT` of the page: for a browser on this machine, or, where all addresses are listened on, for one on any
    /// machine of the network.
    pub(crate) fn host(&self) -> String {
        let address = self.signaling.local_addr();
        match own_address().filter(|_| address.ip().is_unspecified()) {
            Some(own) => SocketAddr::new(own, address.port()).to_string(),
            None if address.ip().is_loopback() || address.ip().is_unspecified() => {
                format!("localhost:{}", address.port())
            }
            None => address.to_string(),
        }
    }

    /// Where native peers of this machine meet.
    pub(crate) fn signaling(&self) -> String {
        self.signaling.url()
    }
}

/// This machine's address in its network, if it is in one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: only the route is looked up. The address is one for documentation (RFC 5737).
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}
