//! Session records: the store trait, the embedded store and the suite every store must pass.
