//! The bounds of publishing by HTTP. A request's size is reserved before its body is read and released with its
//! answer, so that slow or many senders cannot fill the memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use hallway_rooms::close::Refusal;
use http::header::CONTENT_LENGTH;
use metrics::{counter, gauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::{AROUND, ApiError};
use crate::metrics::limit::Limit;
use crate::metrics::{PENDING_PUBLISH_BYTES, PENDING_PUBLISHES, PUBLISHES_TURNED_AWAY};

/// The bounds, shared by all requests.
#[derive(Clone, Debug)]
pub struct BodyIntake {
    /// `limits.pending_publishes`.
    events: IntakeBudget,
    /// `limits.pending_publish_bytes`.
    bytes: IntakeBudget,
    /// `api.body_timeout`.
    wait_limit: Duration,
}

/// A request's body with its reservations.
#[derive(Debug)]
pub(super) struct AdmittedBody {
    pub(super) body: Bytes,
    /// Released when the answer is made.
    shares: Vec<BudgetShare>,
}

impl BodyIntake {
    /// Bounds of events and bytes in flight, and of the time for a body to arrive.
    #[must_use]
    pub fn new(events: usize, bytes: usize, wait_limit: Duration) -> Self {
        let events = IntakeBudget::new(events, PENDING_PUBLISHES, "events", "limits.pending_publishes");
        let bytes = IntakeBudget::new(bytes, PENDING_PUBLISH_BYTES, "bytes", "limits.pending_publish_bytes");
        Self { events, bytes, wait_limit }
    }

    /// Reads a body of at most `longest` bytes. It counts as one event until its number is known.
    pub(super) async fn read_body(&self, request: Request, longest: usize) -> Result<AdmittedBody, ApiError> {
        let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        // Refused before a byte of it is read.
        if announced.is_some_and(|length: usize| length > longest) {
            return Err(too_large());
        }
        // Without a length (chunked) the largest possible body is reserved.
        let shares = vec![self.events.reserve_bytes(1)?, self.bytes.reserve_bytes(announced.unwrap_or(longest))?];
        match timeout(self.wait_limit, to_bytes(request.into_body(), longest)).await {
            Ok(Ok(body)) => Ok(AdmittedBody { body, shares }),
            Ok(Err(error)) if is_too_large(&error) => Err(too_large()),
            Ok(Err(_)) => Err(ApiError::new(Refusal::InvalidEvent, "the request's body could not be read")),
            Err(_) => {
                // Timeouts hold a reservation for nothing, so they are counted beside the refusals.
                counter!(PUBLISHES_TURNED_AWAY, "reason" => "slow-body").increment(1);
                Err(slow_body())
            }
        }
    }

    /// Reads the body of a request that does not publish.
    pub(super) async fn read_small_body(&self, request: Request) -> Result<Bytes, ApiError> {
        let refused = |message| ApiError::new(Refusal::InvalidPayload, message);
        match timeout(self.wait_limit, to_bytes(request.into_body(), AROUND)).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(_)) => Err(refused("the request's body could not be read, or is too long")),
            Err(_) => Err(slow_body()),
        }
    }

    /// Counts a body as its number of events.
    pub(super) fn count_as(&self, taken: &mut AdmittedBody, events: usize) -> Result<(), ApiError> {
        // One was reserved with the body. A batch larger than the bound takes all of it and can still pass.
        let more = events.min(self.events.all).saturating_sub(1);
        taken.shares.push(self.events.reserve_bytes(more)?);
        Ok(())
    }
}

fn slow_body() -> ApiError {
    ApiError::new(Refusal::RequestTimeout, "the request's body took longer than api.body_timeout to arrive")
}

fn too_large() -> ApiError {
    Limit::EventBytes.note_reached();
    ApiError::new(Refusal::EventTooLarge, "the request is larger than an event may be (limits.event_bytes)")
}

fn is_too_large(error: &axum::Error) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}

/// A bounded amount, handed out in shares.
#[derive(Clone, Debug)]
struct IntakeBudget {
    left: Arc<Semaphore>,
    /// The whole amount: what a larger request is cut to.
    all: usize,
    /// The metric of the amount in use.
    gauge: &'static str,
    /// The label of refusals in metrics.
    why: &'static str,
    /// The configuration key, for the refusal's message.
    key: &'static str,
}

/// A reservation, released when it is dropped.
#[derive(Debug)]
struct BudgetShare {
    permit: OwnedSemaphorePermit,
    gauge: &'static str,
}

impl IntakeBudget {
    fn new(all: usize, gauge: &'static str, why: &'static str, key: &'static str) -> Self {
        // The semaphore's own limit, and that of one acquisition.
        let all = all.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        gauge!(gauge).set(0.0);
        Self { left: Arc::new(Semaphore::new(all)), all, gauge, why, key }
    }

    /// Reserves an amount, or refuses. More than everything counts as everything.
    fn reserve_bytes(&self, amount: usize) -> Result<BudgetShare, ApiError> {
        let amount = u32::try_from(amount.min(self.all)).unwrap_or(u32::MAX);
        let Ok(permit) = self.left.clone().try_acquire_many_owned(amount) else {
            counter!(PUBLISHES_TURNED_AWAY, "reason" => self.why).increment(1);
            let message = format!("this node has as much in flight as it takes ({})", self.key);
            return Err(ApiError::new(Refusal::Unavailable, &message));
        };
        gauge!(self.gauge).increment(f64::from(amount));
        Ok(BudgetShare { permit, gauge: self.gauge })
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        let amount = u32::try_from(self.permit.num_permits()).unwrap_or(u32::MAX);
        gauge!(self.gauge).decrement(f64::from(amount));
    }
}
