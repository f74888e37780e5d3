//! Figures that one thread counts and any number read.

use std::sync::atomic::{AtomicU64, Ordering};

/// A figure with one writing thread and any number of readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning thread may call this: it is a load and a store, not one operation.
    pub fn add(&self, n: u64) {
        self.set(self.get().wrapping_add(n));
    }

    /// Adds one; see [`Counter::add`].
    pub fn increment(&self) {
        self.add(1);
    }

    /// Takes one away, for figures that go up and down; see [`Counter::add`].
    pub fn decrement(&self) {
        self.set(self.get().wrapping_sub(1));
    }

    /// Makes it `n`; see [`Counter::add`].
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The figure now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Makes a struct of [`Counter`]s that can list them: each by its name, with its documentation for people.
#[macro_export]
macro_rules! counters {
    ($(#[$meta:meta])* $vis:vis struct $all:ident {
        $($(#[doc = $doc:literal])+ $name:ident,)+
    }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        $vis struct $all {
            $($(#[doc = $doc])+ $vis $name: $crate::counters::Counter,)+
        }

        impl $all {
            /// Every figure with its name and description, in the order of the source.
            $vis fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($($doc),+).trim_ascii_start(), self.$name.get()),)+].into_iter()
            }
        }
    };
}

#[cfg(test)]
mod tests {
    crate::counters! {
        /// Two figures.
        struct Two {
            /// Comes first.
            one,
            /// Goes up
            /// and down.
            other,
        }
    }

    #[test]
    fn figures_are_listed_in_order_with_their_descriptions() {
        let two = Two::default();
        two.one.add(7);
        two.other.increment();
        two.other.increment();
        two.other.decrement();
        let listed: Vec<_> = two.each().collect();
        assert_eq!(
            listed,
            [
                ("one", "Comes first.", 7),
                ("other", "Goes up and down.", 1)
            ]
        );
    }
}
