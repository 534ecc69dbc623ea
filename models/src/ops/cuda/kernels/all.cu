// All kernels of one way to store activations; see common.cuh.
#include "attention.cuh"
#include "columns.cuh"
#include "elementwise.cuh"
#include "losses.cuh"
#include "norm.cuh"
#include "optimisers.cuh"
#include "pictures.cuh"
#include "targets.cuh"
