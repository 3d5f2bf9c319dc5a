//! `coplay-signaling`: the signaling server as a program.

use std::{
    error::Error,
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{ArgGroup, CommandFactory, FromArgMatches, Parser};
use coplay_proto::signal::IceServer;
use coplay_signaling::{
    Config, DEFAULT_PORT, EmbeddedTurn, Limits, RelayRate, Secret, Signaling, Stun, TlsReload, Turn, axum::Router,
};
use tower_http::services::ServeDir;
use tracing_subscriber::EnvFilter;

use crate::{guarding::Guarding, relaying::Relaying};

#[path = "main/file.rs"]
mod file;
#[path = "main/guarding.rs"]
mod guarding;
#[path = "main/listen.rs"]
mod listen;
#[path = "main/relaying.rs"]
mod relaying;

/// How long the credentials of an external TURN server last.
const TURN_TTL: Duration = Duration::from_secs(3600);

/// Signaling for coplay and matchbox_socket 0.15: peers meet in rooms at ws://HOST:PORT/ROOM, and connect directly.
///
/// When it listens, it prints one line: "listening on 0.0.0.0:3536 (all interfaces): ws://127.0.0.1:3536 on this machine".
/// It stops on SIGINT and SIGTERM, and reads its certificate anew on SIGHUP. Every option can be given by its environment
/// variable, or in the file of --config, as well: the command line beats the environment, and that beats the file.
#[derive(Debug, Parser)]
#[allow(clippy::doc_markdown, reason = "the comments are what --help prints")]
#[command(name = "coplay-signaling", version)]
#[command(group = ArgGroup::new("turn-secrets").args(["turn_secret", "turn_secret_file"]))]
struct Options {
    /// A file of options (TOML): their long names without the dashes, such as listen = "0.0.0.0:3536"
    #[arg(long, env = "COPLAY_CONFIG", value_name = "FILE")]
    config: Option<String>,
    /// Where to listen for WebSockets (TCP): at HOST:PORT, or with PORT alone at all IPv4 addresses; port 0 takes any that is free
    #[arg(
        long,
        env = "COPLAY_LISTEN",
        value_name = "HOST:PORT",
        value_parser = listen::address,
        default_value_t = every_address()
    )]
    listen: SocketAddr,
    /// A folder with index.html, to serve to whoever opens this server's address in a browser: the game's page, say
    #[arg(long, env = "COPLAY_PAGE", value_name = "FOLDER")]
    page: Option<PathBuf>,
    /// Where the embedded STUN server listens (UDP) [default: as --listen]
    #[arg(long, env = "COPLAY_STUN", value_name = "HOST:PORT", value_parser = listen::address)]
    stun: Option<SocketAddr>,
    /// Do without the embedded STUN server
    #[arg(long, env = "COPLAY_NO_STUN", conflicts_with = "stun")]
    no_stun: bool,
    /// More STUN servers to tell peers of, such as stun:stun.example.org:3478; may be repeated
    #[arg(long, env = "COPLAY_ICE_SERVER", value_name = "URL", value_delimiter = ',')]
    ice_server: Vec<String>,
    /// A TURN server with use-auth-secret, such as turn:turn.example.org:3478; may be repeated for the URLs of one
    #[arg(long, env = "COPLAY_TURN", value_name = "URL", value_delimiter = ',', requires = "turn-secrets")]
    turn: Vec<String>,
    /// The TURN server's static-auth-secret. Others can see it in the list of processes: better use the file
    #[arg(long, env = "COPLAY_TURN_SECRET", value_name = "SECRET", hide_env_values = true)]
    turn_secret: Option<String>,
    /// A file with the TURN server's static-auth-secret. The embedded one also takes what further lines have, so that a
    /// secret can be exchanged: first the new one, then the old
    #[arg(long, env = "COPLAY_TURN_SECRET_FILE", value_name = "FILE")]
    turn_secret_file: Option<PathBuf>,
    /// How many seconds TURN credentials last [default: 3600, of the embedded one 43200]
    #[arg(long, env = "COPLAY_TURN_TTL", value_name = "SECONDS")]
    turn_ttl: Option<u64>,
    #[command(flatten)]
    embedded_turn: EmbeddedTurnOptions,
    /// How many peers at once, in all rooms
    #[arg(long, env = "COPLAY_MAX_PEERS", value_name = "N", default_value_t = Limits::default().peers)]
    max_peers: u32,
    /// How many rooms at once
    #[arg(long, env = "COPLAY_MAX_ROOMS", value_name = "N", default_value_t = Limits::default().rooms)]
    max_rooms: u32,
    /// How many peers in one room
    #[arg(long, env = "COPLAY_MAX_ROOM_PEERS", value_name = "N", default_value_t = Limits::default().room_peers)]
    max_room_peers: u32,
    /// What to log, to standard error: error, warn, info, debug, trace, or a filter such as coplay_signaling=debug
    #[arg(long, env = "COPLAY_LOG", value_name = "FILTER", default_value = "info")]
    log: EnvFilter,
    #[command(flatten)]
    relaying: Relaying,
    #[command(flatten)]
    guarding: Guarding,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "coplay-signaling: {error}");
            return ExitCode::FAILURE;
        }
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not by the log, which may be filtered.
            let _ = writeln!(std::io::stderr(), "coplay-signaling: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line, the environment and the file say. Ends the process for `--help` and what makes no sense.
fn options() -> Result<Options, String> {
    let command = Options::command();
    let arguments = file::arguments(&command, std::env::args_os().collect())?;
    let matches = command.get_matches_from(arguments);
    Ok(Options::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()))
}

