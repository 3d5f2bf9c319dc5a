//! How a person comes to play: everything is built, served and opened by one command.

use std::{
    env,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    browser, native,
    run::{Result, Running, Steps, make_dir, say, target},
    site::Site,
    web,
};

/// The game.
const GAME: &str = "arena";
/// The page around it.
const INDEX: &str = "examples/web/index.html";
/// Where matches are usually met.
const PORT: u16 = 3536;
/// What lives where there is no display.
const BOTS: usize = 3;
/// How long native and page may take to meet in `--check`, software rendering included.
const MEETING: Duration = Duration::from_secs(120);

/// What `play` is asked for.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Who decides: a host, or everyone about their own.
    #[arg(long, value_parser = ["host", "mesh"], default_value = "mesh")]
    topology: String,
    /// Ships that play by themselves. By default none, or 3 where there is no display for a window.
    #[arg(long)]
    bots: Option<usize>,
    /// Windows to open on this machine, or games without a window where there is no display.
    #[arg(long, default_value_t = 1)]
    peers: usize,
    /// Build as for publishing: slower to build, smaller and faster to play.
    #[arg(long)]
    release: bool,
    /// Where to serve the page and signaling, as ADDRESS:PORT; `0.0.0.0:3536` lets others on your network in, and prints their
    /// URL. By default at `127.0.0.1:3536`, or another port if that one is taken.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// A STUN server in the internet, as `stun:HOST:PORT`, for players at home of whom one plays elsewhere: the server
    /// here, which sits beside them, cannot tell them their public address. May be given several times.
    #[arg(long, value_name = "URL")]
    ice_server: Vec<String>,
    /// Stop after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Check that it works: without windows, open the page in a headless browser, and stop when it has met the native
    /// game.
    #[arg(long)]
    check: bool,
}

impl Options {
    /// What CI tries.
    pub(crate) fn check() -> Self {
        Self {
            topology: "mesh".to_owned(),
            bots: Some(1),
            peers: 1,
            release: false,
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            ice_server: Vec::new(),
            seconds: None,
            check: true,
        }
    }
}

/// The arena, built for this machine and for browsers.
pub(crate) struct Arena {
    pub(crate) program: PathBuf,
    pub(crate) page: PathBuf,
}

impl Arena {
    /// Builds both, saying so.
    pub(crate) fn build(steps: &mut Steps, release: bool) -> Result<Self> {
        steps.next("building the game for this machine (first time about 10 minutes)");
        let program = native::build(&[GAME], release)?.join(format!("{GAME}{}", env::consts::EXE_SUFFIX));
        steps.next("building the page (first time about 10 minutes)");
        let profile = if release { web::Profile::Release } else { web::Profile::Web };
        Ok(Self { program, page: web::build(GAME, profile, Path::new(INDEX))? })
    }
}

/// Plays until Ctrl-C, or until the window is closed.
pub(crate) fn play(options: &Options) -> Result {
    let mut steps = Steps::new(4);
    let listen = where_to(options.listen)?;
    Site::check(&options.ice_server)?;
    let arena = Arena::build(&mut steps, options.release)?;
    steps.next("starting signaling, with the page on the same port");
    let site = Site::start(arena.page.clone(), listen, &options.ice_server)?;
    let url = format!("http://{}/?room=play&topology={}", site.host(), options.topology);
    let place = target()?.join("play");
    make_dir(&place)?;

    let windows = has_display() && !options.check;
    let mut games = Vec::new();
    if windows {
        steps.next("opening the game");
        for number in 1..=options.peers {
            let bots = if number == 1 { options.bots.unwrap_or(0) } else { 0 };
            games.push(native(
                &arena,
                options,
                &site,
                &format!("native {number}"),
                &["--bots", &bots.to_string()],
                None,
            )?);
        }
    } else {
        let bots = options.bots.unwrap_or(if options.check { 1 } else { BOTS });
        steps.next(&format!("there is no display for a window: {bots} bots play without one"));
        for number in 1..=options.peers {
            // The first game has the bots, the others look on.
            let bots = if number == 1 { bots } else { 0 };
            let name = format!("native {number}");
            let log = place.join(format!("native-{number}.log"));
            games.push(native(
                &arena,
                options,
                &site,
                &name,
                &["--headless", "--bots", &bots.to_string()],
                Some(&log),
            )?);
        }
    }
    println!("\nOpen {url}\nin as many tabs and browsers as you like; Ctrl-C stops.\n");
    if options.check {
        let page = browser::open_headless("page", &format!("{url}&name=page"), &place)?;
        games.push(page);
        return until_met(&mut games, MEETING);
    }
    until_stopped(&mut games, options.seconds.map(Duration::from_secs))
}

