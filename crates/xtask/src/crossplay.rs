//! How native peers and pages in real browsers play one match over real WebRTC, and what is measured of it.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    browser::Browser,
    native,
    run::{Result, Running, Steps, make_dir, say, target},
    tools, web,
};

use self::{desk::Desk, report::Report};

mod desk;
mod matches;
mod memory;
mod report;
#[path = "../../../tests/src/crossplay.rs"]
#[allow(dead_code, unreachable_pub, reason = "public for the peers, who use the other half of it")]
mod wire;

/// The program of a peer.
const PEER: &str = "crossplay_peer";
/// Its page.
const INDEX: &str = "tests/src/bin/crossplay_peer/index.html";

/// How long a match is played.
const SECONDS: u32 = 20;
/// How many browsers play in it.
const PAGES: usize = 2;

/// What `crossplay` is asked for.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write what was measured to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// For how long each match is played.
    #[arg(long, default_value_t = SECONDS)]
    seconds: u32,
    /// On which signaling server the peers meet: ours, or an unmodified `matchbox_server`, where a native peer and two
    /// browsers play one match in mesh topology.
    #[arg(long, value_enum, default_value_t = Server::Coplay)]
    server: Server,
    /// What makes the peers' connections: our own sockets, or `matchbox_socket`, where by default a native peer and two
    /// browsers play one match in mesh topology.
    #[arg(long, value_enum, default_value_t = Transport::Webrtc)]
    transport: Transport,
    /// How many native peers play. By default 2 where all is our own, else 1.
    #[arg(long)]
    native: Option<usize>,
    /// How many pages play. Without any, none is built, and the figures are those of native peers alone.
    #[arg(long, default_value_t = PAGES)]
    web: usize,
    /// In which browser the pages play.
    #[arg(long, value_enum, default_value_t)]
    browser: Browser,
    /// Play only this match.
    #[arg(long, value_enum)]
    only: Option<Match>,
    /// How many percent of what each peer sends are lost, by the conditioner.
    #[arg(long, default_value_t = 0)]
    loss: u32,
}

impl Options {
    /// All matches on this server, as long as `--seconds` says by default.
    pub(crate) fn on(server: Server) -> Self {
        let (transport, browser) = (Transport::Webrtc, Browser::default());
        Self { json: None, seconds: SECONDS, server, transport, native: None, web: PAGES, browser, only: None, loss: 0 }
    }

    /// One match of peers that connect by `matchbox_socket`.
    pub(crate) fn by_matchbox() -> Self {
        Self { transport: Transport::Matchbox, ..Self::on(Server::Coplay) }
    }

    /// One match with pages in Firefox.
    pub(crate) fn in_firefox() -> Self {
        Self { browser: Browser::Firefox, only: Some(Match::Mesh), ..Self::on(Server::Coplay) }
    }

    /// One match that is played for long, on a bad path.
    pub(crate) fn long(minutes: u32, loss: u32, native: usize, web: usize, json: Option<PathBuf>) -> Self {
        let only = Some(Match::Mesh);
        Self { seconds: minutes * 60, loss, native: Some(native), web, json, only, ..Self::on(Server::Coplay) }
    }

    /// One short match.
    pub(crate) fn quick() -> Self {
        Self { seconds: 5, only: Some(Match::Mesh), ..Self::on(Server::Coplay) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Server {
    Coplay,
    Matchbox,
}

/// What makes the peers' connections.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Transport {
    Webrtc,
    Matchbox,
}

impl Transport {
    /// What a peer is told, and the report says.
    fn name(self) -> &'static str {
        match self {
            Self::Webrtc => "webrtc",
            Self::Matchbox => "matchbox",
        }
    }
}

/// Who plays with whom.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Match {
    Mesh,
    NativeHost,
    BrowserHost,
}

