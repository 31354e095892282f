// UASTC LDR 4x4 blocks of 16 texels: one source for CPU (clang, by Warp) and CUDA (NVRTC, by Warp).
//
// Sources: "UASTC LDR 4x4 Texture Specification" (Binomial); tables come from tables.py, where each is cited.
//
// How it is fast. A colour channel of a block is 16 integers, which is one AVX-512 register or two of AVX2: the loops
// over N below are written so that clang vectorises them, sums included, since integer sums have no order. That alone
// is worth a factor of three over one texel at a time.
//
// How it is the same everywhere. Sums and errors are integers. What is float is + - * / on single values, compiled
// without contraction (kernels.py), so IEEE 754 leaves no choice: threads, tiles, AVX2 and AVX-512 give the same bytes.

// Functions that CUDA is to compile once, and loops that it is to leave: as on the CPU, with all inlined and unrolled,
// NVRTC takes two minutes, and what it makes has 4 MB.
#if defined(__CUDACC__)
#define UASTC_APART __noinline__
#define UASTC_LOOP _Pragma("unroll 1")
#else
#define UASTC_APART inline
#define UASTC_LOOP
#endif

namespace uastc {

constexpr int N = 16;       // texels of a block
constexpr int PAIRS = 30;   // patterns of modes 2, 4, 9, 16
constexpr int LANES = 64;   // of the table of two-subset patterns: PAIRS from 0, those of mode 7 from MERGED on
constexpr int MERGED = 32;
constexpr int MERGED_COUNT = 19;
constexpr int TRIPLES = 11;
constexpr int TRIPLE_LANES = 16;

enum Range { L12, L16, L32, L40, L48, L160, L192, L256, RANGES };

// What a level of effort means; an array of these integers comes from Python (kernels.py, `EFFORTS`).
enum Effort { ROUNDS, DUAL_FROM, SUBSETS_FROM, PAIR_TRIES, MERGED_TRIES, TRIPLE_TRIES, ETC1_ALL, ETC1_TABLES, POLISH, POLISH_WITHIN, REACH, STARTS, EFFORTS };

struct Tables {
  const uint8_t* below;  // [RANGES][256] the largest value of the range that is not above
  const uint8_t* above;  // [RANGES][256] the smallest that is not below
  const uint8_t* index;  // [RANGES][256] how a value of the range is stored
  const int* pairs;      // [N][LANES] -1 where the texel is in the second subset
  const int* triples;    // [2][N][TRIPLE_LANES] -1 where it is in the second / third
  const int* biases;     // [32] of the ETC1 hint: two bits, delta + 2, for each channel of each half
  const int* effort;
};

CUDA_CALLABLE inline Tables tables_at(const uint8_t* bytes, const int* words, const int* effort) {
  Tables t;
  t.below = bytes;
  t.above = bytes + RANGES * 256;
  t.index = bytes + 2 * RANGES * 256;
  t.pairs = words;
  t.triples = words + N * LANES;
  t.biases = words + N * LANES + 2 * N * TRIPLE_LANES;
  t.effort = effort;
  return t;
}

CUDA_CALLABLE inline int least(int a, int b) { return a < b ? a : b; }
CUDA_CALLABLE inline int most(int a, int b) { return a > b ? a : b; }
CUDA_CALLABLE inline int clamp255(int v) { return v < 0 ? 0 : v > 255 ? 255 : v; }

// --- lines through texels ---------------------------------------------------------------------------------------

// Endpoints of the line through the texels of `member` (-1 in it, 0 not) of NC channels: principal axis, then the
// outermost projections.
template <int NC>
CUDA_CALLABLE UASTC_APART void line(const int* const (&x)[NC], const int (&member)[N], float (&ends)[2][NC]) {
  int n = 0, sum[NC], cov[NC][NC];
  for (int i = 0; i < N; ++i) n -= member[i];
  for (int c = 0; c < NC; ++c) {
    int s = 0;
    for (int i = 0; i < N; ++i) s += x[c][i] & member[i];
    sum[c] = s;
  }
  int widest = 0;
  for (int c = 0; c < NC; ++c)
    for (int d = 0; d <= c; ++d) {
      int s = 0;
      for (int i = 0; i < N; ++i) s += (x[c][i] * x[d][i]) & member[i];
      cov[c][d] = cov[d][c] = n * s - sum[c] * sum[d];
    }
  for (int c = 1; c < NC; ++c)
    if (cov[c][c] > cov[widest][widest]) widest = c;
  float axis[NC];
  for (int c = 0; c < NC; ++c) axis[c] = float(cov[widest][c]);
  for (int step = 0; step < 4; ++step) {
    float next[NC], top = 0.0f;
    for (int c = 0; c < NC; ++c) {
      float v = 0.0f;
      for (int d = 0; d < NC; ++d) v = v + float(cov[c][d]) * axis[d];
      next[c] = v;
      const float size = v < 0.0f ? -v : v;
      top = size > top ? size : top;
    }
    if (!(top > 0.0f)) break;
    for (int c = 0; c < NC; ++c) axis[c] = next[c] / top;
  }
  int along[NC];
  float length = 0.0f, mean = 0.0f;
  for (int c = 0; c < NC; ++c) {
    along[c] = int(axis[c] * 1024.0f);
    length = length + float(along[c]) * float(along[c]);
  }
  int first = 1 << 30, last = -(1 << 30);
  for (int i = 0; i < N; ++i) {
    int t = 0;
    for (int c = 0; c < NC; ++c) t += x[c][i] * along[c];
    const int low = member[i] ? t : 1 << 30, high = member[i] ? t : -(1 << 30);
    first = low < first ? low : first;
    last = high > last ? high : last;
  }
  const float over = 1.0f / float(n > 0 ? n : 1);
  for (int c = 0; c < NC; ++c) mean = mean + float(sum[c]) * over * float(along[c]);
  const float scale = length > 0.0f ? 1.0f / length : 0.0f;
  const float from = (float(first) - mean) * scale, to = (float(last) - mean) * scale;
  for (int c = 0; c < NC; ++c) {
    ends[0][c] = float(sum[c]) * over + float(along[c]) * from;
    ends[1][c] = float(sum[c]) * over + float(along[c]) * to;
  }
}

// --- endpoints and weights ----------------------------------------------------------------------------------------

template <int NC, int NS>
struct Fit {
  int error;
  int ends[NS][2][NC];  // values of the range, 0 to 255
  int weight[N];        // quantized
};

CUDA_CALLABLE inline int unquantize(int q, int bits) {
  const int six = bits == 1 ? q * 63 : bits == 2 ? q * 21 : bits == 3 ? q * 9 : bits == 4 ? q << 2 | q >> 2 : q << 1 | q >> 4;
  return six + (six > 32 ? 1 : 0);
}

// What an interpolated value should be, in 256ths, so that it decodes to v. Interpolation works on 16 bits, v * 257, and
// the upper 8 are taken without rounding: between the ends, values come out half a step too low at 0, too high at 255.
CUDA_CALLABLE inline int wanted(int v) { return 256 * v + ((128 - v) >> 1); }

CUDA_CALLABLE inline int nearest(const Tables& t, int range, float v) {
  const int whole = clamp255(int(v + 0.5f));
  const int below = t.below[range * 256 + whole], above = t.above[range * 256 + whole];
  return float(above) - v < v - float(below) ? above : below;
}

// The weights that suit the ends `q` best, quantized and as 0 to 64, and the squared error of the block with them.
template <int NC, int NS, int BITS>
CUDA_CALLABLE inline int assign(const int* const (&x)[NC], const int (&member)[NS][N], const int (&q)[NS][2][NC],
                                int (&weight)[N], int (&w)[N]) {
  constexpr int top = (1 << BITS) - 1;
  float slope[NS], lane[N];
  for (int s = 0; s < NS; ++s) {
    int square = 0;
    for (int c = 0; c < NC; ++c) square += (q[s][1][c] - q[s][0][c]) * (q[s][1][c] - q[s][0][c]);
    slope[s] = square > 0 ? float(top) / float(256 * square) : 0.0f;
  }
  int low[NC][N], step[NC][N], dot[N];
  for (int i = 0; i < N; ++i) {
    dot[i] = 0;
    lane[i] = slope[0];
    for (int s = 1; s < NS; ++s) lane[i] = member[s][i] ? slope[s] : lane[i];
  }
  for (int c = 0; c < NC; ++c)
    for (int i = 0; i < N; ++i) {
      int a = q[0][0][c], d = q[0][1][c] - q[0][0][c];
      for (int s = 1; s < NS; ++s) {
        a = member[s][i] ? q[s][0][c] : a;
        d = member[s][i] ? q[s][1][c] - q[s][0][c] : d;
      }
      low[c][i] = a;
      step[c][i] = d;
      dot[i] += (wanted(x[c][i]) - 256 * a) * d;
    }
  int error = 0;
  for (int i = 0; i < N; ++i) {
    int k = int(float(dot[i]) * lane[i] + 0.5f);
    k = k < 0 ? 0 : k > top ? top : k;
    weight[i] = k;
    w[i] = unquantize(k, BITS);
  }
  for (int c = 0; c < NC; ++c)
    for (int i = 0; i < N; ++i) {
      // As software decodes it, the upper 8 of 16 bits, and as a GPU does, all 16, in equal parts.
      const int v = (257 * (low[c][i] * 64 + step[c][i] * w[i]) + 32) >> 6;
      const int e = (v >> 8) - x[c][i], fine = (v - 257 * x[c][i]) >> 5;
      error += 64 * e * e + fine * fine;
    }
  return error;
}

template <int NC, int NS>
CUDA_CALLABLE inline void improve(Fit<NC, NS>& best, int error, const int (&q)[NS][2][NC], const int (&weight)[N]) {
  if (error >= best.error) return;
  best.error = error;
  for (int s = 0; s < NS; ++s)
    for (int e = 0; e < 2; ++e)
      for (int c = 0; c < NC; ++c) best.ends[s][e][c] = q[s][e][c];
  for (int i = 0; i < N; ++i) best.weight[i] = weight[i];
}

// Moves one channel of one end by one step of the range as long as that makes the error smaller, `rounds` times over.
template <int NC, int NS, int BITS>
CUDA_CALLABLE UASTC_APART void polish(const int* const (&x)[NC], const int (&member)[NS][N], int range, int rounds,
                                 const Tables& t, Fit<NC, NS>& best) {
  int q[NS][2][NC], weight[N], w[N];
  for (int s = 0; s < NS; ++s)
    for (int e = 0; e < 2; ++e)
      for (int c = 0; c < NC; ++c) q[s][e][c] = best.ends[s][e][c];
  UASTC_LOOP for (int round = 0; round < rounds && best.error; ++round) {
    const int before = best.error;
    UASTC_LOOP for (int s = 0; s < NS; ++s)
      UASTC_LOOP for (int e = 0; e < 2; ++e)
        UASTC_LOOP for (int c = 0; c < NC; ++c)
          UASTC_LOOP for (int up = 0; up < 2; ++up) {
            const int v = q[s][e][c];
            if (v == (up ? 255 : 0)) continue;
            q[s][e][c] = up ? t.above[range * 256 + v + 1] : t.below[range * 256 + v - 1];
            const int error = assign<NC, NS, BITS>(x, member, q, weight, w);
            if (error < best.error) {
              improve<NC, NS>(best, error, q, weight);
              break;
            }
            q[s][e][c] = v;
          }
    if (best.error == before) return;
  }
}

// Polishes what is near enough to `limit` to get below it.
template <int NC, int NS, int BITS>
CUDA_CALLABLE inline void finish(const int* const (&x)[NC], const int (&member)[NS][N], int range, int limit,
                                 const Tables& t, Fit<NC, NS>& best) {
  if (best.error < limit + limit / 100 * t.effort[POLISH_WITHIN])
    polish<NC, NS, BITS>(x, member, range, t.effort[POLISH], t, best);
}

// Quantizes `ends`, assigns weights, solves for better ends by least squares, and so on; keeps in `best` what has the
// smallest error.
template <int NC, int NS, int BITS>
CUDA_CALLABLE UASTC_APART void refine(const int* const (&x)[NC], const int (&member)[NS][N], float (&ends)[NS][2][NC],
                                 int range, const Tables& t, Fit<NC, NS>& best) {
  const int rounds = t.effort[ROUNDS];
  int q[NS][2][NC], weight[N], w[N];
  best.error = 1 << 30;
  for (int s = 0; s < NS; ++s)
    for (int e = 0; e < 2; ++e)
      for (int c = 0; c < NC; ++c) q[s][e][c] = nearest(t, range, ends[s][e][c]);
  UASTC_LOOP for (int round = 0;; ++round) {
    const int error = assign<NC, NS, BITS>(x, member, q, weight, w);
    improve<NC, NS>(best, error, q, weight);
    if (round + 1 >= rounds || error == 0) break;
    // The ends that these weights want, and of the values around them the pair with the least error: they are chosen
    // together, since one can make up for the rounding of the other.
    bool moved = false;
    for (int s = 0; s < NS; ++s) {
      int aa = 0, ab = 0, bb = 0;
      for (int i = 0; i < N; ++i) {
        const int b = w[i] & member[s][i], a = (64 - w[i]) & member[s][i];
        aa += a * a;
        ab += a * b;
        bb += b * b;
      }
      const float faa = float(aa), fab = float(ab), fbb = float(bb);
      const float det = faa * fbb - fab * fab;
      if (!(det > 1.0f)) continue;
      const float over = 64.0f / det;
      for (int c = 0; c < NC; ++c) {
        int xa = 0, xb = 0;
        for (int i = 0; i < N; ++i) {
          const int v = w[i] == 0 || w[i] == 64 ? 256 * x[c][i] : wanted(x[c][i]);
          xb += v * (w[i] & member[s][i]);
          xa += v * ((64 - w[i]) & member[s][i]);
        }
        const float fxa = float(xa) / 256.0f, fxb = float(xb) / 256.0f;
        const int a = clamp255(int((fxa * fbb - fxb * fab) * over + 0.5f));
        const int b = clamp255(int((fxb * faa - fxa * fab) * over + 0.5f));
        float least_cost = 1.0e30f;
        int pa = q[s][0][c], pb = q[s][1][c];
        for (int k = 0; k < 4; ++k) {
          const int ta = (k & 1 ? t.above : t.below)[range * 256 + a], tb = (k & 2 ? t.above : t.below)[range * 256 + b];
          const float va = float(ta), vb = float(tb);
          const float cost = va * (va * faa + 2.0f * vb * fab - 128.0f * fxa) + vb * (vb * fbb - 128.0f * fxb);
          if (cost < least_cost) {
            least_cost = cost;
            pa = ta;
            pb = tb;
          }
        }
        moved = moved || pa != q[s][0][c] || pb != q[s][1][c];
        q[s][0][c] = pa;
        q[s][1][c] = pb;
      }
    }
    if (!moved) break;
  }
}

// --- the best block so far ----------------------------------------------------------------------------------------

struct Block {
  int cost, mode, pattern, second;  // second: component of the second plane
  int ends[3][2][4];
  int weight[2][N];
};

constexpr int UNIT = 128;  // of errors: a texel's channel that is one step off

// What a block with one subset loses as BC7, which is what most desktop GPUs see: the squared error of its texels after
// the conversion of "UASTC LDR 4x4 Texture Specification", "Transcoding to BC7".
//
// One plane becomes BC7's mode 6 (mode 1: 3, twice the same subset): ends of 7 bits and one more that the channels of an
// end share.
template <int NC>
CUDA_CALLABLE UASTC_APART int bc7_single(const int* const (&x)[NC], const int (&ends)[1][2][NC], const int (&weight)[N],
                                    int mode) {
  int v[2][NC], w[N], error = 0;
  for (int e = 0; e < 2; ++e) {
    int odd = 0;
    for (int c = 0; c < NC; ++c) odd += ends[0][e][c] & 1;
    const int bit = 2 * odd > NC ? 1 : 0;
    for (int c = 0; c < NC; ++c) {
      const int up = ends[0][e][c] + ((ends[0][e][c] & 1) != bit ? 1 : 0);
      v[e][c] = up > 254 + bit ? 254 + bit : up;
    }
  }
  for (int i = 0; i < N; ++i) {
    const int q = weight[i];
    int k = q;
    if (mode == 5 || mode == 12) k = 2 * q + (q >= 4 ? 1 : 0);
    if (mode == 14) k = 5 * q;
    if (mode == 18) k = (q >> 1) - (q == 14 ? 1 : 0) + (q == 17 ? 1 : 0);
    w[i] = mode == 1 ? unquantize(q, 2) : (273 * k + 32) >> 6;
  }
  for (int c = 0; c < NC; ++c)
    for (int i = 0; i < N; ++i) {
      const int d = ((v[0][c] * (64 - w[i]) + v[1][c] * w[i] + 32) >> 6) - x[c][i];
      error += d * d;
    }
  return error;
}

// Two planes become mode 5: 8 bits for the channel with weights of its own, 7 for the others.
template <int NC>
CUDA_CALLABLE UASTC_APART int bc7_dual(const int* const (&x)[NC], const int (&ends)[1][2][NC], const int (&weight)[N],
                                  int bits, bool whole) {
  int error = 0;
  for (int c = 0; c < NC; ++c) {
    int v[2];
    for (int e = 0; e < 2; ++e) {
      const int seven = (ends[0][e][c] * 127 + 127) / 255;
      v[e] = whole ? ends[0][e][c] : seven << 1 | seven >> 6;
    }
    for (int i = 0; i < N; ++i) {
      const int w = bits == 1 ? 64 * weight[i] : unquantize(weight[i], 2);
      const int d = ((v[0] * (64 - w) + v[1] * w + 32) >> 6) - x[c][i];
      error += d * d;
    }
  }
  return error;
}

// A block's cost: a quarter of it is the error as BC7. Half gives 0.4 dB there, and takes 0.5 from flat pictures elsewhere.
CUDA_CALLABLE inline int balance(int error, int bc7) { return (error >> 3) * 7 + bc7 * (UNIT / 8); }

// For the modes whose BC7 is not computed, this much beside the error: what they lost on the benchmark's pictures.
CUDA_CALLABLE inline int surcharge(int mode) {
  switch (mode) {
    case 2: return 11 * UNIT;
    case 4:
    case 7: return 5 * UNIT;
    case 3:
    case 9: return 8 * UNIT;
    default: return 3 * UNIT;
  }
}

template <int NC, int NS>
CUDA_CALLABLE inline void keep(Block& block, const Fit<NC, NS>& fit, int cost, int mode, int pattern) {
  if (cost >= block.cost) return;
  block.cost = cost;
  block.mode = mode;
  block.pattern = pattern;
  for (int s = 0; s < NS; ++s)
    for (int e = 0; e < 2; ++e)
      for (int c = 0; c < NC; ++c) block.ends[s][e][c] = fit.ends[s][e][c];
  for (int i = 0; i < N; ++i) block.weight[0][i] = fit.weight[i];
}

// How far a line is drawn out beyond an end, as a part of its length.
CUDA_CALLABLE inline float stretch(int start, int end) {
  const int k = end ? start / 4 : start % 4;  // 16 starts: every pair of four
  return k == 0 ? 0.0f : k == 1 ? 0.0625f : k == 2 ? -0.0625f : 0.125f;
}

template <int NC, int BITS>
CUDA_CALLABLE UASTC_APART void try_single(const int* const (&x)[NC], const float (&ends)[2][NC], int mode, int range,
                                     const Tables& t, Block& block) {
  int all[1][N];
  float from[1][2][NC];
  for (int i = 0; i < N; ++i) all[0][i] = -1;
  Fit<NC, 1> fit;
  // Least squares stops at the next minimum: where a line ends decides which weights its texels get, and so which one.
  UASTC_LOOP for (int start = 0; start < t.effort[STARTS]; ++start) {
    if (start && balance(fit.error, 0) >> 1 > block.cost) break;
    const float low = stretch(start, 0), high = stretch(start, 1);
    for (int c = 0; c < NC; ++c) {
      from[0][0][c] = ends[0][c] - (ends[1][c] - ends[0][c]) * low;
      from[0][1][c] = ends[1][c] + (ends[1][c] - ends[0][c]) * high;
    }
    Fit<NC, 1> found;
    refine<NC, 1, BITS>(x, all, from, range, t, found);
    if (!start || found.error < fit.error) fit = found;
  }
  finish<NC, 1, BITS>(x, all, range, block.cost, t, fit);
  if (balance(fit.error, 0) >= block.cost) return;
  const int cost = mode == 15 ? fit.error + surcharge(mode)
                              : balance(fit.error, bc7_single<NC>(x, fit.ends, fit.weight, mode));
  keep<NC, 1>(block, fit, cost, mode, 0);
}

// One channel has weights of its own.
template <int NC, int BITS>
CUDA_CALLABLE UASTC_APART void try_dual(const int* const (&x)[NC], int second, int mode, int range, const Tables& t,
                                   Block& block) {
  int all[1][N];
  for (int i = 0; i < N; ++i) all[0][i] = -1;
  const int* rest[NC - 1];
  const int* one[1] = {x[second]};
  for (int c = 0, k = 0; c < NC; ++c)
    if (c != second) rest[k++] = x[c];
  float ends[1][2][NC - 1], single[1][2][1];
  Fit<1, 1> b;
  const int limit = block.cost;
  line<1>(one, all[0], single[0]);
  refine<1, 1, BITS>(one, all, single, range, t, b);
  finish<1, 1, BITS>(one, all, range, limit, t, b);
  if (b.error >= limit) return;
  Fit<NC - 1, 1> a;
  line<NC - 1>(rest, all[0], ends[0]);
  refine<NC - 1, 1, BITS>(rest, all, ends, range, t, a);
  finish<NC - 1, 1, BITS>(rest, all, range, limit - b.error, t, a);
  if (a.error + b.error >= limit) return;
  const int bc7 = bc7_dual<1>(one, b.ends, b.weight, BITS, true) + bc7_dual<NC - 1>(rest, a.ends, a.weight, BITS, false);
  const int cost = balance(a.error + b.error, bc7);
  if (cost >= limit) return;
  block.cost = cost;
  block.mode = mode;
  block.second = second;
  for (int e = 0; e < 2; ++e)
    for (int c = 0, k = 0; c < NC; ++c) block.ends[0][e][c] = c == second ? b.ends[0][e][0] : a.ends[0][e][k++];
  for (int i = 0; i < N; ++i) {
    block.weight[0][i] = a.weight[i];
    block.weight[1][i] = b.weight[i];
  }
}

// Bit masks of the members of subset `s` of a pattern.
CUDA_CALLABLE inline void members2(const Tables& t, int lane, int (&member)[2][N]) {
  for (int i = 0; i < N; ++i) {
    member[1][i] = t.pairs[i * LANES + lane];
    member[0][i] = ~member[1][i];
  }
}

CUDA_CALLABLE inline void members3(const Tables& t, int lane, int (&member)[3][N]) {
  for (int i = 0; i < N; ++i) {
    member[1][i] = t.triples[i * TRIPLE_LANES + lane];
    member[2][i] = t.triples[(N + i) * TRIPLE_LANES + lane];
    member[0][i] = ~(member[1][i] | member[2][i]);
  }
}

template <int NC, int NS, int BITS>
CUDA_CALLABLE UASTC_APART void try_subsets(const int* const (&x)[NC], const int (&member)[NS][N],
                                      const float (&lines)[NS][2][NC], int mode, int pattern, int range,
                                      const Tables& t, Block& block) {
  float ends[NS][2][NC];
  for (int s = 0; s < NS; ++s)
    for (int e = 0; e < 2; ++e)
      for (int c = 0; c < NC; ++c) ends[s][e][c] = lines[s][e][c];
  Fit<NC, NS> fit;
  refine<NC, NS, BITS>(x, member, ends, range, t, fit);
  finish<NC, NS, BITS>(x, member, range, block.cost - surcharge(mode), t, fit);
  keep<NC, NS>(block, fit, fit.error + surcharge(mode), mode, pattern);
}

// --- ranking of patterns ------------------------------------------------------------------------------------------

// Sums over the texels of many subsets at once: the lanes are patterns.
template <int NC, int P>
struct Sums {
  int n[P], s[NC][P], q[NC * (NC + 1) / 2][P];
};

template <int NC, int P>
CUDA_CALLABLE inline void gather(const int* const (&x)[NC], const int (&middle)[NC], const int* masks, int stride,
                                 Sums<NC, P>& sums) {
  UASTC_LOOP for (int p = 0; p < P; ++p) sums.n[p] = 0;
  for (int c = 0; c < NC; ++c)
    UASTC_LOOP for (int p = 0; p < P; ++p) sums.s[c][p] = 0;
  for (int k = 0; k < NC * (NC + 1) / 2; ++k)
    UASTC_LOOP for (int p = 0; p < P; ++p) sums.q[k][p] = 0;
  UASTC_LOOP for (int i = 0; i < N; ++i) {
    const int* mask = masks + i * stride;
    UASTC_LOOP for (int p = 0; p < P; ++p) sums.n[p] -= mask[p];
    int k = 0;
    for (int c = 0; c < NC; ++c) {
      const int v = x[c][i] - middle[c];
      UASTC_LOOP for (int p = 0; p < P; ++p) sums.s[c][p] += v & mask[p];
      for (int d = 0; d <= c; ++d, ++k) {
        const int vv = v * (x[d][i] - middle[d]);
        UASTC_LOOP for (int p = 0; p < P; ++p) sums.q[k][p] += vv & mask[p];
      }
    }
  }
}

// Adds for each lane the squared distance of the subset's texels from their line, and `along` times what lies along
// it. The largest eigenvalue of a covariance C is taken as tr(C^4) / tr(C^3), which needs no iteration.
template <int NC, int P>
CUDA_CALLABLE inline void residuals(const Sums<NC, P>& sums, float along, float (&out)[P]) {
  UASTC_LOOP for (int p = 0; p < P; ++p) {
    float cov[NC][NC], square[NC][NC], trace = 0.0f;
    const float over = 1.0f / float(sums.n[p] > 0 ? sums.n[p] : 1);
    for (int c = 0, k = 0; c < NC; ++c)
      for (int d = 0; d <= c; ++d, ++k)
        cov[c][d] = cov[d][c] = float(sums.q[k][p]) - float(sums.s[c][p]) * float(sums.s[d][p]) * over;
    for (int c = 0; c < NC; ++c) {
      trace = trace + cov[c][c];
      for (int d = 0; d <= c; ++d) {
        float v = 0.0f;
        for (int e = 0; e < NC; ++e) v = v + cov[c][e] * cov[e][d];
        square[c][d] = square[d][c] = v;
      }
    }
    float third = 1.0e-20f, fourth = 0.0f;
    for (int c = 0; c < NC; ++c)
      for (int d = 0; d < NC; ++d) {
        third = third + square[c][d] * cov[c][d];
        fourth = fourth + square[c][d] * square[c][d];
      }
    const float largest = fourth / third;
    out[p] = out[p] + trace - largest + largest * along;
  }
}

template <int NC>
struct Ranking {
  int middle[NC];
  Sums<NC, 1> whole;

