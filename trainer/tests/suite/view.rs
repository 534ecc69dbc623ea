//! Full-screen view: its contents, and that the terminal is restored whatever ends the run.

use crate::common::{config, options, run};
use efficienttrain::Result;
use efficienttrain::events::{Event, Observer};
use efficienttrain::observe::view::{Dashboard, draw};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

/// All events of a short run.
#[derive(Default)]
struct Noted(Vec<Event>);

impl Observer for Noted {
    fn observe(&mut self, event: &Event) -> Result<()> {
        self.0.push(event.clone());
        Ok(())
    }
}

fn events() -> (Vec<Event>, u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut run = run(&config("resnet10"), options(dir.path(), 1));
    let mut noted = Noted::default();
    run.train(&mut noted).unwrap();
    (noted.0, run.plan().total_steps())
}

/// Returns the screen after all events, drawn at each of them.
fn watched(events: &[Event], width: u16, height: u16) -> (Dashboard, String) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let mut dashboard = Dashboard::default();
    for event in events {
        dashboard.take(event);
        terminal.draw(|frame| draw(frame, &dashboard)).unwrap();
    }
    (dashboard, terminal.backend().to_string())
}

#[test]
fn the_screen_shows_where_a_run_is() {
    let (events, total) = events();
    let (dashboard, screen) = watched(&events, 110, 34);
    let best = dashboard.best().unwrap();
    for expected in [
        "resnet10".to_string(),
        format!("run: step {total} of {total}, 0:00 left"),
        "training loss".into(),
        "top-1, %".into(),
        "B = 32   m = 9.0".into(),
        "▶ 10  B   32".into(),
        "✓  1  B".into(),
        format!("best top-1    {best:.2}%"),
        "network busy".into(),
        "loader busy".into(),
        format!("done: {total} steps"),
    ] {
        assert!(screen.contains(&expected), "no `{expected}` in\n{screen}");
    }
    // A curve in each chart.
    assert!(screen.chars().filter(|c| ('\u{2801}'..='\u{28ff}').contains(c)).count() > 20, "{screen}");
    // A tiny screen is not a panic.
    for (width, height) in [(1, 1), (10, 3), (40, 12), (80, 24)] {
        watched(&events, width, height);
    }
}

#[cfg(unix)]
mod terminal {
    use std::fs::File;
    use std::io::Read;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{LocalModes, SpecialCodeIndex, Winsize, tcgetattr, tcsetwinsize};

    use crate::common::command::text;

    const ENTER: &str = "\x1b[?1049h";
    const LEAVE: &str = "\x1b[?1049l";
    const SHOW_CURSOR: &str = "\x1b[?25h";

    /// A run in its own terminal.
    struct InTerminal {
        child: Child,
        slave: File,
        output: std::sync::mpsc::Receiver<Vec<u8>>,
        seen: String,
    }

    impl InTerminal {
        fn start(args: &[&str]) -> Self {
            let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
            grantpt(&master).unwrap();
            unlockpt(&master).unwrap();
            let name = ptsname(&master, Vec::new()).unwrap();
            let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
            tcsetwinsize(&master, size).unwrap();
            let slave = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
            let end = || Stdio::from(slave.try_clone().unwrap());
            // Shells start background processes so that they ignore Ctrl-C; SIGTERM is never
            // ignored.
            let child = Command::new(env!("CARGO_BIN_EXE_efficienttrain"))
                .args(args)
                .stdin(end())
                .stdout(end())
                .stderr(end())
                .spawn()
                .unwrap();
            let (send, output) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let (mut master, mut buffer) = (File::from(master), [0; 4096]);
                while let Ok(n @ 1..) = master.read(&mut buffer) {
                    if send.send(buffer[..n].to_vec()).is_err() {
                        break;
                    }
                }
            });
            Self { child, slave, output, seen: String::new() }
        }

        fn echoes(&self) -> bool {
            let modes = tcgetattr(&self.slave).unwrap();
            let echo = modes.local_modes.contains(LocalModes::ECHO);
            assert_eq!(modes.special_codes[SpecialCodeIndex::VSUSP] != 0, echo);
            echo
        }

        fn signal(&self) {
            let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
            assert!(sent.success());
        }

        /// Reads until the text has appeared.
        fn wait_for(&mut self, text: &str) {
            let begun = Instant::now();
            while !self.seen.contains(text) {
                assert!(begun.elapsed() < Duration::from_secs(60), "no {text:?} in {:?}", self.seen);
                if let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(50)) {
                    self.seen += &String::from_utf8_lossy(&bytes);
                }
            }
        }

        /// Waits for the end, and returns the exit code and the output after the view was closed.
        fn ended(mut self) -> (Option<i32>, String) {
            self.wait_for(LEAVE);
            let status = self.child.wait().unwrap();
            while let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(200)) {
                self.seen += &String::from_utf8_lossy(&bytes);
            }
            assert!(self.echoes(), "keys are still hidden");
            let after = self.seen.rsplit(LEAVE).next().unwrap().to_string();
            assert!(after.contains(SHOW_CURSOR), "the cursor is still hidden: {after:?}");
            (status.code(), after)
        }
    }

    fn args<'a>(out: &'a str, epochs: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let fixed = [
            "train",
            "--view",
            "full",
            "--model",
            "resnet10",
            "--base-size",
            "32",
            "--batch",
            "8",
            "--synthetic-images",
            "64",
            "--workers",
            "1",
        ];
        [&fixed[..], &["--epochs", epochs, "--out", out], more].concat()
    }

    #[test]
    fn it_is_given_back_at_the_end_and_after_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("run");
        let mut run = InTerminal::start(&args(text(&out), "1", &[]));
        run.wait_for(ENTER);
        let (code, after) = run.ended();
        assert_eq!(code, Some(0));
        // The messages of the meantime are printed.
        assert!(
            after.contains("stage 10/10") && after.contains("top-1") && after.contains("done:"),
            "{after}"
        );

        // An extreme learning rate ends the run with a non-finite loss.
        let out = dir.path().join("diverged");
        let (code, after) =
            InTerminal::start(&args(text(&out), "5", &["--lr", "1000", "--clip-grad", "0"])).ended();
        assert_eq!(code, Some(1), "{after}");
        assert!(after.contains("error: step"), "{after}");
    }

    #[test]
    fn it_is_given_back_after_one_signal_and_after_two() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("run");
        let mut run = InTerminal::start(&args(text(&out), "1000", &[]));
        run.wait_for("images/s");
        assert!(!run.echoes(), "keys are shown");
        run.signal();
        let (code, after) = run.ended();
        assert_eq!(code, Some(75), "{after}");
        assert!(after.contains("stopped by a signal"), "{after}");

        // Large steps, so that the second signal arrives before the first has ended the run.
        let out = dir.path().join("two");
        let large = ["--base-size", "224", "--batch", "64", "--recipe", "baseline"];
        let large = args(text(&out), "1000", &[])
            .iter()
            .copied()
            .filter(|a| !["--base-size", "32", "--batch", "8"].contains(a))
            .chain(large)
            .collect::<Vec<_>>();
        let mut run = InTerminal::start(&large);
        run.wait_for("stage 1/1");
        run.signal();
        std::thread::sleep(Duration::from_millis(100));
        run.signal();
        let (code, after) = run.ended();
        assert_eq!(code, Some(128 + 15), "{after}");
    }
}
