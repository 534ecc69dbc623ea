//! Runs that are planned for several devices, whose passes one process computes in turn.

use crate::common::{bits, config, options, run};
use efficienttrain::Run;
use efficienttrain::config::TrainConfig;

fn trained(config: &TrainConfig) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let mut run = run(config, options(dir.path(), 2));
    run.train(&mut ()).unwrap();
    run
}

fn planned(devices: u32, accumulation: u32) -> Run {
    let config = config("resnet10");
    trained(&TrainConfig {
        devices,
        accumulation,
        batch: 4.into(),
        ema_decay: Some(0.9),
        epochs: 0.8,
        ..config
    })
}

/// Two or three passes are added in the same order, whether they are of one device or of several.
#[test]
fn few_devices_are_as_many_passes_of_one() {
    for passes in [2, 3] {
        let (devices, one) = (planned(passes, 1), planned(1, passes));
        assert_eq!(devices.plan().total_steps(), one.plan().total_steps());
        assert_eq!(devices.plan().at(3).unwrap().global_batch, u64::from(4 * passes));
        assert_eq!(bits(&devices), bits(&one), "{passes} passes");
        let losses = |run: &Run| run.history.evals.iter().map(|e| (e.step, e.loss)).collect::<Vec<_>>();
        assert_eq!(losses(&devices), losses(&one));
    }
}

/// Four devices with one pass each are added in pairs, two with two passes likewise; four passes of
/// one device are not.
#[test]
fn gradients_of_devices_are_added_in_pairs() {
    let [pairs, halves, in_turn] = [(4, 1), (2, 2), (1, 4)].map(|(d, a)| planned(d, a));
    assert_eq!(bits(&pairs), bits(&halves));
    assert_ne!(bits(&pairs), bits(&in_turn));
    let losses = [&pairs, &in_turn].map(|run| run.history.evals.last().unwrap().loss);
    assert!((losses[0] - losses[1]).abs() < 0.02, "{losses:?}");
}
