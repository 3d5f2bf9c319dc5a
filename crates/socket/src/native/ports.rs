//! At which UDP port does a connection listen? At one of those that a firewall lets through, each connection at its own.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long a connection waits for a port that another just gives back, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);

/// The ports of a socket; any, without a range.
#[derive(Debug)]
pub(super) struct Ports {
    range: Option<RangeInclusive<u16>>,
    used: Mutex<BTreeSet<u16>>,
}

/// A port that a connection has to itself, until this is dropped.
#[derive(Debug)]
pub(super) struct Port {
    number: u16,
    ports: Arc<Ports>,
}

impl Ports {
    pub(super) fn new(range: Option<RangeInclusive<u16>>) -> Arc<Self> {
        Arc::new(Self { range, used: Mutex::default() })
    }

    /// A port that is free, or why there is none.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Port, String> {
        let Some(range) = self.range.clone() else { return Ok(Port { number: 0, ports: self.clone() }) };
        let mut looked = Duration::ZERO;
        loop {
            if let Some(port) = self.free(range.clone()) {
                return Ok(port);
            }
            if looked >= PATIENCE {
                let (first, last) = range.into_inner();
                return Err(format!(
                    "all UDP ports from {first} to {last} are in use: each peer takes one, so give udp_ports more of them"
                ));
            }
            looked += LOOK;
            tokio::time::sleep(LOOK).await;
        }
    }

    fn free(self: &Arc<Self>, mut range: RangeInclusive<u16>) -> Option<Port> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let number = range.find(|port| {
            let unused =
                || [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST].into_iter().all(|ip| can_bind(ip.into(), *port));
            *port != 0 && !used.contains(port) && unused()
        })?;
        used.insert(number);
        Some(Port { number, ports: self.clone() })
    }
}

impl Port {
    /// 0 for any.
    pub(super) fn number(&self) -> u16 {
        self.number
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.ports.used.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

fn can_bind(ip: IpAddr, port: u16) -> bool {
    UdpSocket::bind((ip, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two ports side by side that were free a moment ago.
    fn pair() -> RangeInclusive<u16> {
        let beside = |socket: &UdpSocket| {
            let port = socket.local_addr().expect("bound").port();
            can_bind(Ipv4Addr::UNSPECIFIED.into(), port.checked_add(1)?).then(|| port..=port + 1)
        };
        std::iter::repeat_with(|| UdpSocket::bind("0.0.0.0:0").expect("a port"))
            .find_map(|socket| beside(&socket))
            .expect("one of them has a free neighbour")
    }

    #[tokio::test(start_paused = true)]
    async fn each_connection_has_a_port_of_its_own_as_long_as_there_are_some() {
        let range = pair();
        let ports = Ports::new(Some(range.clone()));
        let (one, other) = (ports.take().await.expect("free"), ports.take().await.expect("free"));
        assert_eq!([one.number, other.number], [*range.start(), *range.end()]);
        let why = ports.take().await.expect_err("there are two");
        assert!(why.contains("udp_ports") && why.contains(&range.end().to_string()), "{why}");
        let (waiting, ()) = tokio::join!(ports.take(), async {
            tokio::time::sleep(PATIENCE / 2).await;
            drop(one);
        });
        assert_eq!(waiting.expect("given back while it was waited for").number, *range.start());
    }

    #[tokio::test(start_paused = true)]
    async fn ports_that_others_use_are_passed_over() {
        let range = pair();
        let _other = UdpSocket::bind(("127.0.0.1", *range.start())).expect("free a moment ago");
        let ports = Ports::new(Some(range.clone()));
        assert_eq!(ports.take().await.expect("free").number, *range.end());
    }

    #[tokio::test]
    async fn any_port_will_do_unless_it_is_said() {
        let ports = Ports::new(None);
        let (one, other) = (ports.take().await.expect("any"), ports.take().await.expect("any"));
        assert_eq!([one.number, other.number], [0, 0]);
    }
}
