// Tiles of 64 x 8 results through Hopper's tensor cores, bits in and bits out.
//
//   wgmma device                                  what the CUDA runtime says of the GPU, as one line of JSON
//   wgmma wgmma|mma|host IN OUT [IN OUT ...]      run the tiles of each file IN, write the results to OUT
//
// wgmma: wgmma.mma_async m64n8kK, operands in shared memory, the accumulator in registers; the instruction that
//        DeepSeek's kernels are made of.
// mma:   mma.sync m16n8kK, the older instruction, with the same operands. In FP8 it is another arithmetic.
// host:  no GPU at all: the same file format, the same places in shared memory, the same places of results, and a
//        sum in double precision. It rehearses everything but the instruction.
//
// An instruction takes K = 32 bytes of each row of A and of each column of B: 32 numbers of FP8, 16 of BF16 or
// FP16, 8 of TF32. A tile is S instructions one after the other on one accumulator, which starts as C or, where
// the file has none, is ignored by the first of them (scale-d = 0).
//
// File: 32 bytes of header, then the payload; all little-endian.
//   operands  "MDSTILE1"  uint32 unit, tiles, S, with_c  uint64 payload bytes
//             A [tiles, S, 64, 32] bytes   B [tiles, S, 8, 32] bytes (a column of B is a row here)
//             C [tiles, 64, 8] float32, where with_c is 1
//   results   "MDSRSLT1", the same numbers, payload D [tiles, 64, 8] float32
//
// Build: nvcc -O2 -std=c++17 -gencode=arch=compute_90a,code=sm_90a -o wgmma wgmma.cu
//        -DSWAPPED exchanges the descriptors' two offsets, should small integers come out wrong without it.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <cuda_runtime.h>

constexpr int ROWS = 64, COLUMNS = 8, BYTES = 32;  // of a tile; bytes of K that one instruction takes
constexpr int THREADS = 128;                       // a warpgroup: four warps
constexpr uint32_t MOST_TILES = 1u << 16, MOST_STEPS = 64;

// ---- where things lie --------------------------------------------------------------------------------------

// Shared memory without swizzling, K-major: core matrices of 8 rows by 16 bytes, each 128 bytes in one piece.
// "Leading" is the distance of two that are neighbours along K, "stride" of two that are neighbours along rows.
constexpr uint32_t LEADING = 128, STRIDE = 256;

__host__ __device__ constexpr uint32_t shared_place(uint32_t row, uint32_t byte) {
  return (row / 8) * STRIDE + (byte / 16) * LEADING + (row % 8) * 16 + byte % 16;
}

// Row and column of register i of a thread: wgmma's fragment of a 64 x 8 result, and (with four warps, each on
// its 16 rows) that of mma.sync's m16n8 as well.
__host__ __device__ constexpr uint32_t row_of(uint32_t thread, uint32_t i) {
  return (thread / 32) * 16 + (thread % 32) / 4 + 8 * (i / 2);
}
__host__ __device__ constexpr uint32_t column_of(uint32_t thread, uint32_t i) { return (thread % 4) * 2 + i % 2; }

// ---- the instructions --------------------------------------------------------------------------------------

enum Unit : uint32_t { E4M3, E5M2, E4M3_E5M2, E5M2_E4M3, BF16, FP16, TF32, UNITS };

#define WGMMA(shape_and_types, tail)                                                                              \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %6, 0;\n"                                                        \
               "wgmma.mma_async.sync.aligned." shape_and_types " {%0, %1, %2, %3}, %4, %5, p, " tail ";\n}\n"     \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                   \
               : "l"(a), "l"(b), "r"(accumulate))

// d: the accumulator's registers  a, b: matrix descriptors  accumulate: scale-d, 0 ignores what is in d
template <uint32_t unit>
__device__ void wgmma(float (&d)[4], uint64_t a, uint64_t b, int accumulate) {
  if constexpr (unit == E4M3) WGMMA("m64n8k32.f32.e4m3.e4m3", "1, 1");
  if constexpr (unit == E5M2) WGMMA("m64n8k32.f32.e5m2.e5m2", "1, 1");
  if constexpr (unit == E4M3_E5M2) WGMMA("m64n8k32.f32.e4m3.e5m2", "1, 1");
  if constexpr (unit == E5M2_E4M3) WGMMA("m64n8k32.f32.e5m2.e4m3", "1, 1");
  if constexpr (unit == BF16) WGMMA("m64n8k16.f32.bf16.bf16", "1, 1, 0, 0");
  if constexpr (unit == FP16) WGMMA("m64n8k16.f32.f16.f16", "1, 1, 0, 0");
  if constexpr (unit == TF32) WGMMA("m64n8k8.f32.tf32.tf32", "1, 1");
}

