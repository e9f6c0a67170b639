//! What programs and hosts answer that are not this project's: a metric's or evaluator's line, a hub's description.

use std::collections::BTreeMap;

/// Lines of a command, and the same bytes as a hub's answers. Scores that were accepted are finite and the ones that were
/// asked for; files that a hub names and that would be fetched lie in one folder.
pub fn answers(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        for line in text.lines().take(16) {
            for names in [&["score".to_string()][..], &["a".to_string(), "b".to_string()]] {
                let asked = |scores: &BTreeMap<String, f64>| {
                    scores.len() == names.len() && scores.values().all(|v| v.is_finite())
                };
                match external::read_answer(line, names) {
                    Ok(scores) => assert!(scores.iter().all(asked)),
                    Err(trouble) => drop(trouble.to_string()),
                }
            }
        }
    }
    match hub::wanted_files(bytes) {
        Ok(names) => assert!(names.iter().all(|n| !n.is_empty() && !n.contains(['/', '\\']) && n != "..")),
        Err(e) => drop(e.to_string()),
    }
}
