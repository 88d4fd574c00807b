//! Refreshing a token: a live socket shows a new one and goes on.

use std::sync::Arc;

use hallway_rooms::close::Refusal;
use metrics::counter;

use super::command::Token;
use super::inbox::Connection;
use crate::auth::claims::Claims;
use crate::clock::now_ms;
use crate::logs;
use crate::metrics::TOKEN_REFRESHES;

impl Connection {
    /// Puts a new token in the place of the old one, which stays in force where the new one is refused. Gives the new
    /// one's end.
    pub(super) async fn refresh(&self, token: &Token) -> Result<u64, Refusal> {
        let renewed = self.renew(token).await;
        let outcome = renewed.as_ref().map_or_else(|refusal| refusal.code(), |_| "renewed");
        counter!(TOKEN_REFRESHES, "outcome" => outcome).increment(1);
        renewed
    }

    async fn renew(&self, token: &Token) -> Result<u64, Refusal> {
        let claims = Arc::new(self.verified(token).await?);
        let (before, expires_ms) = (self.session.claims(), claims.expires_ms);
        let renewed = self.door.service.refresh(&self.session, claims).await;
        // Where the old token stays in force, its end was watched all along, and perhaps told.
        if !Arc::ptr_eq(&before, &self.session.claims()) {
            self.door.expiry.follow(&self.session, before.expires_ms);
        }
        renewed.map(|()| expires_ms)
    }

    /// The leeway of the handshake is not for live sockets.
    async fn verified(&self, token: &Token) -> Result<Claims, Refusal> {
        let claims = self.door.verifier.verify(&token.0, now_ms()).await.map_err(|error| {
            tracing::debug!(event = logs::REFRESH_REFUSED, session = self.session.id(), %error, "a new token was refused");
            self.door.hint(error.why(), &error.to_string());
            Refusal::Unauthorized
        })?;
        if claims.expires_ms <= now_ms() {
            return Err(Refusal::Unauthorized);
        }
        Ok(claims)
    }
}
