//! The examples of `docs/policy.md` and `docs/masking.md`.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::mask::{DETECTORS, MaskHint, MaskKey, Masker};
use crate::policy::cases::Cases;

fn page(name: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name);
    std::fs::read_to_string(page).unwrap()
}

fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let blocks = page.split(fence.as_str()).skip(1);
    blocks
        .map(|block| block.split_once("```").unwrap().0)
        .collect()
}

/// Reads every policy of a page and runs the cases after it; how many policies and requests those were, and the last
/// policy.
fn try_all(page: &str) -> (usize, usize, Policy) {
    let (mut policy, mut policies, mut tested) = (None, 0, 0);
    for block in blocks(page, "yaml") {
        if block.starts_with("cases:") {
            let cases = Cases::parse(block).unwrap_or_else(|errors| panic!("{errors}\n{block}"));
            let results = cases.run(policy.as_ref().expect("a policy comes first"));
            let failures: Vec<_> = results.iter().filter(|r| r.failure.is_some()).collect();
            assert!(failures.is_empty(), "{failures:#?}");
            tested += results.len();
        } else {
            let read = Policy::parse(block).unwrap_or_else(|errors| panic!("{errors}\n{block}"));
            assert_eq!(read.lints(), [], "{block}");
            policy = Some(read);
            policies += 1;
        }
    }
    (policies, tested, policy.expect("there is a policy"))
}

#[test]
fn every_example_of_the_page_is_a_good_policy_and_passes_the_tests_after_it() {
    let page = page("policy.md");
    let (policies, tested, _) = try_all(&page);
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

#[test]
fn the_page_about_masking_says_what_happens() {
    let page = page("masking.md");
    let (_, tested, policy) = try_all(&page);
    assert_eq!(tested, 2);
    let dev = user("dev", &["developers"]);
    let target = "/api/v1/namespaces/shop/configmaps/shop";
    let verdict = decide(&policy, &dev, "GET", target);
    let rules = verdict.masking.unwrap();
    let [before, after] = blocks(&page, "json")[..] else {
        panic!("an object, and what becomes of it");
    };
    let key = Arc::new(MaskKey::from_bytes([7; 32]));
    let masker = Masker::new(MaskHint::Other, verdict.mask, key);
    let mut masker = masker.with_rules(rules.client(), "configmaps");
    let mut out = Vec::new();
    masker.push(before.as_bytes(), &mut out).unwrap();
    masker.finish(&mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), after);
    for detector in &DETECTORS {
        let row = format!("| `{}` | {} |", detector.name(), detector.about());
        assert!(page.contains(&row), "{row}");
    }
}
