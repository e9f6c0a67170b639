//! Plain tables for people.

use crate::figures::Figures;
use score::bootstrap::Interval;

/// Metrics that tables show, in this order; JSON has them all.
pub const SHOWN: [&str; 5] = ["fitness", "rouge_l", "bleu_4", "term_f1", "term_f1_finding"];

/// Prints rows under a head, columns as wide as their widest cell, numbers to the right.
pub fn print(head: &[&str], rows: &[Vec<String>]) {
    let width = |c: usize| {
        let cells = rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count());
        cells.chain(head.get(c).map(|h| h.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).enumerate().map(|(i, (cell, &w))| match i {
            0 => format!("{cell:<w$}"),
            _ => format!("{cell:>w$}"),
        });
        out!("{}", padded.collect::<Vec<_>>().join("  ").trim_end());
    };
    line(head.to_vec());
    out!("{}", "─".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1)));
    rows.iter().for_each(|r| line(r.iter().map(String::as_str).collect()));
}

/// `0.512 [0.480, 0.547]`
pub fn interval(i: &Interval) -> String {
    format!("{:.3} [{:.3}, {:.3}]", i.mean, i.low, i.high)
}

/// `+0.112 [+0.080, +0.147]`
pub fn difference(i: &Interval) -> String {
    format!("{:+.3} [{:+.3}, {:+.3}]", i.mean, i.low, i.high)
}

/// Prints every metric with its interval.
pub fn print_figures(figures: &Figures, n: usize) {
    let row = |(name, i): (&String, &Interval)| {
        vec![name.clone(), format!("{:.4}", i.mean), format!("[{:.4}, {:.4}]", i.low, i.high)]
    };
    print(&["metric", "mean", "95 % interval"], &figures.iter().map(row).collect::<Vec<_>>());
    out!("{n} samples");
}
