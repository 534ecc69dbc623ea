//! Benchmarks of every stage of efficienttrain, next to its peers.
