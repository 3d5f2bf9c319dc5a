//! What was found, as rows, as a table and as a picture; and whether it is as it is to be.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Case, DELAY_MS, Kind, LOSSES, Pair, Pattern, Phase, STACKS, Stack,
    cell::{Cell, Counted, FRAMES},
};
use crate::{
    bench::{
        emulated::{Mark, Sent},
        plot::{Group, Panel, Span, plot},
        quantile,
    },
    run::{Result, table},
};

/// Live state beside the messages, each way.
const STATE_KB_S: u32 = 30;
/// coplay's events are at most that much later than half of them, by what is lost: p99 at 2 %, at 10 %, in bursts, and
/// p99.9 at 2 %.
const P99_AT_2: f64 = 35.0;
const P99_AT_10: f64 = 60.0;
const P99_IN_BURSTS: f64 = 100.0;
const P999_AT_2: f64 = 120.0;
/// Their bytes, by what one send costs.
const COPIES: f64 = 3.0;
/// Half of them are no later than the path and so many frames.
const P50_FRAMES: f64 = 1.5;

/// One case at one loss, both directions together. Times are in ms, from the game that sends to the game that takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) stack: Stack,
    pub(super) pair: Pair,
    pub(super) pattern: Pattern,
    /// Percent.
    pub(super) loss: f64,
    pub(super) burst: bool,
    pub(super) sent: u64,
    pub(super) delivered: u64,
    pub(super) p50_ms: f64,
    pub(super) p90_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
    pub(super) max_ms: f64,
    /// Of IP packets that the sender sent, headers and all its other traffic to that peer included, for each message that was
    /// delivered. Beside live state: what comes on top of it.
    pub(super) bytes_per_message: Option<f64>,
    /// The same, had each message been sent once, as state is, and never again. coplay alone.
    pub(super) bytes_of_one_send: Option<f64>,
    pub(super) duplicated: u64,
    pub(super) out_of_order: u64,
    /// Of live state, each way, beside the messages.
    pub(super) state_kb_s: u32,
    /// Connections of the case that ended before all was measured, at whichever loss.
    pub(super) closed: usize,
}

/// The rows of all cases that ran.
pub(super) fn of(cells: &[Cell], phases: &[Phase], seconds: u32) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for cell in cells {
        let (counted, marks) = cell.counted()?;
        let closed = cell.closed()?.len();
        let rows_of = rows_of(cell.case, phases, seconds, &counted, &marks);
        rows.extend(rows_of.into_iter().map(|row| Row { closed, ..row }));
    }
    Ok(rows)
}

fn rows_of(case: Case, phases: &[Phase], seconds: u32, counted: &BTreeMap<u16, Counted>, marks: &[Mark]) -> Vec<Row> {
    let of_kind = |kind: Kind| phases.iter().filter(move |phase| phase.kind == kind);
    let bytes = |phase: &Phase| window(case.stack, phase, marks).unwrap_or_default() as f64;
    let length = |phase: &Phase| f64::from(phase.seconds(seconds));
    let quiet = of_kind(Kind::Quiet).map(bytes).sum::<f64>() / of_kind(Kind::Quiet).map(length).sum::<f64>();
    // Beyond what goes over the path anyway.
    let more = |phase: &Phase| bytes(phase) - quiet * length(phase);
    let delivered = |phase: &Phase| counted.get(&phase.number).map_or(0.0, |counted| counted.times.len() as f64);
    let each = |kind: Kind, bytes: f64| rounded(bytes / of_kind(kind).map(delivered).sum::<f64>());
    // What keeps a connection alive is counted; live state is not.
    let sent =
        |kind: Kind| -> f64 { if case.state { of_kind(kind).map(more).sum() } else { of_kind(kind).map(bytes).sum() } };
    let once = each(Kind::Once, sent(Kind::Once));
    let row = |(percent, burst): (f64, bool)| {
        let kind = Kind::Measured { percent, burst };
        let mut all = Counted::default();
        of_kind(kind).filter_map(|phase| counted.get(&phase.number)).for_each(|counted| all.add(counted));
        let once = (case.stack == Stack::CoplayEvent).then_some(once);
        Row::of(case, percent, burst, all, Some(each(kind, sent(kind))), once)
    };
    LOSSES.map(row).into()
}

/// Bytes that the sender of a phase sent in it.
fn window(stack: Stack, phase: &Phase, marks: &[Mark]) -> Option<u64> {
    let [begin, end] = phase.labels().map(|label| marks.iter().find(|mark| mark.label == label));
    let bytes = |sent: &Sent| if stack == Stack::Websocket { sent.tcp_bytes } else { sent.udp_bytes };
    let side = |mark: &Mark| if phase.by_a { bytes(&mark.a_to_b) } else { bytes(&mark.b_to_a) };
    Some(side(end?) - side(begin?))
}

