//! `hoop-replay hold release`.

use std::collections::BTreeSet;

use hoop_schema::evidence::SessionFileName;
use hoop_schema::kinds::recorder::RecorderHold;
use hoop_sinks::store::EvidenceStore;
use hoop_sinks::store::holds::KnownHold;

use super::outcome::{Done, report};
use super::work::{Work, lock};
use super::{ReleaseArgs, of_hold};
use crate::cli::Run;
use crate::evidence::StoredFile;
use crate::exit::{ExitCode, Failure};

pub(super) async fn run(
    run: &mut Run,
    store: &dyn EvidenceStore,
    args: &ReleaseArgs,
) -> Result<ExitCode, Failure> {
    let mut work = Work::begin(run, store, args.by.as_ref()).await?;
    let known = work.holds(store).known().await.map_err(of_hold)?;
    let meant = meant(&known, args)?;
    let holds = work.holds(store);
    let mut released = Vec::new();
    for hold in meant {
        let change = holds
            .release(&hold.hold_id, &work.by, &args.reason, run.clock.now)
            .await
            .map_err(of_hold)?;
        released.push((hold, change));
    }
    let others = holds.in_force().await.map_err(of_hold)?;
    work.read(run).await?;
    let others = others.iter().flat_map(|hold| work.holdings.files_of(hold));
    let kept: BTreeSet<String> = others.map(|file| file.name.to_string()).collect();
    let mut all = Vec::new();
    for (hold, change) in released {
        let files: Vec<_> = work.holdings.files_of(&hold).cloned().collect();
        let (still, free): (Vec<_>, Vec<_>) = files
            .iter()
            .cloned()
            .partition(|file| kept.contains(&file.name.to_string()));
        let (objects, failed) = match work.store_locks {
            true => lock(run, store, &free, &replaced_by(&work, &free), false).await,
            false => (0, Vec::new()),
        };
        let hold = RecorderHold {
            held: false,
            ..hold
        };
        let mut done = Done::of(&work, hold, change, &files, objects, failed);
        done.files_kept_by_others = still.len();
        all.push(done);
    }
    work.tell_unreadable();
    report(run, store, &all, false)
}

/// Session files that were held before their days were sealed into these: they could not leave.
fn replaced_by(work: &Work, free: &[StoredFile]) -> Vec<SessionFileName> {
    let sealed = |name: &SessionFileName| {
        free.iter().any(|file| {
            let same = (&file.name.class, &file.name.day) == (&name.class, &name.day);
            file.name.is_sealed() && same && file.name.shard == name.shard
        })
    };
    let replaced = work.replaced.iter().filter(|name| sealed(name));
    replaced.cloned().collect()
}

/// The holds that are to be released. Released ones are among them: what was broken off is completed.
fn meant(known: &[KnownHold], args: &ReleaseArgs) -> Result<Vec<RecorderHold>, Failure> {
    if let Some(unknown) = args
        .hold
        .iter()
        .find(|name| known.iter().all(|k| k.hold.hold_id != **name))
    {
        return Err(Failure::not_found(format!(
            "there is no hold {unknown}: see `hoop-replay hold list`"
        )));
    }
    let session = args.session.as_ref().map(|id| id.trim().to_lowercase());
    let is_meant = |hold: &RecorderHold| {
        let held_session = hold.held_session.map(|id| id.to_string());
        args.hold.contains(&hold.hold_id)
            || (args.case.is_some() && args.case == hold.case)
            || (args.user.is_some() && args.user == hold.held_user)
            || match (&session, &held_session) {
                (Some(digits), Some(id)) => !digits.is_empty() && id.starts_with(digits),
                _ => false,
            }
    };
    let meant: Vec<_> = known
        .iter()
        .map(|known| known.hold.clone())
        .filter(is_meant)
        .collect();
    if meant.is_empty() {
        return Err(Failure::not_found(
            "there never was such a hold: see `hoop-replay hold list --all`",
        ));
    }
    Ok(meant)
}
