//! What the black-box tests share: a broker in a process of its own, and a client that can be
//! as precise, slow, rude or forgetful as a test wants.
#![allow(
    dead_code,
    unused_imports,
    reason = "every test file uses its own part"
)]

pub(crate) mod broker;
pub(crate) mod client;
pub(crate) mod ctl_group;
pub(crate) mod damage;
pub(crate) mod dice;
pub(crate) mod fleet;
pub(crate) mod gap;
pub(crate) mod load;
pub(crate) mod members;
pub(crate) mod small_disk;
pub(crate) mod tools;
pub(crate) mod wire;

pub(crate) use broker::{Broker, Options};
pub(crate) use client::{Client, Connect, Got, PATIENCE};
pub(crate) use dice::Dice;
pub(crate) use wire::{Packet, Props, Publish, Value, Version, prop};