impl Row {
    pub(super) fn of(
        case: Case,
        loss: f64,
        burst: bool,
        mut all: Counted,
        bytes: Option<f64>,
        once: Option<f64>,
    ) -> Self {
        all.times.sort_unstable_by(f64::total_cmp);
        let at = |share| quantile(&all.times, share);
        Self {
            stack: case.stack,
            pair: case.pair,
            pattern: case.pattern,
            loss,
            burst,
            sent: all.sent,
            delivered: all.times.len() as u64 - all.twice,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: at(1.0),
            bytes_per_message: bytes,
            bytes_of_one_send: once,
            duplicated: all.twice,
            out_of_order: all.skipped,
            state_kb_s: if case.state { STATE_KB_S } else { 0 },
            closed: 0,
        }
    }

    /// In what it is not as it is to be. Nothing is asked of others than coplay.
    pub(super) fn faults(&self) -> Vec<String> {
        if self.stack != Stack::CoplayEvent {
            return Vec::new();
        }
        let mut faults = Vec::new();
        let mut most = |what: &str, is: f64, most: f64| {
            // What was not measured is a fault, too.
            if is.is_nan() || is > most {
                faults.push(format!("{}: {what} is {is:.1}, and {most:.1} at most", self.title()));
            }
        };
        most("connections that ended", self.closed as f64, 0.0);
        most("messages lost", self.sent.abs_diff(self.delivered) as f64, 0.0);
        most("messages twice", self.duplicated as f64, 0.0);
        most("messages out of order", self.out_of_order as f64, 0.0);
        most("p50", self.p50_ms, DELAY_MS + P50_FRAMES * 1e3 / f64::from(FRAMES));
        let later = match (self.loss, self.burst) {
            (2.0, true) => Some(P99_IN_BURSTS),
            (2.0, false) => Some(P99_AT_2),
            (10.0, false) => Some(P99_AT_10),
            _ => None,
        };
        if let Some(later) = later {
            most("p99 - p50", self.p99_ms - self.p50_ms, later);
        }
        if (self.loss, self.burst) == (2.0, false) {
            most("p99.9 - p50", self.p999_ms - self.p50_ms, P999_AT_2);
        }
        if let (Some(bytes), Some(once)) = (self.bytes_per_message, self.bytes_of_one_send) {
            most("bytes", bytes, COPIES * once);
        }
        faults
    }

    fn title(&self) -> String {
        let burst = if self.burst { " in bursts" } else { "" };
        let state = if self.state_kb_s > 0 { ", beside state" } else { "" };
        let web = if self.pair == Pair::NativeWeb { ", browser" } else { "" };
        format!("{} at {} %{burst}{web}{state}", pattern(self.pattern), self.loss)
    }
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

const fn pattern(pattern: Pattern) -> &'static str {
    match pattern {
        Pattern::Lone => "lone",
        Pattern::Steady => "steady",
    }
}

/// The rows as a table.
pub(super) fn overview(rows: &[Row]) -> String {
    let heading =
        ["stack", "pair", "pattern", "lost", "sent", "came", "p50, ms", "p90", "p99", "p99.9", "max", "bytes", "once"];
    let line = |row: &Row| {
        let pair = if row.pair == Pair::NativeNative { "native" } else { "browser" };
        let state = if row.state_kb_s > 0 { " + state" } else { "" };
        let times = [row.p50_ms, row.p90_ms, row.p99_ms, row.p999_ms, row.max_ms];
        let mut cells = vec![
            row.stack.name().to_owned(),
            pair.to_owned(),
            format!("{}{state}", pattern(row.pattern)),
            format!("{} %{}", row.loss, if row.burst { " bursts" } else { "" }),
            row.sent.to_string(),
            row.delivered.to_string(),
        ];
        cells.extend(times.map(|time| format!("{time:.0}")));
        let bytes = [row.bytes_per_message, row.bytes_of_one_send];
        cells.extend(bytes.map(|bytes| bytes.map_or_else(String::new, |bytes| format!("{bytes:.0}"))));
        cells
    };
    table(&std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows.iter().map(line)).collect::<Vec<_>>())
}

