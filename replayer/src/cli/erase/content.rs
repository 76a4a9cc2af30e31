//! `hoop-replay erase content`.
//!
//! The order matters: legal holds are looked at, the erasure is recorded, holds are looked at again, keys are destroyed.
//! Broken off anywhere, what was begun is on record or nothing happened, and the same command again completes it.

use hoop_schema::kinds::recorder::{RecorderErased, RecorderHold};
use hoop_schema::{ProducerId, SessionId, Timestamp};
use hoop_sinks::keys::KeyRing;
use hoop_sinks::store::EvidenceStore;
use hoop_sinks::store::erasures::{self, KnownErasure};
use hoop_sinks::store::history::Writer;
use hoop_sinks::store::holds::{Holds, covers};
use serde::Serialize;

use super::{ContentArgs, of_key};
use crate::cli::Run;
use crate::contents::of_erasure;
use crate::exit::{ExitCode, Failure};
use crate::filter::Filter;
use crate::output::text::{Style, Text};
use crate::output::{self, Format, Progress};
use crate::summary::SessionSummary;
use crate::when;

/// A session without an end may go on for so long: the longest that one is open.
const OPEN_MICROS_MAX: i64 = 24 * 3600 * 1_000_000;

/// Holds that are named when an erasure is refused.
const HOLDS_TOLD_MAX: usize = 5;

/// A session that is to be erased.
#[derive(Debug)]
struct Wanted {
    session: SessionId,
    user: Option<String>,
    may_go_on: bool,
    /// Whether any of its events was seen.
    is_known: bool,
}

/// What became of one session, for `-o json`.
#[derive(Debug, Serialize)]
struct Done {
    #[serde(flatten)]
    erased: RecorderErased,
    /// When it was recorded.
    at: Timestamp,
    /// Whether it was recorded now; else it was before.
    written: bool,
    /// Keys destroyed now.
    keys_destroyed: u64,
    /// Whether the session may still be going on.
    may_go_on: bool,
}

pub(super) async fn run(
    run: &mut Run,
    store: &dyn EvidenceStore,
    args: &ContentArgs,
) -> Result<ExitCode, Failure> {
    let contents = std::sync::Arc::clone(&run.contents);
    let ring = contents.ring().ok_or_else(|| {
        Failure::usage("say where the keys are: --keys PLACE, as encryption.keys in the configuration of `hoop up` says")
    })?;
    if args.session.is_empty() && args.user.is_empty() {
        return Err(Failure::usage(
            "say whose content to erase: --session ID or --user NAME",
        ));
    }
    let by = args.by.as_ref().or(run.user.as_ref()).cloned();
    let by = by.ok_or_else(|| Failure::usage("say who asks for it: --by NAME"))?;
    if args.reason.trim().is_empty() {
        return Err(Failure::usage(
            "say why: the reason stays in the evidence when the content is gone",
        ));
    }
    let view = run.view(&Filter::default()).await?;
    let mut progress = Progress::new(&run.output, 0);
    let (sessions, damaged) = view.summaries(false, &mut progress).await?;
    drop(progress);
    for damage in &damaged {
        output::notice(&format!("{damage}; the session may have more in it"));
    }
    let wanted = wanted(args, &sessions, run.clock.now)?;
    let producer_id = ProducerId::new("hoop-replay").expect("a name of plain letters");
    let cluster = view.cluster().await.unwrap_or_else(|| "unknown".into());
    let holds = Holds::new(store, &cluster, &producer_id);
    let in_force = || async { holds.in_force().await.map_err(crate::cli::hold::of_hold) };
    refuse_held(&wanted, &in_force().await?, damaged.is_empty())?;
    let wanted = with_keys(store, ring, wanted).await?;
    let writer = Writer {
        cluster: &cluster,
        producer_id: &producer_id,
    };
    let mut all = Vec::new();
    for one in wanted {
        let erased = RecorderErased {
            erased_session: one.session,
            erased_user: one.user.clone(),
            by: by.clone(),
            reason: args.reason.clone(),
        };
        let recorded = erasures::record(store, writer, erased, run.clock.now).await;
        let (KnownErasure { erased, at }, written) = recorded.map_err(of_erasure)?;
        // Whoever set a hold meanwhile did so before anything is gone.
        let one = [one];
        refuse_held(&one, &in_force().await?, damaged.is_empty())?;
        let [one] = one;
        let keys_destroyed = ring.destroy(one.session).await.map_err(of_key)?;
        all.push(Done {
            erased,
            at,
            written,
            keys_destroyed,
            may_go_on: one.may_go_on,
        });
    }
    report(run, &all)
}