impl Match {
    fn topology(self) -> &'static str {
        if self == Self::Mesh { "mesh" } else { "host" }
    }

    fn host_kind(self) -> Option<&'static str> {
        match self {
            Self::Mesh => None,
            Self::NativeHost => Some("native"),
            Self::BrowserHost => Some("web"),
        }
    }
}

/// Plays the matches; an error unless every world converged and every event came once and in order.
pub(crate) fn crossplay(options: &Options) -> Result {
    measured(options).map(drop)
}

/// The same; how much memory each peer of the last match took, at equal distances of time.
pub(crate) fn measured(options: &Options) -> Result<BTreeMap<String, Vec<f64>>> {
    let all_our_own = options.server == Server::Coplay && options.transport == Transport::Webrtc;
    let matches: &[_] = match &options.only {
        Some(only) => std::slice::from_ref(only),
        None if all_our_own => &[Match::Mesh, Match::NativeHost, Match::BrowserHost],
        None => &[Match::Mesh],
    };
    let mut steps = Steps::new(2 + matches.len());
    steps.next("building the native peer (first time about 10 minutes)");
    let programs = native::build(&[PEER, "coplay-signaling"], false)?;
    steps.next("building the page of the peer (first time about 10 minutes)");
    let place = target()?.join("crossplay");
    make_dir(&place)?;
    let page = if options.web > 0 { web::build(PEER, web::Profile::Web, Path::new(INDEX))? } else { place.clone() };
    let (port, _signaling) = signaling(options.server, &programs, &place)?;

    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("cannot start tokio: {error}"))?;
    let (mut runs, mut failed) = (Vec::new(), Vec::new());
    for &kind in matches {
        let native = options.native.unwrap_or(if all_our_own { 2 } else { 1 });
        let web = options.web;
        steps.next(&format!("{native} native peers and {web} pages in {:?}: {}", options.browser, title(kind)));
        let players = matches::Players {
            kind,
            transport: options.transport.name(),
            native,
            web,
            browser: options.browser,
            seconds: options.seconds,
            loss: options.loss,
            signaling: format!("ws://127.0.0.1:{port}"),
            program: programs.join(format!("{PEER}{}", std::env::consts::EXE_SUFFIX)),
            place: place.join(title(kind).replace(' ', "-")),
        };
        let run = runtime.block_on(async { matches::play(&players, Desk::open(page.clone()).await?).await });
        match run {
            Ok(run) => runs.push(run),
            Err(error) => failed.push(format!("{}: {error}", title(kind))),
        }
    }
    runtime.shutdown_background();
    let report = Report { runs };
    println!("{}", report.table());
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        fs::write(path, text + "\n").map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        say(&format!("wrote {}", path.display()));
    }
    if let Err(verdict) = report.verdict() {
        failed.push(verdict);
    }
    let memory = report.runs.last().map(|run| run.memory().clone()).unwrap_or_default();
    if failed.is_empty() { Ok(memory) } else { Err(failed.join("\n")) }
}

fn title(kind: Match) -> String {
    kind.host_kind().map_or_else(|| "mesh".to_owned(), |host| format!("{host} host"))
}

/// Starts the server on a port that is free.
fn signaling(server: Server, programs: &Path, place: &Path) -> Result<(u16, Running)> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = free.map_err(|error| format!("no free port: {error}"))?.port();
    let address = format!("127.0.0.1:{port}");
    let mut command = match server {
        Server::Coplay => {
            let mut command = Command::new(programs.join(format!("coplay-signaling{}", std::env::consts::EXE_SUFFIX)));
            command.args(["--listen", &address]);
            command
        }
        Server::Matchbox => {
            let mut command = Command::new(tools::matchbox_server()?);
            command.arg(&address);
            command
        }
    };
    let mut running = Running::start("signaling", &mut command, Some(&place.join("signaling.log")))?;
    for _ in 0..100 {
        running.check()?;
        if std::net::TcpStream::connect(&address).is_ok() {
            return Ok((port, running));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(format!("the signaling server does not listen on {address}{}", running.last_words()))
}
