//! The table of the API server's behaviour, and what the gateway makes of it.

use super::*;

#[test]
fn named_get_is_a_resource_request() {
    let info = parse("GET", "/api/v1/namespaces/shop/secrets/db").expect("a plain request");
    assert_eq!(info.verb, "get");
    assert_eq!(
        (info.namespace(), info.resource(), info.name()),
        ("shop", "secrets", "db")
    );
}