#define MMA(shape_and_types)                                                                                      \
  asm volatile("mma.sync.aligned." shape_and_types                                                               \
               " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"                               \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                   \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

template <uint32_t unit>
__device__ void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  if constexpr (unit == E4M3) MMA("m16n8k32.row.col.f32.e4m3.e4m3.f32");
  if constexpr (unit == E5M2) MMA("m16n8k32.row.col.f32.e5m2.e5m2.f32");
  if constexpr (unit == E4M3_E5M2) MMA("m16n8k32.row.col.f32.e4m3.e5m2.f32");
  if constexpr (unit == E5M2_E4M3) MMA("m16n8k32.row.col.f32.e5m2.e4m3.f32");
  if constexpr (unit == BF16) MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
  if constexpr (unit == FP16) MMA("m16n8k16.row.col.f32.f16.f16.f32");
  if constexpr (unit == TF32) MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
}

// ---- the kernels: a block a tile ---------------------------------------------------------------------------

__device__ uint64_t descriptor(const uint8_t* shared) {
  const uint64_t address = __cvta_generic_to_shared(shared);
#ifdef SWAPPED
  constexpr uint64_t leading = STRIDE, stride = LEADING;
#else
  constexpr uint64_t leading = LEADING, stride = STRIDE;
#endif
  return ((address & 0x3FFFF) >> 4) | ((leading >> 4) << 16) | ((stride >> 4) << 32);  // no swizzle: top bits 0
}

// Keeps the compiler from moving the accumulator's registers across: the instruction writes them on its own time.
__device__ void hold(float (&d)[4]) {
  for (int i = 0; i < 4; i++) asm volatile("" : "+f"(d[i])::"memory");
}

template <uint32_t unit>
__global__ void __launch_bounds__(THREADS, 1)
    wgmma_tiles(const uint8_t* A, const uint8_t* B, const float* C, float* D, int steps) {
  __shared__ alignas(128) uint8_t a[ROWS * BYTES];
  __shared__ alignas(128) uint8_t b[COLUMNS * BYTES];
  const uint32_t t = threadIdx.x;
  const size_t tile = blockIdx.x;
  float d[4] = {0, 0, 0, 0};
  if (C)
    for (int i = 0; i < 4; i++) d[i] = C[(tile * ROWS + row_of(t, i)) * COLUMNS + column_of(t, i)];
  for (int s = 0; s < steps; s++) {
    const uint8_t* from_a = A + (tile * steps + s) * ROWS * BYTES;
    const uint8_t* from_b = B + (tile * steps + s) * COLUMNS * BYTES;
    for (uint32_t i = t; i < ROWS * BYTES; i += THREADS) a[shared_place(i / BYTES, i % BYTES)] = from_a[i];
    for (uint32_t i = t; i < COLUMNS * BYTES; i += THREADS) b[shared_place(i / BYTES, i % BYTES)] = from_b[i];
    asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");  // plain stores, read by the tensor core
    __syncthreads();
    hold(d);
    asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
    wgmma<unit>(d, descriptor(a), descriptor(b), C || s > 0);
    asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned 0;\n" ::: "memory");
    hold(d);
    __syncthreads();  // before the next step writes over the operands
  }
  for (int i = 0; i < 4; i++) D[(tile * ROWS + row_of(t, i)) * COLUMNS + column_of(t, i)] = d[i];
}

// A thread's registers of A and B are words of four bytes, at the same bytes for all formats.
template <uint32_t unit>
__global__ void mma_tiles(const uint8_t* A, const uint8_t* B, const float* C, float* D, int steps) {
  const uint32_t t = threadIdx.x, group = (t % 32) / 4, word = t % 4;
  const size_t tile = blockIdx.x;
  float d[4] = {0, 0, 0, 0};
  if (C)
    for (int i = 0; i < 4; i++) d[i] = C[(tile * ROWS + row_of(t, i)) * COLUMNS + column_of(t, i)];
  for (int s = 0; s < steps; s++) {
    const auto* rows = reinterpret_cast<const uint32_t*>(A + (tile * steps + s) * ROWS * BYTES);
    const auto* columns = reinterpret_cast<const uint32_t*>(B + (tile * steps + s) * COLUMNS * BYTES);
    uint32_t a[4], b[2];
    for (int i = 0; i < 4; i++)  // row, row + 8, then both again 16 bytes on
      a[i] = rows[((t / 32) * 16 + group + 8 * (i % 2)) * (BYTES / 4) + word + 4 * (i / 2)];
    for (int i = 0; i < 2; i++) b[i] = columns[group * (BYTES / 4) + word + 4 * i];
    mma<unit>(d, a, b);
  }
  for (int i = 0; i < 4; i++) D[(tile * ROWS + row_of(t, i)) * COLUMNS + column_of(t, i)] = d[i];
}

