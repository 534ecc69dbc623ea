//! Runs that end because they no longer improve.

use crate::common::{config, options, run};
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain::config::{Interval, RunOptions, TrainConfig};
use efficienttrain::events::{Event, Observer};
use efficienttrain::{Error, Run, Sources};

#[derive(Default)]
struct Seen {
    notes: Vec<String>,
    evals: Vec<u64>,
    finished: Option<bool>,
}

impl Observer for Seen {
    fn observe(&mut self, event: &Event) -> Result<(), Error> {
        match event {
            Event::Note { text } => self.notes.push(text.clone()),
            Event::Eval(eval) => self.evals.push(eval.step),
            Event::End { finished, .. } => self.finished = Some(*finished),
            _ => {}
        }
        Ok(())
    }
}

#[test]
fn a_run_that_does_not_improve_ends_early_and_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    // Weights hardly change, so that no evaluation is much better than the first one.
    let still = TrainConfig {
        lr: Some(1e-12),
        min_lr: Some(0.0),
        ema_decay: Some(0.0),
        epochs: 4.0,
        ..config("resnet10")
    };
    let given = RunOptions {
        eval_every: Interval::Steps(5),
        early_stop: Some(Interval::Steps(10)),
        ..options(dir.path(), 2)
    };
    let mut seen = Seen::default();
    let mut stopped = run(&TrainConfig { weight_decay: Some(0.0), ..still.clone() }, given.clone());
    // Batch norms adapt their statistics, which may still raise the accuracy a little.
    assert!(stopped.train(&mut seen).unwrap(), "ended early, but complete");
    let best = stopped.history.best().unwrap().step;
    assert_eq!(stopped.step(), best + 10);
    assert!(stopped.step() < stopped.plan().total_steps());
    assert_eq!(seen.finished, Some(true));
    assert!(
        seen.notes.iter().any(|note| note.starts_with("stopped early: no evaluation for 10st")),
        "{:?}",
        seen.notes
    );
    assert!(dir.path().join("model.safetensors").exists());
    // Resuming it finds that it is complete.
    let saved = Checkpoint::open(&dir.path().join("last.safetensors")).unwrap();
    let sources = Sources::of_run(saved.run().unwrap()).unwrap();
    let mut resumed = Run::resume(&saved, given, sources).unwrap();
    let mut again = Seen::default();
    assert!(resumed.train(&mut again).unwrap());
    assert_eq!((resumed.step(), again.evals.len()), (stopped.step(), 0));
}

#[test]
fn a_patience_longer_than_the_run_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let train = |name: &str, early_stop| {
        let options = RunOptions { early_stop, ..options(&dir.path().join(name), 2) };
        let short = TrainConfig { epochs: 0.5, ..config("resnet10") };
        let mut run = run(&short, options);
        run.train(&mut ()).unwrap();
        crate::common::bits(&run)
    };
    assert!(train("a", None) == train("b", Some(Interval::Epochs(100))));
}
