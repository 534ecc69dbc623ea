//! Benchmarks of every stage of efficienttrain, beside its peers.
