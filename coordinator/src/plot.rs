//! Pictures of numbers as SVG, without a library: points in panels, each with its axes.

use std::fmt::Write;

/// A figure of panels side by side, three a row.
pub struct Scatter {
    /// Above all panels.
    pub title: String,
    /// What is shown.
    pub panels: Vec<Panel>,
}

/// Points over two axes.
pub struct Panel {
    /// Name of the horizontal axis.
    pub x: String,
    /// Name of the vertical axis.
    pub y: String,
    /// x, y, whether the point stands out, and what it is called.
    pub points: Vec<(f64, f64, bool, String)>,
}

/// Side of a panel's drawing, and what its axes and names take around it, in pixels.
const SIDE: f64 = 300.0;
const MARGIN: f64 = 64.0;
const A_ROW: usize = 3;

impl Scatter {
    /// The figure's file.
    pub fn to_svg(&self) -> String {
        let columns = self.panels.len().clamp(1, A_ROW);
        let rows = self.panels.len().div_ceil(A_ROW).max(1);
        let step = SIDE + 1.5 * MARGIN;
        let (width, height) = (columns as f64 * step + 0.5 * MARGIN, rows as f64 * step + MARGIN);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{MARGIN}\" y=\"24\" font-size=\"15\">{}</text>\n",
            escaped(&self.title)
        );
        for (i, panel) in self.panels.iter().enumerate() {
            let (left, top) = ((i % A_ROW) as f64 * step + MARGIN, (i / A_ROW) as f64 * step + 0.7 * MARGIN);
            let _ = writeln!(out, "<g transform=\"translate({left} {top})\">");
            panel.draw(&mut out);
            out += "</g>\n";
        }
        out + "</svg>\n"
    }
}

impl Panel {
    fn draw(&self, out: &mut String) {
        let (xs, ys) = (Axis::of(self.points.iter().map(|p| p.0)), Axis::of(self.points.iter().map(|p| p.1)));
        let _ = writeln!(out, "<rect width=\"{SIDE}\" height=\"{SIDE}\" fill=\"none\" stroke=\"#999\"/>");
        for t in xs.ticks() {
            let x = xs.place(t);
            let _ = writeln!(
                out,
                "<path d=\"M{x:.1} {SIDE}v5\" stroke=\"#999\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                SIDE + 18.0,
                xs.label(t)
            );
        }
        for t in ys.ticks() {
            let y = SIDE - ys.place(t);
            let _ = writeln!(
                out,
                "<path d=\"M0 {y:.1}h-5\" stroke=\"#999\"/><text x=\"-8\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                y + 4.0,
                ys.label(t)
            );
        }
        let half = SIDE / 2.0;
        let _ = writeln!(
            out,
            "<text x=\"{half}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n<text transform=\"translate(-48 {half}) rotate(-90)\" \
             text-anchor=\"middle\">{}</text>",
            SIDE + 38.0,
            escaped(&self.x),
            escaped(&self.y)
        );
        // Those that stand out are drawn last, over the others.
        for out_stands in [false, true] {
            for (x, y, _, label) in self.points.iter().filter(|p| p.2 == out_stands) {
                let (radius, colour) = if out_stands { (4.5, "#c0392b") } else { (2.5, "#b8bec5") };
                let _ = writeln!(
                    out,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius}\" fill=\"{colour}\"><title>{}</title></circle>",
                    xs.place(*x),
                    SIDE - ys.place(*y),
                    escaped(label)
                );
            }
        }
    }
}

/// A stretch of numbers over [`SIDE`] pixels.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// From the smallest to the largest of `values`, with a little room; a single value gets a stretch around it.
    fn of(values: impl Iterator<Item = f64>) -> Axis {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        values.for_each(|v| (low, high) = (low.min(v), high.max(v)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let room = if high > low { 0.05 * (high - low) } else { low.abs().max(1.0) * 0.5 };
        (low, high) = (low - room, high + room);
        // About five ticks at 1, 2 or 5 times a power of ten.
        let raw = (high - low) / 5.0;
        let power = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= raw).unwrap_or(raw);
        Axis { low, high, step }
    }

    fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low) * SIDE
    }

    fn ticks(&self) -> Vec<f64> {
        let first = (self.low / self.step).ceil() as i64;
        let last = (self.high / self.step).floor() as i64;
        (first..=last).map(|i| i as f64 * self.step).collect()
    }

    fn label(&self, tick: f64) -> String {
        let decimals = (-self.step.log10().floor()).clamp(0.0, 6.0) as usize;
        format!("{tick:.decimals$}")
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_every_value_has_a_place() {
        let axis = Axis::of([0.31, 0.62].into_iter());
        let labels: Vec<String> = axis.ticks().into_iter().map(|t| axis.label(t)).collect();
        assert_eq!(labels, ["0.3", "0.4", "0.5", "0.6"]);
        for values in [vec![], vec![3.0], vec![0.0, 0.0], vec![-5.0, 1e9]] {
            let axis = Axis::of(values.iter().copied());
            assert!(values.iter().all(|v| (0.0..=SIDE).contains(&axis.place(*v))), "{values:?}");
            assert!((1..=11).contains(&axis.ticks().len()), "{:?}", axis.ticks());
        }
    }
}
