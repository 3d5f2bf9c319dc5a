//! The desk as a process reaches it: HTTP by hand, one connection a post, on a thread of its own.

use std::{
    env,
    io::{self, Read, Write},
    net::TcpStream,
    sync::OnceLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use coplay_tests::crossplay::{Order, Reached};

use super::{Parameters, order};

/// Tells the desk that this peer is there, and runs `play` when it is its turn to join.
pub(crate) fn when_told_to_join(play: impl FnOnce(Parameters)) {
    let arguments: Vec<_> = env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument.strip_prefix("--") == Some(name))?;
        arguments.get(at + 1).cloned()
    };
    let joining = Parameters::read(value).and_then(|parameters| {
        let body = serde_json::to_string(&Reached::Loaded).map_err(|error| error.to_string())?;
        match send(&parameters, &body)? {
            Order::Join => Ok(parameters),
            other => Err(format!("the desk ordered {other:?} instead of joining")),
        }
    });
    match joining {
        Ok(parameters) => play(parameters),
        Err(error) => panic!("{error}"),
    }
}

/// Posts what was reached, and hands the answer over when it comes.
pub(super) fn post(
    parameters: Parameters,
    body: String,
    answered: impl FnOnce(Result<Order, String>) + Send + 'static,
) {
    std::thread::spawn(move || answered(send(&parameters, &body)));
}

fn send(parameters: &Parameters, body: &str) -> Result<Order, String> {
    let answer = request(&parameters.desk, &parameters.path(), body);
    let answer = answer.map_err(|error| format!("the desk at {} cannot be reached: {error}", parameters.desk))?;
    order(answer.split_once("\r\n\r\n").map_or("", |(_, body)| body))
}

fn request(desk: &str, path: &str, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(desk)?;
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {desk}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The time of day in ms, the same in every process of this machine.
pub(crate) fn wall_millis() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1000.0
}

/// A clock in ms that never jumps.
pub(crate) fn monotonic_millis() -> f64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64() * 1000.0
}
