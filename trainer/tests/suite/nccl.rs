//! Several processes, each with a GPU, that add up gradients with NCCL: on the emulated GPU alone,
//! of which each value of `CUDA_VISIBLE_DEVICES` is another one.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use candle_core::{DType, Device};

use crate::common::command::text;

/// The longest that the processes of a test may take.
const LONGEST: Duration = Duration::from_secs(240);
/// A run of a few steps of uneven parts: three devices, of which the second of two processes has
/// two, and gradients in many buckets.
const RUN: &str = "train --device cuda --devices 3 --model resnet10 --recipe baseline --base-size 32 --batch 2 \
                   --synthetic-images 24 --opt sgd --lr 0.02 --weight-decay 1e-4 --clip-grad 1 \
                   --ema-decay 0.5 --eval-every 100% --bucket-mib 1 --log csv";
/// The rest of it, unless a test has another value.
const DEFAULTS: [(&str, &str); 2] = [("--epochs", "1"), ("--rank-timeout", "60")];

fn is_emulated() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some();
    set("EFFICIENTTRAIN_TEST_GPU") && set("EFFICIENTTRAIN_PRETEND_GPU_MIB")
}

/// A process of a job.
struct Process {
    child: Child,
    messages: PathBuf,
}

/// A job of processes that begin together.
struct Job<'a> {
    dir: &'a Path,
    /// The GPU of each process.
    gpus: &'a [&'a str],
    more: &'a [&'a str],
    libraries: Option<String>,
}

