use super::*;

#[test]
fn a_short_text_does_not_fill_the_memory() {
    let values = (0..1_000).map(|n| n.to_string()).collect();
    let known = Names {
        variables: [("v".to_owned(), values)].into(),
        ..Names::default()
    };
    assert!(Template::parse(&"{{v}}".repeat(50), &known).is_ok());
    let error = Template::parse(&"{{v}}".repeat(50_000), &known);
    assert_eq!(error, Err(TemplateError::TooMany));
}

fn values<'a>(user: u32, id: &'a str, payload: &'a str) -> Values<'a> {
    Values {
        user,
        seq: 7,
        run: 0xabc,
        now_ms: 1234,
        id,
        payload,
        saved: &[],
    }
}

fn names() -> Names {
    let lists = [
        ("answer", &["yes", "no"][..]),
        ("room", &["blue"]),
        ("none", &[]),
    ];
    let lists = lists.map(|(name, list)| {
        (
            name.to_owned(),
            list.iter().map(|&v| v.to_owned()).collect(),
        )
    });
    Names {
        variables: lists.into(),
        saved: ["token".to_owned()].into(),
    }
}

#[test]
fn blanks_are_filled_in() {
    let text = r#"{"a":"{{answer}}","r":"{{ room }}","u":{{user}},"n":{{seq}},"run":"{{run}}","t":{{now_ms}},"id":"{{id}}","p":"{{payload}}"}"#;
    let template = Template::parse(text, &names()).expect("good");
    assert_eq!(
        template.fill(&values(1, "i9", "pp")),
        r#"{"a":"no","r":"blue","u":1,"n":7,"run":"00000abc","t":1234,"id":"i9","p":"pp"}"#
    );
    assert!(template.fill(&values(2, "", "")).contains(r#""a":"yes""#));
    assert!(template.has_id() && template.has_payload());
}

#[test]
fn what_was_saved_is_filled_in_and_encoded_in_a_path() {
    let saved = [("token".into(), "a/b+ä&".into())];
    let values = Values {
        saved: &saved,
        ..values(1, "", "")
    };
    let template = Template::parse("/ws?a={{answer}}&t={{token}}", &names()).expect("good");
    assert_eq!(template.saved().collect::<Vec<_>>(), ["token"]);
    assert_eq!(template.fill(&values), "/ws?a=no&t=a/b+ä&");
    assert_eq!(template.fill_path(&values), "/ws?a=no&t=a%2Fb%2B%C3%A4%26");
    let saved = [("token".into(), "say \"hi\"\n".into())];
    let values = Values {
        saved: &saved,
        ..values
    };
    let message = Template::parse(r#"{"t":"{{token}}"}"#, &names()).expect("good");
    assert_eq!(message.fill(&values), r#"{"t":"say \"hi\"\n"}"#);
}

#[test]
fn a_text_without_blanks_is_itself() {
    for text in ["", "plain", "{ not a blank }", "}}"] {
        let template = Template::parse(text, &names()).expect("good");
        assert_eq!(template.fill(&values(1, "", "")), text);
        assert!(!template.has_id() && !template.has_payload());
    }
}

#[test]
fn what_cannot_be_filled_in_is_named() {
    let wrong = [
        ("{{user", TemplateError::Open),
        ("{{usr}}", TemplateError::Unknown("usr".to_owned())),
        ("{{none}}", TemplateError::NoValues("none".to_owned())),
    ];
    for (text, error) in wrong {
        assert_eq!(Template::parse(text, &names()), Err(error));
    }
    let open = TemplateError::Open.to_string();
    assert!(open.contains("{{") && open.contains("}}"), "{open}");
}

#[test]
fn the_requests_that_a_text_speaks_of_are_found() {
    let id = |user, n| call_id(9, user, n);
    let text = format!("{} {}{} vm0000", id(3, 70_000), id(4, 1), id(3, 2));
    assert_eq!(calls_in(&text, 9, 3), [70_000, 2]);
    assert!(calls_in(&text, 8, 3).is_empty());
    let cut = &id(3, 7)[..20];
    for text in ["", "vm", cut, &format!("{cut}ä€")] {
        assert!(calls_in(text, 9, 3).is_empty(), "{text}");
    }
}

#[test]
fn no_id_of_a_request_is_part_of_another() {
    let ids = [(1, 1), (1, 11), (11, 1), (0x11, 0)].map(|(user, n)| call_id(9, user, n));
    for (index, id) in ids.iter().enumerate() {
        let others = ids.iter().enumerate().filter(|(other, _)| *other != index);
        assert!(
            others
                .into_iter()
                .all(|(_, other)| !other.contains(id.as_str()))
        );
    }
}
