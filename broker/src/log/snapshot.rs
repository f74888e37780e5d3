//! Snapshots: one file per stream and index, whole or not there.
//!
//! ```text
//! magic 8 | version 4 | stream 2, 0 2 | index 8 | content | content length 8 | check 8 (xxh3-64 over all before)
//! ```

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::LogError;
use super::directory::{create_file, sync_dir};

const MAGIC: [u8; 8] = *b"mqsnap\r\n";
const VERSION: u32 = 1;
const HEADER: usize = 24;
const TRAILER: usize = 16;
const BLOCK: usize = 64 << 10;

/// The snapshots of one data folder.
///
/// There is no way around a damaged newest snapshot: an older one is only good together with log
/// records that may be released already, so [`latest`](Self::latest) refuses.
#[derive(Debug, Clone)]
pub struct SnapshotStore {
    root: PathBuf,
}

/// A snapshot that was found and checked.
#[derive(Debug)]
pub struct Snapshot {
    /// Index of the last record it has the effect of.
    pub index: u64,
    /// Bytes of content.
    pub len: u64,
    /// The content; reads as end of file after `len` bytes.
    pub content: io::Take<BufReader<File>>,
}

impl SnapshotStore {
    /// Opens the snapshots in the data folder `dir` (made if missing). Files that were not finished
    /// when the process ended are removed.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        let root = dir.join("snapshots");
        fs::create_dir_all(&root).map_err(|error| LogError::io("create", &root, error))?;
        sync_dir(dir)?;
        let store = Self { root };
        for path in store.files()? {
            if path
                .extension()
                .is_some_and(|extension| extension == "unfinished")
            {
                fs::remove_file(&path).map_err(|error| LogError::io("remove", &path, error))?;
            }
        }
        Ok(store)
    }

    /// Writes a snapshot with the effect of all records of `stream` up to and with `index`.
    /// `write` gives the content; the bytes may come in small pieces. When this returns, the
    /// snapshot is durable under its name. Returns the bytes of content.
    pub fn write(
        &self,
        stream: u16,
        index: u64,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<u64, LogError> {
        let mut unfinished = self.begin(stream, index)?;
        write(&mut unfinished).map_err(|error| LogError::io("write", &unfinished.begun, error))?;
        unfinished.finish()
    }

    /// Begins a snapshot that is written piece by piece. Nobody sees it before it is finished.
    pub fn begin(&self, stream: u16, index: u64) -> Result<Unfinished, LogError> {
        let path = self.path(stream, index);
        let unfinished = path.with_extension("unfinished");
        if unfinished.exists() {
            fs::remove_file(&unfinished)
                .map_err(|error| LogError::io("remove", &unfinished, error))?;
        }
        let hashing = Hashing {
            out: create_file(&unfinished)?,
            hash: Xxh3::new(),
            bytes: 0,
        };
        let mut begun = Unfinished {
            out: Some(BufWriter::with_capacity(BLOCK, hashing)),
            path,
            begun: unfinished,
        };
        let written = begun.write_all(&header(stream, index));
        written.map_err(|error| LogError::io("write", &begun.begun, error))?;
        Ok(begun)
    }

    /// Index of the newest snapshot of `stream`, if there is one. Nothing of it is read.
    pub fn newest(&self, stream: u16) -> Result<Option<u64>, LogError> {
        Ok(self.indexes(stream)?.pop())
    }

    /// The newest snapshot of `stream`, checked as a whole, or `None` if there is none.
    pub fn latest(&self, stream: u16) -> Result<Option<Snapshot>, LogError> {
        let Some(index) = self.indexes(stream)?.pop() else {
            return Ok(None);
        };
        let path = self.path(stream, index);
        let len = check(&path, stream, index)?;
        let file = File::open(&path).map_err(|error| LogError::io("open", &path, error))?;
        let mut reader = BufReader::with_capacity(BLOCK, file);
        reader
            .read_exact(&mut [0; HEADER])
            .map_err(|error| LogError::io("read", &path, error))?;
        Ok(Some(Snapshot {
            index,
            len,
            content: reader.take(len),
        }))
    }

    /// Removes all snapshots of `stream` but the newest `keep` (at least one stays). Returns how
    /// many were removed.
    pub fn prune(&self, stream: u16, keep: usize) -> Result<usize, LogError> {
        let indexes = self.indexes(stream)?;
        let old = &indexes[..indexes.len().saturating_sub(keep.max(1))];
        for index in old {
            let path = self.path(stream, *index);
            fs::remove_file(&path).map_err(|error| LogError::io("remove", &path, error))?;
        }
        Ok(old.len())
    }

    /// Indexes of all snapshots of `stream`, oldest first.
    fn indexes(&self, stream: u16) -> Result<Vec<u64>, LogError> {
        let mut indexes: Vec<u64> = self
            .files()?
            .iter()
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "snapshot")
            })
            .filter_map(|path| {
                let (of, index) = path.file_stem()?.to_str()?.split_once('-')?;
                (of.parse() == Ok(stream)).then(|| index.parse().ok())?
            })
            .collect();
        indexes.sort_unstable();
        Ok(indexes)
    }

    fn files(&self) -> Result<Vec<PathBuf>, LogError> {
        let failed = |error| LogError::io("list", &self.root, error);
        let entries = fs::read_dir(&self.root).map_err(failed)?;
        entries
            .map(|entry| Ok(entry.map_err(failed)?.path()))
            .collect()
    }

    fn path(&self, stream: u16, index: u64) -> PathBuf {
        self.root.join(format!("{stream:05}-{index:020}.snapshot"))
    }
}

