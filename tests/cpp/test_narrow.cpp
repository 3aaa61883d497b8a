// float16 and bfloat16 of one level (the unit's flags choose it): every number is widened exactly
// and comes back; what lies between two goes to the nearer one, ties to the even one; products of
// pairs are two fused ones, the high half first.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "check.h"
#include "simd/factors.h"

namespace {

using namespace fastrnn::FASTRNN_ISA;

constexpr int kLanes = Vec<float>::kLanes;

uint32_t random_bits() {
  static uint64_t state = 88172645463325252ull;
  state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
  return static_cast<uint32_t>((state * 2685821657736338717ull) >> 32);
}
float float_of_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// What a number of 16 bits is, by its definition.
struct Format {
  int fraction_bits, bias;
};
template <class S> constexpr Format format = {};
template <> constexpr Format format<float16> = {10, 15};
template <> constexpr Format format<bfloat16> = {7, 127};

template <class S> double value_of(uint16_t bits) {
  constexpr int digits = format<S>.fraction_bits, most = (1 << (15 - digits)) - 1;
  const int exponent = (bits >> digits) & most, fraction = bits & ((1 << digits) - 1);
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == most) return fraction ? NAN : sign * HUGE_VAL;
  const int leading = exponent > 0 ? 1 << digits : 0;
  return sign * std::ldexp(leading + fraction, std::max(exponent, 1) - format<S>.bias - digits);
}

template <class S> const char* name_of() { return format<S>.bias == 15 ? "float16" : "bfloat16"; }

// By vectors, and alone.
template <class S> uint16_t narrowed(float x) {
  S out[kLanes];
  store(Vec<float>(x), out);
  const S alone = narrow<S>(x);
  EXPECT(alone.bits == out[kLanes - 1].bits, "%s: %a is %x alone, %x in a vector", name_of<S>(),
         double(x), alone.bits, out[kLanes - 1].bits);
  return out[0].bits;
}

template <class S> void widens_every_number() {
  S in[kLanes];
  float out[kLanes];
  for (int first = 0; first < 1 << 16; first += kLanes) {
    for (int i = 0; i < kLanes; ++i) in[i].bits = static_cast<uint16_t>(first + i);
    load(in).store(out);
    for (int i = 0; i < kLanes; ++i) {
      const uint16_t bits = in[i].bits;
      const double wanted = value_of<S>(bits);
      const float alone = widen(in[i]);
      if (std::isnan(wanted)) {
        EXPECT(std::isnan(out[i]) && std::isnan(alone), "%s: %x is a number", name_of<S>(), bits);
        EXPECT(std::isnan(value_of<S>(narrowed<S>(out[i]))), "%s: NaN is lost", name_of<S>());
        continue;
      }
      EXPECT(double(out[i]) == wanted && std::signbit(out[i]) == std::signbit(wanted),
             "%s: %x is %a, not %a", name_of<S>(), bits, double(out[i]), wanted);
      EXPECT(std::memcmp(&alone, &out[i], sizeof alone) == 0, "%s: %x alone is %a", name_of<S>(),
             bits, double(alone));
      EXPECT(narrowed<S>(out[i]) == bits, "%s: %x comes back as %x", name_of<S>(), bits,
             narrowed<S>(out[i]));
    }
  }
}

// |x| between two neighbours, of which the even one has a fraction that ends in 0. Past the last
// number there is one more, which is infinity.
template <class S> uint16_t nearest(float x) {
  constexpr uint16_t infinite = ((1 << (15 - format<S>.fraction_bits)) - 1)
                                << format<S>.fraction_bits;
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const double size = std::fabs(double(x));
  uint16_t low = 0, high = infinite;
  while (high - low > 1) {
    const auto middle = static_cast<uint16_t>((low + high) / 2);
    (value_of<S>(middle) <= size ? low : high) = middle;
  }
  const double below = value_of<S>(low);
  const double above = high == infinite ? 2 * below - value_of<S>(low - 1) : value_of<S>(high);
  const double to_low = size - below, to_high = above - size;
  const bool up = to_high < to_low || (to_high == to_low && low % 2 == 1);
  return sign | (std::isinf(x) ? infinite : up ? high : low);
}

template <class S> void expect_nearest(float x) {
  const uint16_t got = narrowed<S>(x), wanted = nearest<S>(x);
  EXPECT(got == wanted, "%s: %a is rounded to %x, not to %x", name_of<S>(), double(x), got, wanted);
}

