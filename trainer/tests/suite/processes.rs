//! Runs of several processes, connected by TCP and, in builds with MPI, started by `mpirun`: bitwise
//! the run of one process, and an end of all with a named cause when one of them fails.

use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::common::content::{content, step_of};

const PROGRAM: &str = env!("CARGO_BIN_EXE_efficienttrain");
/// Time limit of anything, for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(120);

/// How the processes are started.
#[derive(Clone, Copy)]
enum Launcher {
    Tcp,
    #[cfg(feature = "mpi")]
    Mpi,
}

/// Processes that were started together.
struct Job {
    launcher: Launcher,
    children: Vec<Child>,
}

/// End of a process, or of the launcher of all.
struct End {
    code: Option<i32>,
    said: String,
}

/// Returns a port that is free now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Arguments of a run for four devices, over several sizes, with replay and a moving average. Those
/// in `more` replace others.
fn arguments(out: &Path, more: &[&str]) -> Vec<String> {
    let fixed = "--model resnet10 --synthetic-images 64 --base-size 48 --batch 2 --devices 4 --epochs 1.5 --lr 1e-3 \
                 --ema-decay 0.9 --drop-path 0.1 --replay 2 --eval-every 30% --checkpoint-every 1st --workers 1";
    let fixed: Vec<&str> = fixed.split_whitespace().collect();
    let kept = fixed.chunks(2).filter(|option| !more.contains(&option[0])).flatten();
    let all = ["train", "--out", out.to_str().unwrap()].into_iter().chain(kept.copied());
    all.chain(more.iter().copied()).map(str::to_string).collect()
}

/// Arguments that go on with a run.
fn resumed(out: &Path) -> Vec<String> {
    ["train", "--resume", "auto", "--out", out.to_str().unwrap()].map(str::to_string).to_vec()
}

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn as_rank(rank: usize, ranks: usize, port: u16, arguments: &[String]) -> Child {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env("RANK", rank.to_string()).env("WORLD_SIZE", ranks.to_string());
    spawn(command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string()))
}

/// Open MPI as root, with more processes than cores.
#[cfg(feature = "mpi")]
fn mpirun() -> Command {
    let mut command = Command::new("mpirun");
    for (name, value) in [
        ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
        ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
        ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
    ] {
        command.env(name, value);
    }
    command
}

impl Launcher {
    /// Starts one process for each of these lists of arguments.
    fn start(self, ranks: &[Vec<String>]) -> Job {
        let children = match self {
            Self::Tcp => {
                let port = free_port();
                ranks.iter().enumerate().map(|(i, own)| as_rank(i, ranks.len(), port, own)).collect()
            }
            #[cfg(feature = "mpi")]
            Self::Mpi => {
                let mut command = mpirun();
                for (i, own) in ranks.iter().enumerate() {
                    command.args((i > 0).then_some(":")).args(["-n", "1", PROGRAM]).args(own);
                }
                vec![spawn(&mut command)]
            }
        };
        Job { launcher: self, children }
    }

    /// Starts `ranks` processes that all do the same.
    fn start_same(self, ranks: usize, arguments: &[String]) -> Job {
        self.start(&vec![arguments.to_vec(); ranks])
    }
}

/// Returns the processes whose parent is `parent`, in the order in which they were started.
#[cfg(feature = "mpi")]
fn children_of(parent: u32) -> Vec<u32> {
    let found = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let of: u32 = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
        (of == parent && status.contains("efficienttrain")).then_some(pid)
    });
    let mut found: Vec<u32> = found.collect();
    found.sort_unstable();
    found
}

impl Job {
    fn processes(&self) -> Vec<u32> {
        match self.launcher {
            Launcher::Tcp => self.children.iter().map(Child::id).collect(),
            #[cfg(feature = "mpi")]
            Launcher::Mpi => children_of(self.children[0].id()),
        }
    }

    fn signal(&self, rank: usize, signal: &str) {
        let process = self.processes()[rank].to_string();
        assert!(Command::new("kill").args([signal, &process]).status().unwrap().success());
    }

