//! How a hub is reached and where its files are kept.

use crate::error::{Error, Result};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The public hub.
const ENDPOINT: &str = "https://huggingface.co";

/// A secret that the hub knows an account by. Shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes a token that fits into a header.
    ///
    /// # Errors
    /// [`Error::Settings`] naming `variable`; the text itself is not repeated.
    pub fn new(text: &str, variable: &str) -> Result<Token> {
        let text = text.trim();
        if text.is_empty() || text.len() > 4096 || !text.bytes().all(|b| b.is_ascii_graphic()) {
            let fault = "does not hold a token (one word of visible ASCII characters)".into();
            return Err(Error::Settings { variable: variable.into(), fault });
        }
        Ok(Token(text.into()))
    }

    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// How a hub is reached and where its files are kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address of the hub or of a mirror, without a slash at its end.
    pub endpoint: String,
    /// Folder of the cache, in the layout that `huggingface_hub` shares.
    pub cache: PathBuf,
    /// Sent to the endpoint, and to no other host.
    pub token: Option<Token>,
    /// Use the cache alone.
    pub offline: bool,
    /// Whether `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` are followed.
    pub proxy: bool,
    /// PEM file of certificates that are trusted in place of the built-in ones.
    pub certificates: Option<PathBuf>,
    /// Attempts that may fail one after another without a byte arriving.
    pub attempts: u32,
    /// Pause before the second attempt; it doubles with every further one.
    pub pause: Duration,
    /// Longest wait for a connection when a listing is asked for: it is small, often not needed, and a node without
    /// network may answer nothing at all.
    pub patience: Duration,
    /// Longest silence of a connection.
    pub silence: Duration,
}

impl Settings {
    /// The public hub with a cache of one's own: no token, no proxy.
    pub fn new(cache: PathBuf) -> Settings {
        Settings {
            endpoint: ENDPOINT.into(),
            cache,
            token: None,
            offline: false,
            proxy: false,
            certificates: None,
            attempts: 6,
            pause: Duration::from_secs(1),
            patience: Duration::from_secs(5),
            silence: Duration::from_secs(60),
        }
    }

    /// What the process's environment says, by the variables that `huggingface_hub` reads: `HF_ENDPOINT`, `HF_HOME`,
    /// `HF_HUB_CACHE`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_OFFLINE`; `XDG_CACHE_HOME`; `SSL_CERT_FILE`; and those
    /// of proxies.
    ///
    /// # Errors
    /// [`Error::Settings`] naming the variable that cannot be used.
    pub fn from_env() -> Result<Settings> {
        let settings = Settings::read(&|name| std::env::var(name).ok().filter(|v| !v.trim().is_empty()))?;
        Ok(Settings { proxy: true, ..settings })
    }

    /// As [`Settings::from_env`], with the variables given. A variable that is set to nothing counts as not set.
    ///
    /// # Errors
    /// As [`Settings::from_env`].
    pub fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Settings> {
        let first = |names: &[&'static str]| names.iter().find_map(|n| Some((*n, variable(n)?)));
        let home = match variable("HF_HOME").or_else(|| Some(variable("XDG_CACHE_HOME")? + "/huggingface")) {
            Some(home) => Some(PathBuf::from(home)),
            None => variable("HOME").map(|h| PathBuf::from(h).join(".cache/huggingface")),
        };
        let cache = match (first(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]), &home) {
            (Some((_, cache)), _) => PathBuf::from(cache),
            (None, Some(home)) => home.join("hub"),
            (None, None) => {
                let fault =
                    "not set, nor HF_HOME nor HOME: set it to the folder that models are kept in".into();
                return Err(Error::Settings { variable: "HF_HUB_CACHE".into(), fault });
            }
        };
        let cache = std::path::absolute(&cache).map_err(Error::io("use the cache folder", &cache))?;
        let token = match first(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]) {
            Some((name, text)) => Some(Token::new(&text, name)?),
            None => token_file(variable("HF_TOKEN_PATH").map(PathBuf::from), home.map(|h| h.join("token")))?,
        };
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        let truthy = |name: &str| {
            variable(name)
                .is_some_and(|v| ["1", "ON", "YES", "TRUE"].contains(&v.trim().to_uppercase().as_str()))
        };
        Ok(Settings {
            endpoint: checked_endpoint(&endpoint)?,
            token: token.filter(|_| !truthy("HF_HUB_DISABLE_IMPLICIT_TOKEN")),
            offline: truthy("HF_HUB_OFFLINE") || truthy("TRANSFORMERS_OFFLINE"),
            certificates: variable("SSL_CERT_FILE").map(PathBuf::from),
            ..Settings::new(cache)
        })
    }
}

