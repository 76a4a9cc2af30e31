//! `hoop-replay hold add`.

use hoop_schema::kinds::recorder::RecorderHold;
use hoop_schema::{EventHash, SessionId};
use hoop_sinks::store::EvidenceStore;

use super::outcome::{Done, report};
use super::work::{Work, lock};
use super::{AddArgs, of_hold};
use crate::cli::Run;
use crate::exit::{ExitCode, Failure};

/// Characters of a case's name, so that the names of its holds fit behind it.
const CASE_MAX: usize = 40;

/// Characters of a user's name in the name of a hold; its hash comes after.
const USER_CHARS: usize = 12;

/// Digits of a session's id in the name of a hold.
const SESSION_DIGITS: usize = 16;

pub(super) async fn run(
    run: &mut Run,
    store: &dyn EvidenceStore,
    args: &AddArgs,
) -> Result<ExitCode, Failure> {
    let targets = args.session.len() + args.user.len();
    if targets == 0 && args.case.is_none() {
        return Err(Failure::usage(
            "say what to hold: --session ID, --user NAME, or --case NAME to complete the holds of a case",
        ));
    }
    if args.name.is_some() && targets != 1 {
        return Err(Failure::usage(
            "--name is for one hold; leave it out where several are set",
        ));
    }
    if args.case.as_ref().is_some_and(|case| case.len() > CASE_MAX) {
        return Err(Failure::usage(format!(
            "the name of a case has at most {CASE_MAX} characters"
        )));
    }
    let mut work = Work::begin(run, store, args.by.as_ref()).await?;
    let whole = |id: &String| id.trim().parse::<SessionId>().is_ok();
    if !args.session.iter().all(whole) {
        work.read(run).await?;
    }
    let wanted = wanted(&work, store, args).await?;
    // The events first: a hold of which not every object is locked yet is known, and kept by the recorder.
    let holds = work.holds(store);
    let mut set = Vec::new();
    for hold in wanted {
        let change = holds
            .set(hold.clone(), run.clock.now)
            .await
            .map_err(of_hold)?;
        set.push((hold, change));
    }
    work.read(run).await?;
    let mut all = Vec::new();
    for (hold, change) in set {
        let files: Vec<_> = work.holdings.files_of(&hold).cloned().collect();
        let (objects, failed) = match work.store_locks {
            true => lock(run, store, &files, &[], true).await,
            false => (0, Vec::new()),
        };
        all.push(Done::of(&work, hold, change, &files, objects, failed));
    }
    work.tell_unreadable();
    report(run, store, &all, true)
}

/// The holds that are asked for.
async fn wanted(
    work: &Work,
    store: &dyn EvidenceStore,
    args: &AddArgs,
) -> Result<Vec<RecorderHold>, Failure> {
    let mut wanted = Vec::new();
    let mut want = |session: Option<SessionId>, user: Option<&String>| {
        let made = hold_name(args.case.as_deref(), session, user.map(String::as_str));
        wanted.push(RecorderHold {
            hold_id: args.name.clone().unwrap_or(made),
            held: true,
            held_session: session,
            held_user: user.cloned(),
            case: args.case.clone(),
            by: work.by.clone(),
            reason: args.reason.clone(),
        });
    };
    for id in &args.session {
        want(Some(work.session(id)?), None);
    }
    for user in &args.user {
        want(None, Some(user));
    }
    if let Some(case) = args.case.as_ref().filter(|_| wanted.is_empty()) {
        let in_force = work.holds(store).in_force().await.map_err(of_hold)?;
        wanted = in_force;
        wanted.retain(|hold| hold.case.as_ref() == Some(case));
        if wanted.is_empty() {
            return Err(Failure::not_found(format!(
                "case {case} has no hold in force: say what it holds with --session ID or --user NAME"
            )));
        }
    }
    Ok(wanted)
}

/// The name that a hold of this target has, the same whenever it is asked for.
fn hold_name(case: Option<&str>, session: Option<SessionId>, user: Option<&str>) -> String {
    let target = match (session, user) {
        (Some(session), _) => session.to_string().chars().take(SESSION_DIGITS).collect(),
        (None, user) => {
            let user = user.unwrap_or_default();
            let plain = user.chars().map(|c| c.to_ascii_lowercase());
            let plain: String = plain
                .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
                .take(USER_CHARS)
                .collect();
            let hash: String = EventHash::of(user.as_bytes()).to_string();
            format!("{plain}-{}", &hash[..8])
        }
    };
    match (case, session) {
        (Some(case), _) => format!("{case}-{target}"),
        (None, Some(_)) => format!("session-{target}"),
        (None, None) => format!("user-{target}"),
    }
}