using Kernel = void (*)(const uint8_t*, const uint8_t*, const float*, float*, int);
const Kernel WGMMA_TILES[UNITS] = {wgmma_tiles<E4M3>, wgmma_tiles<E5M2>, wgmma_tiles<E4M3_E5M2>, wgmma_tiles<E5M2_E4M3>,
                                   wgmma_tiles<BF16>, wgmma_tiles<FP16>, wgmma_tiles<TF32>};
const Kernel MMA_TILES[UNITS] = {mma_tiles<E4M3>, mma_tiles<E5M2>, mma_tiles<E4M3_E5M2>, mma_tiles<E5M2_E4M3>,
                                 mma_tiles<BF16>, mma_tiles<FP16>, mma_tiles<TF32>};

// ---- files -------------------------------------------------------------------------------------------------

struct Header {
  char magic[8];
  uint32_t unit, tiles, steps, with_c;
  uint64_t payload;
};
static_assert(sizeof(Header) == 32);

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "wgmma: %s\n", what.c_str());
  std::exit(1);
}

void check(cudaError_t error, const char* doing) {
  if (error != cudaSuccess) fail(std::string(doing) + ": " + cudaGetErrorString(error));
}

struct Tiles {
  Header header;
  std::vector<uint8_t> a, b;
  std::vector<float> c;  // empty where there is none
};

Tiles read_tiles(const char* path) {
  FILE* file = std::fopen(path, "rb");
  if (!file) fail(std::string("cannot read ") + path);
  Tiles tiles;
  Header& h = tiles.header;
  const auto must = [&](bool ok, const char* expected) {
    if (!ok) fail(std::string(path) + ": expected " + expected);
  };
  must(std::fread(&h, sizeof h, 1, file) == 1, "a header of 32 bytes");
  must(std::memcmp(h.magic, "MDSTILE1", 8) == 0, "a file of operands, MDSTILE1");
  must(h.unit < UNITS && h.tiles >= 1 && h.tiles <= MOST_TILES && h.steps >= 1 && h.steps <= MOST_STEPS && h.with_c < 2,
       "a known unit, 1 .. 65536 tiles, 1 .. 64 steps, with_c 0 or 1");
  tiles.a.resize(size_t(h.tiles) * h.steps * ROWS * BYTES);
  tiles.b.resize(size_t(h.tiles) * h.steps * COLUMNS * BYTES);
  tiles.c.resize(h.with_c ? size_t(h.tiles) * ROWS * COLUMNS : 0);
  must(h.payload == tiles.a.size() + tiles.b.size() + 4 * tiles.c.size(), "the payload that the header's sizes make");
  must(std::fread(tiles.a.data(), 1, tiles.a.size(), file) == tiles.a.size() &&
           std::fread(tiles.b.data(), 1, tiles.b.size(), file) == tiles.b.size() &&
           std::fread(tiles.c.data(), 4, tiles.c.size(), file) == tiles.c.size() && std::fgetc(file) == EOF,
       "as many bytes as the header says, and none behind them");
  std::fclose(file);
  return tiles;
}

void write_results(const char* path, Header header, const std::vector<float>& d) {
  std::memcpy(header.magic, "MDSRSLT1", 8);
  header.payload = 4 * d.size();
  FILE* file = std::fopen(path, "wb");
  if (!file || std::fwrite(&header, sizeof header, 1, file) != 1 ||
      std::fwrite(d.data(), 4, d.size(), file) != d.size() || std::fclose(file) != 0)
    fail(std::string("cannot write ") + path);
}

// ---- on the GPU, and without one ---------------------------------------------------------------------------

template <typename T>
T* on_device(const std::vector<T>& values) {
  if (values.empty()) return nullptr;
  T* there = nullptr;
  check(cudaMalloc(&there, values.size() * sizeof(T)), "cudaMalloc");
  check(cudaMemcpy(there, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "copy in");
  return there;
}

std::vector<float> run_on_device(const Tiles& tiles, const Kernel* kernels) {
  std::vector<float> d(size_t(tiles.header.tiles) * ROWS * COLUMNS);
  std::memset(d.data(), 0xFF, 4 * d.size());  // a NaN that no tensor core writes, to see that all is written
  uint8_t *a = on_device(tiles.a), *b = on_device(tiles.b);
  float *c = on_device(tiles.c), *out = on_device(d);
  kernels[tiles.header.unit]<<<tiles.header.tiles, THREADS>>>(a, b, c, out, int(tiles.header.steps));
  check(cudaGetLastError(), "launch");
  check(cudaDeviceSynchronize(), "kernel");
  check(cudaMemcpy(d.data(), out, 4 * d.size(), cudaMemcpyDeviceToHost), "copy out");
  for (void* there : {(void*)a, (void*)b, (void*)c, (void*)out}) check(cudaFree(there), "cudaFree");
  for (float& value : d) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if (bits == 0xFFFFFFFFu) fail("a result that the kernel did not write");
  }
  return d;
}

