//! `hoop-replay export`.

use std::collections::VecDeque;

use clap::{Args, ValueEnum};
use hoop_schema::bytes::decode;
use hoop_schema::kinds::request::Intent;
use hoop_schema::{Kind, Timestamp};
use serde_json::Value;

use super::{FilterArgs, Run};
use crate::audit;
use crate::exit::{ExitCode, Failure};
use crate::output::{self, Format, Output, Progress};
use crate::scan::Order;

/// What events are written as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// The exact bytes of the events, one a line, in the order of the log of each shard; encrypted content stays so
    #[default]
    Jsonl,
    /// The same, with encrypted content made readable as far as its keys are there: not the exact bytes
    Readable,
    /// An EventList of audit.k8s.io/v1; with `-o jsonl` one Event a line, as the API server's log backend writes it
    Audit,
}

/// Arguments of `export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// What to write
    #[arg(long, value_enum, default_value_t)]
    pub format: ExportFormat,
    /// Which events.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Only this session, or the first digits of its id
    #[arg(long)]
    pub session: Option<String>,
    /// With --format audit: also the stage RequestReceived of requests that were answered
    #[arg(long)]
    pub request_received: bool,
}

pub(super) async fn run(run: &mut Run, args: &ExportArgs) -> Result<ExitCode, Failure> {
    let filter = args.filter.filter(&run.clock)?;
    let view = run.view(&filter).await?;
    let found = match &args.session {
        Some(session) => Some(run.find(&view, session).await?),
        None => None,
    };
    let total = view.catalog.files.iter().map(|f| f.bytes).sum();
    let mut progress = Progress::new(&run.output, total);
    let output = &mut run.output;
    let damaged = match args.format {
        ExportFormat::Jsonl | ExportFormat::Readable => {
            view.scan(
                &filter,
                found.as_ref(),
                Order::Log,
                &mut progress,
                |entry, _| {
                    output.bytes(match args.format {
                        ExportFormat::Readable => entry.shown(),
                        _ => &entry.bytes,
                    })?;
                    Ok::<_, Failure>(true)
                },
            )
            .await?
        }
        ExportFormat::Audit => {
            let mut list = AuditList::begin(output, args.request_received)?;
            let damaged = view
                .scan(
                    &filter,
                    found.as_ref(),
                    Order::Log,
                    &mut progress,
                    |entry, _| {
                        if let Ok(event) = decode(entry.shown()) {
                            list.take(event.kind, event.envelope.ts)?;
                        }
                        Ok::<_, Failure>(true)
                    },
                )
                .await?;
            list.end()?;
            damaged
        }
    };
    drop(progress);
    for damage in &damaged {
        output::notice(&format!(
            "{damage}; its events were not exported, or not all"
        ));
    }
    let is_whole = args.format == ExportFormat::Jsonl || super::content_is_whole(&view).await;
    Ok(if damaged.is_empty() && is_whole {
        ExitCode::Success
    } else {
        ExitCode::Damaged
    })
}

/// An EventList while it is written.
struct AuditList<'a> {
    output: &'a mut Output,
    request_received: bool,
    lines: bool,
    first: bool,
    /// Intents without an outcome so far, oldest first.
    pending: VecDeque<(Intent, Timestamp)>,
}

impl<'a> AuditList<'a> {
    fn begin(output: &'a mut Output, request_received: bool) -> Result<Self, Failure> {
        let lines = output.format() == Format::Jsonl;
        if !lines {
            output.own_text(
                "{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"metadata\":{},\"items\":[",
            )?;
        }
        Ok(Self {
            output,
            request_received,
            lines,
            first: true,
            pending: VecDeque::new(),
        })
    }

    fn take(&mut self, kind: Kind, ts: Timestamp) -> Result<(), Failure> {
        match kind {
            Kind::Intent(intent) => {
                if self.request_received {
                    self.item(&audit::request_received(&intent, ts))?;
                }
                if self.pending.len() == audit::PENDING_MAX
                    && let Some((oldest, ts)) = self.pending.pop_front()
                {
                    self.unanswered(&oldest, ts)?;
                }
                self.pending.push_back((intent, ts));
            }
            Kind::Outcome(outcome) => {
                let of_it = |(i, _): &(Intent, _)| i.request.audit_id == outcome.request.audit_id;
                let at = self.pending.iter().rposition(of_it);
                let intent = at.and_then(|at| self.pending.remove(at));
                let intent = intent.as_ref().map(|(intent, _)| intent);
                for event in audit::answered(&outcome, intent) {
                    self.item(&event)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn unanswered(&mut self, intent: &Intent, ts: Timestamp) -> Result<(), Failure> {
        if self.request_received {
            return Ok(());
        }
        self.item(&audit::request_received(intent, ts))
    }

    fn item(&mut self, event: &Value) -> Result<(), Failure> {
        if !self.first && !self.lines {
            self.output.own_text(",")?;
        }
        if !self.lines {
            self.output.own_text("\n")?;
        }
        self.first = false;
        let text = event.to_string();
        if self.lines {
            self.output.bytes(text.as_bytes())?;
        } else {
            self.output.own_text(&text)?;
        }
        Ok(())
    }

    fn end(mut self) -> Result<(), Failure> {
        for (intent, ts) in std::mem::take(&mut self.pending) {
            self.unanswered(&intent, ts)?;
        }
        if !self.lines {
            self.output.own_text("\n]}\n")?;
        }
        Ok(())
    }
}
