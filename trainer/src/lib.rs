//! EfficientTrain++: train visual backbones with a curriculum over image frequencies and augmentation.
