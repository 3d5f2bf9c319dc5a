//! Do the native sockets keep the contract?
#![cfg(not(target_arch = "wasm32"))]

use std::{cell::Cell, time::Duration};

use contract::Platform;
use coplay_proto::conditioner::Conditions;
use coplay_signaling::{Config, Limits, Rate, RelayLimits, Running, Signaling, Stun};
use coplay_socket::{Conditioned, MemoryHub, RelayPolicy, Rendezvous, Socket, SocketConfig, connect, connect_by};

#[path = "common/contract.rs"]
mod contract;

/// Real WebRTC on this machine; signals go by memory.
struct Native(Rendezvous);

impl Platform for Native {
    fn enter(&self) -> Box<dyn Socket> {
        let config = SocketConfig { handshake_timeout: Duration::from_secs(3), ..SocketConfig::default() };
        connect_by(config, self.0.signaller())
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

/// By the WebSockets of our signaling server, and by nothing else.
struct Relayed(Running);

impl Relayed {
    fn new() -> Self {
        // The cases send as much as they can.
        let ample = Rate { frames: 100_000, bytes: 64 * 1024 * 1024 };
        let relay = RelayLimits { peer: ample, total: ample, queue_bytes: 1024 * 1024 };
        let limits = Limits { relay: Some(relay), ..Limits::default() };
        Self(Signaling::spawn(Config { limits, ..Config::local().stun(Stun::Off) }).expect("it starts"))
    }
}

impl Platform for Relayed {
    fn enter(&self) -> Box<dyn Socket> {
        let url = format!("{}/room", self.0.url());
        connect(SocketConfig { relay: RelayPolicy::Only, ..SocketConfig::new(url) })
    }

    fn now(&self) -> Duration {
        coplay_socket::now()
    }

    async fn turn(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// 16 KiB a second go there.
    fn blob(&self) -> usize {
        100 * 1024
    }

    fn rendezvous(&self) -> Option<&Rendezvous> {
        None
    }
}

/// In memory, in virtual time.
struct Memory {
    hub: MemoryHub,
    now: Cell<Duration>,
    /// What each socket is wrapped in.
    conditions: Option<Conditions>,
}

impl Memory {
    fn new(path: Conditions, conditions: Option<Conditions>) -> Self {
        Self { hub: MemoryHub::with(path, 7), now: Cell::new(Duration::ZERO), conditions }
    }
}

impl Platform for Memory {
    fn enter(&self) -> Box<dyn Socket> {
        match self.conditions {
            Some(conditions) => Box::new(Conditioned::new(self.hub.socket(), conditions, 7)),
            None => self.hub.socket(),
        }
    }

    fn now(&self) -> Duration {
        self.now.get()
    }

    async fn turn(&self) {
        self.now.set(self.now.get() + Duration::from_millis(1));
    }

    fn rendezvous(&self) -> Option<&Rendezvous> {
        None
    }
}

macro_rules! cases {
    ($platform:expr; $($case:ident)*) => {
        $(#[tokio::test]
        async fn $case() {
            crate::contract::$case(&$platform).await;
        })*
    };
}

macro_rules! everywhere {
    ($platform:expr) => {
        cases! { $platform;
            opens_and_delivers_on_both_lanes
            reliable_datagrams_arrive_once_and_in_order
            datagrams_up_to_the_lanes_limits_arrive
            nothing_is_sent_to_unknown_peers
            disconnecting_one_peer_leaves_the_others
            a_dropped_socket_is_closed_on_every_other
            what_was_sent_before_a_disconnect_arrives
            the_path_is_reported
            blobs_go_both_ways_beside_messages
            a_blob_fails_on_both_sides_when_either_cancels_or_leaves
        }
    };
}

mod native {
    use super::{Native, Rendezvous};

    everywhere!(Native(Rendezvous::new()));
    cases! { Native(Rendezvous::new());
        garbage_signals_hurt_no_other_link
        garbage_offers_hurt_no_other_link
        a_silent_peer_is_given_up
        links_live_on_without_signaling
        candidates_before_their_description_are_kept
        a_handshake_that_does_not_open_is_started_again
        only_relayed_paths_and_no_turn_server_is_a_reason
        ice_servers_that_are_of_no_use_keep_nobody_apart
        spoiled_signals_hurt_no_other_link
    }
}

/// Connections by `matchbox_socket`, behind the same signaling.
#[cfg(feature = "matchbox")]
mod matchbox {
    use std::{cell::Cell, time::Duration};

    use coplay_signaling::{Config, Running, Signaling};
    use coplay_socket::{
        IceTransportPolicy, Rendezvous, Socket, SocketConfig, SocketError, SocketEvent, Transport, connect, connect_by,
    };

    use crate::contract::Platform;

    /// It checks a path every 200 ms only.
    const HANDSHAKE: Duration = Duration::from_secs(5);

    fn config(transport: Transport, url: &str) -> SocketConfig {
        SocketConfig { transport, handshake_timeout: HANDSHAKE, ..SocketConfig::new(url) }
    }

    /// Signals go by memory, where nothing stands between a peer and what another one says.
    struct ByMemory(Rendezvous);

    impl Platform for ByMemory {
        fn enter(&self) -> Box<dyn Socket> {
            connect_by(self.config(), self.0.signaller())
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

        fn config(&self) -> SocketConfig {
            config(Transport::Matchbox, "")
        }
    }

    everywhere!(ByMemory(Rendezvous::new()));
    cases! { ByMemory(Rendezvous::new());
        garbage_signals_hurt_no_other_link
        garbage_offers_hurt_no_other_link
        a_silent_peer_is_given_up
        links_live_on_without_signaling
        a_handshake_that_does_not_open_is_started_again
        ice_servers_that_are_of_no_use_keep_nobody_apart
        spoiled_signals_hurt_no_other_link
    }

    /// On our signaling server; every second peer has connections of our own.
    struct Mixed {
        server: Running,
        entered: Cell<usize>,
    }

    impl Mixed {
        fn new() -> Self {
            Self { server: Signaling::spawn(Config::local()).expect("a server"), entered: Cell::new(0) }
        }
    }

    impl Platform for Mixed {
        fn enter(&self) -> Box<dyn Socket> {
            let number = self.entered.replace(self.entered.get() + 1);
            let transport = if number.is_multiple_of(2) { Transport::Matchbox } else { Transport::WebRtc };
            connect(config(transport, &format!("{}/room", self.server.url())))
        }

        fn now(&self) -> Duration {
            coplay_socket::now()
        }

        async fn turn(&self) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }

        fn rendezvous(&self) -> Option<&Rendezvous> {
            None
        }
    }

    mod mixed {
        use super::Mixed;

        everywhere!(Mixed::new());
    }

    #[test]
    fn a_setting_that_it_cannot_honour_is_a_typed_error() {
        let base = || config(Transport::Matchbox, "ws://127.0.0.1:1/room");
        let cases = [
            ("ice_transport_policy", SocketConfig { ice_transport_policy: IceTransportPolicy::Relay, ..base() }),
            ("udp_ports", SocketConfig { udp_ports: Some(4000..=4010), ..base() }),
            ("external_ips", SocketConfig { external_ips: vec!["192.0.2.1".parse().expect("one")], ..base() }),
        ];
        for (setting, config) in cases {
            let mut socket = connect(config);
            let told = socket.poll(coplay_socket::now());
            let error = SocketError::Unsupported { setting, transport: Transport::Matchbox };
            assert!(error.to_string().contains(setting), "{error}");
            assert_eq!(told, Some(SocketEvent::Failed(error)));
            assert_eq!(socket.poll(coplay_socket::now()), None, "nothing is tried");
        }
    }
}

mod relayed {
    use super::Relayed;

    everywhere!(Relayed::new());
}

mod memory {
    use super::{Conditions, Memory};

    everywhere!(Memory::new(Conditions::PERFECT, None));
}

mod memory_over_a_bad_path {
    use super::{Conditions, Memory};

    everywhere!(Memory::new(Conditions::CELLULAR, None));
}

mod conditioned {
    use super::{Conditions, Memory};

    everywhere!(Memory::new(Conditions::PERFECT, Some(Conditions::CELLULAR)));
}
