//! Members of one group on one runtime, over a network that can be cut, each with a log on disk.

use super::disk::Disk;
use super::files::Files;
use super::net::{Instead, Net, Wires};
use crate::consensus::{Consensus, Event, Payload, Position};
use crate::group::GROUP_STREAM;
use crate::log::{Appends, Log, LogError, LogHandle, LogOptions};
use crate::raft::Process;
use crate::raft::WallClock;
use crate::raft::limits::KEPT_ENTRIES;
use crate::raft::wire::{Answer, Call, Request};
use crate::raft::{DiskMoved, Handle, MemberStatus, Recovered, Replica, Settings, Stage};
use bytes::Bytes;
use cluster::slots::GroupNo;
use cluster::topology::NodeName;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// Longer than anything takes on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// A member over this network.
pub(super) type Member = Replica<Disk, Wires, Files>;

/// What the stand-in for a member's group has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The term it leads in.
    pub(super) leads: Option<u64>,
    pub(super) follows: Option<NodeName>,
    /// The commands, in order.
    pub(super) texts: Vec<String>,
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) members: Bytes,
    pub(super) failure: Option<String>,
    pub(super) installed: usize,
}

pub(super) struct Running {
    pub(super) replica: Member,
    pub(super) handle: Arc<Mutex<Handle>>,
    pub(super) seen: Arc<Mutex<Seen>>,
    disk: Disk,
    moved: DiskMoved,
    process: Process,
    pump: tokio::task::JoinHandle<()>,
}

/// What each entry is, by whichever member's group was handed it first: term and text.
type Ledger = Arc<Mutex<BTreeMap<u64, (u64, Option<String>)>>>;

pub(super) struct Fleet {
    pub(super) net: Net,
    ledger: Ledger,
    folder: tempfile::TempDir,
    first: Vec<NodeName>,
    pub(super) members: BTreeMap<&'static str, Running>,
    changed: Arc<Notify>,
    runs: u64,
    /// Where members take calls that start now.
    pub(super) port: u16,
    /// Those that do so elsewhere.
    pub(super) moved: BTreeMap<&'static str, u16>,
    /// By how many hours the wall clock of a member is ahead.
    ahead: Ahead,
}

type Ahead = Arc<Mutex<BTreeMap<&'static str, u64>>>;

/// What a right wall clock showed when the tests began, in milliseconds since the Unix epoch.
const BEGIN_MS: u64 = 1_700_000_000_000;
const HOUR_MS: u64 = 3_600_000;