    /// Waits for a checkpoint of at least this step.
    fn wait_for_step(&mut self, out: &Path, step: u64) {
        let (begin, path) = (Instant::now(), out.join("last.safetensors"));
        let saved = || path.exists().then(|| step_of(&path));
        while saved() < Some(step) {
            assert!(begin.elapsed() < PATIENCE, "no checkpoint of step {step}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for all to end.
    fn ends(self) -> Vec<End> {
        let end = |mut child: Child| {
            let begin = Instant::now();
            while child.try_wait().unwrap().is_none() {
                if begin.elapsed() > PATIENCE {
                    let _ = child.kill();
                    let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
                    panic!("a process does not end; it said: {said}");
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let output = child.wait_with_output().unwrap();
            End { code: output.status.code(), said: String::from_utf8(output.stderr).unwrap() }
        };
        self.children.into_iter().map(end).collect()
    }

    /// Waits for all to end, successfully.
    fn succeeds(self) {
        for (i, end) in self.ends().into_iter().enumerate() {
            assert_eq!(end.code, Some(0), "process {i}: {}", end.said);
        }
    }

    /// Waits for all to end with this code; returns what they said together.
    fn ends_with(self, code: i32) -> String {
        let ends = self.ends();
        let said: String = ends.iter().map(|end| end.said.as_str()).collect();
        for end in &ends {
            assert_eq!(end.code, Some(code), "{said}");
        }
        said
    }
}

/// Trains in one process, undisturbed, once for all tests.
fn undisturbed() -> &'static Path {
    static TRAINED: OnceLock<PathBuf> = OnceLock::new();
    TRAINED.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("undisturbed");
        let _ = std::fs::remove_dir_all(&out);
        let trained = Command::new(PROGRAM).args(arguments(&out, &[])).output().unwrap();
        assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
        out.join("last.safetensors")
    })
}

/// Returns true if both checkpoints have the same weights, moments, averages and accuracies.
fn same(one: &Path, other: &Path) -> bool {
    content(one) == content(other)
}

fn any_number_of_processes(launcher: Launcher) {
    let dir = tempfile::tempdir().unwrap();
    let whole = undisturbed();
    for ranks in [2, 3] {
        let out = dir.path().join(ranks.to_string());
        launcher.start_same(ranks, &arguments(&out, &[])).succeeds();
        assert!(same(whole, &out.join("last.safetensors")), "{ranks} processes end with something else");
        assert!(out.join("model.safetensors").exists());
        let logs = std::fs::read_to_string(out.join("log.jsonl")).unwrap();
        assert_eq!(logs.matches("\"event\":\"start\"").count(), 1, "rank 0 alone writes");
    }
}

/// One is killed; the others end and name it. The run goes on with fewer.
fn a_killed_process(launcher: Launcher) {
    let dir = tempfile::tempdir().unwrap();
    let whole = undisturbed();
    let out = dir.path().join("killed");
    let mut job = launcher.start_same(3, &arguments(&out, &[]));
    job.wait_for_step(&out, 2);
    job.signal(2, "-KILL");
    let (begin, ends) = (Instant::now(), job.ends());
    assert!(begin.elapsed() < Duration::from_secs(20), "the others end after {:?}", begin.elapsed());
    let said: String = ends.iter().map(|end| end.said.as_str()).collect();
    assert!(ends.iter().all(|end| end.code != Some(0)), "{said}");
    assert!(said.contains("rank 2"), "{said}");
    launcher.start_same(2, &resumed(&out)).succeeds();
    assert!(same(whole, &out.join("last.safetensors")));
}

/// One hangs; the others end after the time limit and name it.
fn a_hung_process(launcher: Launcher) {
    let dir = tempfile::tempdir().unwrap();
    let mut job = launcher.start_same(3, &arguments(dir.path(), &["--rank-timeout", "3", "--epochs", "200"]));
    job.wait_for_step(dir.path(), 2);
    let hung = job.processes()[1];
    job.signal(1, "-STOP");
    let begin = Instant::now();
    // The stopped process does not end by itself.
    let watch = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(10));
        let _ = Command::new("kill").args(["-KILL", &hung.to_string()]).status();
    });
    let said: String = job.ends().iter().map(|end| end.said.as_str()).collect();
    watch.join().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(40), "{:?}", begin.elapsed());
    assert!(said.contains("rank 1 (") && said.contains("3 s"), "{said}");
}

/// A signal to any of them ends all after the same step, with code 75.
fn a_signal_to_one(launcher: Launcher) {
    let dir = tempfile::tempdir().unwrap();
    let whole = undisturbed();
    let out = dir.path().join("stopped");
    let mut job = launcher.start_same(3, &arguments(&out, &[]));
    job.wait_for_step(&out, 1);
    job.signal(2, "-USR1");
    let said = job.ends_with(75);
    assert_eq!(said.matches("resume with --resume").count(), 1, "{said}");
    launcher.start_same(4, &resumed(&out)).succeeds();
    assert!(same(whole, &out.join("last.safetensors")));
}

