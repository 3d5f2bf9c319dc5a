//! How the programs that xtask needs are found, and installed where they are missing.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    run::{Result, Steps, cargo, on_path, output, root, run, say, unlinted, user_dir},
    wasm,
};

/// Gets everything that the other commands get when they need it.
pub(crate) fn setup() -> Result {
    let mut steps = Steps::new(3);
    steps.next("Rust for the browser");
    wasm::Toolchain::ready()?;
    steps.next("wasm-bindgen");
    println!("{}", wasm_bindgen("wasm-bindgen")?.display());
    steps.next("Chromium and its driver");
    println!("{}\n{}", chromium()?.display(), chromedriver()?.display());
    Ok(())
}

/// `wasm-bindgen`, or another program of its package, at exactly the version that Cargo.lock has for the library.
pub(crate) fn wasm_bindgen(program: &str) -> Result<PathBuf> {
    let version = locked("wasm-bindgen")?;
    if let Some(path) = on_path(&[program])
        && output(Command::new(&path).arg("--version")).is_ok_and(|told| told.trim().ends_with(&format!(" {version}")))
    {
        return Ok(path);
    }
    installed("wasm-bindgen-cli", &version, program, "3 to 5 minutes")
}

/// The unmodified `matchbox_server`, which our peers must be able to meet on.
pub(crate) fn matchbox_server() -> Result<PathBuf> {
    const VERSION: &str = "0.15.0";
    if let Some(path) = on_path(&["matchbox_server"])
        && output(Command::new("cargo").args(["install", "--list"]))?.contains(&format!("matchbox_server v{VERSION}:"))
    {
        return Ok(path);
    }
    installed("matchbox_server", VERSION, "matchbox_server", "2 to 3 minutes")
}

/// A browser of Chromium's family.
pub(crate) fn chromium() -> Result<PathBuf> {
    const NAMES: [&str; 5] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];
    const ELSEWHERE: [&str; 4] = [
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
        r"C:\Program Files\Google\Chrome\Application\chrome.exe",
        r"C:\Program Files (x86)\Google\Chrome\Application\chrome.exe",
    ];
    let find = || {
        let set = env::var_os("CHROME").map(PathBuf::from).filter(|path| path.is_file());
        let usual = || ELSEWHERE.iter().map(PathBuf::from).find(|path| path.is_file());
        set.or_else(|| on_path(&NAMES)).or_else(usual)
    };
    find_or_install(find, "Chromium (or say where it is with CHROME)", &["chromium", "fonts-dejavu-core"])
}

/// Firefox, or Debian's with extended support.
pub(crate) fn firefox() -> Result<PathBuf> {
    const ELSEWHERE: [&str; 2] =
        ["/Applications/Firefox.app/Contents/MacOS/firefox", r"C:\Program Files\Mozilla Firefox\firefox.exe"];
    let find = || {
        let set = env::var_os("FIREFOX").map(PathBuf::from).filter(|path| path.is_file());
        let usual = || ELSEWHERE.iter().map(PathBuf::from).find(|path| path.is_file());
        set.or_else(|| on_path(&["firefox-esr", "firefox"])).or_else(usual)
    };
    find_or_install(find, "Firefox (or say where it is with FIREFOX)", &["firefox-esr"])
}

/// The program that drives Chromium for `wasm-bindgen-test-runner`.
pub(crate) fn chromedriver() -> Result<PathBuf> {
    let set = || env::var_os("CHROMEDRIVER").map(PathBuf::from).filter(|path| path.is_file());
    let find = || set().or_else(|| on_path(&["chromedriver"]));
    find_or_install(
        find,
        "ChromeDriver, of Chromium's own version",
        &["chromium", "chromium-driver", "fonts-dejavu-core"],
    )
}

/// A program of one of Debian's packages, which other systems have under other names.
pub(crate) fn debian_program(name: &str, package: &str) -> Result<PathBuf> {
    find_or_install(|| on_path(&[name]), &format!("`{name}`"), &[package])
}

fn find_or_install(find: impl Fn() -> Option<PathBuf>, what: &str, packages: &[&str]) -> Result<PathBuf> {
    if let Some(path) = find() {
        return Ok(path);
    }
    install_debian(packages).map_err(|error| format!("{what} is needed and not here: {error}"))?;
    find().ok_or_else(|| format!("{what} is still not to be found after installing {}", packages.join(" ")))
}

/// Installs packages of Debian where that is possible without asking; else says which are needed.
pub(crate) fn install_debian(packages: &[&str]) -> Result {
    let names = packages.join(" ");
    let by_hand = format!("install it, on Debian by `sudo apt-get install --no-install-recommends {names}`");
    let (Some(apt_get), true) = (apt_get(), is_root()) else { return Err(by_hand) };
    say(&format!("installing {names}"));
    let install = || {
        let mut command = Command::new(&apt_get);
        command.args(["install", "-y", "-q", "--no-install-recommends"]).args(packages);
        run(command.env("DEBIAN_FRONTEND", "noninteractive"))
    };
    // A fresh machine has no list of packages, an old one a list of what is no longer offered.
    install().or_else(|_| run(Command::new(&apt_get).args(["update", "-q"])).and_then(|()| install()))
}

/// `apt-get`, on Debian and what descends from it.
pub(crate) fn apt_get() -> Option<PathBuf> {
    on_path(&["apt-get"])
}

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// The version of a package in Cargo.lock.
fn locked(package: &str) -> Result<String> {
    let path = root().join("Cargo.lock");
    let lock = fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let mut lines = lock.lines().skip_while(|line| *line != format!("name = \"{package}\"")).skip(1);
    let version = lines.next().and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    version.map(str::to_owned).ok_or_else(|| format!("Cargo.lock has no {package}"))
}

/// A program of a crate at one version: from the cache, or built into it.
fn installed(package: &str, version: &str, program: &str, lasts: &str) -> Result<PathBuf> {
    let place = user_dir("XDG_CACHE_HOME", ".cache")?.join("tools").join(format!("{package}-{version}"));
    let path = place.join("bin").join(format!("{program}{}", env::consts::EXE_SUFFIX));
    if !path.is_file() {
        say(&format!("building {package} {version} once for all ({lasts} on two cores)"));
        // Exactly what its authors built, first; but a registry may no longer offer one of those versions.
        cargo_install(package, version, &place, &["--locked"])
            .or_else(|_| cargo_install(package, version, &place, &[]))?;
    }
    Ok(path)
}

fn cargo_install(package: &str, version: &str, place: &Path, more: &[&str]) -> Result {
    let mut command = cargo();
    command.args(["install", package, "--version", version, "--root"]).arg(place).args(more);
    // Its own target folder, which cargo removes afterwards: what is built here serves nothing else.
    run(unlinted(&mut command).env_remove("CARGO_TARGET_DIR").current_dir(env::temp_dir()))
}
