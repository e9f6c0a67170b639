//! What commands say about the network: where a coordinator listens and to whom, and by which certificate another command
//! speaks to it.

use super::{Failure, tell};
use crate::guard::access::Access;
use crate::guard::gate::Limits;
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use secure::client::Trust;
use secure::files::Files;
use secure::server::Server;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Variable that names a folder of certificates for commands that speak to a coordinator.
const TLS_VARIABLE: &str = "JRADIEVO_TLS";

/// Where a coordinator listens, and to whom.
#[derive(Debug, Default, Args)]
pub(super) struct Listen {
    /// Address for workers and for looking commands; port 0 takes any free one
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Allow an address that other machines can reach without TLS: anybody there can then read reports and hand in results
    #[arg(long)]
    pub insecure_listen: bool,
    /// Speak TLS, and only with holders of certificates: folder with ca.pem, cert.pem and key.pem of this coordinator, and
    /// perhaps crl.pem. Read again when they change
    #[arg(long, value_name = "DIR", conflicts_with_all = ["pki", "insecure_listen"])]
    pub tls: Option<PathBuf>,
    /// The same with what `jradievo pki init` made; nodes may then also join with tokens
    #[arg(long, value_name = "DIR", conflicts_with = "insecure_listen")]
    pub pki: Option<PathBuf>,
    /// The most connections
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_connections: Option<u32>,
    /// The most connections from one address, handshakes included
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_connections_per_address: Option<u32>,
}

impl Listen {
    /// Reads certificates, where there are any.
    pub(super) fn access(&self) -> Result<Access, Failure> {
        let server = match (&self.tls, &self.pki) {
            (Some(folder), _) => Server::from_folder(folder),
            (None, Some(folder)) => Server::from_authority(folder),
            (None, None) => return Ok(Access::open()),
        };
        server.map(|s| Access::tls(Arc::new(s))).map_err(|e| Failure::Usage(e.to_string()))
    }

    /// The address to listen on. Without certificates that is this machine's alone, unless the operator insists.
    pub(super) fn checked(&self, default: SocketAddr) -> Result<SocketAddr, Failure> {
        let address = self.listen.unwrap_or(default);
        // What is resumed keeps its address, but not the consent to it.
        if address.ip().is_loopback() || self.tls.is_some() || self.pki.is_some() {
            return Ok(address);
        }
        if !self.insecure_listen {
            return Err(Failure::Usage(format!(
                "{address} can be reached from other machines, and the connection is neither encrypted nor \
                 authenticated: anybody there could read reports and hand in results. Make certificates (jradievo pki init \
                 DIR --host NAME) and add --pki DIR, or add --tls DIR with your own; or listen on 127.0.0.1 and let workers \
                 come through an SSH tunnel (ssh -L 7443:127.0.0.1:7443 HOST). On a network where everybody is trusted, \
                 --insecure-listen does without"
            )));
        }
        tell(&format!("warning: {address} is open to everybody who can reach it; nothing is encrypted"));
        Ok(address)
    }

    /// Limits on connections, no higher than the files that this process may open.
    pub(super) fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        let number = |n: Option<u32>, default| n.map_or(default, |n| n as usize);
        limits.connections = number(self.max_connections, limits.connections);
        limits.per_address = number(self.max_connections_per_address, limits.per_address);
        let wanted = limits.connections;
        let limits = limits.within(descriptors(limits.descriptors()));
        if limits.connections < wanted {
            let (may, ulimit) = (limits.connections, limits.descriptors() + wanted - limits.connections);
            let remedy = format!("ulimit -n {ulimit} allows {wanted}");
            tell(&format!(
                "note: at most {may} connections, by the number of files that may be open; {remedy}"
            ));
        }
        limits
    }

    /// Where the operator's own certificate lies, which commands on the state folder may use.
    pub(super) fn operator(&self) -> Option<PathBuf> {
        let folder = std::path::absolute(self.pki.as_ref()?.join("operator")).ok()?;
        folder.join("cert.pem").exists().then_some(folder)
    }
}

/// Raises the number of files that may be open as far as it may be and is wanted. Yields what it is then.
pub(crate) fn descriptors(wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let (wanted, now) = (wanted as u64, current.unwrap_or(u64::MAX));
    let most = wanted.min(maximum.unwrap_or(u64::MAX));
    let raised = most > now && setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum }).is_ok();
    usize::try_from(if raised { most } else { now }).unwrap_or(usize::MAX)
}

/// By which certificate a command speaks to a coordinator.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Credentials {
    /// Folder with ca.pem, cert.pem and key.pem of an operator, for a coordinator that speaks TLS [default: what JRADIEVO_TLS
    /// names; for a state folder also the operator's certificate of the coordinator's --pki]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["ca", "cert", "key"])]
    pub tls: Option<PathBuf>,
    /// The authority's certificate, in place of --tls
    #[arg(long, value_name = "FILE", requires_all = ["cert", "key"])]
    pub ca: Option<PathBuf>,
    /// The operator's certificate
    #[arg(long, value_name = "FILE", requires = "ca")]
    pub cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "ca")]
    pub key: Option<PathBuf>,
}

impl Credentials {
    /// Those of a folder.
    pub(super) fn of_folder(folder: Option<PathBuf>) -> Credentials {
        Credentials { tls: folder, ..Credentials::default() }
    }

    /// What is given, or else stands in the environment, or else is known of a state folder.
    pub(super) fn trust(&self, known: Option<PathBuf>) -> Result<Option<Trust>, String> {
        let variable = || std::env::var_os(TLS_VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from);
        let named =
            Files::named(self.tls.as_deref(), self.ca.as_deref(), self.cert.as_deref(), self.key.as_deref())?;
        let fallback = || variable().or(known).map(|folder| Files::in_folder(&folder));
        Ok(named.or_else(fallback).map(Trust::Files))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit;

    #[test]
    fn only_loopback_is_listened_on_without_certificates_unless_insisted() {
        let check = |address: &str, insecure_listen, pki: Option<&str>| {
            let (listen, pki) = (Some(address.parse().unwrap()), pki.map(PathBuf::from));
            let listen = Listen { listen, insecure_listen, pki, ..Listen::default() };
            listen.checked("127.0.0.1:1".parse().unwrap())
        };
        assert!(check("127.0.0.1:0", false, None).is_ok());
        assert!(check("[::1]:7443", false, None).is_ok());
        let e = check("0.0.0.0:7443", false, None).unwrap_err();
        for remedy in ["jradievo pki init", "--pki DIR", "--tls DIR", "SSH tunnel", "--insecure-listen"] {
            assert!(e.code() == exit::USAGE && e.to_string().contains(remedy), "{e}");
        }
        assert!(check("0.0.0.0:7443", true, None).is_ok());
        assert!(check("0.0.0.0:7443", false, Some("pki")).is_ok());
    }

    #[test]
    fn connections_are_fewer_where_files_are() {
        let limits = Limits::default();
        assert_eq!(limits.within(usize::MAX).connections, limits.connections);
        let few = limits.within(1024);
        assert!(few.connections < 700 && few.descriptors() <= 1024, "{few:?}");
        assert_eq!(limits.within(10).connections, 1);
    }
}
