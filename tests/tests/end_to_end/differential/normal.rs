//! Takes out of a text what differs from one run to the next.

use std::sync::LazyLock;

use regex::Regex;

/// What is replaced, in this order. Names that the API server makes up have no vowels, so that they spell nothing.
static REPLACED: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let patterns = [
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UID"),
        (
            r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| ?[+-]\d\d:?\d\d)",
            "TIME",
        ),
        (
            r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} [\d:]{8} [+-]\d{4}",
            "TIME",
        ),
        (r#"(resourceVersion"?: )"?\d+"?"#, "${1}VERSION"),
        (r"127\.0\.0\.1:\d+", "SERVER"),
        (r"10\.88\.\d+\.\d+", "POD-ADDRESS"),
        (r"10\.0\.0\.\d+", "SERVICE-ADDRESS"),
        (r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "TOKEN"),
        (r"\b[0-9a-f]{64}\b", "DIGEST"),
        (r"(LIVE|MERGED)-\d+", "$1"),
        (
            r"(-[bcdfghjklmnpqrstvwxz2456789]{6,10})?-[bcdfghjklmnpqrstvwxz2456789]{5}\b",
            "-RANDOM",
        ),
        (r"\(x\d+ over [^)]*\)", ""),
        (r"\b(\d+[dhms]){1,2}\b|<invalid>", "AGE"),
        // kubectl ends with the file, and does not always wait for what tar says about it, gateway or not.
        (r"(?m)^tar: removing leading '/' from member names\n", ""),
        // client-go ends a watch that it is done with in the middle of an event, now and then, and warns of that itself.
        (
            r#"(?m)^[IWE]\d{4} .*watch ended with error.*context canceled.*\n"#,
            "",
        ),
        // Columns are as wide as what was just replaced.
        (r"[ \t]+", " "),
        (r"(?m) $", ""),
    ];
    patterns
        .map(|(pattern, by)| (Regex::new(pattern).expect("the pattern is a literal"), by))
        .into()
});

/// The text without what differs.
pub(super) fn form(text: &str, side: &str) -> String {
    let mut text = text.replace(side, "SIDE");
    for (pattern, by) in REPLACED.iter() {
        text = pattern.replace_all(&text, *by).into_owned();
    }
    text
}