impl Fleet {
    /// A group that begins with these; none of them runs yet.
    pub(super) fn of(names: &[&'static str]) -> Self {
        Self {
            net: Net::default(),
            ledger: Ledger::default(),
            folder: tempfile::tempdir().expect("a folder"),
            first: names
                .iter()
                .map(|name| name.parse().expect("a name"))
                .collect(),
            members: BTreeMap::new(),
            changed: Arc::default(),
            runs: 0,
            port: 1,
            moved: BTreeMap::new(),
            ahead: Ahead::default(),
        }
    }

    pub(super) async fn started(names: &[&'static str]) -> Self {
        let mut fleet = Self::of(names);
        for name in names {
            fleet.start(name).await;
        }
        fleet
    }

    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) async fn start(&mut self, name: &'static str) {
        let moved = DiskMoved::default();
        let files = Files(self.folder(name));
        let (log, recovered, restored) = self.open(name, &moved, &files).await;
        let disk = Disk::new(log);
        self.runs += 1;
        let members = self.first.iter().map(|member| {
            let address = self.address(member.as_str());
            (member.clone(), address.parse().expect("an address"))
        });
        let settings = Settings {
            group: GroupNo(0),
            name: name.parse().expect("a name"),
            members: members.collect(),
            run: self.runs,
            wall: self.clock(name),
            kept_entries: KEPT_ENTRIES,
        };
        let address = self.address(name);
        let wires = Wires {
            own: address.clone(),
            net: self.net.clone(),
        };
        let woken = Arc::new(Notify::new());
        let wake = Arc::clone(&woken);
        let wake = Box::new(move || wake.notify_one());
        let snapshots = files.clone();
        let (log, told) = (disk.clone(), moved.clone());
        let process = Process::default();
        let start = || Replica::start(settings, log, told, recovered, wires, snapshots, wake);
        let (replica, handle) = process.run(start).expect("a member that starts");
        let there = (replica.clone(), process.clone());
        self.net.switch().members.insert(address, there);
        let handle = Arc::new(Mutex::new(handle));
        let seen = Arc::new(Mutex::new(restored));
        let pump = tokio::spawn(pump(
            Arc::clone(&handle),
            Arc::clone(&seen),
            woken,
            Arc::clone(&self.changed),
            (files, Arc::clone(&self.ledger)),
        ));
        let running = Running {
            replica,
            handle,
            seen,
            disk,
            moved,
            process,
            pump,
        };
        self.members.insert(name, running);
    }

    /// A wall clock that stands still, and may be put forward.
    fn clock(&self, name: &'static str) -> WallClock {
        let ahead = Arc::clone(&self.ahead);
        WallClock::new(move || {
            let ahead = ahead.lock().expect("no panic");
            BEGIN_MS + ahead.get(name).copied().unwrap_or_default() * HOUR_MS
        })
    }

    /// Puts a member's wall clock forward by so many hours.
    pub(super) fn put_forward(&self, name: &'static str, hours: u64) {
        self.ahead.lock().expect("no panic").insert(name, hours);
    }

    /// By how many hours the time that this member would lead by is ahead.
    pub(super) fn hours_ahead(&self, name: &'static str) -> u64 {
        let own = self.clock(name).now_ms();
        let handle = self.members[name].handle.lock().expect("no panic");
        (handle.wall_ms(own) - BEGIN_MS) / HOUR_MS
    }

    /// Leaves one record in the log of a member that does not run.
    pub(super) fn write(&self, name: &str, stream: u16, index: u64, body: &[u8]) {
        let opened = Log::open(&self.folder(name), LogOptions::default(), Box::new(|| ()));
        let (log, _records) = opened.expect("a log");
        let mut batch = Appends::new();
        batch.push(stream, index, body).expect("it fits");
        log.append(&mut batch).expect("healthy");
    }

    async fn open(
        &self,
        name: &str,
        moved: &DiskMoved,
        files: &Files,
    ) -> (LogHandle, Recovered, Seen) {
        let opened = async {
            loop {
                let told = moved.clone();
                let wake = Box::new(move || told.tell());
                match Log::open(&self.folder(name), LogOptions::default(), wake) {
                    // Calls that its last run had under way end soon.
                    Err(LogError::Locked { .. }) => tokio::task::yield_now().await,
                    opened => return opened.expect("a log"),
                }
            }
        };
        let (log, mut records) = tokio::time::timeout(PATIENCE, opened).await.expect("free");
        let mut restored = Seen::default();
        restored.restore(files);
        let position = restored.position();
        records.start_at(GROUP_STREAM, position.index + 1);
        let mut recovered = Recovered::at(position);
        for record in records {
            recovered
                .record(&record.expect("a whole log"))
                .expect("records of ours");
        }
        (log, recovered, restored)
    }

    /// Has this member's group write a snapshot of what it has seen.
    pub(super) fn snapshot(&self, name: &str) {
        let member = &self.members[name];
        let mut handle = member.handle.lock().expect("no panic");
        let seen = member.seen.lock().expect("no panic");
        Files(self.folder(name)).write(&seen.bytes());
        handle.snapshot_written(seen.position());
    }

    pub(super) async fn stop(&mut self, name: &'static str) {
        let running = self.members.remove(name).expect("it runs");
        let address = self.address(name);
        self.net.switch().members.remove(&address);
        running.replica.stop().await;
        running.pump.abort();
        // The last that was heard of it is of before.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    pub(super) fn address(&self, name: &str) -> Box<str> {
        let port = self.moved.get(name).unwrap_or(&self.port);
        format!("{name}:{port}").into()
    }

    /// `from` does not reach `to` any more, or does again.
    pub(super) fn cut(&self, from: &str, to: &str, cut: bool) {
        let switch = &mut self.net.switch().cut;
        let pair = (self.address(from), self.address(to));
        if cut {
            switch.insert(pair);
        } else {
            switch.remove(&pair);
        }
    }

    /// Makes zeros of the log of a member that does not run, from the record with these bytes on.
    pub(super) fn lose_end_of_log(&self, name: &str, from: &[u8]) {
        let log = std::fs::read_dir(self.folder(name).join("log")).expect("a folder");
        let paths = log.map(|file| file.expect("a file").path());
        let mut found = false;
        for path in paths {
            let mut bytes = std::fs::read(&path).expect("a file");
            let Some(at) = bytes.windows(from.len()).position(|some| some == from) else {
                continue;
            };
            bytes[at..].fill(0);
            std::fs::write(&path, bytes).expect("written");
            found = true;
        }
        assert!(found, "the log has no such record");
    }

    /// The member's snapshot.
    pub(super) fn files(&self, name: &str) -> Files {
        Files(self.folder(name))
    }

    /// No piece of a snapshot arrives as long as this is held.
    pub(super) async fn hold_pieces(&self) -> tokio::sync::OwnedRwLockWriteGuard<()> {
        let pieces = Arc::clone(&self.net.switch().pieces);
        pieces.write_owned().await
    }

    /// The member's disk has no space any more, or has some again.
    pub(super) fn fill(&self, name: &str, full: bool) {
        let member = &self.members[name];
        member.disk.fill(full);
        member.moved.tell();
    }

    /// Whoever calls this one is told this, where it is something.
    pub(super) fn answers(&self, name: &str, instead: Instead) {
        let address = self.address(name);
        self.net.switch().instead.insert(address, instead);
    }

    /// Whether this one knows that too few have space.
    pub(super) fn knows_full(&self, name: &str) -> bool {
        self.members[name]
            .handle
            .lock()
            .expect("no panic")
            .is_full()
    }

    /// The process stands still, or goes on.
    pub(super) fn pause(&self, name: &str, stands_still: bool) {
        self.members[name].process.pause(stands_still);
    }

    /// Waits until this one has asked others so many times more whether they would vote for it.
    pub(super) async fn asks_for_votes(&self, name: &str, times: u64) {
        let address = self.address(name);
        let asked = || {
            let counts = &self.net.switch().pre_votes;
            counts.get(&address).copied().unwrap_or_default()
        };
        let before = asked();
        let enough = |_: &Self| (asked() >= before + times).then_some(());
        self.until("it asks for votes", enough).await;
    }

    /// Nobody reaches this one, nor it anybody, or they do again.
    pub(super) fn isolate(&self, name: &str, cut: bool) {
        for other in &self.first {
            self.cut(name, other.as_str(), cut);
            self.cut(other.as_str(), name, cut);
        }
    }

    /// Waits until this holds.
    pub(super) async fn until<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = look(self) {
                    return found;
                }
                changed.await;
            }
        });
        let Ok(found) = waited.await else {
            panic!("{what}: not after {PATIENCE:?}; {:#?}", self.statuses());
        };
        found
    }

    fn statuses(&self) -> Vec<MemberStatus> {
        self.members
            .values()
            .map(|member| member.replica.status())
            .collect()
    }

    pub(super) fn seen<T>(&self, name: &str, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.members[name].seen.lock().expect("no panic"))
    }

    /// The member that leads and may act on it.
    pub(super) fn leader(&self) -> Option<&'static str> {
        let leads = |member: &Running| {
            let handle = member.handle.lock().expect("no panic");
            let now = tokio::time::Instant::now().into_std();
            handle.leads_until().is_some_and(|until| until > now)
        };
        let mut leaders = self.members.iter().filter(|(_, member)| leads(member));
        let found = leaders.next().map(|(name, _)| *name);
        assert_eq!(leaders.count(), 0, "two may act at once");
        found
    }

    /// All texts that any group was handed, in order.
    pub(super) fn agreed(&self) -> Vec<String> {
        let ledger = self.ledger.lock().expect("no panic");
        ledger
            .values()
            .filter_map(|(_, text)| text.clone())
            .collect()
    }

    /// Stops a member, removes its folder and starts it again; waits until it says that it has lost what it had.
    pub(super) async fn lose(&mut self, name: &'static str) {
        self.stop(name).await;
        std::fs::remove_dir_all(self.folder(name)).expect("removed");
        self.start(name).await;
        let is_lost = |fleet: &Self| {
            let stage = fleet.members[name].replica.status().stage;
            matches!(stage, Stage::Lost { .. }).then_some(())
        };
        self.until("it says so", is_lost).await;
    }

    pub(super) async fn elected(&self) -> &'static str {
        self.until("a leader", Self::leader).await
    }

    pub(super) fn propose(&self, name: &str, text: &str) {
        let mut handle = self.members[name].handle.lock().expect("no panic");
        handle.propose(text.as_bytes().to_vec());
    }

    /// Waits until this member's group has seen this text.
    pub(super) async fn saw(&self, name: &str, text: &str) {
        let what = format!("{name} sees {text}");
        let saw = |fleet: &Self| {
            fleet
                .seen(name, |seen| seen.texts.iter().any(|seen| seen == text))
                .then_some(())
        };
        self.until(&what, saw).await;
    }

    /// Three members, the one of them that leads, and the two others.
    pub(super) async fn of_three() -> (Self, &'static str, [&'static str; 2]) {
        let fleet = Self::started(&super::THREE).await;
        let leader = fleet.elected().await;
        let others = fleet.others(&[leader]);
        (fleet, leader, [others[0], others[1]])
    }

    /// Waits until the groups of all members that run have seen this text.
    pub(super) async fn all_saw(&self, text: &str) {
        for name in self.members.keys() {
            self.saw(name, text).await;
        }
    }

    /// The members that run, but for these.
    pub(super) fn others(&self, than: &[&str]) -> Vec<&'static str> {
        let all = self.members.keys().copied();
        all.filter(|name| !than.contains(name)).collect()
    }

    /// A member's id.
    pub(super) fn id(&self, name: &str) -> u64 {
        let running = self.members[name].replica.running();
        running.expect("it takes part").id
    }

    /// What a member answers to another one.
    pub(super) async fn ask(&self, to: &str, request: Request) -> Answer {
        let call = Call {
            to: self.id(to),
            request,
        };
        let answer = self.members[to].replica.answer(call.bytes()).await;
        Answer::read(&answer).expect("an answer")
    }

    /// The names of those with a vote, as this member knows them.
    pub(super) fn voters(&self, by: &str) -> Vec<String> {
        let members = self.members[by].replica.status().members;
        let voters = members.into_iter().filter(|peer| peer.votes);
        let mut names: Vec<_> = voters.map(|peer| peer.name.into()).collect();
        names.sort_unstable();
        names
    }

    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        self.seen(name, |seen| seen.texts.clone())
    }
}

