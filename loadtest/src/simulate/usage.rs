//! CPU time and memory of this process.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use rustix::time::{ClockId, clock_gettime};

use crate::Error;

/// Looks at this process. The file stays open: there may be no descriptor left later.
#[derive(Debug)]
pub(crate) struct Usage {
    statm: File,
    page_bytes: u64,
}

impl Usage {
    /// Ready to look.
    pub(crate) fn new() -> Result<Self, Error> {
        let statm = File::open("/proc/self/statm").map_err(Error::system("/proc/self/statm"))?;
        Ok(Self {
            statm,
            page_bytes: rustix::param::page_size() as u64,
        })
    }

    /// Resident memory, bytes.
    pub(crate) fn rss_bytes(&mut self) -> Result<u64, Error> {
        let failed = || Error::system("/proc/self/statm");
        let mut line = [0; 256];
        self.statm.seek(SeekFrom::Start(0)).map_err(failed())?;
        let len = self.statm.read(&mut line).map_err(failed())?;
        let line = String::from_utf8_lossy(&line[..len]);
        let pages = line.split(' ').nth(1).and_then(|pages| pages.parse().ok());
        let pages: u64 = pages.ok_or_else(|| failed()(std::io::ErrorKind::InvalidData.into()))?;
        Ok(pages * self.page_bytes)
    }
}

/// CPU time of this process so far, all its threads, µs.
pub(crate) fn cpu_us() -> u64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec.cast_unsigned() * 1_000_000 + used.tv_nsec.cast_unsigned() / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_time_of_this_process_grow_with_use() {
        let mut usage = Usage::new().expect("on Linux");
        let (before, cpu) = (usage.rss_bytes().expect("readable"), cpu_us());
        let block = std::hint::black_box(vec![1_u8; 32 << 20]);
        let after = usage.rss_bytes().expect("readable");
        assert!(
            after >= before + (16 << 20),
            "{before} before, {after} after"
        );
        assert!(cpu_us() > cpu);
        drop(block);
    }
}