template <class S> void rounds_to_nearest() {
  for (uint32_t bits = 0; bits < 0x7fff; ++bits) {
    const double below = value_of<S>(static_cast<uint16_t>(bits));
    const double above = value_of<S>(static_cast<uint16_t>(bits + 1));
    if (!(above <= std::numeric_limits<float>::max())) continue;
    const float middle = static_cast<float>((below + above) / 2);
    for (float x : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, HUGE_VALF)}) {
      expect_nearest<S>(x);
      expect_nearest<S>(-x);
    }
  }
  for (int i = 0; i < 300000; ++i) {
    const float x = float_of_bits(random_bits());
    if (!std::isnan(x)) expect_nearest<S>(x);
  }
  for (float x : {65504.0f, 65519.996f, 65520.0f, 65536.0f, HUGE_VALF, 3.4e38f, 0x1p-24f, 0x1p-25f,
                  0x1.000002p-25f, 0x1p-149f, 0.0f})
    for (float signed_x : {x, -x}) expect_nearest<S>(signed_x);
}

// Parts of a vector touch nothing beside it.
template <class S> void parts() {
  for (int n = 0; n <= kLanes; ++n) {
    S in[kLanes], out[kLanes];
    for (int i = 0; i < kLanes; ++i) in[i] = narrow<S>(float(i + 1)), out[i].bits = 0x7777;
    float lanes[kLanes];
    const Vec<float> v = load_some(in, n);
    v.store(lanes);
    store_some(v, out, n);
    for (int i = 0; i < kLanes; ++i) {
      EXPECT(lanes[i] == (i < n ? float(i + 1) : 0.0f), "%s: lane %d of %d is %g", name_of<S>(), i,
             n, double(lanes[i]));
      EXPECT(out[i].bits == (i < n ? in[i].bits : 0x7777), "%s: %d of %d was written", name_of<S>(),
             i, n);
    }
  }
}

bfloat16 random_factor() {
  bfloat16 x = {static_cast<uint16_t>(random_bits() >> 16)};
  x.bits = static_cast<uint16_t>((x.bits & 0x807f) | (96 + random_bits() % 64) << 7);
  return x;
}

void products_of_pairs() {
  using Product = PairProduct<float>;
  for (int i = 0; i < 200000; ++i) {
    Lane<bfloat16> a[kLanes], b[kLanes];
    float sums[kLanes], got[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      for (int half = 0; half < 2; ++half)
        a[lane].value[half] = random_factor(), b[lane].value[half] = random_factor();
      sums[lane] = widen(random_factor()) * widen(random_factor());
    }
    Product::add(Vec<float>::load(sums), Lanes<bfloat16>::load(a), Lanes<bfloat16>::load(b))
        .store(got);
    for (int lane = 0; lane < kLanes; ++lane) {
      const auto add = [&](float sum, int half) {
        return std::fmaf(widen(a[lane].value[half]), widen(b[lane].value[half]), sum);
      };
      const float wanted = add(add(sums[lane], 1), 0);
      EXPECT(std::memcmp(&got[lane], &wanted, sizeof wanted) == 0, "pair: %a, not %a",
             double(got[lane]), double(wanted));
    }
  }
}

// Rows further apart than they are long, of an odd number of elements, in an array that ends with
// the last strip.
void strips_of_pairs() {
  constexpr int n = 2 * kStrip<float>, kRow = 3 * n + 1, kSize = (kLanes - 1) * kRow + n;
  std::vector<bfloat16> rows(kSize);
  for (int i = 0; i < kSize; ++i) rows[i].bits = static_cast<uint16_t>(i);
  Vec<float> v[kStrip<float>];
  Lanes<bfloat16>::strip(rows.data(), kRow, v);
  for (int k = 0; k < kStrip<float>; ++k) {
    Lane<bfloat16> lanes[kLanes];
    Lanes<bfloat16>::store(v[k], lanes);
    for (int i = 0; i < n / kStrip<float> * kLanes; ++i) {
      const int got = lanes[i / 2].value[i % 2].bits;
      EXPECT(got == i / 2 * kRow + 2 * k + i % 2, "strip: %d at (%d, %d)", got, i, k);
    }
  }
}

template <class S> void test() {
  widens_every_number<S>();
  rounds_to_nearest<S>();
  parts<S>();
}

}  // namespace

int main() {
  test<float16>();
  test<bfloat16>();
  products_of_pairs();
  strips_of_pairs();
  return check::report("narrow");
}