/// The token that logging in left. A file that was named must be there; the usual one need not.
fn token_file(named: Option<PathBuf>, usual: Option<PathBuf>) -> Result<Option<Token>> {
    let must = named.is_some();
    let Some(path) = named.or(usual) else { return Ok(None) };
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => Token::new(&text, &path.display().to_string()).map(Some),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !must => Ok(None),
        Err(e) => Err(Error::io("read the token in", &path)(e)),
    }
}

fn checked_endpoint(text: &str) -> Result<String> {
    let refuse = |fault: &str| Error::Settings { variable: "HF_ENDPOINT".into(), fault: fault.into() };
    let text = text.trim().trim_end_matches('/');
    let uri: ureq::http::Uri =
        text.parse().map_err(|_| refuse("not an address such as https://mirror.example"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => {}
        _ => return Err(refuse("not an address such as https://mirror.example")),
    }
    if uri.authority().is_some_and(|a| a.as_str().contains('@')) || uri.query().is_some() {
        return Err(refuse("holds a user name or a query; give the plain address and set HF_TOKEN"));
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(variables: &[(&str, &str)]) -> Result<Settings> {
        let found = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string());
        Settings::read(&found)
    }

    #[test]
    fn folders_follow_the_variables_in_their_order() {
        let cache = |v: &[(&str, &str)]| read(v).unwrap().cache;
        assert_eq!(cache(&[("HOME", "/h")]), Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[("HF_HOME", "/f"), ("XDG_CACHE_HOME", "/x")]), Path::new("/f/hub"));
        assert_eq!(cache(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert!(read(&[]).unwrap_err().to_string().contains("HF_HUB_CACHE"));
    }

    #[test]
    fn the_token_comes_from_its_variable_or_its_file_and_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().display().to_string();
        let with = |more: &[(&str, &str)]| read(&[&[("HF_HOME", home.as_str())], more].concat());
        assert_eq!(with(&[]).unwrap().token, None);
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(with(&[]).unwrap().token.unwrap().header(), "Bearer hf_file");
        let settings = with(&[("HF_TOKEN", "hf_variable")]).unwrap();
        assert!(!format!("{settings:?}").contains("hf_variable"));
        assert_eq!(settings.token.unwrap().header(), "Bearer hf_variable");
        assert_eq!(with(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).unwrap().token, None);
        let e = with(&[("HF_TOKEN", "hf_a\r\nX: y")]).unwrap_err().to_string();
        assert!(e.starts_with("HF_TOKEN") && !e.contains("hf_a"), "{e}");
        assert!(with(&[("HF_TOKEN_PATH", "/nowhere/token")]).is_err());
    }

    #[test]
    fn an_endpoint_must_be_an_address() {
        let endpoint = |text: &str| read(&[("HOME", "/h"), ("HF_ENDPOINT", text)]).map(|s| s.endpoint);
        assert_eq!(endpoint("https://mirror.example/").unwrap(), "https://mirror.example");
        assert_eq!(endpoint("http://10.0.0.1:8080/hf").unwrap(), "http://10.0.0.1:8080/hf");
        for bad in ["mirror.example", "ftp://x", "https://", "https://u:p@x", "https://x/?a=b", "https://a b"]
        {
            assert!(endpoint(bad).unwrap_err().to_string().starts_with("HF_ENDPOINT"), "{bad}");
        }
    }

    #[test]
    fn offline_is_said_in_several_ways() {
        for (value, expected) in [("1", true), ("true", true), ("ON", true), ("0", false), ("no", false)] {
            assert_eq!(
                read(&[("HOME", "/h"), ("HF_HUB_OFFLINE", value)]).unwrap().offline,
                expected,
                "{value}"
            );
        }
    }
}