/// The rows as a picture: from p50 to p99, and thinner to the longest.
pub(super) fn picture(rows: &[Row]) -> String {
    let panels = [
        (Pair::NativeNative, Pattern::Lone, "One message of 64 bytes every 200 ms, native"),
        (Pair::NativeNative, Pattern::Steady, "20 messages of 64 bytes a second, native"),
        (Pair::NativeWeb, Pattern::Lone, "One message of 64 bytes every 200 ms, native and Chromium"),
    ];
    let panel = |(pair, pattern, title): (Pair, Pattern, &str)| {
        let shown = |row: &&Row| row.pair == pair && row.pattern == pattern && row.state_kb_s == 0;
        let group = |(percent, burst): (f64, bool)| {
            let spans = rows.iter().filter(shown).filter(|row| (row.loss, row.burst) == (percent, burst));
            let span = |row: &Row| {
                let series = STACKS.iter().position(|stack| *stack == row.stack).unwrap_or_default();
                Span { series, from: row.p50_ms, to: row.p99_ms, most: row.max_ms }
            };
            let name = format!("{percent} % lost{}", if burst { " in bursts" } else { "" });
            Group { name, spans: spans.map(span).filter(|span| span.most.is_finite()).collect() }
        };
        Panel { title: title.to_owned(), groups: LOSSES.map(group).into() }
    };
    let title = "How late reliable messages are: bars from p50 to p99, lines to the latest; round trip 60 ms";
    plot(title, "ms, one way", &STACKS.map(Stack::name), &panels.map(panel))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: Case =
        Case { stack: Stack::CoplayEvent, pair: Pair::NativeNative, pattern: Pattern::Lone, state: false };

    fn counted(times: Vec<f64>) -> Counted {
        Counted { sent: times.len() as u64, times, ..Counted::default() }
    }

    fn marks(phases: &[Phase], each: u64) -> Vec<Mark> {
        let mut sent = Sent::default();
        let mut marks = Vec::new();
        for phase in phases {
            let [begin, end] = phase.labels();
            marks.push(Mark { label: begin, a_to_b: sent, b_to_a: sent });
            sent.udp_bytes += each * u64::from(phase.number);
            marks.push(Mark { label: end, a_to_b: sent, b_to_a: sent });
        }
        marks
    }

    #[test]
    fn both_directions_of_a_loss_become_one_row() {
        let phases = super::super::phases();
        let marks = marks(&phases, 100);
        let mut by_phase = BTreeMap::new();
        for phase in &phases {
            by_phase.insert(phase.number, counted(vec![f64::from(phase.number); 10]));
        }
        let rows = rows_of(CASE, &phases, 10, &by_phase, &marks);
        let json = serde_json::to_value(&rows).expect("JSON");
        assert_eq!(
            (json[0]["stack"].as_str(), json[0]["pair"].as_str()),
            (Some("coplay_event"), Some("native_native"))
        );
        assert_eq!((rows[0].sent, rows[0].delivered, rows[0].p50_ms, rows[0].max_ms), (20, 20, 5.0, 6.0));
        // Phases 5 and 6 sent 1,100 bytes for 20 messages; phases 3 and 4 sent 700.
        assert_eq!((rows[0].bytes_per_message, rows[0].bytes_of_one_send), (Some(55.0), Some(35.0)));
        // Beside state, the 25 bytes a second are left out that phases 1 and 2 sent without any message.
        let beside = rows_of(Case { state: true, ..CASE }, &phases, 10, &by_phase, &marks);
        assert_eq!((beside[0].bytes_per_message, beside[0].bytes_of_one_send), (Some(30.0), Some(20.0)));
        assert!(rows[4].burst);
    }

    #[test]
    fn what_is_too_late_too_dear_or_missing_is_a_fault_of_coplay_alone() {
        let row = |times: Vec<f64>, loss| Row::of(CASE, loss, false, counted(times), Some(300.0), Some(100.0));
        let mut times = vec![40.0; 1_000];
        assert_eq!(row(times.clone(), 2.0).faults(), Vec::<String>::new());
        times[..11].fill(80.0);
        assert_eq!(row(times.clone(), 2.0).faults().len(), 1);
        assert_eq!(row(times.clone(), 10.0).faults(), Vec::<String>::new());
        let other = Row { stack: Stack::Webrtc, ..row(times.clone(), 2.0) };
        assert_eq!(other.faults(), Vec::<String>::new());
        let lost = Row { sent: 1_001, ..row(vec![40.0; 1_000], 0.0) };
        assert!(lost.faults()[0].contains("lost is 1.0"), "{:?}", lost.faults());
        let closed = Row { closed: 1, ..row(vec![40.0; 1_000], 0.0) };
        assert_eq!(closed.faults().len(), 1);
        let dear = Row { bytes_per_message: Some(301.0), ..row(vec![40.0; 1_000], 0.0) };
        assert_eq!(dear.faults().len(), 1);
        assert!(!row(Vec::new(), 0.0).faults().is_empty(), "nothing came");
    }

    #[test]
    fn the_picture_has_a_bar_for_each_row_that_has_times() {
        let one = Row::of(CASE, 2.0, false, counted(vec![40.0, 90.0]), None, None);
        let none = Row::of(CASE, 5.0, false, Counted::default(), None, None);
        let svg = picture(&[one, none]);
        assert_eq!(svg.matches("<rect").count(), STACKS.len() + 1);
    }
}
