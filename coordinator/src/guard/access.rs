//! Which role may call what. One table, asked before every call; what is not in it nobody may.

use super::{Peer, Standing};
use proto::status::Class;
use secure::Role;
use secure::server::Server;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;
use tonic::Status;
use tonic::body::Body;
use tower_layer::Layer;
use tower_service::Service;

/// Who may call something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    /// Whoever reaches the socket over TLS.
    Everybody,
    /// Whoever has a certificate for calling.
    Members,
    /// One role.
    Only(Role),
}

const CLUSTER: &str = "jradievo.cluster.v1.";

/// The table.
fn open_to(path: &str) -> Option<Open> {
    let path = path.strip_prefix('/')?;
    let Some(call) = path.strip_prefix(CLUSTER) else {
        let public = ["grpc.health.v1.Health/", "grpc.reflection.v1.ServerReflection/"];
        return public.iter().any(|p| path.starts_with(p)).then_some(Open::Members);
    };
    let (service, call) = call.split_once('/')?;
    Some(match (service, call) {
        ("Join", "Join") => Open::Everybody,
        ("Join", "Renew") => Open::Only(Role::Worker),
        // A plan says which files to bring and how reports are scored; both sides need it.
        ("Cluster", "Describe") => Open::Members,
        ("Cluster", _) => Open::Only(Role::Worker),
        ("Inspect" | "Operate", _) => Open::Only(Role::Operator),
        _ => return None,
    })
}

/// Whether a peer may make a call, and if not, why.
fn check(peer: Option<&Peer>, server: &Server, path: &str) -> Result<(), Class> {
    let denied = |why: String| Err(Class::Denied(why));
    let Some(open) = open_to(path) else { return denied(format!("nobody may call {path}")) };
    let identity = match peer.map(|p| &p.standing) {
        Some(Standing::Known(identity)) => identity,
        Some(Standing::Stranger) if open == Open::Everybody => return Ok(()),
        _ => return denied("show a certificate, or join with a token first".into()),
    };
    if server.recent().is_revoked(identity) {
        return denied(format!("the certificate of {} was revoked", identity.name));
    }
    if identity.not_after <= SystemTime::now() {
        return denied(format!("the certificate of {} has expired", identity.name));
    }
    let role = identity.role;
    match open {
        Open::Everybody => Ok(()),
        Open::Members if role != Role::Coordinator => Ok(()),
        Open::Only(needed) if role == needed => Ok(()),
        Open::Only(needed) => {
            let call = path.rsplit('/').next().unwrap_or_default();
            denied(format!(
                "{call} is for the role {needed}; the certificate of {} is of a {role}",
                identity.name
            ))
        }
        Open::Members => denied(format!("a {role} calls nobody")),
    }
}

/// Asks the table before every call, where certificates are asked for at all.
#[derive(Clone, Default)]
pub struct Access {
    server: Option<Arc<Server>>,
}

impl Access {
    /// Everybody may call everything: for sockets that only trusted people reach.
    pub fn open() -> Access {
        Access::default()
    }

    /// By certificates.
    pub fn tls(server: Arc<Server>) -> Access {
        Access { server: Some(server) }
    }

    /// The TLS end, where there is one.
    pub fn server(&self) -> Option<&Arc<Server>> {
        self.server.as_ref()
    }
}

impl<S> Layer<S> for Access {
    type Service = Checked<S>;

    fn layer(&self, inner: S) -> Checked<S> {
        Checked { inner, access: self.clone() }
    }
}

/// A service behind the table.
#[derive(Clone)]
pub struct Checked<S> {
    inner: S,
    access: Access,
}

impl<S> Service<http::Request<Body>> for Checked<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if let Some(server) = &self.access.server
            && let Err(class) = check(request.extensions().get::<Peer>(), server, request.uri().path())
        {
            return Box::pin(std::future::ready(Ok(Status::from(class).into_http())));
        }
        Box::pin(self.inner.call(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_the_schema_is_in_the_table_and_nothing_else() {
        let worker = Some(Open::Only(Role::Worker));
        let operator = Some(Open::Only(Role::Operator));
        let table = [
            ("Cluster/Describe", Some(Open::Members)),
            ("Cluster/Register", worker),
            ("Cluster/Exchange", worker),
            ("Inspect/Status", operator),
            ("Inspect/Candidates", operator),
            ("Inspect/Reports", operator),
            ("Inspect/Recipe", operator),
            ("Inspect/Audits", operator),
            ("Operate/Pause", operator),
            ("Operate/Extend", operator),
            ("Operate/Drain", operator),
            ("Operate/Backup", operator),
            ("Join/Join", Some(Open::Everybody)),
            ("Join/Renew", worker),
        ];
        for (call, open) in table {
            assert_eq!(open_to(&format!("/{CLUSTER}{call}")), open, "{call}");
        }
        // A call that is added to the schema has to be added here, and thought about.
        let all = [("cluster", include_str!("../../../proto/schema/cluster.proto"))];
        let calls =
            all.iter().flat_map(|(_, text)| text.lines()).filter(|l| l.trim().starts_with("rpc ")).count();
        assert_eq!(calls, table.len());
        for nothing in ["", "/", "/x/y", "/jradievo.cluster.v1.Other/X", "/jradievo.cluster.v1.Join/Other"] {
            assert_eq!(open_to(nothing), None, "{nothing}");
        }
    }
}
