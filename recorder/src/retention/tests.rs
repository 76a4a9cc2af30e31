use super::*;

const DAYS: Duration = Duration::from_secs(10 * 86_400);

fn file(day: &str, shard: u32, source: u8, pos_from: u64) -> SessionFileName {
    SessionFileName {
        class: Class::standard(),
        day: day.to_owned(),
        shard: Shard(shard),
        source: SourceId::from_bytes([source; 4]),
        pos_from,
    }
}

fn due_at(files: &[SessionFileName], now: &str) -> Vec<u64> {
    let now = format!("{now}Z").parse().unwrap();
    due(files, SourceId::from_bytes([1; 4]), DAYS, now)
        .into_iter()
        .map(|(f, _)| f.pos_from)
        .collect()
}

#[test]
fn a_file_is_due_when_its_term_has_passed_since_the_end_of_its_day() {
    let files = [file("2026-11-01", 0, 1, 1), file("2026-11-01", 0, 1, 2)];
    assert_eq!(due_at(&files, "2026-11-11T23:59:59.999999"), [] as [u64; 0]);
    assert_eq!(due_at(&files, "2026-11-12T00:00:00.000000"), [1]);
}

#[test]
fn the_newest_file_of_each_shard_is_never_due() {
    let files = [
        file("2026-01-01", 0, 1, 5),
        file("2026-01-01", 1, 1, 3),
        file("2026-01-02", 1, 1, 4),
    ];
    assert_eq!(due_at(&files, "2030-01-01T00:00:00.000000"), [3]);
}

#[test]
fn files_of_a_log_that_is_gone_may_all_be_due() {
    let files = [file("2026-01-01", 0, 2, 5), file("2026-01-01", 0, 1, 6)];
    assert_eq!(due_at(&files, "2030-01-01T00:00:00.000000"), [5]);
}

#[test]
fn a_clock_that_goes_back_makes_nothing_due() {
    let files = [file("2026-11-01", 0, 1, 1), file("2026-11-01", 0, 1, 2)];
    assert_eq!(due_at(&files, "1970-01-01T00:00:00.000000"), [] as [u64; 0]);
}

#[test]
fn a_day_that_does_not_exist_is_kept() {
    let files = [file("2026-02-31", 0, 1, 1), file("2026-11-01", 0, 1, 2)];
    assert_eq!(due_at(&files, "2030-01-01T00:00:00.000000"), [] as [u64; 0]);
}
