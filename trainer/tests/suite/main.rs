//! The tests of the trainer by its public face, as one program: each program more would be linked with all of candle again.

mod common;

mod after;
mod bad_data;
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
mod jpeg_layouts;
#[cfg(unix)]
mod kill;
mod labels;
mod left_out;
mod listing;
mod logs;
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
mod splits;
mod subset;
mod tools;
mod view;
mod weight_files;
