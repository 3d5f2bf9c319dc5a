//! How Chromium is started: headless, with software rendering, and each time as a new person.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    run::{Result, Running, make_dir},
    tools,
};

/// What every Chromium of ours is told: no first-run pages, no traffic of its own, no sleep for a page that nobody
/// looks at, and WebGL without a graphics card.
pub(crate) const FLAGS: [&str; 17] = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--enable-logging=stderr",
    "--autoplay-policy=no-user-gesture-required",
];

/// Opens a page without a window. What its console says goes to `place/NAME.log`.
pub(crate) fn open_headless(name: &str, url: &str, place: &Path) -> Result<Running> {
    Running::start(name, &mut headless(name, url, place)?, Some(&place.join(format!("{name}.log"))))
}

/// What opens a page without a window, to be started by the caller: in another network, say.
pub(crate) fn headless(name: &str, url: &str, place: &Path) -> Result<Command> {
    let mut command = command(name, place)?;
    command.args(["--headless", url]);
    Ok(command)
}

/// Opens a page in a window without tabs and address bar, on the display of the environment or this one.
pub(crate) fn open_window(name: &str, url: &str, place: &Path, more: &[String], display: &str) -> Result<Running> {
    let app = format!("--app={url}");
    let mut command = command(name, place)?;
    // `--test-type` keeps a warning about `--no-sandbox` out of the picture.
    command.args(more).args(["--test-type", &app]).env("DISPLAY", display);
    Running::start(name, &mut command, Some(&place.join(format!("{name}.log"))))
}

fn command(name: &str, place: &Path) -> Result<Command> {
    let profile = profile(name, place);
    // A profile that is there already was left by a run that was cut short.
    let _ = fs::remove_dir_all(&profile);
    make_dir(&profile)?;
    let mut command = Command::new(tools::chromium()?);
    command.args(FLAGS).arg(format!("--user-data-dir={}", profile.display()));
    Ok(command)
}

/// Where what it stores goes.
pub(crate) fn profile(name: &str, place: &Path) -> PathBuf {
    place.join(format!("{name}.profile"))
}