  CUDA_CALLABLE inline void start(const int* const (&x)[NC]) {
    int all[N];
    for (int i = 0; i < N; ++i) all[i] = -1;
    for (int c = 0; c < NC; ++c) {
      int s = 0;
      for (int i = 0; i < N; ++i) s += x[c][i];
      middle[c] = s >> 4;
    }
    gather<NC, 1>(x, middle, all, 1, whole);
  }

  // Of `whole` without `part` and `other`.
  template <int P>
  CUDA_CALLABLE inline void rest(const Sums<NC, P>& part, Sums<NC, P>& out) const {
    UASTC_LOOP for (int p = 0; p < P; ++p) out.n[p] = whole.n[0] - part.n[p];
    for (int c = 0; c < NC; ++c)
      UASTC_LOOP for (int p = 0; p < P; ++p) out.s[c][p] = whole.s[c][0] - part.s[c][p];
    for (int k = 0; k < NC * (NC + 1) / 2; ++k)
      UASTC_LOOP for (int p = 0; p < P; ++p) out.q[k][p] = whole.q[k][0] - part.q[k][p];
  }

  CUDA_CALLABLE UASTC_APART void pairs(const int* const (&x)[NC], const Tables& t, int first, float along,
                                  float (&out)[32]) const {
    Sums<NC, 32> second, rest_of;
    gather<NC, 32>(x, middle, t.pairs + first, LANES, second);
    rest<32>(second, rest_of);
    UASTC_LOOP for (int p = 0; p < 32; ++p) out[p] = 0.0f;
    residuals<NC, 32>(second, along, out);
    residuals<NC, 32>(rest_of, along, out);
  }

