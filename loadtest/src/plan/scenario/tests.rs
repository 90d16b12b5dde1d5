use std::{fs, path::PathBuf, time::Duration};

use super::*;
use crate::{
    golden::golden,
    plan::{
        Greeting, Load,
        flow::{Message, Rounds, Step},
        size::Size,
        template::Frame,
    },
};

const PHASE: &str = "[[phase]]\nduration = \"10s\"\nusers = 20\n";

fn plan(text: &str) -> Plan {
    read(text, "my.toml").unwrap_or_else(|error| panic!("{error}"))
}

/// The line and column at which `text` is wrong, and the message.
fn wrong(text: &str) -> (usize, usize, String) {
    match read(text, "my.toml") {
        Err(ScenarioError::Wrong {
            line, column, what, ..
        }) => (line, column, what),
        other => panic!("{text}: {other:?}"),
    }
}

fn json(text: &str) -> serde_json::Value {
    let value: toml::Value = toml::from_str(text).expect("TOML");
    serde_json::to_value(value).expect("JSON has all that these files use")
}

#[test]
fn the_schema_is_that_of_the_types() {
    let schema = schemars::schema_for!(file::File);
    golden(
        "scenarios/schema.json",
        &format!("{:#}\n", schema.as_value()),
    );
}

#[test]
fn the_schema_fits_the_scenarios_that_can_be_played() {
    let schema = serde_json::from_str(SCHEMA).expect("JSON");
    let validator = jsonschema::draft202012::new(&schema).expect("a schema");
    for (name, text) in BUILT_IN.iter().chain(&[("example", EXAMPLE)]) {
        let file = json(text);
        let errors = validator.iter_errors(&file);
        let errors: Vec<_> = errors
            .map(|error| format!("{name}: {}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
}

#[test]
fn schema_and_reader_refuse_the_same_wrong_files() {
    let schema = serde_json::from_str(SCHEMA).expect("JSON");
    let validator = jsonschema::draft202012::new(&schema).expect("a schema");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/scenarios/wrong");
    let mut seen = 0;
    for file in fs::read_dir(folder).expect("the folder is there") {
        let path = file.expect("readable").path();
        let text = fs::read_to_string(&path).expect("text");
        assert!(
            !validator.is_valid(&json(&text)),
            "the schema allows {path:?}"
        );
        assert!(read(&text, "my.toml").is_err(), "{path:?} can be read");
        seen += 1;
    }
    assert!(seen >= 10, "{seen} files");
}

#[test]
fn every_built_in_scenario_and_the_example_can_be_played() {
    for &(name, text) in BUILT_IN {
        let plan = read(text, name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(plan.name, name);
        assert!(
            !plan.description.is_empty(),
            "{name} says nothing of itself"
        );
    }
    assert_eq!(plan(EXAMPLE).name, "example");
}

#[test]
fn a_short_file_is_enough() {
    let plan = plan(&format!("name = \"short\"\n{PHASE}"));
    assert_eq!(plan.users_at(Duration::from_secs(9)), 19);
    assert_eq!(plan.greeting, Greeting::Type("session".to_owned()));
    assert_eq!(plan.flows[0].name, "signaling");
    assert_eq!(plan.thresholds, []);
}

#[test]
fn everything_in_a_file_is_in_the_plan() {
    let plan = plan(
        r#"
name = "all"
greeting = "none"
thresholds = ["message_latency p99 < 50ms"]
timeouts = { connect = "1s", match = "2s", message = "3s" }
[variables]
n = [1, 2]
[message.say]
frame = "binary"
text = "{{n}} {{payload}}"
size = "200..300"
[[phase]]
name = "come"
duration = "10s"
arrival_rate = "5/s"
ramp_to = 8
[[phase]]
duration = "0s"
users = 3
[[phase]]
duration = "1s"
users = 3
drop = "50%"
[[flow]]
name = "talk"
weight = 2
reconnect = true
rematch = false
steps = ["connect", { loop = "1m", steps = [{ send = "say", every = "1s", times = 4 }] }, { http = "/health" }]
"#,
    );
    assert_eq!(plan.greeting, Greeting::None);
    let timeouts = [
        plan.connect_timeout,
        plan.match_timeout,
        plan.message_timeout,
    ];
    assert_eq!(timeouts, [1, 2, 3].map(Duration::from_secs));
    assert_eq!(plan.phases[0].load, Load::Arrivals { from: 5.0, to: 8.0 });
    assert_eq!(plan.phases[1].load, Load::Users { from: 0, to: 3 });
    assert_eq!(
        (plan.phases[2].drop_percent, &*plan.phases[2].name),
        (50.0, "phase 3")
    );
    let flow = &plan.flows[0];
    assert_eq!(
        (flow.weight, flow.reconnect, flow.rematch),
        (2, true, false)
    );
    let Step::Loop { rounds, steps } = &flow.steps[1] else {
        panic!("{:?}", flow.steps[1]);
    };
    assert_eq!(*rounds, Rounds::For(Duration::from_secs(60)));
    let Step::Send {
        message: Message::Custom { frame, size, .. },
        rounds,
        ..
    } = &steps[0]
    else {
        panic!("{:?}", steps[0]);
    };
    assert_eq!(
        (*frame, size.clone(), *rounds),
        (Frame::Binary, Size::Between(200, 300), Rounds::Times(4))
    );
    assert_eq!(plan.calls(), ["GET /health"]);
}

#[test]
fn a_request_over_http_is_what_the_file_says() {
    let plan = plan(&format!(
        r#"
name = "asking"
{PHASE}
[[flow]]
name = "ask"
steps = [
    {{ http = "/a?key=1", text = '{{"u":{{{{user}}}}}}', save = {{ token = "/t/0" }} }},
    {{ http = "https://[::1]:5/b?{{{{token}}}}", method = "PUT", status = 201, within = "2s" }},
    {{ http = "http://h" }},
]
"#
    ));
    let requests: Vec<_> = plan.flows[0]
        .steps
        .iter()
        .map(|step| match step {
            Step::Http(request) => request,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        plan.calls(),
        ["POST /a", "PUT https://[::1]:5/b", "GET http://h"]
    );
    let first = requests[0];
    assert_eq!(first.save, [("token".to_owned(), "/t/0".to_owned())]);
    assert!(first.body.is_some() && first.origin.is_none());
    assert_eq!(
        (requests[1].status, requests[1].within),
        (201, Duration::from_secs(2))
    );
    let ports: Vec<_> = plan
        .origins()
        .iter()
        .map(|it| (it.is_tls(), it.port))
        .collect();
    assert_eq!(ports, [(true, 5), (false, 80)]);
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_column() {
    let flow = |steps: &str| {
        format!("name = \"x\"\n{PHASE}[[flow]]\nname = \"f\"\nsteps = [\n{steps}\n]\n")
    };
    let files = [
        (
            "name = \"x\"\nusers = 3\n".to_owned(),
            (2, 1),
            "unknown field",
        ),
        ("name = \"x".to_owned(), (1, 10), "string"),
        (
            "name = \"x\"\n[[phase]]\nduration = \"5\"\n".to_owned(),
            (3, 12),
            "10ms, 5s",
        ),
        (
            "name = \"x\"\n[[phase]]\nduration = \"5s\"\n".to_owned(),
            (2, 1),
            "arrival_rate",
        ),
        (
            format!("name = \"x\"\n{PHASE}arrival_rate = 3\n"),
            (2, 1),
            "not both",
        ),
        (
            format!("name = \"x\"\nthresholds = [\n\"errors count < 1\",\n\"speed < 3\"]\n{PHASE}"),
            (4, 1),
            "speed",
        ),
        (
            format!("name = \"x\"\nthresholds = [\"call_latency{{a}} p99 < 1s\"]\n{PHASE}"),
            (2, 15),
            "neither a call",
        ),
        (
            format!("name = \"x\"\nthen = [\"stres\"]\n{PHASE}"),
            (2, 9),
            "stres",
        ),
        (
            format!("name = \"a\\u0007\"\n{PHASE}"),
            (1, 8),
            "no control characters",
        ),
        (
            format!("name = \"x\"\n{PHASE}name = \"y\"\n{PHASE}name = \"y\"\n"),
            (6, 1),
            "another \"y\"",
        ),
        (
            format!(
                "{}[[flow]]\nname = \"f\"\nsteps = [\"connect\"]\n",
                flow("\"connect\"")
            ),
            (10, 1),
            "another \"f\"",
        ),
        (
            "name = \"x\"\n[[phase]]\nduration = \"5s\"\nusers = 0\n".to_owned(),
            (2, 1),
            "0 users",
        ),
        (
            flow("\"connect\",\n\"find_match\", { send = \"offer\", times = 10000 }"),
            (9, 15),
            "fewer `times`",
        ),
        (flow("\"connect\",\n\"find_mtach\""), (9, 1), "find_match"),
        (
            flow("\"connect\",\n{ send = \"hello\" }"),
            (9, 1),
            "[message.hello]",
        ),
        (flow("\"connect\",\n\"next\""), (9, 1), "find_match"),
        (
            flow("\"connect\",\n{ loop = 2, steps = [\n\"leave\"] }"),
            (9, 1),
            "think",
        ),
        (
            flow("\"connect\", { loop = 2, steps = [{ think = \"1s\" },\n\"leave\"] }"),
            (9, 1),
            "find_match",
        ),
        (
            flow("\"connect\",\n{ think = \"soon\" }"),
            (9, 11),
            "10ms, 5s",
        ),
        (
            format!("name = \"x\"\ntransport = \"udp\"\n{PHASE}"),
            (2, 13),
            "ws, sse, poll or mixed",
        ),
        (
            format!("name = \"x\"\ntransport = \"sse\"\nresume = false\n{PHASE}"),
            (2, 13),
            "take `resume = false` out",
        ),
        (
            format!("name = \"x\"\n{PHASE}block = \"sse\"\n"),
            (2, 1),
            "add `resume = true`",
        ),
        (
            format!("name = \"x\"\nresume = true\n{PHASE}block = [\"ws\", \"sse\", \"poll\"]\n"),
            (3, 1),
            "lets nobody in",
        ),
        (
            format!("name = \"x\"\n{PHASE}block = \"tcp\"\n"),
            (5, 9),
            "give ws, sse or poll",
        ),
        (
            format!("name = \"x\"\nresume = true\ngreeting = \"none\"\n{PHASE}"),
            (4, 1),
            "greets with `session`",
        ),
        (
            flow("\"connect\",\n{ join_room = \"a\" }"),
            (9, 1),
            "members = 8",
        ),
        (
            flow("\"connect\",\n{ join_room = \"a b\", members = 8 }"),
            (9, 1),
            "A-Z, a-z",
        ),
        (
            flow("\"connect\",\n{ join_room = \"a\", members = 21 }"),
            (9, 1),
            "2 to 20",
        ),
        (
            flow("\"connect\", { join_room = \"a\", members = 8 },\n\"find_match\""),
            (9, 1),
            "\"leave\" before it",
        ),
        (
            flow("\"connect\", { join_room = \"a\", members = 8 },\n{ send = \"offer\" }"),
            (9, 1),
            "only `message`",
        ),
        (flow("{ http = \"health\" }"), (8, 1), "/health"),
        (
            flow("{ http = \"ftp://h/x\" }"),
            (8, 1),
            "https://api.example.org",
        ),
        (
            flow("{ http = \"/\", method = \"FETCH\" }"),
            (8, 1),
            "not a method",
        ),
        (
            flow("{ http = \"/\", method = \"GET\", text = \"a\" }"),
            (8, 1),
            "no `text`",
        ),
        (
            flow("{ http = \"/\", save = { token = \"token\" } }"),
            (8, 1),
            "\"/token\"",
        ),
        (
            flow("{ http = \"/\", save = { user = \"/user\" } }"),
            (8, 1),
            "another name",
        ),
        (
            flow("{ connect = \"/?{{token}}\" },\n{ http = \"/\", save = { token = \"/t\" } }"),
            (8, 1),
            "saves it before",
        ),
        (
            flow("\"connect\",\n{ connect = \"/?{{token}}\" }"),
            (9, 1),
            "{{token}}",
        ),
        (
            flow("\"connect\",\n{ http = \"/\", text = \"{{payload}}\" }"),
            (9, 1),
            "for messages",
        ),
        (
            format!("name = \"x\"\n{PHASE}[message.a]\ntext = \"{{{{b}}}}\"\n"),
            (5, 1),
            "{{b}}",
        ),
    ];
    for (text, place, part) in files {
        let (line, column, what) = wrong(&text);
        assert!(what.contains(part), "{what}\n{text}");
        assert_eq!((line, column), place, "{what}\n{text}");
    }
}

#[test]
fn an_error_shows_the_line_it_is_about() {
    let error = read("name = \"x\"\n[[phase]]\nduration = 'ä' # so\n", "my.toml").expect_err("bad");
    let shown = error.to_string();
    assert!(shown.starts_with("my.toml:3:12: "), "{shown}");
    assert!(
        shown.ends_with("    3 | duration = 'ä' # so\n      |            ^"),
        "{shown}"
    );
}

#[test]
fn no_file_makes_it_panic() {
    for text in [
        "",
        "\u{0}",
        "[[phase]]",
        "name = 1",
        "name = \"x\"\n[[phase]]\nduration = \"9999999999h\"\nusers = 4294967295\n",
    ] {
        assert!(read(text, "my.toml").is_err(), "{text:?}");
    }
}

#[test]
fn an_unknown_name_is_told_those_that_are_known() {
    let error = load("conection").expect_err("unknown").to_string();
    assert!(
        error.contains("conection") && error.contains("reconnect-storm"),
        "{error}"
    );
}

#[test]
fn rates_are_told_as_people_say_them() {
    for (load, words) in [
        ("\"10/m\"", "10 users arrive each minute"),
        ("1", "1 user arrives each second"),
        ("\"50/s\"", "50 users arrive each second"),
        (
            "\"30/m\"\nramp_to = \"2/s\"",
            "30 to 120 users arrive each minute",
        ),
        ("0.3331", "0.33 users arrive each second"),
    ] {
        let text = format!("name = \"x\"\n[[phase]]\nduration = \"9m\"\narrival_rate = {load}\n");
        let told = describe(&plan(&text));
        assert!(told.contains(words), "{told}");
    }
}
