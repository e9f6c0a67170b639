//! gRPC handlers: convert, send one command, convert back. They decide nothing.

use crate::driver::Handle;
use crate::guard::Peer;
use crate::guard::members::Members;
use crate::report;
use common::id::CandidateId;
use proto::convert::{Description, Exchange, Registration};
use proto::status::Class;
use proto::wire;
use proto::wire::cluster_server::Cluster;
use proto::wire::inspect_server::Inspect;
use proto::wire::operate_server::Operate;
use std::sync::Arc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Candidates that are read from the state in one go, so that a long list never holds the driver up.
const CHUNK: usize = 256;
/// The same for audits, which hold reports.
const AUDITS_AT_ONCE: usize = 4;

/// All services.
#[derive(Clone)]
pub struct Service {
    driver: Handle,
    members: Arc<Members>,
}

impl Service {
    /// Handlers that speak to this driver.
    pub fn new(driver: Handle) -> Service {
        Service { driver, members: Arc::default() }
    }
}

#[tonic::async_trait]
impl Cluster for Service {
    async fn describe(
        &self,
        _: Request<wire::DescribeRequest>,
    ) -> Result<Response<wire::DescribeReply>, Status> {
        let describe = |state: &crate::state::State, _: &dyn crate::store::Store, _| {
            Ok(Description {
                run: state.identity().run.clone(),
                protocol_version: proto::PROTOCOL_VERSION,
                program_version: proto::PROGRAM_VERSION.into(),
                plan: state.plan().clone(),
                state: state.run_state(),
            })
        };
        Ok(Response::new(self.driver.look(describe).await?.into()))
    }

    async fn register(
        &self,
        request: Request<wire::RegisterRequest>,
    ) -> Result<Response<wire::RegisterReply>, Status> {
        let identity = Peer::identity(request.extensions());
        let registration = Registration::try_from(request.into_inner()).map_err(Class::from)?;
        if let Some(identity) = &identity {
            Members::may_register(identity, &registration.name)?;
        }
        let registered = self.driver.register(registration).await?;
        if let Some(identity) = &identity {
            self.members.registered(registered.worker, identity);
        }
        Ok(Response::new(registered.into()))
    }

    async fn exchange(
        &self,
        request: Request<wire::ExchangeRequest>,
    ) -> Result<Response<wire::ExchangeReply>, Status> {
        let identity = Peer::identity(request.extensions());
        let exchange = Exchange::try_from(request.into_inner()).map_err(Class::from)?;
        if let Some(identity) = &identity {
            self.members.may_speak(exchange.worker, identity)?;
        }
        Ok(Response::new(self.driver.exchange(exchange).await?.into()))
    }
}

#[tonic::async_trait]
impl Inspect for Service {
    type CandidatesStream = ReceiverStream<Result<wire::CandidateView, Status>>;
    type ReportsStream = ReceiverStream<Result<wire::SampleResult, Status>>;
    type AuditsStream = ReceiverStream<Result<wire::AuditView, Status>>;

    async fn status(&self, _: Request<wire::StatusRequest>) -> Result<Response<wire::StatusReply>, Status> {
        let reply = self.driver.look(|state, _, now| Ok(report::status(state, Some(now)))).await?;
        Ok(Response::new(reply))
    }

    async fn candidates(
        &self,
        _: Request<wire::CandidatesRequest>,
    ) -> Result<Response<Self::CandidatesStream>, Status> {
        let (sender, receiver) = tokio::sync::mpsc::channel(CHUNK);
        let driver = self.driver.clone();
        tokio::spawn(async move {
            let mut from = 0;
            loop {
                let chunk =
                    driver.look(move |state, store, _| report::candidates(state, store, from, CHUNK)).await;
                let chunk = match chunk {
                    Ok(chunk) if chunk.is_empty() => return,
                    Ok(chunk) => chunk,
                    Err(class) => return drop(sender.send(Err(class.into())).await),
                };
                from += chunk.len();
                for candidate in chunk {
                    if sender.send(Ok(candidate)).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn reports(
        &self,
        request: Request<wire::ReportsRequest>,
    ) -> Result<Response<Self::ReportsStream>, Status> {
        let id = CandidateId(request.into_inner().candidate);
        let evaluation =
            self.driver.look(move |state, store, _| report::evaluation(state, store, id)).await?;
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        tokio::spawn(async move {
            for sample in evaluation.samples {
                if sender.send(Ok(sample.into())).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn audits(&self, _: Request<wire::AuditsRequest>) -> Result<Response<Self::AuditsStream>, Status> {
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        let driver = self.driver.clone();
        tokio::spawn(async move {
            let mut from = CandidateId(0);
            loop {
                let chunk = driver.look(move |_, store, _| report::audits(store, from, AUDITS_AT_ONCE)).await;
                let chunk = match chunk {
                    Ok(chunk) => chunk,
                    Err(class) => return drop(sender.send(Err(class.into())).await),
                };
                let Some(last) = chunk.last() else { return };
                from = CandidateId(last.candidate + 1);
                for audit in chunk {
                    if sender.send(Ok(audit)).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn recipe(
        &self,
        request: Request<wire::RecipeRequest>,
    ) -> Result<Response<wire::RecipeReply>, Status> {
        let id = request.into_inner().candidate.map(CandidateId);
        Ok(Response::new(self.driver.look(move |state, store, _| report::recipe(state, store, id)).await?))
    }
}

#[tonic::async_trait]
impl Operate for Service {
    type BackupStream = ReceiverStream<Result<wire::BackupChunk, Status>>;

    async fn backup(&self, _: Request<wire::BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let copy = self.driver.look(|_, store, _| crate::backup::begin(store)).await?;
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        tokio::spawn(crate::backup::send(copy, self.driver.clone(), sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn pause(
        &self,
        request: Request<wire::PauseRequest>,
    ) -> Result<Response<wire::PauseReply>, Status> {
        let leases = self.driver.pause(request.into_inner().paused).await?;
        Ok(Response::new(wire::PauseReply { leases }))
    }

    async fn extend(
        &self,
        request: Request<wire::ExtendRequest>,
    ) -> Result<Response<wire::ExtendReply>, Status> {
        let budget = self.driver.extend(request.into_inner().into()).await?;
        Ok(Response::new(wire::ExtendReply { budget: Some(budget.into()) }))
    }

    async fn drain(
        &self,
        request: Request<wire::DrainRequest>,
    ) -> Result<Response<wire::DrainReply>, Status> {
        let wire::DrainRequest { name, drain } = request.into_inner();
        let name = proto::convert::worker_name("name", name).map_err(Class::from)?;
        Ok(Response::new(wire::DrainReply { leases: self.driver.drain(name, drain).await? }))
    }
}
