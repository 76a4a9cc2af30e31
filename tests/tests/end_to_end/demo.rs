//! `hoop demo`, as a new user runs it.

use anyhow::{Result, ensure};
use hoop_tests::testbed::{Answer, Need};

use crate::harness::{Test, api_server, tests, this_run};
use crate::pipeline::hoop;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = tests![&[]; the_demo_does_what_it_shows];
    tests.extend(tests![&[Need::Kubernetes]; the_demo_works_on_a_real_api_server]);
    // It shows a watch for a few seconds and wants to see something in them.
    tests.into_iter().map(Test::alone).collect()
}

fn ensure_shows_all(answer: Answer, data: &std::path::Path) -> Result<()> {
    let shown = answer.expect_success()?;
    for part in [
        "events/v1/class=",
        ".parquet",
        "hoop-masked",
        "(Forbidden)",
        "SESSION",
        "asked, decided, answered",
        "proven: nothing is missing",
        "replay show",
        "replay list",
        "All of it happened",
    ] {
        ensure!(shown.contains(part), "{part} is missing:\n{shown}");
    }
    let verified = Answer::of(
        hoop().args(["replay", "--data"]).arg(data).arg("verify"),
        "",
    )?;
    ensure!(verified.success, "{verified:?}");
    Ok(())
}

fn the_demo_does_what_it_shows() -> Result<()> {
    let data = this_run()?.folder().join("demo");
    let answer = Answer::of(hoop().args(["demo", "--data"]).arg(&data), "")?;
    ensure_shows_all(answer, &data)
}

fn the_demo_works_on_a_real_api_server() -> Result<()> {
    let server = api_server()?;
    let data = this_run()?.folder().join("demo-upstream");
    let mut command = hoop();
    command
        .args(["demo", "--data"])
        .arg(&data)
        .arg("--upstream")
        .arg(server.admin_kubeconfig());
    ensure_shows_all(Answer::of(&mut command, "")?, &data)
}
