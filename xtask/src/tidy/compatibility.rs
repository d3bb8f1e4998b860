//! What `docs/compatibility.md` says is shown by tests: each that it names must be there.

use std::path::Path;

use super::{File, Problem};

/// The document.
const DOCUMENT: &str = "docs/compatibility.md";

/// Where tests without a folder of their own stand.
const TESTS: &str = "broker/tests";

/// Names of tests, as `file::test`, that no file has.
pub(super) fn check(files: &[File]) -> Vec<Problem> {
    let document = Path::new(DOCUMENT);
    let Some(text) = text_of(files, document) else {
        return vec![Problem::new(document, 0, "it is gone, and says what clients get")];
    };
    let mut problems = Vec::new();
    for (idx, line) in text.lines().enumerate() {
        // Every second piece stands between backticks.
        for named in line.split('`').skip(1).step_by(2) {
            let Some((file, test)) = named.split_once("::") else { continue };
            let path = file.replace('…', TESTS);
            let is_there = text_of(files, Path::new(&path)).is_some_and(|text| text.contains(test));
            if !is_there {
                problems.push(Problem::new(document, idx + 1, format!("there is no `{named}`")));
            }
        }
    }
    problems
}

fn text_of<'a>(files: &'a [File], path: &Path) -> Option<&'a str> {
    files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_is_gone_is_missed() {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.to_owned() };
        let document = "| A-1 | a | `…/a.rs::shows_it`, `b/c.js::reads on` |\n| A-2 | b | `…/a.rs::gone` |\n";
        let there = [file("broker/tests/a.rs", "fn shows_it() {}"), file("b/c.js", "it(\"reads on\")")];
        let files: Vec<File> = there.into_iter().chain([file(DOCUMENT, document)]).collect();
        let problems = check(&files);
        assert_eq!(problems, [Problem::new(Path::new(DOCUMENT), 2, "there is no `…/a.rs::gone`")]);
    }
}
