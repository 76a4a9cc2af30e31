//! `hoop-replay reconcile`.

use clap::Args;
use hoop_schema::Timestamp;

use super::{FilterArgs, Run};
use crate::exit::{ExitCode, Failure};
use crate::output::table::{Column, Table};
use crate::output::text::{Style, Text};
use crate::output::{self, Format, Output, Progress};
use crate::reconcile::groups::{Findings, Group, Key};
use crate::reconcile::sighting::Sighting;
use crate::reconcile::sorter::Sorter;
use crate::reconcile::{EXPECTED_USERS, Expected, Report, compare};
use crate::scan::Order;
use crate::when::{self, Clock};
use audit_log::AuditPlace;

mod audit_log;

/// Groups of a kind of finding that are shown to people; `-o json` has all.
const GROUPS_SHOWN: usize = 20;

/// Arguments of `reconcile`.
#[derive(Debug, Clone, Args)]
pub struct ReconcileArgs {
    /// The API server's audit log: a file, a folder of files, objects of a bucket (s3://BUCKET/KEY, s3://BUCKET/FOLDER/,
    /// s3://BUCKET/BEGINNING*), or - for standard input; gzip or not. May be given more than once
    #[arg(long, value_name = "FILE|DIR|s3://...|-", required = true)]
    pub k8s_audit: Vec<AuditPlace>,
    /// A user that need not come through the gateway; * stands for any characters. May be given more than once
    #[arg(long, value_name = "USER")]
    pub ignore_user: Vec<String>,
    /// Do not expect the control plane: without this, --ignore-user adds to system:apiserver,
    /// system:kube-controller-manager, system:kube-scheduler, system:kube-proxy, system:node:* and
    /// system:serviceaccount:kube-system:*
    #[arg(long)]
    pub no_default_ignore: bool,
    /// A user that the gateway is known as to the API server, where it is not to be found out
    #[arg(long, value_name = "USER")]
    pub gateway_user: Vec<String>,
    /// Only requests from this time on: RFC 3339, a date, `today`, or how long ago
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only requests up to this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

/// The time that is compared, of both sides by when the request was received.
#[derive(Debug, Clone, Copy)]
struct Window {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Window {
    fn holds(self, at: Timestamp) -> bool {
        self.since.is_none_or(|since| since <= at) && self.until.is_none_or(|until| at <= until)
    }
}

pub(super) async fn run(run: &mut Run, args: &ReconcileArgs) -> Result<ExitCode, Failure> {
    let times = FilterArgs {
        since: args.since.clone(),
        until: args.until.clone(),
        ..FilterArgs::default()
    };
    let filter = times.filter(&run.clock)?;
    let window = Window {
        since: filter.since,
        until: filter.until,
    };
    let mut expected = Expected {
        users: args.ignore_user.clone(),
        gateway_users: args.gateway_user.clone(),
    };
    if !args.no_default_ignore {
        expected.users.extend(EXPECTED_USERS.map(str::to_owned));
    }
    let mut report = Report::default();
    let mut sorter = Sorter::default();
    let mut push = |sighting: Sighting| match window.holds(sighting.at) {
        true => sorter.push(sighting),
        false => Ok(()),
    };
    for place in &args.k8s_audit {
        audit_log::read(
            &run.output,
            place,
            &run.bucket_options,
            &mut report.log,
            &mut push,
        )
        .await?;
    }
    let damaged = read_record(run, window, &filter, &mut sorter, &mut report).await?;
    compare(&mut sorter, &expected, &mut report).map_err(of_sorter)?;
    match run.output.format() {
        Format::Table => write_report(&mut run.output, &run.clock, &report)?,
        Format::Json | Format::Jsonl => run.output.json(&report)?,
    }
    Ok(if damaged {
        ExitCode::Damaged
    } else if report.is_contradicted() {
        ExitCode::Altered
    } else if report.is_complete() {
        ExitCode::Success
    } else {
        ExitCode::Incomplete
    })
}

fn of_sorter(error: std::io::Error) -> Failure {
    Failure {
        code: ExitCode::Io,
        error: anyhow::Error::new(error).context(
            "cannot sort the requests on disk; the folder for temporary files (TMPDIR) may be full",
        ),
    }
}

/// Reads the record; returns whether some of it is damaged.
async fn read_record(
    run: &Run,
    window: Window,
    filter: &crate::filter::Filter,
    sorter: &mut Sorter,
    report: &mut Report,
) -> Result<bool, Failure> {
    let view = run.view(filter).await?;
    let total = view.catalog.files.iter().map(|f| f.bytes).sum();
    let mut progress = Progress::new(&run.output, total);
    let everything = crate::filter::Filter::default();
    let damaged = view
        .scan(
            &everything,
            None,
            Order::Session,
            &mut progress,
            |entry, row| {
                if let Some(sighting) = report.record.take(entry, row)
                    && window.holds(sighting.at)
                {
                    sorter.push(sighting).map_err(of_sorter)?;
                }
                Ok::<_, Failure>(true)
            },
        )
        .await?;
    for damage in &damaged {
        output::notice(&damage.to_string());
    }
    Ok(!damaged.is_empty())
}

fn write_report(output: &mut Output, clock: &Clock, report: &Report) -> Result<(), Failure> {
    let kinds = [
        ("bypassed the gateway", &report.bypassed),
        (
            "came with the gateway's credential and are not on record",
            &report.unrecorded,
        ),
        (
            "are not what is on record under their id",
            &report.contradicted,
        ),
        (
            "are on record as answered by the API server, which has nothing of them",
            &report.missing,
        ),
    ];
    for (what, findings) in kinds {
        if findings.requests > 0 {
            write_findings(output, clock, what, findings)?;
        }
    }
    for line in summary(report) {
        output.paragraph(&line)?;
    }
    Ok(())
}

fn write_findings(
    output: &mut Output,
    clock: &Clock,
    what: &str,
    findings: &Findings,
) -> Result<(), Failure> {
    let heading = format!("{} {what}", when::counted(findings.requests, "request"));
    output.paragraph(&Text::styled(Style::Bold, heading))?;
    let mut table = Table::new(vec![
        Column::new("COUNT", 5).right(),
        Column::new("USER", 12),
        Column::new("VERB", 6),
        Column::new("RESOURCE", 10),
        Column::new("NAMESPACE", 8),
        Column::new("REFUSED", 7).right().optional(),
        Column::new("LAST", 8),
        Column::new("AUDIT ID", 36).optional(),
    ]);
    let groups = findings.groups();
    for (key, group) in groups.iter().take(GROUPS_SHOWN) {
        table.row(row(key, group, clock));
    }
    for line in table.lines(output.width()) {
        output.line(&line)?;
    }
    let shown: u64 = groups
        .iter()
        .take(GROUPS_SHOWN)
        .map(|(_, group)| group.requests)
        .sum();
    if shown < findings.requests {
        let rest = format!(
            "and {} more; -o json has them",
            when::counted(findings.requests - shown, "request")
        );
        output.line(&Text::styled(Style::Dim, rest))?;
    }
    output.blank()?;
    Ok(())
}

fn row(key: &Key, group: &Group, clock: &Clock) -> Vec<Text> {
    let user = match (key.user.as_str(), key.acting.as_str()) {
        ("", _) => "(not identified)".to_owned(),
        (user, "") => user.to_owned(),
        (user, acting) => format!("{user} as {acting}"),
    };
    let resource = if group.name.is_empty() || group.requests > 1 {
        key.resource.clone()
    } else {
        format!("{} {}", key.resource, group.name)
    };
    let refused = match group.refused {
        0 => String::new(),
        refused => refused.to_string(),
    };
    vec![
        Text::plain(group.requests.to_string()),
        Text::plain(user),
        Text::plain(key.verb.clone()),
        Text::plain(resource),
        Text::plain(key.namespace.clone()),
        Text::plain(refused),
        Text::styled(Style::Dim, clock.long(group.last)),
        Text::styled(Style::Dim, group.audit_id.clone()),
    ]
}

/// What was compared, in sentences.
fn summary(report: &Report) -> Vec<Text> {
    let percent = |rate: Option<f64>| match rate {
        // Never rounded up to everything.
        Some(rate) => format!("{:.2} %", (rate * 10_000.0).floor() / 100.0),
        None => "none".to_owned(),
    };
    let count = |n: u64, what: &str| when::counted(n, what);
    let mut lines = vec![Text::plain(format!(
        "{} joined: {} of those that the record says the API server answered, {} of those that the API server saw and are not expected",
        count(report.joined, "request"),
        percent(report.join_rate),
        percent(report.coverage),
    ))];
    lines.push(Text::plain(format!(
        "read {} of the audit log and {} on record; the gateway is known there as {}",
        count(report.log.lines, "line"),
        count(report.record.requests, "request"),
        match report.gateway_users.as_slice() {
            [] => "nobody".to_owned(),
            users => users.join(", "),
        }
    )));
    let expected = report.expected.values().sum();
    let apart = [
        (report.own, "by which the gateway asks on its own behalf"),
        (expected, "of users that need not come through the gateway"),
        (report.log_outside, "from before the record begins"),
        (
            report.record_outside,
            "on record from outside the time of the audit log",
        ),
        (
            report.perhaps,
            "on record whose end is not, and that did not arrive",
        ),
    ];
    for (n, what) in apart.into_iter().filter(|(n, _)| *n > 0) {
        lines.push(Text::plain(format!(
            "apart: {} {what}",
            count(n, "request")
        )));
    }
    if report.log.lines_unreadable > 0 {
        lines.push(Text::plain(format!(
            "{} of the audit log could not be read and were skipped",
            count(report.log.lines_unreadable, "line")
        )));
    }
    lines
}
