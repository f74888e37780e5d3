//! The features of MQTT 5 (and what 3.1.1 does in their place), one file per feature.

#[path = "../common/mod.rs"]
mod common;

mod client_id;
mod keep_alive;
mod maximum_packet_size;
mod message_expiry;
mod pass_through;
mod reason_codes;
mod receive_maximum;
mod retained;
mod session_expiry;
mod shared_subscriptions;
mod subscription_ids;
mod subscription_options;
mod topic_alias;
mod wills;
