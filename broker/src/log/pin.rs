//! Keeping every segment for as long as somebody reads many of them.

use super::LogHandle;
use super::shared::locked;

/// As long as one of these is held no segment of the log goes. What is released meanwhile goes with the last of them.
#[derive(Debug)]
#[must_use = "it holds only while it is there"]
pub struct Pin(LogHandle);

impl LogHandle {
    /// Keeps all segments. For as short as possible: the log only grows.
    pub fn pin(&self) -> Pin {
        locked(&self.shared().tail).pin();
        Pin(self.clone())
    }

    /// Whether somebody holds a [`Pin`].
    pub fn is_pinned(&self) -> bool {
        locked(&self.shared().tail).is_pinned()
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let due = locked(&self.0.shared().tail).unpin();
        if !due.is_empty() {
            self.0.release(&due);
        }
    }
}