#[tokio::main]
async fn run(mut options: Options) -> Result<(), Box<dyn Error>> {
    let log = std::mem::take(&mut options.log);
    options.guarding.start_log(log);
    let signaling = Signaling::bind(config(options)?).await?;
    let (mut first, mut second) = (Stops::listen()?, Stops::listen()?);
    #[cfg(unix)]
    if let Some(reload) = signaling.tls_reload() {
        tokio::spawn(reload_on_hangup(tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?, reload));
    }
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", signaling.listening())?;
    out.flush()?;
    tokio::select! {
        () = signaling.serve(first.next()) => (),
        // Both hear both: this waits for the second.
        () = async { second.next().await; second.next().await } => (),
    }
    tracing::info!("signaling stopped");
    Ok(())
}

fn config(options: Options) -> Result<Config, Box<dyn Error>> {
    let given = options.turn_secret.is_some() || options.turn_secret_file.is_some();
    let secret = match (options.turn_secret, &options.turn_secret_file) {
        (Some(secret), _) => secret,
        (None, Some(file)) => std::fs::read_to_string(file)
            .map_err(|error| format!("cannot read the TURN secret from {} ({error})", file.display()))?
            .trim()
            .to_owned(),
        (None, None) => String::new(),
    };
    let mut secrets: Vec<_> = secret.lines().map(str::trim).filter(|line| !line.is_empty()).map(Secret::from).collect();
    if secrets.is_empty() && given {
        // Refused, with what to do, by whoever was to use it.
        secrets.push(Secret::from(""));
    }
    let ttl = options.turn_ttl.map(Duration::from_secs);
    let turn = (!options.turn.is_empty()).then(|| Turn {
        urls: options.turn,
        secret: secrets.first().cloned().unwrap_or_else(|| Secret::from("")),
        ttl: ttl.unwrap_or(TURN_TTL),
    });
    let page = options.page.map(page).transpose()?;
    let ice_servers = options.ice_server.into_iter().map(|url| IceServer { urls: vec![url], ..IceServer::default() });
    let config = Config {
        listen: options.listen,
        stun: match options.stun {
            _ if options.no_stun => Stun::Off,
            Some(address) => Stun::At(address),
            None => Stun::SamePort,
        },
        ice_servers: ice_servers.collect(),
        page,
        turn,
        embedded_turn: options.embedded_turn.read(secrets, ttl),
        limits: Limits {
            peers: options.max_peers,
            rooms: options.max_rooms,
            room_peers: options.max_room_peers,
            ..Limits::default()
        },
        ..Config::default()
    };
    options.guarding.apply(options.relaying.apply(config))
}

/// What answers who is no WebSocket, of the files in a folder.
fn page(folder: PathBuf) -> Result<Router, String> {
    if !folder.join("index.html").is_file() {
        return Err(format!("--page {}: there is no index.html in it that can be read", folder.display()));
    }
    Ok(Router::new().fallback_service(ServeDir::new(folder).precompressed_gzip().precompressed_br()))
}

