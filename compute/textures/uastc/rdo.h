// Rate-distortion optimisation of finished UASTC blocks, after uastc.h in the same source.
//
// zstd finds bytes that were there before. A block's last 4 to 9 bytes are its weights: where an earlier block's will
// do, with ends of its own, they cost two or three bytes instead. Which of some thousand earlier ones would do is a
// projection: what weights w leave of the texels x, with the best ends, is |x|^2 less the squares of x's coordinates
// in an orthonormal base of what ends and w can express. The base is kept with the weights, in 4096ths, so that a try is
// 16 products of integers a channel.

namespace uastc_rdo {

using namespace uastc;

constexpr int BASES = 5;     // besides the constant: one, two planes, or 2 * subsets - 1
constexpr int CAPACITY = 2048;  // of what is remembered, as in rdo_kernel.py
constexpr int TRIES = 8;     // of weights, evaluated exactly
constexpr int SCALE = 4096;  // of a base

struct Weights {
  int16_t base[BASES][N];
  int count, mode, pattern, second, position, tail;
  int weight[2][N];
};

struct Whole {
  int16_t texel[4][N];
  uint64_t low, high;
  int position;
};

static_assert(sizeof(Weights) == 312 && sizeof(Whole) == 152, "rdo_kernel.py allots this much");

struct Reader {
  uint64_t low, high;

