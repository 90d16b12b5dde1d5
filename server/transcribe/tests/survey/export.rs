//! What a spreadsheet reads of the answers.

use serde_json::json;
use voicematch_transcribe::survey::Format;

use crate::{
    help::{engine, name, record},
    memory::Memory,
};

const SURVEY: &str = r#"
id = "notes"
languages = ["en"]
[[question]]
id = "note"
type = "text"
text = { en = "What else?" }
[[question]]
id = "change"
type = "number"
min = -9
max = 9
text = { en = "Better or worse?" }
"#;

#[tokio::test]
async fn no_text_is_a_formula_and_numbers_stay_numbers() {
    let texts = [
        (
            r#"=HYPERLINK("http://a.example","x")"#,
            r#""'=HYPERLINK(""http://a.example"",""x"")""#,
        ),
        ("+1+1", "'+1+1"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\u{ff1d}1", "'\u{ff1d}1"),
        ("1=1", "1=1"),
        ("'quoted'", "'quoted'"),
    ];
    for (text, cell) in texts {
        let memory = Memory::new();
        let engine = engine(&memory, SURVEY);
        let begun = engine.start("notes", Some(name(text)), None, None);
        let interview = begun.await.unwrap().interview;
        for (value, request) in [(json!(text), text), (json!(-3), "2")] {
            record(&engine, interview, value, request).await.unwrap();
        }
        let mut export = engine.export("notes", Format::Csv).await.unwrap();
        let csv = export.next().await.unwrap().unwrap();
        let rows: Vec<_> = csv.lines().skip(1).collect();
        assert!(rows[0].contains(&format!(",{cell},en,")), "{csv}");
        assert!(
            rows[0].contains(&format!(",note,1,true,{cell},,{cell},")),
            "{csv}"
        );
        assert!(rows[1].contains(",change,1,true,-3,,2,"), "{csv}");
        // For programs it is as it was said.
        let mut export = engine.export("notes", Format::JsonLines).await.unwrap();
        let lines = export.next().await.unwrap().unwrap();
        let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert_eq!(first["value"], text);
    }
}

#[tokio::test]
async fn an_export_goes_on_behind_an_interview() {
    let memory = Memory::new();
    let engine = engine(&memory, SURVEY);
    for number in 0..150 {
        let begun = engine.start("notes", None, None, None).await;
        let interview = begun.unwrap().interview;
        let value = json!(number.to_string());
        record(&engine, interview, value, "1").await.unwrap();
    }
    let export = async || engine.export("notes", Format::JsonLines).await.unwrap();
    let mut all = String::new();
    let mut whole = export().await;
    let first = whole.next().await.unwrap().unwrap();
    assert_eq!((whole.answers(), first.lines().count()), (100, 100));
    let mut rest = export().await.behind(whole.last().unwrap());
    while let Some(piece) = whole.next().await.unwrap() {
        all.push_str(&piece);
    }
    assert_eq!((whole.answers(), whole.last()), (150, None));
    assert_eq!(rest.next().await.unwrap().as_ref(), Some(&all));
    assert_eq!(all.lines().count(), 50);
    assert_eq!(rest.next().await.unwrap(), None);
}
