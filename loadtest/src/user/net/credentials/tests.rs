use super::*;

#[test]
fn users_take_turns_with_tokens_and_all_have_the_headers() {
    let access = Access::default()
        .header("X-Tenant: blue")
        .and_then(|access| access.token("one"))
        .and_then(|access| access.token("two"))
        .expect("good");
    for (user, token) in [(0, "Bearer one"), (1, "Bearer two"), (2, "Bearer one")] {
        let mut headers = HeaderMap::new();
        access.add_headers(user, &mut headers);
        assert_eq!(headers["authorization"], token);
        assert_eq!(headers["x-tenant"], "blue");
    }
    assert!(!format!("{access:?}").contains("one"), "tokens are secrets");
}

#[test]
fn what_cannot_be_used_is_named_but_for_secrets() {
    let bad = |access: Result<Access, AccessError>| access.expect_err("bad").to_string();
    assert!(bad(Access::default().header("no colon")).contains("no colon"));
    let error = bad(Access::default().token("sec ret"));
    assert!(
        error.contains("--token") && !error.contains("sec"),
        "{error}"
    );
    assert!(bad(Access::default().with_source_ips("10.0.0")).contains("10.0.0.5"));
    let missing = Path::new("/dev/null/tokens");
    assert!(bad(Access::default().token_file(missing)).contains("/dev/null/tokens"));
    assert!(bad(Access::default().ca(missing)).contains("--ca"));
}
