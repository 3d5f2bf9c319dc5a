//! How one match goes: everyone loads, joins, meets, plays, stops, grows quiet, and is compared.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use super::{
    Match,
    desk::{Desk, Waiting},
    memory::Watch,
    report::Run,
    wire::{Findings, Order, Reached, Sent, parameter},
};
use crate::{
    browser::{self, Browser},
    run::{Result, Running, make_dir},
};

/// For a page to be fetched and compiled on a busy machine.
const LOADING: Duration = Duration::from_secs(120);
/// For a peer to find all the others.
const MEETING: Duration = Duration::from_secs(60);
/// For the worlds to grow quiet: the peers give up sooner by themselves.
const SETTLING: Duration = Duration::from_secs(60);

/// Who plays, and where.
pub(super) struct Players {
    pub(super) kind: Match,
    /// What makes the connections of all of them.
    pub(super) transport: &'static str,
    pub(super) native: usize,
    pub(super) web: usize,
    pub(super) browser: Browser,
    pub(super) seconds: u32,
    /// How many percent of what each sends are lost.
    pub(super) loss: u32,
    pub(super) signaling: String,
    pub(super) program: PathBuf,
    /// For logs and browser profiles.
    pub(super) place: PathBuf,
}

/// One peer after the match.
pub(super) struct Played {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) web: bool,
    pub(super) sent: Sent,
    pub(super) findings: Findings,
}

impl Players {
    /// The peers' names, the host's first.
    fn names(&self) -> Vec<String> {
        let native = (1..=self.native).map(|n| format!("native-{n}"));
        let web = (1..=self.web).map(|n| format!("web-{n}"));
        if self.kind == Match::BrowserHost { web.chain(native).collect() } else { native.chain(web).collect() }
    }

    fn parameters(&self, name: &str) -> Vec<(&'static str, String)> {
        vec![
            (parameter::NAME, name.to_owned()),
            (parameter::SIGNALING, self.signaling.clone()),
            (parameter::ROOM, format!("crossplay-{}", super::title(self.kind).replace(' ', "-"))),
            (parameter::TOPOLOGY, self.kind.topology().to_owned()),
            (parameter::TRANSPORT, self.transport.to_owned()),
            (parameter::PEERS, (self.native + self.web).to_string()),
        ]
    }

    fn start(&self, name: &str, desk: &Desk) -> Result<Running> {
        if is_web(name) {
            let mut query: Vec<_> = self.parameters(name).iter().map(|(key, value)| format!("{key}={value}")).collect();
            // `loss=5%`, as it stands in a URL.
            query.extend((self.loss > 0).then(|| format!("conditions=loss%3D{}%25", self.loss)));
            let url = format!("http://{}/?{}", desk.address, query.join("&"));
            return browser::open_headless_in(self.browser, name, &url, &self.place);
        }
        let mut command = Command::new(&self.program);
        command.args([format!("--{}", parameter::DESK), desk.address.to_string()]);
        for (key, value) in self.parameters(name) {
            command.args([format!("--{key}"), value]);
        }
        if self.loss > 0 {
            command.env("COPLAY_CONDITIONS", format!("loss={}%", self.loss));
        }
        Running::start(name, &mut command, Some(&self.place.join(format!("{name}.log"))))
    }
}

fn is_web(name: &str) -> bool {
    name.starts_with("web")
}

/// Plays one match.
pub(super) async fn play(players: &Players, mut desk: Desk) -> Result<Run> {
    make_dir(&players.place)?;
    let names = players.names();
    let mut running = names.iter().map(|name| players.start(name, &desk)).collect::<Result<Vec<_>>>()?;
    let mut loaded = desk.gather(&names, LOADING, &mut running).await?;

    // Whoever comes first leads; a host has to be there before the others look for it.
    let start = Instant::now();
    let (first, others) = names.split_at(if players.kind == Match::Mesh { 0 } else { 1 });
    let mut joined = BTreeMap::new();
    for group in [first, others] {
        for name in group {
            loaded.remove(name).into_iter().for_each(|peer| peer.order(Order::Join));
        }
        joined.append(&mut desk.gather(group, MEETING, &mut running).await?);
    }
    let connected = next(&mut desk, joined, &Order::Meet, &names, MEETING, &mut running).await?;
    let seconds_to_all_connected = start.elapsed().as_secs_f64();

    let mut ids = BTreeMap::new();
    for (name, peer) in &connected {
        let Reached::Connected { me } = &peer.reached else { return Err(out_of_turn(name, &peer.reached)) };
        ids.insert(name.clone(), me.clone());
    }
    let limit = Duration::from_secs(u64::from(players.seconds)) + MEETING;
    let order = Order::Play { seconds: players.seconds };
    let programs = names.iter().cloned().zip(running.iter().map(Running::id));
    let watch = Watch::start(programs.collect(), Duration::from_secs(players.seconds.into()));
    let stopped = next(&mut desk, connected, &order, &names, limit, &mut running).await?;
    let memory = watch.end();

    let mut sent = BTreeMap::new();
    for (name, peer) in &stopped {
        let Reached::Stopped { sent: events } = &peer.reached else { return Err(out_of_turn(name, &peer.reached)) };
        sent.insert(ids[name].clone(), *events);
    }
    let order = Order::Settle { sent: sent.clone() };
    let quiet = next(&mut desk, stopped, &order, &names, SETTLING, &mut running).await?;

    let mut played = Vec::new();
    for (name, peer) in quiet {
        let Reached::Quiet(findings) = &peer.reached else { return Err(out_of_turn(&name, &peer.reached)) };
        let id = ids[&name].clone();
        let sent = sent.remove(&id).unwrap_or_default();
        played.push(Played { id, web: is_web(&name), sent, findings: (**findings).clone(), name });
        peer.order(Order::Leave);
    }
    let kind = players.kind;
    let run = Run::of(kind.topology(), kind.host_kind(), players.transport, seconds_to_all_connected, &played);
    Ok(run.with_memory(memory))
}

/// Gives everyone the same order and waits until they have all done it.
async fn next(
    desk: &mut Desk,
    peers: BTreeMap<String, Waiting>,
    order: &Order,
    names: &[String],
    limit: Duration,
    running: &mut [Running],
) -> Result<BTreeMap<String, Waiting>> {
    for peer in peers.into_values() {
        peer.order(order.clone());
    }
    desk.gather(names, limit, running).await
}

fn out_of_turn(name: &str, reached: &Reached) -> String {
    format!("{name} reports out of turn: {reached:?}")
}
