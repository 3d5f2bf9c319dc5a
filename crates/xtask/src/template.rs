//! Whether a game of one's own can start from `examples/template`: it is copied, tested, built, and played.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    browser, play,
    run::{self, Result, Running, Steps, make_dir, root, run, target},
    site::Site,
    web,
};

/// What is copied.
const SOURCE: &str = "examples/template";
/// The name of its package and program.
const GAME: &str = "hot-potato";
/// How it says where coplay is.
const COPLAY: &str = "../../crates/bevy";
/// The one line that whoever is in the room logs as another comes in, and as a potato is handed on.
const JOINED: &str = "joined:";
const PASSED: &str = "the potato goes to";
/// How many pages play, with one native peer.
const PAGES: usize = 2;
/// How long they may take to meet and to bump into each other, software rendering included.
const PLAYING: Duration = Duration::from_secs(180);

/// Added to the copy, and nothing that its program uses: with them in its graph, cargo resolves the same features for
/// what it stands on as in the workspace, whose builds then serve it. By itself it would build all of Bevy once more.
const SAME_FEATURES: &str = r#"
[target.'cfg(all())'.dependencies]
coplay_tests = { path = "ROOT/tests" }

[target.'cfg(all(target_arch = "wasm32"))'.dependencies]
web-sys = { version = "0.3", features = ["Document", "Element", "Location", "Node", "UrlSearchParams", "Window", "console"] }

[target.'cfg(not(target_arch = "wasm32"))'.dependencies]
tokio = { version = "1", features = ["process", "signal"] }
"#;

/// Copies, tests, builds and plays it; an error at the first that fails.
pub(crate) fn template() -> Result {
    let mut steps = Steps::new(6);
    steps.next("copying the template, as a new game would begin");
    let game = copy()?;
    steps.next("its format");
    let config = root().join("rustfmt.toml");
    run(cargo(&game, &["fmt", "--check", "--", "--config-path"])?.arg(config))?;
    steps.next("its tests");
    run(&mut cargo(&game, &["test"])?)?;
    steps.next("building it for this machine");
    run(&mut cargo(&game, &["build"])?)?;
    steps.next("building its page");
    let page = web::build_in(&game, &[], GAME, web::Profile::Web, Path::new("index.html"))?;
    steps.next(&format!("a native peer and {PAGES} pages play it"));
    play_it(page)
}

/// One native peer without a window and two pages, until each has seen both others join, and then a potato handed on:
/// for that, two have to have moved until they touched, and the event to have come.
fn play_it(page: PathBuf) -> Result {
    let site = Site::local(page)?;
    let place = target()?.join("template").join("logs");
    make_dir(&place)?;
    let mut native = Command::new(target()?.join("debug").join(format!("{GAME}{}", env::consts::EXE_SUFFIX)));
    native.args(["--headless", "template"]).env("COPLAY_SIGNALING", site.signaling());
    let mut games = vec![Running::start("native", &mut native, Some(&place.join("native.log")))?];
    let url = format!("http://{}/?room=template", site.host());
    for number in 1..=PAGES {
        games.push(browser::open_headless(&format!("page-{number}"), &url, &place)?);
    }
    let what = "a native peer and the pages have met, moved and handed a potato on";
    play::until_told(&mut games, PLAYING, what, |log| {
        let all_in = log.match_indices(JOINED).nth(PAGES - 1);
        all_in.is_some_and(|(at, _)| log[at..].contains(PASSED))
    })
}

/// Copies the template into the target folder, and points it to our coplay. What has not changed is not touched, so
/// that it is not built again.
fn copy() -> Result<PathBuf> {
    let to = target()?.join("template").join("game");
    copy_files(&root().join(SOURCE), &to)?;
    let manifest = to.join("Cargo.toml");
    let text = read(&root().join(SOURCE).join("Cargo.toml"))?;
    let coplay = root().join("crates/bevy").display().to_string().replace('\\', "/");
    let own = text.replace(COPLAY, &coplay);
    if own == text {
        return Err(format!("{SOURCE}/Cargo.toml does not name coplay by {COPLAY}"));
    }
    let same = SAME_FEATURES.replace("ROOT", &root().display().to_string().replace('\\', "/"));
    write(&manifest, &(own + &same))?;
    // The versions of the workspace: what is built, and wasm-bindgen's program, are for these.
    let lock = to.join("Cargo.lock");
    if !lock.is_file() || web::is_newer(&root().join("Cargo.lock"), &lock) {
        write(&lock, &read(&root().join("Cargo.lock"))?)?;
    }
    Ok(to)
}

fn copy_files(from: &Path, to: &Path) -> Result {
    make_dir(to)?;
    let cannot = |error| format!("cannot read {}: {error}", from.display());
    for entry in fs::read_dir(from).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let name = path.file_name().unwrap_or_default();
        let to = to.join(name);
        if path.is_dir() {
            if name != "target" {
                copy_files(&path, &to)?;
            }
        } else if name != "Cargo.lock" && name != "Cargo.toml" {
            write(&to, &read(&path)?)?;
        }
    }
    Ok(())
}

/// Cargo in the copy's folder, building where the workspace is built.
fn cargo(game: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = run::cargo();
    command.args(arguments).current_dir(game).env("CARGO_TARGET_DIR", target()?);
    Ok(command)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
