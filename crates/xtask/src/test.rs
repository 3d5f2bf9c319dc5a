//! How everything is tested: on this machine, in a real browser, and both together.

use std::fs;

use serde_json::json;

use crate::{
    browser, crossplay,
    run::{Result, Steps, cargo, make_dir, run, target},
    tools, wasm,
};

/// The packages with tests that run in a browser.
const IN_BROWSER: [&str; 4] = ["-p", "coplay_proto", "-p", "coplay_socket"];

/// What `test` is asked for, and `life`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only what needs no browser.
    #[arg(long, conflicts_with = "web")]
    pub(crate) native: bool,
    /// Only what needs a browser.
    #[arg(long)]
    pub(crate) web: bool,
}

/// Runs the tests; without options all of them.
pub(crate) fn test(options: &Options) -> Result {
    if options.native {
        return native();
    }
    if options.web {
        return web();
    }
    let mut steps = Steps::new(3);
    steps.next("tests on this machine (first time about 15 minutes)");
    native()?;
    steps.next("tests in a browser");
    web()?;
    steps.next("native peers and browsers in one match");
    crossplay::crossplay(&crossplay::Options::quick())
}

/// Unit, integration and documentation tests of the whole workspace.
pub(crate) fn native() -> Result {
    run(cargo().args(["test", "--workspace"]))
}

/// The tests that wasm-bindgen runs within Chromium.
pub(crate) fn web() -> Result {
    let runner = tools::wasm_bindgen("wasm-bindgen-test-runner")?;
    let driver = tools::chromedriver()?;
    let arguments: Vec<_> = ["--headless"].into_iter().chain(browser::FLAGS).collect();
    let capabilities = json!({ "goog:chromeOptions": { "args": arguments, "binary": tools::chromium()? } });
    let place = target()?.join("webdriver");
    make_dir(&place)?;
    let file = place.join("chromium.json");
    fs::write(&file, capabilities.to_string()).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    let mut command = wasm::Toolchain::ready()?.cargo("test");
    command.args(["--profile", "web", "--lib", "--tests", "--features", "coplay_socket/matchbox"]).args(IN_BROWSER);
    command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", runner);
    command.env("WASM_BINDGEN_TEST_WEBDRIVER_JSON", file).env("CHROMEDRIVER", driver);
    // Tests that do not ask for a browser run in one as well, and not in Node.
    command.env("WASM_BINDGEN_USE_BROWSER", "1");
    // In seconds. By default the runner gives all tests of a file 20 together.
    command.env("WASM_BINDGEN_TEST_TIMEOUT", "300").env("WASM_BINDGEN_TEST_DRIVER_TIMEOUT", "60");
    run(&mut command)
}
