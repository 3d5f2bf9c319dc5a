//! How the pairs of one case are started, each case with two namespaces and a path of its own, and what they say.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Case, Pair, Pattern, Stack, Way};
use crate::{
    bench::{
        emulated::{A, Conditions, Emulated, Mark, Side},
        peers::said,
        servers::serve,
    },
    browser, interrupt,
    run::{Result, Running, make_dir},
};

/// The program of the peers.
pub(in crate::bench) const PROGRAM: &str = "loss_peer";
/// What a line of theirs begins with.
const MARK: &str = "loss_peer {";

/// For all connections of a case to open.
const OPENING: Duration = Duration::from_secs(90);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);
/// Where signaling, the page and side A listen. renet takes as many ports as there are connections.
const SIGNALING: u16 = 3536;
const PAGE: u16 = 8080;
const PEER: u16 = 4000;
/// Bytes of live state in each frame, where there is any: 30 kB a second.
pub(in crate::bench) const STATE: usize = 500;
/// Frames a second, of every peer.
pub(in crate::bench) const FRAMES: u32 = 60;

/// How many frames apart messages are that come 20 times a second.
pub(in crate::bench) const INTERVAL: u32 = FRAMES / 20;

/// What a peer says.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Said {
    Ready,
    Open { count: usize },
    Counted { phase: u16, sent: u64, twice: u64, skipped: u64, times: Vec<f64> },
    Ages(Ages),
    Closed { reason: String },
    Failed { reason: String },
}

/// How old the newest state was in each frame of a second.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(in crate::bench) struct Ages {
    /// When it was over, in ms since 1970.
    pub(in crate::bench) at: f64,
    /// In ms.
    pub(in crate::bench) ages: Vec<f64>,
}

/// What became of the messages of one phase.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::bench) struct Counted {
    pub(in crate::bench) sent: u64,
    /// That came again.
    pub(in crate::bench) twice: u64,
    /// That had not come when a later one did.
    pub(in crate::bench) skipped: u64,
    /// How long each took that came, in ms.
    pub(in crate::bench) times: Vec<f64>,
}

impl Counted {
    pub(in crate::bench) fn add(&mut self, more: &Self) {
        self.sent += more.sent;
        self.twice += more.twice;
        self.skipped += more.skipped;
        self.times.extend_from_slice(&more.times);
    }
}

/// What side A is told.
#[derive(Serialize)]
pub(in crate::bench) struct Order {
    phase: u16,
    count: u32,
    every: u32,
    way: Way,
    by_a: bool,
}

/// A case that runs.
pub(in crate::bench) struct Cell {
    pub(in crate::bench) case: Case,
    a: Running,
    b: Running,
    _servers: Vec<Running>,
    link: Emulated,
    /// What the browser stored, tens of MB.
    profile: Option<PathBuf>,
}

impl Drop for Cell {
    fn drop(&mut self) {
        self.b.stop();
        if let Some(profile) = &self.profile {
            let _ = fs::remove_dir_all(profile);
        }
    }
}

impl Cell {
    /// Starts the servers and both sides; the path is perfect until it is set. `ages`: whether to tell how old state is;
    /// `programs`: the folder with all programs, `page`: that of the page.
    pub(in crate::bench) fn start(
        case: Case,
        ages: bool,
        programs: &Path,
        page: Option<&Path>,
        place: &Path,
    ) -> Result<Self> {
        let name = case.name();
        let place = place.join(&name);
        make_dir(&place)?;
        let link = Emulated::new(&name, programs, &place)?;
        let mut servers = Vec::new();
        let port = match case.stack {
            Stack::CoplayEvent | Stack::Matchbox => {
                let mut signaling = Command::new(programs.join("coplay-signaling"));
                signaling.args(["--no-relay", "--listen", &format!("0.0.0.0:{SIGNALING}")]);
                let mut inside = link.inside(Side::A, &signaling);
                servers.push(serve("signaling", &mut inside, "listening on", &place)?);
                SIGNALING
            }
            Stack::Webrtc | Stack::Websocket | Stack::Renet => PEER,
        };
        let state = if case.state { STATE } else { 0 };
        let settings = [
            ("stack", case.stack.name().to_owned()),
            ("count", case.count().to_string()),
            ("address", format!("{A}:{port}")),
            ("state", state.to_string()),
            ("ages", ages.to_string()),
        ];
        let peer = |side: &str| {
            let mut command = Command::new(programs.join(PROGRAM));
            command.args(["--side", side]);
            for (name, value) in &settings {
                command.arg(format!("--{name}")).arg(value);
            }
            command
        };
        let mut a = link.inside(Side::A, &peer("a"));
        let mut a = Running::start_listening(PROGRAM, &mut a, Some(&place.join("a.log")))?;
        until(&mut a, "begin", |said| matches!(said, Said::Ready))?;
        let b = match case.pair {
            Pair::NativeNative => {
                Running::start(PROGRAM, &mut link.inside(Side::B, &peer("b")), Some(&place.join("b.log")))?
            }
            Pair::NativeWeb => {
                let page = page.ok_or("there is no page")?;
                let own = env::current_exe().map_err(|error| format!("cannot tell where xtask is: {error}"))?;
                let mut pages = Command::new(own);
                pages.arg("serve-page").arg(page).arg(format!("{A}:{PAGE}"));
                servers.push(serve("page", &mut link.inside(Side::A, &pages), "serving", &place)?);
                let query: Vec<_> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let url = format!("http://{A}:{PAGE}/?side=b&{}", query.join("&"));
                let browser = browser::headless("b", &url, &place)?;
                Running::start(PROGRAM, &mut link.inside(Side::B, &browser), Some(&place.join("b.log")))?
            }
        };
        let profile = (case.pair == Pair::NativeWeb).then(|| browser::profile("b", &place));
        Ok(Self { case, a, b, _servers: servers, link, profile })
    }

