//! A member at work, on whatever carries its calls and keeps its records.

use super::addresses::Addresses;
use super::answers::Answers;
use super::birth::{self, Birth, Said};
use super::carry::Snapshots;
use super::clocks::WallClock;
use super::config::{Node, Raft, node_id, random, settings};
use super::election::Election;
use super::handle::Handle;
use super::inbox::Inbox;
use super::journal::{DiskMoved, Journal};
use super::limits::{BIRTH_AGAIN, ELECTION_MAX, PROPOSALS_MAX};
use super::machine::{Machine, NewestSnapshot};
use super::network::{self, Network, Peers};
use super::process;
use super::receiver::Receiver;
use super::record::Identity;
use super::recovered::Recovered;
use super::reign::Reign;
use super::status::Stage;
use super::storage::{self, Store};
use super::tasks;
use super::wire::{Answer, Call, Request, Who};
use crate::log::LogError;
use bytes::Bytes;
use cluster::slots::GroupNo;
use cluster::topology::{HostPort, NodeName};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

mod report;

/// Which member of which group this is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The group.
    pub group: GroupNo,
    /// Its name.
    pub name: NodeName,
    /// The members that the group begins with, and where each takes calls now, if it is one of them still. If this one is not among them, it waits
    /// until it is added.
    pub members: Vec<(NodeName, HostPort)>,
    /// A random number, new for each start of the process. A folder that has no number yet gets it.
    pub run: u64,
    /// Its wall clock.
    pub wall: WallClock,
    /// Entries that stay in the log behind the newest snapshot: a member that was away for a moment gets them instead of
    /// the whole snapshot.
    pub kept_entries: u64,
}

/// Why a member cannot start.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StartError {
    /// What its snapshot or its log says of the group's members cannot be read.
    #[error("the members that this member's data folder names are {0}")]
    Members(#[from] super::codec::Malformed),
    /// The log does not work.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The system has no thread, socket or random number for it.
    #[error("the member cannot start: {0}")]
    System(String),
    /// Openraft does not want to.
    #[error("the member cannot take part: {0}")]
    Raft(String),
}

/// One member of a group. Has to live on a runtime of tokio; what it starts there ends with [`Replica::stop`].
pub struct Replica<J, P, S: Snapshots> {
    pub(super) shared: Arc<Shared<J, P, S>>,
}

pub(super) struct Shared<J, P, S: Snapshots> {
    pub(super) settings: Settings,
    store: Store<J>,
    peers: P,
    snapshots: S,
    receiver: Receiver<S>,
    answers: Answers<J>,
    newest: NewestSnapshot,
    /// Set when the member takes part.
    running: OnceLock<Running>,
    /// It had never taken part with this folder when it started.
    pub(super) is_empty: bool,
    /// Or had done nothing since it began to: it had neither voted nor stored anything.
    is_untouched: bool,
    /// The number of its folder, once that remembers it.
    pub(super) folder: OnceLock<u64>,
    stage: Mutex<Stage>,
    reign: Arc<Reign>,
    addresses: Addresses,
    started: Instant,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Somebody decides whether it takes part.
    pub(super) deciding: tokio::sync::Mutex<()>,
    /// Somebody changes who is in the group.
    changing: tokio::sync::Mutex<()>,
}

pub(super) struct Running {
    pub(super) id: u64,
    pub(super) raft: Raft,
    /// It answers no vote before: another may lead on a promise that it gave before its start.
    quiet_until: Option<Instant>,
    /// It came into the group that was there already, and had stored nothing of it when it started.
    pub(super) invited: bool,
    /// The folders of members that were empty when the group began.
    met: Vec<(u64, u64)>,
}

impl<J, P, S: Snapshots> Clone for Replica<J, P, S> {
    fn clone(&self) -> Self {
        let shared = Arc::clone(&self.shared);
        Self { shared }
    }
}

