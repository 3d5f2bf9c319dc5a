//! How browsers are started: headless, with software rendering, and each time as a new person.

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

/// Those of them that keep a page awake which nobody looks at.
pub(crate) const AWAKE: [&str; 3] = [
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
];

/// Which browser. Chromium is what is used where nobody asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Browser {
    #[default]
    Chromium,
    Firefox,
}

/// What every Firefox of ours is told: what its pages say goes to standard output; no first-run pages, no traffic of its
/// own, no sleep for a page that nobody looks at, clocks that are not blurred (the figures are times), and WebGL without a
/// graphics card. How it connects is left as everybody has it.
const PREFERENCES: [(&str, &str); 16] = [
    ("devtools.console.stdout.content", "true"),
    ("browser.shell.checkDefaultBrowser", "false"),
    ("browser.startup.homepage_override.mstone", "\"ignore\""),
    ("browser.aboutwelcome.enabled", "false"),
    ("browser.tabs.unloadOnLowMemory", "false"),
    ("datareporting.policy.dataSubmissionEnabled", "false"),
    ("toolkit.telemetry.enabled", "false"),
    ("app.normandy.enabled", "false"),
    ("extensions.update.enabled", "false"),
    ("network.captive-portal-service.enabled", "false"),
    ("network.connectivity-service.enabled", "false"),
    ("dom.min_background_timeout_value", "4"),
    ("dom.timeout.enable_budget_timer_throttling", "false"),
    ("privacy.reduceTimerPrecision", "false"),
    ("webgl.force-enabled", "true"),
    ("webgl.out-of-process", "false"),
];

/// Opens a page in Chromium without a window. What its console says goes to `place/NAME.log`.
pub(crate) fn open_headless(name: &str, url: &str, place: &Path) -> Result<Running> {
    Running::start(name, &mut headless(name, url, place)?, Some(&place.join(format!("{name}.log"))))
}

/// What opens a page without a window, to be started by the caller: in another network, say.
pub(crate) fn headless(name: &str, url: &str, place: &Path) -> Result<Command> {
    let mut command = command(name, place)?;
    command.args(["--headless", url]);
    Ok(command)
}

/// As [`open_headless`], in this browser.
pub(crate) fn open_headless_in(browser: Browser, name: &str, url: &str, place: &Path) -> Result<Running> {
    match browser {
        Browser::Chromium => open_headless(name, url, place),
        Browser::Firefox => {
            let profile = new_profile(name, place)?;
            let lines = PREFERENCES.map(|(key, value)| format!("user_pref(\"{key}\", {value});\n"));
            let file = profile.join("user.js");
            fs::write(&file, lines.concat()).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
            let mut command = Command::new(tools::firefox()?);
            command.args(["--headless", "--no-remote", "--new-instance", "--profile"]).arg(&profile).arg(url);
            Running::start(name, &mut command, Some(&place.join(format!("{name}.log"))))
        }
    }
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
    let profile = new_profile(name, place)?;
    let mut command = Command::new(tools::chromium()?);
    command.args(FLAGS).arg(format!("--user-data-dir={}", profile.display()));
    Ok(command)
}

/// Where what it stores goes.
pub(crate) fn profile(name: &str, place: &Path) -> PathBuf {
    place.join(format!("{name}.profile"))
}

/// An empty one.
pub(crate) fn new_profile(name: &str, place: &Path) -> Result<PathBuf> {
    let profile = profile(name, place);
    // A profile that is there already was left by a run that was cut short.
    let _ = fs::remove_dir_all(&profile);
    make_dir(&profile)?;
    Ok(profile)
}