/// What differs, or fails, in one of them is said once, and all end.
fn one_that_differs(launcher: Launcher) {
    let dir = tempfile::tempdir().unwrap();
    for (more, expected) in [
        (&["--seed", "4"][..], "--seed of rank 1 ("),
        (&["--data", "/nowhere"], "/nowhere: no such folder"),
        (&["--synthetic-images", "65"], "--synthetic-images of rank 1"),
        (&["--eval-every", "40%"], "--eval-every of rank 1"),
    ] {
        let first = arguments(dir.path(), &["--rank-timeout", "30"]);
        let second = arguments(dir.path(), &[&["--rank-timeout", "30"], more].concat());
        let said = launcher.start(&[first, second]).ends_with(1);
        assert!(said.contains(expected), "{said}");
        assert_eq!(said.matches("error:").count(), 1, "{said}");
    }
}

/// An error of all is shown by one.
fn the_same_error_of_all(launcher: Launcher) {
    let dir = tempfile::tempdir().unwrap();
    let said = launcher.start_same(3, &arguments(dir.path(), &["--lr", "-1"])).ends_with(1);
    assert_eq!(said.matches("error: --lr").count(), 1, "{said}");
}

macro_rules! with_each_launcher {
    ($($test:ident)*) => {
        mod tcp {
            $(#[test] fn $test() { super::$test(super::Launcher::Tcp); })*
        }
        #[cfg(feature = "mpi")]
        mod mpi {
            $(#[test] fn $test() { super::$test(super::Launcher::Mpi); })*
        }
    };
}

with_each_launcher! {
    any_number_of_processes a_killed_process a_hung_process a_signal_to_one one_that_differs the_same_error_of_all
}

/// Connections of others, and processes that come late, do no harm.
#[test]
fn stray_connections_are_turned_away() {
    let dir = tempfile::tempdir().unwrap();
    let (port, own) = (free_port(), arguments(dir.path(), &["--epochs", "0.3"]));
    // Before there is a rank 0 to talk to.
    let second = as_rank(1, 2, port, &own);
    std::thread::sleep(Duration::from_millis(300));
    let third_of_another_job = as_rank(2, 3, port, &own);
    let first = as_rank(0, 2, port, &own);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"etrank01\xff\xff\xff\xff", b""] {
        for _ in 0..50 {
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
                let _ = stream.write_all(garbage);
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Job { launcher: Launcher::Tcp, children: vec![first, second] }.succeeds();
    let mut stray = third_of_another_job;
    stray.kill().unwrap();
    stray.wait().unwrap();
}

#[test]
fn missing_processes_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (port, own) = (free_port(), arguments(dir.path(), &["--rank-timeout", "2"]));
    let children = [0, 2].map(|rank| as_rank(rank, 4, port, &own)).into();
    let ends = Job { launcher: Launcher::Tcp, children }.ends();
    assert!(ends.iter().all(|end| end.code == Some(1)));
    assert!(ends[0].said.contains("these have not come: [1, 3]"), "{}", ends[0].said);
}

#[test]
fn commands_of_one_process_refuse_several() {
    for command in ["compare", "search"] {
        let output =
            Command::new(PROGRAM).arg(command).env("RANK", "0").env("WORLD_SIZE", "2").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains("runs in one process"), "{said}");
    }
}

#[test]
#[cfg(not(feature = "mpi"))]
fn a_launcher_of_mpi_needs_a_build_with_mpi() {
    let mut command = Command::new(PROGRAM);
    command.env("OMPI_COMM_WORLD_SIZE", "2").env("OMPI_COMM_WORLD_RANK", "1").arg("train");
    let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(said.contains("--features mpi"), "{said}");
}

/// The program of one MPI under the launcher of another one: each process would be alone.
#[test]
#[cfg(feature = "mpi")]
fn a_launcher_of_another_mpi_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(arguments(dir.path(), &[])).env("PMI_SIZE", "2").env("PMI_RANK", "0");
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("started 2 processes") && said.contains("Open MPI"), "{said}");
}

/// Two hosts: network namespaces that are connected by a cable.
struct Hosts {
    names: [String; 2],
}

