//! How a page and the signaling server that its players meet on are served on one port, within this process.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    path::PathBuf,
};

use coplay_signaling::{
    Config, Running, Signaling, StartError,
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

    /// Whether players can be told of these STUN servers: before anything is built.
    pub(crate) fn check(ice_servers: &[String]) -> Result {
        Signaling::spawn(telling(ice_servers)).map(drop).map_err(|error| error.to_string())
    }

    /// Serves the page of this folder here, and tells the players of these STUN servers besides its own. Where the port is
    /// taken, another one is, so that two matches can be tried at the same time.
    pub(crate) fn start(page: PathBuf, listen: SocketAddr, ice_servers: &[String]) -> Result<Self> {
        let router = Router::new().fallback(move |uri: Uri| async move { pages::file(&page, uri.path()) });
        let config = telling(ice_servers).page(router);
        let start = |listen| Signaling::spawn(config.clone().listen(listen));
        let signaling = match start(listen) {
            Err(error @ StartError::PortInUse { .. }) => {
                say(&format!("taking another port, because {error}"));
                start(SocketAddr::new(listen.ip(), 0))
            }
            started => started,
        };
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

fn telling(ice_servers: &[String]) -> Config {
    ice_servers.iter().fold(Config::local(), Config::ice_server)
}

/// This machine's address in its network, if it is in one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: only the route is looked up. The address is one for documentation (RFC 5737).
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_stun_server_is_told_before_anything_is_built() {
        assert_eq!(Site::check(&["stun:stun.example.org:3478".to_owned()]), Ok(()));
        let error = Site::check(&["stun.example.org".to_owned()]).expect_err("it has no scheme");
        assert!(error.contains("stun.example.org"), "{error}");
    }
}
