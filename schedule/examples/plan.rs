//! Prints the plan of a run: `cargo run -p efficienttrain-schedule --example plan --
//! deit-small-etpp 200`

use efficienttrain_schedule::{Plan, PlanOptions, Recipe, Rounding};
use std::error::Error;

/// ImageNet-1K and the authors' machine.
const TRAIN_IMAGES: u64 = 1_281_167;
const DEVICES: u32 = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let recipe = Recipe::named(args.next().as_deref().unwrap_or("deit-small-etpp"))?;
    let epochs: f64 = args.next().as_deref().unwrap_or("200").parse()?;
    for rounding in [Rounding::Exact, Rounding::Reference] {
        let options = PlanOptions::new(epochs, TRAIN_IMAGES, DEVICES).with_rounding(rounding);
        let plan = Plan::new(&recipe, options)?;
        println!("{} for {epochs} compute epochs, {rounding:?} rounding\n{}\n", recipe.name, plan.summary()?);
    }
    Ok(())
}
