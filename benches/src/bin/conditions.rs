//! What do the presets of the conditioner do? A frame of 500 bytes 60 times a second for half a minute over each of them, in
//! virtual time. One row of JSON for each; and, if a file is named, a picture there of ten seconds of it.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::{env, fmt::Write as _, fs, time::Duration};

use coplay_proto::conditioner::{Conditioner, Conditions};
use serde_json::json;

const BYTES: usize = 500;
const RATE: u32 = 60;
const SECONDS: u32 = 30;
/// So much of it is drawn, from its begin.
const DRAWN: f64 = 10.0;
const SEED: u64 = 1;

/// Of the picture.
const WIDTH: f64 = 860.0;
const LEFT: f64 = 96.0;
const PANEL: f64 = 96.0;
const BETWEEN: f64 = 30.0;
/// Readable on white and on black.
const INK: &str = "#7d8590";
const THROUGH: &str = "#2f81f7";
const LOST: &str = "#e5534b";

fn main() -> std::io::Result<()> {
    // A cable and nothing at all look alike.
    let presets = Conditions::presets().iter().filter(|(_, preset)| *preset != Conditions::PERFECT);
    let runs: Vec<(&str, Vec<Frame>)> = presets.map(|(name, preset)| (*name, run(*preset))).collect();
    for (name, frames) in &runs {
        println!("{}", row(name, frames));
    }
    match env::args_os().nth(1) {
        Some(file) => fs::write(file, picture(&runs)),
        None => Ok(()),
    }
}

/// A frame that was sent.
#[derive(Clone)]
struct Frame {
    at: f64,
    /// How long each copy took; none, if it was lost.
    took: Vec<f64>,
}

/// Sends the frames, and looks when they come through. In seconds.
fn run(conditions: Conditions) -> Vec<Frame> {
    let mut path = Conditioner::new(conditions, SEED);
    let time = |number: u32| Duration::from_secs(1) * number / RATE;
    let mut frames: Vec<Frame> =
        (0..RATE * SECONDS).map(|number| Frame { at: time(number).as_secs_f64(), took: Vec::new() }).collect();
    for (number, _) in (0_u32..).zip(&frames) {
        path.push(time(number), number, BYTES);
    }
    while let Some(at) = path.deadline() {
        let Some(frame) = path.pop(at).and_then(|number| frames.get_mut(usize::try_from(number).ok()?)) else { break };
        frame.took.push(at.as_secs_f64() - frame.at);
    }
    frames
}

fn row(name: &str, frames: &[Frame]) -> serde_json::Value {
    let mut took: Vec<f64> = frames.iter().filter_map(|frame| frame.took.first().copied()).collect();
    took.sort_by(f64::total_cmp);
    let ms = |share: f64| {
        let rank = (share * took.len() as f64).ceil() as usize;
        took.get(rank.max(1) - 1).map(|took| (took * 1e5).round() / 100.0)
    };
    let lost = frames.len() - took.len();
    let in_a_row = frames.chunk_by(|one, next| one.took.is_empty() == next.took.is_empty());
    let burst = in_a_row.filter(|frames| frames.iter().all(|frame| frame.took.is_empty())).map(<[_]>::len).max();
    json!({
        "preset": name,
        "p50_ms": ms(0.5),
        "p99_ms": ms(0.99),
        "lost_percent": (lost as f64 / frames.len() as f64 * 1e3).round() / 10.0,
        "most_lost_in_a_row": burst.unwrap_or(0),
        "twice": frames.iter().filter(|frame| frame.took.len() > 1).count(),
    })
}

/// A dot for each frame by when it was sent and how long it took, a stroke for each that was lost.
fn picture(runs: &[(&str, Vec<Frame>)]) -> String {
    let height = 26.0 + runs.len() as f64 * (PANEL + BETWEEN) + 14.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" \
         font-size=\"13\" fill=\"{INK}\" role=\"img\">\n<title>How long frames take over each preset, and which are \
         lost</title>\n<circle cx=\"{}\" cy=\"13\" r=\"2.5\" fill=\"{THROUGH}\"/><text x=\"{}\" y=\"17\">a frame, by how \
         long it took</text><path d=\"M{} 8v10\" stroke=\"{LOST}\" stroke-width=\"1.5\"/><text x=\"{}\" y=\"17\">a frame \
         that was lost</text>\n",
        LEFT + 6.0,
        LEFT + 16.0,
        LEFT + 246.0,
        LEFT + 256.0,
    );
    let x = |at: f64| LEFT + at / DRAWN * (WIDTH - LEFT - 4.0);
    for (number, (name, frames)) in (0_u32..).zip(runs) {
        let top = 26.0 + f64::from(number) * (PANEL + BETWEEN);
        let bottom = top + PANEL;
        let most = frames.iter().flat_map(|frame| &frame.took).fold(0.0_f64, |most, took| most.max(*took)) * 1.1;
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"0\" y=\"{:.1}\" font-weight=\"600\">{name}</text>\
             <path d=\"M{LEFT} {top:.1}V{bottom:.1}H{WIDTH}\" fill=\"none\" stroke=\"{INK}\" stroke-opacity=\"0.4\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"11\">{:.1} ms</text>\
             <text x=\"{}\" y=\"{bottom:.1}\" text-anchor=\"end\" font-size=\"11\">0</text>",
            top + PANEL / 2.0,
            LEFT - 6.0,
            top + 8.0,
            most * 1e3,
            LEFT - 6.0,
        );
        let (mut dots, mut strokes) = (String::new(), String::new());
        for frame in frames.iter().filter(|frame| frame.at < DRAWN) {
            for took in &frame.took {
                let _ = write!(dots, "M{:.1} {:.1}h0", x(frame.at), bottom - took / most * PANEL);
            }
            if frame.took.is_empty() {
                let _ = write!(strokes, "M{:.1} {bottom:.1}v-10", x(frame.at));
            }
        }
        let _ = writeln!(
            svg,
            "<path d=\"{dots}\" stroke=\"{THROUGH}\" stroke-width=\"2.6\" stroke-linecap=\"round\"/>\
             <path d=\"{strokes}\" stroke=\"{LOST}\" stroke-width=\"1.2\"/>"
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{WIDTH}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"11\">{DRAWN} s</text>",
        height - 4.0
    );
    svg + "</svg>\n"
}
