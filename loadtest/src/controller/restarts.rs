//! Restarts nodes of the target, in a thread of its own.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;

use mio::Waker;

use super::options::RestartHook;
use crate::Error;
use crate::scenario::RestartNodes;

/// Where restarts are ordered. At most one is under way.
pub(crate) struct Restarts {
    orders: SyncSender<(RestartNodes, usize)>,
    results: Receiver<Result<bool, Error>>,
}

impl Restarts {
    /// Begins with nothing to do; `waker` wakes whoever waits for a result.
    pub(crate) fn new(hook: Option<RestartHook>, waker: Arc<Waker>) -> Result<Self, Error> {
        let (orders, ordered) = sync_channel(1);
        let (done, results) = sync_channel(1);
        thread::Builder::new()
            .name("restarts".to_owned())
            .spawn(move || work(hook, &ordered, &done, &waker))
            .map_err(Error::system("cannot start a thread"))?;
        Ok(Self { orders, results })
    }

    /// Orders the restart of the node of this number.
    pub(crate) fn order(&self, nodes: RestartNodes, number: usize) -> Result<(), Error> {
        let sent = self.orders.try_send((nodes, number));
        sent.map_err(|_| Error::Target("a restart is under way already".to_owned()))
    }

    /// What came of it, once it is known.
    pub(crate) fn result(&self) -> Option<Result<bool, Error>> {
        match self.results.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(Error::Thread)),
        }
    }
}

fn work(
    mut hook: Option<RestartHook>,
    ordered: &Receiver<(RestartNodes, usize)>,
    done: &SyncSender<Result<bool, Error>>,
    waker: &Waker,
) {
    while let Ok((nodes, number)) = ordered.recv() {
        let result = match (nodes, &mut hook) {
            (RestartNodes::Hook(words), _) if number == 0 => program(&words).map(|()| true),
            (RestartNodes::Hook(_), _) => Ok(false),
            (RestartNodes::Fleet(nodes), Some(hook)) => hook(nodes, number),
            (RestartNodes::Fleet(_), None) => {
                Err(Error::Target("nobody knows how to restart it".to_owned()))
            }
        };
        // Nobody listens any more where the run is over; and a loop that is not woken looks each second.
        if done.send(result).is_err() || waker.wake().is_err() {
            return;
        }
    }
}

/// Runs the program to its end.
fn program(words: &[String]) -> Result<(), Error> {
    let Some((name, args)) = words.split_first() else {
        return Err(Error::Target("a restart hook without a program".to_owned()));
    };
    let status = Command::new(name).args(args).stdin(Stdio::null()).status();
    let status = status.map_err(|error| {
        Error::Target(format!("the restart hook {name} cannot be run: {error}"))
    })?;
    if !status.success() {
        return Err(Error::Target(format!(
            "the restart hook {name} ended with {status}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll, Token};

    use super::*;
    use crate::scenario::FleetNodes;

    fn result(
        hook: Option<RestartHook>,
        nodes: RestartNodes,
        number: usize,
    ) -> Result<bool, Error> {
        let mut poll = Poll::new().expect("a poll");
        let waker = Waker::new(poll.registry(), Token(0)).expect("a waker");
        let restarts = Restarts::new(hook, Arc::new(waker)).expect("a thread");
        restarts.order(nodes, number).expect("nothing is under way");
        let mut events = Events::with_capacity(1);
        loop {
            if let Some(result) = restarts.result() {
                return result;
            }
            let limit = Some(Duration::from_secs(10));
            poll.poll(&mut events, limit).expect("a poll");
            assert!(!events.is_empty(), "it is woken");
        }
    }

    #[test]
    fn the_hook_is_given_the_number_and_its_answer_comes_back() {
        for number in [0, 2, 3] {
            let hook: RestartHook = Box::new(|nodes, number| {
                assert_eq!(nodes, FleetNodes::Proxies);
                Ok(number < 3)
            });
            let there = result(Some(hook), RestartNodes::Fleet(FleetNodes::Proxies), number)
                .expect("no error");
            assert_eq!(there, number < 3);
        }
    }

    #[test]
    fn a_program_is_run_once_and_its_failure_is_named() {
        let words =
            |list: &[&str]| RestartNodes::Hook(list.iter().map(|&word| word.to_owned()).collect());
        assert!(result(None, words(&["true"]), 0).expect("it succeeds"));
        assert!(!result(None, words(&["false"]), 1).expect("it is not run again"));
        let error = result(None, words(&["sh", "-c", "exit 3"]), 0).expect_err("it fails");
        assert_eq!(
            error.to_string(),
            "the target: the restart hook sh ended with exit status: 3"
        );
        let error = result(None, RestartNodes::Fleet(FleetNodes::Brokers), 0)
            .expect_err("there is no hook");
        assert!(error.to_string().contains("nobody knows how"));
    }
}
