//! Snapshots: one file per stream and index, whole or not there.
//!
//! ```text
//! magic 8 | version 4 | stream 2, 0 2 | index 8 | content | content length 8 | check 8 (xxh3-64 over all before)
//! ```
//! Magic, version and check stay where they are in every version, so that a newer file can be told from a damaged one.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fs4::fs_std::FileExt;
use xxhash_rust::xxh3::Xxh3;

use super::LogError;
use super::directory::{create_file, sync_dir};
use super::limits::STEP_BYTES;
use super::steps;

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
        self.begin_as(stream, index, "unfinished")
    }

    /// The same for one that comes from another member. This one may be writing its own at the same index meanwhile.
    pub fn begin_received(&self, stream: u16, index: u64) -> Result<Unfinished, LogError> {
        self.begin_as(stream, index, "received.unfinished")
    }

    fn begin_as(&self, stream: u16, index: u64, extension: &str) -> Result<Unfinished, LogError> {
        let path = self.path(stream, index);
        let unfinished = path.with_extension(extension);
        if unfinished.exists() {
            fs::remove_file(&unfinished)
                .map_err(|error| LogError::io("remove", &unfinished, error))?;
        }
        let hashing = Hashing {
            out: create_file(&unfinished)?,
            hash: Xxh3::new(),
            bytes: 0,
            unsynced: 0,
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
        let mut first = Unchecked::open(path.clone(), stream, index)?;
        let len = first.left();
        let failed = |error| LogError::io("read", &path, error);
        io::copy(&mut first, &mut io::sink()).map_err(failed)?;
        first.check()?;
        let mut reader = first.file;
        reader
            .seek(SeekFrom::Start(HEADER as u64))
            .map_err(failed)?;
        Ok(Some(Snapshot {
            index,
            len,
            content: reader.take(len),
        }))
    }

    /// The newest snapshot of `stream`, for who reads it through once and believes it only when that is
    /// [checked](Unchecked::check).
    pub fn latest_unchecked(&self, stream: u16) -> Result<Option<Unchecked>, LogError> {
        let index = self.indexes(stream)?.pop();
        let opened = index.map(|index| Unchecked::open(self.path(stream, index), stream, index));
        opened.transpose()
    }

    /// Removes all snapshots of `stream` but the newest `keep` (at least one stays). Returns how
    /// many were removed.
    pub fn prune(&self, stream: u16, keep: usize) -> Result<usize, LogError> {
        let indexes = self.indexes(stream)?;
        let old = &indexes[..indexes.len().saturating_sub(keep.max(1))];
        for index in old {
            let path = self.path(stream, *index);
            remove(&path).map_err(|error| LogError::io("remove", &path, error))?;
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

/// Removes a snapshot, in steps if nobody reads it.
fn remove(path: &Path) -> io::Result<()> {
    // Nobody finds it under this name, and what a crash leaves of it is removed at the next start.
    let gone = path.with_extension("old.unfinished");
    fs::rename(path, &gone)?;
    let file = File::options().write(true).open(&gone)?;
    // Not from those who still read it: it is there until they close it.
    if FileExt::try_lock_exclusive(&file).unwrap_or(false) {
        return steps::remove(&file, &gone, std::thread::park_timeout);
    }
    fs::remove_file(&gone)
}

/// Opens a snapshot, so that it stays whole as long as it is open.
fn open_locked(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    // Where the file system has no locks, who removes it gets none either, and does so at once.
    let _unsupported = FileExt::lock_shared(&file);
    // It may be going since before that.
    fs::metadata(path)?;
    Ok(file)
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

/// A snapshot whose content may be damaged, for all that is known before the end of it. Reads as end of file behind the
/// content.
pub struct Unchecked {
    path: PathBuf,
    file: BufReader<File>,
    /// Of what was read.
    hash: Xxh3,
    /// Bytes of content.
    len: u64,
    /// Those that are not read yet.
    left: u64,
}

impl Unchecked {
    fn open(path: PathBuf, stream: u16, index: u64) -> Result<Self, LogError> {
        let failed = |error| LogError::io("read", &path, error);
        let file = open_locked(&path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let damaged = |offset, what| {
            Err(LogError::Damaged {
                file: path.clone(),
                offset,
                what,
            })
        };
        if size < (HEADER + TRAILER) as u64 {
            return damaged(size, "the snapshot is shorter than its frame");
        }
        let mut file = BufReader::with_capacity(BLOCK, file);
        let mut first = [0; HEADER];
        file.read_exact(&mut first).map_err(failed)?;
        let version = u32::from_le_bytes([first[8], first[9], first[10], first[11]]);
        let is_other = first[..8] == MAGIC && version != VERSION;
        if first != header(stream, index) && !is_other {
            return damaged(0, "the header is not the one of this snapshot");
        }
        let mut hash = Xxh3::new();
        hash.update(&first);
        let len = size - (HEADER + TRAILER) as u64;
        let mut opened = Self {
            path,
            file,
            hash,
            len,
            left: len,
        };
        if is_other {
            return Err(opened.newer(version));
        }
        Ok(opened)
    }

    /// It states another version, which was written so if all of it is whole.
    fn newer(&mut self, version: u32) -> LogError {
        let read = io::copy(self, &mut io::sink());
        let read = read.map_err(|error| LogError::io("read", &self.path, error));
        match read.and_then(|_| self.check()) {
            Ok(()) => LogError::Unsupported {
                file: self.path.clone(),
                version,
                known: VERSION,
            },
            Err(error) => error,
        }
    }

    /// Bytes of content that are not read yet.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Whether what was read is what was written, once all content is read; an error names the file.
    pub fn check(&mut self) -> Result<(), LogError> {
        let mut trailer = [0; TRAILER];
        let read = self.file.read_exact(&mut trailer);
        read.map_err(|error| LogError::io("read", &self.path, error))?;
        let (len, check) = trailer.split_at(8);
        self.hash.update(len);
        let damaged = |back, what| {
            Err(LogError::Damaged {
                file: self.path.clone(),
                offset: HEADER as u64 + self.len + TRAILER as u64 - back,
                what,
            })
        };
        if self.left > 0 || check != self.hash.digest().to_le_bytes() {
            return damaged(8, "the content fails its check");
        }
        if len != self.len.to_le_bytes() {
            return damaged(16, "the length is another one");
        }
        Ok(())
    }
}

impl Read for Unchecked {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let wanted = self.left.min(into.len() as u64) as usize;
        let read = self.file.read(&mut into[..wanted])?;
        self.hash.update(&into[..read]);
        self.left -= read as u64;
        Ok(read)
    }
}

impl std::fmt::Debug for Unchecked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unchecked")
            .field("path", &self.path)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Unfinished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unfinished")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Hashes what passes through, and has it on disk in steps.
struct Hashing {
    out: File,
    hash: Xxh3,
    bytes: u64,
    /// Of those, the ones since the last sync.
    unsynced: usize,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        self.unsynced += written;
        if self.unsynced >= STEP_BYTES {
            self.out.sync_data()?;
            self.unsynced = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
