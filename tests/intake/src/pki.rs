//! Certificates, requests for them, and join tokens.

use crate::scratch::Scratch;
use secure::authority::Authority;
use secure::files::{Files, from_pem};
use secure::identity::{checked_name, fitted_name};
use secure::token::Token;
use secure::{Error, Identity, Role};
use std::time::{Duration, SystemTime};

thread_local! {
    static FOLDER: Scratch = Scratch::new();
    static AUTHORITY: (Scratch, Authority) = {
        let folder = Scratch::new();
        let authority = Authority::create(folder.path(), SystemTime::now()).expect("an authority");
        (folder, authority)
    };
}

/// The same bytes as each of them. Whose a certificate is said to be has a name that can stand in one, and a token is read
/// as it is printed.
pub fn pki(bytes: &[u8]) {
    for certificate in from_pem(bytes).into_iter().flatten().chain([bytes.to_vec().into()]) {
        match Identity::of(&certificate) {
            Ok(identity) => {
                assert_eq!(checked_name(&identity.name).ok(), Some(identity.name.as_str()));
                assert!(identity.covers(&identity.name));
                drop(identity.serial_text());
            }
            Err(e) => drop(e.to_string()),
        }
    }
    request(bytes);
    material(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let fitted = fitted_name(text);
    assert_eq!(checked_name(&fitted).ok(), Some(fitted.as_str()));
    if let Ok(token) = Token::parse(text) {
        assert_eq!(Token::parse(&token.text()).ok(), Some(token));
    }
}

/// A request for a renewal that comes too early: it is read, and nothing is signed.
fn request(bytes: &[u8]) {
    let now = SystemTime::now();
    let holder = Identity {
        role: Role::Worker,
        name: "node".into(),
        serial: vec![1],
        not_before: now,
        not_after: now + Duration::from_secs(86_400),
    };
    let answer = AUTHORITY.with(|(_, authority)| authority.renew(&holder, bytes, now));
    assert!(matches!(answer, Err(Error::Request(_) | Error::TooYoung)));
}

/// Authority, certificate, key and list of revoked ones in files.
fn material(bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    FOLDER.with(|folder| {
        let names = ["ca.pem", "cert.pem", "key.pem", "crl.pem"];
        let path = folder.fill(&names.map(|name| (name, bytes)));
        for name in names {
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(path.join(name), mode).expect("the harness's file");
        }
        drop(Files::in_folder(&path).read().map(|m| m.chain.len()).map_err(|e| e.to_string()));
    });
}
