//! Training curricula as data: stages, exact step plans, learning-rate and magnitude curves of EfficientTrain++.
