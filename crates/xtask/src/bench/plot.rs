//! How a figure is drawn: spans of times on a logarithmic scale, in groups, as SVG for light and dark pages alike.

use std::fmt::Write;

/// Of the whole picture; a page scales it.
const WIDTH: f64 = 860.0;
const PANEL: f64 = 250.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 56.0;
const BETWEEN: f64 = 56.0;
/// Readable on white and on black.
const INK: &str = "#7d8590";
const COLORS: [&str; 6] = ["#2f81f7", "#e5534b", "#d18616", "#57ab5a", "#986ee2", "#c96198"];

/// One panel, with its title.
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) groups: Vec<Group>,
}

/// Spans beside each other, with what they have in common.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) spans: Vec<Span>,
}

/// From one value to another, and further to a third: p50, p99, and the longest, say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span {
    /// Which of the series.
    pub(super) series: usize,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) most: f64,
}

/// The picture: panels one below the other, with one scale, which has this name, and the names of the series above.
pub(super) fn plot(title: &str, scale: &str, series: &[&str], panels: &[Panel]) -> String {
    let values = panels.iter().flat_map(|panel| &panel.groups).flat_map(|group| &group.spans);
    let values = values.flat_map(|span| [span.from, span.most]).filter(|value| *value > 0.0);
    let (low, high) = values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    let (low, high) = if low < high { (low * 0.8, high * 1.25) } else { (1.0, 10.0) };
    let height = TOP + panels.len() as f64 * (PANEL + BETWEEN) + 8.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"{INK}\" role=\"img\">\n<title>{}</title>\n",
        escaped(title)
    );
    let mut x = LEFT;
    for (name, color) in series.iter().zip(COLORS.iter().cycle()) {
        let _ = writeln!(svg, "<rect x=\"{x}\" y=\"10\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{color}\"/>");
        let _ = writeln!(svg, "<text x=\"{}\" y=\"21\">{}</text>", x + 17.0, escaped(name));
        x += 40.0 + 7.5 * name.len() as f64;
    }
    for (number, panel) in panels.iter().enumerate() {
        let top = TOP + number as f64 * (PANEL + BETWEEN);
        draw(&mut svg, panel, top, |value: f64| {
            let share = (value.clamp(low, high) / low).ln() / (high / low).ln();
            top + PANEL * (1.0 - share)
        });
        for tick in ticks(low, high) {
            let share = (tick / low).ln() / (high / low).ln();
            let y = top + PANEL * (1.0 - share);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {y:.1}H{WIDTH}\" stroke=\"{INK}\" stroke-opacity=\"0.25\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>",
                LEFT - 8.0,
                y + 4.0
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"14\" y=\"{y:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {y:.1})\">{}</text>",
            escaped(scale),
            y = top + PANEL / 2.0
        );
    }
    svg + "</svg>\n"
}

fn draw(svg: &mut String, panel: &Panel, top: f64, y: impl Fn(f64) -> f64) {
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"600\">{}</text>",
        top - 10.0,
        escaped(&panel.title)
    );
    let room = (WIDTH - LEFT) / panel.groups.len().max(1) as f64;
    for (number, group) in panel.groups.iter().enumerate() {
        let left = LEFT + room * number as f64;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            left + room / 2.0,
            top + PANEL + 18.0,
            escaped(&group.name)
        );
        let step = room * 0.8 / group.spans.len().max(1) as f64;
        for (at, span) in group.spans.iter().enumerate() {
            let x = left + room * 0.1 + step * (at as f64 + 0.5);
            let color = COLORS[span.series % COLORS.len()];
            let (from, to, most) = (y(span.from), y(span.to), y(span.most));
            let width = (step * 0.6).min(22.0);
            let _ = writeln!(
                svg,
                "<rect x=\"{:.1}\" y=\"{to:.1}\" width=\"{width:.1}\" height=\"{:.1}\" rx=\"2\" fill=\"{color}\"/>\
                 <path d=\"M{x:.1} {to:.1}V{most:.1}M{:.1} {most:.1}h{:.1}\" stroke=\"{color}\" stroke-width=\"1.5\"/>",
                x - width / 2.0,
                (from - to).max(2.0),
                x - width / 4.0,
                width / 2.0,
            );
        }
    }
}

/// 1, 2 and 5 times each power of ten within.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let all = (first..=last).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
    all.filter(|tick| (low..=high).contains(tick)).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(spans: Vec<Span>) -> Panel {
        Panel { title: "a < b".to_owned(), groups: vec![Group { name: "2 %".to_owned(), spans }] }
    }

    #[test]
    fn higher_values_are_higher_up_and_text_is_escaped() {
        let spans = vec![
            Span { series: 0, from: 40.0, to: 60.0, most: 90.0 },
            Span { series: 1, from: 40.0, to: 1_000.0, most: 3_000.0 },
        ];
        let svg = plot("t", "ms", &["coplay", "other"], &[panel(spans)]);
        assert!(svg.contains("a &lt; b") && svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        let tops: Vec<f64> = svg
            .lines()
            .filter(|line| line.starts_with("<rect") && !line.contains("height=\"12\""))
            .filter_map(|line| line.split("y=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        assert!(matches!(&tops[..], [low, high] if high < low), "{tops:?}");
        assert!(svg.contains(">1000</text>"), "{svg}");
    }

    #[test]
    fn nothing_to_draw_is_a_picture_all_the_same() {
        assert!(plot("t", "ms", &[], &[panel(Vec::new())]).ends_with("</svg>\n"));
        assert_eq!(ticks(30.0, 600.0), [50.0, 100.0, 200.0, 500.0]);
    }
}
