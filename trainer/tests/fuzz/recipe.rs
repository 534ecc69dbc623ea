//! A recipe in JSON or TOML, and the plans that it makes.

use efficienttrain::config::read_recipe;
use efficienttrain_schedule::{Plan, PlanOptions};

pub(super) fn run(data: &[u8]) {
    for ending in ["json", "toml"] {
        let path = std::env::temp_dir().join(format!("fuzz-recipe-{}.{ending}", std::process::id()));
        std::fs::write(&path, data).expect("the temporary folder can be written to");
        let read = read_recipe(&path);
        let _ = std::fs::remove_file(&path);
        let Ok(recipe) = read else { continue };
        let Ok(plan) = Plan::new(&recipe, PlanOptions::new(3.0, 500, 1)) else { continue };
        for step in [0, plan.total_steps() / 2, plan.total_steps().saturating_sub(1)] {
            let _ = plan.at(step);
        }
    }
}
