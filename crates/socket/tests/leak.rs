//! Does a socket keep anything of peers that are gone?
#![cfg(target_os = "linux")]

use std::{fs, time::Duration};

use contract::{Peer, Platform, until};
use coplay_socket::{Rendezvous, Socket, SocketConfig, connect_by};

#[allow(dead_code, unused_imports, reason = "the cases run in another test")]
#[path = "common/contract.rs"]
mod contract;

struct Native(Rendezvous);

impl Platform for Native {
    fn enter(&self) -> Box<dyn Socket> {
        connect_by(SocketConfig::default(), self.0.signaller())
    }

    fn now(&self) -> Duration {
        coplay_socket::now()
    }

    async fn turn(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    fn rendezvous(&self) -> Option<&Rendezvous> {
        Some(&self.0)
    }
}

/// Open files and threads of this process; a peer connection has several sockets of its own.
fn held() -> (usize, usize) {
    let count = |path: &str| fs::read_dir(path).expect("this is Linux").count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

#[tokio::test]
async fn nothing_is_kept_of_peers_that_are_gone() {
    let platform = Native(Rendezvous::new());
    let mut stays = Peer::new(platform.enter());
    until(&platform, "entered", &mut [&mut stays], |peers| peers[0].me.is_some()).await;
    let before = held();
    for round in 0..6 {
        let mut comes = Peer::new(platform.enter());
        until(&platform, "connected", &mut [&mut stays, &mut comes], |peers| {
            peers.iter().all(|peer| peer.open.len() == 1)
        })
        .await;
        if round % 2 == 0 {
            stays.socket.disconnect(comes.id());
        }
        drop(comes);
        until(&platform, "gone", &mut [&mut stays], |peers| peers[0].open.is_empty()).await;
    }
    assert_eq!(stays.closed.len(), 6);
    // Closing takes a moment on the sockets' threads.
    until(&platform, "everything to be given back", &mut [&mut stays], |_| {
        let (files, threads) = held();
        files <= before.0 && threads <= before.1
    })
    .await;
}
