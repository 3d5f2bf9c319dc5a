//! Do players find each other by the arena's menu? Two people in two real browsers, driven key by key, and a native player.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    play::{Arena, until_told},
    run::{Result, Running, Steps, make_dir, say, target},
    site::Site,
    webdriver::{DOWN, Driver, ENTER, Page, TAB},
};

/// More than there are rows in the menu.
const MOST_ROWS: usize = 40;
/// For the native player to meet those who were matched with it.
const NATIVE: Duration = Duration::from_secs(60);

/// Plays through the menu.
pub(crate) fn lobby() -> Result {
    let mut steps = Steps::new(9);
    let arena = Arena::build(&mut steps, false)?;
    steps.next("opening two browsers");
    let site = Site::local(arena.page.clone())?;
    let place = target()?.join("lobby").join(std::process::id().to_string());
    make_dir(&place)?;
    let begun = Instant::now();
    let driver = Driver::start(&place)?;
    let [anna, bert] =
        ["anna", "bert"].map(|name| driver.open(name, &format!("http://{}/?name={name}", site.host()), &place));
    let (anna, bert) = (anna?, bert?);
    anna.until_spoken(&["coplay arena\n", "Quick match"])?;

    steps.next("anna makes a public room with a password, which bert finds, mistypes, and types");
    choose(&anna, "New public room with a password")?;
    anna.until_spoken(&["password: _"])?;
    anna.press(&format!("sesame{ENTER}"))?;
    let code = room(&anna)?;
    bert.until_spoken(&[&code, "1/16 players", "by anna", "password"])?;
    choose(&bert, &format!("Join {code}"))?;
    bert.until_spoken(&["password: _", "the room has a password"])?;
    bert.press(&format!("wrong{ENTER}"))?;
    bert.until_spoken(&["password: _", "this is not the room's password"])?;
    bert.press(&format!("sesame{ENTER}"))?;
    same(&room(&bert)?, &code)?;

    steps.next("anna removes bert");
    anna.press(TAB)?;
    anna.until_spoken(&["this room", "Remove bert"])?;
    choose(&anna, "Remove bert")?;
    bert.until_spoken(&["coplay arena", "removed"])?;

    steps.next("anna says that the room is for beginners, and takes two; bert looks for such rooms");
    choose(&anna, "Say that it is for beginners")?;
    choose(&anna, "Take 2 players")?;
    choose(&bert, "List rooms for beginners only")?;
    bert.until_spoken(&["List all rooms", &format!("Join {code}"), "1/2 players", "for beginners"])?;
    choose(&anna, "Do not say that it is for beginners")?;
    bert.until_unspoken(&code)?;
    choose(&bert, "List all rooms")?;
    choose(&anna, "Leave the room")?;
    anna.until_spoken(&["coplay arena\n", "Quick match"])?;

    steps.next("anna makes a room, lists and unlists it, locks and unlocks it; bert types its code in small letters");
    choose(&anna, "New room")?;
    let code = room(&anna)?;
    anna.press(TAB)?;
    choose(&anna, "Put it into the public list")?;
    bert.until_spoken(&[&format!("Join {code}")])?;
    choose(&anna, "Take it off the public list")?;
    bert.until_unspoken(&format!("Join {code}"))?;
    choose(&anna, "Let nobody else in")?;
    anna.until_spoken(&["Let others in"])?;
    let by_code = || {
        choose(&bert, "Join by code")?;
        bert.until_spoken(&["code: _"])?;
        bert.press(&format!("{}{ENTER}", code.to_lowercase()))
    };
    by_code()?;
    bert.until_spoken(&["coplay arena\n", "locked"])?;
    choose(&anna, "Let others in")?;
    anna.until_spoken(&["Let nobody else in"])?;
    by_code()?;
    bert.until_spoken(&["playing in room"])?;
    anna.until_spoken(&["this room", "Remove bert"])?;
    choose(&anna, "Leave the room")?;
    bert.press(TAB)?;
    choose(&bert, "Leave the room")?;

    steps.next("both and a native player are matched");
    for page in [&anna, &bert] {
        page.until_spoken(&["coplay arena\n", "Quick match"])?;
    }
    choose(&anna, "Quick match for 3")?;
    anna.until_spoken(&["joining", "1 of 3 players"])?;
    choose(&anna, "Cancel")?;
    anna.until_spoken(&["coplay arena\n", "Quick match"])?;
    choose(&anna, "Quick match for 3")?;
    anna.until_spoken(&["joining", "1 of 3 players"])?;
    choose(&bert, "Quick match for 3")?;
    anna.until_spoken(&["joining", "2 of 3 players"])?;
    let mut native = native(&arena.program, &site, &place)?;
    same(&room(&anna)?, &room(&bert)?)?;
    steps.next("and see each other");
    for (page, other) in [(&anna, "bert"), (&bert, "anna")] {
        until_joined(page, other)?;
    }
    let met = |log: &str| log.matches("joined:").count() >= 2;
    until_told(std::slice::from_mut(&mut native), NATIVE, "the native player has met both", met)?;
    say(&format!("the menu works: {:.0} s of play", begun.elapsed().as_secs_f32()));
    Ok(())
}

fn native(program: &PathBuf, site: &Site, place: &Path) -> Result<Running> {
    let mut command = Command::new(program);
    command.args(["--headless", "--bots", "1", "--quick", "3", "--signaling", &site.signaling()]);
    Running::start("native player", &mut command, Some(&place.join("native.log")))
}

/// Goes down to a row of the menu, by the keys, and takes it. Row by row: they come and go meanwhile.
fn choose(page: &Page<'_>, row: &str) -> Result {
    let mut text = page.until_spoken(&[row])?;
    for _ in 0..MOST_ROWS {
        if text.contains(&format!("\n> {row}")) {
            return page.press(ENTER);
        }
        page.press(DOWN)?;
        text = page.until_not(&text)?;
    }
    Err(format!("the row {row:?} is not reached by going down:\n{text}"))
}

/// Waits until a page is in a room; the room's code.
fn room(page: &Page<'_>) -> Result<String> {
    let text = page.until_spoken(&["playing in room "])?;
    Ok(text.rsplit(' ').next().unwrap_or_default().to_owned())
}

fn same(one: &str, other: &str) -> Result {
    if one == other { Ok(()) } else { Err(format!("they are in the rooms {one} and {other}, not in one")) }
}

/// Waits until a page knows of another player, and closes its menu again.
fn until_joined(page: &Page<'_>, other: &str) -> Result {
    page.press(TAB)?;
    page.until_spoken(&["this room, with", other])?;
    page.press(TAB)?;
    page.until_spoken(&["playing in room"]).map(drop)
}
