//! Calls that are repeated until they are answered.

use super::LinkError;
use common::seed::Stream;
use proto::convert::Description;
use proto::status::{Class, Retry};
use proto::{Channel, ClusterClient, wire};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

/// The longest pause between two tries to reach the coordinator. Half of what a restarted one waits for workers
/// to come back to their leases.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// A call that takes longer is given up and repeated.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// Retries a call with growing pauses until it succeeds, is refused for good, or time is up.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long to try; forever where absent.
    pub give_up_after: Option<Duration>,
    /// What makes this worker's pauses other than another's, so that a fleet does not call in step.
    pub salt: u64,
}

impl Patience {
    pub(crate) async fn call<T, F, Fut>(&self, what: &str, mut call: F) -> Result<T, CallError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let began = Instant::now();
        let mut pause = Duration::from_millis(100);
        let mut told = false;
        for attempt in 0.. {
            let class = match tokio::time::timeout(CALL_LIMIT, call()).await {
                Ok(Ok(reply)) => {
                    if told {
                        info!("the coordinator is back");
                    }
                    return Ok(reply.into_inner());
                }
                Ok(Err(status)) => Class::from(&status),
                Err(_) => Class::Unavailable(format!("no answer within {} s", CALL_LIMIT.as_secs())),
            };
            match class.retry() {
                Retry::Now => return Err(CallError::Again),
                Retry::Never => return Err(CallError::Link(LinkError::TurnedAway(class))),
                Retry::Later => {}
            }
            if self.give_up_after.is_some_and(|limit| began.elapsed() >= limit) {
                let (seconds, last) = (began.elapsed().as_secs(), class.to_string());
                return Err(CallError::Link(LinkError::GivenUp { seconds, last }));
            }
            if !told {
                warn!(call = what, error = %class, "the coordinator does not answer; trying again");
                told = true;
            }
            tokio::time::sleep(self.jittered(pause, attempt)).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
        unreachable!("it counts for ever")
    }

    /// Between half and the whole of `pause`.
    fn jittered(&self, pause: Duration, attempt: u64) -> Duration {
        let share = Stream::new(self.salt ^ attempt, "pause").uniform();
        pause.mul_f64(0.5 + 0.5 * share)
    }
}

/// Why a call ended without its answer.
pub(crate) enum CallError {
    /// The coordinator asks for a new registration.
    Again,
    /// For good.
    Link(LinkError),
}

/// Asks what the run is.
pub async fn describe(client: &ClusterClient<Channel>, patience: Patience) -> Result<Description, LinkError> {
    let call = || {
        let mut client = client.clone();
        async move { client.describe(wire::DescribeRequest {}).await }
    };
    match patience.call("describe", call).await {
        Ok(reply) => Ok(Description::try_from(reply)?),
        Err(CallError::Link(e)) => Err(e),
        Err(CallError::Again) => Err(LinkError::TurnedAway(Class::UnknownWorker)),
    }
}