/// The sessions that are asked for.
fn wanted(
    args: &ContentArgs,
    sessions: &[SessionSummary],
    now: Timestamp,
) -> Result<Vec<Wanted>, Failure> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut want = |found: Wanted| {
        if wanted.iter().all(|w| w.session != found.session) {
            wanted.push(found);
        }
    };
    let of = |summary: &SessionSummary| Wanted {
        session: summary.session_id,
        user: summary.user.clone(),
        is_known: true,
        may_go_on: !summary.ended
            && now.as_micros().saturating_sub(summary.last_ts.as_micros()) < OPEN_MICROS_MAX,
    };
    for digits in &args.session {
        let digits = digits.trim().to_lowercase();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Failure::usage(format!(
                "{digits:?} is no session id: give its first hexadecimal digits, as `hoop-replay list` shows them"
            )));
        }
        let found = sessions
            .iter()
            .filter(|s| s.session_id.to_string().starts_with(&digits));
        match (&found.collect::<Vec<_>>()[..], digits.parse()) {
            ([one], _) => want(of(one)),
            // Its files may have left by their term, and its keys stayed.
            ([], Ok(session)) => want(Wanted {
                session,
                user: None,
                may_go_on: false,
                is_known: false,
            }),
            ([], Err(_)) => {
                return Err(Failure::not_found(format!(
                    "no session begins with {digits}: see `hoop-replay list --all`"
                )));
            }
            ([first, second, ..], _) => {
                return Err(Failure::usage(format!(
                    "several sessions begin with {digits}, such as {} and {}: give more digits",
                    first.session_id, second.session_id
                )));
            }
        }
    }
    for user in &args.user {
        let mut of_user = sessions
            .iter()
            .filter(|s| s.user.as_ref() == Some(user))
            .peekable();
        if of_user.peek().is_none() {
            return Err(Failure::not_found(format!("no session is of user {user}")));
        }
        of_user.for_each(|summary| want(of(summary)));
    }
    Ok(wanted)
}

/// Refuses what legal holds cover. Of a session of which nobody can tell whose it is, every hold of a user counts.
fn refuse_held(
    wanted: &[Wanted],
    holds: &[RecorderHold],
    all_was_read: bool,
) -> Result<(), Failure> {
    let mut held = Vec::new();
    for one in wanted {
        let doubtful = one.user.is_none() && !(all_was_read && one.is_known);
        for hold in holds {
            let of_user = hold.held_user.is_some() && doubtful;
            if of_user || covers(std::slice::from_ref(hold), one.session, one.user.as_deref()) {
                let case = hold.case.as_ref().map(|case| format!(" of case {case}"));
                held.push(format!(
                    "\n  session {}: hold {}{}, by {}: {}",
                    one.session,
                    hold.hold_id,
                    case.unwrap_or_default(),
                    hold.by,
                    hold.reason
                ));
            }
        }
    }
    if held.is_empty() {
        return Ok(());
    }
    let more = held.len().saturating_sub(HOLDS_TOLD_MAX);
    held.truncate(HOLDS_TOLD_MAX);
    if more > 0 {
        held.push(format!("\n  and {more} more"));
    }
    Err(Failure {
        code: ExitCode::Usage,
        error: anyhow::anyhow!(
            "legal holds are in force, so nothing was erased:{}\nrelease them first, if whoever set them agrees (`hoop-replay hold release`)",
            held.concat()
        ),
    })
}

