//! Trainable vision backbones on candle: ops with correct gradients, ordered seeded parameters, timm names.
