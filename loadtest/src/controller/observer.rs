//! Memory and CPU of processes and of the machine, from /proc.
//!
//! Two small files of each process are kept open and read again, so a look at a hundred processes costs a few ms. An open
//! file stays with its process: a number that the system gives to another process later is no trouble. (Memory comes from
//! statm: newer kernels add up what each core has counted there, and not in stat.)

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use super::options::{ProcessList, TargetProcess};
use crate::Error;

/// Role of the workers and the controller.
pub(crate) const SIMULATOR: &str = "simulator";

/// A clock tick of /proc, s; 100 a second on every Linux in use.
const TICK_S: f64 = 0.01;

/// Watches the target's processes, the workers on this machine, and this process.
pub(crate) struct Observer {
    list: ProcessList,
    target: Vec<Watched>,
    own: Vec<Watched>,
    page_bytes: u64,
}

/// A process.
struct Watched {
    role: String,
    name: String,
    pid: u32,
    /// `None` once it has ended.
    files: Option<Files>,
    usage: Usage,
    /// CPU of processes of this name before this one, s.
    earlier_cpu_s: f64,
    generation: u32,
}

struct Files {
    stat: File,
    statm: File,
}

/// What a process uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Usage {
    rss_bytes: u64,
    cpu_s: f64,
}

/// A process at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    /// Its role.
    pub(crate) role: String,
    /// Its name.
    pub(crate) name: String,
    /// Resident memory, bytes; 0 while it is away.
    pub(crate) rss_bytes: u64,
    /// CPU time since it was first seen, s, with that of its predecessors of the name.
    pub(crate) cpu_s: f64,
    /// How often it was started anew since.
    pub(crate) generation: u32,
}

/// Everything at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Look {
    /// The target's processes.
    pub(crate) target: Vec<Seen>,
    /// The simulator's on this machine.
    pub(crate) own: Vec<Seen>,
    /// Memory of the kernel for data in sockets, bytes.
    pub(crate) socket_bytes: u64,
    /// Memory available, bytes.
    pub(crate) available_bytes: u64,
}

impl Observer {
    /// Looks at the target for the first time, and at this process. What they used before does not count.
    pub(crate) fn new(list: ProcessList) -> Result<Self, Error> {
        let mut observer = Self {
            list,
            target: Vec::new(),
            own: Vec::new(),
            page_bytes: rustix::param::page_size() as u64,
        };
        observer.read_list()?;
        for process in &mut observer.target {
            if process.look(observer.page_bytes).is_none() {
                let (name, pid) = (&process.name, process.pid);
                return Err(Error::Target(format!(
                    "{name} (process {pid}) does not run on this machine"
                )));
            }
            process.earlier_cpu_s = -process.usage.cpu_s;
        }
        observer.watch("controller".to_owned(), std::process::id())?;
        Ok(observer)
    }

    /// Watches a process of the simulator too.
    pub(crate) fn watch(&mut self, name: String, pid: u32) -> Result<(), Error> {
        let role = SIMULATOR.to_owned();
        let process = TargetProcess { role, name, pid };
        self.own.push(Watched::new(process)?);
        Ok(())
    }

    /// How many processes are watched.
    pub(crate) fn len(&self) -> usize {
        self.target.len() + self.own.len()
    }

    /// Looks at all of them.
    pub(crate) fn look(&mut self) -> Result<Look, Error> {
        let page_bytes = self.page_bytes;
        let target = self.target.iter_mut();
        let away = target.filter_map(|process| process.look(page_bytes).is_none().then_some(()));
        if away.count() > 0 {
            self.read_list()?;
            for process in &mut self.target {
                process.look(page_bytes);
            }
        }
        for process in &mut self.own {
            process.look(page_bytes);
        }
        let seen = |processes: &[Watched]| processes.iter().map(Watched::seen).collect();
        let socket_pages = field("/proc/net/sockstat", "TCP:", "mem")?;
        Ok(Look {
            target: seen(&self.target),
            own: seen(&self.own),
            socket_bytes: socket_pages * page_bytes,
            available_bytes: field("/proc/meminfo", "MemAvailable:", "")? * 1024,
        })
    }

