//! File systems in memory of a few megabytes. They need the right to mount: a test that has not got it fails.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One of them; unmounted when dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one on this folder, which is made.
    pub(crate) fn mount(at: &Path, size: &str) -> Self {
        std::fs::create_dir_all(at).expect("a writable folder");
        let size = format!("size={size}");
        mount(&["-t", "tmpfs", "-o", &size, "mqtt-fleet-test"], at);
        Self(at.to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn grow(&self, size: &str) {
        mount(&["-o", &format!("remount,size={size}")], &self.0);
    }

    /// Fills what is left of it.
    pub(crate) fn put_ballast(&self) {
        let mut ballast = File::create(self.ballast()).expect("a writable folder");
        let bytes = vec![1; 64 << 10];
        for piece in [&bytes[..], &bytes[..4 << 10]] {
            let full = loop {
                if let Err(error) = ballast.write_all(piece) {
                    break error;
                }
            };
            assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
        }
    }

    /// Makes room again.
    pub(crate) fn drop_ballast(&self) {
        std::fs::remove_file(self.ballast()).expect("there is some");
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

fn mount(args: &[&str], at: &Path) {
    let output = Command::new("mount").args(args).arg(at).output();
    let output = output.expect("mount is installed");
    assert!(
        output.status.success(),
        "this test needs the right to mount a small file system (run it as root): {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, so that it goes even while a process still dies on it. A failure leaves a few megabytes behind.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
