//! A bar chart as SVG: rows of a name, a bar from 0 to 1 and its number. No script, no font of its own, no library.

use std::fmt::Write;

/// One bar.
pub struct Bar {
    /// What stands beside it.
    pub name: String,
    /// Its length, from 0 to 1.
    pub share: f64,
    /// Half the length of the line over its end.
    pub deviation: f64,
    /// Drawn lighter.
    pub second: bool,
}

const ROW: f64 = 24.0;
const TOP: f64 = 56.0;
const PLOT: f64 = 420.0;
/// Of a character of the labels, in pixels; wide ones such as 肺 take two of them.
const CHARACTER: f64 = 7.2;

/// The chart.
pub fn svg(title: &str, subtitle: &str, bars: &[Bar]) -> String {
    let columns = |s: &str| s.chars().map(|c| if c.is_ascii() { 1.0 } else { 2.0 }).sum::<f64>();
    let left = 16.0 + CHARACTER * bars.iter().map(|b| columns(&b.name)).fold(8.0, f64::max);
    let (width, height) = (left + PLOT + 72.0, TOP + ROW * bars.len() as f64 + 32.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"22\" font-size=\"15\">{}</text>\n\
         <text x=\"16\" y=\"40\" fill=\"#555555\">{}</text>\n",
        escaped(title),
        escaped(subtitle),
    );
    // Writing into a string cannot fail.
    let bottom = TOP + ROW * bars.len() as f64;
    for tick in 0..=4 {
        let x = left + PLOT * f64::from(tick) / 4.0;
        let percent = 25 * tick;
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#dddddd\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555555\">{percent} %</text>",
            bottom + 18.0
        );
    }
    for (i, bar) in bars.iter().enumerate() {
        let y = TOP + ROW * i as f64;
        let length = PLOT * bar.share.clamp(0.0, 1.0);
        let (from, to) = (bar.share - bar.deviation, bar.share + bar.deviation);
        let at = |share: f64| left + PLOT * share.clamp(0.0, 1.0);
        let colour = if bar.second { "#9db8d9" } else { "#2f6db3" };
        let middle = y + ROW / 2.0;
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
             <line x1=\"{:.1}\" y1=\"{middle:.1}\" x2=\"{:.1}\" y2=\"{middle:.1}\" stroke=\"#222222\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{:.1} %</text>",
            left - 8.0,
            middle + 4.0,
            escaped(&bar.name),
            y + 4.0,
            ROW - 8.0,
            at(from),
            at(to),
            at(to.max(bar.share)) + 6.0,
            middle + 4.0,
            100.0 * bar.share,
        );
    }
    out + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_shares_and_names_cannot_break_out() {
        let bar = |name: &str, share| Bar { name: name.into(), share, deviation: 0.1, second: false };
        let chart = svg("of <fitness>", "& more", &[bar("\"weight\".<a>", 0.5), bar("b", 2.0)]);
        assert!(chart.starts_with("<svg ") && chart.ends_with("</svg>\n"));
        assert!(chart.contains("of &lt;fitness&gt;") && chart.contains("&amp; more"), "{chart}");
        assert!(chart.contains("&quot;weight&quot;.&lt;a&gt;"), "{chart}");
        assert!(chart.contains("width=\"210.0\"") && chart.contains("width=\"420.0\""), "{chart}");
        assert!(!chart.contains("NaN"));
        // Every tag is closed: as many texts begin as end.
        assert_eq!(chart.matches("<text").count(), chart.matches("</text>").count());
        assert!(svg("t", "", &[]).contains("</svg>"));
    }
}
