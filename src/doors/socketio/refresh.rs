//! Token refresh: a live socket presents a new token and goes on without a reconnect.

use std::sync::Arc;

use hallway_rooms::close::Refusal;
use metrics::counter;

use super::command::Token;
use super::inbox::SignedInSocket;
use crate::auth::claims::Claims;
use crate::clock::now_ms;
use crate::logs;
use crate::metrics::TOKEN_REFRESHES;

impl SignedInSocket {
    /// Replaces the session's token and gives the expiry of the new one, in milliseconds since the Unix epoch. If the
    /// new token is refused, the old one stays in force.
    pub(super) async fn refresh_token(&self, token: &Token) -> Result<u64, Refusal> {
        let renewed = self.renew_claims(token).await;
        let outcome = renewed.as_ref().map_or_else(|refusal| refusal.code(), |_| "renewed");
        counter!(TOKEN_REFRESHES, "outcome" => outcome).increment(1);
        renewed
    }

    async fn renew_claims(&self, token: &Token) -> Result<u64, Refusal> {
        let claims = Arc::new(self.verify_token(token).await?);
        let (before, expires_ms) = (self.session.claims(), claims.expires_ms);
        let renewed = self.door.service.refresh(&self.session, claims).await;
        // If the old token stays in force, its expiry is already scheduled and perhaps announced; scheduling it again
        // would send a second notice.
        if !Arc::ptr_eq(&before, &self.session.claims()) {
            self.door.expiry.reschedule_session(&self.session, before.expires_ms);
        }
        renewed.map(|()| expires_ms)
    }

    /// Verifies a token, without the leeway that a handshake grants on `exp`: the timer closes a live socket right at
    /// `exp`, so an expired token would be accepted and close the socket at once.
    async fn verify_token(&self, token: &Token) -> Result<Claims, Refusal> {
        let claims = self.door.verifier.verify(&token.0, now_ms()).await.map_err(|error| {
            tracing::debug!(event = logs::REFRESH_REFUSED, session = self.session.id(), %error, "a new token was refused");
            self.door.hint_developer(error.metric_label(), &error.to_string());
            Refusal::Unauthorized
        })?;
        if claims.expires_ms <= now_ms() {
            return Err(Refusal::Unauthorized);
        }
        Ok(claims)
    }
}
