//! The tests of the trainer by its public face, as one program: each program more would be linked with all of candle again.

mod common;

mod after;
mod bad_data;
mod changed_plan;
mod cli;
mod compare;
mod config;
mod costs;
mod data;
mod first_hour;
#[cfg(feature = "cuda")]
mod gpu;
mod handy;
#[cfg(unix)]
mod interrupt;
#[cfg(unix)]
mod kill;
mod listing;
mod logs;
mod nonfinite;
mod one_operator;
mod optimisation;
mod optimisers;
#[cfg(feature = "parquet")]
mod parquet;
mod pretrain;
mod recipe_file;
mod reduced;
mod replay;
mod report;
mod resume;
mod search;
mod sources;
mod subset;
mod tools;
mod view;
