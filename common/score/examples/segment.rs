//! Prints how texts are cut: reads JSON strings, one a line, and prints for each the JSON pair of MeCab's lines
//! with UniDic-lite and with IPADIC. Used by `scripts/golden/metrics/compare_segmentation.py`.

#![forbid(unsafe_code)]

use std::io::{BufRead, Write};

use score::tokenize::Tokenizer;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (unidic, ipadic) = (Tokenizer::unidic_lite(), Tokenizer::ipadic());
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let text: String = serde_json::from_str(&line?)?;
        writeln!(out, "{}", serde_json::to_string(&[unidic.wakati(&text), ipadic.wakati(&text)])?)?;
    }
    Ok(())
}
