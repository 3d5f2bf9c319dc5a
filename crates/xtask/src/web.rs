//! How one of our programs becomes a page for the browser.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    run::{Result, make_dir, root, run, target},
    tools, wasm,
};

/// How fast the page is to be built, and to run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build: for playing at home, tests and crossplay.
    Web,
    /// Small and fast: for publishing.
    Release,
}

impl Profile {
    /// Its name in Cargo.toml.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Release => "web-release",
        }
    }
}

/// The packages whose programs run in a browser. All are named in every build, so that what they stand on is built
/// with the same features each time, and once.
pub(crate) const PACKAGES: [&str; 6] = ["-p", "coplay_examples", "-p", "coplay_tests", "-p", "coplay_benches"];

/// Builds a program of the workspace for the browser, with this page around it, and returns the folder to serve.
pub(crate) fn build(bin: &str, profile: Profile, index: &Path) -> Result<PathBuf> {
    build_in(root(), &PACKAGES, bin, profile, index)
}

/// The same for a workspace in another folder, in which `packages` are named. What it builds goes where ours does.
pub(crate) fn build_in(dir: &Path, packages: &[&str], bin: &str, profile: Profile, index: &Path) -> Result<PathBuf> {
    let bindgen = tools::wasm_bindgen("wasm-bindgen")?;
    let toolchain = wasm::Toolchain::ready()?;
    let mut command = toolchain.cargo("build");
    command.args(packages).args(["--bin", bin, "--profile", profile.name()]);
    run(command.current_dir(dir).env("CARGO_TARGET_DIR", target()?))?;
    let built = target()?.join(wasm::TARGET).join(profile.name());
    page(&bindgen, &built.join(format!("{bin}.wasm")), bin, profile, &dir.join(index))
}

/// The same for an example of one of our crates, in a folder with its page.
pub(crate) fn build_example(package: &str, example: &str, folder: &Path) -> Result<PathBuf> {
    let (profile, bindgen) = (Profile::Web, tools::wasm_bindgen("wasm-bindgen")?);
    let mut command = wasm::Toolchain::ready()?.cargo("build");
    run(command.args(["-p", package, "--example", example, "--profile", profile.name()]))?;
    let built = target()?.join(wasm::TARGET).join(profile.name()).join("examples");
    page(&bindgen, &built.join(format!("{example}.wasm")), example, profile, &root().join(folder).join("index.html"))
}

/// Puts what was built and the page around it in a folder.
fn page(bindgen: &Path, built: &Path, name: &str, profile: Profile, index: &Path) -> Result<PathBuf> {
    let page = target()?.join("pages").join(profile.name()).join(name);
    make_dir(&page)?;
    if !is_newer(&page.join("game_bg.wasm"), built) {
        let mut command = Command::new(bindgen);
        command.args(["--target", "web", "--no-typescript", "--out-name", "game", "--out-dir"]);
        run(command.arg(&page).arg(built))?;
    }
    let to = page.join("index.html");
    fs::copy(index, &to).map_err(|error| format!("cannot write {}: {error}", to.display()))?;
    Ok(page)
}

/// Whether both are there, and this one was written after the other.
pub(crate) fn is_newer(one: &Path, other: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    matches!((modified(one), modified(other)), (Some(one), Some(other)) if one > other)
}
