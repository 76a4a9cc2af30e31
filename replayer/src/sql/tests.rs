use std::path::Path;

use hoop_schema::row::COLUMNS;

use super::*;

fn tables() -> Tables {
    Tables {
        place: "s3://YOUR-BUCKET".into(),
        classes: CLASSES_DEFAULT
            .split(',')
            .map(|class| class.parse().unwrap())
            .collect(),
        shards: SHARDS_DEFAULT,
    }
}

/// The copies below `deploy` are what is printed without a place. `UPDATE_SNAPSHOTS=1` writes them anew.
#[test]
fn the_copies_for_readers_are_what_is_printed() {
    for (path, printed) in [
        ("../deploy/duckdb/views.sql", duckdb("hoop-data/evidence")),
        ("../deploy/athena/tables.sql", athena(&tables())),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(&path, &printed).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap();
        assert!(
            kept == printed,
            "{} differs; UPDATE_SNAPSHOTS=1 writes it anew",
            path.display()
        );
    }
}

#[test]
fn every_column_of_the_files_is_in_both() {
    let (duckdb, athena) = (duckdb("x"), athena(&tables()));
    for column in COLUMNS {
        let name = column.name;
        assert!(duckdb.contains(&format!("  files.{name},\n")), "{name}");
        assert_eq!(athena.matches(&format!("  `{name}` ")).count(), 2, "{name}");
        assert_eq!(
            athena.matches(&format!("  files.{name},\n")).count(),
            2,
            "{name}"
        );
    }
}

#[test]
fn a_place_cannot_end_its_text() {
    assert!(duckdb("it's").contains("coalesce(getvariable('evidence'), 'it''s')"));
}

#[test]
fn statements_for_athena_can_be_taken_apart() {
    let printed = athena(&tables());
    let statements: Vec<&str> = printed.split(";\n").collect();
    let (last, statements) = statements.split_last().unwrap();
    assert_eq!((statements.len(), last.trim()), (8, ""));
    for statement in statements {
        assert_eq!(statement.matches("CREATE ").count(), 1, "{statement}");
        assert!(
            !statement.contains(';') || statement.contains("-- "),
            "{statement}"
        );
    }
}
