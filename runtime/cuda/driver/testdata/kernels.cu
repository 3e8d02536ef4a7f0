// Kernels of the tests that need a GPU. kernels.ptx is made from this file by
//   nvcc -ptx -arch=compute_75 -o kernels.ptx kernels.cu
// with .version lowered to 7.0, so that older drivers take it as well.

struct alignas(64) Block { unsigned char bytes[128]; };

extern "C" __global__ void fill_u32(unsigned *to, unsigned value, unsigned count) {
  unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) to[i] = value;
}

// A struct of 128 bytes between two scalars, as a tensor map is passed.
extern "C" __global__ void add_struct(unsigned first, const __grid_constant__ Block b, unsigned last, unsigned *to) {
  to[threadIdx.x] = first + b.bytes[threadIdx.x] + last;
}

// Reverses count words through dynamic shared memory.
extern "C" __global__ void reverse(unsigned *words, unsigned count) {
  extern __shared__ unsigned shared[];
  for (unsigned i = threadIdx.x; i < count; i += blockDim.x) shared[i] = words[i];
  __syncthreads();
  for (unsigned i = threadIdx.x; i < count; i += blockDim.x) words[i] = shared[count - 1 - i];
}

// Runs until the device's clock has moved on by some nanoseconds.
extern "C" __global__ void spin(unsigned long long nanoseconds) {
  unsigned long long start, now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(start));
  do asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  while (now - start < nanoseconds);
}

extern "C" { __device__ unsigned counter = 41; }