  CUDA_CALLABLE inline int get(int bits) {
    const int value = int(low & ((uint64_t(1) << bits) - 1));
    if (bits) {
      low = low >> bits | high << (64 - bits);
      high >>= bits;
    }
    return value;
  }
};

CUDA_CALLABLE inline void subsets_of(const Block& block, const ModeRow& row, const Tables& t, int (&subset)[N]) {
  for (int i = 0; i < N; ++i) {
    subset[i] = 0;
    if (row.subsets == 2) subset[i] = -t.pairs[i * LANES + block.pattern + (block.mode == 7 ? MERGED : 0)];
    if (row.subsets == 3)
      subset[i] = -t.triples[i * TRIPLE_LANES + block.pattern] - 2 * t.triples[(N + i) * TRIPLE_LANES + block.pattern];
  }
}

// Fields of a block that `pack` has written; `values`: [RANGES][256] what a stored end means. Mode 8 has no more than
// its mode. `tail`: how many whole bytes of weights end the block.
CUDA_CALLABLE inline void unpack(uint64_t low, uint64_t high, const int* values, const Tables& t, Block& block,
                                 int& tail) {
  Reader in = {low, high};
  block.mode = 8;
  tail = 0;
  ModeRow row = mode_row(0);
  for (int mode = 0; mode < 19; ++mode) {
    const ModeRow found = mode_row(mode);
    if (mode == 8 || int(low & ((1u << found.code_bits) - 1)) != found.code) continue;
    block.mode = mode;
    row = found;
  }
  block.pattern = block.second = 0;
  if (block.mode == 8) return;
  int at = row.code_bits + row.bc1_hints + 8 + (row.bias ? 5 : 0) + (row.components != 3 ? 8 : 0);
  in.get(at >> 1);
  in.get(at - (at >> 1));
  const int pattern_bits = row.subsets == 2 ? 5 : row.subsets == 3 ? 4 : 0;
  block.pattern = in.get(pattern_bits);
  at += pattern_bits;
  block.second = block.mode == 17 ? 1 : 0;
  if (row.planes == 2 && block.mode != 17) {
    block.second = in.get(2);
    at += 2;
  }
  const int count = row.subsets * row.components * 2;
  int stored[18];
  for (int k = 0; k < count; ++k) stored[k] = 0;
  if (row.base > 1) {
    const int size = row.base == 3 ? 5 : 3;
    for (int k = 0; k < count; k += size) {
      const int some = least(size, count - k);
      const int width = row.base == 5 ? (some == 3 ? 7 : some == 2 ? 5 : 3)
                                      : (some == 5 ? 8 : some == 4 ? 7 : some == 3 ? 5 : some == 2 ? 4 : 2);
      int packed = in.get(width);
      at += width;
      for (int i = 0; i < some; ++i) {
        stored[k + i] = packed % row.base << row.low_bits;
        packed /= row.base;
      }
    }
  }
  for (int k = 0; k < count; ++k) stored[k] |= in.get(row.low_bits);
  at += count * row.low_bits;
  for (int s = 0, k = 0; s < row.subsets; ++s)
    for (int c = 0; c < row.components; ++c)
      for (int e = 0; e < 2; ++e) block.ends[s][e][c] = values[row.range * 256 + (stored[k++] & 255)];
  int subset[N], first[3] = {0, 0, 0};
  subsets_of(block, row, t, subset);
  for (int s = 0; s < row.subsets; ++s) first[s] = anchor(subset, s);
  for (int i = 0; i < N; ++i)
    for (int plane = 0; plane < row.planes; ++plane)
      block.weight[plane][i] = in.get(row.weight_bits - (i == first[subset[i]] ? 1 : 0));
  tail = 16 - (at + 7) / 8;
}

CUDA_CALLABLE inline void decode(const Block& block, const Tables& t, int16_t (&texel)[4][N]) {
  const ModeRow row = mode_row(block.mode);
  int subset[N];
  subsets_of(block, row, t, subset);
  for (int c = 0; c < 4; ++c) {
    const int from = row.components == 2 ? (c == 3 ? 1 : 0) : c;
    const int plane = row.planes == 2 && from == block.second ? 1 : 0;
    for (int i = 0; i < N; ++i) {
      const int s = subset[i], w = unquantize(block.weight[plane][i], row.weight_bits);
      texel[c][i] = int16_t(from < row.components ? (257 * (block.ends[s][0][from] * (64 - w) + block.ends[s][1][from] * w) + 32) >> 14 : 255);
    }
  }
}

CUDA_CALLABLE inline int distance(const int16_t (&a)[4][N], const int16_t (&b)[4][N]) {
  int error = 0;
  for (int c = 0; c < 4; ++c)
    for (int i = 0; i < N; ++i) {
      const int d = int(a[c][i]) - int(b[c][i]);
      error += d * d;
    }
  return error;
}

// The base of a block's weights, by Gram and Schmidt.
CUDA_CALLABLE inline void span(const Block& block, const Tables& t, Weights& out) {
  const ModeRow row = mode_row(block.mode);
  int subset[N];
  subsets_of(block, row, t, subset);
  const int count = row.planes == 2 ? 2 : 2 * row.subsets - 1;
  float base[BASES][N];
  for (int k = 0; k < count; ++k) {
    float v[N], mean = 0.0f;
    for (int i = 0; i < N; ++i) {
      if (k >= row.subsets && row.planes == 1)
        v[i] = subset[i] == k - row.subsets + 1 ? 1.0f : 0.0f;
      else
        v[i] = row.planes == 2 || subset[i] == k ? float(unquantize(block.weight[row.planes == 2 ? k : 0][i], row.weight_bits)) / 64.0f : 0.0f;
      mean = mean + v[i];
    }
    mean = mean / 16.0f;
    for (int i = 0; i < N; ++i) v[i] = v[i] - mean;
    for (int j = 0; j < (row.planes == 2 ? 0 : k); ++j) {
      float dot = 0.0f;
      for (int i = 0; i < N; ++i) dot = dot + v[i] * base[j][i];
      for (int i = 0; i < N; ++i) v[i] = v[i] - dot * base[j][i];
    }
    float square = 0.0f;
    for (int i = 0; i < N; ++i) square = square + v[i] * v[i];
    const float over = square > 1.0e-4f ? 1.0f / sqrtf(square) : 0.0f;
    for (int i = 0; i < N; ++i) {
      base[k][i] = v[i] * over;
      out.base[k][i] = int16_t(int(base[k][i] * float(SCALE) + (base[k][i] < 0.0f ? -0.5f : 0.5f)));
    }
  }
  out.count = count;
  out.mode = block.mode;
  out.pattern = block.pattern;
  out.second = block.second;
  for (int p = 0; p < row.planes; ++p)
    for (int i = 0; i < N; ++i) out.weight[p][i] = block.weight[p][i];
}

// The best ends of the mode for given weights.
CUDA_CALLABLE inline void fit(const int16_t (&x)[4][N], const Tables& t, Block& block) {
  const ModeRow row = mode_row(block.mode);
  int subset[N];
  subsets_of(block, row, t, subset);
  for (int s = 0; s < row.subsets; ++s)
    for (int c = 0; c < row.components; ++c) {
      const int from = row.components == 2 && c == 1 ? 3 : c;
      const int plane = row.planes == 2 && c == block.second ? 1 : 0;
      int aa = 0, ab = 0, bb = 0, xa = 0, xb = 0, sum = 0, n = 0;
      for (int i = 0; i < N; ++i) {
        const int member = subset[i] == s ? 1 : 0;
        const int w = unquantize(block.weight[plane][i], row.weight_bits);
        const int b = w * member, a = (64 - w) * member;
        const int v = w == 0 || w == 64 ? 256 * x[from][i] : wanted(x[from][i]);
        aa += a * a;
        ab += a * b;
        bb += b * b;
        xa += v * a;
        xb += v * b;
        sum += x[from][i] * member;
        n += member;
      }
      const float faa = float(aa), fab = float(ab), fbb = float(bb), det = faa * fbb - fab * fab;
      const float fxa = float(xa) / 256.0f, fxb = float(xb) / 256.0f;
      const bool flat = !(det > 1.0f);
      const float over = flat ? 0.0f : 64.0f / det;
      const float wa = flat ? float(sum) / float(n) : (fxa * fbb - fxb * fab) * over;
      const float wb = flat ? float(sum) / float(n) : (fxb * faa - fxa * fab) * over;
      // One that must be clamped leaves the other to make up for it.
      float va = wa < 0.0f ? 0.0f : wa > 255.0f ? 255.0f : wa, vb = wb < 0.0f ? 0.0f : wb > 255.0f ? 255.0f : wb;
      if (!flat && va != wa && bb > 0) vb = (64.0f * fxb - va * fab) / fbb;
      if (!flat && wb != (vb < 0.0f ? 0.0f : vb > 255.0f ? 255.0f : vb) && va == wa && aa > 0) va = (64.0f * fxa - vb * fab) / faa;
      const int a = clamp255(int(va < 0.0f ? 0.0f : va + 0.5f)), b = clamp255(int(vb < 0.0f ? 0.0f : vb + 0.5f));
      float least_cost = 1.0e30f;
      for (int k = 0; k < 4; ++k) {
        const int ta = (k & 1 ? t.above : t.below)[row.range * 256 + a];
        const int tb = (k & 2 ? t.above : t.below)[row.range * 256 + b];
        const float qa = float(ta), qb = float(tb);
        const float cost = qa * (qa * faa + 2.0f * qb * fab - 128.0f * fxa) + qb * (qb * fbb - 128.0f * fxb);
        if (cost < least_cost) {
          least_cost = cost;
          block.ends[s][0][c] = ta;
          block.ends[s][1][c] = tb;
        }
      }
    }
}

// What zstd takes, in 16ths of a bit. A match costs its lengths and its offset, whose highest bit is coded and whose
// others are stored; `recent` are the three offsets that it has a short name for. Three bits more or less change nothing.
constexpr int BIT = 16, MATCH_BITS = 11, RECENT_BITS = 8;
// Error in blocks whose texels deviate by less than SMOOTH from their mean weighs up to 1 + SMOOTHEST times as much.
constexpr float SMOOTH = 12.0f, SMOOTHEST = 3.0f;
// No block's error grows further than this many times, and this much beside.
constexpr float GROWTH = 10.0f;
constexpr int ALLOWANCE = 16 * 64;

CUDA_CALLABLE inline int match_bits(int blocks, const int (&recent)[3]) {
  if (blocks == recent[0] || blocks == recent[1] || blocks == recent[2]) return RECENT_BITS * BIT;
  int log = 0;
  while (blocks >> (log + 1)) ++log;
  return (MATCH_BITS + log) * BIT;
}

CUDA_CALLABLE inline void used(int blocks, int (&recent)[3]) {
  if (blocks == recent[0]) return;
  if (blocks != recent[1]) recent[2] = recent[1];
  recent[1] = recent[0];
  recent[0] = blocks;
}

// Blocks first ... last - 1, in place. `literal`: 16ths of a bit that a byte costs. `error_per_bit`: squared error that a
// bit is worth. `memory`: for CAPACITY of `Weights` and of `Whole`.
CUDA_CALLABLE inline void optimize(const uint32_t* picture, int width, int height, int across, int first, int last,
                                   const uint8_t* bytes, const int* words, const int* effort, const int* values,
                                   int literal, float error_per_bit, uint8_t* memory, uint64_t* blocks) {
  Weights* const weights = reinterpret_cast<Weights*>(memory);
  Whole* const wholes = reinterpret_cast<Whole*>(memory + CAPACITY * sizeof(Weights));
  const int capacity = CAPACITY;
  const Tables t = tables_at(bytes, words, effort);
  int weights_count = 0, wholes_count = 0, recent[3] = {0, 0, 0}, running = 0;
  const float per_bit = error_per_bit / float(BIT);
  for (int number = first; number < last; ++number) {
    int16_t x[4][N], own_texel[4][N], y[4][N], centered[4][N];
    const int left = number % across * 4, up = number / across * 4;
    bool opaque = true, gray = true;
    for (int i = 0; i < N; ++i) {
      const uint32_t v = picture[size_t(least(up + i / 4, height - 1)) * width + least(left + i % 4, width - 1)];
      for (int c = 0; c < 4; ++c) x[c][i] = int16_t(v >> (8 * c) & 255u);
      opaque = opaque && x[3][i] == 255;
      gray = gray && x[0][i] == x[1][i] && x[0][i] == x[2][i];
    }
    float square[4], total = 0.0f;
    for (int c = 0; c < 4; ++c) {
      int sum = 0, s = 0;
      for (int i = 0; i < N; ++i) sum += x[c][i];
      for (int i = 0; i < N; ++i) {
        centered[c][i] = int16_t(16 * x[c][i] - sum);
        s += int(centered[c][i]) * int(centered[c][i]) >> 4;
      }
      square[c] = float(s) / 16.0f;
      total = total + square[c];
    }
    uint64_t low = blocks[2 * size_t(number)], high = blocks[2 * size_t(number) + 1];
    Block own;
    int own_tail;
    unpack(low, high, values, t, own, own_tail);
    if (own.mode == 8) {
      for (int c = 0; c < 4; ++c)
        for (int i = 0; i < N; ++i) own_texel[c][i] = int16_t(int(low >> (5 + 8 * c) & 255u));
    } else {
      decode(own, t, own_texel);
    }
    const int own_error = distance(x, own_texel);
    // Where there is little to see, errors are seen best: there they weigh more.
    const float deviation = sqrtf(total / 64.0f);
    const float weight = deviation < SMOOTH ? 1.0f + SMOOTHEST * (SMOOTH - deviation) / SMOOTH : 1.0f;
    const float price = per_bit / weight;
    const int limit = int(float(own_error) * GROWTH) + ALLOWANCE;
    float best = float(own_error) + price * float(16 * literal);
    int kind = 0, chosen = -1;
    Block block = own;

    // Whole blocks.
    for (int k = 0; k < wholes_count; ++k) {
      const int error = distance(x, wholes[k].texel);
      if (float(error) >= best || error > limit) continue;
      const int offset = number - wholes[k].position;
      const int bits = offset == running ? BIT : match_bits(offset, recent);
      const float cost = float(error) + price * float(bits);
      if (cost < best) {
        best = cost;
        kind = 2;
        chosen = k;
      }
    }

    // Weights.
    float rank[TRIES];
    int tries[TRIES], found = 0;
    for (int k = 0; k < weights_count; ++k) {
      const Weights& w = weights[k];
      const int components = mode_row(w.mode).components;
      if ((components == 3 && !opaque) || (components == 2 && !gray)) continue;
      const int bits = (16 - w.tail) * literal + match_bits(number - w.position, recent);
      float cost = total + price * float(bits);
      for (int c = 0; c < 4; ++c) {
        const int from = components == 2 ? (c == 3 ? 1 : 0) : c;
        const bool dual = mode_row(w.mode).planes == 2;
        const int start = dual && from == w.second ? 1 : 0, end = dual ? start + 1 : w.count;
        for (int j = start; j < end; ++j) {
          int dot = 0;
          for (int i = 0; i < N; ++i) dot += int(centered[c][i]) * int(w.base[j][i]);
          const float d = float(dot) / float(16 * SCALE);
          cost = cost - d * d;
        }
      }
      if (cost >= best || (found == TRIES && cost >= rank[TRIES - 1])) continue;
      int at = found < TRIES ? found++ : TRIES - 1;
      for (; at > 0 && rank[at - 1] > cost; --at) {
        rank[at] = rank[at - 1];
        tries[at] = tries[at - 1];
      }
      rank[at] = cost;
      tries[at] = k;
    }
    for (int j = 0; j < found; ++j) {
      if (rank[j] >= best) break;
      const Weights& w = weights[tries[j]];
      Block other;
      other.mode = w.mode;
      other.pattern = w.pattern;
      other.second = w.second;
      const int planes = mode_row(w.mode).planes;
      for (int p = 0; p < planes; ++p)
        for (int i = 0; i < N; ++i) other.weight[p][i] = w.weight[p][i];
      fit(x, t, other);
      decode(other, t, y);
      const int error = distance(x, y);
      if (error > limit) continue;
      const float cost = float(error) + price * float((16 - w.tail) * literal + match_bits(number - w.position, recent));
      if (cost < best) {
        best = cost;
        kind = 1;
        chosen = tries[j];
        block = other;
      }
    }

    if (kind == 2) {
      Whole& w = wholes[chosen];
      low = w.low;
      high = w.high;
      running = number - w.position;
      used(running, recent);
      w.position = number;
      int tail;
      unpack(low, high, values, t, block, tail);
      if (block.mode != 8)
        for (int k = 0; k < weights_count; ++k) {
          bool same = weights[k].mode == block.mode && weights[k].pattern == block.pattern && weights[k].second == block.second;
          if (!same) continue;
          for (int p = 0; p < mode_row(block.mode).planes; ++p)
            for (int i = 0; i < N; ++i) same = same && weights[k].weight[p][i] == block.weight[p][i];
          if (same) weights[k].position = number;
        }
    } else {
      running = 0;
      if (kind == 1) {
        Weights& w = weights[chosen];
        running = number - w.position;
        used(running, recent);
        const Writer out = pack(block, t);
        low = out.low;
        high = out.high;
        w.position = number;
        decode(block, t, own_texel);
      } else if (own.mode != 8) {
        int at = weights_count;
        if (at == capacity) {
          at = 0;
          for (int k = 1; k < capacity; ++k)
            if (weights[k].position < weights[at].position) at = k;
        } else {
          ++weights_count;
        }
        span(own, t, weights[at]);
        weights[at].position = number;
        weights[at].tail = own_tail;
      }
      int at = wholes_count;
      if (at == capacity) {
        at = 0;
        for (int k = 1; k < capacity; ++k)
          if (wholes[k].position < wholes[at].position) at = k;
      } else {
        ++wholes_count;
      }
      Whole& w = wholes[at];
      for (int c = 0; c < 4; ++c)
        for (int i = 0; i < N; ++i) w.texel[c][i] = own_texel[c][i];
      w.low = low;
      w.high = high;
      w.position = number;
    }
    blocks[2 * size_t(number)] = low;
    blocks[2 * size_t(number) + 1] = high;
  }
}

}  // namespace uastc_rdo
