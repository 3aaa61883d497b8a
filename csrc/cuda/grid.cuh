// The grid mode: one launch for all steps. A block keeps the weights of its units in shared memory
// and the states of its units between steps; at each step the blocks of a group exchange what the
// next product multiplies (exchange.cuh).
//
// A step: load what the units need of it, wait for the exchange, stage its rows, multiply
// (product.cuh), make the units' step, publish what the next one multiplies, arrive, store the
// rest. So memory is read and written while blocks wait for each other.
//
// Bound: at small batches the exchange, then the product.
#pragma once

#include "exchange.cuh"
#include "product.cuh"
#include "steps.cuh"

namespace fastrnn {
namespace gpu {

// A block of a pass: which direction, rows and units are its own, and its shared memory.
template <class Unit, class P, class S> struct GridBlock {
  using Constants = typename Unit::Constants;
  using Inputs = typename Unit::Inputs;
  using Made = typename Unit::Made;

  const P& pass;
  const Grid& grid;
  int group, direction, row_begin, rows, unit_begin, units, longest = 0;
  typename Unit::At at;
  Cells cells;  // of a tile, this thread's
  Exchange<S> exchange;

  FASTRNN_DEVICE explicit GridBlock(const P& p)
      : pass(p),
        grid(p.grid),
        group(block() / p.grid.blocks_per_group),
        direction(group / p.grid.replicas),
        row_begin(group % p.grid.replicas * p.grid.rows),
        rows(at_most(p.grid.rows, p.scan.B - row_begin)),
        unit_begin(block() % p.grid.blocks_per_group * p.grid.units),
        units(at_most(p.grid.units, p.H - unit_begin)),
        at{p, p.direction[direction]},
        cells(units, thread(), threads()),
        exchange{p.grid, p.H, group} {}

  // Parts of shared memory.
  template <class V> FASTRNN_DEVICE V* shared(int begin) const {
    return reinterpret_cast<V*>(shared_memory() + begin);
  }
  FASTRNN_DEVICE S* weights() const { return shared<S>(grid.at.weights); }
  FASTRNN_DEVICE Constants* constants() const { return shared<Constants>(grid.at.constants); }
  FASTRNN_DEVICE int* lengths() const { return shared<int>(grid.at.lengths); }
  FASTRNN_DEVICE const S** given() const { return shared<const S*>(grid.at.given); }

  FASTRNN_DEVICE Product<S> product() const {
    return {grid, units * Unit::kColumns, weights(), shared<S>(grid.at.streamed),
            shared<float>(grid.at.sums)};
  }
  FASTRNN_DEVICE void give_up() const { abandon(pass.scan.error, grid.name); }

  // A unit of a row: r of the group, b of the batch; and what it carries from step to step.
  struct Item {
    int r, unit, length, b, u;
    Carried<float> carried;
  };
  // Those of a tile are a table of rows and units; a thread has the same ones at every step.
  FASTRNN_DEVICE Item item(int first, const Cells& cell) const {
    const int r = first + cell.row;
    float* const own = shared<float>(grid.at.states) + r * units + cell.column;
    const int b = row_begin + r, u = unit_begin + cell.column;
    return {r, cell.column, lengths()[r], b, u, {own, rows * units}};
  }
  // Rows of the tile whose first row is `first`; and is it the last tile?
  FASTRNN_DEVICE int rows_at(int first) const { return at_most(grid.tile_rows, rows - first); }
  FASTRNN_DEVICE bool is_last(int first) const { return first + grid.tile_rows >= rows; }

  // Calls f for this thread's items of all rows.
  template <class F> FASTRNN_DEVICE void for_items(F f) const {
    FASTRNN_ROLLED
    for (int first = 0; first < rows; first += grid.tile_rows) {
      FASTRNN_ROLLED
      for (Cells cell = cells; cell.row < rows_at(first); cell.next()) f(item(first, cell));
    }
  }
  // Calls f(item, inputs) for those of a tile, with what load(item) gives. `inputs` are those of
  // the first, loaded before the product; the others' are, while the one before is made.
  template <class Load, class F>
  FASTRNN_DEVICE void for_loaded(int first, Inputs inputs, Load load, F f) const {
    const int n = rows_at(first);
    Cells cell = cells;
    FASTRNN_ROLLED
    while (cell.row < n) {
      const Item now = item(first, cell);
      const Inputs loaded = inputs;
      cell.next();
      if (cell.row < n) inputs = load(item(first, cell));
      f(now, loaded);
    }
  }
  template <class Load> FASTRNN_DEVICE Inputs load_first(int first, Load load) const {
    return cells.row < rows_at(first) ? load(item(first, cells)) : Inputs{};
  }

  // All that lasts for the pass but for weights and states. The caller's next sync_block follows.
  FASTRNN_DEVICE void set_up() {
    FASTRNN_ROLLED
    for (int i = thread(); i < rows; i += threads())
      lengths()[i] = int(length_of(pass.scan, row_begin + i));
    FASTRNN_ROLLED
    for (int i = thread(); i < units; i += threads())
      constants()[i] = Unit::constants_of(at, unit_begin + i);
    exchange.set_up();
    sync_block("grid: lengths are read");
    FASTRNN_ROLLED
    for (int i = 0; i < rows; ++i) longest = lengths()[i] > longest ? lengths()[i] : longest;
  }

 private:
  static FASTRNN_DEVICE int at_most(int n, int64_t left) {
    return left < 0 ? 0 : left < n ? int(left) : n;
  }
};

// ---- forward ------------------------------------------------------------------------------------

template <class Cell, class Math, class S> struct GridForward
    : GridBlock<ForwardUnit<Cell, Math, S>, ForwardPass, S> {
  using Unit = ForwardUnit<Cell, Math, S>;
  using Base = GridBlock<Unit, ForwardPass, S>;
  using typename Base::Inputs;
  using typename Base::Item;
  using typename Base::Made;
  static constexpr int G = Cell::kGates;

  // A scan step: its time and the next one's. any: does a row run? given: its rows of h are in
  // memory, from before the window. gives: does the next one wait for an exchange?
  struct Step {
    int s, t, next;
    bool any, given, gives;
  };

  FASTRNN_DEVICE explicit GridForward(const ForwardPass& p) : Base(p) {}

  FASTRNN_DEVICE void run() {
    this->set_up();
    find_given();
    if (this->grid.resident > 0)
      load_weights(this->weights(), this->grid.resident_stride, 0, this->grid.resident);
    this->for_items([&](const Item& item) {
      for (int k = 1; k < Cell::kStates; ++k)
        item.carried[k - 1] = Unit::entering(this->at, k, item.b, item.u);
    });
    sync_block("forward: the block is set up");
    FASTRNN_ROLLED
    for (int s = int(this->pass.begin); s < this->pass.end; ++s) {
      const Step now = step(s);
      FASTRNN_ROLLED
      for (int first = 0; first < this->rows; first += this->grid.tile_rows) run_tile(now, first);
    }
    this->for_items([&](const Item& item) {
      Unit::leave(this->at, item.b, item.u, item.length, item.carried);
    });
  }

 private:
  FASTRNN_DEVICE Step step(int s) const {
    const ForwardPass& p = this->pass;
    const int t = int(this->at.time(s)), next = int(this->at.time(s + 1));
    const bool gives = s + 1 < p.end && next < this->longest;
    return {s, t, next, t < this->longest, s == p.begin, gives};
  }

  // The rows of a tile at a step.
  FASTRNN_DEVICE void run_tile(const Step& now, int first) {
    const auto load = [&](const Item& item) {
      return Unit::load(this->at, now.t, item.b, item.u, item.length);
    };
    const Inputs inputs = this->load_first(first, load);
    const PartialSums sums = now.any ? sums_of(now, first) : PartialSums{};
    Unstored kept = {};
    this->for_loaded(first, inputs, load, [&](const Item& item, const Inputs& in) {
      Pack<float, G> of_item = {};
      FASTRNN_UNROLL
      for (int g = 0; g < G; ++g)
        if (now.any) of_item[g] = sums(item.r - first, item.unit * G + g);
      kept.store(this->at);
      const UnitIndex at{now.s, now.t, item.b, item.u};
      kept = {at, Unit::make(this->at, in, this->constants()[item.unit], of_item, item.carried),
              item.carried, true};
      if (now.gives)
        this->exchange.publish(item.r, 0, item.u,
                               Unit::factor(this->at, now.next, at, item.length, kept.made.h));
    });
    if (now.gives && this->is_last(first)) this->exchange.arrive();
    kept.store(this->at);
  }

  FASTRNN_DEVICE PartialSums sums_of(const Step& now, int first) {
    const auto give_up = [&] { this->give_up(); };
    if (first == 0 && !now.given) this->exchange.wait(give_up);
    const int count = this->rows_at(first);
    const auto stage = [&](int begin, int n, int rows) {
      const StagedPart part{first, count, rows, begin, n};
      if (now.given)
        this->exchange.stage_given(part, this->given());
      else
        this->exchange.stage(part, give_up);
    };
    const auto load = [&](S* to, int stride, int begin, int n) {
      load_weights(to, stride, begin, n);
    };
    const PartialSums sums = multiply(this->product(), this->exchange.staged(), count, stage, load);
    sync_block("forward: sums are made");
    return sums;
  }
  // The rows of h from before the window, each found once: that takes a rule of time.
  FASTRNN_DEVICE void find_given() const {
    const int64_t t = this->at.time(this->pass.begin);
    FASTRNN_ROLLED
    for (int r = thread(); r < this->rows; r += threads()) {
      const int64_t b = this->row_begin + r;
      const int length = this->lengths()[r];
      this->given()[r] =
          this->at.runs(t, b, length) ? this->at.template h_before<S>(t, b, length) : nullptr;
    }
  }

  // Column c of the product is a row of R: of unit c / G, gate c % G. Brings n values of each from
  // the begin-th on.
  FASTRNN_DEVICE void load_weights(S* to, int stride, int begin, int n) const {
    const S* w_hh = static_cast<const S*>(this->at.d.w_hh);
    const int64_t H = this->pass.H;
    const int unit_begin = this->unit_begin;
    const bool quads = H % 4 == 0 && reinterpret_cast<uintptr_t>(w_hh) % sizeof(Quad<S>) == 0;
    copy_to_shared(to, stride, this->units * G, {H, begin, n, quads},
                   [&](int c) { return w_hh + (c % G * H + unit_begin + c / G) * H; });
  }

  // What an item has made, which is stored when the next one has been, or after the exchange.
  struct Unstored {
    UnitIndex index;
    Made made;
    Carried<float> carried;
    bool any = false;

    FASTRNN_DEVICE void store(const typename Unit::At& at) const {
      if (any) Unit::store(at, index, made, carried);
    }
  };
};

template <class Cell, class Math, class S> FASTRNN_KERNEL FASTRNN_THREADS(kMaxThreads)
    grid_forward(FASTRNN_ARGUMENT ForwardPass pass) {
  GridForward<Cell, Math, S>(pass).run();
}

// ---- backward -----------------------------------------------------------------------------------

template <class Cell, class Math, class S> struct GridBackward
    : GridBlock<BackwardUnit<Cell, Math, S>, BackwardPass, S> {
  using Unit = BackwardUnit<Cell, Math, S>;
  using Base = GridBlock<Unit, BackwardPass, S>;
  using typename Base::Inputs;
  using typename Base::Item;
  using typename Base::Made;
  static constexpr int G = Cell::kGates;

  // A scan step, or with s = begin - 1 only the passing on of what the first one leaves: its time,
  // and that of the later step, which was run before it. runs: is it a step? passes: does the later
  // one pass on gradients? gives: will this one?
  struct Step {
    int t, later;
    bool runs, passes, gives;
  };

  FASTRNN_DEVICE explicit GridBackward(const BackwardPass& p) : Base(p) {}

  FASTRNN_DEVICE void run() {
    this->set_up();
    if (this->grid.resident > 0)
      load_weights(this->weights(), this->grid.resident_stride, 0, this->grid.resident);
    this->for_items([&](const Item& item) {
      for (int k = 0; k < Cell::kStates; ++k)
        item.carried[k] = Unit::load_dstate(this->at, k, index_of(item));
    });
    // (What has been set up is first read behind the barriers of a product, or by its own thread.)
    FASTRNN_ROLLED
    for (int s = int(this->pass.end) - 1; s >= this->pass.begin - 1; --s) {
      const Step now = step(s);
      FASTRNN_ROLLED
      for (int first = 0; first < this->rows; first += this->grid.tile_rows) run_tile(now, first);
    }
    this->for_items([&](const Item& item) {
      for (int k = 0; k < Cell::kStates; ++k)
        Unit::store_dstate(this->at, k, index_of(item), item.carried[k]);
    });
  }

 private:
  FASTRNN_DEVICE int64_t index_of(const Item& item) const { return item.b * this->pass.H + item.u; }
  FASTRNN_DEVICE Step step(int s) const {
    const int t = int(this->at.time(s)), later = int(this->at.time(s + 1));
    const bool runs = s >= this->pass.begin, passes = s + 1 < this->pass.end;
    return {t, later, runs, passes && later < this->longest, runs && t < this->longest};
  }

  FASTRNN_DEVICE void run_tile(const Step& now, int first) {
    const auto load = [&](const Item& item) {
      return now.runs ? Unit::load(this->at, now.t, item.b, item.u, item.length) : Inputs{};
    };
    const Inputs inputs = this->load_first(first, load);
    const PartialSums sums = now.passes ? sums_of(first) : PartialSums{};
    Unstored kept = {};
    this->for_loaded(first, inputs, load, [&](const Item& item, const Inputs& in) {
      if (now.passes)
        Unit::pass_on(this->at, now.later, item.b, item.length, sums(item.r - first, item.unit),
                      item.carried);
      if (!now.runs) return;
      kept.store(this->at);
      kept = {now.t, item.b, item.u,
              Unit::make(this->at, in, this->constants()[item.unit], item.carried), true};
      if (!now.gives) return;
      Unit::for_factors(kept.made,
                        [&](int g, S value) { this->exchange.publish(item.r, g, item.u, value); });
    });
    if (now.gives && this->is_last(first)) this->exchange.arrive();
    kept.store(this->at);
  }

  FASTRNN_DEVICE PartialSums sums_of(int first) {
    const auto give_up = [&] { this->give_up(); };
    if (first == 0) this->exchange.wait(give_up);
    const int count = this->rows_at(first);
    const auto stage = [&](int begin, int n, int rows) {
      this->exchange.stage({first, count, rows, begin, n}, give_up);
    };
    const auto load = [&](S* to, int stride, int begin, int n) {
      load_weights(to, stride, begin, n);
    };
    const PartialSums sums = multiply(this->product(), this->exchange.staged(), count, stage, load);
    sync_block("backward: sums are made");
    return sums;
  }

  // Column c of the product is that of R, of unit c, through the rows of all gates. Brings n values
  // of each from the begin-th on.
  FASTRNN_DEVICE void load_weights(S* to, int stride, int begin, int n) const {
    const S* w_hh = static_cast<const S*>(this->at.d.w_hh) + this->unit_begin;
    const int64_t H = this->pass.H;
    const int units = this->units, padded = this->grid.padded;
    copy_in_flight<kLoadsInFlight>(
        n, units,
        [&](int i, int c) {
          const int k = begin + i, gate = k / padded, of_gate = k - gate * padded;
          return of_gate < H ? exchange_load(w_hh + (gate * H + of_gate) * H + c)
                             : narrow<S>(Acc<S>(0));
        },
        [&](int i, int c, S value) { to[c * stride + i] = value; });
  }

  struct Unstored {
    int t, b, u;
    Made made;
    bool any = false;

    FASTRNN_DEVICE void store(const typename Unit::At& at) const {
      if (any) Unit::store(at, t, b, u, made);
    }
  };
};

template <class Cell, class Math, class S> FASTRNN_KERNEL FASTRNN_THREADS(kMaxThreads)
    grid_backward(FASTRNN_ARGUMENT BackwardPass pass) {
  GridBackward<Cell, Math, S>(pass).run();
}

}  // namespace gpu
}  // namespace fastrnn
