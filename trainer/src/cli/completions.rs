//! `efficienttrain completions` and `efficienttrain man`, both generated from the definition of the
//! command line.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use clap_complete::Shell;

/// Arguments of `completions`.
#[derive(Args)]
pub(crate) struct CompletionsArgs {
    /// Shell to generate completions for
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "efficienttrain", &mut script);
    Ok(super::print_line(String::from_utf8(script)?.trim_end())?)
}

/// Arguments of `man`.
#[derive(Args)]
pub(crate) struct ManArgs {
    /// Folder to write one page per command to [default: print the main page]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn man(args: &ManArgs) -> Result<()> {
    if let Some(folder) = &args.out {
        let failed = || format!("--out: cannot write to {}", folder.display());
        std::fs::create_dir_all(folder).with_context(failed)?;
        return clap_mangen::generate_to(super::command(), folder).with_context(failed);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(super::command()).render(&mut page)?;
    Ok(super::print_line(String::from_utf8(page)?.trim_end())?)
}
