//! The proof as lines for people.

use super::{Finding, LogReport, Report, Verdict};
use crate::output::text::{Style, Text};
use crate::when::{bytes, count, counted};

/// The lines of a report.
pub fn lines(report: &Report) -> Vec<Text> {
    let mut lines = vec![verdict(report), Text::new()];
    lines.extend(sums(report));
    for finding in &report.findings {
        lines.push(Text::new());
        lines.extend(finding_lines(finding));
    }
    if report.findings_left_out > 0 {
        lines.push(Text::new());
        let more = format!("… and {} more", count(report.findings_left_out));
        lines.push(Text::styled(Style::Bad, more));
    }
    for foreign in &report.foreign {
        let text = format!("not ours, and not looked into: {foreign}");
        lines.push(Text::styled(Style::Warn, text));
    }
    for note in &report.notes {
        lines.push(Text::styled(Style::Warn, format!("note: {note}")));
    }
    lines.push(Text::new());
    lines.extend(
        meaning(report)
            .into_iter()
            .map(|t| Text::styled(Style::Dim, t)),
    );
    lines
}

fn verdict(report: &Report) -> Text {
    let (style, mark, text) = match report.verdict {
        Verdict::Proven => (
            Style::Good,
            "✓ proven",
            "nothing is missing, nothing was altered",
        ),
        Verdict::Incomplete => (
            Style::Warn,
            "! incomplete",
            "something is missing; what is there was not altered",
        ),
        Verdict::UnknownKey => (
            Style::Bad,
            "? unknown key",
            "what was recorded is signed, but by a key that was not given",
        ),
        Verdict::Altered => (
            Style::Bad,
            "✗ altered",
            "the evidence is not what was recorded",
        ),
    };
    Text::styled(style, mark).with(Style::Plain, format!(": {text}"))
}

fn sums(report: &Report) -> Vec<Text> {
    let row = |name: &str, value: String| {
        let mut line = Text::styled(Style::Dim, format!("  {name}"));
        line.pad_to(12);
        line.push(Style::Plain, value);
        line
    };
    let mut lines = vec![
        row(
            "files",
            format!("{}, {}", count(report.files), bytes(report.bytes)),
        ),
        row(
            "events",
            format!(
                "{} in files, {} in the log's tail",
                count(report.events),
                count(report.tail_events)
            ),
        ),
        row("sessions", count(report.sessions)),
        row(
            "strands",
            format!(
                "{} followed from hash to hash, {} of them to their end",
                count(report.strands),
                count(report.strands_ended)
            ),
        ),
    ];
    for (i, shard) in report.shards.iter().enumerate() {
        let name = if i == 0 { "positions" } else { "" };
        let text = format!(
            "{}/{}: {} to {} in {}",
            shard.class,
            shard.shard,
            count(shard.pos_from),
            count(shard.pos_to.saturating_sub(1)),
            counted(shard.files, "file")
        );
        lines.push(row(name, text));
    }
    let mut gaps = format!("{} declared", report.gaps_declared);
    if report.gaps_closed > 0 {
        gaps.push_str(&format!(", {} filled late", report.gaps_closed));
    }
    lines.push(row("gaps", gaps));
    if report.files_expired > 0 {
        let text = format!(
            "{} left by their term, on record",
            counted(report.files_expired, "file")
        );
        lines.push(row("expired", text));
    }
    for (i, log) in report.logs.iter().enumerate() {
        let name = if i == 0 { "proof log" } else { "" };
        lines.push(row(name, log_text(log)));
        for cosigned in &log.cosigned {
            let text = format!(
                "  cosigned by {} at {} with {} leaves",
                cosigned.witness,
                cosigned.at,
                count(cosigned.leaves)
            );
            lines.push(row("", text));
        }
    }
    lines
}

fn log_text(log: &LogReport) -> String {
    let mut text = format!(
        "{}: {} {}, {}",
        log.origin,
        count(log.leaves),
        if log.leaves == 1 { "leaf" } else { "leaves" },
        counted(log.checkpoints, "checkpoint")
    );
    if log.files_sealed > 0 {
        text.push_str(&format!(", {} sealed", counted(log.files_sealed, "file")));
    }
    if log.files_deleted > 0 {
        text.push_str(&format!(
            ", {} left by their term",
            counted(log.files_deleted, "file")
        ));
    }
    match log.signed_by.first() {
        // The name and id of a key are enough to tell it by.
        Some(key) => {
            let short: Vec<&str> = key.splitn(3, '+').take(2).collect();
            text.push_str(&format!(", signed by {}", short.join("+")));
        }
        None => text.push_str(", signatures not checked"),
    }
    text
}

fn finding_lines(finding: &Finding) -> Vec<Text> {
    let (style, mark) = match finding.verdict {
        Verdict::Altered => (Style::Bad, "✗ "),
        Verdict::UnknownKey => (Style::Bad, "? "),
        Verdict::Proven | Verdict::Incomplete => (Style::Warn, "! "),
    };
    let mut place = Vec::new();
    if let Some(row) = finding.row {
        place.push(format!("row {row}"));
    }
    if let Some(position) = finding.position {
        place.push(format!("position {position}"));
    }
    if let Some(column) = &finding.column {
        place.push(format!("column {column}"));
    }
    let mut lines = vec![Text::styled(style, mark).with(Style::Bold, &finding.object)];
    if !place.is_empty() {
        lines.push(Text::styled(
            Style::Dim,
            format!("  at {}", place.join(", ")),
        ));
    }
    lines.push(Text::plain(format!("  {}", finding.what)));
    if let Some(readable) = &finding.readable {
        let text = format!("  still readable: {readable}");
        lines.push(Text::styled(Style::Dim, text));
    }
    lines
}

/// What the verdict means, and what it does not.
fn meaning(report: &Report) -> Vec<&'static str> {
    let mut lines = Vec::new();
    if report.verdict == Verdict::Proven {
        lines.push(
            "This proves: every event still has its bytes, its place in its session's chain of hashes and in its producer's count; every column says what its event says; every file is the one that the next was linked to.",
        );
    }
    let is_signed = report.logs.iter().any(|log| !log.signed_by.is_empty());
    if is_signed {
        if report.verdict == Verdict::Proven {
            lines.push(
                "It proves too: every file is in the signed transparency log with these bytes, what is in the log and is gone left by its term, and the log has one past. Nobody without the key could make that up.",
            );
        }
        let all_kept = report.logs.iter().all(|log| log.kept_leaves.is_some());
        lines.push(if all_kept {
            "It does not prove: that nothing was cut off after the checkpoints that you kept. Keep today's as well (hoop-replay checkpoint), away from the store."
        } else {
            "It does not prove: that the log was not cut back to one of its older checkpoints, together with everything after it. Keep a checkpoint elsewhere (hoop-replay checkpoint), or have witnesses sign it, and compare with --since-checkpoint."
        });
    } else {
        lines.push(
            "It does not prove: that nobody rewrote the newest file of a shard as a whole, or cut off the newest files with everything in them. No signature was checked; give the key of the transparency log (--key), or keep the store's own lock on objects and compare with a copy of the newest hashes kept elsewhere.",
        );
    }
    lines
}
