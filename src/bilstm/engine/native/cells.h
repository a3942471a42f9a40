// A direction of one kind of cell, from a policy that says what is particular to it.
#pragma once

#include "cell_backward.h"
#include "cell_forward.h"

namespace bilstm {

template <typename Cell>
class CellDirection : public Direction {
  public:
    explicit CellDirection(const DirectionPlan& plan) : Direction(plan) {
        Cell::shape(*this);
        if (!plan.biased) weights.drop_biases();
        units_a_panel = Cell::kUnits;
        has_cells = Cell::kHasCells;
        keeps_gates = Cell::kKeepsGates;
        to_inputs = segments(Cell::input_gates());
        to_previous = segments(Cell::recurrent_gates());
    }
    void forward_step(const DirectionPass& pass, int64_t t, int64_t first, int64_t last, const Mode& mode,
                      Projection* projection) const override {
        mode.rounded ? step_with<Cell, Bfloat16>(pass, t, first, last, mode, projection)
                     : step_with<Cell, float>(pass, t, first, last, mode, projection);
    }
    bool forward_both(const DirectionPass& first, const DirectionPass& second, const Mode& mode) const override {
        if constexpr (Cell::kEveryTile) {
            if (!alike(*first.direction, *second.direction)) return false;
            both_directions<Cell>(first, second, mode);
            return true;
        }
        return false;
    }
    void backward_step(const DirectionPass& pass, int64_t t, int64_t first, int64_t last,
                       const Arriving& arriving) const override {
        for_backward_tiles<Cell::kEveryTile>(pass, t, first, last,
                                             [&](auto rows, auto vectors, int64_t row, int64_t panel, bool carried) {
                                                 backward_tile<Cell, decltype(rows)::value, decltype(vectors)::value>(
                                                     pass, t, row, panel, carried, arriving);
                                             });
    }
    bool backward_both(const DirectionPass* const (&passes)[2], int64_t t,
                       const Arriving* const (&arriving)[2]) const override {
        if constexpr (Cell::kEveryTile) {
            if (!alike(*passes[0]->direction, *passes[1]->direction)) return false;
            bilstm::backward_both<Cell>(passes, t, arriving);
            return true;
        }
        return false;
    }
    void recompute_gates(const DirectionPass& pass, Steps steps, int64_t first, int64_t last) const override {
        if constexpr (Cell::kKeepsGates) recompute_cells<Cell>(pass, steps, first, last);
    }
    void weight_gradient(const DirectionPass& pass, float* gradient, int64_t first, int64_t last, Steps steps, bool add,
                         Buffer& scratch) const override {
        cell_weight_gradient<typename Cell::Common>(pass, gradient, first, last, steps, add, scratch);
    }

  protected:
    int64_t lanes(int64_t unit) const override { return Cell::lanes(units, unit); }

  private:
    static bool alike(const Direction& a, const Direction& b) {
        return a.kind == b.kind && a.gate_kind == b.gate_kind && a.units == b.units;
    }
};

// Each is in a file of its own.
std::unique_ptr<Direction> make_lstm(const DirectionPlan&);
std::unique_ptr<Direction> make_gru(const DirectionPlan&);
std::unique_ptr<Direction> make_gru_reset_before(const DirectionPlan&);
std::unique_ptr<Direction> make_simple(const DirectionPlan&);
std::unique_ptr<Direction> make_hard_gates(const DirectionPlan&);  // an LSTM or a GRU

}  // namespace bilstm
