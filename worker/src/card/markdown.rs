//! Text of unknown origin inside Markdown and YAML.

/// The longest text that is repeated, in characters.
const LONGEST: usize = 200;

/// Text as itself: no character of it is Markdown or HTML, and it stays on one line.
pub fn text(raw: &str) -> String {
    let mut out = String::new();
    for c in one_line(raw) {
        if c.is_ascii_punctuation() && !",.:;()/'\"-=%?".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Text as a code span that is safe within a table's cell too.
pub fn code(raw: &str) -> String {
    let inner: String = one_line(raw).map(|c| if "`|".contains(c) { '\'' } else { c }).collect();
    match inner.trim() {
        "" => "–".into(),
        inner => format!("`{inner}`"),
    }
}

/// Text as a YAML scalar: a JSON string is one.
pub fn yaml(raw: &str) -> String {
    serde_json::Value::from(one_line(raw).collect::<String>()).to_string()
}

fn one_line(raw: &str) -> impl Iterator<Item = char> {
    // Besides control characters, those that turn the direction of what follows.
    let hidden = |c: &char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    raw.chars().map(|c| if c.is_control() { ' ' } else { c }).filter(move |c| !hidden(c)).take(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out() {
        assert_eq!(
            text("a|b\n# <b>*x*</b> [y](z) `c`"),
            "a\\|b \\# \\<b\\>\\*x\\*\\</b\\> \\[y\\](z) \\`c\\`"
        );
        assert_eq!(code("a`|b\n"), "`a''b`");
        assert_eq!(code(" \n"), "–");
        assert_eq!(yaml("x\n---\n\"y\": [1]"), r#""x --- \"y\": [1]""#);
        assert_eq!(text("\u{202e}abc\u{200b}"), "abc");
        assert_eq!(text(&"x".repeat(500)).len(), LONGEST);
    }
}