/// The TURN server within this one.
#[derive(Debug, clap::Args)]
#[allow(clippy::doc_markdown, reason = "the comments are what --help prints")]
struct EmbeddedTurnOptions {
    /// Relay for pairs of peers that cannot reach each other, on the UDP port of the STUN server (TURN)
    #[arg(long, env = "COPLAY_TURN_EMBEDDED")]
    turn_embedded: bool,
    /// The address that the internet has for this machine, if it is behind a NAT; may be repeated, once for IPv6
    #[arg(
        long,
        env = "COPLAY_TURN_EXTERNAL_IP",
        value_name = "ADDRESS",
        value_delimiter = ',',
        requires = "turn_embedded"
    )]
    turn_external_ip: Vec<IpAddr>,
    /// The UDP ports of relays, which must reach this machine [default: 61000-61999]
    #[arg(long, env = "COPLAY_TURN_PORTS", value_name = "FIRST-LAST", value_parser = ports, requires = "turn_embedded")]
    turn_ports: Option<RangeInclusive<u16>>,
    /// Relay into private networks and to this machine: for a LAN without internet. Never on the internet
    #[arg(long, env = "COPLAY_TURN_ALLOW_PRIVATE", requires = "turn_embedded")]
    turn_allow_private: bool,
    /// How many allocations at once [default: 1000]; a pair that relays has 2 or more
    #[arg(long, env = "COPLAY_TURN_ALLOCATIONS", value_name = "N", requires = "turn_embedded")]
    turn_allocations: Option<u32>,
    /// How many of them one peer has at most [default: 16]; it makes one for each peer it meets and network interface
    #[arg(long, env = "COPLAY_TURN_PEER_ALLOCATIONS", value_name = "N", requires = "turn_embedded")]
    turn_peer_allocations: Option<u32>,
    /// How many of them one address has at most, or one IPv6 network of 64 bits [default: 64]
    #[arg(long, env = "COPLAY_TURN_ADDRESS_ALLOCATIONS", value_name = "N", requires = "turn_embedded")]
    turn_address_allocations: Option<u32>,
    /// How many kilobits a second an allocation relays, either way [default: 2000]
    #[arg(long, env = "COPLAY_TURN_RATE", value_name = "KBIT", requires = "turn_embedded")]
    turn_rate: Option<u32>,
}

impl EmbeddedTurnOptions {
    fn read(self, secrets: Vec<Secret>, ttl: Option<Duration>) -> Option<EmbeddedTurn> {
        let default = EmbeddedTurn::default();
        self.turn_embedded.then(|| EmbeddedTurn {
            secrets,
            ttl: ttl.unwrap_or(default.ttl),
            ports: self.turn_ports.unwrap_or(default.ports),
            external_ips: self.turn_external_ip,
            allow_private: self.turn_allow_private,
            peer_allocations: self.turn_peer_allocations.unwrap_or(default.peer_allocations),
            address_allocations: self.turn_address_allocations.unwrap_or(default.address_allocations),
            allocations: self.turn_allocations.unwrap_or(default.allocations),
            rate: match self.turn_rate {
                Some(kbit) => RelayRate { bytes: kbit.saturating_mul(125), ..default.rate },
                None => default.rate,
            },
        })
    }
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let read = |text: &str| text.trim().parse::<u16>().ok();
    let range = text.split_once('-').and_then(|(first, last)| Some(read(first)?..=read(last)?));
    range.ok_or_else(|| "write FIRST-LAST, such as 61000-61999".into())
}

/// Reads the certificate anew whenever the process is told to.
#[cfg(unix)]
async fn reload_on_hangup(mut hangup: tokio::signal::unix::Signal, reload: TlsReload) {
    while hangup.recv().await.is_some() {
        match reload.reload() {
            Ok(changed) => tracing::info!(changed, "the certificate was read"),
            Err(error) => tracing::warn!(%error, "the certificate stays as it was"),
        }
    }
}

/// Asks the process to stop, time after time.
struct Stops {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(windows)]
    interrupt: tokio::signal::windows::CtrlC,
}

impl Stops {
    /// They are listened for from here on, not from when they are waited for.
    #[cfg(unix)]
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// They are listened for from here on, not from when they are waited for.
    #[cfg(windows)]
    fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: tokio::signal::windows::ctrl_c()? })
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => (),
            _ = self.terminate.recv() => (),
        }
    }

    #[cfg(windows)]
    async fn next(&mut self) {
        self.interrupt.recv().await;
    }
}

fn every_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT))
}