    /// CPU of this process, s.
    pub(crate) fn own_cpu_s(&self) -> Result<f64, Error> {
        let files = Files::open(std::process::id());
        let files = files.map_err(Error::system("cannot observe the own process"))?;
        Ok(files
            .usage(self.page_bytes)
            .map_or(0.0, |usage| usage.cpu_s))
    }

    /// Takes up processes that are new or have another number than before.
    fn read_list(&mut self) -> Result<(), Error> {
        for process in (self.list)() {
            let known =
                |known: &&mut Watched| (&known.role, &known.name) == (&process.role, &process.name);
            match self.target.iter_mut().find(known) {
                None => self.target.push(Watched::new(process)?),
                Some(known) => known.replace(process)?,
            }
        }
        Ok(())
    }
}

impl Watched {
    fn new(process: TargetProcess) -> Result<Self, Error> {
        let files = match Files::open(process.pid) {
            Ok(files) => Some(files),
            // It has ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::system("cannot observe a process")(error)),
        };
        Ok(Self {
            files,
            role: process.role,
            name: process.name,
            pid: process.pid,
            usage: Usage::default(),
            earlier_cpu_s: 0.0,
            generation: 0,
        })
    }

    fn replace(&mut self, process: TargetProcess) -> Result<(), Error> {
        if process.pid == self.pid {
            return Ok(());
        }
        let earlier_cpu_s = self.earlier_cpu_s + self.usage.cpu_s;
        let generation = self.generation + 1;
        *self = Self {
            earlier_cpu_s,
            generation,
            ..Self::new(process)?
        };
        Ok(())
    }

    /// `None` if it has ended; what it used by then stays.
    fn look(&mut self, page_bytes: u64) -> Option<Usage> {
        let usage = self.files.as_ref()?.usage(page_bytes);
        if let Some(usage) = usage {
            self.usage = usage;
        } else {
            self.files = None;
            self.usage.rss_bytes = 0;
        }
        usage
    }

    fn seen(&self) -> Seen {
        Seen {
            role: self.role.clone(),
            name: self.name.clone(),
            rss_bytes: self.usage.rss_bytes,
            cpu_s: self.earlier_cpu_s + self.usage.cpu_s,
            generation: self.generation,
        }
    }
}

impl Files {
    fn open(pid: u32) -> io::Result<Self> {
        let open = |name| File::open(format!("/proc/{pid}/{name}"));
        Ok(Self {
            stat: open("stat")?,
            statm: open("statm")?,
        })
    }

    /// `None` for a process that has ended.
    fn usage(&self, page_bytes: u64) -> Option<Usage> {
        let mut bytes = [0; 1024];
        let len = self.stat.read_at(&mut bytes, 0).ok()?;
        let cpu_s = cpu_s(std::str::from_utf8(&bytes[..len]).ok()?)?;
        let len = self.statm.read_at(&mut bytes, 0).ok()?;
        let sizes = std::str::from_utf8(&bytes[..len]).ok()?;
        let pages: u64 = sizes.split_whitespace().nth(1)?.parse().ok()?;
        Some(Usage {
            rss_bytes: pages * page_bytes,
            cpu_s,
        })
    }
}

/// State, utime and stime: fields 3, 14 and 15 of /proc/PID/stat; the name before them may contain anything. `None` for a
/// process that has ended and that its parent has not taken note of.
fn cpu_s(stat: &str) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let mut fields = fields.skip(10);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 * TICK_S)
}

/// The number behind a word in the line that begins with another.
fn field(path: &'static str, line: &str, word: &str) -> Result<u64, Error> {
    let text = fs::read_to_string(path).map_err(Error::system(path))?;
    let missing = || io::Error::new(io::ErrorKind::InvalidData, format!("no {line} {word}"));
    find(&text, line, word)
        .ok_or_else(missing)
        .map_err(Error::system(path))
}

