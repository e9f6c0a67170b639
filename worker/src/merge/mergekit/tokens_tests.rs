//! Numbers of united vocabularies, and the time that uniting takes.

use super::*;

fn vocabulary(name: &str, own: usize, added: usize) -> (tempfile::TempDir, Vocabulary) {
    let folder = tempfile::tempdir().unwrap();
    let vocab: Map<String, Value> = (0..own).map(|n| (format!("{name}{n}"), json!(n))).collect();
    let entries: Vec<Value> =
        (own..own + added).map(|n| json!({"id": n, "content": format!("<{name}{n}>")})).collect();
    let text = json!({"model": {"type": "BPE", "vocab": vocab, "merges": []}, "added_tokens": entries});
    std::fs::write(folder.path().join("tokenizer.json"), text.to_string()).unwrap();
    let read = Vocabulary::read(folder.path()).unwrap();
    (folder, read)
}

fn united(parts: &[Vocabulary]) -> (Vocabulary, usize) {
    let sizes: Vec<usize> = parts.iter().map(|v| v.tokens.len()).collect();
    let (mut out, mut additions) = (parts[0].clone(), Vec::new());
    let (own, added) = union(parts, &sizes);
    own.iter().for_each(|token| out.add(token, None, &mut additions));
    added.iter().for_each(|(token, entry)| out.add(token, Some(entry), &mut additions));
    (out, additions.len())
}

#[test]
fn numbers_go_on_behind_the_last_added_token() {
    let ((_a, a), (_b, b)) = (vocabulary("a", 3, 2), vocabulary("b", 2, 1));
    let (out, additions) = united(&[a, b]);
    let number = |token: &str| out.numbers.get(token).copied();
    assert_eq!(["a0", "<a4>", "b0", "b1", "<b2>"].map(number), [0, 4, 5, 6, 7].map(Some));
    assert_eq!((additions, out.next, out.tokens.len()), (3, 8, 8));
    let mut cut = out.clone();
    cut.drop_from(4);
    cut.add("new", None, &mut Vec::new());
    assert_eq!((cut.numbers.get("new"), cut.tokens.len()), (Some(&4), 5));
}

/// Two vocabularies as large as Llama 3's with nothing in common. Looking every token up in a list takes more than
/// 10¹⁰ comparisons, which no machine does in this time; with a map it is about a second (`--nocapture` shows it).
#[test]
fn large_vocabularies_are_united_in_moments() {
    let ((_a, a), (_b, b)) = (vocabulary("a", 128_000, 256), vocabulary("b", 128_000, 256));
    let began = std::time::Instant::now();
    let (out, additions) = united(&[a, b]);
    println!("256,512 tokens united in {:.2} s", began.elapsed().as_secs_f64());
    assert_eq!((out.tokens.len(), additions), (256_512, 128_256));
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
}
