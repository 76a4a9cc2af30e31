//! Which days may be sealed, and which files go into which object. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hoop_schema::evidence::{SessionFileName, end_of_day};
use hoop_schema::{DAY_MICROS, Shard, SourceId, Timestamp};

/// Bytes of session files that go into one object at most; a little less comes out.
const OBJECT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Memory that the files of one object may take while they are merged, in bytes.
const MERGE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// What a file takes beside its own bytes: pages of its columns, unpacked. A small file is one page.
const PAGES_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// What a page grows to at most, by experience.
const PAGE_FACTOR: u64 = 16;

/// A session file as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: SessionFileName,
    pub(crate) bytes: u64,
}

/// Which series of positions a file belongs to.
pub(crate) type Series = (Shard, SourceId);

/// The day after; `None` after a day that does not exist.
pub(crate) fn day_after(day: &str) -> Option<String> {
    end_of_day(day).map(Timestamp::day)
}

/// Days of which there are files, that are not sealed, and that have been over for `after`, the oldest first. A day
/// whose files leave before sealing them pays (see `term`) is left alone.
pub(crate) fn days_to_seal(
    files: &[Listed],
    sealed: &BTreeSet<String>,
    after: Duration,
    term: Option<Duration>,
    now: Timestamp,
) -> Vec<String> {
    let micros = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
    let days: BTreeSet<&String> = files.iter().map(|file| &file.name.day).collect();
    let wanted = |day: &&&String| {
        let Some(end) = end_of_day(day) else {
            return false;
        };
        let age = now.as_micros().saturating_sub(end.as_micros());
        let stays = term.is_none_or(|term| age.saturating_add(DAY_MICROS) < micros(term));
        !sealed.contains(day.as_str()) && age >= micros(after) && stays
    };
    days.iter()
        .filter(wanted)
        .map(|day| (*day).clone())
        .collect()
}

/// The files of each object of a day, in order.
///
/// Part of the format: a sealing that broke off is taken up by whoever comes next, and that one has to make the same
/// objects. An object takes files as they follow each other, up to 256 MiB of them, and no more than can be merged in
/// 512 MiB, where each file takes its bytes and 16 times as many more, at most 2 MiB.
pub(crate) fn groups(files: Vec<Listed>) -> Vec<Vec<Listed>> {
    let mut series: BTreeMap<Series, Vec<Listed>> = BTreeMap::new();
    for file in files {
        let key = (file.name.shard, file.name.source);
        series.entry(key).or_default().push(file);
    }
    let mut groups = Vec::new();
    for mut files in series.into_values() {
        files.sort_by_key(|file| file.name.pos_from);
        let mut group: Vec<Listed> = Vec::new();
        let (mut bytes, mut memory) = (0u64, 0u64);
        for file in files {
            let takes = file.bytes + (file.bytes * PAGE_FACTOR).min(PAGES_BYTES_MAX);
            let fits = bytes + file.bytes <= OBJECT_BYTES_MAX && memory + takes <= MERGE_BYTES_MAX;
            if !fits && !group.is_empty() {
                groups.push(std::mem::take(&mut group));
                (bytes, memory) = (0, 0);
            }
            (bytes, memory) = (bytes + file.bytes, memory + takes);
            group.push(file);
        }
        groups.push(group);
    }
    groups
}

/// The newest file of every series.
pub(crate) fn newest(files: &[Listed]) -> BTreeMap<Series, u64> {
    let mut newest: BTreeMap<Series, u64> = BTreeMap::new();
    for Listed { name, .. } in files {
        let known = newest.entry((name.shard, name.source)).or_default();
        *known = (*known).max(name.pos_from);
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoop_schema::Class;

    fn file(day: &str, shard: u32, pos_from: u64, bytes: u64) -> Listed {
        let name = SessionFileName {
            class: Class::standard(),
            day: day.to_owned(),
            shard: Shard(shard),
            source: SourceId::from_bytes([1; 4]),
            pos_from,
        };
        Listed { name, bytes }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    fn days(now: &str, term: Option<Duration>) -> Vec<String> {
        let days = ["2026-11-20", "2026-11-21", "2026-02-31", "2026-11-22"];
        let files: Vec<Listed> = days.iter().map(|day| file(day, 0, 1, 1)).collect();
        let sealed = BTreeSet::from(["2026-11-20".to_owned()]);
        days_to_seal(
            &files,
            &sealed,
            3 * HOUR,
            term,
            format!("{now}Z").parse().unwrap(),
        )
    }

    #[test]
    fn a_day_is_sealed_once_it_has_been_over_for_a_while() {
        assert_eq!(days("2026-11-22T02:59:59.999999", None), [] as [&str; 0]);
        assert_eq!(days("2026-11-22T03:00:00.000000", None), ["2026-11-21"]);
        let two = ["2026-11-21", "2026-11-22"];
        assert_eq!(days("2026-11-29T03:00:00.000000", None), two);
        assert_eq!(days("1970-01-01T00:00:00.000000", None), [] as [&str; 0]);
    }

    #[test]
    fn a_day_that_leaves_soon_is_not_sealed() {
        let term = Some(48 * HOUR);
        assert_eq!(days("2026-11-22T23:00:00.000000", term), ["2026-11-21"]);
        assert_eq!(days("2026-11-23T00:00:00.000000", term), [] as [&str; 0]);
    }

    #[test]
    fn an_object_holds_files_of_one_shard_in_the_order_of_positions() {
        const MB: u64 = 1024 * 1024;
        let sizes = |files: Vec<Listed>| -> Vec<Vec<u64>> {
            let groups = groups(files);
            groups
                .iter()
                .map(|group| group.iter().map(|f| f.name.pos_from).collect())
                .collect()
        };
        let day = "2026-11-22";
        let files = vec![
            file(day, 1, 9, 1),
            file(day, 0, 7, 100 * MB),
            file(day, 0, 5, 100 * MB),
            file(day, 0, 6, 100 * MB),
            file(day, 0, 8, 300 * MB),
        ];
        assert_eq!(sizes(files), [vec![5, 6], vec![7], vec![8], vec![9]]);
        // Many small files take more memory than their bytes.
        let many = (0..400).map(|n| file(day, 0, n, MB)).collect();
        let lengths: Vec<usize> = sizes(many).iter().map(Vec::len).collect();
        assert_eq!(lengths, [170, 170, 60]);
        let tiny = (0..2000).map(|n| file(day, 0, n, 8 * 1024)).collect();
        assert_eq!(sizes(tiny).len(), 1);
    }
}
