//! A process.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::{
    env,
    io::{self, BufRead},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::de::DeserializeOwned;

pub(super) fn value(name: &str) -> Result<Option<String>, String> {
    let arguments: Vec<_> = env::args().collect();
    let at = arguments.iter().position(|argument| argument.strip_prefix("--") == Some(name));
    Ok(at.and_then(|at| arguments.get(at + 1)).cloned())
}

/// What is told by standard input, a line of JSON each, until that ends. `program`: to say what was not understood.
pub fn orders<T: DeserializeOwned + Send + 'static>(program: &'static str) -> Receiver<T> {
    let (tell, told) = channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(order) => _ = tell.send(order),
                Err(error) => super::failed(program, &format!("{line:?} is no order: {error}")),
            }
        }
    });
    told
}

/// In ms since 1970.
pub fn time_of_day() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}

/// A line to standard output.
pub fn print(line: &str) {
    println!("{line}");
}
