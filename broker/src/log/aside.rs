//! Putting away what a member of a group can use no more, so that it can begin anew and nothing is lost for whoever
//! wants to look at it.

use std::fs;
use std::path::{Path, PathBuf};

use super::LogError;
use super::directory::{Lock, sync_dir};

const NAME: &str = "damaged-";
const LOG: &str = "log";
const SNAPSHOTS: &str = "snapshots";
/// A file that is there while somebody wants log and snapshots set aside.
const ASKED: &str = "set-aside-asked";

/// Has the next start of the member set aside what is in the data folder `data`, which may be in use until then
/// ([`set_aside_if_asked`]). Outlives a power cut.
pub fn ask_to_set_aside(data: &Path) -> Result<(), LogError> {
    let path = data.join(ASKED);
    let file = fs::File::create(&path);
    file.map_err(|error| LogError::io("create", &path, error))?;
    sync_dir(data)
}

/// Does what [`ask_to_set_aside`] wants, and says where log and snapshots are now; `None`: nobody wants it. The folder
/// must not be in use.
pub fn set_aside_if_asked(data: &Path) -> Result<Option<PathBuf>, LogError> {
    let path = data.join(ASKED);
    if !path.exists() {
        return Ok(None);
    }
    // It stays until all is done: a start that is cut short leaves the rest to the next one.
    let aside = set_aside(data)?;
    fs::remove_file(&path).map_err(|error| LogError::io("remove", &path, error))?;
    sync_dir(data)?;
    Ok(Some(aside))
}

/// Moves log and snapshots out of the data folder `data` into a new folder `damaged-1` in it, `damaged-2` and so on, and
/// says where they are now. Everything else stays. The folder must not be in use.
///
/// Whenever it is cut short, doing it again ends it: then the folder of the time before is used, or named if all is
/// there. In between the log still stands, with the votes in it.
pub fn set_aside(data: &Path) -> Result<PathBuf, LogError> {
    let _lock = Lock::take(data)?;
    let newest = newest(data)?;
    let is_there = |name: &str| data.join(name).exists();
    let number = match newest {
        None if !is_there(LOG) && !is_there(SNAPSHOTS) => {
            let error = std::io::ErrorKind::NotFound.into();
            return Err(LogError::io("find a log in", data, error));
        }
        None => 1,
        Some(number) if !is_there(LOG) || !folder(data, number).join(LOG).exists() => number,
        Some(number) => number + 1,
    };
    let aside = folder(data, number);
    fs::create_dir_all(&aside).map_err(|error| LogError::io("create", &aside, error))?;
    sync_dir(data)?;
    // The log goes last: snapshots without it would look like a member that never voted.
    for name in [SNAPSHOTS, LOG] {
        let (from, to) = (data.join(name), aside.join(name));
        if from.exists() {
            fs::rename(&from, &to).map_err(|error| LogError::io("move", &from, error))?;
        }
        sync_dir(&aside)?;
        sync_dir(data)?;
    }
    Ok(aside)
}

fn folder(data: &Path, number: u32) -> PathBuf {
    data.join(format!("{NAME}{number}"))
}

/// The number of the newest folder of damaged files.
fn newest(data: &Path) -> Result<Option<u32>, LogError> {
    let failed = |error| LogError::io("list", data, error);
    let mut newest = None;
    for entry in fs::read_dir(data).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(NAME));
        newest = newest.max(number.and_then(|number| number.parse().ok()));
    }
    Ok(newest)
}
