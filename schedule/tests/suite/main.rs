//! Tests of the public API, as one program: each further program would be compiled and linked on
//! its own.

mod common;
mod curves;
mod errors;
mod exact;
mod golden_reference;
mod golden_rules;
mod recipes;
mod scaling;
mod search_greedy;
mod search_sequential;
mod search_state;
mod summary;