// A code's value: e bits of exponent, m of fraction; "fn" has NaN alone at the very top.
double value_of(uint32_t code, int e, int m, int bias, bool fn) {
  const uint32_t fraction = code & ((1u << m) - 1), field = (code >> m) & ((1u << e) - 1);
  const double sign = (code >> (e + m)) & 1 ? -1 : 1;
  const bool top = field == (1u << e) - 1;
  if (top && (fn ? fraction == (1u << m) - 1 : fraction != 0)) return std::numeric_limits<double>::quiet_NaN();
  if (top && !fn) return sign * std::numeric_limits<double>::infinity();
  return sign * std::ldexp(double(fraction + (field ? 1u << m : 0u)), int(field ? field : 1) - bias - m);
}

double operand(const uint8_t* at, uint32_t unit, bool second) {
  uint32_t word = 0;
  const auto read = [&](int bytes) { return std::memcpy(&word, at, bytes), word; };
  if (unit == BF16) return value_of(read(2), 8, 7, 127, false);
  if (unit == FP16) return value_of(read(2), 5, 10, 15, false);
  if (unit == TF32) return value_of(read(4) >> 13, 8, 10, 127, false);
  const bool e5m2 = unit == E5M2 || unit == (second ? E4M3_E5M2 : E5M2_E4M3);
  return e5m2 ? value_of(read(1), 5, 2, 15, false) : value_of(read(1), 4, 3, 7, true);
}

std::vector<float> run_on_host(const Tiles& tiles) {
  const Header& h = tiles.header;
  const uint32_t width = h.unit == TF32 ? 4 : h.unit >= BF16 ? 2 : 1;
  std::vector<float> d(size_t(h.tiles) * ROWS * COLUMNS, std::numeric_limits<float>::quiet_NaN());
  for (size_t tile = 0; tile < h.tiles; tile++) {
    std::vector<double> sum(ROWS * COLUMNS, 0.0);
    for (size_t i = 0; i < sum.size() && h.with_c; i++) sum[i] = tiles.c[tile * sum.size() + i];
    for (size_t s = 0; s < h.steps; s++) {
      uint8_t a[ROWS * BYTES], b[COLUMNS * BYTES];  // as in shared memory
      for (uint32_t i = 0; i < sizeof a; i++)
        a[shared_place(i / BYTES, i % BYTES)] = tiles.a[(tile * h.steps + s) * sizeof a + i];
      for (uint32_t i = 0; i < sizeof b; i++)
        b[shared_place(i / BYTES, i % BYTES)] = tiles.b[(tile * h.steps + s) * sizeof b + i];
      for (uint32_t m = 0; m < ROWS; m++)
        for (uint32_t n = 0; n < COLUMNS; n++)
          for (uint32_t k = 0; k < BYTES; k += width)
            sum[m * COLUMNS + n] +=
                operand(a + shared_place(m, k), h.unit, false) * operand(b + shared_place(n, k), h.unit, true);
    }
    for (uint32_t t = 0; t < THREADS; t++)  // by way of the threads' registers
      for (uint32_t i = 0; i < 4; i++) {
        const size_t place = row_of(t, i) * COLUMNS + column_of(t, i);
        d[tile * ROWS * COLUMNS + place] = float(sum[place]);
      }
  }
  return d;
}

void print_device() {
  cudaDeviceProp found;
  int driver = 0, runtime = 0;
  check(cudaGetDeviceProperties(&found, 0), "cudaGetDeviceProperties");
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  std::printf("{\"gpu\": \"%s\", \"capability\": \"%d.%d\", \"driver_api\": %d, \"runtime\": %d}\n", found.name,
              found.major, found.minor, driver, runtime);
}

int main(int count, char** words) {
  const std::string how = count > 1 ? words[1] : "";
  if (how == "device" && count == 2) return print_device(), 0;
  if ((how != "wgmma" && how != "mma" && how != "host") || count < 4 || count % 2)
    fail("expected: device, or wgmma|mma|host IN OUT [IN OUT ...]");
  for (int i = 2; i < count; i += 2) {
    const Tiles tiles = read_tiles(words[i]);
    write_results(words[i + 1], tiles.header,
                  how == "host" ? run_on_host(tiles) : run_on_device(tiles, how == "mma" ? MMA_TILES : WGMMA_TILES));
  }
  return 0;
}
