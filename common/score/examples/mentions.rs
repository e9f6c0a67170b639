//! Prints what the matcher reads in each line of standard input, with the words that decided.

#![forbid(unsafe_code)]

use std::io::BufRead;
use std::sync::Arc;

use score::term::{Lexicon, LexiconChoice, Matcher};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let matcher = Matcher::new(Arc::new(Lexicon::load(&LexiconChoice::Default)?), true);
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        println!("{line}");
        for m in matcher.mentions(&line) {
            let cue = m.cue.map_or_else(|| "bare".into(), |cue| format!("「{}」", cue.text));
            println!(
                "    {} {:?} {:?} {:?}, 「{}」 by {cue}",
                m.finding, m.assertion, m.side, m.zones, m.text
            );
        }
    }
    Ok(())
}
