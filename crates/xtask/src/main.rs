//! Every developer command of coplay: `cargo xtask COMMAND`.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "talking to the person who called it is its job")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod boundaries;
mod browser;
mod ci;
mod crossplay;
mod interrupt;
mod life;
mod lobby;
mod native;
mod packages;
mod pages;
mod play;
mod run;
mod shot;
mod site;
mod soak;
mod template;
mod test;
mod tools;
mod wasm;
mod web;
mod webdriver;

/// The developer commands of coplay.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Play the arena: builds it for this machine and for browsers, and prints the URL to open.
    Play(play::Options),
    /// Run the tests: on this machine, in a real browser, and both in one match.
    Test(test::Options),
    /// Run everything that a change has to pass.
    Ci,
    /// Play matches of native peers and real browsers, and measure them.
    Crossplay(crossplay::Options),
    /// Test what becomes of links when processes die or stop, networks change, signaling breaks, and tabs are closed or hidden.
    Life(test::Options),
    /// Play one match for long at loss, and look whether events are lost or memory grows.
    Soak(soak::Options),
    /// Play through the menu of the arena, in two real browsers and natively: the public list, passwords, quick match.
    Lobby,
    /// Check that each crate stands only on what it may stand on.
    Boundaries,
    /// Get what the other commands need and do not find: the toolchain for browsers, wasm-bindgen, Chromium.
    Setup,
    /// Start a game from the template as anybody would, test and build it, and have a native peer and two pages play it.
    Template,
    /// Check that the crates that are to be published can be: what they say of themselves, what they take along.
    Package(packages::Options),
    /// Make the README's screenshots from a native window and a real browser in one match.
    Shot,
    /// Measure.
    Bench(bench::Options),
    /// Serve the files of a folder until stopped. For `bench`, in a network of its own.
    #[command(hide = true)]
    ServePage(pages::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Play(options) => play::play(&options),
        Command::Test(options) => test::test(&options),
        Command::Ci => ci::ci(),
        Command::Crossplay(options) => crossplay::crossplay(&options),
        Command::Life(options) => life::life(&options),
        Command::Soak(options) => soak::soak(&options),
        Command::Lobby => lobby::lobby(),
        Command::Boundaries => boundaries::boundaries(),
        Command::Setup => tools::setup(),
        Command::Template => template::template(),
        Command::Package(options) => packages::package(&options),
        Command::Shot => shot::shot(),
        Command::Bench(options) => bench::bench(&options),
        Command::ServePage(options) => pages::serve(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