/// Those that have keys, or whose erasure is on record. A session without either had nothing encrypted, and to say that
/// its content was erased would be wrong.
async fn with_keys(
    store: &dyn EvidenceStore,
    ring: &KeyRing,
    wanted: Vec<Wanted>,
) -> Result<Vec<Wanted>, Failure> {
    let (mut kept, mut without) = (Vec::new(), Vec::new());
    for one in wanted {
        let known = erasures::of(store, one.session).await.map_err(of_erasure)?;
        let keys = ring.count(one.session).await.map_err(of_key)?;
        match keys > 0 || known.is_some() {
            true => kept.push(one),
            false => without.push(one.session),
        }
    }
    for session in &without {
        output::notice(&format!(
            "session {session} has no key in {}: none of its content is encrypted, or its keys are elsewhere",
            ring.place()
        ));
    }
    if kept.is_empty() {
        return Err(Failure::not_found("there is nothing to erase"));
    }
    Ok(kept)
}

fn report(run: &mut Run, all: &[Done]) -> Result<ExitCode, Failure> {
    match run.output.format() {
        Format::Json => run.output.json(&all)?,
        Format::Jsonl => {
            for done in all {
                run.output.json(done)?;
            }
        }
        Format::Table => {
            for done in all {
                tell(run, done)?;
            }
        }
    }
    if all.iter().any(|done| done.may_go_on) {
        output::notice(
            "a session that may still be going on: what its gateway records with the key that it holds in memory cannot be read either, but another gateway makes another key. End it (`hoop sessions end --session ID`), and run the same command again",
        );
    }
    Ok(ExitCode::Success)
}

fn tell(run: &mut Run, done: &Done) -> Result<(), Failure> {
    let mut line = Text::plain("session ")
        .with(Style::Name, done.erased.erased_session.to_string())
        .with(Style::Plain, " ");
    let state = match (done.written, done.keys_destroyed) {
        (true, _) => "is erased",
        (false, 0) => "was erased already",
        (false, _) => "is erased now; it was on record before",
    };
    line.push(Style::Good, state);
    if let Some(user) = &done.erased.erased_user {
        line.push(Style::Plain, format!(", of {user}"));
    }
    run.output.paragraph(&line)?;
    let keys = when::counted(done.keys_destroyed, "key");
    let text = format!(
        "  {keys} destroyed; who did what, lengths and times stay. Copies of the key store have to go as well"
    );
    Ok(run.output.paragraph(&Text::styled(Style::Dim, text))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 2_000_000_000_000_000;

    fn session(last_ts: i64, ended: bool) -> SessionSummary {
        let id = SessionId::from_bytes([7; 16]);
        SessionSummary {
            ended,
            user: Some("alice".into()),
            ..SessionSummary::new(id, Timestamp::from_micros(last_ts))
        }
    }

    #[test]
    fn a_session_without_an_end_may_go_on_for_a_day() {
        let args = ContentArgs {
            session: vec!["07".into()],
            user: vec!["alice".into()],
            reason: "asked for".into(),
            by: None,
        };
        for (last_ts, ended, may_go_on) in [
            (NOW - 1_000_000, false, true),
            (NOW - 1_000_000, true, false),
            (NOW - OPEN_MICROS_MAX, false, false),
        ] {
            let now = Timestamp::from_micros(NOW);
            let found = wanted(&args, &[session(last_ts, ended)], now).unwrap();
            assert_eq!(found.len(), 1, "named twice");
            assert_eq!(found[0].may_go_on, may_go_on);
        }
    }

    #[test]
    fn of_a_session_of_which_nobody_knows_whose_it_is_every_hold_counts() {
        let of = |user: Option<&str>, is_known| Wanted {
            session: SessionId::from_bytes([7; 16]),
            user: user.map(str::to_owned),
            may_go_on: false,
            is_known,
        };
        let hold = RecorderHold {
            hold_id: "case-7".into(),
            held: true,
            held_session: None,
            held_user: Some("bob".into()),
            case: None,
            by: "dana".into(),
            reason: "court".into(),
        };
        for (wanted, all_was_read, refused) in [
            (of(Some("alice"), true), true, false),
            (of(Some("bob"), true), true, true),
            (of(None, true), true, false),
            (of(None, true), false, true),
            (of(None, false), true, true),
        ] {
            let answer = refuse_held(
                std::slice::from_ref(&wanted),
                std::slice::from_ref(&hold),
                all_was_read,
            );
            assert_eq!(answer.is_err(), refused, "{wanted:?} {all_was_read}");
        }
    }
}
