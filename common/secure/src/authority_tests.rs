//! Issuing, joining, renewing and revoking, without a network.

use super::*;
use crate::enrolment::{Enrolment, renew_at};
use crate::error::TokenFault;

const DAY: Duration = Duration::from_secs(86_400);

fn subject(role: Role, name: &str) -> Subject<'_> {
    Subject { role, name, hosts: &[], life: DAY }
}

#[test]
fn what_is_issued_says_who_it_is_and_nothing_is_overwritten_silently() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let authority = Authority::create(dir.path(), now).unwrap();
    assert!(Authority::create(dir.path(), now).err().unwrap().to_string().contains("already"));
    let out = dir.path().join("gpu1");
    let identity = authority.issue(&subject(Role::Worker, "gpu1"), &out, false, now).unwrap();
    assert_eq!((identity.role, identity.name.as_str()), (Role::Worker, "gpu1"));
    let e = authority.issue(&subject(Role::Worker, "gpu1"), &out, false, now).unwrap_err();
    assert!(e.to_string().contains("--replace"), "{e}");
    let other = authority.issue(&subject(Role::Worker, "gpu1"), &out, true, now).unwrap();
    assert_ne!(identity.serial, other.serial);
    assert!(authority.issue(&subject(Role::Worker, "../x"), &dir.path().join("x"), false, now).is_err());
    assert!(!dir.path().join("x").join("key.pem").exists());
    // Another process opens what this one made, and the key of another authority is not taken for its own.
    Authority::open(dir.path()).unwrap();
    let second = tempfile::tempdir().unwrap();
    Authority::create(second.path(), now).unwrap();
    std::fs::copy(second.path().join("ca-key.pem"), dir.path().join("ca-key.pem")).unwrap();
    assert!(Authority::open(dir.path()).err().unwrap().to_string().contains("is not the key of"));
}

#[test]
fn a_token_lets_one_node_in_and_what_it_asks_for_beyond_a_name_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let authority = Authority::create(dir.path(), now).unwrap();
    let token = authority.token(DAY, 1, DAY, None, now).unwrap();
    let key = KeyPair::generate().unwrap();
    // A request that wishes to be an operator and an authority.
    let mut wish = CertificateParams::default();
    wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    wish.subject_alt_names = vec![SanType::URI("jradievo://operator/eve".try_into().unwrap())];
    let request = wish.serialize_request(&key).unwrap().der().to_vec();
    let (certificate, identity) = authority.join(&token.secret, &request, "gpu1", now).unwrap();
    assert_eq!((identity.role, identity.name.as_str()), (Role::Worker, "gpu1"));
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
    assert!(!parsed.is_ca());
    let mut damaged = request.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(authority.join(&token.secret, &damaged, "gpu1", now), Err(Error::Request(_))));
    // Replayed by another key it fails, also by another process.
    let other = Enrolment::new(dir.path().join("other"));
    let _lock = other.lock().unwrap();
    let request = other.request().unwrap();
    let again = Authority::open(dir.path()).unwrap().join(&token.secret, &request, "gpu2", now);
    assert!(matches!(again, Err(Error::Token(TokenFault::Used))));
    // Nor does a fresh token give away another node's name, before that is revoked.
    let fresh = authority.token(DAY, 1, DAY, None, now).unwrap();
    let taken = authority.join(&fresh.secret, &request, "gpu1", now);
    assert!(matches!(taken, Err(Error::NameInUse { .. })));
    assert_eq!(authority.revoke("gpu1", now).unwrap().len(), 1);
    authority.join(&fresh.secret, &request, "gpu1", now).unwrap();
    assert!(dir.path().join("crl.pem").exists());
}

#[test]
fn a_certificate_is_renewed_for_the_same_name_and_time_but_not_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let authority = Authority::create(dir.path(), now).unwrap();
    let node = Enrolment::new(dir.path().join("node"));
    let _lock = node.lock().unwrap();
    let request = node.request().unwrap();
    for seconds in [86_400, 3_000, 2_999, 37, 20, 9, 3] {
        let life = Duration::from_secs(seconds);
        let token = authority.token(DAY, 1, life, Some("gpu1"), now).unwrap();
        let (_, first) = authority.join(&token.secret, &request, "gpu1", now).unwrap();
        assert!(matches!(authority.renew(&first, &request, now), Err(Error::TooYoung)));
        let later = renew_at(&first);
        let (_, second) = authority.renew(&first, &request, later).unwrap();
        assert_eq!((second.name.as_str(), second.role), ("gpu1", Role::Worker));
        let life_of = |i: &Identity| i.not_after.duration_since(i.not_before).unwrap();
        assert_eq!(life_of(&first), life_of(&second), "{seconds} s");
    }
}
