//! The files of a report.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::Outcome;
use crate::Error;

/// For machines.
const JSON: &str = "report.json";

/// For people.
const PAGE: &str = "report.html";

impl Outcome {
    /// Writes `report.json` and `report.html` into `folder`, which is made if need be. Each file appears at once: who
    /// reads it sees the old one or the new one. Gives the path of the page.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, Error> {
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let json = folder.join(JSON);
        let text = serde_json::to_string(self).map_err(io::Error::from);
        let text = text.map_err(failed(&json))? + "\n";
        replace(&json, &text)?;
        let page = folder.join(PAGE);
        replace(&page, &self.page())?;
        Ok(page)
    }
}

fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let unfinished = path.with_extension("unfinished");
    let written = fs::File::create(&unfinished).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(failed(&unfinished))?;
    fs::rename(&unfinished, path).map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Report { path, source }
}
