//! Join tokens: what lets a new worker node in once, for people who do not want to carry certificates about.
//!
//! A token is text, `jradievo-join.FINGERPRINT.SECRET`, both 64 hexadecimal digits: the SHA-256 of the authority's
//! certificate, by which the node knows the coordinator before it sends anything, and 256 random bits. The authority keeps
//! only the secret's SHA-256, with when it expires and how often it may be used; a plain hash is enough, since nobody
//! guesses 256 bits. A token in hand lets a node in as a worker, and nothing else.

use crate::error::{Error, Result, TokenFault};
use crate::files::{private_folder, read_secret, write_private};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const PREFIX: &str = "jradievo-join";
/// How long a token that is over is remembered, so that its holder is told why.
const REMEMBERED: Duration = Duration::from_secs(30 * 86_400);

/// A join token. Its secret shows only where it is printed on purpose.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// SHA-256 of the authority's certificate.
    pub authority: [u8; 32],
    /// What the authority is to be shown.
    pub secret: [u8; 32],
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token {{ authority: {}, secret: hidden }}", crate::hex(&self.authority))
    }
}

impl Token {
    /// The token as it is given to a node.
    pub fn text(&self) -> String {
        format!("{PREFIX}.{}.{}", crate::hex(&self.authority), crate::hex(&self.secret))
    }

    /// Reads the text of a token.
    ///
    /// # Errors
    /// [`TokenFault::Form`]. The text is not in it.
    pub fn parse(text: &str) -> Result<Token> {
        let form = || Error::Token(TokenFault::Form);
        let mut parts = text.trim().split('.');
        let (prefix, authority, secret) = (parts.next(), parts.next(), parts.next());
        if prefix != Some(PREFIX) || parts.next().is_some() {
            return Err(form());
        }
        let part = |text: Option<&str>| text.and_then(crate::unhex).ok_or_else(form);
        Ok(Token { authority: part(authority)?, secret: part(secret)? })
    }
}

/// What a token allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Seconds since 1970 at which it expires.
    pub expires: u64,
    /// How many nodes it still lets in.
    pub uses: u32,
    /// How long the certificates of these nodes hold, in seconds; they renew them.
    pub life: u64,
    /// The only name that it lets in, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// SHA-256 of the keys that it let in: a node whose answer was lost may ask again, with the same key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
}

/// The tokens of an authority, one file each, called by the secret's hash.
pub(crate) struct Tokens {
    folder: PathBuf,
}

impl Tokens {
    pub(crate) fn new(authority: &Path) -> Tokens {
        Tokens { folder: authority.join("tokens") }
    }

    fn path(&self, secret: &[u8; 32]) -> PathBuf {
        self.folder.join(format!("{}.json", crate::hex(&crate::sha256(secret))))
    }

    /// Keeps the terms of a new token, and forgets what has been over for long.
    pub(crate) fn keep(&self, secret: &[u8; 32], terms: &Terms, now: SystemTime) -> Result<()> {
        private_folder(&self.folder)?;
        let entries = std::fs::read_dir(&self.folder).map_err(Error::io("read", &self.folder))?;
        for path in entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "json"))
        {
            if read(&path).is_ok_and(|t| crate::unix(now) > t.expires + REMEMBERED.as_secs()) {
                std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        self.write(secret, terms)
    }

    fn write(&self, secret: &[u8; 32], terms: &Terms) -> Result<()> {
        let text = serde_json::to_vec(terms).expect("terms are plain values");
        write_private(&self.path(secret), &text)
    }

    /// What a token allows to a node with this key, before anything is used up.
    pub(crate) fn look(&self, secret: &[u8; 32], key: &str, name: &str, now: SystemTime) -> Result<Terms> {
        let path = self.path(secret);
        if !path.exists() {
            return Err(Error::Token(TokenFault::Unknown));
        }
        let terms = read(&path)?;
        let known = terms.keys.iter().any(|k| k == key);
        let fault = match () {
            () if crate::unix(now) >= terms.expires => Some(TokenFault::Expired),
            () if terms.uses == 0 && !known => Some(TokenFault::Used),
            () if terms.name.as_deref().is_some_and(|n| n != name) => Some(TokenFault::Name),
            () => None,
        };
        fault.map_or(Ok(terms), |f| Err(Error::Token(f)))
    }

    /// Uses a token once, durably, unless this key has used it before.
    pub(crate) fn take(&self, secret: &[u8; 32], mut terms: Terms, key: &str) -> Result<()> {
        if terms.keys.iter().any(|k| k == key) {
            return Ok(());
        }
        terms.uses = terms.uses.saturating_sub(1);
        terms.keys.push(key.into());
        self.write(secret, &terms)
    }
}

fn read(path: &Path) -> Result<Terms> {
    serde_json::from_slice(&read_secret(path)?).map_err(|e| Error::file(path, e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_printed_and_never_shown_otherwise() {
        let token = Token { authority: [0xab; 32], secret: [0x5c; 32] };
        assert_eq!(Token::parse(&format!(" {}\n", token.text())).unwrap(), token);
        assert!(!format!("{token:?}").contains("5c5c"));
        let text = token.text();
        let bad = [
            "",
            "x",
            &text[1..],
            &text[..text.len() - 1],
            &(text.clone() + ".0"),
            &text.replace("5c5c", "5é5"),
        ];
        for bad in bad {
            let e = Token::parse(bad).unwrap_err().to_string();
            assert!(e.contains("no join token") && !e.contains("5c5c"), "{e}");
        }
    }

    #[test]
    fn a_token_is_used_as_often_as_it_says_and_only_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::new(dir.path());
        let at = |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        let terms = Terms { expires: 100, uses: 1, life: 10, name: Some("gpu1".into()), keys: Vec::new() };
        tokens.keep(&[1; 32], &terms, at(50)).unwrap();
        let fault = |r: Result<Terms>| match r {
            Err(Error::Token(fault)) => fault,
            other => panic!("{other:?}"),
        };
        assert_eq!(fault(tokens.look(&[2; 32], "k", "gpu1", at(60))), TokenFault::Unknown);
        assert_eq!(fault(tokens.look(&[1; 32], "k", "gpu2", at(60))), TokenFault::Name);
        assert_eq!(fault(tokens.look(&[1; 32], "k", "gpu1", at(100))), TokenFault::Expired);
        let terms = tokens.look(&[1; 32], "k", "gpu1", at(60)).unwrap();
        tokens.take(&[1; 32], terms, "k").unwrap();
        // Another process finds it used; the node that used it may hear its answer again.
        let tokens = Tokens::new(dir.path());
        assert_eq!(fault(tokens.look(&[1; 32], "other", "gpu1", at(61))), TokenFault::Used);
        tokens.look(&[1; 32], "k", "gpu1", at(61)).unwrap();
        // Long after, it is forgotten when another is made.
        tokens.keep(&[3; 32], &Terms { expires: 9_000_000, ..terms_of(1) }, at(5_000_000)).unwrap();
        assert_eq!(fault(tokens.look(&[1; 32], "k", "gpu1", at(5_000_001))), TokenFault::Unknown);
        let secret = std::fs::read_dir(dir.path().join("tokens")).unwrap().flatten();
        assert!(secret.into_iter().all(|e| !e.file_name().to_string_lossy().contains(&crate::hex(&[3; 32]))));
    }

    fn terms_of(uses: u32) -> Terms {
        Terms { expires: 0, uses, life: 10, name: None, keys: Vec::new() }
    }
}