  CUDA_CALLABLE UASTC_APART void triples(const int* const (&x)[NC], const Tables& t, float along,
                                    float (&out)[TRIPLE_LANES]) const {
    Sums<NC, TRIPLE_LANES> second, third, rest_of;
    gather<NC, TRIPLE_LANES>(x, middle, t.triples, TRIPLE_LANES, second);
    gather<NC, TRIPLE_LANES>(x, middle, t.triples + N * TRIPLE_LANES, TRIPLE_LANES, third);
    UASTC_LOOP for (int p = 0; p < TRIPLE_LANES; ++p) out[p] = 0.0f;
    residuals<NC, TRIPLE_LANES>(second, along, out);
    residuals<NC, TRIPLE_LANES>(third, along, out);
    UASTC_LOOP for (int p = 0; p < TRIPLE_LANES; ++p) second.n[p] += third.n[p];
    for (int c = 0; c < NC; ++c)
      UASTC_LOOP for (int p = 0; p < TRIPLE_LANES; ++p) second.s[c][p] += third.s[c][p];
    for (int k = 0; k < NC * (NC + 1) / 2; ++k)
      UASTC_LOOP for (int p = 0; p < TRIPLE_LANES; ++p) second.q[k][p] += third.q[k][p];
    rest<TRIPLE_LANES>(second, rest_of);
    residuals<NC, TRIPLE_LANES>(rest_of, along, out);
  }
};

// The lane with the least, which is then taken out; -1 where none is below `limit`.
template <int P>
CUDA_CALLABLE inline int take(float (&rank)[P], int count, float limit) {
  int found = -1;
  UASTC_LOOP for (int p = 0; p < count; ++p)
    if (rank[p] < limit) {
      limit = rank[p];
      found = p;
    }
  if (found >= 0) rank[found] = 1.0e30f;
  return found;
}

// The ranking overestimates, above all where a subset has few texels: how bad a pattern may look and still be tried.
CUDA_CALLABLE inline float reach(const Block& block, const Tables& t) {
  return float(block.cost) * float(t.effort[REACH]) * 0.25f / float(UNIT);
}

// --- searches -----------------------------------------------------------------------------------------------------

constexpr float ALONG_2_BITS = 1.0f / 9.0f, ALONG_3_BITS = 1.0f / 49.0f;
// Of what lies along a line, the part that remains as rounding to 4 or 8 weights: uniformly spread texels of length L
// have the variance L^2/12, and steps of L/3 or L/7.

CUDA_CALLABLE UASTC_APART void search_rgb(const int* const (&x)[3], const Tables& t, Block& block) {
  int all[N];
  for (int i = 0; i < N; ++i) all[i] = -1;
  float ends[2][3];
  line<3>(x, all, ends);
  try_single<3, 4>(x, ends, 0, L192, t, block);
  try_single<3, 5>(x, ends, 18, L32, t, block);
  try_single<3, 3>(x, ends, 5, L256, t, block);
  try_single<3, 2>(x, ends, 1, L256, t, block);
  if (block.cost > t.effort[DUAL_FROM])
    for (int c = 0; c < 3; ++c) try_dual<3, 2>(x, c, 6, L160, t, block);
  if (block.cost <= t.effort[SUBSETS_FROM]) return;
  Ranking<3> ranking;
  ranking.start(x);
  float rank[32];
  if (t.effort[PAIR_TRIES]) {
    ranking.pairs(x, t, 0, ALONG_3_BITS, rank);
    UASTC_LOOP for (int k = 0; k < t.effort[PAIR_TRIES]; ++k) {
      const int p = take<32>(rank, PAIRS, reach(block, t));
      if (p < 0) break;
      int member[2][N];
      float lines[2][2][3];
      members2(t, p, member);
      for (int s = 0; s < 2; ++s) line<3>(x, member[s], lines[s]);
      try_subsets<3, 2, 3>(x, member, lines, 2, p, L16, t, block);
      try_subsets<3, 2, 2>(x, member, lines, 4, p, L40, t, block);
    }
  }
  if (t.effort[MERGED_TRIES]) {
    ranking.pairs(x, t, MERGED, ALONG_2_BITS, rank);
    UASTC_LOOP for (int k = 0; k < t.effort[MERGED_TRIES]; ++k) {
      const int p = take<32>(rank, MERGED_COUNT, reach(block, t));
      if (p < 0) break;
      int member[2][N];
      float lines[2][2][3];
      members2(t, MERGED + p, member);
      for (int s = 0; s < 2; ++s) line<3>(x, member[s], lines[s]);
      try_subsets<3, 2, 2>(x, member, lines, 7, p, L40, t, block);
    }
  }
  if (t.effort[TRIPLE_TRIES]) {
    float triple[TRIPLE_LANES];
    ranking.triples(x, t, ALONG_2_BITS, triple);
    UASTC_LOOP for (int k = 0; k < t.effort[TRIPLE_TRIES]; ++k) {
      const int p = take<TRIPLE_LANES>(triple, TRIPLES, reach(block, t));
      if (p < 0) break;
      int member[3][N];
      float lines[3][2][3];
      members3(t, p, member);
      for (int s = 0; s < 3; ++s) line<3>(x, member[s], lines[s]);
      try_subsets<3, 3, 2>(x, member, lines, 3, p, L12, t, block);
    }
  }
}

CUDA_CALLABLE UASTC_APART void search_rgba(const int* const (&x)[4], const Tables& t, Block& block) {
  int all[N];
  for (int i = 0; i < N; ++i) all[i] = -1;
  float ends[2][4];
  line<4>(x, all, ends);
  try_single<4, 4>(x, ends, 10, L48, t, block);
  try_single<4, 3>(x, ends, 12, L192, t, block);
  try_single<4, 2>(x, ends, 14, L256, t, block);
  if (block.cost > t.effort[DUAL_FROM])
    for (int c = 3; c >= 0; --c) {
      try_dual<4, 2>(x, c, 11, L48, t, block);
      try_dual<4, 1>(x, c, 13, L256, t, block);
    }
  if (block.cost <= t.effort[SUBSETS_FROM] || !t.effort[PAIR_TRIES]) return;
  Ranking<4> ranking;
  ranking.start(x);
  float rank[32];
  ranking.pairs(x, t, 0, ALONG_2_BITS, rank);
  UASTC_LOOP for (int k = 0; k < t.effort[PAIR_TRIES]; ++k) {
    const int p = take<32>(rank, PAIRS, reach(block, t));
    if (p < 0) break;
    int member[2][N];
    float lines[2][2][4];
    members2(t, p, member);
    for (int s = 0; s < 2; ++s) line<4>(x, member[s], lines[s]);
    try_subsets<4, 2, 2>(x, member, lines, 9, p, L16, t, block);
  }
}

// Luminance and alpha, where red, green and blue are equal. The luminance counts three times in the error: weigh it so.
CUDA_CALLABLE UASTC_APART void search_gray(const int* const (&x)[2], const Tables& t, Block& block) {
  Block gray;
  gray.cost = 1 << 29;
  int all[N];
  for (int i = 0; i < N; ++i) all[i] = -1;
  float ends[2][2];
  line<2>(x, all, ends);
  try_single<2, 4>(x, ends, 15, L256, t, gray);
  try_dual<2, 2>(x, 1, 17, L256, t, gray);
  Ranking<2> ranking;
  ranking.start(x);
  float rank[32];
  ranking.pairs(x, t, 0, ALONG_2_BITS, rank);
  UASTC_LOOP for (int k = 0; k < t.effort[PAIR_TRIES]; ++k) {
    const int p = take<32>(rank, PAIRS, reach(gray, t));
    if (p < 0) break;
    int member[2][N];
    float lines[2][2][2];
    members2(t, p, member);
    for (int s = 0; s < 2; ++s) line<2>(x, member[s], lines[s]);
    try_subsets<2, 2, 2>(x, member, lines, 16, p, L256, t, gray);
  }
  block = gray;
}

// --- packing ------------------------------------------------------------------------------------------------------

struct ModeRow {
  int code, code_bits, range, base, low_bits, weight_bits, components, subsets, planes, bc1_hints, bias;
};

CUDA_CALLABLE inline ModeRow mode_row(int mode) {
  // tables.py, `MODES`; a test holds the two against each other by decoding blocks of every mode.
  switch (mode) {
    case 0: return {0x01, 4, L192, 3, 6, 4, 3, 1, 1, 2, 1};
    case 1: return {0x35, 6, L256, 1, 8, 2, 3, 1, 1, 2, 1};
    case 2: return {0x1D, 5, L16, 1, 4, 3, 3, 2, 1, 2, 1};
    case 3: return {0x03, 5, L12, 3, 2, 2, 3, 3, 1, 2, 1};
    case 4: return {0x13, 5, L40, 5, 3, 2, 3, 2, 1, 2, 1};
    case 5: return {0x0B, 5, L256, 1, 8, 3, 3, 1, 1, 2, 1};
    case 6: return {0x1B, 5, L160, 5, 5, 2, 3, 1, 2, 2, 1};
    case 7: return {0x07, 5, L40, 5, 3, 2, 3, 2, 1, 2, 1};
    case 9: return {0x0F, 5, L16, 1, 4, 2, 4, 2, 1, 2, 1};
    case 10: return {0x02, 3, L48, 3, 4, 4, 4, 1, 1, 1, 0};
    case 11: return {0x00, 2, L48, 3, 4, 2, 4, 1, 2, 1, 0};
    case 12: return {0x06, 3, L192, 3, 6, 3, 4, 1, 1, 1, 0};
    case 13: return {0x1F, 5, L256, 1, 8, 1, 4, 1, 2, 2, 1};
    case 14: return {0x0D, 5, L256, 1, 8, 2, 4, 1, 1, 2, 1};
    case 15: return {0x05, 7, L256, 1, 8, 4, 2, 1, 1, 2, 1};
    case 16: return {0x15, 6, L256, 1, 8, 2, 2, 2, 1, 2, 1};
    case 17: return {0x25, 6, L256, 1, 8, 2, 2, 1, 2, 2, 1};
    default: return {0x09, 4, L32, 1, 5, 5, 3, 1, 1, 2, 1};  // 18
  }
}

struct Writer {
  uint64_t low, high;
  int at;

