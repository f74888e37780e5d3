//! Where a broker is. Names are looked up on a thread of their own: the system's look-up may take seconds, and
//! heartbeats must not wait for it.

use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An address of a broker, what the topology calls it, and the host in that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) peer: SocketAddr,
    pub(super) host: Arc<str>,
    pub(super) broker: Arc<str>,
}

/// The addresses of a group's brokers.
pub(super) struct Addresses {
    list: Arc<Mutex<List>>,
    /// Asks for a new look-up; `None` until there is a name.
    ask: Option<SyncSender<()>>,
    found: Arc<dyn Fn() + Send + Sync>,
}

#[derive(Debug, Default)]
struct List {
    /// As `host:port`.
    texts: Vec<String>,
    found: Vec<Place>,
}

impl Addresses {
    /// No addresses yet. `found` is called after each look-up of names.
    pub(super) fn new(found: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            list: Arc::default(),
            ask: None,
            found: Arc::new(found),
        }
    }

    /// From now on these, as `host:port`.
    pub(super) fn set(&mut self, texts: Vec<String>) {
        let mut list = lock(&self.list);
        if list.texts == texts {
            return;
        }
        let plain = texts
            .iter()
            .filter_map(|text| Some((text, text.parse().ok()?)));
        list.found = plain.map(|(text, peer)| place(text, peer)).collect();
        list.texts = texts;
        drop(list);
        self.refresh();
    }

    /// Looks the names up again, soon.
    pub(super) fn refresh(&mut self) {
        let is_name = |text: &String| text.parse::<SocketAddr>().is_err();
        if !lock(&self.list).texts.iter().any(is_name) {
            return;
        }
        if self.ask.is_none() {
            self.ask = self.start();
        }
        if let Some(ask) = &self.ask
            && let Err(TrySendError::Disconnected(())) = ask.try_send(())
        {
            tracing::error!("the thread that looks up brokers' names is gone");
        }
    }

    /// Starts the thread that looks up names. If none is free, the next refresh tries again.
    fn start(&self) -> Option<SyncSender<()>> {
        // One request that waits is as good as two.
        let (ask, asked) = sync_channel(1);
        let (list, found) = (Arc::clone(&self.list), Arc::clone(&self.found));
        let body = move || look_up(&asked, &list, &*found);
        let thread = std::thread::Builder::new().name("link names".into());
        match thread.spawn(body) {
            Ok(_) => Some(ask),
            Err(error) => {
                tracing::error!(%error, "cannot look up the names of brokers");
                None
            }
        }
    }

    /// An address of this broker, as `host:port`; those that it has come in turn, by `turn`.
    pub(super) fn of(&self, broker: &str, turn: usize) -> Option<Place> {
        let list = lock(&self.list);
        let its = || list.found.iter().filter(|place| *place.broker == *broker);
        its().nth(turn % its().count().max(1)).cloned()
    }
}

/// Ends when nobody can ask any more.
fn look_up(asked: &Receiver<()>, list: &Mutex<List>, found: &dyn Fn()) {
    // Each is named once until it is found: a look-up follows every lost link.
    let mut unknown = BTreeSet::new();
    while asked.recv().is_ok() {
        let texts = lock(list).texts.clone();
        unknown.retain(|text| texts.contains(text));
        let mut places = Vec::new();
        for text in &texts {
            match text.to_socket_addrs() {
                Ok(some) => {
                    unknown.remove(text);
                    places.extend(some.map(|peer| place(text, peer)));
                }
                Err(error) => {
                    if unknown.insert(text.clone()) {
                        tracing::warn!(broker = %text, %error, "the name of a broker is not found; looking again");
                    }
                }
            }
        }
        let mut list = lock(list);
        // What was found before is better than nothing, and others may be asked for by now.
        if !places.is_empty() && list.texts == texts {
            list.found = places;
        }
        drop(list);
        found();
    }
}

fn place(text: &str, peer: SocketAddr) -> Place {
    Place {
        peer,
        host: host(text),
        broker: text.into(),
    }
}

