//! A bad proxy: it takes one message from every subscriber, and tells the broker it was received.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::{Packet, Version, wire};

/// What stands between the devices and the broker.
pub(crate) struct Meddler {
    pub(crate) addr: SocketAddr,
    swallowed: Arc<AtomicU64>,
}

impl Meddler {
    /// Swallows the `nth` PUBLISH (counted from 0) that the broker sends on each connection.
    pub(crate) fn start(broker: SocketAddr, nth: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let swallowed = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&swallowed);
        std::thread::spawn(move || {
            for device in listener.incoming() {
                let device = device.expect("accepted");
                let broker = TcpStream::connect(broker).expect("the broker listens");
                let count = Arc::clone(&count);
                std::thread::spawn(move || serve(device, broker, nth, &count));
            }
        });
        Self { addr, swallowed }
    }

    /// How many messages it has taken away.
    pub(crate) fn swallowed(&self) -> u64 {
        self.swallowed.load(Ordering::Relaxed)
    }
}

/// Both directions of one connection, packet by packet.
fn serve(device: TcpStream, broker: TcpStream, nth: u64, swallowed: &AtomicU64) {
    let to_broker = Arc::new(Mutex::new(broker.try_clone().expect("a second handle")));
    let upward = Arc::clone(&to_broker);
    let from_device = device.try_clone().expect("a second handle");
    let up = std::thread::spawn(move || {
        pass(from_device, |packet| {
            let mut broker = upward.lock().expect("no panic");
            broker.write_all(packet).is_ok()
        });
        let ended = upward.lock().expect("no panic").shutdown(Shutdown::Both);
        drop(ended); // The broker may have closed before.
    });
    let mut seen = 0;
    let mut to_device = device;
    pass(broker, |packet| {
        let read = wire::decode(Version::V5, packet).expect("a packet");
        let Packet::Publish(publish) = read else {
            return to_device.write_all(packet).is_ok();
        };
        seen += 1;
        if seen - 1 != nth {
            return to_device.write_all(packet).is_ok();
        }
        swallowed.fetch_add(1, Ordering::Relaxed);
        let ack = wire::ack(0x40, publish.id);
        let mut broker = to_broker.lock().expect("no panic");
        broker.write_all(&ack).is_ok()
    });
    drop(to_device.shutdown(Shutdown::Both)); // The device may have closed before.
    up.join().expect("no panic");
}

/// Hands over every packet until the connection ends or `take` says false.
fn pass(mut from: TcpStream, mut take: impl FnMut(&[u8]) -> bool) {
    let (mut held, mut block) = (Vec::new(), [0; 16 * 1024]);
    while let Ok(len @ 1..) = from.read(&mut block) {
        held.extend_from_slice(&block[..len]);
        while let Some(len) = wire::whole(&held).expect("framed") {
            if !take(&held[..len]) {
                return;
            }
            held.drain(..len);
        }
    }
}
