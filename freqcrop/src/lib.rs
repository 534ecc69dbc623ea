//! Exact low-frequency cropping of images: the central block of the Fourier spectrum as a smaller image.
