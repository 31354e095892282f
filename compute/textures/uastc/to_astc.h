// A UASTC block as the ASTC block that it stands for, bit by bit: one source for CPU (clang, by Warp) and CUDA (NVRTC).
//
// Sources: "UASTC LDR 4x4 Texture Specification" (Binomial); Khronos Data Format Specification 1.3, chapter 23 "ASTC
// Compressed Texture Image Formats". All tables come from to_astc.py, where each is cited. Integers only.

namespace to_astc {

constexpr int MODES = 19;
constexpr int SOLID = 8;

// A row of the table of modes.
enum Field { CODE, CODE_BITS, HINT_BITS, PATTERN_BITS, PATTERNS, PATTERN_COUNT, SELECTOR, COMPONENTS, SUBSETS, PLANES, BASE, LOW_BITS, VALUES, WEIGHT_BITS, BLOCK_MODE, FIELDS };

// Digits that share one number, in both packings: bits of the number that the first n of them take, ASTC's places of
// them beside each digit's low bits.
struct Packing {
  int size;
  int widths[6];
};

CUDA_CALLABLE inline Packing packing(int base) {
  if (base == 3) return {5, {0, 2, 4, 5, 7, 8}};
  return {3, {0, 3, 5, 7, 7, 7}};
}

struct Bits {
  uint64_t word[2];
};

CUDA_CALLABLE inline int get(const Bits& bits, int& at, int width) {
  int value = 0;
  for (int i = 0; i < width; ++i, ++at) value |= int(bits.word[at >> 6] >> (at & 63) & 1) << i;
  return value;
}

CUDA_CALLABLE inline void put(Bits& bits, int& at, int width, int value) {
  for (int i = 0; i < width; ++i, ++at) bits.word[at >> 6] |= uint64_t(value >> i & 1) << (at & 63);
}

// 8-bit colour as a void-extent block, "Void-extent blocks": LDR, no extent, 16 bits a channel.
CUDA_CALLABLE inline Bits solid(const Bits& in, int at) {
  Bits out = {{0xFFFFFFFFFFFFFDFCull, 0}};
  for (int channel = 0; channel < 4; ++channel) out.word[1] |= uint64_t(get(in, at, 8) * 257) << (16 * channel);
  return out;
}

// `table`: rows of modes; then what the rows point at: unquantized values, and patterns as a seed and 16 subsets of two
// bits; `trits` and `quints` are ASTC's numbers for five and for three digits. A block of no mode becomes transparent
// black.
CUDA_CALLABLE inline void convert(const uint64_t* blocks, int block, const int* table, const int* trits, const int* quints, uint64_t* result) {
  Bits in = {{blocks[2 * size_t(block)], blocks[2 * size_t(block) + 1]}};
  Bits out = {{0xFFFFFFFFFFFFFDFCull, 0}};
  const int* mode = nullptr;
  int number = 0;
  for (; number < MODES; ++number) {
    const int* row = table + number * FIELDS;
    if ((int(in.word[0] & 127) & ((1 << row[CODE_BITS]) - 1)) == row[CODE]) {
      mode = row;
      break;
    }
  }
  int at = mode ? mode[CODE_BITS] : 0;
  if (mode && number == SOLID) out = solid(in, at);
  if (mode && number != SOLID) {
    at += mode[HINT_BITS];
    const int pattern = get(in, at, mode[PATTERN_BITS]);
    const bool known = pattern < (mode[PATTERN_COUNT] ? mode[PATTERN_COUNT] : 1);
    const int* shape = table + mode[PATTERNS] + 2 * (known ? pattern : 0);
    const int selector = mode[SELECTOR] ? get(in, at, 2) : 3;

    // Ends of lines: all digits come first here, each beside its low bits in ASTC.
    const int subsets = mode[SUBSETS], each = 2 * mode[COMPONENTS], count = each * subsets;
    const Packing pack = packing(mode[BASE]);
    int ends[18] = {};
    if (mode[BASE] > 1) {
      for (int first = 0; first < count; first += pack.size) {
        const int some = count - first < pack.size ? count - first : pack.size;
        int digits = get(in, at, pack.widths[some]);
        for (int i = 0; i < some; ++i, digits /= mode[BASE]) ends[first + i] = digits % mode[BASE] << mode[LOW_BITS];
      }
    }
    for (int i = 0; i < count; ++i) ends[i] |= get(in, at, mode[LOW_BITS]);

    // "Blue contraction": ASTC takes ends whose second is darker for something else, so those change places.
    bool turned[3] = {false, false, false};
    if (mode[COMPONENTS] > 2) {
      const int* value = table + mode[VALUES];
      for (int s = 0; s < subsets; ++s) {
        int* e = ends + s * each;
        turned[s] = value[e[1]] + value[e[3]] + value[e[5]] < value[e[0]] + value[e[2]] + value[e[4]];
        for (int i = 0; turned[s] && i < each; i += 2) {
          const int kept = e[i];
          e[i] = e[i + 1];
          e[i + 1] = kept;
        }
      }
    }

    out = {{0, 0}};
    int to = 0;
    put(out, to, 11, mode[BLOCK_MODE]);
    put(out, to, 2, subsets - 1);
    const int format = mode[COMPONENTS] == 2 ? 4 : mode[COMPONENTS] == 3 ? 8 : 12;
    if (subsets > 1) {
      put(out, to, 10, shape[0]);
      put(out, to, 6, format << 2);
    } else {
      put(out, to, 4, format);
    }
    if (mode[BASE] == 1) {
      for (int i = 0; i < count; ++i) put(out, to, mode[LOW_BITS], ends[i]);
    } else {
      for (int first = 0; first < count; first += pack.size) {
        const int some = count - first < pack.size ? count - first : pack.size;
        int index = 0;
        for (int i = some - 1; i >= 0; --i) index = index * mode[BASE] + (ends[first + i] >> mode[LOW_BITS]);
        const int packed = (mode[BASE] == 3 ? trits : quints)[index];
        for (int i = 0; i < some; ++i) {
          put(out, to, mode[LOW_BITS], ends[first + i]);
          put(out, to, pack.widths[i + 1] - pack.widths[i], packed >> pack.widths[i]);
        }
      }
    }

    // Weights, from the last bit down. The first of each subset lacks its highest bit here, which is 0.
    const int bits = mode[WEIGHT_BITS], planes = mode[PLANES];
    int seen = 0, down = 127;
    for (int i = 0; i < 16; ++i) {
      const int s = subsets > 1 ? shape[1] >> (2 * i) & 3 : 0;
      for (int p = 0; p < planes; ++p) {
        int weight = get(in, at, bits - !(seen >> s & 1));
        if (turned[s]) weight = (1 << bits) - 1 - weight;
        for (int b = 0; b < bits; ++b, --down) out.word[down >> 6] |= uint64_t(weight >> b & 1) << (down & 63);
      }
      seen |= 1 << s;
    }
    if (planes > 1) {
      to = down - 1;
      put(out, to, 2, selector);
    }
    if (!known) out = {{0xFFFFFFFFFFFFFDFCull, 0}};
  }
  result[2 * size_t(block)] = out.word[0];
  result[2 * size_t(block) + 1] = out.word[1];
}

}  // namespace to_astc
