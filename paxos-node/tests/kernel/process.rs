//! A node whose end is looked at, and strace, which makes calls of it fail.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, paxos_node, wait};

/// What strace shows, beside what it makes fail: how replies leave.
const SHOWN: &str = "fsync,fdatasync,pwrite64,write,writev,sendto,sendmsg";

/// A running node; killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: String,
}

impl Process {
    /// Starts `paxos-node` with these arguments; what it says goes to the end of the file `log`.
    pub(crate) fn start(arguments: &[String], log: &str) -> Process {
        let file = std::fs::File::options().create(true).append(true).open(log).expect("the log file opens");
        let child = paxos_node().args(arguments).stdout(Stdio::null()).stderr(file).spawn();
        Process { child: child.expect("the program starts"), log: log.to_owned() }
    }

    /// The exit code of a node that ends by itself.
    pub(crate) fn wait_for_end(&mut self) -> Option<i32> {
        wait(&format!("the node ends; its log is {}", self.log), || {
            self.child.try_wait().expect("it can be waited for")
        })
        .code()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it can be waited for").is_none()
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill(); // It may have ended.
        let _ = self.child.wait();
    }

    /// Asks the node to stop.
    pub(crate) fn ask_to_stop(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(sent.expect("kill is there").success());
    }

    /// Asks the node to stop, and gives its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.ask_to_stop();
        self.wait_for_end()
    }

    /// Memory of its own that the running node has in use.
    pub(crate) fn memory_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the node runs");
        let field = |line: &str| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse().ok();
        status.lines().find_map(field).expect("the system tells it")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Has calls fail from now on as `fault` says, in the words of `strace -e inject=`.
    pub(crate) fn inject(&self, fault: &str) -> Tracer {
        let id = self.child.id().to_string();
        self.trace(fault, &["-f", "-p", &id], |_| true)
    }

    /// The same, but only calls of the threads that have this name.
    pub(crate) fn inject_into_thread(&self, name: &str, fault: &str) -> Tracer {
        let is_named = |thread: &Path| {
            std::fs::read_to_string(thread.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        };
        let ids: Vec<String> =
            self.threads().iter().filter(|thread| is_named(thread)).map(|thread| thread_id(thread)).collect();
        let arguments: Vec<&str> = ids.iter().flat_map(|id| ["-p", id]).collect();
        assert!(!arguments.is_empty(), "a thread {name} runs");
        self.trace(fault, &arguments, is_named)
    }

    /// Starts strace, and waits until it is at the side of all those threads.
    fn trace(&self, fault: &str, targets: &[&str], is_target: impl Fn(&Path) -> bool) -> Tracer {
        let output = PathBuf::from(format!("{}.strace", self.log));
        let mut command = Command::new("strace");
        command.args(["-s", "16", "-e", &format!("trace={SHOWN}"), "-e", &format!("inject={fault}")]);
        command.arg("-o").arg(&output).args(targets);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut tracer = Tracer { child: child.expect("strace starts"), output };
        let is_attached =
            || self.threads().iter().filter(|thread| is_target(thread)).all(|thread| is_traced(thread));
        let deadline = Instant::now() + PATIENCE;
        while !is_attached() {
            let ended = tracer.child.try_wait().expect("strace can be waited for");
            assert!(ended.is_none() && Instant::now() < deadline, "strace attaches: {command:?}: {ended:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        tracer
    }

    /// Where the system tells of each thread.
    fn threads(&self) -> Vec<PathBuf> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("the node runs");
        threads.flatten().map(|thread| thread.path()).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn thread_id(thread: &Path) -> String {
    thread.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn is_traced(thread: &Path) -> bool {
    let status = std::fs::read_to_string(thread.join("status")).unwrap_or_default();
    // A thread that has ended meanwhile has no status.
    status.lines().all(|line| line != "TracerPid:\t0")
}

/// strace, at the side of a node.
pub(crate) struct Tracer {
    child: Child,
    output: PathBuf,
}

impl Tracer {
    /// The calls of a node that has ended, in order.
    pub(crate) fn calls(mut self) -> Vec<String> {
        wait("strace ends with the node", || self.child.try_wait().expect("it can be waited for"));
        let calls = std::fs::read_to_string(&self.output).expect("strace has written its output");
        calls.lines().map(str::to_owned).collect()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It ends with the node.
        let _ = self.child.wait();
    }
}
