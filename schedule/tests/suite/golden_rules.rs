//! The single rules of the reference: learning-rate curve, resume, replay buffer.

use crate::common::{close, load};
use efficienttrain_schedule::{ReferenceCosine, ReplayBuffer, remap_start_epoch};
use serde_json::Value;

fn ints(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect()
}

#[test]
fn cosine_tables() {
    let data = load("cosine_scheduler.json");
    let cases = data["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let (float, int) = (|k: &str| case[k].as_f64().unwrap(), |k: &str| case[k].as_u64().unwrap());
        let steps = u64::try_from(case["warmup_steps"].as_i64().unwrap()).ok();
        let range = (float("base_value"), float("final_value"));
        let warm = int("warmup_epochs");
        let curve = ReferenceCosine::new(
            range,
            int("epochs"),
            int("niter_per_ep"),
            warm,
            float("start_warmup_value"),
            steps,
        )
        .unwrap();
        let values = case["values"].as_array().unwrap();
        assert_eq!(curve.values().count(), values.len());
        for (index, (ours, golden)) in curve.values().zip(values).enumerate() {
            close(ours, golden.as_f64().unwrap(), 1e-12, &format!("{case:.60} value {index}"));
        }
    }
}

#[test]
fn cosine_refuses_what_the_reference_refuses() {
    assert!(ReferenceCosine::new((4e-3, 1e-6), 10, 5, 11, 0.0, None).is_err());
    assert!(ReferenceCosine::new((4e-3, 1e-6), 10, 5, 0, 0.0, Some(3)).is_err());
    assert!(ReferenceCosine::new((4e-3, 1e-6), 10, 5, 10, 0.0, None).is_ok());
}

#[test]
fn cosine_with_one_warm_up_step_starts_at_the_start_value() {
    // numpy.linspace(start, stop, 1) is [start].
    let curve = ReferenceCosine::new((1.0, 0.0), 4, 1, 1, 0.25, None).unwrap();
    assert_eq!((curve.at(0), curve.at(1), curve.at(99)), (0.25, 1.0, 0.0));
}

#[test]
fn start_epochs() {
    let data = load("start_epoch_remap.json");
    let rows = data["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 315);
    for row in rows {
        let v = ints(row);
        let (replay, size) = ((v[1] as u32, v[2] as u32), (v[3] as u32, v[4] as u32));
        assert_eq!(remap_start_epoch(v[0], replay, size), v[5], "{row}");
    }
}

#[test]
fn start_epochs_round_half_to_even() {
    assert_eq!(remap_start_epoch(1, (1, 2), (96, 96)), 0);
    assert_eq!(remap_start_epoch(3, (1, 2), (96, 96)), 2);
    assert_eq!(remap_start_epoch(5, (1, 2), (96, 96)), 2);
}

#[test]
fn replay_batches() {
    let data = load("replay_buffer.json");
    for case in data["cases"].as_array().unwrap() {
        let int = |key: &str| case[key].as_u64().unwrap() as u32;
        let mut buffer = ReplayBuffer::new(
            int("replay_times"),
            int("replay_buffer_size"),
            int("replay_buffer_split_factor"),
        )
        .unwrap();
        for step in case["steps"].as_array().unwrap() {
            let mut draws = ints(&step["chunk_indices"]).into_iter();
            let stored = step["chunks_in_buffer"].as_u64().unwrap() as usize;
            let draw = |chunks: usize| {
                assert_eq!(chunks, stored);
                draws.next().expect("more draws than the reference") as usize
            };
            let trained = buffer.next_batch(&ints(&step["new_ids"]), draw).unwrap();
            assert_eq!(trained, ints(&step["trained_ids"]));
            assert_eq!(draws.next(), None, "fewer draws than the reference");
        }
        let chunks: Vec<Vec<u64>> = buffer.chunks().map(<[u64]>::to_vec).collect();
        let golden: Vec<Vec<u64>> = case["final_buffer"].as_array().unwrap().iter().map(ints).collect();
        assert_eq!(chunks, golden);
    }
}

#[test]
fn replay_refuses_a_draw_out_of_range() {
    let mut buffer = ReplayBuffer::new(2, 4, 2).unwrap();
    assert!(buffer.next_batch(&[1, 2], |chunks| chunks).is_err());
    assert!(ReplayBuffer::<u8>::new(0, 4, 2).is_err());
    assert!(ReplayBuffer::<u8>::new(2, 0, 2).is_err());
    assert!(ReplayBuffer::<u8>::new(2, 4, 0).is_err());
}
