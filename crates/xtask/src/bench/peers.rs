//! How the two peers of a bench are started, each in its namespace, and what they say.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    netns::{Net, Space},
    servers,
};
use crate::{
    browser, interrupt,
    run::{Result, Running},
};

/// The program of a peer, and its page.
pub(super) const PROGRAM: &str = "nat_peer";
pub(super) const INDEX: &str = "benches/src/bin/nat_peer/index.html";

/// For a peer to enter the room: Chromium starts within that, on a machine that does other things too.
const ENTERING: Duration = Duration::from_secs(60);
/// What a line of a peer begins with.
const MARK: &str = "nat_peer {";
/// How often it is looked whether something was said.
const LOOK: Duration = Duration::from_millis(50);

/// How a peer is told to be.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    /// In a browser.
    pub(super) web: bool,
    /// Only by TURN.
    pub(super) relay: bool,
    /// Only by signaling.
    pub(super) websocket: bool,
    /// How many messages it sends.
    pub(super) pings: u32,
    /// How far apart, in ms.
    pub(super) every: u32,
}

/// How direct a path is, from direct to not at all. Of what the two ends call it, the less direct counts: the one behind a NAT
/// sees itself at its own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Host,
    Srflx,
    Relay,
    Websocket,
}

/// One line of a peer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    Entered { at: f64 },
    Opened { at: f64 },
    Measured(Measured),
    Closed { at: f64, code: Option<String>, reason: String },
    Failed { reason: String },
}

/// What a peer found of the connection.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Measured {
    pub(super) path: Kind,
    /// Its own address, and the other's.
    pub(super) local: String,
    pub(super) remote: String,
    pub(super) sent: u32,
    pub(super) answered: u32,
    /// Of every answered message, from short to long.
    pub(super) rtt_ms: Vec<f64>,
}

/// What became of one peer. Times are in ms since 1970.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct End {
    pub(super) entered: f64,
    /// When it was connected, or given up.
    pub(super) at: f64,
    /// Or the code, and why it came to nothing.
    pub(super) result: std::result::Result<Measured, (Option<String>, String)>,
}

/// Has two peers meet in a room, A first; returns what became of each.
pub(super) fn meet(
    net: &Net,
    programs: &Path,
    place: &Path,
    room: &str,
    manners: [Manner; 2],
    limit: Duration,
) -> Result<[End; 2]> {
    let start = |name, space, manner| Peer::start(net, programs, place, room, name, space, manner);
    let [one, other] = manners;
    let mut peers = vec![start("a", Space::A, one)?];
    wait(&mut peers, ENTERING, Peer::entered)?;
    peers.push(start("b", Space::B, other)?);
    wait(&mut peers, ENTERING, Peer::entered)?;
    let ends = wait(&mut peers, limit, Peer::end)?;
    ends.try_into().map_err(|_| "there are two peers".to_owned())
}

struct Peer {
    running: Running,
    profile: Option<PathBuf>,
}

impl Peer {
    fn start(
        net: &Net,
        programs: &Path,
        place: &Path,
        room: &str,
        name: &str,
        space: Space,
        manner: Manner,
    ) -> Result<Self> {
        let parameters = [
            ("room", servers::room(room)),
            ("relay", manner.relay.to_string()),
            ("websocket", manner.websocket.to_string()),
            ("pings", manner.pings.to_string()),
            ("every", manner.every.to_string()),
        ];
        let command = if manner.web {
            let query: Vec<_> = parameters.iter().map(|(key, value)| format!("{key}={value}")).collect();
            browser::headless(name, &servers::page(&query.join("&")), place)?
        } else {
            let mut command = Command::new(programs.join(PROGRAM));
            for (key, value) in parameters {
                command.args([format!("--{key}"), value]);
            }
            command
        };
        let log = place.join(format!("{name}.log"));
        let running = Running::start(name, &mut net.inside(space, &command), Some(&log))?;
        Ok(Self { running, profile: manner.web.then(|| browser::profile(name, place)) })
    }

    fn entered(&self) -> Result<Option<()>> {
        let lines = lines(&self.running.log())?;
        if let Some(Line::Failed { reason }) = lines.iter().find(|line| matches!(line, Line::Failed { .. })) {
            return Err(format!("{} cannot enter the room: {reason}", self.running.name));
        }
        Ok(lines.iter().any(|line| matches!(line, Line::Entered { .. })).then_some(()))
    }

