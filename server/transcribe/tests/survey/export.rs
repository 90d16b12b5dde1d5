//! What a spreadsheet reads of the answers.

use serde_json::json;
use voicematch_transcribe::{record::RowId, survey::Format};

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
async fn an_export_has_pieces_and_goes_on_behind_an_interview() {
    let memory = Memory::new();
    let engine = engine(&memory, SURVEY);
    let mut interviews = Vec::new();
    for number in 0..150 {
        let begun = engine.start("notes", None, None, None).await;
        interviews.push(begun.unwrap().interview);
        let value = json!(format!("{number} {}", "x".repeat(1_000)));
        record(&engine, interviews[number], value, "1")
            .await
            .unwrap();
    }
    interviews.sort();
    let lines = async |after: RowId| {
        let export = engine.export("notes", Format::JsonLines).await.unwrap();
        let (mut export, mut pieces) = (export.behind(after), Vec::new());
        while let Some(piece) = export.next().await.unwrap() {
            assert!(piece.len() < 70_000, "{}", piece.len());
            pieces.push(piece);
        }
        (pieces.len(), pieces.concat())
    };
    let (pieces, all) = lines(RowId(0)).await;
    assert_eq!((pieces, all.lines().count()), (3, 150));
    let (_, rest) = lines(interviews[99]).await;
    assert_eq!(rest.lines().count(), 50);
    assert!(all.ends_with(&rest));
}
