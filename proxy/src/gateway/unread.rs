//! Requests that HTTP itself has refused: there is nothing to decide about them, but a record of them.

use std::sync::Arc;

use http::{Request, StatusCode};

use super::{Handler, Peer, Ruling, attributes};
use crate::answer::Answering;
use crate::authenticate::Admission;
use crate::metrics::{InFlight, VerbClass};
use crate::request_body::RequestBody;
use crate::status::Refusal;

/// Why the head of a request could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It is no HTTP/1.1.
    NotHttp {
        /// Whether HTTP has said so, with 400.
        is_answered: bool,
    },
    /// Its target or its headers are longer than what is read.
    TooLarge {
        /// What HTTP has answered.
        status: u16,
    },
    /// It did not come to its end in time, or not before the client was gone.
    Unfinished,
    /// HTTP/2 has reset their streams.
    Reset {
        /// How many.
        requests: u64,
    },
}

impl Handler {
    /// Records a request whose head could not be read. Nobody is behind it, so an address leaves only so many of them.
    pub(crate) async fn unreadable(&self, peer: &Peer, unread: Unread) {
        let received = (self.clock)();
        let (mut refusal, is_answered) = self.refusal_of(unread);
        self.metrics.unread.inc_by(match unread {
            Unread::Reset { requests } => requests,
            _ => 1,
        });
        match self.failures.admit(peer.connection.source_ip(), received) {
            Admission::Recorded { unrecorded: 0 } => {}
            Admission::Recorded { unrecorded } => {
                refusal.message += &unrecorded_before(unrecorded);
            }
            Admission::Limited { .. } => {
                self.authentication_metrics.limited.inc();
                return;
            }
        }
        let attributes = Arc::new(attributes::of_unreadable(peer, received));
        let mut exchange = self
            .journal
            .open(&peer.connection, Arc::clone(&attributes), None);
        let ruling = Ruling::refused(refusal, self.policy.current().policy.revision());
        let empty = Request::new(()).into_parts().0;
        if let Err(error) = exchange
            .intent(ruling.intent(&empty, &mut RequestBody::default()))
            .await
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a request could not be recorded"
            );
        }
        let answering = Answering {
            handler: self,
            exchange,
            in_flight: InFlight::new(&self.metrics),
            attributes,
            verdict: ruling.verdict,
            verb_class: VerbClass::Other,
            who: None,
            in_messages: None,
        };
        if let Some(refusal) = ruling.refusal {
            answering.answered_below(is_answered.then_some(refusal.code));
        }
    }

    /// What is recorded as the refusal, and whether HTTP has answered with its code.
    fn refusal_of(&self, unread: Unread) -> (Refusal, bool) {
        match unread {
            Unread::NotHttp { is_answered } => {
                (Refusal::broken("its head is not HTTP"), is_answered)
            }
            Unread::TooLarge { status } => {
                let limits = &self.limits;
                let mut refusal =
                    Refusal::headers_too_large(limits.header_bytes_max, limits.headers_max);
                if status == StatusCode::URI_TOO_LONG.as_u16() {
                    refusal = Refusal::target_too_long();
                }
                let is_answered = status == refusal.code.as_u16();
                (refusal, is_answered)
            }
            Unread::Unfinished => {
                let what = "its head did not come to its end";
                (Refusal::broken(what), false)
            }
            Unread::Reset { requests: 1 } => {
                let what = "its head is not what HTTP/2 allows";
                (Refusal::broken(what), false)
            }
            Unread::Reset { requests } => {
                let what = format!(
                    "it and {} more of its connection are not what HTTP/2 allows",
                    requests - 1
                );
                (Refusal::broken(&what), false)
            }
        }
    }
}

/// What a record says of those before it that were not recorded one by one.
pub(super) fn unrecorded_before(requests: u32) -> String {
    format!("; {requests} more of this address were refused since the last record")
}
