//! `tokenizer_source`, `tokenizer` and what they say of single tokens.

use super::super::config::{TokenRow, TokenSetting, Tokenizer, TokenizerSource};
use super::super::yaml::{Node, Value};
use super::{Reader, Section};

impl Reader {
    pub(super) fn tokenizer(&self, s: &Section<'_>) -> Option<Tokenizer> {
        let source = |node: &Node, path: &str| match &node.value {
            Value::Text(t) if t == "union" => Some(TokenizerSource::Union),
            Value::Text(t) if t == "base" => Some(TokenizerSource::Base),
            _ => self.model(node, path).map(TokenizerSource::Model),
        };
        let plain = s.get("tokenizer_source");
        let Some(node) = s.get("tokenizer") else {
            let source = source(plain?, "tokenizer_source")?;
            return Some(Tokenizer { source, tokens: vec![], pad_to_multiple_of: None });
        };
        if plain.is_some() {
            let remedy = "keep one of them: tokenizer: {source: …} says all that tokenizer_source says";
            self.fault(node.line, "tokenizer", "given beside tokenizer_source", remedy);
        }
        let s = self.section("tokenizer", node, "write tokenizer: {source: union}")?;
        let source = match s.get("source") {
            Some(node) => source(node, "tokenizer.source")?,
            None => TokenizerSource::Union,
        };
        let pad_to_multiple_of = s.get("pad_to_multiple_of").and_then(|n| match n.value {
            Value::Int(0) => None,
            Value::Int(i @ 1..=1_048_576) => Some(i as usize),
            _ => {
                let remedy = "give a whole number from 1 to 1048576";
                self.fault(n.line, "tokenizer.pad_to_multiple_of", "not such a number", remedy);
                None
            }
        });
        let mut tokens = Vec::new();
        if let Some(node) = s.get("tokens")
            && let Some(section) =
                self.section("tokenizer.tokens", node, "write tokens: {<token>: {source: …}}")
        {
            for (token, node) in section.entries {
                let path = format!("tokenizer.tokens.{token}");
                if let Some(setting) = self.token(&path, node) {
                    tokens.push((token.clone(), setting));
                }
            }
        }
        s.note_others(&["source", "tokens", "pad_to_multiple_of"]);
        Some(Tokenizer { source, tokens, pad_to_multiple_of })
    }

    fn token(&self, path: &str, node: &Node) -> Option<TokenSetting> {
        let s = self.section(path, node, "write {source: …, force: false}")?;
        let force = match s.get("force").map(|n| (n.line, &n.value)) {
            None => false,
            Some((_, Value::Bool(b))) => *b,
            Some((line, other)) => {
                let message = format!("expected true or false, found {}", other.kind());
                self.fault(line, &s.field("force"), message, "for example force: true");
                false
            }
        };
        let row = match s.get("source") {
            None => None,
            Some(node) => Some(self.token_row(&s.field("source"), node)?),
        };
        if force && row.is_none() {
            let remedy = "name a model, or {kind: zero}, or {kind: model_token, model: …, token: …}";
            self.fault(s.line, path, "force without a source", remedy);
        }
        s.note_others(&["source", "force"]);
        Some(TokenSetting { row, force })
    }

    fn token_row(&self, path: &str, node: &Node) -> Option<TokenRow> {
        let Value::Map(entries) = &node.value else {
            return self.model(node, path).map(TokenRow::Model);
        };
        let s = Section { reader: self, path: path.into(), line: node.line, entries };
        let kind = match s.get("kind").map(|n| &n.value) {
            Some(Value::Text(kind)) => kind.as_str(),
            None if s.get("model").is_some() => return self.model(node, path).map(TokenRow::Model),
            _ => "",
        };
        match kind {
            "zero" => {
                s.note_others(&["kind"]);
                Some(TokenRow::Zero)
            }
            "model_token" => {
                let model = s.required_model("model")?;
                s.note_others(&["kind", "model", "token", "token_id"]);
                match (s.get("token").map(|n| &n.value), s.get("token_id").map(|n| &n.value)) {
                    (Some(Value::Text(token)), None) => Some(TokenRow::Token(model, token.clone())),
                    (None, Some(Value::Int(row))) if *row >= 0 => Some(TokenRow::Row(model, *row as usize)),
                    _ => {
                        let remedy = "give either token: <text> or token_id: <number>";
                        self.fault(s.line, path, "not one token of the model", remedy);
                        None
                    }
                }
            }
            _ => {
                let remedy = "write a model's name, {kind: zero} or {kind: model_token, model: …, token: …}";
                self.fault(s.line, path, "no known kind of source", remedy);
                None
            }
        }
    }
}
