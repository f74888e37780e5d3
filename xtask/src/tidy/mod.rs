//! `cargo xtask tidy`: rules that the compiler does not know.
//!
//! | rule | why |
//! |---|---|
//! | crates depend on each other only along [`edges::ALLOWED`] | the layers stay layers |
//! | a file of code has at most [`text::LINES_MAX`] lines, or says why in its first lines | files that grow are where state machines become god-files |
//! | no absolute path of somebody's machine | it works on no other machine |
//! | no unfinished macro, no left-over marker | what is not there is said in README.md, not in a stub |

mod edges;
mod text;

use std::path::{Path, PathBuf};

use crate::Outcome;

/// Folders that hold nothing of ours.
const SKIPPED: [&str; 6] = [
    "target",
    ".git",
    "node_modules",
    "artifacts",
    "corpus",
    "data",
];

/// Checks the whole tree; prints every finding.
pub(crate) fn run(root: &Path) -> Outcome {
    let mut files = Vec::new();
    collect(root, &mut files)
        .map_err(|error| format!("cannot read the tree below {}: {error}", root.display()))?;
    files.sort();
    let mut findings = Vec::new();
    for file in &files {
        let name = file
            .strip_prefix(root)
            .unwrap_or(file)
            .display()
            .to_string();
        // Files that are not text are none of these rules' business.
        let Ok(content) = std::fs::read_to_string(file) else {
            continue;
        };
        if name.ends_with("Cargo.toml") {
            edges::check(&name, &content, &mut findings);
        }
        text::check(&name, &content, &mut findings);
    }
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => {
            println!("tidy: {} files, nothing to complain about", files.len());
            Ok(())
        }
        n => Err(format!("tidy: {n} findings")),
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let skipped = SKIPPED.iter().any(|name| entry.file_name() == *name);
        if kind.is_dir() && !skipped {
            collect(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}
