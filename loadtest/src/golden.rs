//! Texts against files that hold what they are to be; and so the reports of the example record.

pub mod example;

use std::{env, fs, path::PathBuf};

use crate::{record::Record, report::*};

/// Fails unless the file `name` of this crate holds `text`.
pub fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name);
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).expect("the golden file can be written");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "{name} differs from what it is to be: look at it, then set UPDATE_GOLDEN=1 to keep it\n{text}"
    );
}

#[test]
fn text_is_as_it_is_to_be() {
    let text = render(&example::everything(), Format::Text);
    let wide = text.lines().find(|line| line.chars().count() > 95);
    assert_eq!(wide, None);
    golden("src/golden/report.txt", &text);
}

#[test]
fn a_server_does_not_command_the_terminal() {
    let mut record = example::record();
    record.errors[0].kind = "\u{1b}[2Jgone".to_owned();
    assert!(render(&record, Format::Text).contains("  [2Jgone"));
}

#[test]
fn markdown_is_as_it_is_to_be() {
    let text = render(&example::everything(), Format::Markdown);
    assert!(text.len() < 20_000);
    golden("src/golden/report.md", &text);
}

#[test]
fn a_record_that_was_saved_renders_as_it_did_at_first() {
    let record = example::everything();
    let path = env::temp_dir().join(format!("record-{}.json", std::process::id()));
    write(&record, &path, Format::Json).expect("written");
    let again = read(&path).expect("read");
    fs::write(&path, "{\"schema_version\": 1}").expect("written");
    let old = read(&path).map(|_| ()).map_err(|error| error.to_string());
    fs::write(&path, "hello").expect("written");
    let other = read(&path).map(|_| ()).map_err(|error| error.to_string());
    fs::remove_file(&path).expect("removed");
    // Reading may round the last of a number's digits otherwise; no report shows as many.
    assert!(render(&again, Format::Html) == render(&record, Format::Html));
    assert!(old.is_err_and(|error| error.contains("layout 1 of a record")));
    assert!(other.is_err_and(|error| error.contains("not the JSON of a run")));
}

#[test]
fn a_record_of_before_calls_had_a_course_is_read() {
    let record = example::record();
    let mut json = serde_json::to_value(&record).expect("a record");
    for window in json["series"]["windows"].as_array_mut().expect("a list") {
        let window = window.as_object_mut().expect("a window");
        assert!(window.remove("answered").is_some() && window.remove("call").is_some());
    }
    let old: Record = serde_json::from_value(json).expect("it can be read");
    let html = render(&old, Format::Html);
    assert!(!html.contains("Call latency"), "there is nothing to draw");
    assert!(render(&record, Format::Html).contains("Call latency"));
}

#[test]
fn formats_are_told_by_the_end_of_a_name() {
    for (name, format) in [
        ("a.html", Some(Format::Html)),
        ("a.b.MD", Some(Format::Markdown)),
        ("a.json", Some(Format::Json)),
        ("a.csv", Some(Format::Csv)),
        ("a.txt", Some(Format::Text)),
        ("a.pdf", None),
        ("html", None),
    ] {
        assert_eq!(Format::of(name.as_ref()).ok(), format, "{name}");
    }
}

#[test]
fn csv_has_a_line_for_each_window_and_a_cell_for_each_name() {
    let record = example::record();
    let csv = render(&record, Format::Csv);
    assert_eq!(csv.lines().count(), record.series.windows.len() + 1);
    let mut cells = csv
        .replace("\"2,500 users\"", "a")
        .replace("\"hold 2,500\"", "b");
    cells = cells
        .replace("\"5,000 users\"", "c")
        .replace("\"hold 5,000\"", "d");
    assert!(cells.lines().all(|line| line.split(',').count() == 48));
}

/// With `REPORT_EXAMPLES=DIRECTORY`, leaves the example in every format there, to be looked at.
#[test]
fn every_format_renders() {
    let record = example::everything();
    for name in ["run.html", "run.md", "run.json", "run.csv", "run.txt"] {
        let format = Format::of(name.as_ref()).expect("known");
        let text = render(&record, format);
        assert!(text.ends_with('\n') || format == Format::Html, "{name}");
        if let Some(directory) = env::var_os("REPORT_EXAMPLES") {
            fs::write(PathBuf::from(directory).join(name), text).expect("written");
        }
    }
}

#[test]
fn of_users_who_only_ask_the_log_shows_the_calls() {
    let mut record = example::everything();
    record.delivery.clear();
    record.run.build = None;
    let text = render(&record, Format::Markdown);
    let row = text.lines().last().expect("a row");
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    let [_, date, build, _, rate, p95, errors, _, _] = cells[..] else {
        panic!("{row}");
    };
    assert_eq!((date, build), ("2026-03-02", "–"));
    assert!(rate.ends_with(" calls"), "{row}");
    assert!(p95.ends_with("ms"), "{row}");
    assert!(errors.ends_with(" %"), "{row}");
}
