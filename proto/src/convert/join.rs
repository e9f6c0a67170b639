//! What a node sends to come by its certificate.

use super::{Refused, name};
use crate::wire;

/// The longest request for a certificate, in bytes.
pub const MAX_CERTIFICATE_REQUEST: usize = 4096;

/// A node that shows a token.
pub struct Joining {
    /// The token's secret. Shown nowhere: this has no `Debug`.
    pub secret: [u8; 32],
    /// PKCS #10, DER.
    pub request: Vec<u8>,
    /// Name for the certificate.
    pub name: String,
}

impl TryFrom<wire::JoinRequest> for Joining {
    type Error = Refused;

    fn try_from(r: wire::JoinRequest) -> Result<Joining, Refused> {
        let secret = <[u8; 32]>::try_from(&*r.secret).map_err(|_| Refused::new("secret", "not 32 bytes"))?;
        Ok(Joining { secret, request: request(r.certificate_request)?, name: name("name", r.name)? })
    }
}

/// A node that asks for its next certificate.
pub struct Renewing {
    /// PKCS #10, DER.
    pub request: Vec<u8>,
}

impl TryFrom<wire::RenewRequest> for Renewing {
    type Error = Refused;

    fn try_from(r: wire::RenewRequest) -> Result<Renewing, Refused> {
        Ok(Renewing { request: request(r.certificate_request)? })
    }
}

fn request(der: Vec<u8>) -> Result<Vec<u8>, Refused> {
    match der.len() {
        0 => Err(Refused::new("certificate_request", "empty")),
        n if n > MAX_CERTIFICATE_REQUEST => Err(Refused::new(
            "certificate_request",
            format!("{n} bytes, more than {MAX_CERTIFICATE_REQUEST}"),
        )),
        _ => Ok(der),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_requests_and_names_of_other_lengths_are_refused_by_their_field() {
        let good =
            wire::JoinRequest { secret: vec![1; 32], certificate_request: vec![1], name: "gpu1".into() };
        assert!(Joining::try_from(good.clone()).is_ok());
        let field = |r: wire::JoinRequest| Joining::try_from(r).err().map(|e| e.field);
        for secret in [vec![], vec![1; 31], vec![1; 33]] {
            assert_eq!(field(wire::JoinRequest { secret, ..good.clone() }).as_deref(), Some("secret"));
        }
        for certificate_request in [vec![], vec![1; MAX_CERTIFICATE_REQUEST + 1]] {
            let bad = wire::JoinRequest { certificate_request, ..good.clone() };
            assert_eq!(field(bad).as_deref(), Some("certificate_request"));
        }
        let bad = wire::JoinRequest { name: "x".repeat(super::super::MAX_NAME_BYTES + 1), ..good };
        assert_eq!(field(bad).as_deref(), Some("name"));
    }
}
