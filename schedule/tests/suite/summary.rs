//! The table that `efficienttrain plan` prints.

use efficienttrain_schedule::{Plan, PlanOptions, Recipe, Rounding, Summary};

fn summary(rounding: Rounding) -> Summary {
    let options = PlanOptions::new(200.0, 1_281_167, 8).with_rounding(rounding);
    Plan::new(&Recipe::named("deit-small-etpp").unwrap(), options).unwrap().summary().unwrap()
}

#[test]
fn json_has_exactly_the_promised_keys_in_order() {
    let text = serde_json::to_string(&summary(Rounding::Exact)).unwrap();
    let keys = ["equivalent_epochs", "total_steps", "stages"];
    let stage = "size magnitude batch_per_device accumulation steps epochs share lr_first lr_last";
    let expected: Vec<&str> = keys.into_iter().chain((0..10).flat_map(|_| stage.split(' '))).collect();
    let found: Vec<&str> = text.split('"').skip(1).step_by(2).collect();
    assert_eq!(found, expected);
    assert_eq!(serde_json::from_str::<Summary>(&text).unwrap(), summary(Rounding::Exact));
}

#[test]
fn reference_lists_the_launchers_ten_stages() {
    let summary = summary(Rounding::Reference);
    let epochs: Vec<f64> = summary.stages.iter().map(|stage| stage.epochs).collect();
    // From start_epoch and end_epoch of the golden table.
    assert_eq!(epochs, [108.0, 109.0, 39.0, 39.0, 40.0, 39.0, 27.0, 27.0, 21.0, 20.0]);
    assert_eq!(summary.total_steps, 469 * 312);
    assert!((summary.equivalent_epochs - 200.6326530612245).abs() < 1e-9);
}

#[test]
fn the_text_table_has_a_row_a_stage() {
    let text = summary(Rounding::Exact).to_string();
    assert_eq!(text.lines().count(), 12);
    assert!(text.lines().nth(1).unwrap().starts_with("  96        0.0    512           1"), "{text}");
    assert!(text.ends_with("compute epochs"), "{text}");
}

#[test]
fn replay_adds_what_is_decoded_and_what_the_buffer_takes() {
    let plan = |name: &str| {
        let recipe = Recipe::named(name).unwrap();
        Plan::new(&recipe, PlanOptions::new(200.0, 1_281_167, 8)).unwrap().summary().unwrap()
    };
    let (with, without) = (plan("deit-small-etpp-replay"), plan("deit-small-etpp"));
    assert_eq!((without.decoded_share, without.stages[0].replay.clone()), (None, None));
    let row = with.stages[0].replay.clone().unwrap();
    assert_eq!((row.times, row.buffer_bytes), (4, 1920 * 128 * 3 * 96 * 96));
    assert!((row.decoded_epochs * 4.0 - with.stages[0].epochs).abs() < 1e-9);
    assert!(with.stages[9].replay.is_none());
    // By hand: the passes of each stage, a quarter of them at 96 pixels and half of them at 160.
    let decoded = |row: &efficienttrain_schedule::SummaryStage| match row.size {
        96 => row.epochs / 4.0,
        160 => row.epochs / 2.0,
        _ => row.epochs,
    };
    let all =
        |f: &dyn Fn(&efficienttrain_schedule::SummaryStage) -> f64| with.stages.iter().map(f).sum::<f64>();
    assert!((with.decoded_share.unwrap() - all(&decoded) / all(&|row| row.epochs)).abs() < 1e-12);
    let text = with.to_string();
    assert!(text.lines().next().unwrap().ends_with("replay   decoded  buffer MiB"), "{text}");
    assert!(text.ends_with("of the images trained on are decoded anew"), "{text}");
    assert_eq!(serde_json::from_str::<Summary>(&serde_json::to_string(&with).unwrap()).unwrap(), with);
}