    fn end(&self) -> Result<Option<End>> {
        Ok(end(&lines(&self.running.log())?))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.running.stop();
        if let Some(profile) = &self.profile {
            // Tens of MB a browser.
            let _ = fs::remove_dir_all(profile);
        }
    }
}

/// Waits until every peer has got there.
fn wait<T>(peers: &mut [Peer], limit: Duration, get: impl Fn(&Peer) -> Result<Option<T>>) -> Result<Vec<T>> {
    let start = Instant::now();
    loop {
        interrupt::check()?;
        if let Some(all) = peers.iter().map(&get).collect::<Result<Option<Vec<T>>>>()? {
            return Ok(all);
        }
        peers.iter_mut().try_for_each(|peer| peer.running.check())?;
        if start.elapsed() > limit {
            let told: Vec<_> =
                peers.iter().map(|peer| format!("{}{}", peer.running.name, peer.running.last_words())).collect();
            return Err(format!("waited {limit:?} in vain for a peer\n{}", told.join("\n")));
        }
        std::thread::sleep(LOOK);
    }
}

/// What a peer said.
fn lines(log: &str) -> Result<Vec<Line>> {
    said(log, MARK)
}

/// What a program of ours said in lines that begin with a mark, the last byte of which is the first of JSON. A browser's
/// console puts something around each line.
pub(super) fn said<T: DeserializeOwned>(log: &str, mark: &str) -> Result<Vec<T>> {
    // The last may not be written to its end.
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let said = whole.lines().filter_map(|line| Some(&line[line.find(mark)? + mark.len() - 1..]));
    said.map(|json| {
        let mut values = serde_json::Deserializer::from_str(json).into_iter::<T>();
        let first = values.next().ok_or_else(|| format!("a peer said {json:?}"))?;
        first.map_err(|error| format!("a peer said {json:?}: {error}"))
    })
    .collect()
}

/// What became of who said this, if it is known.
fn end(lines: &[Line]) -> Option<End> {
    let entered = lines.iter().find_map(|line| if let Line::Entered { at } = line { Some(*at) } else { None })?;
    let opened = lines.iter().find_map(|line| if let Line::Opened { at } = line { Some(*at) } else { None });
    let result = lines.iter().find_map(|line| match line {
        Line::Measured(measured) => Some((opened?, Ok(measured.clone()))),
        Line::Closed { at, code, reason } => Some((*at, Err((code.clone(), reason.clone())))),
        _ => None,
    });
    result.map(|(at, result)| End { entered, at, result })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEASURED: &str = r#"{"event":"measured","at":9.5,"path":"srflx","local":"l","remote":"r","sent":3,"answered":2,"rtt_ms":[0.5,1.0]}"#;

    #[test]
    fn a_connected_peer_is_understood_from_its_output_and_from_a_console() {
        let plain = format!(
            "noise\nnat_peer {{\"event\":\"entered\",\"at\":1.0}}\nnat_peer {{\"event\":\"opened\",\"at\":2.5}}\nnat_peer {MEASURED}\n"
        );
        let console = plain
            .replace("nat_peer {", "[7:7:1121/1:INFO:CONSOLE:1] \"nat_peer {")
            .replace("}\n", "}\", source: http://x/game.js (2)\n");
        for log in [plain, console] {
            let end = end(&lines(&log).expect("understood")).expect("ended");
            assert_eq!((end.entered, end.at), (1.0, 2.5));
            let measured = end.result.expect("connected");
            assert_eq!((measured.path, measured.answered, measured.rtt_ms), (Kind::Srflx, 2, vec![0.5, 1.0]));
        }
    }

    #[test]
    fn a_peer_that_gave_up_tells_its_code_and_one_that_has_not_ended_tells_nothing() {
        let entered = "nat_peer {\"event\":\"entered\",\"at\":1.0}\n";
        let closed = "nat_peer {\"event\":\"closed\",\"at\":8.0,\"code\":\"N0010\",\"reason\":\"N0010: why\"}";
        // The line is not there to its end.
        assert_eq!(end(&lines(&format!("{entered}{closed}")).expect("understood")), None);
        let end = end(&lines(&format!("{entered}{closed}\n")).expect("understood")).expect("ended");
        assert_eq!((end.at, end.result), (8.0, Err((Some("N0010".to_owned()), "N0010: why".to_owned()))));
        assert!(lines("nat_peer {\"event\":\"sneezed\"}\n").is_err());
    }

    #[test]
    fn the_less_direct_of_two_names_is_the_greater() {
        assert!(Kind::Host < Kind::Srflx && Kind::Srflx < Kind::Relay);
    }
}
