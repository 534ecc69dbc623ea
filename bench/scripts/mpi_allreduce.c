// Times MPI_Iallreduce over gradients in buckets: the peer of `efficienttrain bench ranks`.
//
//     mpicc -O2 bench/scripts/mpi_allreduce.c -o target/mpi_allreduce
//     mpirun -n 2 target/mpi_allreduce 25557032 25 10      # numbers, MiB of a bucket, repetitions
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    int rank, size;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    size_t numbers = argc > 1 ? strtoul(argv[1], NULL, 10) : 25557032;
    size_t bucket = (argc > 2 ? strtoul(argv[2], NULL, 10) : 25) << 18;
    int repetitions = argc > 3 ? atoi(argv[3]) : 10;
    float *own = malloc(4 * numbers), *sum = malloc(4 * numbers);
    for (size_t i = 0; i < numbers; i++) own[i] = (float)(i % 1000) * 0.001f + (float)rank;
    int buckets = (int)((numbers + bucket - 1) / bucket);
    MPI_Request *requests = malloc(sizeof(MPI_Request) * buckets);
    double *times = malloc(sizeof(double) * repetitions);
    clock_t before = 0;
    for (int i = -1; i < repetitions; i++) {
        MPI_Barrier(MPI_COMM_WORLD);
        if (i == 0) before = clock();
        double begun = MPI_Wtime();
        for (int b = 0; b < buckets; b++) {
            size_t first = (size_t)b * bucket, n = numbers - first < bucket ? numbers - first : bucket;
            MPI_Iallreduce(own + first, sum + first, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &requests[b]);
        }
        MPI_Waitall(buckets, requests, MPI_STATUSES_IGNORE);
        double seconds = MPI_Wtime() - begun, slowest;
        MPI_Allreduce(&seconds, &slowest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
        if (i >= 0) times[i] = slowest;
    }
    double processor = (double)(clock() - before) / CLOCKS_PER_SEC / repetitions;
    qsort(times, repetitions, sizeof(double), ascending);
    if (rank == 0)
        printf("%d processes, %.1f MB in %d buckets: %.1f ms (%.1f to %.1f), %.1f ms of processor each\n", size,
               4e-6 * numbers, buckets, 1e3 * times[repetitions / 2], 1e3 * times[0], 1e3 * times[repetitions - 1],
               1e3 * processor);
    MPI_Finalize();
    return 0;
}
