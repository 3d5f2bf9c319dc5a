//! How is a program told what to do, and how does it tell what it found? A process by its command line, its standard input and
//! its standard output; a page by its URL and the console.

use std::{fmt::Display, str::FromStr};

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

#[cfg(not(target_arch = "wasm32"))]
pub use native::{orders, print, time_of_day};
#[cfg(target_arch = "wasm32")]
pub use web::{each_frame, print, time_of_day};

#[cfg(not(target_arch = "wasm32"))]
use native as platform;
#[cfg(target_arch = "wasm32")]
use web as platform;

/// What stands in the command line as `--NAME VALUE`, in the URL as `NAME=VALUE`.
///
/// # Errors
/// It is not there.
pub fn text(name: &str) -> Result<String, String> {
    platform::value(name)?.ok_or_else(|| format!("{name} is missing"))
}

/// The same, as a number or whatever else it is.
///
/// # Errors
/// It is not there, or is something else.
pub fn parsed<T: FromStr<Err: Display>>(name: &str) -> Result<T, String> {
    let text = text(name)?;
    text.parse().map_err(|error| format!("{name} is {text:?}: {error}"))
}

/// Whether this is side A of a pair: by `side`, which is `a` or `b`.
///
/// # Errors
/// It is neither.
pub fn is_side_a() -> Result<bool, String> {
    match text("side")?.as_str() {
        "a" => Ok(true),
        "b" => Ok(false),
        other => Err(format!("side is {other:?}, neither a nor b")),
    }
}

/// Says what happened, in a line that begins with the program's name.
pub fn say(program: &str, what: &serde_json::Value) {
    print(&format!("{program} {what}"));
}

/// Says why it goes no further.
pub fn failed(program: &str, reason: &str) {
    say(program, &serde_json::json!({ "event": "failed", "reason": reason }));
}
