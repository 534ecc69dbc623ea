//! `efficienttrain models`.

use anyhow::Result;
use clap::Args;
use efficienttrain_models::{Kind, Options, create, names};

/// Arguments of `models`.
#[derive(Args)]
pub(crate) struct ModelsArgs {}

pub(crate) fn run(_: &ModelsArgs) -> Result<()> {
    super::show(format!("{:<12} {:>12}", "model", "parameters"))?;
    for name in names() {
        let model = create(name, &Options::default())?;
        let trained = model.specs().iter().filter(|s| s.kind == Kind::Parameter);
        let parameters: usize = trained.map(|s| s.shape.iter().product::<usize>()).sum();
        super::show(format!("{name:<12} {parameters:>12}"))?;
    }
    Ok(())
}
