//! Who a certificate stands for: a role and a name, written in it as one URI, `jradievo://ROLE/NAME`.
//!
//! A URI and not the subject, so that certificates of an authority that a hospital has already can carry it beside
//! whatever else stands in them. The extended key usages part servers from clients a second time.

use crate::error::{Error, Result};
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::time::{Duration, SystemTime};
use x509_parser::extensions::GeneralName;

const SCHEME: &str = "jradievo://";
/// The longest name in a certificate, in bytes.
pub const MAX_NAME: usize = 64;

/// What a certificate lets its holder do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Serves runs.
    Coordinator,
    /// Takes work and hands in results.
    Worker,
    /// Looks at runs and changes them.
    Operator,
}

impl Role {
    /// As it stands in certificates and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Coordinator => "coordinator",
            Role::Worker => "worker",
            Role::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Role> {
        let all = [Role::Coordinator, Role::Worker, Role::Operator];
        all.into_iter().find(|r| r.as_str() == text).ok_or(Error::NoRole)
    }
}

/// Whether a name can stand in a certificate.
///
/// # Errors
/// [`Error::Name`].
pub fn checked_name(name: &str) -> Result<&str> {
    let fits = (1..=MAX_NAME).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if fits { Ok(name) } else { Err(Error::Name { name: name.chars().take(MAX_NAME).collect() }) }
}

/// A name made to fit: what cannot stand in a certificate becomes a dash.
pub fn fitted_name(name: &str) -> String {
    let fitted: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(MAX_NAME)
        .collect();
    if fitted.is_empty() { "worker".into() } else { fitted }
}

/// Names and addresses for a coordinator's certificate: those given, and this machine's own.
pub fn trusted_hosts(given: &[String]) -> Vec<String> {
    let own = ["localhost", "127.0.0.1", "::1"].map(String::from);
    let mut hosts: Vec<String> = Vec::new();
    for host in given.iter().chain(&own) {
        if !hosts.contains(host) {
            hosts.push(host.clone());
        }
    }
    hosts
}

/// Who holds a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What it may do.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// The certificate's serial number, big-endian, without leading zeros.
    pub serial: Vec<u8>,
    /// From when on the certificate holds.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
}

impl Identity {
    /// Reads a certificate. Says nothing of whether it is to be believed: a handshake does.
    ///
    /// # Errors
    /// [`Error::Certificate`], [`Error::NoRole`], [`Error::Name`].
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Identity> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|e| Error::Certificate(e.to_string()))?;
        let names = parsed.subject_alternative_name().map_err(|e| Error::Certificate(e.to_string()))?;
        let names = names.map_or(&[][..], |n| &n.value.general_names);
        let mut ours = names.iter().filter_map(|n| match n {
            GeneralName::URI(uri) => uri.strip_prefix(SCHEME),
            _ => None,
        });
        // Two roles in one certificate would make whoever reads the other one believe more than was meant.
        let (Some(uri), None) = (ours.next(), ours.next()) else { return Err(Error::NoRole) };
        let (role, name) = uri.split_once('/').ok_or(Error::NoRole)?;
        let at = |t: x509_parser::time::ASN1Time| {
            let seconds = Duration::from_secs(u64::try_from(t.timestamp()).unwrap_or(0));
            SystemTime::UNIX_EPOCH + seconds
        };
        Ok(Identity {
            role: role.parse()?,
            name: checked_name(name)?.to_string(),
            serial: trimmed(parsed.raw_serial()),
            not_before: at(parsed.validity().not_before),
            not_after: at(parsed.validity().not_after),
        })
    }

    /// The serial number in hexadecimal digits.
    pub fn serial_text(&self) -> String {
        crate::hex(&self.serial)
    }

    /// Whether a worker of this certificate may call itself `name`: the certificate's own name, or that and `/` and
    /// whatever tells apart several workers of one node.
    pub fn covers(&self, name: &str) -> bool {
        name.strip_prefix(self.name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// The URI for a role and a name.
pub(crate) fn uri(role: Role, name: &str) -> Result<String> {
    Ok(format!("{SCHEME}{role}/{}", checked_name(name)?))
}

/// A number without its leading zeros.
pub(crate) fn trimmed(serial: &[u8]) -> Vec<u8> {
    serial.iter().copied().skip_while(|b| *b == 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_read_as_something_else_are_refused() {
        for good in ["gpu1", "node-7.ward_3", "a", &"x".repeat(64)] {
            checked_name(good).unwrap();
        }
        for bad in ["", "-rf", ".hidden", "a/b", "a b", "ä", "..", "a\n", &"x".repeat(65)] {
            assert!(checked_name(bad).is_err(), "{bad:?}");
        }
        assert_eq!(fitted_name("GPU node 1"), "GPU-node-1");
        assert_eq!(fitted_name("--"), "worker");
        checked_name(&fitted_name("../../etc/passwd")).unwrap();
    }

    #[test]
    fn a_node_may_tell_its_workers_apart_and_nobody_elses() {
        let identity = Identity {
            role: Role::Worker,
            name: "gpu1".into(),
            serial: vec![1],
            not_before: SystemTime::UNIX_EPOCH,
            not_after: SystemTime::UNIX_EPOCH,
        };
        for (name, covered) in
            [("gpu1", true), ("gpu1/cuda:0", true), ("gpu11", false), ("gpu", false), ("", false)]
        {
            assert_eq!(identity.covers(name), covered, "{name:?}");
        }
    }
}
