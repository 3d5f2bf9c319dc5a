//! How the README's screenshot is made: a native window and a real browser side by side, in one match.

use std::{path::Path, process::Command, time::Duration};

use crate::{
    browser,
    play::{self, Arena},
    run::{Result, Running, Steps, make_dir, root, run, target},
    site::Site,
    tools,
};

/// The picture, below the repository.
const PICTURE: &str = "docs/images/arena.png";
/// Of each of the two windows.
const SIZE: (u32, u32) = (800, 800);
/// How long the windows may take to show a match.
const MEETING: Duration = Duration::from_secs(180);
/// How long the match goes on before the picture is taken.
const PLAYING: Duration = Duration::from_secs(12);
/// Libraries that a native window loads as it starts: the X11 client's, and Vulkan without a graphics card.
const LIBRARIES: [&str; 5] = ["mesa-vulkan-drivers", "libx11-6", "libxcursor1", "libxi6", "libxkbcommon-x11-0"];

/// Makes the picture.
pub(crate) fn shot() -> Result {
    let mut steps = Steps::new(4);
    let arena = Arena::build(&mut steps, false)?;
    steps.next("opening a native window and a browser, side by side");
    let xvfb = tools::debian_program("Xvfb", "xvfb")?;
    let import = tools::debian_program("import", "imagemagick")?;
    if !Path::new("/usr/share/vulkan/icd.d").is_dir() {
        tools::install_debian(&LIBRARIES)?;
    }
    let place = target()?.join("shot");
    make_dir(&place)?;
    let (width, height) = SIZE;
    let display = free_display()?;
    let screen = format!("{}x{height}x24", 2 * width);
    let mut server = Command::new(xvfb);
    server.args([&display, "-screen", "0", &screen, "-nolisten", "tcp"]);
    let mut screen = Running::start("Xvfb", &mut server, Some(&place.join("xvfb.log")))?;
    std::thread::sleep(Duration::from_secs(1));
    screen.check()?;

    let site = Site::local(arena.page.clone())?;
    let window = format!("{width}x{height}+0+0");
    let mut native = Command::new(&arena.program);
    native.args([
        "--room",
        "shot",
        "--signaling",
        &site.signaling(),
        "--name",
        "native",
        "--window",
        &window,
        "--bots",
        "3",
    ]);
    native.env("DISPLAY", &display).env_remove("WAYLAND_DISPLAY");
    let native = Running::start("native", &mut native, Some(&place.join("native.log")))?;
    let url = format!("http://{}/?room=shot&name=browser", site.host());
    let at = [format!("--window-position={width},0"), format!("--window-size={width},{height}")];
    let page = browser::open_window("browser", &url, &place, &at, &display)?;
    let mut games = [native, page];
    play::until_met(&mut games, MEETING)?;

    steps.next("taking the picture");
    std::thread::sleep(PLAYING);
    games.iter_mut().try_for_each(Running::check)?;
    let picture = root().join(PICTURE);
    make_dir(picture.parent().unwrap_or_else(|| root()))?;
    let mut command = Command::new(import);
    command.args(["-display", &display, "-window", "root", "-strip", "-colors", "256"]).arg(&picture);
    run(&mut command)?;
    println!("wrote {}", picture.display());
    Ok(())
}

/// A number that no X server of this machine has.
fn free_display() -> Result<String> {
    let free = (90..200).find(|number| !Path::new(&format!("/tmp/.X{number}-lock")).exists());
    free.map(|number| format!(":{number}")).ok_or_else(|| "no free X display".to_owned())
}
