//! TLS on the device side, the PROXY protocol, and HAProxy in front: with clients, and a load balancer, of others.

#[path = "../common/mod.rs"]
mod common;
mod support;

mod client_certificates;
mod dev_certs;
mod fleet;
mod haproxy;
mod hostile;
mod memory;
mod mosquitto;
mod proxy_protocol;
mod records;
mod reload;
mod resumption;
