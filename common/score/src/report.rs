//! The wanted part of a Japanese report: what stands under 所見, say, and not the rest.

use serde::{Deserialize, Serialize};

/// Which part of a report to take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The text as it is.
    #[default]
    Whole,
    /// What was seen: 所見, Findings.
    Findings,
    /// What is concluded: 印象, 診断, 結論, Impression.
    Impression,
}

/// What to do with a report that has no heading for the wanted part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingPart {
    /// Take the whole text.
    #[default]
    Whole,
    /// Take nothing; the caller then treats the reference as empty.
    Empty,
}

const FINDINGS: &[&str] =
    &["所見", "画像所見", "読影所見", "検査所見", "胸部x線所見", "胸部単純x線所見", "findings", "finding"];
const IMPRESSION: &[&str] = &[
    "印象",
    "診断",
    "結論",
    "画像診断",
    "読影診断",
    "総合診断",
    "まとめ",
    "評価",
    "インプレッション",
    "impression",
    "impressions",
    "conclusion",
    "assessment",
];
const OTHER: &[&str] = &[
    "検査",
    "検査目的",
    "検査部位",
    "依頼目的",
    "目的",
    "臨床情報",
    "臨床診断",
    "臨床経過",
    "現病歴",
    "病歴",
    "比較",
    "比較画像",
    "撮影",
    "撮影条件",
    "方法",
    "コメント",
    "備考",
    "推奨",
    "方針",
    "読影医",
    "技法",
    "indication",
    "history",
    "clinical history",
    "comparison",
    "technique",
    "recommendation",
    "recommendations",
    "comment",
    "examination",
];
const OPENING: &[char] =
    &['【', '＜', '<', '［', '[', '〈', '《', '≪', '■', '◆', '●', '□', '◇', '○', '#', '＃', '*', '(', '（'];
const CLOSING: &[char] = &['】', '＞', '>', '］', ']', '〉', '》', '≫', ')', '）', '*'];

/// The wanted part without its heading, trimmed.
///
/// A heading is a known name at the start of a line, in brackets (【所見】, ＜所見＞), before a colon (所見:) or
/// alone on its line; and anywhere in a line when in brackets 【】. A part ends where the next heading, of any
/// kind, begins. Several parts of the wanted kind are joined by a line feed.
pub fn extract(report: &str, part: Part, missing: MissingPart) -> String {
    if part == Part::Whole {
        return report.trim().to_string();
    }
    let mut wanted: Option<String> = None;
    let mut inside = false;
    for line in lines(report) {
        let (heading, rest) = match heading(line) {
            Some((kind, rest)) => (Some(kind), rest),
            None => (None, line),
        };
        if let Some(kind) = heading {
            inside = kind == Some(part);
            if inside {
                wanted.get_or_insert_default();
            }
        }
        if let (true, Some(text)) = (inside, wanted.as_mut()) {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(rest.trim_end());
        }
    }
    match (wanted, missing) {
        (Some(text), _) => text.trim().to_string(),
        (None, MissingPart::Whole) => report.trim().to_string(),
        (None, MissingPart::Empty) => String::new(),
    }
}

/// The lines of a report; a bracket 【 also begins one, since reports are often stored without line feeds.
fn lines(report: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    for mut line in report.split(['\n', '\r']) {
        while let Some(at) = line.char_indices().skip(1).find(|&(_, c)| c == '【').map(|(at, _)| at) {
            lines.push(&line[..at]);
            line = &line[at..];
        }
        lines.push(line);
    }
    lines
}

/// The kind of heading that a line begins with (`None` inside for one that is neither part) and what follows.
fn heading(line: &str) -> Option<(Option<Part>, &str)> {
    let body = line.trim_start();
    let opened = body.trim_start_matches(|c| OPENING.contains(&c) || c == ' ' || c == '\u{3000}');
    let bracketed = opened.len() < body.len();
    // 【…】 is a heading whatever it names: reports use it for nothing else.
    if body.starts_with('【')
        && let Some((name, rest)) = opened.split_once('】')
    {
        return Some((kind_of(name).flatten(), rest.trim_start_matches([':', '：', ' ', '\u{3000}'])));
    }
    let end = opened
        .char_indices()
        .find(|&(_, c)| CLOSING.contains(&c) || c == ':' || c == '：')
        .map_or(opened.len(), |(at, _)| at);
    let kind = kind_of(&opened[..end])?;
    let tail = &opened[end..];
    let rest =
        tail.trim_start_matches(|c| CLOSING.contains(&c)).trim_start_matches([':', '：', ' ', '\u{3000}']);
    // A bare name must be alone on its line or before a colon: 「所見なし」 is a sentence.
    let marked = tail.starts_with([':', '：']) || tail.is_empty() || (bracketed && tail.starts_with(CLOSING));
    marked.then_some((kind, rest))
}

fn kind_of(name: &str) -> Option<Option<Part>> {
    let name: String = name.chars().filter(|c| !c.is_whitespace()).map(fold).collect();
    let is = |list: &[&str]| list.iter().any(|known| known.chars().filter(|c| *c != ' ').eq(name.chars()));
    if is(FINDINGS) {
        Some(Some(Part::Findings))
    } else if is(IMPRESSION) {
        Some(Some(Part::Impression))
    } else {
        is(OTHER).then_some(None)
    }
}

/// Lower case, full-width ASCII to half-width.
fn fold(c: char) -> char {
    let narrow = match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        _ => c,
    };
    narrow.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(report: &str) -> String {
        extract(report, Part::Findings, MissingPart::Empty)
    }

    #[test]
    fn headings_in_all_their_forms() {
        for report in [
            "所見: 胸水なし。\n印象: 異常なし",
            "所見：胸水なし。\n診断：異常なし",
            "【所見】胸水なし。【印象】異常なし",
            "【所見】\n胸水なし。\n\n【診断】\n異常なし",
            "＜所見＞\n胸水なし。\n＜結論＞異常なし",
            "<所見> 胸水なし。\n<印象> 異常なし",
            "所見\n胸水なし。\n印象\n異常なし",
            "■所見\r\n胸水なし。\r\n■印象\r\n異常なし",
            "検査目的：咳嗽\n所見:胸水なし。\n印象:異常なし",
            "Findings: 胸水なし。\nIMPRESSION: 異常なし",
            "【 所 見 】胸水なし。【依頼科】内科",
        ] {
            assert_eq!(findings(report), "胸水なし。", "{report:?}");
        }
    }

    #[test]
    fn a_sentence_is_no_heading() {
        let report = "所見: 胸水なし。\n診断的意義のある所見なし。\n所見なし\n印象: 異常なし";
        assert_eq!(findings(report), "胸水なし。\n診断的意義のある所見なし。\n所見なし");
    }

    #[test]
    fn impression_and_missing_parts() {
        let report = "所見：胸水なし。\n印象：異常なし。\n追記";
        assert_eq!(extract(report, Part::Impression, MissingPart::Empty), "異常なし。\n追記");
        assert_eq!(extract(" 胸水なし ", Part::Findings, MissingPart::Whole), "胸水なし");
        assert_eq!(findings("胸水なし"), "");
        assert_eq!(findings("所見:\n印象: 異常なし"), "");
        assert_eq!(extract(" a\n", Part::Whole, MissingPart::Empty), "a");
    }
}