/// A snapshot that is being written. Dropped before it is finished it is gone.
pub struct Unfinished {
    /// `None` once it has its name.
    out: Option<BufWriter<Hashing>>,
    path: PathBuf,
    /// Its name until then.
    begun: PathBuf,
}

impl Unfinished {
    /// Makes it durable and gives it its name. Returns the bytes of content.
    pub fn finish(mut self) -> Result<u64, LogError> {
        let closed = self.close();
        let len = closed.map_err(|error| LogError::io("write", &self.begun, error))?;
        fs::rename(&self.begun, &self.path)
            .map_err(|error| LogError::io("name", &self.path, error))?;
        self.out = None;
        sync_dir(self.path.parent().expect("it is in a folder"))?;
        Ok(len)
    }

    fn close(&mut self) -> io::Result<u64> {
        let out = self.out.as_mut().expect("it is not finished");
        out.flush()?;
        let hashing = out.get_mut();
        let len = hashing.bytes - HEADER as u64;
        hashing.write_all(&len.to_le_bytes())?;
        let check = hashing.hash.digest();
        hashing.out.write_all(&check.to_le_bytes())?;
        hashing.out.sync_all()?;
        Ok(len)
    }
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.as_mut().expect("it is not finished").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().expect("it is not finished").flush()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(out) = self.out.take() else {
            return;
        };
        // Not what is still in memory: nobody wants it. The space is more useful than half a snapshot.
        drop(out.into_parts());
        if let Err(error) = fs::remove_file(&self.begun) {
            tracing::warn!(%error, file = %self.begun.display(), "cannot remove");
        }
    }
}

fn header(stream: u16, index: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..14].copy_from_slice(&stream.to_le_bytes());
    header[16..].copy_from_slice(&index.to_le_bytes());
    header
}

/// Reads the file through and compares. Returns the bytes of content.
fn check(path: &Path, stream: u16, index: u64) -> Result<u64, LogError> {
    let failed = |error| LogError::io("read", path, error);
    let damaged = |offset, what| LogError::Damaged {
        file: path.to_path_buf(),
        offset,
        what,
    };
    let mut file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    if size < (HEADER + TRAILER) as u64 {
        return Err(damaged(size, "the snapshot is shorter than its frame"));
    }
    let mut first = [0; HEADER];
    file.read_exact(&mut first).map_err(failed)?;
    let version = u32::from_le_bytes([first[8], first[9], first[10], first[11]]);
    if first[..8] == MAGIC && version != VERSION {
        return Err(LogError::Unsupported {
            file: path.to_path_buf(),
            version,
        });
    }
    if first != header(stream, index) {
        return Err(damaged(0, "the header is not the one of this snapshot"));
    }
    let len = size - (HEADER + TRAILER) as u64;
    let mut hash = Xxh3::new();
    hash.update(&first);
    let mut left = (len + 8) as usize;
    let mut block = vec![0; BLOCK];
    let mut stated = [0; 8];
    while left > 0 {
        let part = &mut block[..BLOCK.min(left)];
        file.read_exact(part).map_err(failed)?;
        hash.update(part);
        left -= part.len();
        if left == 0 && part.len() >= 8 {
            stated.copy_from_slice(&part[part.len() - 8..]);
        }
    }
    let mut stored = [0; 8];
    file.read_exact(&mut stored).map_err(failed)?;
    if u64::from_le_bytes(stored) != hash.digest() {
        return Err(damaged(size - 8, "the content fails its check"));
    }
    // With fewer than eight bytes in the last block the length straddles two: the check holds it.
    if stated != [0; 8] && u64::from_le_bytes(stated) != len {
        return Err(damaged(size - 16, "the length is another one"));
    }
    Ok(len)
}

impl std::fmt::Debug for Unfinished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unfinished")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Hashes what passes through.
struct Hashing {
    out: File,
    hash: Xxh3,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