impl<J, P, S: Snapshots> std::fmt::Debug for Replica<J, P, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica")
            .field("member", &self.shared.settings.name)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl<J: Journal, P: Peers, S: Snapshots> Replica<J, P, S> {
    /// Starts a member with what it found in its folder. `wake` is called, from any thread, when there is something for
    /// the group to take.
    pub fn start(
        settings: Settings,
        log: J,
        moved: DiskMoved,
        recovered: Recovered,
        peers: P,
        snapshots: S,
        wake: Box<dyn Fn() + Send + Sync>,
    ) -> Result<(Self, Handle), StartError> {
        let newest = NewestSnapshot::at(&recovered.position)?;
        let dropped = recovered.dropped;
        let identity = recovered.meta.as_ref().map(|meta| meta.identity.clone());
        let (empty, untouched) = (recovered.is_empty(), recovered.is_untouched());
        let folder = recovered.folder;
        let inbox = Arc::new(Inbox::new(wake));
        let receiver = Receiver::new(snapshots.clone(), Arc::clone(&inbox));
        let handle = Handle::new(Arc::clone(&inbox));
        let addresses = Addresses::new(&settings.members);
        let store = Store::new(log, moved, inbox, recovered, settings.wall.clone());
        let shared = Arc::new(Shared {
            settings,
            answers: Answers::new(store.clone()),
            store,
            peers,
            receiver,
            snapshots,
            newest,
            running: OnceLock::new(),
            is_empty: empty,
            is_untouched: untouched,
            folder: folder.map_or_else(OnceLock::new, OnceLock::from),
            stage: Mutex::new(Stage::Starting),
            reign: Arc::default(),
            addresses,
            started: Instant::now(),
            tasks: Mutex::default(),
            deciding: tokio::sync::Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        });
        let replica = Self { shared };
        let run = replica.clone();
        replica.spawn(async move {
            if let Some(from) = dropped
                && let Err(error) = run.shared.store.drop_branch(from).await
            {
                return run.shared.fail(&error.into());
            }
            let began = match (empty, identity) {
                (false, identity) => run.go_on(identity.unwrap_or_default()).await,
                (true, _) => run.be_born().await,
            };
            if let Err(error) = began {
                run.shared.fail(&error);
            }
        });
        Ok((replica, handle))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.shared.tasks.lock();
        let tasks = tasks.as_mut().unwrap_or_else(|error| error.get_mut());
        tasks.push(process::spawn(task));
    }

    /// The number of this folder, by which others know it again: it is given one before they hear of it.
    async fn number_folder(&self) -> Result<u64, StartError> {
        let shared = &self.shared;
        if let Some(number) = shared.folder.get() {
            return Ok(*number);
        }
        shared.store.write_folder(shared.settings.run).await?;
        Ok(*shared.folder.get_or_init(|| shared.settings.run))
    }

    /// Asks the others until it is clear what to do with an empty folder, and does that.
    async fn be_born(&self) -> Result<(), StartError> {
        let folder = self.number_folder().await?;
        let settings = &self.shared.settings;
        let others: Vec<_> = settings
            .members
            .iter()
            .filter(|(name, _)| *name != settings.name)
            .collect();
        if others.len() == settings.members.len() {
            self.shared.set_stage(Stage::Waiting);
            return Ok(());
        }
        loop {
            let mut answers = Vec::new();
            for (name, address) in &others {
                answers.push((name.clone(), self.who(name, address).await));
            }
            let own = (node_id(settings.name.as_str(), 0), folder);
            let said = |who: &Who| Said {
                born: who.born,
                met: who.met.contains(&own),
            };
            let heard: Vec<_> = answers
                .iter()
                .map(|(name, who)| (name.clone(), who.as_ref().map(said)))
                .collect();
            let deciding = self.shared.deciding.lock().await;
            if self.running().is_some() {
                return Ok(());
            }
            match birth::decide(&settings.name, &heard) {
                Birth::Begin => return self.begin(&answers).await,
                Birth::Join => return self.join(together(answers, own)).await,
                Birth::Wait => self.shared.set_stage(Stage::Waiting),
                Birth::Lost { by } => self.shared.set_stage(Stage::Lost { by }),
            }
            drop(deciding);
            tokio::time::sleep(BIRTH_AGAIN).await;
        }
    }

    async fn who(&self, name: &NodeName, address: &HostPort) -> Option<Who> {
        let node = self.addresses().of(&Node::at(name, address));
        let call = Call {
            to: 0,
            request: Request::Who,
        };
        match network::call(&self.shared.peers, &node, &call).await {
            Ok(Answer::Who(who)) => Some(who),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(%error, "a member of the group does not answer yet");
                None
            }
        }
    }

    async fn begin(&self, answers: &[(NodeName, Option<Who>)]) -> Result<(), StartError> {
        let met = answers.iter().filter_map(|(name, who)| {
            let id = node_id(name.as_str(), 0);
            who.as_ref().map(|who| (id, who.folder))
        });
        let identity = Identity {
            life: 0,
            met: met.collect(),
        };
        self.join(identity).await?;
        self.initialize().await
    }

    /// Takes part with the folder that there is, which may hold nothing but whose it is.
    async fn go_on(&self, identity: Identity) -> Result<(), StartError> {
        let own = node_id(self.shared.settings.name.as_str(), 0);
        let was_cut_off = birth::was_cut_off(own, &identity, self.shared.is_untouched);
        self.take_part(identity).await?;
        if was_cut_off {
            self.initialize().await?;
        }
        Ok(())
    }

    /// Begins the group with all that are its members by the cluster file.
    async fn initialize(&self) -> Result<(), StartError> {
        let members = self.shared.settings.members.iter();
        let members: BTreeMap<_, _> = members
            .map(|(name, address)| (node_id(name.as_str(), 0), Node::at(name, address)))
            .collect();
        let running = self.shared.running.get().expect("it takes part");
        let begun = running.raft.initialize(members).await;
        begun.map_err(|error| StartError::Raft(error.to_string()))
    }

    pub(super) async fn join(&self, identity: Identity) -> Result<(), StartError> {
        self.shared.store.write_identity(identity.clone()).await?;
        self.take_part(identity).await
    }

    pub(super) fn store(&self) -> &Store<J> {
        &self.shared.store
    }

    pub(super) fn running(&self) -> Option<&Running> {
        self.shared.running.get()
    }

    /// The right to change who is in the group; `None`: somebody has it.
    pub(super) fn begin_change(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        self.shared.changing.try_lock().ok()
    }

    pub(super) fn name(&self) -> &NodeName {
        &self.shared.settings.name
    }

    pub(super) fn inbox(&self) -> &Inbox {
        &self.shared.store.inbox
    }

    pub(super) fn peers(&self) -> &P {
        &self.shared.peers
    }

    pub(super) fn addresses(&self) -> &Addresses {
        &self.shared.addresses
    }

    /// Has openraft run with what the log holds.
    async fn take_part(&self, identity: Identity) -> Result<(), StartError> {
        let shared = &self.shared;
        let id = node_id(shared.settings.name.as_str(), identity.life);
        shared.store.inbox.born(id);
        let failed = |error: String| StartError::Raft(error);
        let in_log = storage::newest_membership(&shared.store);
        let membership = match in_log.map_err(|error| failed(error.to_string()))? {
            Some(membership) => membership,
            None => shared.newest.meta().last_membership,
        };
        shared.store.membership_changed(membership.membership());
        let group = format!("group {}", shared.settings.group.0);
        let config = settings(&group, shared.settings.kept_entries);
        let config = config
            .validate()
            .map_err(|error| failed(error.to_string()))?;
        let network = Network {
            store: shared.store.clone(),
            peers: shared.peers.clone(),
            snapshots: shared.snapshots.clone(),
            addresses: shared.addresses.clone(),
        };
        let machine = Machine::new(shared.store.clone(), shared.newest.clone());
        let store = shared.store.clone();
        let started = Raft::new(id, config.into(), network.clone(), store, machine).await;
        let raft = started.map_err(|error| failed(error.to_string()))?;
        // An only member has nobody to have promised anything to.
        let is_one_of_many =
            shared.settings.members.len() > 1 || membership.membership().nodes().count() > 1;
        let promised = !shared.is_empty && is_one_of_many;
        let quiet_until = promised.then(|| shared.started + ELECTION_MAX);
        let running = Running {
            id,
            quiet_until,
            raft: raft.clone(),
            met: identity.met,
            invited: (shared.is_empty || shared.is_untouched) && identity.life != 0,
        };
        shared.running.set(running).expect("it starts once");
        shared.set_stage(Stage::TakesPart);
        let free_at = quiet_until.unwrap_or_else(Instant::now);
        let election = Election::new(free_at, &mut random());
        shared.store.inbox.takes_part(election);
        self.spawn(tasks::hold_elections(raft.clone(), network));
        self.serve(raft);
        Ok(())
    }

    /// Starts what goes on beside openraft as long as that runs.
    fn serve(&self, raft: Raft) {
        let inbox = &self.shared.store.inbox;
        let reign = Arc::clone(&self.shared.reign);
        self.spawn(tasks::watch_reign(raft.clone(), Arc::clone(inbox), reign));
        self.spawn(tasks::watch_failure(raft.clone(), Arc::clone(inbox)));
        self.spawn(self.clone().agree_on_addresses(raft.clone()));
        self.spawn(tasks::note_snapshots(
            raft.clone(),
            Arc::clone(inbox),
            self.shared.newest.clone(),
            self.shared.settings.kept_entries,
        ));
        let (answers, answered) = mpsc::channel(PROPOSALS_MAX);
        self.spawn(tasks::propose(raft, Arc::clone(inbox), answers));
        self.spawn(tasks::drop_answers(answered));
    }

    /// The answer to another member's call.
    pub async fn answer(&self, call: Bytes) -> Bytes {
        let answer = match Call::read(&call) {
            Ok(call) => self.answer_to(call).await,
            Err(error) => {
                tracing::warn!(%error, "a call of another member cannot be read");
                Answer::Absent
            }
        };
        answer.bytes()
    }

    async fn answer_to(&self, call: Call) -> Answer {
        let shared = &self.shared;
        let running = shared.running.get();
        if let Request::Invite { name } = &call.request {
            let accepted = self.accept_invitation(name).await;
            return accepted.map_or_else(|refusal| refusal, |id| Answer::Invited { id });
        }
        if let Request::Introduce = call.request {
            return self.introduce();
        }
        if let Request::Who = call.request {
            // One that reads its folder, or cannot, has taken part before all the same.
            let born = running.is_some() || !shared.is_empty;
            let folder = shared.folder.get().copied();
            // Nobody may count on a number that the folder may forget.
            let Some(folder) = folder.or(born.then_some(0)) else {
                return Answer::Absent;
            };
            return Answer::Who(Who {
                folder,
                born,
                met: running.map_or_else(Vec::new, |running| running.met.clone()),
            });
        }
        if let Request::Leads = call.request {
            let is_sure = self.inbox().is_sure(Instant::now().into_std());
            return if is_sure {
                Answer::Leads
            } else {
                Answer::Absent
            };
        }
        let Some(running) = running.filter(|running| running.id == call.to) else {
            return Answer::Absent;
        };
        let is_quiet = running
            .quiet_until
            .is_some_and(|until| Instant::now() < until);
        match call.request {
            Request::Append(append, wall_ms) => {
                let answers = &shared.answers;
                answers.append(&running.raft, append, wall_ms).await
            }
            Request::Vote(vote) if !is_quiet => {
                shared.answers.vote(&running.raft, vote, false).await
            }
            Request::TransferVote(vote) if !is_quiet => {
                shared.answers.vote(&running.raft, vote, true).await
            }
            Request::TimeoutNow { term } if !is_quiet => {
                shared.answers.timeout_now(&running.raft, term).await
            }
            Request::PreVote { last_log_id } if !is_quiet => {
                shared.answers.pre_vote(&running.raft, last_log_id).await
            }
            Request::Piece(piece) => shared.receiver.take(&running.raft, piece).await,
            // It is quiet, or has answered above.
            _ => Answer::Absent,
        }
    }

    /// Ends the member's work. Nothing is handed over or answered after that.
    pub async fn stop(&self) {
        let tasks = {
            let mut tasks = self
                .shared
                .tasks
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        for task in &tasks {
            task.abort();
        }
        // A full disk would keep openraft from ending.
        self.shared.store.moved.close();
        if let Some(running) = self.shared.running.get()
            && let Err(error) = running.raft.shutdown().await
        {
            tracing::error!(%error, "the member's work has ended before its time");
        }
    }
}

impl<J: Journal, P, S: Snapshots> Shared<J, P, S> {
    pub(super) fn stage(&self) -> Stage {
        let stage = self.stage.lock();
        stage.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_stage(&self, stage: Stage) {
        let mut now = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if *now != stage {
            stage.log(&self.settings.name);
            *now = stage;
        }
    }

    pub(super) fn fail(&self, error: &StartError) {
        tracing::error!(%error, "the member takes no part in its group");
        self.set_stage(Stage::Failed {
            why: error.to_string(),
        });
        let error = match error {
            StartError::Log(error) => error.clone(),
            other => LogError::group("start", other.to_string()),
        };
        self.store.inbox.fail(error);
    }
}

/// What this member keeps of a group that it was there with from the beginning: all that is known of that.
fn together(answers: Vec<(NodeName, Option<Who>)>, own: (u64, u64)) -> Identity {
    let answers = answers.into_iter().filter_map(|(_, who)| who);
    let known = answers.map(|who| who.met).find(|met| met.contains(&own));
    Identity {
        life: 0,
        met: known.unwrap_or_default(),
    }
}
