//! Rules about the text of a file.

use std::path::Path;

/// Lines that a file of code may have without a reason.
pub(super) const LINES_MAX: usize = 600;

/// Lines at the start of a file in which `tidy: <reason>` may say why it is longer.
const REASON_WITHIN: usize = 5;

/// Endings of files of code.
const CODE: [&str; 4] = ["rs", "py", "js", "sh"];

/// The start of paths that exist on one machine only. In pieces, so that this file passes.
const MACHINE_PATHS: [&str; 4] = [
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
];

/// Macros and markers of unfinished code.
const UNFINISHED: [&str; 5] = [
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("FI", "XME"),
    concat!("TO", "DO"),
    concat!("XX", "X"),
];

/// Checks one file. `name` is its path below the root.
pub(super) fn check(name: &str, content: &str, findings: &mut Vec<String>) {
    let ending = Path::new(name)
        .extension()
        .and_then(|ending| ending.to_str());
    let is_code = ending.is_some_and(|ending| CODE.contains(&ending));
    let lines = content.lines().count();
    let has_reason = || content.lines().take(REASON_WITHIN).any(gives_reason);
    if is_code && lines > LINES_MAX && !has_reason() {
        findings.push(format!(
            "{name}: {lines} lines, more than {LINES_MAX}; split it, or say why not in its first \
             {REASON_WITHIN} lines: tidy: <reason>"
        ));
    }
    for (number, line) in content.lines().enumerate() {
        let number = number + 1;
        if let Some(path) = MACHINE_PATHS.iter().find(|path| starts_a_path(line, path)) {
            findings.push(format!(
                "{name}:{number}: a path of somebody's machine: {path}"
            ));
        }
        if let Some(marker) = UNFINISHED
            .iter()
            .find(|marker| is_code && line.contains(*marker))
        {
            findings.push(format!("{name}:{number}: unfinished: {marker}"));
        }
    }
}

fn gives_reason(line: &str) -> bool {
    line.split_once("tidy:")
        .is_some_and(|(_, reason)| reason.trim().len() >= 10)
}

/// Whether `path` stands in `line` as the start of a path, not inside of another one.
fn starts_a_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && !"._-~}/".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(name: &str, content: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check(name, content, &mut findings);
        findings
    }

    #[test]
    fn a_long_file_needs_a_reason() {
        let long = "x\n".repeat(LINES_MAX + 1);
        assert_eq!(findings("a/b.rs", &long).len(), 1);
        assert_eq!(findings("a/b.rs", &"x\n".repeat(LINES_MAX)), [""; 0]);
        assert_eq!(findings("a/b.tsv", &long), [""; 0]);
        let reason = format!("// tidy: one table, generated from the standard\n{long}");
        assert_eq!(findings("a/b.rs", &reason), [""; 0]);
        assert_eq!(findings("a/b.rs", &format!("// tidy:\n{long}")).len(), 1);
    }

    #[test]
    fn paths_of_a_machine_are_found_but_not_inside_of_others() {
        let home = MACHINE_PATHS[0];
        let line = format!("let file = \"{home}me/x\";");
        assert_eq!(findings("a.rs", &line).len(), 1);
        assert_eq!(findings("a.md", &format!("https://host{home}x")), [""; 0]);
    }

    #[test]
    fn unfinished_code_is_found() {
        for marker in UNFINISHED {
            assert_eq!(
                findings("a.rs", &format!("    {marker}")).len(),
                1,
                "{marker}"
            );
        }
    }
}
