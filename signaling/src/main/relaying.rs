//! Options: what is relayed by WebSocket for peers that cannot connect?

use coplay_signaling::{Config, Rate, RelayLimits};

/// The WebSocket relay.
#[derive(Debug, clap::Args)]
#[allow(clippy::doc_markdown, reason = "the comments are what --help prints")]
pub(crate) struct Relaying {
    /// Do not pass on games for pairs of peers that cannot connect. It is what happens where no direct path and no TURN
    /// server works; without it such pairs do not meet
    #[arg(long, env = "COPLAY_NO_RELAY", help_heading = "WebSocket relay")]
    no_relay: bool,
    /// How many kilobits a second each peer may have passed on
    #[arg(
        long,
        env = "COPLAY_RELAY_RATE",
        value_name = "KBIT",
        default_value_t = kbit(RelayLimits::default().peer),
        conflicts_with = "no_relay",
        help_heading = "WebSocket relay"
    )]
    relay_rate: u32,
    /// The same of all peers together
    #[arg(
        long,
        env = "COPLAY_RELAY_TOTAL_RATE",
        value_name = "KBIT",
        default_value_t = kbit(RelayLimits::default().total),
        conflicts_with = "no_relay",
        help_heading = "WebSocket relay"
    )]
    relay_total_rate: u32,
}

impl Relaying {
    /// The same configuration with what these options say.
    pub(crate) fn apply(self, mut config: Config) -> Config {
        let default = RelayLimits::default();
        config.limits.relay = (!self.no_relay).then(|| RelayLimits {
            peer: Rate { bytes: bytes(self.relay_rate), ..default.peer },
            total: Rate { bytes: bytes(self.relay_total_rate), ..default.total },
            ..default
        });
        config
    }
}

fn kbit(rate: Rate) -> u32 {
    rate.bytes / 125
}

fn bytes(kbit: u32) -> u32 {
    kbit.saturating_mul(125)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        relaying: Relaying,
    }

    #[test]
    fn it_is_on_with_the_defaults_of_the_library_unless_it_is_told_otherwise() {
        let relay = |args: &[&str]| {
            let only = Only::parse_from([&["x"], args].concat());
            only.relaying.apply(Config::default()).limits.relay
        };
        assert_eq!(relay(&[]), Some(RelayLimits::default()));
        assert_eq!(relay(&["--no-relay"]), None);
        let Some(limits) = relay(&["--relay-rate", "8"]) else { panic!("it is on") };
        assert_eq!((limits.peer.bytes, limits.total), (1000, RelayLimits::default().total));
    }
}
