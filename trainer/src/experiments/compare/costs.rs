//! Costs of the contestants' images, measured once for a comparison.

use std::collections::{BTreeMap, HashMap};

use efficienttrain_schedule::Recipe;

use crate::config::cost::CostRule;
use crate::config::options::RunOptions;
use crate::config::train::TrainConfig;
use crate::error::{Error, Result};
use crate::experiments::compare::run::Contestant;
use crate::measure::with_known_cost;
use crate::run::sources::Sources;
use crate::util::atomic_file::replace;

/// File with the costs by the name of the contestant, so that a resumed comparison goes on with them.
const FILE: &str = "costs.json";

/// What the speed of plain training depends on: contestants that agree in it share the cost at base
/// size, so that equal budgets are equal times.
fn speed(config: &TrainConfig, recipe: &Recipe) -> String {
    let (base_size, batch) = (recipe.curriculum.base_size, &config.batch);
    format!("{} {base_size} {batch} {} {:?}", recipe.model, config.accumulation, config.precision)
}

/// Replaces budgets in operations or time by those with known costs. `measuring` is called with the name
/// of each contestant before its steps are timed.
///
/// # Errors
/// Returns an error if a configuration is invalid, or the folder of `options` cannot be used.
pub fn settle_costs(
    contestants: &mut [Contestant],
    options: &RunOptions,
    sources: &Sources,
    measuring: &mut dyn FnMut(&str),
) -> Result<()> {
    let path = options.out.join(FILE);
    let mut known: BTreeMap<String, CostRule> = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| Error::io(&path)(e.into()))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
        Err(e) => return Err(Error::io(&path)(e)),
    };
    let mut bases: HashMap<String, f64> = HashMap::new();
    for Contestant { name, config } in contestants {
        if !matches!(config.cost, CostRule::Wanted(_)) {
            continue;
        }
        let recipe = config.recipe()?;
        let base_size = recipe.curriculum.base_size;
        let rule = match known.remove(name) {
            Some(rule) => rule,
            None => {
                measuring(name);
                with_known_cost(config, options, sources, &[])?.cost
            }
        };
        config.cost = match rule {
            CostRule::Known(mut table) => {
                for row in table.costs.iter_mut().filter(|row| row.0 == base_size) {
                    row.1 = *bases.entry(speed(config, &recipe)).or_insert(row.1);
                }
                CostRule::Known(table)
            }
            other => other,
        };
        known.insert(name.clone(), config.cost.clone());
    }
    if known.is_empty() {
        return Ok(());
    }
    std::fs::create_dir_all(&options.out).map_err(Error::io(&options.out))?;
    let text = serde_json::to_string_pretty(&known).map_err(|e| Error::io(&path)(e.into()))?;
    replace(&path, text.as_bytes())
}
