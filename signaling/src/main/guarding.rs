//! Which options say who is let in, how much of everything may come, over what, and what is told about it?

use std::{
    error::Error,
    fs,
    io::{self, IsTerminal},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use clap::{Args, ValueEnum};
use coplay_signaling::{
    AddressLimits, Config, ForwardedHeader, Limits, MetricsAccess, Origins, Pace, Proxies, Secret, TlsFiles, network,
};
use tracing_subscriber::EnvFilter;

use crate::listen;

/// They are in groups of their own in `--help`.
#[derive(Debug, Args)]
#[allow(clippy::doc_markdown, reason = "the comments are what --help prints")]
pub(crate) struct Guarding {
    /// A certificate and its chain (PEM), to speak TLS: wss:// and https:// on the one port. Read again when it changes
    #[arg(long, env = "COPLAY_TLS_CERT", value_name = "FILE", requires = "tls_key", help_heading = "TLS")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM), without a password
    #[arg(long, env = "COPLAY_TLS_KEY", value_name = "FILE", requires = "tls_cert", help_heading = "TLS")]
    tls_key: Option<PathBuf>,
    /// A reverse proxy that is believed when it says whom it forwards for, such as 127.0.0.1 or 10.0.0.0/8; may be repeated
    #[arg(
        long,
        env = "COPLAY_TRUSTED_PROXY",
        value_name = "NETWORK",
        value_delimiter = ',',
        value_parser = network,
        help_heading = "Reverse proxies"
    )]
    trusted_proxy: Vec<ipnet::IpNet>,
    /// The header in which it says so. The other one is not read: proxies pass it on as the client made it up
    #[arg(
        long,
        env = "COPLAY_FORWARDED_HEADER",
        value_enum,
        default_value = "x-forwarded-for",
        help_heading = "Reverse proxies"
    )]
    forwarded_header: Header,
    /// Let in pages of this site only, such as https://play.example.org; may be repeated. Native games are let in always
    #[arg(
        long,
        env = "COPLAY_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ',',
        help_heading = "Who is let in"
    )]
    allow_origin: Vec<String>,
    /// Let in only who has a ticket (?ticket=..) made with the secret in this file, of 16 bytes or more
    #[arg(long, env = "COPLAY_TICKET_SECRET_FILE", value_name = "FILE", help_heading = "Who is let in")]
    ticket_secret_file: Option<PathBuf>,
    /// Pass on signals of any form and in any order, for peers that signal in a way of their own
    #[arg(long, env = "COPLAY_OPAQUE_SIGNALS", help_heading = "Who is let in")]
    opaque_signals: bool,
    /// How many connections at once that are no WebSocket (yet)
    #[arg(
        long,
        env = "COPLAY_MAX_CONNECTIONS",
        value_name = "N",
        default_value_t = Limits::default().connections,
        help_heading = "Limits"
    )]
    max_connections: u32,
    /// The same, from one address (IPv6: one /64); trusted proxies are not counted
    #[arg(
        long,
        env = "COPLAY_MAX_ADDRESS_CONNECTIONS",
        value_name = "N",
        default_value_t = AddressLimits::default().connections,
        help_heading = "Limits"
    )]
    max_address_connections: u32,
    /// How many peers at once from one address
    #[arg(
        long,
        env = "COPLAY_MAX_ADDRESS_PEERS",
        value_name = "N",
        default_value_t = AddressLimits::default().peers,
        help_heading = "Limits"
    )]
    max_address_peers: u32,
    /// How often one address may ask to join: so often at once / then so often a minute
    #[arg(
        long,
        env = "COPLAY_ADDRESS_JOINS",
        value_name = "N/N",
        default_value = "512/600",
        value_parser = pace,
        help_heading = "Limits"
    )]
    address_joins: Pace,
    /// How often one address may make a room
    #[arg(
        long,
        env = "COPLAY_ADDRESS_ROOMS",
        value_name = "N/N",
        default_value = "64/60",
        value_parser = pace,
        help_heading = "Limits"
    )]
    address_rooms: Pace,
    /// How often one address may be wrong about a code, password or ticket
    #[arg(
        long,
        env = "COPLAY_ADDRESS_FAILURES",
        value_name = "N/N",
        default_value = "20/10",
        value_parser = pace,
        help_heading = "Limits"
    )]
    address_failures: Pace,
    /// How many seconds peers have to leave on SIGTERM or SIGINT; a second signal ends it at once
    #[arg(long, env = "COPLAY_DRAIN", value_name = "SECONDS", default_value_t = 10, help_heading = "Operation")]
    drain: u64,
    /// Answer /metrics, /healthz and /readyz at this address (TCP, plain HTTP) [default: /metrics from this machine only]
    #[arg(
        long,
        env = "COPLAY_METRICS_LISTEN",
        value_name = "ADDRESS:PORT",
        value_parser = listen::named,
        help_heading = "Operation"
    )]
    metrics_listen: Option<SocketAddr>,
    /// Answer /metrics to everyone
    #[arg(long, env = "COPLAY_METRICS_PUBLIC", conflicts_with = "metrics_listen", help_heading = "Operation")]
    metrics_public: bool,
    /// How to write the log: text for people, json for machines, one object a line
    #[arg(long, env = "COPLAY_LOG_FORMAT", value_enum, default_value = "text", help_heading = "Operation")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Header {
    XForwardedFor,
    Forwarded,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl Guarding {
    /// Logs to standard error from here on.
    pub(crate) fn start_log(&self, filter: EnvFilter) {
        // Colours are for people who look at a terminal and want them (no-color.org), and not for files.
        let plain = std::env::var_os("NO_COLOR").is_some_and(|said| !said.is_empty());
        let colours = io::stderr().is_terminal() && !plain;
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours);
        match self.log_format {
            LogFormat::Text => log.init(),
            LogFormat::Json => log.json().flatten_event(true).init(),
        }
    }

    /// The same configuration with what these options say.
    pub(crate) fn apply(self, mut config: Config) -> Result<Config, Box<dyn Error>> {
        config.tls = self.tls_cert.zip(self.tls_key).map(|(cert, key)| TlsFiles { cert, key });
        config.proxies = Proxies {
            trusted: self.trusted_proxy,
            header: match self.forwarded_header {
                Header::XForwardedFor => ForwardedHeader::XForwardedFor,
                Header::Forwarded => ForwardedHeader::Forwarded,
            },
        };
        config.origins = Origins::only(self.allow_origin)?;
        if let Some(file) = &self.ticket_secret_file {
            let secret = fs::read_to_string(file)
                .map_err(|error| format!("cannot read the ticket secret from {} ({error})", file.display()))?;
            config.tickets = Some(Secret::from(secret.trim()));
        }
        config.opaque_signals = self.opaque_signals;
        config.limits.connections = self.max_connections;
        config.address_limits = AddressLimits {
            connections: self.max_address_connections,
            peers: self.max_address_peers,
            joins: self.address_joins,
            rooms: self.address_rooms,
            failures: self.address_failures,
        };
        config.timing.drain = Duration::from_secs(self.drain);
        config.metrics = match self.metrics_listen {
            Some(address) => MetricsAccess::At(address),
            None if self.metrics_public => MetricsAccess::Public,
            None => MetricsAccess::Loopback,
        };
        Ok(config)
    }
}

/// Reads `BURST/PER_MINUTE`.
fn pace(text: &str) -> Result<Pace, String> {
    let pace = text.split_once('/').and_then(|(burst, per_minute)| {
        Some(Pace { burst: burst.trim().parse().ok()?, per_minute: per_minute.trim().parse().ok()? })
    });
    pace.ok_or_else(|| format!("{text:?} is not of the form 64/60: so many at once / then so many a minute"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        guarding: Guarding,
    }

    #[test]
    fn the_defaults_of_the_options_are_those_of_the_library() {
        let Only { guarding } = Only::parse_from(["x"]);
        let config = guarding.apply(Config::default()).unwrap();
        let library = Config::default();
        assert_eq!(config.limits, library.limits);
        assert_eq!(config.address_limits, library.address_limits);
        assert_eq!((config.proxies, config.origins), (library.proxies, library.origins));
        assert_eq!(config.timing.drain, Duration::from_secs(10), "but for this");
    }

    #[test]
    fn a_pace_is_two_numbers() {
        assert_eq!(pace("5/60"), Ok(Pace { burst: 5, per_minute: 60 }));
        for text in ["", "5", "5/", "/5", "a/b", "5/60/7"] {
            assert!(pace(text).is_err(), "{text}");
        }
    }
}
