//! Image augmentation with the numbers of timm and Pillow: RandAugment, random resized crop, erasing, mixup and cutmix.