    /// Waits until all connections are open on both sides.
    pub(in crate::bench) fn opened(&mut self) -> Result {
        let all = self.case.count();
        for side in [&mut self.a, &mut self.b] {
            opened(side, all).map_err(|error| format!("{}: {error}", self.case.name()))?;
        }
        Ok(())
    }

    /// Has messages sent for so many seconds, by side A or by side B, and counted under this number.
    pub(in crate::bench) fn tell(&mut self, phase: u16, seconds: u32, way: Way, by_a: bool) -> Result {
        self.a.tell(&json!(self.case.order(phase, seconds, way, by_a)))
    }

    /// Changes the path.
    pub(in crate::bench) fn set(&mut self, label: &str, conditions: Conditions) -> Result {
        self.a.check()?;
        self.b.check()?;
        self.link.set(label, conditions)
    }

    /// What became of the messages so far, by phase, and what went over the path.
    pub(in crate::bench) fn counted(&self) -> Result<(BTreeMap<u16, Counted>, Vec<Mark>)> {
        let mut phases = BTreeMap::<u16, Counted>::new();
        for side in [&self.a, &self.b] {
            for (phase, counted) in read(&side.log()).map_err(|error| format!("{}: {error}", self.case.name()))? {
                phases.entry(phase).or_default().add(&counted);
            }
        }
        Ok((phases, self.link.marks()?))
    }

    /// How old state was, as both sides saw it.
    pub(in crate::bench) fn ages(&self) -> Result<Vec<Ages>> {
        let said = said(&self.a.log(), MARK)?.into_iter().chain(said(&self.b.log(), MARK)?);
        Ok(said.filter_map(|said| if let Said::Ages(ages) = said { Some(ages) } else { None }).collect())
    }

    /// Why connections ended that were not to.
    pub(in crate::bench) fn closed(&self) -> Result<Vec<String>> {
        let logs = said(&self.a.log(), MARK)?.into_iter().chain(said(&self.b.log(), MARK)?);
        Ok(logs.filter_map(|said| if let Said::Closed { reason } = said { Some(reason) } else { None }).collect())
    }
}

impl Case {
    /// To send for so many seconds.
    pub(in crate::bench) const fn order(self, phase: u16, seconds: u32, way: Way, by_a: bool) -> Order {
        let every = self.pattern.every();
        Order { phase, count: seconds * FRAMES / every, every, way, by_a }
    }
}

impl Pattern {
    /// How many frames apart messages are.
    const fn every(self) -> u32 {
        match self {
            Self::Lone => FRAMES / 5,
            Self::Steady => INTERVAL,
        }
    }
}

/// What one side said of the messages, by phase.
pub(in crate::bench) fn read(log: &str) -> Result<BTreeMap<u16, Counted>> {
    let mut phases = BTreeMap::<u16, Counted>::new();
    for said in said(log, MARK)? {
        match said {
            Said::Counted { phase, sent, twice, skipped, times } => {
                phases.entry(phase).or_default().add(&Counted { sent, twice, skipped, times });
            }
            Said::Failed { reason } => return Err(reason),
            Said::Ready | Said::Open { .. } | Said::Ages(_) | Said::Closed { .. } => {}
        }
    }
    Ok(phases)
}

/// Waits until a peer has so many open connections.
pub(in crate::bench) fn opened(peer: &mut Running, all: usize) -> Result {
    until(peer, "open all connections", |said| matches!(said, Said::Open { count } if *count == all))
}

/// Waits until a peer said this.
fn until(peer: &mut Running, what: &str, is_it: impl Fn(&Said) -> bool) -> Result {
    let start = Instant::now();
    loop {
        interrupt::check()?;
        let said: Vec<Said> = said(&peer.log(), MARK)?;
        if let Some(reason) =
            said.iter().find_map(|said| if let Said::Failed { reason } = said { Some(reason) } else { None })
        {
            return Err(reason.clone());
        }
        if said.iter().any(&is_it) {
            return Ok(());
        }
        peer.check()?;
        if start.elapsed() > OPENING {
            return Err(format!("a peer does not {what} within {OPENING:?}{}", peer.last_words()));
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_sides_say_of_a_phase_is_added_up() {
        let log = "loss_peer {\"event\":\"open\",\"count\":3}\n\
                   [1:1:INFO:CONSOLE:1] \"loss_peer {\"event\":\"counted\",\"phase\":2,\"sent\":0,\"twice\":1,\"skipped\":0,\"times\":[40.5,41]}\", source: http://x/game.js (2)\n\
                   loss_peer {\"event\":\"counted\",\"phase\":2,\"sent\":5,\"twice\":0,\"skipped\":2,\"times\":[]}\n";
        let all = read(log).expect("understood").remove(&2).expect("it was said");
        assert_eq!(all, Counted { sent: 5, twice: 1, skipped: 2, times: vec![40.5, 41.0] });
    }
}