/// Where to listen. Known before anything is built: who was told of a port cannot come by another.
fn where_to(wanted: Option<SocketAddr>) -> Result<SocketAddr> {
    let Some(wanted) = wanted else {
        let usual = SocketAddr::from(([127, 0, 0, 1], PORT));
        return Ok(if TcpListener::bind(usual).is_ok() { usual } else { SocketAddr::new(usual.ip(), 0) });
    };
    TcpListener::bind(wanted).map_err(|error| {
        format!("cannot listen at {wanted}: {error}; stop what does, or choose another with --listen")
    })?;
    Ok(wanted)
}

fn native(
    arena: &Arena,
    options: &Options,
    site: &Site,
    name: &str,
    more: &[&str],
    log: Option<&Path>,
) -> Result<Running> {
    let mut command = Command::new(&arena.program);
    command.args(["--room", "play", "--topology", &options.topology, "--signaling", &site.signaling(), "--name", name]);
    Running::start(name, command.args(more), log)
}

/// Whether a window can be opened.
fn has_display() -> bool {
    let set = |variable| env::var_os(variable).is_some_and(|value| !value.is_empty());
    cfg!(any(windows, target_os = "macos")) || set("DISPLAY") || set("WAYLAND_DISPLAY")
}

/// Waits for Ctrl-C, the end of the time, or the end of a game; then lets the games say goodbye.
fn until_stopped(games: &mut [Running], seconds: Option<Duration>) -> Result {
    let start = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("cannot wait for Ctrl-C: {error}"))?.block_on(async {
        let interrupt = tokio::signal::ctrl_c();
        tokio::pin!(interrupt);
        loop {
            tokio::select! {
                _ = &mut interrupt => break say("stopping"),
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
            if seconds.is_some_and(|seconds| start.elapsed() >= seconds) {
                break say("time is up: stopping");
            }
            if let Some(ended) = games.iter_mut().find_map(|game| game.check().err()) {
                break say(&format!("{ended}: stopping"));
            }
        }
    });
    // Ctrl-C on a terminal reaches the games too.
    for game in games {
        game.ended_within(Duration::from_secs(1));
    }
    Ok(())
}

/// Waits until each of the games has seen another one join.
pub(crate) fn until_met(games: &mut [Running], limit: Duration) -> Result {
    until_told(games, limit, "native game and page have met", |log| log.contains("joined:"))
}

/// Waits until the log of each of the games tells it: what it is that has happened then, and how one sees it.
pub(crate) fn until_told(games: &mut [Running], limit: Duration, what: &str, told: impl Fn(&str) -> bool) -> Result {
    let start = Instant::now();
    loop {
        games.iter_mut().try_for_each(Running::check)?;
        if games.iter().all(|game| told(&game.log())) {
            println!("{what} after {:.1} s", start.elapsed().as_secs_f32());
            return Ok(());
        }
        if start.elapsed() > limit {
            let last: Vec<_> = games.iter().map(|game| format!("{}{}", game.name, game.last_words())).collect();
            return Err(format!("waited {limit:?} in vain until {what}\n{}", last.join("\n")));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