impl<'a> Job<'a> {
    fn new(dir: &'a Path, gpus: &'a [&'a str], more: &'a [&'a str]) -> Self {
        Self { dir, gpus, more, libraries: None }
    }

    fn out(&self) -> PathBuf {
        self.dir.join("run")
    }

    fn start(&self) -> Vec<Process> {
        std::fs::create_dir_all(self.dir).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        (0..self.gpus.len()).map(|rank| self.start_one(rank, port)).collect()
    }

    fn start_one(&self, rank: usize, port: u16) -> Process {
        let messages = self.dir.join(format!("messages{rank}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_efficienttrain"));
        command.args(RUN.split_whitespace()).args(["--out", text(&self.out())]).args(self.more);
        for (option, value) in DEFAULTS.iter().filter(|(option, _)| !self.more.contains(option)) {
            command.args([option, value]);
        }
        let variables = [
            ("RANK", rank.to_string()),
            ("WORLD_SIZE", self.gpus.len().to_string()),
            ("MASTER_ADDR", "127.0.0.1".into()),
            ("MASTER_PORT", port.to_string()),
            ("CUDA_VISIBLE_DEVICES", self.gpus[rank].into()),
            ("EFFICIENTTRAIN_PRETEND_GPU_COUNTS", "1".into()),
        ];
        command.envs(variables).envs(self.libraries.iter().map(|path| ("LD_LIBRARY_PATH", path)));
        let file = std::fs::File::create(&messages).unwrap();
        let child = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Process { child, messages }
    }

    /// Runs it to its end, which must be a good one; returns how many sums NCCL was asked for.
    fn finish(&self) -> u64 {
        let ends: Vec<(bool, String)> = self.start().into_iter().map(Process::end).collect();
        assert!(ends.iter().all(|(good, _)| *good), "{ends:?}");
        let sums = |said: &str| {
            let counts = said.lines().filter_map(|line| line.strip_prefix("pretend GPU: sums over GPUs: "));
            counts.map(|count| count.parse::<u64>().unwrap()).sum::<u64>()
        };
        ends.iter().map(|(_, said)| sums(said)).sum()
    }

    /// Runs it to its end, which must be a bad one for all; returns what they say.
    fn fail(&self) -> Vec<String> {
        let ends: Vec<(bool, String)> = self.start().into_iter().map(Process::end).collect();
        assert!(ends.iter().all(|(good, _)| !good), "{ends:?}");
        ends.into_iter().map(|(_, said)| said).collect()
    }
}

impl Process {
    /// Waits for its end; returns if it is a good one, and what it has said.
    fn end(mut self) -> (bool, String) {
        let begun = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if begun.elapsed() > LONGEST => self.child.kill().unwrap(),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        (status.success(), std::fs::read_to_string(&self.messages).unwrap())
    }
}

/// No process is left behind by a test that fails.
impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a run of a process of its own ends with, at the same plan.
fn alone(dir: &Path) -> PathBuf {
    let job = Job::new(dir, &["0"], &[]);
    assert_eq!(job.finish(), 0, "it has nobody to add up with");
    job.out()
}

fn losses(out: &Path) -> Vec<f64> {
    let table = std::fs::read_to_string(out.join("steps.csv")).unwrap();
    let mut lines = table.lines();
    let at = lines.next().unwrap().split(',').position(|column| column == "loss").unwrap();
    lines.map(|line| line.split(',').nth(at).unwrap().parse().unwrap()).collect()
}

/// All weights of a run, in order of their names.
fn weights(out: &Path) -> Vec<f32> {
    let read = candle_core::safetensors::load(out.join("model.safetensors"), &Device::Cpu).unwrap();
    let mut named: Vec<_> = read.into_iter().collect();
    named.sort_by(|(a, _), (b, _)| a.cmp(b));
    let values = |t: &candle_core::Tensor| {
        t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    named.iter().flat_map(|(_, t)| values(t)).collect()
}

/// Asserts that losses and weights are alike, but not bitwise the same.
fn assert_near(got: &Path, want: &Path, most: f64) {
    let (got_losses, want_losses) = (losses(got), losses(want));
    assert_eq!((got_losses.len(), got_losses[0]), (want_losses.len(), want_losses[0]));
    for (got, want) in got_losses.iter().zip(&want_losses) {
        assert!((got - want).abs() < most * want, "{got_losses:?}, alone {want_losses:?}");
    }
    let (got, want) = (weights(got), weights(want));
    assert_eq!(got.len(), want.len());
    let off = got.iter().zip(&want).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
    let size = want.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    assert!(off > 0.0 && off < most * size, "weights are off by {off} of {size}");
}

fn assert_same(got: &Path, want: &Path) {
    assert_eq!(losses(got), losses(want));
    let bits = |out: &Path| weights(out).into_iter().map(f32::to_bits).collect::<Vec<_>>();
    assert!(bits(got) == bits(want), "weights differ");
}

#[test]
fn fast_sums_are_those_of_one_process_within_rounding() {
    if !is_emulated() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let want = alone(&dir.path().join("alone"));
    for (name, most) in [("f32", 1e-4), ("bf16", 1e-2)] {
        let (folder, more) = (dir.path().join(name), ["--sum-type", name]);
        let job = Job::new(&folder, &["0", "1"], &more);
        let sums = job.finish();
        // Four steps of two processes, with a bucket per MiB of gradients.
        assert!(sums >= 2 * 4 * 10, "{sums} sums");
        assert_near(&job.out(), &want, most);
    }
}

/// Also with both processes on one GPU, and without the library.
#[test]
fn ordered_sums_are_bitwise_those_of_one_process_without_nccl() {
    if !is_emulated() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let want = alone(&dir.path().join("alone"));
    let folder = dir.path().join("ordered");
    let mut job = Job::new(&folder, &["0", "0"], &["--sums", "ordered"]);
    job.libraries = Some(without_nccl(dir.path()));
    assert_eq!(job.finish(), 0);
    assert_same(&job.out(), &want);
}

/// Makes a folder of all emulated libraries but NCCL.
fn without_nccl(dir: &Path) -> String {
    let folder = dir.join("libraries");
    std::fs::create_dir(&folder).unwrap();
    let path = std::env::var("LD_LIBRARY_PATH").unwrap();
    let emulated = path.split(':').find(|folder| Path::new(folder).join("libnccl.so.2").exists()).unwrap();
    for entry in std::fs::read_dir(emulated).unwrap() {
        let name = entry.unwrap().file_name();
        if name != "libnccl.so.2" {
            std::os::unix::fs::symlink(Path::new(emulated).join(&name), folder.join(&name)).unwrap();
        }
    }
    let others = path.split(':').filter(|folder| *folder != emulated);
    std::iter::once(text(&folder)).chain(others).collect::<Vec<_>>().join(":")
}

#[test]
fn a_missing_library_is_an_error_that_names_the_way_without_it() {
    if !is_emulated() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("job");
    let mut job = Job::new(&folder, &["0", "1"], &[]);
    job.libraries = Some(without_nccl(dir.path()));
    let said = job.fail();
    for part in ["--sums: NCCL cannot be used", "libnccl.so.2", "LD_LIBRARY_PATH", "--sums ordered"] {
        assert!(said[0].contains(part), "`{part}` is not in {said:?}");
    }
}

#[test]
fn two_processes_on_one_gpu_are_both_named() {
    if !is_emulated() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let said = Job::new(dir.path(), &["3", "3"], &[]).fail();
    for part in ["--device: rank 0 (", "and rank 1 (", "have the same GPU (GPU-", "--sums ordered"] {
        assert!(said[0].contains(part), "`{part}` is not in {said:?}");
    }
}

/// A process alone that is told to talk to others adds up over NCCL as well.
#[test]
fn a_world_of_one_process_is_what_a_process_of_its_own_does() {
    if !is_emulated() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let want = alone(&dir.path().join("alone"));
    let folder = dir.path().join("world");
    let job = Job::new(&folder, &["0"], &["--engine", "tcp"]);
    let sums = job.finish();
    assert!(sums >= 4 * 10, "{sums} sums");
    assert_same(&job.out(), &want);
}

/// Starts a long job and waits until it has taken a few steps.
fn under_way(job: &Job) -> Vec<Process> {
    let processes = job.start();
    let (table, begun) = (job.out().join("steps.csv"), Instant::now());
    while std::fs::read_to_string(&table).unwrap_or_default().lines().count() < 3 {
        assert!(begun.elapsed() < LONGEST, "{:?}", std::fs::read_to_string(&processes[0].messages));
        std::thread::sleep(Duration::from_millis(10));
    }
    processes
}

#[test]
fn a_process_that_is_killed_ends_the_other_which_names_it() {
    if !is_emulated() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut processes = under_way(&Job::new(dir.path(), &["0", "1"], &["--epochs", "1000"]));
    processes[1].child.kill().unwrap();
    let begun = Instant::now();
    let (good, said) = processes.remove(0).end();
    assert!(!good && said.contains("error: rank 1 (") && said.contains("is gone"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[test]
fn a_process_that_is_stopped_is_named_after_the_limit() {
    if !is_emulated() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let more = ["--epochs", "1000", "--rank-timeout", "4"];
    let mut processes = under_way(&Job::new(dir.path(), &["0", "1"], &more));
    let stop = Command::new("kill").args(["-STOP", &processes[1].child.id().to_string()]).status().unwrap();
    assert!(stop.success());
    let begun = Instant::now();
    let (good, said) = processes.remove(0).end();
    assert!(!good && said.contains("error: rank 1 ("), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}
