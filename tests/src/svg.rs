//! Charts as SVG text.

use std::fmt::Write as _;

/// The size of a chart.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 200.0;
/// The room for what is beside the lines: left, top, and below.
const LEFT: f64 = 62.0;
const TOP: f64 = 24.0;
const BELOW: f64 = 52.0;
/// Charts in a row.
const COLUMNS: usize = 3;
/// The most names below a chart; they are in two columns.
const NAMES: usize = 6;
/// The longest name, in characters.
const NAME: usize = 28;
const COLOURS: [&str; 8] =
    ["#3274d9", "#e0752d", "#37872d", "#c4162a", "#8f3bb8", "#b58900", "#00838f", "#6d4c41"];

/// A line: its name, and values by time in seconds.
pub type Line = (String, Vec<(f64, f64)>);

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What it is called.
    pub title: String,
    /// Grafana's word for the unit of its values.
    pub unit: String,
    /// Its lines.
    pub lines: Vec<Line>,
}

/// The charts on one page under a heading, from `start` for `span` seconds.
#[must_use]
pub fn page(heading: &str, charts: &[Chart], start: f64, span: f64) -> String {
    let rows = charts.len().div_ceil(COLUMNS);
    let (width, height) = (WIDTH * as_f64(COLUMNS) + 10.0, HEIGHT * as_f64(rows) + 34.0);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"10\" fill=\"#333\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"13\">{}</text>\n",
        escaped(heading)
    );
    for (index, chart) in charts.iter().enumerate() {
        let (x, y) = (WIDTH * as_f64(index % COLUMNS), HEIGHT * as_f64(index / COLUMNS) + 30.0);
        let _ = writeln!(text, "<g transform=\"translate({x} {y})\">");
        draw(&mut text, chart, start, span);
        text.push_str("</g>\n");
    }
    text.push_str("</svg>\n");
    text
}

fn draw(text: &mut String, chart: &Chart, start: f64, span: f64) {
    let (right, bottom) = (WIDTH - 10.0, HEIGHT - BELOW);
    let values = chart.lines.iter().flat_map(|(_, samples)| samples).map(|(_, value)| *value);
    let most = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
    let top = if most > 0.0 { most * 1.1 } else { 1.0 };
    let _ =
        writeln!(text, "<text x=\"{LEFT}\" y=\"14\" font-weight=\"bold\">{}</text>", escaped(&chart.title));
    for part in [0.0, 0.5, 1.0] {
        let y = bottom - (bottom - TOP) * part;
        let label = shown(top * part, &chart.unit);
        let _ = writeln!(
            text,
            "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 4.0,
            y + 3.0
        );
    }
    let _ = writeln!(
        text,
        "<text x=\"{LEFT}\" y=\"{0}\">0 s</text><text x=\"{right}\" y=\"{0}\" text-anchor=\"end\">{span:.0} s</text>",
        bottom + 12.0
    );
    for (index, (name, samples)) in chart.lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let mut path = String::new();
        let mut last = f64::NEG_INFINITY;
        for (time, value) in samples.iter().filter(|(_, value)| value.is_finite()) {
            let x = LEFT + (right - LEFT) * (time - start) / span;
            let y = bottom - (bottom - TOP) * value / top;
            // Where samples are missing there is no line.
            let pen = if time - last > 2.5 { 'M' } else { 'L' };
            let _ = write!(path, "{pen}{x:.1} {y:.1}");
            last = *time;
        }
        let _ = writeln!(text, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.4\"/>");
        if index < NAMES {
            let x = LEFT - 40.0 + (WIDTH / 2.0 - 8.0) * as_f64(index % 2);
            let y = bottom + 25.0 + 11.0 * as_f64(index / 2);
            let name: String = name.chars().take(NAME).collect();
            let _ = writeln!(
                text,
                "<rect x=\"{x}\" y=\"{}\" width=\"8\" height=\"3\" fill=\"{colour}\"/><text x=\"{}\" y=\"{y}\">{}</text>",
                y - 4.0,
                x + 11.0,
                escaped(&name)
            );
        }
    }
}

/// A value with its unit.
fn shown(value: f64, unit: &str) -> String {
    let short = |value: f64| {
        let digits = match value {
            value if value == 0.0 || value >= 100.0 => 0,
            value if value >= 10.0 => 1,
            value if value >= 0.1 => 2,
            _ => 4,
        };
        format!("{value:.digits$}")
    };
    match unit {
        "bytes" | "Bps" => {
            let end = if unit == "Bps" { "/s" } else { "" };
            match value {
                value if value >= 1048576.0 => format!("{} MiB{end}", short(value / 1048576.0)),
                value if value >= 1024.0 => format!("{} KiB{end}", short(value / 1024.0)),
                value => format!("{} B{end}", short(value)),
            }
        }
        "s" if value > 0.0 && value < 1.0 => format!("{} ms", short(value * 1000.0)),
        "s" => format!("{} s", short(value)),
        "reqps" | "ops" => format!("{}/s", short(value)),
        _ => short(value),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn as_f64(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_its_lines_and_no_line_where_samples_are_missing() {
        let samples = vec![(100.0, 1.0), (101.0, 2.0), (102.0, f64::NAN), (110.0, 2.0)];
        let chart = Chart { title: "a < b".into(), unit: "s".into(), lines: vec![("one".into(), samples)] };
        let text = page("now", &[chart], 100.0, 10.0);
        assert!(text.contains("a &lt; b") && text.contains(">one</text>") && text.contains(">10 s</text>"));
        let path = text.split("<path d=\"").find(|part| part.contains('L')).unwrap();
        assert_eq!(path.split('"').next().unwrap().matches('M').count(), 2, "{path}");
    }

    #[test]
    fn values_have_units() {
        assert_eq!(shown(2_621_440.0, "bytes"), "2.50 MiB");
        assert_eq!(shown(0.0205, "s"), "20.5 ms");
        assert_eq!(shown(150.0, "none"), "150");
    }
}