/// The stand-in for a member's group: takes what comes, and checks that it comes in order.
async fn pump(
    handle: Arc<Mutex<Handle>>,
    seen: Arc<Mutex<Seen>>,
    woken: Arc<Notify>,
    changed: Arc<Notify>,
    (files, ledger): (Files, Ledger),
) {
    // What depends on time has to be looked at without an event.
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    loop {
        {
            let mut handle = handle.lock().expect("no panic");
            let mut seen = seen.lock().expect("no panic");
            while let Some(event) = handle.next() {
                seen.take(event, &files, &ledger);
            }
            // A group asks that all the time.
            let _sure_until = handle.leads_until();
            seen.failure = handle.failure().map(|error| error.to_string());
        }
        changed.notify_waiters();
        tokio::select! {
            () = woken.notified() => {}
            _ = tick.tick() => {}
        }
    }
}

impl Seen {
    fn position(&self) -> Position {
        Position {
            index: self.index,
            term: self.term,
            members: self.members.clone(),
        }
    }

    /// Its snapshot.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.position().write(&mut bytes).expect("to memory");
        bytes.extend_from_slice(self.texts.join("\n").as_bytes());
        bytes
    }

    fn restore(&mut self, files: &Files) {
        let Some(bytes) = files.read() else {
            return;
        };
        let mut rest = &bytes[..];
        let position = Position::read(&mut rest).expect("a position");
        (self.index, self.term, self.members) = (position.index, position.term, position.members);
        let texts = String::from_utf8(rest.to_vec()).expect("texts");
        self.texts = texts.lines().map(str::to_owned).collect();
    }
    fn take(&mut self, event: Event, files: &Files, ledger: &Ledger) {
        match event {
            Event::Lead { term } => {
                assert_eq!(self.term, term, "the first entry of the reign came before");
                self.leads = Some(term);
                self.follows = None;
            }
            Event::Follow { leader } => {
                self.leads = None;
                self.follows = leader;
            }
            Event::Entry(entry) => {
                assert_eq!(entry.index, self.index + 1, "one after the other");
                assert!(entry.term >= self.term, "terms only grow");
                (self.index, self.term) = (entry.index, entry.term);
                let text = match entry.payload {
                    Payload::Commands { body, .. } => {
                        Some(String::from_utf8(body.to_vec()).expect("a text"))
                    }
                    Payload::Members(members) => {
                        self.members = members;
                        None
                    }
                    Payload::Blank => None,
                };
                self.texts.extend(text.clone());
                let mut ledger = ledger.lock().expect("no panic");
                let known = ledger
                    .entry(entry.index)
                    .or_insert((entry.term, text.clone()));
                assert_eq!(*known, (entry.term, text), "what was agreed on stays");
            }
            Event::Install { index } => {
                assert!(index > self.index, "it leads on");
                self.restore(files);
                assert_eq!(self.index, index);
                self.installed += 1;
            }
        }
    }
}
