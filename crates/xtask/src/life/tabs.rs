//! What becomes of a player whose tab is closed, or hidden for two minutes by another one in front of it?

use std::{
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::Row;
use crate::{
    run::{Result, Running, cargo, make_dir, run, target},
    site::Site,
    web,
    webdriver::{Driver, Page},
};

/// The program of both peers.
const PACKAGE: &str = "coplay_socket";
const EXAMPLE: &str = "life_peer";
const FOLDER: &str = "crates/socket/examples/life_peer";
/// For a page to load and to be connected, and for what takes no time but that of a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);
/// How long the tab is hidden.
const HIDDEN: Duration = Duration::from_secs(120);
/// How soon others know of a tab that was closed.
const SOON: Duration = Duration::from_secs(1);
/// How often the page's fast timer, of 50 ms, may ring each second while it is hidden: browsers let it once.
const DROWSY: f64 = 2.0;

/// Closes one, and hides one.
pub(super) fn rows() -> Result<[Row; 2]> {
    let page = web::build_example(PACKAGE, EXAMPLE, Path::new(FOLDER))?;
    run(cargo().args(["build", "-p", PACKAGE, "--example", EXAMPLE]))?;
    let place = target()?.join("life").join(std::process::id().to_string());
    make_dir(&place)?;
    let site = Site::local(page)?;
    let driver = Driver::start(&place)?;
    let pair = |room| Pair::meet(&driver, &site, &place, room);
    Ok([
        Row::of("a tab is closed", || pair("closed").and_then(Pair::close).into()),
        Row::of("a tab is hidden for 2 minutes", || pair("hidden").and_then(Pair::hide).into()),
    ])
}

/// A page and a native peer that are connected.
struct Pair<'a> {
    page: Page<'a>,
    native: Running,
    /// Of the page, and of the native peer.
    ids: [String; 2],
}

impl<'a> Pair<'a> {
    fn meet(driver: &'a Driver, site: &Site, place: &Path, room: &str) -> Result<Self> {
        let url = format!("{}/{room}", site.signaling());
        let native = native(&url, &place.join(format!("{room}.log")))?;
        let page = driver.open_drowsy(room, &format!("http://{}/?room={url}", site.host()), place)?;
        let opened = |said: &str| said.strip_prefix("opened ").map(str::to_owned);
        let native_id = until("the page meets the native peer", PATIENCE, || {
            Ok(lines(&page.run("return told()")?["said"]).iter().find_map(|said| opened(said)))
        })?;
        let page_id =
            until("the native peer meets the page", PATIENCE, || Ok(said(&native).find_map(|said| opened(&said))))?;
        Ok(Self { page, native, ids: [page_id, native_id] })
    }

    fn close(self) -> Result<String> {
        let start = Instant::now();
        self.page.close()?;
        let closed = format!("closed {}", self.ids[0]);
        until("the native peer knows", SOON, || Ok(said(&self.native).find(|said| said.starts_with(&closed))))?;
        Ok(format!("known after {:.2} s", start.elapsed().as_secs_f64()))
    }

    fn hide(mut self) -> Result<String> {
        let front = self.page.hide()?;
        let start = Instant::now();
        while start.elapsed() < HIDDEN {
            sleep(Duration::from_secs(1));
            self.native.check()?;
            none_is_bad(said(&self.native))?;
        }
        self.page.show(&front)?;
        let told = self.page.run("return told()")?;
        let (seconds, ticks) = (number(&told["hidden"])?, number(&told["ticks"])?);
        // `document.hidden`, as the page saw it each second.
        if seconds < HIDDEN.as_secs_f64() * 0.9 {
            return Err(format!("the page was hidden for {seconds} s only"));
        }
        if ticks > seconds * DROWSY {
            return Err(format!("the page was not held back: its timer rang {ticks} times in {seconds} s"));
        }
        // Somebody looks at it again: it goes on where it was, and nothing was lost on either side.
        self.native.tell(&"hush")?;
        self.page.run("obey('hush')")?;
        let [page, native] = &self.ids;
        let sums = until("everything arrives that was sent", PATIENCE, || {
            let here = counts(&self.native, page);
            let there: Option<[u64; 2]> =
                serde_json::from_value(self.page.run("return told()")?["counts"][native].take()).ok();
            let there = there.ok_or("the page counts nothing")?;
            Ok(here.filter(|[sent, got]| *sent > 0 && [*got, *sent] == there))
        })?;
        self.is_well()?;
        let silent = said(&self.native).filter(|said| said.starts_with("unresponsive")).count();
        Ok(format!("{} events to it and {} from it, silent {silent} times", sums[0], sums[1]))
    }

    /// Whether it is still the same link.
    fn is_well(&self) -> Result {
        none_is_bad(said(&self.native).chain(lines(&self.page.run("return told()")?["said"])))
    }
}

/// Whether nothing of what was said is about a link that ended or an event that was lost.
fn none_is_bad(said: impl Iterator<Item = String>) -> Result {
    let bad = |said: &String| ["closed", "broken", "failed"].iter().any(|word| said.starts_with(word));
    let wrong: Vec<_> = said.filter(bad).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

fn native(url: &str, log: &Path) -> Result<Running> {
    let program: PathBuf = target()?.join("debug/examples").join(format!("{EXAMPLE}{}", std::env::consts::EXE_SUFFIX));
    Running::start_listening("the native peer", Command::new(program).arg(url), Some(log))
}

/// What a native peer has said so far.
fn said(native: &Running) -> impl Iterator<Item = String> + use<> {
    let lines: Vec<_> = native.log().lines().filter_map(|line| Some(line.split_once("life: ")?.1.to_owned())).collect();
    lines.into_iter()
}

/// How many events a native peer has sent to another, and got from it.
fn counts(native: &Running, other: &str) -> Option<[u64; 2]> {
    let of = format!("count {other} ");
    let last = said(native).filter(|said| said.starts_with(&of)).last()?;
    let mut numbers = last[of.len()..].split(' ').map(str::parse);
    Some([numbers.next()?.ok()?, numbers.next()?.ok()?])
}

fn lines(said: &Value) -> Vec<String> {
    said.as_array().into_iter().flatten().filter_map(|said| said.as_str().map(str::to_owned)).collect()
}

fn number(value: &Value) -> Result<f64> {
    value.as_f64().ok_or_else(|| format!("the page says {value} where a number is to be"))
}

/// Waits until there is something, and returns it.
fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if start.elapsed() > limit {
            return Err(format!("it was not so within {limit:?} that {what}"));
        }
        sleep(PAUSE);
    }
}
