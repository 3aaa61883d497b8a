#include "cell_name.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "error.h"

namespace fastrnn {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The functions by their names, and how many numbers each has.
struct FunctionRow {
  const char* name;
  Function function;
  size_t numbers;
};
constexpr FunctionRow kFunctions[] = {
    {"sigmoid", Function::kSigmoid, 0},
    {"tanh", Function::kTanh, 0},
    {"relu", Function::kRelu, 0},
    {"softsign", Function::kSoftsign, 0},
    {"softplus", Function::kSoftplus, 0},
    {"affine", Function::kAffine, 2},
    {"leaky_relu", Function::kLeakyRelu, 1},
    {"thresholded_relu", Function::kThresholdedRelu, 1},
    {"scaled_tanh", Function::kScaledTanh, 2},
    {"hard_sigmoid", Function::kHardSigmoid, 2},
    {"elu", Function::kElu, 1},
};

// What is made of a base: its kernel where it has functions of one's own, how many, the usual ones.
struct BaseRow {
  const char* name;
  const char* kernel;
  int unit_parameters;
  size_t functions;
  Function usual[CellMaths::kPlaces];
};
constexpr Function kSigmoid = Function::kSigmoid, kTanh = Function::kTanh;
constexpr BaseRow kBases[] = {
    {"rnn", "chosen_rnn", 0, 1, {kTanh, kTanh, kTanh}},
    {"lstm", "chosen_lstm", 0, 3, {kSigmoid, kTanh, kTanh}},
    {"lstm_peephole", "chosen_lstm", 3, 3, {kSigmoid, kTanh, kTanh}},
    {"lstm_coupled", "chosen_lstm_coupled", 0, 3, {kSigmoid, kTanh, kTanh}},
    {"lstm_coupled_peephole", "chosen_lstm_coupled", 2, 3, {kSigmoid, kTanh, kTanh}},
    {"gru", "chosen_gru", 0, 2, {kSigmoid, kTanh, kTanh}},
    {"gru_reset_before", "chosen_gru_reset_before", 0, 2, {kSigmoid, kTanh, kTanh}},
};

bool within_zero_and_one(const Activation& f) {
  return f.function == Function::kSigmoid || f.function == Function::kHardSigmoid;
}
bool within_one(const Activation& f) {
  return within_zero_and_one(f) || f.function == Function::kTanh ||
         f.function == Function::kSoftsign ||
         (f.function == Function::kScaledTanh && std::abs(f.alpha) <= 1);
}
// What a step multiplies: of an LSTM o f(c), of a GRU (1 - z) n + z h, and r h, of both functions.
bool is_bounded(const BaseRow& base, const CellMaths& maths) {
  const Activation& gate = maths.of[CellMaths::kGate];
  if (base.functions == 3) return within_one(gate) && within_one(maths.of[CellMaths::kOutput]);
  // (A clipped h that is clipped to what is beyond 1 is beyond it.)
  if (maths.clips_state && (maths.low > 1 || maths.high < -1)) return false;
  if (base.functions == 1) return within_one(gate);
  return within_zero_and_one(gate) && within_one(maths.of[CellMaths::kCandidate]);
}

[[noreturn]] void reject(const std::string& rule, const std::string& got) {
  throw Error(Fault::kValue, "cell", rule + ", got " + got);
}

template <class Row, size_t n> const Row* find(const Row (&rows)[n], const std::string& name) {
  for (const Row& row : rows)
    if (name == row.name) return &row;
  return nullptr;
}

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(' ');
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(' ') + 1 - begin);
}

// The parts between the commas that stand in no brackets.
std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (const char c : text) {
    depth += (c == '(') - (c == ')');
    if (c == ',' && depth == 0)
      parts.emplace_back();
    else
      parts.back() += c;
  }
  for (std::string& part : parts) part = trimmed(part);
  return parts;
}

// To the last bit, and in no language of the process's.
double number(const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || !std::isfinite(value))
    reject("a number must be finite and written as 0.5 or 1e-05", "'" + text + "'");
  return value;
}

Activation activation(const std::string& text) {
  const size_t open = text.find('(');
  const bool bracketed = open != std::string::npos;
  if (bracketed && text.back() != ')')
    reject("a function must be name or name(alpha, beta)", "'" + text + "'");
  const std::string name = text.substr(0, open);
  const FunctionRow* row = find(kFunctions, name);
  if (!row) reject("a function must be one that fastrnn.cell_name lists", "'" + name + "'");
  std::vector<std::string> numbers;
  if (bracketed) numbers = split(text.substr(open + 1, text.size() - open - 2));
  if (numbers.size() != row->numbers)
    reject(name + " must have " + std::to_string(row->numbers) + " numbers",
           std::to_string(numbers.size()));
  Activation made{row->function, 0, 0};
  if (row->numbers > 0) made.alpha = number(numbers[0]);
  if (row->numbers > 1) made.beta = number(numbers[1]);
  return made;
}

