//! The examples of `docs/policy.md`.

use std::path::Path;

use super::*;
use crate::policy::cases::Cases;

#[test]
fn every_example_of_the_page_is_a_good_policy_and_passes_the_tests_after_it() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policy.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (mut policy, mut policies, mut tested) = (None, 0, 0);
    for block in page.split("```yaml\n").skip(1) {
        let (block, _) = block.split_once("```").unwrap();
        if block.starts_with("profiles:") {
            let read = Policy::parse(block).unwrap_or_else(|errors| panic!("{errors}\n{block}"));
            assert_eq!(read.lints(), [], "{block}");
            policy = Some(read);
            policies += 1;
        } else {
            let cases = Cases::parse(block).unwrap_or_else(|errors| panic!("{errors}\n{block}"));
            let results = cases.run(policy.as_ref().expect("a policy comes first"));
            let failures: Vec<_> = results.iter().filter(|r| r.failure.is_some()).collect();
            assert!(failures.is_empty(), "{failures:#?}");
            tested += results.len();
        }
    }
    assert!(
        policies >= 3 && tested >= 14,
        "{policies} policies, {tested} requests"
    );
    for code in LintCode::ALL {
        assert!(
            page.contains(&format!("| `{}` |", code.as_str())),
            "{code:?}"
        );
    }
}