impl Hosts {
    /// Sets up two hosts; none if this process may not.
    fn connected(number: u8) -> Option<Self> {
        let names = [1, 2].map(|host| format!("et{}-{number}{host}", std::process::id() % 10_000));
        let ip = |arguments: &str| {
            let arguments = arguments.replace('A', &names[0]).replace('B', &names[1]);
            let done = Command::new("ip").args(arguments.split_whitespace()).stderr(Stdio::null()).status();
            done.is_ok_and(|status| status.success())
        };
        if !ip("netns add A") {
            return None;
        }
        let hosts = Self { names: names.clone() };
        let commands = [
            "netns add B",
            "link add vA type veth peer name vB",
            "link set vA netns A",
            "link set vB netns B",
            "-n A addr add 10.77.0.1/24 dev vA",
            "-n B addr add 10.77.0.2/24 dev vB",
            "-n A link set vA up",
            "-n B link set vB up",
            "-n A link set lo up",
            "-n B link set lo up",
        ];
        commands.into_iter().all(ip).then_some(hosts)
    }

    fn start(&self, host: usize, rank: usize, arguments: &[String]) -> Child {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[host], PROGRAM]).args(arguments);
        command.env("RANK", rank.to_string()).env("WORLD_SIZE", "3");
        spawn(command.env("MASTER_ADDR", "10.77.0.1").env("MASTER_PORT", "29500"))
    }

    fn cut(&self) {
        let [a, _] = &self.names;
        let done = Command::new("ip").args(["-n", a, "link", "set", &format!("v{a}"), "down"]).status();
        assert!(done.unwrap().success());
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
        }
    }
}

/// One process on the first host, two on the second. Where network namespaces are not permitted,
/// there is nothing to test.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "trains much: CI runs it"]
fn processes_of_two_hosts() {
    let Some(hosts) = Hosts::connected(0) else { return };
    let dir = tempfile::tempdir().unwrap();
    let whole = undisturbed();
    let out = dir.path().join("hosts");
    let start = |arguments: &[String]| {
        let children = [(0, 0), (1, 1), (1, 2)].map(|(host, rank)| hosts.start(host, rank, arguments));
        Job { launcher: Launcher::Tcp, children: children.into() }
    };
    start(&arguments(&out, &[])).succeeds();
    assert!(same(whole, &out.join("last.safetensors")));
    // A cable is pulled: nobody says goodbye.
    let out = dir.path().join("cut");
    let mut job = start(&arguments(&out, &["--rank-timeout", "4", "--epochs", "200"]));
    job.wait_for_step(&out, 1);
    hosts.cut();
    let begin = Instant::now();
    let ends = job.ends();
    assert!(begin.elapsed() < Duration::from_secs(40), "{:?}", begin.elapsed());
    assert!(ends.iter().all(|end| end.code == Some(1)));
    assert!(ends[0].said.contains("rank 1 (") || ends[0].said.contains("rank 2 ("), "{}", ends[0].said);
    assert!(ends[1].said.contains("rank 0 (") || ends[2].said.contains("rank 0 ("), "{}", ends[1].said);
}

/// Any process is killed at any moment, and the run goes on with any number of processes.
#[test]
#[ignore = "trains many times"]
fn kills_at_random_moments() {
    let dir = tempfile::tempdir().unwrap();
    let whole = undisturbed();
    let (mut seed, mut kills) = (11u64, 0);
    let mut draw = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for attempt in 0..2 {
        let out = dir.path().join(attempt.to_string());
        let mut first = true;
        loop {
            let ranks = 2 + draw(3) as usize;
            let mut job = Launcher::Tcp.start_same(ranks, &arguments(&out, &["--resume", "auto"]));
            // Some attempts are left alone, so that the run ends.
            let doomed = first || draw(3) > 0;
            first = false;
            if doomed {
                std::thread::sleep(Duration::from_millis(300 + draw(5000)));
                let victim = draw(ranks as u64) as usize;
                if job.children[victim].try_wait().unwrap().is_none() {
                    job.signal(victim, "-KILL");
                    kills += 1;
                }
            }
            let ends = job.ends();
            if ends.iter().all(|end| end.code == Some(0)) {
                break;
            }
            assert!(doomed, "{}", ends.iter().map(|end| end.said.as_str()).collect::<String>());
        }
        assert!(same(whole, &out.join("last.safetensors")), "after {kills} kills");
    }
    assert!(kills >= 2, "{kills} kills");
}
