//! The policies of `deploy/policies` and what their own tests say of them.

use std::path::Path;

use super::*;
use crate::policy::cases::Cases;

#[test]
fn every_sample_passes_its_own_cases_and_has_no_lint() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/policies");
    let mut samples = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(stem) = name.strip_suffix(".yaml").filter(|s| !s.ends_with(".test")) else {
            continue;
        };
        samples += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let policy = Policy::parse(&text).unwrap_or_else(|errors| panic!("{name}: {errors}"));
        assert_eq!(policy.lints(), [], "{name}");
        let cases = std::fs::read_to_string(folder.join(format!("{stem}.test.yaml")))
            .unwrap_or_else(|error| panic!("{name} has no tests: {error}"));
        let cases =
            Cases::parse(&cases).unwrap_or_else(|errors| panic!("{stem}.test.yaml: {errors}"));
        let results = cases.run(&policy);
        assert!(results.len() >= 4, "{stem}.test.yaml has too few cases");
        let failures: Vec<_> = results.iter().filter(|r| r.failure.is_some()).collect();
        assert!(failures.is_empty(), "{stem}.test.yaml: {failures:#?}");
    }
    assert!(samples > 20, "{samples} samples");
}
