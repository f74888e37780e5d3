//! The folder of the log: names, the lock, and operations that must outlive a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::LogError;
use super::format::{HeaderFault, SegmentHeader, VERSION};

/// Files of one data folder.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    root: PathBuf,
}

impl Directory {
    /// The folder for segments inside the data folder, made if missing.
    pub(super) fn open(data: &Path) -> Result<Self, LogError> {
        let root = data.join("log");
        fs::create_dir_all(&root).map_err(|error| LogError::io("create", &root, error))?;
        sync_dir(data)?;
        Ok(Self { root })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.root.clone()
    }

    pub(super) fn segment(&self, id: u32) -> PathBuf {
        self.root.join(format!("{id:010}.segment"))
    }

    pub(super) fn spare(&self, number: u64) -> PathBuf {
        self.root.join(format!("{number:010}.spare"))
    }

    /// A segment file that does not have its header yet, or is going.
    pub(super) fn unfinished(&self, id: u32) -> PathBuf {
        self.root.join(format!("{id:010}.unfinished"))
    }

    pub(super) fn sync(&self) -> Result<(), LogError> {
        sync_dir(&self.root)
    }

    /// The ids of all segments in order, and all spare files. What a crash left unfinished is
    /// removed.
    pub(super) fn list(&self) -> Result<(Vec<u32>, Vec<PathBuf>), LogError> {
        let (mut segments, mut spares) = (Vec::new(), Vec::new());
        let failed = |error| LogError::io("list", &self.root, error);
        for entry in fs::read_dir(&self.root).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let id = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse().ok());
            match (
                path.extension().and_then(|extension| extension.to_str()),
                id,
            ) {
                (Some("segment"), Some(id)) => segments.push(id),
                (Some("spare"), _) => spares.push(path),
                (Some("unfinished"), _) => fs::remove_file(&path).map_err(failed)?,
                _ => tracing::warn!(path = %path.display(), "not a file of the log: left alone"),
            }
        }
        segments.sort_unstable();
        Ok((segments, spares))
    }
}

/// Makes the entries of a folder durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), LogError> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| LogError::io("sync", path, error))
}

/// Opens an existing file for reading and writing.
pub(super) fn open_file(path: &Path) -> Result<File, LogError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| LogError::io("open", path, error))
}

/// Creates a file that must not exist.
pub(super) fn create_file(path: &Path) -> Result<File, LogError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|error| LogError::io("create", path, error))
}

pub(super) fn write_at(
    file: &File,
    path: &Path,
    bytes: &[u8],
    offset: u64,
) -> Result<(), LogError> {
    file.write_all_at(bytes, offset)
        .map_err(|error| LogError::io("write", path, error))
}

pub(super) fn sync_data(file: &File, path: &Path) -> Result<(), LogError> {
    file.sync_data()
        .map_err(|error| LogError::io("sync", path, error))
}

/// Reads up to `len` bytes at `offset`; fewer only at the end of the file.
pub(super) fn read_at(
    file: &File,
    path: &Path,
    offset: u64,
    len: usize,
) -> Result<Vec<u8>, LogError> {
    let mut bytes = vec![0; len];
    let filled = read_into(file, path, offset, &mut bytes)?;
    bytes.truncate(filled);
    Ok(bytes)
}

/// Fills `bytes` from byte `offset` of the file on; how many there were, fewer only at the file's end.
pub(super) fn read_into(
    file: &File,
    path: &Path,
    offset: u64,
    bytes: &mut [u8],
) -> Result<usize, LogError> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(LogError::io("read", path, error)),
        }
    }
    Ok(filled)
}

/// Decodes the header of the segment file at `path`, which must be the one of segment `id`.
pub(super) fn segment_header(path: &Path, page: &[u8], id: u32) -> Result<SegmentHeader, LogError> {
    let damaged = |what| LogError::Damaged {
        file: path.to_path_buf(),
        offset: 0,
        what,
    };
    match SegmentHeader::decode(page) {
        Ok(header) if header.segment == id => Ok(header),
        Ok(_) => Err(damaged("the header is the one of another segment")),
        Err(HeaderFault::Damaged) => Err(damaged("the segment header fails its check")),
        Err(HeaderFault::Version(version)) => Err(LogError::Unsupported {
            file: path.to_path_buf(),
            version,
            known: VERSION,
        }),
    }
}

/// Holds the data folder for this process until dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(data: &Path) -> Result<Self, LogError> {
        fs::create_dir_all(data).map_err(|error| LogError::io("create", data, error))?;
        let path = data.join("lock");
        let failed = |error| LogError::io("lock", &path, error);
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        if !fs4::fs_std::FileExt::try_lock_exclusive(&file).map_err(failed)? {
            let mut text = String::new();
            // The number only helps the operator: a lock file without it is still a lock.
            let pid = file
                .read_to_string(&mut text)
                .ok()
                .and_then(|_| text.trim().parse().ok());
            return Err(LogError::Locked { path, pid });
        }
        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}
