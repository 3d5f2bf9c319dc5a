//! `coplay-signaling`: the signaling server as a program.

use std::{
    error::Error,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{ArgGroup, CommandFactory, FromArgMatches, Parser};
use coplay_proto::signal::IceServer;
use coplay_signaling::{Config, DEFAULT_PORT, Limits, Secret, Signaling, Stun, TlsReload, Turn};
use tracing_subscriber::EnvFilter;

use crate::guarding::Guarding;

#[path = "main/file.rs"]
mod file;
#[path = "main/guarding.rs"]
mod guarding;

/// Signaling for coplay and matchbox_socket 0.15: peers meet in rooms at ws://HOST:PORT/ROOM, and connect directly.
///
/// When it listens, it prints one line: "listening on ws://ADDRESS:PORT". It stops on SIGINT and SIGTERM, and reads its
/// certificate anew on SIGHUP. Every option can be given by its environment variable, or in the file of --config, as well:
/// the command line beats the environment, and that beats the file.
#[derive(Debug, Parser)]
#[allow(clippy::doc_markdown, reason = "the comments are what --help prints")]
#[command(name = "coplay-signaling", version)]
#[command(group = ArgGroup::new("turn-secrets").args(["turn_secret", "turn_secret_file"]))]
struct Options {
    /// A file of options (TOML): their long names without the dashes, such as listen = "0.0.0.0:3536"
    #[arg(long, env = "COPLAY_CONFIG", value_name = "FILE")]
    config: Option<String>,
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
    writeln!(out, "listening on {}", signaling.url())?;
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
    let config = Config {
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
    };
    options.guarding.apply(config)
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
