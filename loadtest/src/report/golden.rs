//! Reports of the example record, against files that hold what they are to be.

use std::{env, fs, path::PathBuf};

use super::*;

fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("src/report/golden")
        .join(name);
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
    golden("report.txt", &text);
}

#[test]
fn markdown_is_as_it_is_to_be() {
    let text = render(&example::everything(), Format::Markdown);
    assert!(text.len() < 20_000);
    golden("report.md", &text);
}
