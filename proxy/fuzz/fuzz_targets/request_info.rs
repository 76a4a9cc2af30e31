//! `METHOD TARGET`: parsing never panics, and what is accepted has nothing in it that could be read in two ways.
#![no_main]

use hoop_proxy::request_info::parse;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Some((method, target)) = text.split_once(' ') else {
        return;
    };
    let Ok(info) = parse(method, target) else {
        return;
    };
    assert!(!info.verb.is_empty());
    assert_eq!(info.is_resource, info.object.is_some());
    let Some(object) = &info.object else { return };
    assert!(!object.resource.is_empty() && !object.api_version.is_empty());
    for part in [
        &object.api_group,
        &object.api_version,
        &object.resource,
        &object.namespace,
        &object.subresource,
        &object.name,
    ] {
        assert!(
            !part.contains(['/', '%']) && part != "." && part != "..",
            "{object:?}"
        );
    }
    assert!(!(info.is_discovery() || info.is_health()));
});