  CUDA_CALLABLE inline void put(int value, int bits) {
    const uint64_t v = uint64_t(uint32_t(value));
    if (at < 64) {
      low |= v << at;
      if (at + bits > 64) high |= v >> (64 - at);
    } else {
      high |= v << (at - 64);
    }
    at += bits;
  }
};

// --- ETC hints ----------------------------------------------------------------------------------------------------

struct Etc1 {
  int error, way, table[2], bias;
};

constexpr int NEUTRAL_BIAS = 13;

CUDA_CALLABLE inline int etc1_small(int table) {
  return table == 0 ? 2 : table == 1 ? 5 : table == 2 ? 9 : table == 3 ? 13 : table == 4 ? 18 : table == 5 ? 24 : table == 6 ? 33 : 47;
}
CUDA_CALLABLE inline int etc1_large(int table) {
  return table == 0 ? 8 : table == 1 ? 17 : table == 2 ? 29 : table == 3 ? 42 : table == 4 ? 60 : table == 5 ? 80 : table == 6 ? 106 : 183;
}

// A base colour's channel after a bias of -2 to 1, as the transcoder computes it: it never stays at an end of the range
// by itself, nor leaves it.
CUDA_CALLABLE inline int etc1_biased(int v, int delta, int limit) {
  if (v == 0) return delta == -2 ? 3 : delta + 1;
  if (v == limit) return v + delta - 1;
  return v + delta < 0 || v + delta > limit ? v - delta : v + delta;
}

CUDA_CALLABLE inline int etc1_expand(int v, int diff) { return diff ? v << 3 | v >> 2 : v * 17; }

// The best table of each half for two base colours, by the sum of squared errors; `modifier` is what is then added to
// each texel. The transcoder chooses it by luminance, so it is not always the best of the four: that is counted in.
// Where colours would leave 0 to 255, they are clamped, which makes wide tables better than they look.
CUDA_CALLABLE UASTC_APART int etc1_tables(const int* const (&x)[3], const int (&half)[N], const int (&base)[2][3],
                                     int (&table)[2], int (&modifier)[N], int& spent) {
  int offset[N], luma[N], sign[N], origin[3][N], square = 0, second_square = 0, widest = 0, low = 255, high = 0;
  for (int i = 0; i < N; ++i) offset[i] = luma[i] = 0;
  for (int c = 0; c < 3; ++c) {
    const int weight = c == 0 ? 54 : c == 1 ? 183 : 19;
    low = least(low, least(base[0][c], base[1][c]));
    high = most(high, most(base[0][c], base[1][c]));
    for (int i = 0; i < N; ++i) {
      origin[c][i] = half[i] ? base[1][c] : base[0][c];
      const int d = x[c][i] - origin[c][i];
      offset[i] += d;
      luma[i] += weight * d;
      square += d * d;
      second_square += (d * d) & half[i];
    }
  }
  for (int i = 0; i < N; ++i) {
    sign[i] = luma[i] < 0 ? -1 : 0;  // as a mask: (v ^ sign) - sign is v or -v
    luma[i] = (luma[i] ^ sign[i]) - sign[i];
    widest = luma[i] > widest ? luma[i] : widest;
  }
  int best[2] = {2147483647, 2147483647};
  UASTC_LOOP for (int k = 0; k < 8; ++k) {
    const int a = etc1_small(k), b = etc1_large(k);
    int whole = 0, second = 0;
    ++spent;
    if (low - b >= 0 && high + b <= 255) {
      for (int i = 0; i < N; ++i) {
        const int m = luma[i] > 128 * (a + b) ? b : a;
        const int e = m * (3 * m - 2 * ((offset[i] ^ sign[i]) - sign[i]));
        whole += e;
        second += e & half[i];
      }
      whole += square;
      second += second_square;
    } else {
      int m[N];
      for (int i = 0; i < N; ++i) m[i] = ((luma[i] > 128 * (a + b) ? b : a) ^ sign[i]) - sign[i];
      for (int c = 0; c < 3; ++c)
        for (int i = 0; i < N; ++i) {
          const int d = clamp255(origin[c][i] + m[i]) - x[c][i];
          whole += d * d;
          second += (d * d) & half[i];
        }
    }
    if (whole - second < best[0]) {
      best[0] = whole - second;
      table[0] = k;
    }
    if (second < best[1]) {
      best[1] = second;
      table[1] = k;
    }
    if (256 * a >= widest) break;  // the next tables are farther off for every texel
  }
  const int a0 = etc1_small(table[0]), b0 = etc1_large(table[0]), a1 = etc1_small(table[1]), b1 = etc1_large(table[1]);
  for (int i = 0; i < N; ++i) {
    const int a = half[i] ? a1 : a0, b = half[i] ? b1 : b0;
    modifier[i] = ((luma[i] > 128 * (a + b) ? b : a) ^ sign[i]) - sign[i];
  }
  return best[0] + best[1];
}

// One of the four ways to halve a block (`way` & 1: upper and lower) and to store base colours (`way` & 2: 5 bits and a
// small difference, else 4 bits each). The transcoder takes the mean of each half as its base colour, and changes it
// by the bias, one of 32 combinations of small steps; `search`: find one, else the neutral.
CUDA_CALLABLE UASTC_APART Etc1 etc1_way(const int* const (&x)[3], int way, bool biased, bool search, const Tables& t) {
  const int flip = way & 1, diff = way >> 1, limit = diff ? 31 : 15;
  int half[N], mean[2][3], base[2][3], modifier[N], spent = 0;
  for (int i = 0; i < N; ++i) half[i] = flip ? -(i >> 3 & 1) : -(i >> 1 & 1);
  for (int c = 0; c < 3; ++c) {
    int sum = 0, second = 0;
    for (int i = 0; i < N; ++i) {
      sum += x[c][i];
      second += x[c][i] & half[i];
    }
    mean[0][c] = ((sum - second) * limit + 1020) / 2040;
    mean[1][c] = (second * limit + 1020) / 2040;
    const int a = biased ? etc1_biased(mean[0][c], 0, limit) : mean[0][c];
    int b = biased ? etc1_biased(mean[1][c], 0, limit) : mean[1][c];
    if (diff) b = a + (b - a < -4 ? -4 : b - a > 3 ? 3 : b - a);
    base[0][c] = etc1_expand(a, diff);
    base[1][c] = etc1_expand(b, diff);
  }
  Etc1 best = {0, way, {0, 0}, NEUTRAL_BIAS};
  best.error = etc1_tables(x, half, base, best.table, modifier, spent);
  if (!biased || !search) return best;
  // With the modifiers as they are, a base costs 8 b^2 - 2 b sum(x - modifier) in each half and channel.
  int value[2][3][4], cost[2][3][4];
  for (int c = 0; c < 3; ++c) {
    int sum = 0, second = 0;
    for (int i = 0; i < N; ++i) {
      const int v = x[c][i] - modifier[i];
      sum += v;
      second += v & half[i];
    }
    for (int h = 0; h < 2; ++h)
      for (int d = 0; d < 4; ++d) {
        value[h][c][d] = etc1_biased(mean[h][c], d - 2, limit);
        const int b = etc1_expand(value[h][c][d], diff);
        cost[h][c][d] = 8 * b * b - 2 * b * (h ? second : sum - second);
      }
  }
  float rank[32];
  UASTC_LOOP for (int k = 0; k < 32; ++k) {
    int total = 0;
    bool fits = true;
    for (int c = 0; c < 3; ++c) {
      const int a = t.biases[k] >> (2 * c) & 3, b = t.biases[k] >> (6 + 2 * c) & 3;
      const int step = value[1][c][b] - value[0][c][a];
      fits = fits && (!diff || (step >= -4 && step <= 3));
      total += cost[0][c][a] + cost[1][c][b];
    }
    rank[k] = fits && k != NEUTRAL_BIAS ? float(total) : 1.0e30f;
  }
  Etc1 found = best;
  while (spent < t.effort[ETC1_TABLES]) {
    found.bias = take<32>(rank, 32, 1.0e30f);
    if (found.bias < 0) break;
    for (int h = 0; h < 2; ++h)
      for (int c = 0; c < 3; ++c) base[h][c] = etc1_expand(value[h][c][t.biases[found.bias] >> (6 * h + 2 * c) & 3], diff);
    found.error = etc1_tables(x, half, base, found.table, modifier, spent);
    if (found.error < best.error) best = found;
  }
  return best;
}

// What turns the block into the best ETC1 block: the best way with the neutral bias, or all ways with all biases.
CUDA_CALLABLE inline Etc1 etc1_hints(const int* const (&x)[3], bool biased, const Tables& t) {
  const bool all = t.effort[ETC1_ALL] != 0;
  Etc1 best = etc1_way(x, 0, biased, all, t);
  UASTC_LOOP for (int way = 1; way < 4; ++way) {
    const Etc1 found = etc1_way(x, way, biased, all, t);
    if (found.error < best.error) best = found;
  }
  return biased && !all ? etc1_way(x, best.way, biased, true, t) : best;
}

CUDA_CALLABLE inline int eac_modifier(int table, int k) {
  // Positive values in eights of four bits; the negative ones are -(value) - 1 of the same.
  const uint32_t positive[16] = {0xE852u, 0xC962u, 0xC741u, 0xC531u, 0xB752u, 0xA862u, 0xA763u, 0xA742u,
                                 0x9751u, 0x9741u, 0x9731u, 0x9641u, 0x9632u, 0x9210u, 0x8753u, 0x8642u};
  const int v = int(positive[table] >> (4 * (k & 3)) & 15u);
  return k < 4 ? -v - 1 : v;
}

// Table and multiplier for ETC2's alpha; the transcoder derives the base from the extremes.
CUDA_CALLABLE UASTC_APART int etc2_hints(const int (&alpha)[N]) {
  int low = 255, high = 0;
  for (int i = 0; i < N; ++i) {
    low = alpha[i] < low ? alpha[i] : low;
    high = alpha[i] > high ? alpha[i] : high;
  }
  if (low == high) return 13 | 1 << 4;
  int best = 13 | 1 << 4, least_error = 2147483647;
  UASTC_LOOP for (int table = 0; table < 16; ++table) {
    const int bottom = eac_modifier(table, 3), range = eac_modifier(table, 7) - bottom;
    const int center = (2 * low * range + 2 * (high - low) * -bottom + range) / (2 * range);
    const int middle = (2 * (high - low) + range) / (2 * range);
    for (int m = most(1, middle - 0); m <= least(15, middle + 1); ++m) {
      int distance[N], error = 0;
      for (int i = 0; i < N; ++i) distance[i] = 1 << 20;
      for (int k = 0; k < 8; ++k) {
        const int v = clamp255(center + m * eac_modifier(table, k));
        for (int i = 0; i < N; ++i) {
          const int d = (alpha[i] - v) * (alpha[i] - v);
          distance[i] = d < distance[i] ? d : distance[i];
        }
      }
      for (int i = 0; i < N; ++i) error += distance[i];
      if (error < least_error) {
        least_error = error;
        best = table | m << 4;
      }
    }
  }
  return best;
}

// A block of one colour: 8 bits a channel, and an ETC1 block of one colour.
CUDA_CALLABLE UASTC_APART Writer solid(const int (&color)[4]) {
  int best[6] = {0, 0, 0, 0, 0, 0}, least_error = 2147483647;
  UASTC_LOOP for (int diff = 1; diff >= 0; --diff)
    UASTC_LOOP for (int table = 0; table < 8; ++table)
      for (int selector = 0; selector < 4; ++selector) {
        const int size = selector == 0 || selector == 3 ? etc1_large(table) : etc1_small(table);
        const int modifier = selector < 2 ? -size : size;
        int error = 0, base[3];
        for (int c = 0; c < 3; ++c) {
          const int wanted = clamp255(color[c] - modifier);
          base[c] = diff ? (wanted * 31 + 127) / 255 : (wanted * 15 + 127) / 255;
          const int value = diff ? base[c] << 3 | base[c] >> 2 : base[c] * 17;
          const int e = clamp255(value + modifier) - color[c];
          error += e * e;
        }
        if (error < least_error) {
          least_error = error;
          best[0] = diff;
          best[1] = table;
          best[2] = selector;
          for (int c = 0; c < 3; ++c) best[3 + c] = base[c];
        }
      }
  Writer out = {0, 0, 0};
  out.put(0x17, 5);
  for (int c = 0; c < 4; ++c) out.put(color[c], 8);
  out.put(best[0], 1);
  out.put(best[1], 3);
  out.put(best[2], 2);
  for (int c = 0; c < 3; ++c) out.put(best[3 + c], 5);
  return out;
}

// --- a block ------------------------------------------------------------------------------------------------------

// The first texel of a subset: its weight is stored without the highest bit, so it must be in the lower half.
CUDA_CALLABLE inline int anchor(const int (&subset)[N], int s) {
  for (int i = 0; i < N; ++i)
    if (subset[i] == s) return i;
  return 0;
}

CUDA_CALLABLE UASTC_APART Writer pack(Block& block, const Tables& t) {
  const ModeRow row = mode_row(block.mode);
  int subset[N], first[3] = {0, 0, 0};
  for (int i = 0; i < N; ++i) {
    subset[i] = 0;
    if (row.subsets == 2) subset[i] = -t.pairs[i * LANES + block.pattern + (block.mode == 7 ? MERGED : 0)];
    if (row.subsets == 3)
      subset[i] = -t.triples[i * TRIPLE_LANES + block.pattern] - 2 * t.triples[(N + i) * TRIPLE_LANES + block.pattern];
  }
  // As a transcoder will decode it: the hints are about these texels, not about those of the picture.
  int decoded[4][N];
  for (int c = 0; c < 4; ++c) {
    const int from = row.components == 2 ? (c == 3 ? 1 : 0) : c;
    const int plane = row.planes == 2 && from == (block.mode == 17 ? 1 : block.second) ? 1 : 0;
    for (int i = 0; i < N; ++i) {
      const int s = subset[i], w = unquantize(block.weight[plane][i], row.weight_bits);
      const int a = block.ends[s][0][from], b = block.ends[s][1][from];
      decoded[c][i] = from < row.components ? (257 * (a * (64 - w) + b * w) + 32) >> 14 : 255;
    }
  }
  const int* const rgb[3] = {decoded[0], decoded[1], decoded[2]};
  const int top = (1 << row.weight_bits) - 1, second = block.mode == 17 ? 1 : block.second;
  for (int s = 0; s < row.subsets; ++s) {
    first[s] = anchor(subset, s);
    for (int plane = 0; plane < row.planes; ++plane) {
      if (block.weight[plane][first[s]] <= top >> 1) continue;
      for (int i = 0; i < N; ++i)
        if (subset[i] == s) block.weight[plane][i] = top - block.weight[plane][i];
      for (int c = 0; c < row.components; ++c) {
        if (row.planes == 2 && (c == second) != (plane == 1)) continue;
        const int v = block.ends[s][0][c];
        block.ends[s][0][c] = block.ends[s][1][c];
        block.ends[s][1][c] = v;
      }
    }
  }
  Writer out = {0, 0, 0};
  out.put(row.code, row.code_bits);
  out.put(0, row.bc1_hints);
  const Etc1 etc1 = etc1_hints(rgb, row.bias != 0, t);
  out.put(etc1.way & 1, 1);
  out.put(etc1.way >> 1, 1);
  out.put(etc1.table[0], 3);
  out.put(etc1.table[1], 3);
  if (row.bias) out.put(etc1.bias, 5);
  if (row.components != 3) out.put(etc2_hints(decoded[3]), 8);
  if (row.subsets == 2) out.put(block.pattern, 5);
  if (row.subsets == 3) out.put(block.pattern, 4);
  if (row.planes == 2 && block.mode != 17) out.put(block.second, 2);
  const int count = row.subsets * row.components * 2;
  int stored[18];
  for (int s = 0, k = 0; s < row.subsets; ++s)
    for (int c = 0; c < row.components; ++c)
      for (int e = 0; e < 2; ++e) stored[k++] = t.index[row.range * 256 + block.ends[s][e][c]];
  if (row.base > 1) {
    const int size = row.base == 3 ? 5 : 3;
    UASTC_LOOP for (int k = 0; k < count; k += size) {
      const int some = least(size, count - k);
      int packed = 0;
      for (int i = some - 1; i >= 0; --i) packed = packed * row.base + (stored[k + i] >> row.low_bits);
      const int width = row.base == 5 ? (some == 3 ? 7 : some == 2 ? 5 : 3)
                                      : (some == 5 ? 8 : some == 4 ? 7 : some == 3 ? 5 : some == 2 ? 4 : 2);
      out.put(packed, width);
    }
  }
  UASTC_LOOP for (int k = 0; k < count; ++k) out.put(stored[k] & ((1 << row.low_bits) - 1), row.low_bits);
  UASTC_LOOP for (int i = 0; i < N; ++i)
    for (int plane = 0; plane < row.planes; ++plane)
      out.put(block.weight[plane][i], row.weight_bits - (i == first[subset[i]] ? 1 : 0));
  return out;
}

// One block of a picture of `width` x `height` RGBA texels; texels beyond its edges repeat those at them.
CUDA_CALLABLE inline void encode(const uint32_t* picture, int width, int height, int across, int number,
                                 const uint8_t* bytes, const int* words, const int* effort, uint64_t* blocks) {
  const Tables t = tables_at(bytes, words, effort);
  int texel[4][N];
  const int left = number % across * 4, up = number / across * 4;
  for (int y = 0; y < 4; ++y)
    for (int x = 0; x < 4; ++x) {
      const int i = y * 4 + x;
      const uint32_t v = picture[size_t(least(up + y, height - 1)) * width + least(left + x, width - 1)];
      for (int c = 0; c < 4; ++c) texel[c][i] = int(v >> (8 * c) & 255u);
    }
  int low[4], high[4];
  for (int c = 0; c < 4; ++c) {
    int a = 255, b = 0;
    for (int i = 0; i < N; ++i) {
      a = texel[c][i] < a ? texel[c][i] : a;
      b = texel[c][i] > b ? texel[c][i] : b;
    }
    low[c] = a;
    high[c] = b;
  }
  Writer out;
  if (low[0] == high[0] && low[1] == high[1] && low[2] == high[2] && low[3] == high[3]) {
    out = solid(low);
  } else {
    int colored = 0;
    for (int i = 0; i < N; ++i) colored |= (texel[0][i] ^ texel[1][i]) | (texel[0][i] ^ texel[2][i]);
    Block block;
    block.cost = 1 << 29;
    const int* const rgb[3] = {texel[0], texel[1], texel[2]};
    if (low[3] == 255) {
      search_rgb(rgb, t, block);
    } else if (!colored) {
      const int* const gray[2] = {texel[0], texel[3]};
      search_gray(gray, t, block);
    } else {
      const int* const rgba[4] = {texel[0], texel[1], texel[2], texel[3]};
      search_rgba(rgba, t, block);
    }
    out = pack(block, t);
  }
  blocks[2 * size_t(number)] = out.low;
  blocks[2 * size_t(number) + 1] = out.high;
}

}  // namespace uastc