// The value of the option that stands last, which is taken away, where it begins with `key`.
std::optional<std::string> take_option(std::vector<std::string>* texts, const std::string& key) {
  if (texts->empty() || texts->back().compare(0, key.size(), key) != 0) return std::nullopt;
  const std::string value = texts->back().substr(key.size());
  texts->pop_back();
  return value;
}

double clip_of(const std::string& text) {
  const double clip = number(text);
  if (!(clip > 0)) reject("clip must be above 0", std::to_string(clip));
  return clip;
}

void read_state_range(const std::string& text, CellMaths* to) {
  const size_t colon = text.find(':');
  if (colon == std::string::npos) reject("state must be low:high", "'" + text + "'");
  const std::string low = text.substr(0, colon), high = text.substr(colon + 1);
  to->clips_state = true;
  to->low = low == "-inf" ? -kInfinity : number(low);
  to->high = high == "inf" ? kInfinity : number(high);
  if (!(to->low < to->high) || (to->low == -kInfinity && to->high == kInfinity))
    reject("state must have low < high, one of them finite", "'" + text + "'");
}

// Functions and clips for a base. No functions are the usual ones; those of one direction serve
// both.
CellName made(const BaseRow& base, const std::vector<Activation>& functions,
              const CellMaths& clips) {
  const size_t n = base.functions, given = functions.size();
  if (given != 0 && given != n && given != 2 * n)
    reject(std::string(base.name) + " must have " + std::to_string(n) + " functions, or " +
               std::to_string(2 * n) + " for two directions",
           std::to_string(given));
  CellName name{base.kernel, base.unit_parameters, given == 2 * n, {}, {}};
  for (size_t d = 0; d < 2; ++d) {
    CellMaths& maths = name.of_direction[d];
    maths = clips;
    maths.peepholes = base.unit_parameters > 0;
    for (size_t i = 0; i < CellMaths::kPlaces; ++i) {
      maths.of[i] = {base.usual[i], 0, 0};
      if (given && i < n) maths.of[i] = functions[given == n ? i : d * n + i];
    }
    name.bounded[d] = is_bounded(base, maths);
  }
  return name;
}

}  // namespace

bool has_own_kernel(const std::string& name) {
#define FASTRNN_CELL(cell, Struct, header) \
  if (name == #cell) return true;
#define FASTRNN_TWO_PHASES(cell, Struct, header) FASTRNN_CELL(cell, Struct, header)
#define FASTRNN_PROJECTED(cell, Struct, header)
#define FASTRNN_CHOSEN_CELL(cell, Struct, header)
#define FASTRNN_CHOSEN_TWO_PHASES(cell, Struct, header)
#define FASTRNN_CHOSEN_PROJECTED(cell, Struct, header)
#include "../cells/registry.h"
#undef FASTRNN_CELL
#undef FASTRNN_TWO_PHASES
#undef FASTRNN_PROJECTED
#undef FASTRNN_CHOSEN_CELL
#undef FASTRNN_CHOSEN_TWO_PHASES
#undef FASTRNN_CHOSEN_PROJECTED
  return false;
}

CellName parse_cell_name(const std::string& name) {
  const size_t open = name.find('(');
  const bool plain = open == std::string::npos;
  if (plain && has_own_kernel(name)) {  // what most calls have
    const bool bounded = name != "rnn_relu";
    return {name, 0, false, {}, {bounded, bounded}};
  }
  const BaseRow* base = find(kBases, name.substr(0, open));
  CellMaths clips = {};
  clips.clip = kInfinity;
  if (plain) return base ? made(*base, {}, clips) : CellName{};
  if (!base || name.back() != ')')
    reject("cell must be a name or base(function, ..., clip=c, state=low:high)", "'" + name + "'");
  std::vector<std::string> texts = split(name.substr(open + 1, name.size() - open - 2));
  const auto range = take_option(&texts, "state="), clip = take_option(&texts, "clip=");
  if (range) read_state_range(*range, &clips);
  if (clip) clips.clip = clip_of(*clip);
  std::vector<Activation> functions;
  for (const std::string& text : texts) functions.push_back(activation(text));
  return made(*base, functions, clips);
}

std::string kernel_name(const CellName& cell, bool projected) {
  return cell.kernel + (projected ? "_projected" : "");
}

void reject_cell(const std::string& cell, bool projected, const std::vector<std::string>& names) {
  if (projected && !parse_cell_name(cell).kernel.empty())
    throw Error(Fault::kNotImplemented, cell,
                "proj_size must be 0: this cell has no kernels with a projection, got another");
  std::string all;
  for (const std::string& name : names) all += name + ", ";
  for (const BaseRow& base : kBases)
    if (!has_own_kernel(base.name)) all += std::string(base.name) + ", ";
  throw Error(Fault::kValue, "cell", "cell must be one of " + all + "got " + cell);
}

}  // namespace fastrnn