fn lock(list: &Mutex<List>) -> MutexGuard<'_, List> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The host of `host:port`, an address of IPv6 without its brackets.
fn host(text: &str) -> Arc<str> {
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    #[test]
    fn plain_addresses_need_no_look_up() {
        let texts = vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
        let mut addresses = Addresses::new(|| {});
        addresses.set(texts);
        for turn in 0..3 {
            let place = addresses.of("127.0.0.1:2", turn).expect("it is known");
            assert_eq!((place.peer.port(), &*place.broker), (2, "127.0.0.1:2"));
        }
        assert!(addresses.ask.is_none(), "no thread is needed");
        addresses.set(vec!["127.0.0.1:3".to_owned()]);
        assert_eq!(addresses.of("127.0.0.1:2", 0), None);
        assert!(addresses.of("127.0.0.1:3", 0).is_some());
    }

    #[test]
    fn addresses_of_one_name_are_tried_in_turn() {
        let addresses = Addresses::new(|| {});
        let peers = [1, 2].map(|n| SocketAddr::from(([127, 0, 0, n], 7)));
        let found = |broker: &str| peers.map(|peer| place(broker, peer));
        lock(&addresses.list).found = found("a:7").into_iter().chain(found("b:7")).collect();
        let tried = [0, 1, 2].map(|turn| addresses.of("b:7", turn).expect("known").peer);
        assert_eq!(tried, [peers[0], peers[1], peers[0]]);
    }

    #[test]
    fn names_may_come_and_go() {
        let (tell, told) = sync_channel(8);
        let mut addresses = Addresses::new(move || tell.send(()).expect("the test waits"));
        addresses.set(vec!["127.0.0.1:1".to_owned()]);
        addresses.set(vec!["localhost:2".to_owned()]);
        told.recv_timeout(Duration::from_secs(20))
            .expect("looked up");
        assert!(addresses.of("localhost:2", 0).is_some(), "found");
        addresses.set(vec!["127.0.0.1:3".to_owned()]);
        assert!(addresses.of("127.0.0.1:3", 0).is_some(), "plain");
    }

    #[test]
    fn names_are_looked_up_elsewhere() {
        let (tell, told) = sync_channel(8);
        let found = move || tell.send(()).expect("the test waits");
        let texts = vec!["localhost:7".to_owned()];
        let mut addresses = Addresses::new(found);
        addresses.set(texts);
        told.recv_timeout(Duration::from_secs(20))
            .expect("looked up");
        let address = addresses.of("localhost:7", 0);
        let address = address.expect("localhost is known");
        assert!(address.peer.ip().is_loopback() && address.peer.port() == 7);
        assert_eq!(&*address.host, "localhost");
    }

    #[test]
    fn a_certificate_is_for_the_host_without_port_and_brackets() {
        for (text, expected) in [
            ("[::1]:7", "::1"),
            ("10.0.0.5:1884", "10.0.0.5"),
            ("broker-0:18930", "broker-0"),
        ] {
            assert_eq!(&*host(text), expected);
        }
    }

    /// Lines of a log.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_unknown_name_is_in_the_log_once() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let log = tracing::Dispatch::new(log);
        // While there is one subscriber, whether a line is wanted is decided by the thread that comes to it first, for all:
        // that may be another test's, which has none. With two, both are asked.
        let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
        let list = Mutex::new(List {
            texts: vec!["no port".to_owned(), "localhost:7".to_owned()],
            found: Vec::new(),
        });
        let (ask, asked) = sync_channel(2);
        for _ in 0..2 {
            ask.send(()).expect("there is room");
        }
        drop(ask);
        tracing::dispatcher::with_default(&log, || look_up(&asked, &list, &|| {}));
        let log = String::from_utf8(lines.0.lock().expect("no panic").clone());
        let log = log.expect("text");
        assert_eq!(log.matches("broker=no port").count(), 1, "{log}");
        assert_eq!(log.lines().count(), 1, "{log}");
    }

    #[test]
    fn an_unknown_name_has_no_address() {
        let (tell, told) = sync_channel(8);
        let found = move || tell.send(()).expect("the test waits");
        let texts = vec!["no port".to_owned()];
        let mut addresses = Addresses::new(found);
        addresses.set(texts);
        told.recv_timeout(Duration::from_secs(20))
            .expect("looked up");
        assert_eq!(addresses.of("no port", 0), None);
    }
}
