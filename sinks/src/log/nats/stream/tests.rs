use std::time::Duration;

use super::*;

fn options() -> Options {
    Options::new(vec!["nats://localhost".to_owned()], "prod".to_owned())
}

fn names() -> Names {
    Names::new("prod", &Class::standard())
}

fn fit() -> Config {
    wanted(&names(), &options(), SourceId::from_bytes([1; 4]))
}

fn error_of(change: impl FnOnce(&mut Config)) -> String {
    let mut config = fit();
    change(&mut config);
    check(&config, &names(), &options())
        .unwrap_err()
        .to_string()
}

#[test]
fn what_is_created_is_fit() {
    let source = check(&fit(), &names(), &options()).unwrap();
    assert_eq!(source, SourceId::from_bytes([1; 4]));
}

#[test]
fn classes_and_clusters_do_not_share_names() {
    let name = |cluster, class| Names::new(cluster, &Class::new(class).unwrap()).stream;
    assert_ne!(name("a-b", "c"), name("a", "b-c"));
    assert_ne!(name("a_b", "c"), name("a", "b-c"));
    assert_eq!(&*name("prod", "standard"), "audit_prod_standard");
    assert_eq!(
        names().of_event(7, "session.start"),
        "audit.prod.standard.007.session.start"
    );
}

#[test]
fn larger_limits_than_wanted_are_fit() {
    let mut config = fit();
    config.max_age = Duration::ZERO;
    config.max_bytes = -1;
    config.num_replicas = 5;
    config.duplicate_window *= 2;
    check(&config, &names(), &options()).unwrap();
}

#[test]
fn what_can_be_mended_is_refused_with_one_command() {
    let error = error_of(|config| {
        config.num_replicas = 1;
        config.discard = DiscardPolicy::Old;
        config.deny_purge = false;
        config.max_age = Duration::from_secs(3600);
    });
    let command = "nats stream edit audit_prod_standard --replicas=3 --discard=new --deny-purge --max-age=604800s";
    assert!(error.contains(command), "{error}");
}

#[test]
fn each_setting_that_loses_events_is_named() {
    type Change = fn(&mut Config);
    let changes: [(Change, &str); 9] = [
        (|c| c.max_messages = 10, "--max-msgs=-1"),
        (
            |c| c.max_messages_per_subject = 1,
            "--max-msgs-per-subject=-1",
        ),
        (|c| c.max_message_size = 1000, "--max-msg-size=528384"),
        (|c| c.max_bytes = 1000, "--max-bytes=65536MiB"),
        (
            |c| c.duplicate_window = Duration::from_secs(120),
            "--dupe-window=600s",
        ),
        (|c| c.deny_delete = false, "--deny-delete"),
        (|c| c.allow_rollup = true, "--no-allow-rollup"),
        (|c| c.allow_direct = false, "--allow-direct"),
        (
            |c| c.subjects.push("orders.>".to_owned()),
            "--subjects=audit.prod.standard.>",
        ),
    ];
    for (change, flag) in changes {
        let error = error_of(change);
        assert!(error.contains(flag), "{flag}: {error}");
    }
}

#[test]
fn what_cannot_be_mended_is_to_be_created_anew() {
    type Change = fn(&mut Config);
    let changes: [(Change, &str); 4] = [
        (|c| c.storage = StorageType::Memory, "memory"),
        (|c| c.retention = RetentionPolicy::WorkQueue, "workqueue"),
        (|c| c.persist_mode = Some(PersistenceMode::Async), "async"),
        (|c| c.sealed = true, "sealed"),
    ];
    for (change, what) in changes {
        let error = error_of(change);
        assert!(
            error.contains(what) && error.contains("nats stream rm audit_prod_standard"),
            "{error}"
        );
    }
}

#[test]
fn a_stream_that_somebody_else_made_is_given_a_name() {
    let error = error_of(|config| config.metadata.clear());
    assert!(error.contains("--metadata=hoop-source="), "{error}");
    assert!(error.contains("--metadata=hoop-shards=8"), "{error}");
}

#[test]
fn the_number_of_shards_is_fixed() {
    let error = error_of(|config| {
        config
            .metadata
            .insert(SHARDS_KEY.to_owned(), "4".to_owned());
    });
    assert!(error.contains("has 4 shards, not 8"), "{error}");
}
