//! A client comes here with the token of a session that another node has: the session comes here, too.

use std::time::Instant;

use hyper::HeaderMap;
use tokio::time::timeout;
use voicematch_core::session::{
    CannotResume, HeldAddress,
    take::{TAKE_WITHIN, Taken},
};

use super::{Reply, connection::Connection, refused, wanted::Wanted};
use crate::transport::keeper;

impl Connection {
    /// Brings the session that a request asks for here, if another node has it. Whatever becomes of that, the request is to be
    /// looked at then as any other; but for the answer if the user's address has as many sessions as it may.
    pub(super) async fn bring_session(
        &self,
        headers: &HeaderMap,
        wanted: &mut Wanted,
    ) -> Option<Reply> {
        let Wanted::Resume {
            token: Some(token),
            after,
        } = wanted
        else {
            return None;
        };
        let (context, user) = (&self.public.context, self.user_address(headers));
        if !context.is_elsewhere(token) {
            return None;
        }
        // It counts here from now on.
        if let Err(refusal) = self.permit.count_user(user) {
            return Some(refused(refusal));
        }
        let held = || {
            let count = self.permit.take_address()?;
            Some(Box::new(count) as Box<dyn HeldAddress>)
        };
        let taking = context.begin_take(token, *after, (held, user.into()), Instant::now())?;
        let taken = timeout(TAKE_WITHIN, taking.answer).await;
        match taken.unwrap_or(Ok(Taken::Timeout)) {
            Ok(Taken::Here) => {
                // Should this connection be gone meanwhile, the session waits for another one.
                if let Some(session) = context.resumables.get(token.session) {
                    keeper::keep(session);
                }
                return None;
            }
            Ok(Taken::Forged) => self.failed(headers, &CannotResume::Refused { forged: true }),
            Ok(Taken::TooOld) => *wanted = Wanted::TooOld,
            Ok(Taken::Refused | Taken::Timeout) | Err(_) => {}
        }
        // The connection counts by itself.
        self.permit.count_user(user).err().map(refused)
    }
}
