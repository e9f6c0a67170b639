//! Nodes that come with a token, and certificates that are renewed. The authority decides; this is its door.

use super::Peer;
use proto::convert::{Joining, Renewing};
use proto::status::Class;
use proto::wire;
use proto::wire::join_server::Join;
use secure::authority::{Authority, pem};
use secure::server::Server;
use secure::{Error, Identity};
use std::sync::Arc;
use std::time::SystemTime;
use tonic::{Request, Response, Status};
use tracing::{error, info};

/// The service.
pub struct Door {
    server: Arc<Server>,
}

impl Door {
    /// In front of the server's authority, where it has one; without, nobody can join.
    pub fn new(server: Arc<Server>) -> Door {
        Door { server }
    }

    /// Lets the authority sign something, off the threads that serve others: it waits for disks.
    async fn signed(
        &self,
        sign: impl FnOnce(&Authority) -> secure::Result<Signed> + Send + 'static,
    ) -> Result<Response<wire::JoinReply>, Status> {
        let server = self.server.clone();
        let signing = tokio::task::spawn_blocking(move || {
            let authority = server.authority().ok_or_else(closed)?;
            let (certificate, identity) = sign(authority).map_err(class)?;
            let until = secure::unix(identity.not_after);
            info!(
                name = identity.name,
                serial = identity.serial_text(),
                until,
                "signed a worker's certificate"
            );
            let authority = pem(&[authority.certificate()]);
            Ok::<_, Class>(wire::JoinReply { certificate: pem(&[&certificate]), authority })
        });
        let reply = signing.await.map_err(|e| Class::Internal(e.to_string()))??;
        Ok(Response::new(reply))
    }
}

type Signed = (rustls::pki_types::CertificateDer<'static>, Identity);

fn closed() -> Class {
    Class::Denied(
        "this coordinator signs no certificates: its operator issues them (jradievo pki issue)".into(),
    )
}

fn class(e: Error) -> Class {
    match e {
        Error::Token(_) | Error::NameInUse { .. } | Error::TooYoung => Class::Denied(e.to_string()),
        Error::Name { .. } => Class::BadInput { field: "name".into(), message: e.to_string() },
        Error::Request(_) => Class::BadInput { field: "certificate_request".into(), message: e.to_string() },
        // Paths and the like are the operator's business.
        other => {
            error!("cannot sign a certificate: {other}");
            Class::Internal("the coordinator cannot sign: its log says why".into())
        }
    }
}

#[tonic::async_trait]
impl Join for Door {
    async fn join(&self, request: Request<wire::JoinRequest>) -> Result<Response<wire::JoinReply>, Status> {
        let joining = Joining::try_from(request.into_inner()).map_err(Class::from)?;
        let Joining { secret, request, name } = joining;
        self.signed(move |a| a.join(&secret, &request, &name, SystemTime::now())).await
    }

    async fn renew(&self, request: Request<wire::RenewRequest>) -> Result<Response<wire::JoinReply>, Status> {
        let holder = Peer::identity(request.extensions());
        let holder =
            holder.ok_or_else(|| Class::Denied("show the certificate that is to be renewed".into()))?;
        let Renewing { request } = Renewing::try_from(request.into_inner()).map_err(Class::from)?;
        self.signed(move |a| a.renew(&holder, &request, SystemTime::now())).await
    }
}
