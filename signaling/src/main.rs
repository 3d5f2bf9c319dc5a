//! `coplay-signaling`: the signaling server as a program.

use std::{
    error::Error,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{ArgGroup, Parser};
use coplay_proto::signal::IceServer;
use coplay_signaling::{Config, DEFAULT_PORT, Limits, Secret, Signaling, Stun, Turn};
use tracing_subscriber::EnvFilter;

/// Signaling for coplay and matchbox_socket 0.15: peers meet in rooms at ws://HOST:PORT/ROOM, and connect directly.
///
/// When it listens, it prints one line: "listening on ws://ADDRESS:PORT". It stops on SIGINT and SIGTERM.
/// Every option can be given by its environment variable as well.
#[derive(Debug, Parser)]
#[allow(clippy::doc_markdown, reason = "the comments are what --help prints")]
#[command(name = "coplay-signaling", version)]
#[command(group = ArgGroup::new("turn-secrets").args(["turn_secret", "turn_secret_file"]))]
struct Options {
    /// Where to listen for WebSockets (TCP); port 0 takes any that is free
    #[arg(long, env = "COPLAY_LISTEN", value_name = "ADDRESS:PORT", default_value_t = every_address())]
    listen: SocketAddr,
    /// Where the embedded STUN server listens (UDP) [default: as --listen]
    #[arg(long, env = "COPLAY_STUN", value_name = "ADDRESS:PORT")]
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
    /// A file with nothing but the TURN server's static-auth-secret
    #[arg(long, env = "COPLAY_TURN_SECRET_FILE", value_name = "FILE")]
    turn_secret_file: Option<PathBuf>,
    /// How many seconds TURN credentials last
    #[arg(long, env = "COPLAY_TURN_TTL", value_name = "SECONDS", default_value_t = 3600)]
    turn_ttl: u64,
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
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not by the log, which may be filtered.
            let _ = writeln!(std::io::stderr(), "coplay-signaling: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(mut options: Options) -> Result<(), Box<dyn Error>> {
    let log = std::mem::take(&mut options.log);
    tracing_subscriber::fmt().with_env_filter(log).with_writer(std::io::stderr).init();
    let signaling = Signaling::bind(config(options)?).await?;
    let stop = stop_signal()?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", signaling.url())?;
    out.flush()?;
    signaling.serve(stop).await;
    tracing::info!("signaling stopped");
    Ok(())
}

fn config(options: Options) -> Result<Config, Box<dyn Error>> {
    let secret = match (options.turn_secret, &options.turn_secret_file) {
        (Some(secret), _) => secret,
        (None, Some(file)) => std::fs::read_to_string(file)
            .map_err(|error| format!("cannot read the TURN secret from {} ({error})", file.display()))?
            .trim()
            .to_owned(),
        (None, None) => String::new(),
    };
    let turn = (!options.turn.is_empty()).then(|| Turn {
        urls: options.turn,
        secret: Secret::from(secret),
        ttl: Duration::from_secs(options.turn_ttl),
    });
    let ice_servers = options.ice_server.into_iter().map(|url| IceServer { urls: vec![url], ..IceServer::default() });
    Ok(Config {
        listen: options.listen,
        stun: match options.stun {
            _ if options.no_stun => Stun::Off,
            Some(address) => Stun::At(address),
            None => Stun::SamePort,
        },
        ice_servers: ice_servers.collect(),
        turn,
        limits: Limits {
            peers: options.max_peers,
            rooms: options.max_rooms,
            room_peers: options.max_room_peers,
            ..Limits::default()
        },
        ..Config::default()
    })
}

/// Comes when the process is asked to stop. It is listened for from here on, not from when it is waited for.
#[cfg(unix)]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => (),
            _ = terminate.recv() => (),
        }
    })
}

/// Comes when the process is asked to stop. It is listened for from here on, not from when it is waited for.
#[cfg(windows)]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
    })
}

fn every_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT))
}
