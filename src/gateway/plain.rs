//! The short way in, for requests that say nothing but what is to be predicted: a name, inputs in the model's order, and perhaps
//! a deadline. Whatever else there is to look at, and whatever is wrong, is left to the long way, which says what. Called by the
//! handlers of both protocols.

use std::{sync::Arc, time::Instant};

use super::{
    Gateway, Ticket,
    asked::{Asked, Question},
};
use crate::{compose::Callable, types::PlainRequest};

impl Gateway {
    /// [`Gateway::ask`] for a plain request to a model; `None` when the long way has to be gone: to a route, where tenants are
    /// told apart, or because it is to be refused. Nothing has been taken or counted then.
    pub fn ask_plain(
        &self,
        plain: &mut PlainRequest<'_>,
        deadline: Option<Instant>,
        ticket: &mut Ticket<'_>,
    ) -> Option<Asked> {
        if self.options.tenant.is_some() {
            return None;
        }
        let callable = self.tables.load().node(plain.model).ok()?.callable(&plain.version).ok()?;
        let Callable::Model(target) = &callable else { return None };
        let (target, received) = (Arc::clone(target), ticket.received());
        let rows = target.accept_plain(&mut plain.inputs, self.options.max_request_rows)?;
        let terms = target.plain_terms(deadline, received);
        ticket.rows = rows.rows;
        ticket.callable = Some(callable);
        Some(Asked::model(
            Question { target, wanted: None, terms, id: std::mem::take(&mut plain.id).into(), received },
            rows,
        ))
    }
}