fn find(text: &str, line: &str, word: &str) -> Option<u64> {
    let rest = text.lines().find_map(|text| text.strip_prefix(line))?;
    let mut words = rest.split_whitespace();
    if !word.is_empty() {
        words.find(|&found| found == word)?;
    }
    words.next()?.parse().ok()
}

/// Memory of this machine, bytes.
pub(crate) fn memory_bytes() -> Result<u64, Error> {
    Ok(field("/proc/meminfo", "MemTotal:", "")? * 1024)
}

/// Kernel and release of this machine.
pub(crate) fn kernel() -> Result<String, Error> {
    let path = "/proc/sys/kernel/osrelease";
    let release = fs::read_to_string(path).map_err(Error::system(path))?;
    Ok(format!("Linux {}", release.trim()))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A process that waits until it is killed.
    fn process() -> Child {
        let cat = Command::new("cat").stdin(Stdio::piped()).spawn();
        cat.expect("cat is everywhere")
    }

    fn named(pid: u32) -> TargetProcess {
        TargetProcess {
            role: "proxies".to_owned(),
            name: "proxy-1".to_owned(),
            pid,
        }
    }

    #[test]
    fn fields_are_found_behind_a_nasty_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 12 34 0 0 20 0 1 0 99 8192 5";
        let cpu = cpu_s(stat).expect("well-formed");
        assert!((cpu - 0.46).abs() < 1e-9);
        assert_eq!(cpu_s("7 (a"), None);
        assert_eq!(cpu_s(&stat.replace('S', "Z")), None);
    }

    #[test]
    fn lines_of_the_machine_are_found() {
        let text = "sockets: used 9\nTCP: inuse 5 orphan 0 tw 0 alloc 8 mem 7\nUDP: mem 3\n";
        assert_eq!(find(text, "TCP:", "mem"), Some(7));
        assert_eq!(
            find(
                "MemFree: 1 kB\nMemAvailable:   12 kB\n",
                "MemAvailable:",
                ""
            ),
            Some(12)
        );
        assert_eq!(find(text, "TCP:", "gone"), None);
    }

    #[test]
    fn this_machine_can_be_observed() {
        let mut observer = Observer::new(Box::new(Vec::new)).expect("this process runs");
        let look = observer.look().expect("/proc is there");
        assert_eq!(look.target, []);
        assert_eq!(look.own.len(), 1);
        assert!(look.own[0].rss_bytes > 100_000, "{look:?}");
        let memory = memory_bytes().expect("/proc is there");
        assert!((1 << 20..memory).contains(&look.available_bytes));
    }

    #[test]
    fn a_process_that_is_restarted_is_found_again() {
        let mut first = process();
        let now = Arc::new(Mutex::new(first.id()));
        let list = Arc::clone(&now);
        let list: ProcessList = Box::new(move || vec![named(*list.lock().expect("not poisoned"))]);
        let mut observer = Observer::new(list).expect("it runs");
        let before = observer.look().expect("/proc is there");
        assert_eq!(before.target[0].generation, 0);
        assert!(before.target[0].rss_bytes > 0);
        first
            .kill()
            .and_then(|()| first.wait())
            .expect("it is ours");
        let away = observer.look().expect("/proc is there");
        assert_eq!(away.target[0].rss_bytes, 0);
        let mut second = process();
        *now.lock().expect("not poisoned") = second.id();
        let after = observer.look().expect("/proc is there");
        assert_eq!(after.target.len(), 1);
        assert_eq!(after.target[0].generation, 1);
        assert!(after.target[0].rss_bytes > 0);
        assert!(after.target[0].cpu_s >= away.target[0].cpu_s);
        second
            .kill()
            .and_then(|()| second.wait())
            .expect("it is ours");
    }

    #[test]
    fn a_target_that_does_not_run_is_named() {
        let list: ProcessList = Box::new(|| vec![named(u32::MAX - 1)]);
        let Err(error) = Observer::new(list) else {
            panic!("there is no such process");
        };
        assert!(error.to_string().contains("proxy-1"), "{error}");
    }
}
